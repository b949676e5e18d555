package scriptgen_test

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"strings"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/value"
	"github.com/sonde-sh/sonde/runtime/value/valuetest"
)

// difference shows the first line that is not the same.
func difference(got, want string) string {
	if got == want {
		return ""
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "<end>", "<end>"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("differs in line %d: got %q, the interpreter of the IR as lowered has %q\ndiffers", i+1, x, y)
		}
	}
	return ""
}

// errLimit says that a loop ran into its limit. With -budget that comes later, or earlier, than without.
var errLimit = errors.New("a loop was stopped by a limit")

// interpret runs the first function of a module and renders what it sent.
func interpret(obj *object.Object, m *ir.Module) (string, error) {
	jiffies := uint64(0)
	mc := &interp.Machine{MaxSteps: 5_000_000, Maps: map[string]*interp.Map{}, Helpers: map[asm.BuiltinFunc]interp.Helper{
		asm.FnJiffies64:         func(*interp.Machine, [5]uint64) (uint64, error) { jiffies++; return jiffies, nil },
		asm.FnGetCurrentPidTgid: func(*interp.Machine, [5]uint64) (uint64, error) { return 7<<32 | 8, nil },
	}}
	for _, om := range obj.Maps {
		mc.Maps[om.Name] = &interp.Map{Type: om.Type, KeySize: om.KeySize, ValueSize: om.ValueSize, MaxEntries: om.MaxEntries, Contents: om.Contents}
	}
	if _, err := mc.Run(m.Funcs[0], make([]byte, 64)); err != nil {
		return "", err
	}
	if n := mc.ArrayBytes("counters", 0); *budget > 0 && len(n) > 0 && n[8*object.CounterLoop] != 0 {
		return "", errLimit
	}
	values := &value.Decoder{R: valuetest.Resolver{Object: obj, Syscalls: syscallName}, Trailer: obj.Config.StrTruncTrailer}
	var out []byte
	for _, rec := range mc.Records {
		id, _ := event.ID(rec)
		d, err := event.NewDecoder(obj.Events[id], values)
		if err != nil {
			return "", err
		}
		switch d.Event.Kind {
		case object.EvPrintf:
			out, err = d.AppendPrintf(out, rec)
		case object.EvPrintValue:
			var vals []value.V
			if vals, err = d.Fields(rec); err == nil {
				out = append(value.AppendText(out, vals[0]), '\n')
			}
		}
		if err != nil {
			return "", err
		}
	}
	return string(out), nil
}

func syscallName(n int64) string {
	if name := kernel.SyscallName(goruntime.GOARCH, int(n)); name != "" {
		return name
	}
	return fmt.Sprint(n)
}
