package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/source"
)

// printBPF prints every program's instructions, each run of them under the script text that they come from.
func printBPF(out io.Writer, obj *object.Object) {
	w := bufio.NewWriter(out)
	defer w.Flush()
	for _, m := range obj.Maps {
		if m.Global != nil {
			fmt.Fprintf(w, "map %s: at byte %d of %s, %d copies\n", m.Name, m.Global.Off, m.Global.Map, max(1, m.Global.Copies))
			continue
		}
		fmt.Fprintf(w, "map %s: %v, key %d bytes, value %d bytes, %d entries\n", m.Name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries)
	}
	for _, p := range obj.Programs {
		fmt.Fprintf(w, "\nprogram %s: %v %s, %d instructions, %d bytes of stack, %d bytes of scratch, %d spills\n", p.Name, p.Type, p.AttachTo,
			p.Stats.Insns, p.Stats.StackBytes, p.Stats.ScratchBytes, p.Stats.Spills)
		last := source.Span{}
		for it := p.Insns.Iterate(); it.Next(); {
			if sp := p.SpanOf(it.Offset); sp != last {
				last = sp
				if text := firstLine(obj.Files.Text(sp)); text != "" {
					fmt.Fprintf(w, "; %d: %s\n", obj.Files.Position(sp.Start).Line, text)
				}
			}
			sym := ""
			if s := it.Ins.Symbol(); s != "" {
				sym = s + ":\n"
			}
			fmt.Fprintf(w, "%s%6d: %v\n", sym, it.Offset, it.Ins)
		}
	}
}

func firstLine(s string) string {
	line, rest, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more && strings.TrimSpace(rest) != "" {
		line += " ..."
	}
	return line
}

// printPlan prints how each program is attached, and why.
func printPlan(w io.Writer, obj *object.Object) {
	for _, p := range obj.Programs {
		for _, l := range obj.Plan(p) {
			fmt.Fprintln(w, l)
		}
	}
}
