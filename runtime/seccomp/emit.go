package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// EmitOptions describe the consumer.
type EmitOptions struct {
	Name    string // of the profile, the package or the unit
	Command []string
	// Known tells which calls the consumer's library has names for; nil takes all. A call that it does not know cannot be allowed
	// by name: it is left out, and a finding says so.
	Known func(abi ABI, name string) bool
}

// Formats are what Emit writes.
func Formats() []string {
	return []string{"oci", "docker", "podman", "kubernetes-spo", "systemd", "bpf", "libseccomp-c", "minijail", "firejail", "go"}
}

// CheckFormat tells when there is no such format.
func CheckFormat(format string) error {
	if slices.Contains(Formats(), format) {
		return nil
	}
	msg := fmt.Sprintf("unknown format `%s`; known are %s", format, strings.Join(Formats(), ", "))
	if s := nearest(format, Formats()); s != "" {
		msg += fmt.Sprintf("; did you mean `%s`?", s)
	}
	return errors.New(msg)
}

// Emit writes a policy as its consumer reads it. Findings name every entry that the format cannot say; none of them makes the result
// wider than the policy without saying so.
func Emit(w io.Writer, format string, p *Policy, o EmitOptions) ([]Finding, error) {
	if o.Name = strings.Join(strings.Fields(o.Name), " "); o.Name == "" { // one line: what is behind it would not be a comment
		o.Name = "sonde"
	}
	e := &emitter{printer: printer{w: w}, p: p, o: o, findings: slices.Clone(p.Notes)}
	var err error
	switch format {
	case "oci":
		err = e.json(e.oci(false))
	case "docker", "podman":
		err = e.json(e.oci(true))
	case "kubernetes-spo":
		err = e.spo()
	case "systemd":
		err = e.systemd()
	case "bpf":
		err = e.bpf()
	case "libseccomp-c":
		err = e.libseccomp()
	case "minijail":
		err = e.minijail()
	case "firejail":
		err = e.firejail()
	case "go":
		err = e.goSource()
	default:
		return nil, CheckFormat(format)
	}
	if err == nil {
		err = e.err
	}
	return e.findings, err
}

type emitter struct {
	printer
	p        *Policy
	o        EmitOptions
	findings []Finding
}

func (e *emitter) find(s Severity, r *Rule, hint, format string, args ...any) {
	entry := ""
	if r != nil {
		entry = callLabel(e.p.Native, r.ABI, r.Name)
	}
	e.findings = append(e.findings, Finding{s, entry, fmt.Sprintf(format, args...), hint})
}

// named are the rules that can be said by name. Names hold for all listed ABIs at once in most formats, which widens: where one
// ABI has a rule for a name and another has none, a finding says so.
func (e *emitter) named() []*Rule {
	var out []*Rule
	for _, r := range e.p.Rules {
		switch {
		case r.ABI.Name(r.Number) == "":
			e.find(SeverityWarning, r, "use the bpf or go format", "has no name, so it is left out and will be denied")
		case e.o.Known != nil && !e.o.Known(r.ABI, r.Name):
			if r.Action == Allow {
				e.find(SeverityWarning, r, "use the bpf format, or a consumer with a newer libseccomp", "the consumer's library does not know the name, so it is left out and will be denied")
			}
		default:
			out = append(out, r)
		}
	}
	return out
}

// group is calls of all ABIs under one name: what formats that list ABIs apart from names can say.
type group struct {
	name   string
	action Action
	any    [][]Cond
}

func (e *emitter) groups() []group {
	byName := map[string][]*Rule{}
	var order []string
	for _, r := range e.named() {
		if byName[r.Name] == nil {
			order = append(order, r.Name)
		}
		byName[r.Name] = append(byName[r.Name], r)
	}
	slices.Sort(order)
	var out []group
	for _, name := range order {
		rules := byName[name]
		g := group{name: name, action: rules[0].Action, any: rules[0].Any}
		for _, r := range rules[1:] {
			if len(g.any) == 0 || len(r.Any) == 0 {
				g.any = nil
			} else {
				g.any = append(slices.Clone(g.any), r.Any...)
			}
		}
		if len(e.p.ABIs) > 1 {
			for _, abi := range e.p.ABIs {
				if n, ok := abi.Number(name); ok && e.p.find(abi, n) == nil && g.action == Allow {
					e.find(SeverityNote, rules[0], "use the bpf format, which keeps ABIs apart", "names hold for all listed ABIs, so it is allowed on %s too", abi)
				}
			}
		}
		out = append(out, g)
	}
	return out
}

type ociArg struct {
	Index    int    `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo,omitempty"`
	Op       string `json:"op"`
}

