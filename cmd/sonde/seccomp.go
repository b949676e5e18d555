package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/runtime/seccomp"
)

const seccompUsage = `USAGE: sonde seccomp COMMAND

    record [-o FILE] [OPTIONS] -- CMD ARGS    record a command from its first instruction, with what it starts
    record [-o FILE] --pid N | --cgroup DIR | --container ID | --unit NAME
    record [-o FILE] --runtime-create -- runc create --bundle DIR ID
                                              create a container, record it from its execve, delete it
        --duration D    stop after this time (1m30s); Ctrl-C stops too
        --args          learn argument values (socket, ioctl, prctl, clone ...)
        --stacks        keep the user stack of each first call
    merge -o FILE PROFILE...                  several recordings as one
    diff PROFILE PROFILE                      what the second allows more and less
    show [--count] [-v] PROFILE               what was called, by whom
    lint PROFILE...                           what to look at before enforcing
    emit --format FORMAT [-o FILE] PROFILE    oci docker podman kubernetes-spo systemd bpf libseccomp-c minijail firejail go
        --runtime runc|crun, --no-new-privs   also allow what the container runtime calls itself
        --libseccomp FILE                     the consumer's library; what it has no name for is reported
        --explain                             print why each call is allowed
    run PROFILE -- CMD ARGS                   run a command under the profile
    check [--dry-run] [--accept] PROFILE -- CMD ARGS
                                              replay and report every call that the profile denies; --accept adds them
    scan [--with PROFILE] [-f json] ELF...    which calls the machine code can make: observed (in PROFILE), reachable but never
                                              seen (and through which functions), sites whose number is not known

emit, run and check also take
    --default ACTION                          errno, EPERM (or another error), kill, trap, log
    --closure usual|none|portable             what is added to the recorded calls
    --clone3 auto|enosys|recorded
    --any-args                                leave learned arguments out
`

// seccompCommand is one invocation.
type seccompCommand struct {
	std  stdio
	fs   *pflag.FlagSet
	args []string
	// container is set when a filter is made for a container's runtime, which runs under it too.
	container bool
}

// runSeccomp records system calls and makes allowlists.
func runSeccomp(ctx context.Context, argv []string, std stdio) int {
	if len(argv) == 1 && seccomp.IsLaunch([]string{"", "seccomp", argv[0]}) {
		seccomp.LaunchChild()
	}
	c := &seccompCommand{std: std}
	commands := map[string]func(context.Context) (int, error){
		"record": c.record, "merge": c.merge, "diff": c.diff, "show": c.show, "lint": c.lint, "emit": c.emit, "run": c.enforce, "check": c.check, "scan": c.scan,
	}
	if len(argv) == 0 || argv[0] == "--help" || argv[0] == "-h" || argv[0] == "help" {
		printHelp(std.out, seccompUsage)
		if len(argv) == 0 {
			return exitUsage
		}
		return exitOK
	}
	run, ok := commands[argv[0]]
	if !ok {
		fmt.Fprintf(std.err, "ERROR: unknown command `seccomp %s`\n%s", argv[0], seccompUsage)
		return exitUsage
	}
	c.fs = pflag.NewFlagSet(argv[0], pflag.ContinueOnError)
	c.fs.SetOutput(io.Discard)
	c.fs.SetInterspersed(true)
	c.args = argv[1:]
	code, err := run(ctx)
	var usage *seccompUsageError
	var file *seccomp.FileError
	var rights *seccomp.RightsError
	switch {
	case err == nil:
		return code
	case errors.Is(err, pflag.ErrHelp):
		printHelp(std.out, seccompUsage)
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: run `sonde seccomp --help` for the commands and options\n", err)
		return exitUsage
	case errors.As(err, &file) && file.Hint != "":
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: %s\n", err, file.Hint)
		return exitUser
	case errors.As(err, &rights), errors.Is(err, seccomp.ErrNeedsBTF):
		fmt.Fprintf(std.err, "ERROR: %v\n", err)
		return exitKernel
	}
	fmt.Fprintf(std.err, "ERROR: %v\n", err)
	return exitUser
}

type seccompUsageError struct{ text string }

func (e *seccompUsageError) Error() string { return e.text }

func badUse(format string, args ...any) error {
	return &seccompUsageError{fmt.Sprintf(format, args...)}
}

// goNumber is what Go's functions for numbers put before the reason.
var goNumber = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// parse reads the flags; what is behind -- is the command.
func (c *seccompCommand) parse() (files, command []string, err error) {
	if err := c.fs.Parse(c.args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, nil, err
		}
		return nil, nil, badUse("%s", goNumber.ReplaceAllString(err.Error(), ""))
	}
	if at := c.fs.ArgsLenAtDash(); at >= 0 {
		return c.fs.Args()[:at], c.fs.Args()[at:], nil
	}
	return c.fs.Args(), nil, nil
}

