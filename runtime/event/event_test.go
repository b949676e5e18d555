package event

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/value"
)

func layout() *object.Event {
	return &object.Event{ID: 3, Kind: object.EvPrintf, Format: "%d %s %5u|%s\n", Size: 32, Fields: []object.EventField{
		{Type: types.TInt32, Off: 8},
		{Type: types.StringOf(16), Off: 12, Tail: true},
		{Type: types.TUint64, Off: 16},
		{Type: types.StringOf(8), Off: 24},
	}}
}

func record(cut bool) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 3)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff)
	n := uint32(5)
	if cut {
		n |= CutBit
	}
	b = binary.NativeEndian.AppendUint32(b, n)
	b = binary.NativeEndian.AppendUint64(b, 42)
	b = append(b, "bash\x00\x00\x00\x00"...)
	return append(b, "hello"...)
}

func TestAppendPrintf(t *testing.T) {
	d, err := NewDecoder(layout(), &value.Decoder{Trailer: ".."})
	if err != nil {
		t.Fatal(err)
	}
	for cut, want := range map[bool]string{false: "-1 hello    42|bash\n", true: "-1 hello..    42|bash\n"} {
		got, err := d.AppendPrintf(nil, record(cut))
		if err != nil || string(got) != want {
			t.Errorf("cut %v: %q, %v; want %q", cut, got, err, want)
		}
	}
	vals, err := d.Fields(record(false))
	if err != nil || len(vals) != 4 || vals[1].S != "hello" || vals[0].Int != -1 {
		t.Errorf("fields: %v, %v", vals, err)
	}
	if _, err := d.Fields(record(false)[:20]); err == nil {
		t.Error("a short record was accepted")
	}
	if _, err := d.AppendPrintf(nil, record(false)[:34]); err == nil {
		t.Error("a record with a short tail was accepted")
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(record(false))
	f.Add(record(true))
	f.Fuzz(func(t *testing.T, rec []byte) {
		d, err := NewDecoder(layout(), &value.Decoder{})
		if err != nil {
			t.Fatal(err)
		}
		_, e1 := d.Fields(rec)
		_, e2 := d.AppendPrintf(nil, rec)
		if (e1 == nil) != (e2 == nil) {
			t.Errorf("Fields: %v, AppendPrintf: %v", e1, e2)
		}
	})
}

func newRing(t *testing.T, size uint32) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: size})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("needs rights to make BPF maps")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// producer is a program that sends its 64-bit argument as one record.
func producer(t *testing.T, ring *ebpf.Map, flags int32) func(uint64) {
	t.Helper()
	insns := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.StoreMem(asm.RFP, -8, asm.R2, asm.DWord),
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: insns, License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return func(v uint64) {
		if _, err := prog.Run(&ebpf.RunOptions{Context: []uint64{v}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReaderSeesEveryRecordAcrossTheWrap(t *testing.T) {
	ring := newRing(t, 4096)
	r, err := NewReader(ring, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	send := producer(t, ring, 1) // BPF_RB_NO_WAKEUP
	next := uint64(0)
	for i := uint64(0); i < 2000; i++ {
		send(i)
		if i%100 == 99 {
			r.Drain(func(rec []byte) bool {
				if got := binary.NativeEndian.Uint64(rec); got != next {
					t.Fatalf("record %d holds %d", next, got)
				}
				next++
				return true
			})
		}
	}
	if next != 2000 {
		t.Errorf("read %d of 2000", next)
	}
}

func TestReaderWakesAndStops(t *testing.T) {
	ring := newRing(t, 4096)
	r, err := NewReader(ring, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	send := producer(t, ring, 2) // BPF_RB_FORCE_WAKEUP
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan uint64, 10)
	done := make(chan error)
	go func() {
		done <- r.Run(ctx, func(rec []byte) bool { got <- binary.NativeEndian.Uint64(rec); return true }, nil)
	}()
	for i := uint64(1); i < 4; i++ {
		time.Sleep(15 * time.Millisecond) // longer than the reader lingers: it must be asleep
		send(i)
		select {
		case v := <-got:
			if v != i {
				t.Errorf("got %d, want %d", v, i)
			}
		case <-time.After(time.Minute):
			t.Fatal("the reader did not wake")
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the reader did not stop")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