type ociRule struct {
	Names    []string `json:"names"`
	Action   string   `json:"action"`
	ErrnoRet *int     `json:"errnoRet,omitempty"`
	Args     []ociArg `json:"args,omitempty"`
}

type ociArch struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures"`
}

type ociProfile struct {
	DefaultAction   string    `json:"defaultAction"`
	DefaultErrnoRet *int      `json:"defaultErrnoRet,omitempty"`
	Architectures   []string  `json:"architectures,omitempty"`
	ArchMap         []ociArch `json:"archMap,omitempty"`
	Syscalls        []ociRule `json:"syscalls"`
}

func ociAction(a Action) (string, *int) {
	switch a.Kind {
	case ActionKill:
		return "SCMP_ACT_KILL_PROCESS", nil
	case ActionTrap:
		return "SCMP_ACT_TRAP", nil
	case ActionErrno:
		return "SCMP_ACT_ERRNO", &a.Errno // never beside another action: crun refuses that
	case ActionLog:
		return "SCMP_ACT_LOG", nil
	case ActionNotify:
		return "SCMP_ACT_NOTIFY", nil
	}
	return "SCMP_ACT_ALLOW", nil
}

// oci is the runtime specification's form. Docker's list of ABIs is another key; both together are an error there.
func (e *emitter) oci(docker bool) *ociProfile {
	out := &ociProfile{Syscalls: e.ociRules()}
	out.DefaultAction, out.DefaultErrnoRet = ociAction(e.p.Default)
	if docker {
		m := ociArch{Architecture: e.p.Native.facts().oci, SubArchitectures: []string{}}
		for _, a := range e.p.ABIs[1:] {
			m.SubArchitectures = append(m.SubArchitectures, a.facts().oci)
		}
		out.ArchMap = []ociArch{m}
		return out
	}
	for _, a := range e.p.ABIs {
		out.Architectures = append(out.Architectures, a.facts().oci)
	}
	return out
}

// ociRules has one rule for all unconditional calls, and one per combination of arguments: two conditions on one argument in
// one rule are read as alternatives by runc and crun.
func (e *emitter) ociRules() []ociRule {
	var out []ociRule
	byAction := map[Action]int{}
	for _, g := range e.groups() {
		action, errno := ociAction(g.action)
		if len(g.any) == 0 {
			i, ok := byAction[g.action]
			if !ok {
				i = len(out)
				byAction[g.action] = i
				out = append(out, ociRule{Action: action, ErrnoRet: errno})
			}
			out[i].Names = append(out[i].Names, g.name)
			continue
		}
		seen := map[string]bool{}
		for _, all := range g.any {
			r := ociRule{Names: []string{g.name}, Action: action, ErrnoRet: errno}
			for _, c := range all {
				if c.Mask == full64 {
					r.Args = append(r.Args, ociArg{Index: c.Index, Value: c.Value, Op: "SCMP_CMP_EQ"})
				} else { // the mask is the first value
					r.Args = append(r.Args, ociArg{Index: c.Index, Value: c.Mask, ValueTwo: c.Value, Op: "SCMP_CMP_MASKED_EQ"})
				}
			}
			if key := fmt.Sprint(r.Args); !seen[key] {
				seen[key] = true
				out = append(out, r)
			}
		}
	}
	return out
}

func (e *emitter) json(v any) error {
	enc := json.NewEncoder(e)
	enc.SetIndent("", "\t")
	return enc.Encode(v)
}

func (e *emitter) spo() error {
	prof := e.oci(false)
	e.f("apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nmetadata:\n  name: %s\nspec:\n  defaultAction: %s\n", yamlName(e.o.Name), prof.DefaultAction)
	if d := e.p.Default; d.Kind == ActionErrno && d != EPERM {
		return fmt.Errorf("the operator's profile has no default error number: only EPERM is possible, not %s", d)
	}
	e.f("  architectures:\n")
	for _, a := range prof.Architectures {
		e.f("  - %s\n", a)
	}
	e.f("  syscalls:\n")
	for _, r := range prof.Syscalls {
		e.f("  - action: %s\n", r.Action)
		if r.ErrnoRet != nil {
			e.f("    errnoRet: %d\n", *r.ErrnoRet)
		}
		e.f("    names:\n")
		for _, n := range r.Names {
			e.f("    - %s\n", n)
		}
		if len(r.Args) > 0 {
			e.f("    args:\n")
		}
		for _, a := range r.Args {
			if a.Value > 1<<63-1 || a.ValueTwo > 1<<63-1 {
				return fmt.Errorf("%s: argument value %#x does not fit the operator's signed number; emit with --any-args", r.Names[0], max(a.Value, a.ValueTwo))
			}
			e.f("    - index: %d\n      value: %d\n", a.Index, a.Value)
			if a.Op == "SCMP_CMP_MASKED_EQ" {
				e.f("      valueTwo: %d\n", a.ValueTwo)
			}
			e.f("      op: %s\n", a.Op)
		}
	}
	return nil
}