// profiles reads the profiles that the arguments name, one at least.
func (c *seccompCommand) profiles() (files []string, ps []*seccomp.Profile, err error) {
	if files, _, err = c.parse(); err != nil {
		return nil, nil, err
	}
	if len(files) == 0 {
		return nil, nil, badUse("no profile given")
	}
	ps, err = readProfiles(files)
	return files, ps, err
}

func readProfiles(names []string) ([]*seccomp.Profile, error) {
	var out []*seccomp.Profile
	for _, n := range names {
		p, err := seccomp.ReadFile(n)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// one reads the only profile of a command line.
func one(files []string) (*seccomp.Profile, error) {
	if len(files) != 1 {
		return nil, badUse("one profile expected, %d given", len(files))
	}
	return seccomp.ReadFile(files[0])
}

func (c *seccompCommand) merge(context.Context) (int, error) {
	out := c.fs.StringP("output", "o", "", "")
	_, ps, err := c.profiles()
	if err != nil {
		return 0, err
	}
	p, err := seccomp.Merge(ps...)
	if err != nil {
		return 0, err
	}
	if *out == "" {
		return exitOK, p.Write(c.std.out)
	}
	return exitOK, p.WriteFile(*out)
}

func (c *seccompCommand) diff(context.Context) (int, error) {
	files, _, err := c.parse()
	if err != nil {
		return 0, err
	}
	if len(files) != 2 {
		return 0, badUse("two profiles expected, %d given", len(files))
	}
	ps, err := readProfiles(files)
	if err != nil {
		return 0, err
	}
	c.differences(seccomp.Diff(ps[0], ps[1]))
	return exitOK, nil
}

func (c *seccompCommand) differences(list []seccomp.Difference) {
	for _, d := range list {
		switch d.Kind {
		case seccomp.DifferenceAdded:
			fmt.Fprintf(c.std.out, "+ %s (%s), by %s\n", d.Call.Name, d.Call.ABI, d.Call.Program)
		case seccomp.DifferenceRemoved:
			fmt.Fprintf(c.std.out, "- %s (%s)\n", d.Call.Name, d.Call.ABI)
		default:
			fmt.Fprintf(c.std.out, "~ %s (%s): %s\n", d.Call.Name, d.Call.ABI, d.Text)
		}
	}
}

func (c *seccompCommand) show(context.Context) (int, error) {
	counts := c.fs.Bool("count", false, "")
	verbose := c.fs.BoolP("verbose", "v", false, "")
	files, _, err := c.parse()
	if err != nil {
		return 0, err
	}
	p, err := one(files)
	if err != nil {
		return 0, err
	}
	return exitOK, p.Show(c.std.out, seccomp.ShowOptions{Counts: *counts, Details: *verbose})
}

func (c *seccompCommand) lint(context.Context) (int, error) {
	files, ps, err := c.profiles()
	if err != nil {
		return 0, err
	}
	code := exitOK
	for i, p := range ps {
		for _, f := range p.Lint() {
			fmt.Fprintf(c.std.out, "%s: %s\n", files[i], f)
			if f.Hint != "" {
				fmt.Fprintf(c.std.out, "    hint: %s\n", f.Hint)
			}
			if f.Severity == seccomp.SeverityError {
				code = exitUser
			}
		}
	}
	return code, nil
}

// policyFlags are those of emit, run and check.
func (c *seccompCommand) policyFlags() func(p *seccomp.Profile) (*seccomp.Policy, error) {
	def := c.fs.String("default", "errno", "")
	closure := c.fs.String("closure", "usual", "")
	clone3 := c.fs.String("clone3", "auto", "")
	anyArgs := c.fs.Bool("any-args", false, "")
	runtimeName := c.fs.String("runtime", "", "")
	noNewPrivs := c.fs.Bool("no-new-privs", false, "")
	return func(p *seccomp.Profile) (*seccomp.Policy, error) {
		o := seccomp.PolicyOptions{AnyArgs: *anyArgs}
		var err error
		if o.Default, err = seccomp.ParseAction(*def); err != nil {
			return nil, badUse("%v", err)
		}
		if o.Closure, err = seccomp.ParseClosure(*closure); err != nil {
			return nil, badUse("%v", err)
		}
		switch *clone3 {
		case "auto":
		case "enosys", "recorded":
			o.Clone3 = seccomp.Clone3Mode(*clone3)
		default:
			return nil, badUse("unknown value `%s` of --clone3; known are auto, enosys, recorded", *clone3)
		}
		name, privs := *runtimeName, *noNewPrivs
		if info := p.Runtime(); info != nil && c.container && name == "" {
			name = info.Name
			if !c.fs.Changed("no-new-privs") {
				privs = info.NoNewPrivileges
			}
		}
		if name != "" {
			if o.Base, err = p.RuntimeBase(name, privs); err != nil {
				return nil, badUse("%v", err)
			}
		}
		return seccomp.NewPolicy(p, o)
	}
}

func (c *seccompCommand) emit(context.Context) (int, error) {
	format := c.fs.String("format", "", "")
	out := c.fs.StringP("output", "o", "", "")
	library := c.fs.String("libseccomp", "", "")
	explain := c.fs.Bool("explain", false, "")
	name := c.fs.String("name", "sonde", "")
	policy := c.policyFlags()
	files, _, err := c.parse()
	if err != nil {
		return 0, err
	}
	if *format == "" && !*explain {
		return 0, badUse("--format is missing; known are %s", strings.Join(seccomp.Formats(), ", "))
	}
	if err := seccomp.CheckFormat(*format); err != nil && *format != "" {
		return 0, badUse("%v", err)
	}
	if f, ok := c.std.out.(*os.File); ok && *format == "bpf" && *out == "" && isatty.IsTerminal(f.Fd()) {
		return 0, badUse("a filter is no text for a terminal; write it to a file with -o")
	}
	p, err := one(files)
	if err != nil {
		return 0, err
	}
	c.container = slices.Contains([]string{"oci", "docker", "podman", "kubernetes-spo"}, *format)
	pol, err := policy(p)
	if err != nil {
		return 0, err
	}
	if *explain {
		for _, r := range pol.Rules {
			fmt.Fprintf(c.std.err, "%-8s %-8s %-24s %s\n", r.Action, r.ABI, r.Name, r.Why)
		}
		if *format == "" {
			return exitOK, nil
		}
	}
	o := seccomp.EmitOptions{Name: *name}
	if *format != "bpf" && *format != "go" {
		known, _, err := seccomp.LibraryNames(*library)
		switch {
		case err == nil:
			o.Known = known
		case *library != "":
			return 0, err
		}
	}
	var text strings.Builder
	findings, err := seccomp.Emit(&text, *format, pol, o)
	if err != nil {
		return 0, err
	}
	for _, f := range findings {
		fmt.Fprintln(c.std.err, f)
	}
	if *out == "" {
		_, err = io.WriteString(c.std.out, text.String())
		return exitOK, err
	}
	return exitOK, os.WriteFile(*out, []byte(text.String()), 0o644)
}

func (c *seccompCommand) enforce(ctx context.Context) (int, error) {
	policy := c.policyFlags()
	pol, _, command, err := c.replay(policy)
	if err != nil {
		return 0, err
	}
	code, _, err := seccomp.Enforce(ctx, pol, seccomp.Options{Command: command, Stdin: c.std.in, Stdout: c.std.out, Stderr: c.std.err})
	return code, err
}

// replay reads what run and check have in common.
func (c *seccompCommand) replay(policy func(*seccomp.Profile) (*seccomp.Policy, error)) (*seccomp.Policy, *seccomp.Profile, []string, error) {
	files, command, err := c.parse()
	if err != nil {
		return nil, nil, nil, err
	}
	if len(command) == 0 {
		return nil, nil, nil, badUse("no command; put it behind `--`")
	}
	p, err := one(files)
	if err != nil {
		return nil, nil, nil, err
	}
	if p.ABI != seccomp.Native() {
		return nil, nil, nil, fmt.Errorf("%s is of a machine with ABI %s; here is %s", files[0], p.ABI, seccomp.Native())
	}
	pol, err := policy(p)
	return pol, p, command, err
}

func (c *seccompCommand) check(ctx context.Context) (int, error) {
	dry := c.fs.Bool("dry-run", false, "")
	accept := c.fs.Bool("accept", false, "")
	policy := c.policyFlags()
	pol, p, command, err := c.replay(policy)
	if err != nil {
		return 0, err
	}
	res, err := seccomp.Check(ctx, seccomp.CheckOptions{Policy: pol, Profile: p, Command: command, Stdin: c.std.in, Stdout: c.std.out, Stderr: c.std.err, DryRun: *dry, Stacks: true})
	if res == nil {
		return 0, err
	}
	denied := "denied"
	if *dry {
		denied = "would be denied"
	}
	for _, d := range res.Denials {
		fmt.Fprintf(c.std.err, "%s: %s\n", denied, d.String(p.ABI))
		for _, f := range d.Stack {
			fmt.Fprintf(c.std.err, "    %s\n", f)
		}
	}
	if res.Total == 0 {
		fmt.Fprintf(c.std.err, "no call %s\n", denied)
	} else {
		fmt.Fprintf(c.std.err, "%s %s, of %s\n", seccomp.Counted(res.Total, "call"), denied, seccomp.Counted(uint64(len(res.Denials)), "kind"))
	}
	if err != nil || len(res.Denials) == 0 {
		return exitOK, err
	}
	path := c.fs.Arg(0)
	if !*accept {
		fmt.Fprintf(c.std.err, "HINT: `sonde seccomp check --accept %s -- ...` adds them to the profile\n", path)
		return exitUser, nil
	}
	c.differences(p.Accept(res.Denials))
	return exitOK, p.WriteFile(path)
}
