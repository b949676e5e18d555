package runtime

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// These objects are written by hand: the runtime is tested without the compiler.

func testObject(programs ...*object.Program) *object.Object {
	set, _ := source.NewSet("stdin", "BEGIN { printf(...) }")
	return &object.Object{
		Programs: programs, License: "GPL", Files: set, Points: []string{"BEGIN"},
		Config: object.Config{PrintMapsOnExit: true, MaxCatBytes: 100, UserSymbolCache: "PER_PID"},
		Maps: []*object.Map{
			{Name: "ring", Role: object.MapRing, Type: ebpf.RingBuf, MaxEntries: 1 << 16},
			{Name: "counters", Role: object.MapCounters, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8 * object.CountersPerProgram, MaxEntries: 4},
			{Name: "@h", Role: object.MapUser, Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 16, Key: types.TInt64, Value: types.TInt64},
			{Name: "@c", Role: object.MapUser, Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 8, MaxEntries: 16, Key: types.TInt64, Value: &types.Type{Kind: types.Count, Size: 8}},
			{Name: "globals", Role: object.MapState, Type: ebpf.Array, KeySize: 4, ValueSize: 256, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE},
			{Name: "@g", Role: object.MapUser, Key: nil, Value: types.TInt64, Global: &object.GlobalSlot{Map: "globals", Off: 64, Copies: 1, SetOff: 128}},
		},
		Events: []*object.Event{
			{ID: 0, Kind: object.EvPrintf, Format: "value %d\n", Size: 16, Fields: []object.EventField{{Type: types.TInt64, Off: 8}}},
			{ID: 1, Kind: object.EvExit, Size: 16, Fields: []object.EventField{{Type: types.TInt64, Off: 8}}},
			{ID: 2, Kind: object.EvClear, Size: 8, Map: "@h"},
		},
	}
}

// send emits code that sends event id with one 64-bit field.
func send(id int32, v int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -16, int64(id), asm.Word), asm.StoreImm(asm.RFP, -12, 0, asm.Word),
		asm.Mov.Imm(asm.R1, v), asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, 0).WithReference("ring"),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -16), asm.Mov.Imm(asm.R3, 16), asm.Mov.Imm(asm.R4, 2),
		asm.FnRingbufOutput.Call(),
	}
}

// put emits code that stores value under key in a hash map.
func put(m string, key, value int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, key), asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R1, value), asm.StoreMem(asm.RFP, -16, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, 0).WithReference(m),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -16), asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	}
}

func program(role object.Role, code ...asm.Instructions) *object.Program {
	p := &object.Program{Name: "p", Type: ebpf.RawTracepoint, Role: role}
	for _, c := range code {
		p.Insns = append(p.Insns, c...)
	}
	p.Insns = append(p.Insns, asm.Mov.Imm(asm.R0, 0), asm.Return())
	return p
}

func runObject(t *testing.T, ctx context.Context, obj *object.Object, json bool) (string, int) {
	t.Helper()
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var buf bytes.Buffer
	s, err := New(Options{
		Object: obj, Kernel: k, Output: NewOutput(&buf, json, BufferLine), Report: func(d *diag.Diagnostic) { t.Log(d) },
		Attached: func(n int) { buf.WriteString("attached\n") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	code, err := s.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return buf.String(), code
}

func setGlobal(v int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, 0, 0).WithReference("globals"),
		asm.StoreImm(asm.R1, 64, int64(v), asm.Word), asm.StoreImm(asm.R1, 128, 1, asm.Word),
	}
}

func TestSessionBeginPrintsAndEnds(t *testing.T) {
	obj := testObject(program(object.RoleBegin, send(0, 42), put("@h", 7, 9), put("@c", 1, 3), setGlobal(5)), program(object.RoleEnd, send(0, 43)))
	got, code := runObject(t, context.Background(), obj, false)
	want := "attached\nvalue 42\nvalue 43\n\n\n@c[1]: 3\n@g: 5\n@h[7]: 9\n"
	if got != want || code != 0 {
		t.Errorf("status %d, output %q, want %q", code, got, want)
	}
}

func TestSessionJSON(t *testing.T) {
	got, _ := runObject(t, context.Background(), testObject(program(object.RoleBegin, send(0, 42), put("@h", 7, 9))), true)
	want := "attached\n" + `{"type": "printf", "data": "value 42\n"}` + "\n" + `{"type": "map", "data": {"@h": {"7": 9}}}` + "\n"
	if got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestSessionExitCodeAndClear(t *testing.T) {
	obj := testObject(program(object.RoleBegin, put("@h", 7, 9), send(2, 0), send(1, 5)))
	obj.Programs = append(obj.Programs, program(object.RoleSignal)) // something to wait for
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, code := runObject(t, ctx, obj, false)
	if code != 5 || ctx.Err() != nil {
		t.Errorf("status %d, want 5", code)
	}
	if strings.Contains(got, "@h") {
		t.Errorf("@h was not cleared: %q", got)
	}
}

func TestSessionEndsWithItsContext(t *testing.T) {
	obj := testObject(program(object.RoleSignal))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, code := runObject(t, ctx, obj, false); code != 0 {
		t.Errorf("status %d", code)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestVerifierRefusalNamesThePlace(t *testing.T) {
	needs.BPF(t)
	set, f := source.NewSet("stdin", "BEGIN { bad }")
	obj := testObject(&object.Program{
		Name: "bad", Type: ebpf.RawTracepoint, Probe: f.Span(0, 13),
		Insns: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.LoadMem(asm.R0, asm.R0, 0, asm.DWord), asm.Return()},
		Spans: []object.SpanAt{{Offset: 0, Span: f.Span(0, 5)}, {Offset: 1, Span: f.Span(8, 11)}},
	})
	obj.Files = set
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	_, err = New(Options{Object: obj, Kernel: k, Output: NewOutput(&bytes.Buffer{}, false, BufferLine)})
	d := Diagnose(err)
	if d == nil || set.Text(d.Span) != "bad" || !strings.Contains(d.Message, "R0 invalid mem access") {
		t.Errorf("%v: %+v", err, d)
	}
}

func TestChildRunsOnlyWhenResumed(t *testing.T) {
	dir := t.TempDir()
	c, err := StartChild("touch "+dir+"/x \""+dir+"/y z\"", os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := os.Stat(dir + "/x"); err == nil {
		t.Error("the child ran before it was let go")
	}
	c.Resume()
	<-c.Done()
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/x"); err != nil {
		t.Error(err)
	}
	if _, err := StartChild("/nonexistent", nil); err == nil {
		t.Error("a missing command was accepted")
	}
	if _, err := SplitCommand("a 'b"); err == nil {
		t.Error("an unclosed quote was accepted")
	}
}