// yamlName makes a name that Kubernetes takes.
func yamlName(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-.")
}

// noArgs refuses a format without conditions: leaving them out would widen the list in silence.
func (e *emitter) noArgs(format string) error {
	var names []string
	for _, r := range e.p.Rules {
		if len(r.Any) > 0 {
			names = append(names, callLabel(e.p.Native, r.ABI, r.Name))
		}
	}
	if len(names) == 0 {
		return nil
	}
	calls := "call"
	if len(names) > 1 {
		calls = "calls"
	}
	return fmt.Errorf("%s: %s cannot restrict arguments; emit with --any-args to allow the %s with any", strings.Join(names, ", "), format, calls)
}

// systemdDefault are the calls of @default, which systemd always allows (version 252).
const systemdDefault = "arch_prctl brk cacheflush clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 execve exit exit_group futex futex_time64 " +
	"futex_waitv get_robust_list get_thread_area getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getrandom getresgid getresgid32 getresuid " +
	"getresuid32 getrlimit getsid gettid gettimeofday getuid getuid32 membarrier mmap mmap2 mprotect munmap nanosleep pause prlimit64 restart_syscall rseq rt_sigreturn sched_getaffinity sched_yield " +
	"set_robust_list set_thread_area set_tid_address set_tls sigreturn time ugetrlimit"

func (e *emitter) systemd() error {
	if err := e.noArgs("systemd"); err != nil {
		return err
	}
	d := e.p.Default
	e.f("# Allowlist of %s.\n[Service]\nSystemCallFilter=\nSystemCallFilter=", e.o.Name)
	var names []string
	for _, g := range e.groups() {
		if g.action == Allow {
			names = append(names, g.name)
		} else {
			e.findings = append(e.findings, Finding{SeverityNote, g.name, "an allowlist of systemd has one error for all calls: it fails with " + d.String() + ", not " + g.action.String(), ""})
		}
	}
	e.f("%s\nSystemCallArchitectures=native", strings.Join(names, " "))
	for _, a := range e.p.ABIs[1:] {
		e.f(" %s", a.facts().unit)
	}
	e.f("\nNoNewPrivileges=yes\n")
	switch d.Kind {
	case ActionErrno:
		e.f("SystemCallErrorNumber=%s\n", d)
	case ActionKill:
		e.f("SystemCallErrorNumber=kill\n")
	default:
		return fmt.Errorf("systemd cannot answer with `%s`; errors and kill are possible", d)
	}
	var wider []string
	for _, n := range strings.Fields(systemdDefault) {
		if nr, ok := e.p.Native.Number(n); ok && !slices.Contains(names, n) && e.p.find(e.p.Native, nr) == nil {
			wider = append(wider, n)
		}
	}
	if len(wider) > 0 {
		e.findings = append(e.findings, Finding{SeverityWarning, "@default", fmt.Sprintf("systemd always allows these too (%d): %s", len(wider), strings.Join(wider, " ")), ""})
	}
	return nil
}

func (e *emitter) bpf() error {
	code, err := Compile(e.p)
	if err != nil {
		return err
	}
	_, err = e.Write(Bytes(code))
	return err
}

func (e *emitter) libseccomp() error {
	action := func(a Action) string {
		switch a.Kind {
		case ActionErrno:
			return fmt.Sprintf("SCMP_ACT_ERRNO(%d)", a.Errno)
		}
		s, _ := ociAction(a)
		return s
	}
	e.f("/* Allowlist of %s. Link with -lseccomp. */\n#include <errno.h>\n#include <seccomp.h>\n#include <stddef.h>\n\n/* Returns 0, or a negative error number. */\nint install_seccomp(void)\n{\n", cComment(e.o.Name))
	e.f("\tscmp_filter_ctx ctx = seccomp_init(%s);\n\tint rc;\n\n\tif (!ctx)\n\t\treturn -ENOMEM;\n", action(e.p.Default))
	e.f("\t/* The library's own answer to other ABIs ends only the thread, which leaves a process that hangs. */\n\trc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, %s);\n\tif (rc)\n\t\tgoto out;\n", action(e.p.Foreign))
	for _, a := range e.p.ABIs[1:] {
		e.f("\trc = seccomp_arch_add(ctx, %s);\n\tif (rc && rc != -EEXIST)\n\t\tgoto out;\n", a.facts().oci)
	}
	for _, g := range e.groups() {
		any := g.any
		if len(any) == 0 {
			any = [][]Cond{nil}
		}
		for _, all := range any {
			e.f("\trc = seccomp_rule_add(ctx, %s, SCMP_SYS(%s), %d", action(g.action), g.name, len(all))
			for _, c := range all {
				if c.Mask == full64 {
					e.f(", SCMP_A%d(SCMP_CMP_EQ, %#xULL)", c.Index, c.Value)
				} else {
					e.f(", SCMP_A%d(SCMP_CMP_MASKED_EQ, %#xULL, %#xULL)", c.Index, c.Mask, c.Value)
				}
			}
			e.f(");\n\tif (rc)\n\t\tgoto out;\n")
		}
	}
	e.f("\trc = seccomp_load(ctx);\nout:\n\tseccomp_release(ctx);\n\treturn rc;\n}\n")
	return nil
}

