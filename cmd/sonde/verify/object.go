package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// Object loads the programs of a compiled BPF object one by one into the running kernel, each with the maps that it uses, and takes
// them out again. A refusal is placed on the line of the C source where the object's type information has lines.
func Object(path string) Row {
	row := Row{Path: path, State: Load}
	_ = kernel.RaiseMemlock() // before Linux 5.11; where it is refused, the maps say so
	spec, err := readObject(path)
	if err != nil {
		row.State, row.Reason = Compile, "not a BPF object that can be read: "+err.Error()
		return row
	}
	names := make([]string, 0, len(spec.Programs))
	for name := range spec.Programs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if d := loadProgram(spec, name); d != nil {
			row.Diagnostics = append(row.Diagnostics, *d)
			continue
		}
		row.Programs = append(row.Programs, Program{Name: name, Instructions: instructions(spec.Programs[name])})
	}
	row.Probes = len(names)
	switch {
	case len(names) == 0:
		row.State, row.Reason = Compile, "the object has no programs"
	case len(row.Diagnostics) > 0:
		row.Reason = FirstError(row.Diagnostics)
		if n := len(row.Diagnostics); n > 1 {
			row.Reason = fmt.Sprintf("%s (%d of %d programs refused)", row.Reason, n, len(names))
		}
	default:
		row.State = OK
	}
	return row
}

// instructions counts slots: a load of a 64-bit constant takes two.
func instructions(p *ebpf.ProgramSpec) int {
	n := 0
	for _, i := range p.Instructions {
		n += int(i.OpCode.Size()) / asm.InstructionSize
	}
	return n
}

// loadProgram loads one program of a collection.
func loadProgram(spec *ebpf.CollectionSpec, name string) *Diagnostic {
	one := spec.Copy()
	for other := range one.Programs {
		if other != name {
			delete(one.Programs, other)
		}
	}
	used := usedMaps(one.Programs[name])
	for m, ms := range one.Maps {
		if !used[m] {
			delete(one.Maps, m)
			continue
		}
		ms.Pinning = ebpf.PinNone // nothing may stay behind
		if ms.Type == ebpf.ProgramArray {
			ms.Contents = nil // its programs are loaded on their own
		}
	}
	clear(one.Variables) // they are in the maps
	coll, err := ebpf.NewCollection(one)
	if err == nil {
		coll.Close()
		return nil
	}
	why := strings.NewReplacer(
		" (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", // there is no limit any more
		fmt.Sprintf("program %s: ", name), "",
	).Replace(err.Error())
	d := &Diagnostic{Severity: "error", Code: "E0799", Message: fmt.Sprintf("the kernel refused the program `%s`: %s", name, why)}
	var ve *ebpf.VerifierError
	if !errors.As(err, &ve) {
		if errors.Is(err, ebpf.ErrNotSupported) {
			d.Message = fmt.Sprintf("this kernel cannot load the program `%s`: %s", name, why)
		}
		d.Text = "ERROR: " + d.Message + "\n"
		return d
	}
	source := lastSource(ve.Log)
	offset, complaint := runtime.Verdict(strings.Join(ve.Log, "\n"))
	switch {
	case complaint == "":
		complaint = ve.Cause.Error()
	case strings.Contains(complaint, "unknown#"): // a call that the library could not resolve and made invalid: it knows why
		complaint += " (" + ve.Cause.Error() + ")"
	}
	d.Message = fmt.Sprintf("the verifier refused the program `%s`: %s", name, complaint)
	if line := lineAt(spec.Programs[name], offset); line != nil {
		d.File, d.Line, d.Column, source = line.FileName(), int(line.LineNumber()), int(line.LineColumn()), strings.TrimSpace(line.Line())
	}
	var b strings.Builder
	if d.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", d.File, d.Line, d.Column)
	}
	fmt.Fprintf(&b, "ERROR: %s\n", d.Message)
	if source != "" {
		fmt.Fprintf(&b, "%s\n", source)
	}
	for _, l := range ve.Log[max(0, len(ve.Log)-logLines):] {
		fmt.Fprintf(&b, "    %s\n", l)
	}
	d.Text = b.String()
	return d
}

// logLines is how much of a verifier log is shown: the last look at the registers and the complaint.
const logLines = 6

// usedMaps are the maps that a program refers to.
func usedMaps(p *ebpf.ProgramSpec) map[string]bool {
	used := map[string]bool{}
	for _, i := range p.Instructions {
		if i.IsLoadFromMap() {
			used[i.Reference()] = true
		}
	}
	return used
}

// lastSource is the source line that a verifier log names last.
func lastSource(log []string) string {
	for _, l := range slices.Backward(log) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(l), ";"); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// lineAt is the source line of an offset in slots. Offsets behind the program belong to functions that are linked to it when it is loaded;
// the log alone knows their lines.
func lineAt(p *ebpf.ProgramSpec, offset int) *btf.Line {
	var last *btf.Line
	it := p.Instructions.Iterate()
	for it.Next() {
		if int(it.Offset) > offset {
			return last
		}
		if l, ok := it.Ins.Source().(*btf.Line); ok {
			last = l
		}
	}
	return nil
}
