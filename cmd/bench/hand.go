package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// byHand is the tracer of programs that were written by hand.
const byHand = "by hand"

// handLimit is how much more a program of sonde may execute than the one written by hand.
const handLimit = 1.1

// handProgram is what one would write for a script, with the map that it needs.
type handProgram struct {
	program string // its name in programs; "empty" is what is subtracted
	spec    *ebpf.MapSpec
	code    func(fd int) asm.Instructions
}

// handPrograms are for the same event as the scripts, and take values from where those take them.
func handPrograms() []handProgram {
	const line = 64 // bytes of a processor's own memory
	done := asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	perCPU := func(key uint32) *ebpf.MapSpec {
		return &ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: key, ValueSize: 8, MaxEntries: 4096}
	}
	// add counts under the key that is size bytes below the frame pointer.
	add := func(fd int, size int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -size), asm.LoadMapPtr(asm.R1, fd), asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "new"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.Ja.Label("done"),
			asm.Mov.Imm(asm.R1, 1).WithSymbol("new"), asm.StoreMem(asm.RFP, int16(-size-8), asm.R1, asm.DWord),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -size), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -size-8),
			asm.LoadMapPtr(asm.R1, fd), asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("done"), asm.Return(),
		}
	}
	return []handProgram{
		{"empty", nil, func(int) asm.Instructions { return done }},
		{"@ = count()", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 2 * line, MaxEntries: 1}, func(fd int) asm.Instructions {
			return append(asm.Instructions{
				asm.FnGetSmpProcessorId.Call(), asm.And.Imm(asm.R0, 1), asm.LSh.Imm(asm.R0, 6), asm.LoadMapValue(asm.R1, fd, 0), asm.Add.Reg(asm.R1, asm.R0),
				asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), asm.Add.Imm(asm.R2, 1), asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
			}, done...)
		}},
		{"@[pid] = count()", perCPU(4), func(fd int) asm.Instructions {
			return append(asm.Instructions{
				asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.StoreMem(asm.RFP, -8, asm.R0, asm.Word),
			}, add(fd, 8)...)
		}},
		{"@[comm] = count()", perCPU(16), func(fd int) asm.Instructions {
			return append(asm.Instructions{
				asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -16), asm.Mov.Imm(asm.R2, 16), asm.FnGetCurrentComm.Call(),
			}, add(fd, 16)...)
		}},
		{"@ = x", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1}, func(fd int) asm.Instructions {
			const pid = 16 // of the event's record
			return append(asm.Instructions{
				asm.LoadMem(asm.R1, asm.R1, pid, asm.DWord), asm.LoadMapValue(asm.R2, fd, 0), asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
				asm.Mov.Imm(asm.R1, 1), asm.StoreMem(asm.R2, 8, asm.R1, asm.DWord),
			}, done...)
		}},
	}
}

// measureByHand gives what a call costs more while a program is attached that was written by hand.
func (b *bench) measureByHand(h handProgram, l *load, chunks int) (added float64, err error) {
	before, err := b.timeCalls(l, "getpgid", chunks)
	if err != nil {
		return 0, err
	}
	fd := 0
	if h.spec != nil {
		m, err := ebpf.NewMap(h.spec)
		if err != nil {
			return 0, fmt.Errorf("the map of %q by hand: %w", h.program, err)
		}
		defer m.Close()
		fd = m.FD()
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.TracePoint, License: "GPL", Instructions: h.code(fd)})
	if err != nil {
		return 0, fmt.Errorf("%q by hand: %w", h.program, err)
	}
	defer p.Close()
	at, err := link.Tracepoint("syscalls", "sys_enter_getpgid", p, nil)
	if err != nil {
		return 0, fmt.Errorf("attach %q by hand: %w", h.program, err)
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	if _, err := l.run("getpgid", warmUp, 0); err != nil {
		return 0, err
	}
	during, err := b.timeCalls(l, "getpgid", chunks)
	return during - before, err
}

// byHandTable compares with programs that were written by hand.
func (b *bench) byHandTable(where string, found map[string]counted) {
	g := b.table.group("Instructions executed, against programs written by hand", where+" What sonde's programs execute per event, as a part of what "+
		"programs for the same perf event execute that were written by hand; both less the empty program.")
	empty, ok := found[byHand+" empty"]
	ours, ok2 := found[b.ours.name+" empty"]
	if !ok || !ok2 {
		return
	}
	for _, h := range handPrograms()[1:] {
		hand, ok := found[byHand+" "+h.program]
		mine, ok2 := found[b.ours.name+" "+h.program]
		if ok && ok2 {
			g.add(row{name: h.program, unit: "times", ours: (mine.Added - ours.Added) / (hand.Added - empty.Added), theirs: math.NaN(), limit: handLimit, absolute: true})
		}
	}
}