func cComment(s string) string { return strings.ReplaceAll(s, "*/", "* /") }

func (e *emitter) minijail() error {
	e.f("# Allowlist of %s.\n", e.o.Name)
	if len(e.p.ABIs) > 1 {
		e.findings = append(e.findings, Finding{SeverityWarning, "", "minijail has one policy per ABI: calls of others than " + string(e.p.Native) + " are left out and will be denied", ""})
	}
	for _, r := range e.named() {
		if r.ABI != e.p.Native {
			continue
		}
		switch {
		case r.Action.Kind == ActionErrno:
			e.f("%s: return %d\n", r.Name, r.Action.Errno)
		case len(r.Any) == 0:
			e.f("%s: 1\n", r.Name)
		default:
			var or []string
			for _, all := range r.Any {
				var and []string
				for _, c := range all {
					and = append(and, fmt.Sprintf("arg%d == %#x", c.Index, c.Value))
				}
				or = append(or, strings.Join(and, " && "))
			}
			e.f("%s: %s\n", r.Name, strings.Join(or, " || "))
		}
	}
	e.findings = append(e.findings, Finding{SeverityNote, "", "what other calls get is minijail's choice (-S kills, -L logs), not in the file", ""})
	return nil
}

func (e *emitter) firejail() error {
	if err := e.noArgs("firejail"); err != nil {
		return err
	}
	e.f("# Allowlist of %s.\n", e.o.Name)
	lists := map[ABI][]string{}
	for _, r := range e.named() {
		if r.Action == Allow {
			lists[r.ABI] = append(lists[r.ABI], r.Name)
		} else {
			e.find(SeverityNote, r, "", "firejail has one error for all calls: it fails with %s, not %s", e.p.Default, r.Action)
		}
	}
	e.f("seccomp.keep %s\n", strings.Join(lists[e.p.Native], ","))
	for _, a := range e.p.ABIs[1:] {
		if a == X86 || a == ARM {
			e.f("seccomp.32.keep %s\n", strings.Join(lists[a], ","))
		} else {
			e.findings = append(e.findings, Finding{SeverityWarning, "", "firejail has no list for " + string(a) + ": its calls are left out and will be denied", ""})
		}
	}
	switch e.p.Default.Kind {
	case ActionErrno:
		e.f("seccomp-error-action %s\n", e.p.Default)
	case ActionKill, ActionLog:
		e.f("seccomp-error-action %s\n", e.p.Default)
	default:
		return fmt.Errorf("firejail cannot answer with `%s`; errors, kill and log are possible", e.p.Default)
	}
	return nil
}

func (e *emitter) goSource() error {
	code, err := Compile(e.p)
	if err != nil {
		return err
	}
	e.f("// Package seccomp confines this process to the system calls of %s.\npackage seccomp\n\nimport (\n\t\"fmt\"\n\t\"syscall\"\n\t\"unsafe\"\n)\n\n", e.o.Name)
	e.f("// Install confines all threads of the process, for good. Needs Linux 3.17.\nfunc Install() error {\n\tfilter := [...]syscall.SockFilter{\n")
	for _, i := range code {
		e.f("\t\t{Code: %#x, Jt: %d, Jf: %d, K: %#x},\n", i.Op, i.Jt, i.Jf, i.K)
	}
	e.f("\t}\n\tprog := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}\n")
	e.f("\tif _, _, e := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, %d, 1, 0, 0, 0, 0); e != 0 {\n\t\treturn fmt.Errorf(\"no_new_privs: %%w\", e)\n\t}\n", unix.PR_SET_NO_NEW_PRIVS)
	nr, _ := e.p.Native.Number("seccomp")
	e.f("\t// SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC\n\tif r, _, e := syscall.RawSyscall(%d, 1, 1, uintptr(unsafe.Pointer(&prog))); e != 0 {\n\t\treturn fmt.Errorf(\"seccomp: %%w\", e)\n\t} else if r != 0 {\n\t\treturn fmt.Errorf(\"seccomp: thread %%d has another filter\", r)\n\t}\n\treturn nil\n}\n", nr)
	return nil
}
