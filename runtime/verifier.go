package runtime

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/lang/diag"
)

// insnLine matches the verifier's line for one instruction: its raw offset, the opcode, the text.
var insnLine = regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) `)

// Verdict takes the useful part of a verifier log: the offset of the last instruction that it looked at (in slots, -1 without one) and its
// last complaint.
func Verdict(log string) (offset int, complaint string) {
	offset = -1
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "processed "), strings.HasPrefix(line, "verification time"), strings.HasPrefix(line, "stack depth"),
			strings.HasPrefix(line, "max_states"), strings.HasPrefix(line, "from "), strings.HasPrefix(line, ";"), strings.HasPrefix(line, "mark_precise"),
			strings.HasPrefix(line, "func#"), strings.HasPrefix(line, "live regs"), strings.HasPrefix(line, "insn "):
			continue
		}
		if m := insnLine.FindStringSubmatch(line); m != nil {
			offset, _ = strconv.Atoi(m[1])
			continue
		}
		if _, err := strconv.Atoi(strings.SplitN(line, ":", 2)[0]); err == nil {
			continue // a line of register states: "12: R0=..."
		}
		complaint = line
	}
	return offset, complaint
}

// verifierHints say what to change in the script for complaints that a script can cause.
var verifierHints = []struct{ match, hint string }{
	{"too large", "split the probe into smaller ones, or unroll less"},
	{"jumps is too complex", "split the probe into smaller ones, or unroll less"},
	{"too many instructions", "split the probe into smaller ones, or unroll less"},
	{"processed 1000001 insns", "make the loop shorter: the kernel follows at most a million instructions"},
	{"back-edge", "use unroll(N): this kernel has no bounded loops"},
	{"infinite loop", "give the loop a bound that the kernel can see, such as `for ($i : 0..100)`"},
	{"stack limit", "use fewer or shorter strings, or lower on_stack_limit"},
	{"combined stack", "use fewer or shorter strings, or lower on_stack_limit"},
	{"sleepable", "use another probe kind: this helper may sleep"},
	{"unknown func", "use a newer kernel: this one does not offer the helper to this kind of probe"},
	{"helper access to the", "report this script: the compiler should have bounded the access"},
}

// Diagnose turns an error of New or Run into a diagnostic with a place in the script where there is one.
func Diagnose(err error) *diag.Diagnostic {
	var ae *AttachError
	if errors.As(err, &ae) {
		return ae.Diagnostic
	}
	var me *MapError
	if errors.As(err, &me) {
		d := &diag.Diagnostic{Severity: diag.Error, Code: "E0804", Span: me.Map.Span, Message: fmt.Sprintf("cannot make map `%s` (%d entries of %d bytes): %v", me.Map.Name, me.Map.MaxEntries, me.Map.KeySize+me.Map.ValueSize, plainError(me.Err))}
		switch {
		case errors.Is(me.Err, unix.EPERM):
			d.Message = "not allowed to use BPF: the kernel refused to make a map"
			return d.Hint("run as root, or with CAP_BPF and CAP_PERFMON")
		case errors.Is(me.Err, unix.ENOMEM), errors.Is(me.Err, unix.E2BIG):
			return d.Hint("set max_map_keys lower, or declare the map with fewer entries: `let @m = hash(1000)`")
		}
		return d
	}
	var le *LoadError
	if !errors.As(err, &le) {
		return nil
	}
	p := le.Program
	d := &diag.Diagnostic{Severity: diag.Error, Code: "E0802", Span: p.Probe}
	if le.Log == "" && !errors.Is(le.Err, unix.E2BIG) || errors.Is(le.Err, unix.EPERM) {
		d.Message = fmt.Sprintf("the kernel refused to load %s: %v", p.Name, plainError(le.Err))
		switch {
		case errors.Is(le.Err, unix.EPERM) && (p.Type == ebpf.Tracing || p.Type == ebpf.LSM) && p.AttachType != ebpf.AttachTraceRawTp:
			d.Hint("use a tracepoint or rawtracepoint: this machine does not allow programs of this kind (fentry, fexit, LSM)")
		case errors.Is(le.Err, unix.EPERM):
			d.Hint("run as root, or with CAP_BPF and CAP_PERFMON; check that the kernel's lockdown mode allows tracing")
		case errors.Is(le.Err, unix.ENOMEM):
			d.Hint("free memory or raise the limit of the memory cgroup")
		}
		return d
	}
	if n := countMaps(p.Insns); n > maxProgramMaps {
		d.Message = fmt.Sprintf("%s uses %d maps; the kernel lets a program use %d", p.Name, n, maxProgramMaps)
		return d.Hint("put what belongs together into one map, under a key or as a tuple, or split the probe into several")
	}
	off, complaint := Verdict(le.Log)
	if strings.Contains(le.Log, "__noreturn") {
		d.Message = fmt.Sprintf("cannot attach %s: this function never returns, and the kernel says so", p.Name)
		return d.Hint("use fentry: nothing happens behind the entry")
	}
	if off >= 0 {
		d.Span = p.SpanOf(asm.RawInstructionOffset(off))
	}
	if strings.Contains(complaint, "helper call is not allowed in probe") && strings.Contains(le.Log, "bpf_d_path") {
		d.Message = "helper bpf_d_path not allowed in probe"
		return d.Hint("the kernel gives paths in iter probes, in lsm hooks that may sleep, and in these functions: %s", pathFunctions)
	}
	d.Message = fmt.Sprintf("the kernel's verifier refused this: %s", complaint)
	for _, h := range verifierHints {
		if strings.Contains(le.Log, h.match) {
			d.Hint("%s", h.hint)
			break
		}
	}
	if len(d.Hints) == 0 {
		d.Hint("run with -d verifier for the whole log, and report it: a script that passes the checks should load")
	}
	if off >= 0 && off < len(p.Insns)*2 {
		d.Notes = append(d.Notes, fmt.Sprintf("at instruction %d of %s", off, p.Name))
	}
	return d
}

// pathFunctions are the functions in which the kernels known allow bpf_d_path (btf_allowlist_d_path). Only a refusal says so of the running one.
const pathFunctions = "filp_close, dentry_open, vfs_fallocate, vfs_getattr, vfs_truncate, security_file_open, security_file_permission, " +
	"security_inode_getattr, security_path_truncate"

// maxProgramMaps is the kernel's MAX_USED_MAPS. Before Linux 6.13 it says nothing about it.
const maxProgramMaps = 64

func countMaps(insns asm.Instructions) int {
	seen := map[string]bool{}
	for _, ins := range insns {
		if ins.IsLoadFromMap() {
			seen[ins.Reference()] = true
		}
	}
	return len(seen)
}

// plainError drops the operation names that wrap a system error.
func plainError(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
