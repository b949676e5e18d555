package lower

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// An event without tails is written straight into its ring-buffer record (reserve, submit), as long as the verifier bears it (mayReserve). One with
// tails, whose size is known only at run time, is built in scratch memory and copied (output): a packed record costs less than reserving room for the
// longest string.
const (
	maxInlineString = 32 // strings up to this size are sent as they are, longer ones as a tail
	ringNoWakeup    = 1  // BPF_RB_NO_WAKEUP
	ringForceWakeup = 2  // BPF_RB_FORCE_WAKEUP
	cutBit          = 1 << 31
)

// Sizes of the ring buffer. The kernel allocates and clears all of it when it is made (1 ms for 4 MiB), and mapped it counts as our memory, so a
// script gets no more than its events may need: 4 MiB take two ticks of a flood.
const (
	ringFew    = 128 << 10 // what a program that runs once sends outside of loops, and orders to ourselves (exit, print of a map)
	ringSeldom = 1 << 20   // from programs that run seldom, outside of loops
	ringEvents = 4 << 20
	ringHeader = 8 // the kernel's, of each record
)

// Item is a value to send: an expression, or an operand that exists already. Type nil means the type of the value.
type Item struct {
	Type *types.Type
	Expr ast.Expr
	Op   Operand
	// Fill writes a tail of at most Type.Size bytes itself and gives its length.
	Fill func(dst Place) *ir.Value
}

// Event sends a record with the values of expressions. ev gives Kind, Format, Map and Text; the rest is filled in.
func (g *Gen) Event(ev *object.Event, exprs ...ast.Expr) {
	items := make([]Item, len(exprs))
	for i, e := range exprs {
		items[i] = Item{Expr: e}
	}
	g.EventItems(ev, items...)
}

// EventValues sends a record with values that exist already.
func (g *Gen) EventValues(ev *object.Event, ops ...Operand) {
	items := make([]Item, len(ops))
	for i, o := range ops {
		items[i] = Item{Op: o}
	}
	g.EventItems(ev, items...)
}

// EventItems sends a record.
func (g *Gen) EventItems(ev *object.Event, items ...Item) {
	g.want = want{}
	tails := g.layout(ev, items)
	ev = g.u.event(ev, g.B.Span)
	g.u.ring(g.ringBytes(ev, tails))
	if tails == 0 && g.mayReserve() {
		g.sendFixed(ev, items)
		return
	}
	g.sendTails(ev, items, tails)
}

// maxReserved is how many records of a program older verifiers see reserved.
const maxReserved = 3

// mayReserve tells whether a record may be reserved. Before Linux 6.3 the verifier takes no two ways through a program for the same while a
// record is reserved, and where the next one is reserved soon it looks nowhere else: sixteen in a row are too much for it.
func (g *Gen) mayReserve() bool {
	if g.comparesReferences() {
		return true
	}
	g.reserved++
	return g.reserved <= maxReserved && len(g.rounds) == 0
}

// comparesReferences tells a verifier of Linux 6.3 or newer, by what came with 6.4.
func (g *Gen) comparesReferences() bool { return g.Target.Features.Has(target.IterNum) }

// ringBytes is how large the ring must be for an event at this place.
func (g *Gen) ringBytes(ev *object.Event, tails int) int {
	once := true
	for _, h := range g.prog.Hooks {
		switch h.Role {
		case object.RoleBegin, object.RoleEnd, object.RoleSignal:
		default:
			if once = false; !h.Seldom {
				return ringEvents
			}
		}
	}
	if len(g.fr.loops) > 0 || g.fr.outer != nil {
		return ringEvents
	}
	switch ev.Kind {
	case object.EvExit, object.EvTime, object.EvPrintMap, object.EvClear, object.EvZero:
		once = once || tails == 0
	default:
	}
	if g.u.sentOnce += ev.Size + tails + ringHeader; once && g.u.sentOnce <= ringFew/2 {
		return ringFew
	}
	if g.u.sentOnce <= ringSeldom/2 {
		return ringSeldom
	}
	return ringEvents
}

// layout places the fields and returns the room that the tails may take.
func (g *Gen) layout(ev *object.Event, items []Item) (tails int) {
	off := object.EventHeader
	for i := range items {
		it := &items[i]
		if it.Type == nil {
			it.Type = it.Op.Type
			if it.Expr != nil {
				it.Type = g.Type(it.Expr)
			}
		}
		if it.Type.Kind == types.Args {
			sized := *it.Type
			sized.Size = argsSize(it.Type)
			it.Type = &sized
		}
		switch it.Type.Kind { // read over all CPUs
		case types.Count, types.Sum, types.Min, types.Max, types.Avg:
			it.Type = types.IntOf(8, it.Type.Signed)
		}
		f := object.EventField{Type: it.Type}
		size, align := it.Type.Size, types.Align(it.Type)
		if (it.Type.Kind == types.String || it.Type.Kind == types.Buffer) && (it.Type.Size > maxInlineString || it.Fill != nil) {
			f.Tail, f.Cut = true, it.Type.Kind == types.String
			size, align = 4, 4
			tails += it.Type.Size + 1
		}
		align = min(max(align, 1), 8)
		off = (off + align - 1) / align * align
		f.Off = off
		off += size
		ev.Fields = append(ev.Fields, f)
	}
	ev.Size = (off + 7) / 8 * 8
	return tails
}

// values evaluates the scalars of the items, in order, and those large values that cannot be evaluated later.
func (g *Gen) values(items []Item) {
	for i := range items {
		it := &items[i]
		if it.Expr == nil {
			continue
		}
		switch {
		case it.Type.IsScalar():
			it.Op, it.Expr = Scalar(it.Type, g.asInt(g.Convert(g.Expr(it.Expr), it.Type).V)), nil
		case leavesEarly(it.Expr):
			p := g.TempOf(it.Type)
			g.Into(it.Expr, it.Type, p)
			it.Op, it.Expr = Operand{Type: it.Type, P: p}, nil
		}
	}
}

// leavesEarly reports whether evaluating e may leave the clause or run statements: not while a record is reserved.
func leavesEarly(e ast.Expr) bool {
	found := false
	inspect(e, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.BlockExpr, *ast.IfExpr:
			found = true
		}
		return !found
	})
	return found
}

// header writes the record's head, with the id of ev, or another one, and zeros between the fields.
func (g *Gen) header(ev *object.Event, id *ir.Value, p Place) {
	if id == nil {
		id = g.B.Const(int64(ev.ID))
	}
	g.B.Store(p.Ptr, int(p.Off), 8, id)
	end := object.EventHeader
	gap := func(to int) {
		if to > end {
			g.zero(p.At(end, to-end))
		}
	}
	for _, f := range ev.Fields {
		gap(f.Off)
		end = f.Off + f.Type.Size
		if f.Tail {
			end = f.Off + 4
		}
	}
	gap(ev.Size)
}

func (g *Gen) storeItem(p Place, f object.EventField, it Item) {
	dst := p.At(f.Off, f.Type.Size)
	if it.Expr != nil {
		g.Into(it.Expr, it.Type, dst)
		return
	}
	g.StoreValue(dst, it.Type, it.Op)
}

func (g *Gen) sendFixed(ev *object.Event, items []Item) {
	g.values(items)
	if !g.sendOutlined(ev, items) {
		g.sendReserved(ev, nil, func(rec Place) {
			for i, f := range ev.Fields {
				g.storeItem(rec, f, items[i])
			}
		})
	}
}

// sendReserved writes a record into the ring buffer; id is the number of another event of the same form, nil that
// of ev, and fill writes the fields.
func (g *Gen) sendReserved(ev *object.Event, id *ir.Value, fill func(rec Place)) {
	rec := g.B.Helper(asm.FnRingbufReserve, g.B.MapRef(ringMap), g.B.Const(int64(ev.Size)), g.B.Const(0))
	got, lost, end := g.B.NewBlock("reserved"), g.B.NewBlock("lost"), g.B.NewBlock("sent")
	lost.Cold = true
	g.B.Branch(ir.OpNe, rec, g.B.Const(0), got, lost)
	g.B.Seal(got)
	g.B.Seal(lost)
	g.B.SetBlock(got)
	rec = g.B.NonNil(rec)
	p := Place{Ptr: rec, Size: ev.Size, Space: types.SpaceBPF}
	g.scoped(func() {
		g.header(ev, id, p)
		fill(p)
		flags := g.wakeFlags(ev)
		v := g.B.Helper(asm.FnRingbufSubmit, rec, flags)
		v.Type = ir.Void
	})
	g.B.Jump(end)
	g.B.SetBlock(lost)
	g.B.Cold(func() { g.scoped(func() { g.Count(object.CounterLost) }) })
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
}

func (g *Gen) sendTails(ev *object.Event, items []Item, room int) {
	g.values(items)
	slot := g.takeRecord(ev.Size + room)
	base := g.B.SlotAddr(slot, 0)
	p := Place{Ptr: base, Size: ev.Size, Space: types.SpaceBPF}
	g.header(ev, nil, p)
	pos := g.B.Const(int64(ev.Size))
	for i, f := range ev.Fields {
		if !f.Tail {
			g.storeItem(p, f, items[i])
			continue
		}
		n, cut := g.tail(base, pos, items[i])
		word := n
		if cut != nil {
			word = g.B.Or(n, cut)
		}
		g.B.Store(base, f.Off, 4, word)
		pos = g.B.Add(pos, n)
	}
	flags := g.wakeFlags(ev)
	rc := g.B.Helper(asm.FnRingbufOutput, g.B.MapRef(ringMap), base, pos, flags)
	g.B.Unless(g.B.CmpImm(ir.OpEq, rc, 0), func() { g.scoped(func() { g.Count(object.CounterLost) }) })
	g.fr.records = append(g.fr.records, slot)
}

// takeRecord gives scratch memory to build a record in; an event in the argument of another needs a second one.
func (g *Gen) takeRecord(size int) *ir.Slot {
	size = (size + 7) / 8 * 8
	f := g.fr
	if n := len(f.records); n > 0 {
		s := f.records[n-1]
		f.records = f.records[:n-1]
		s.Size = max(s.Size, size)
		return s
	}
	s := g.B.NewSlot("record", size, 8)
	s.Class = ir.SlotScratch
	return s
}

// tail writes a string's or buffer's bytes at base+pos and gives their number and the cut bit.
func (g *Gen) tail(base, pos *ir.Value, it Item) (n, cut *ir.Value) {
	dst := Place{Ptr: base, Size: it.Type.Size + 1, Space: types.SpaceBPF}
	if pos.Op == ir.OpConst {
		dst.Off = int32(pos.Imm)
	} else {
		dst.Ptr = g.B.PtrAdd(base, pos)
	}
	o := it.Op
	if it.Fill != nil {
		return it.Fill(dst), nil
	}
	if it.Expr != nil {
		if c, ok := g.Body.Consts[it.Expr]; ok && c.IsString && it.Type.Kind == types.String {
			s := c.Str[:min(len(c.Str), it.Type.Size-1)]
			d := dst
			d.Size = len(s) + 1
			g.storeLiteral(d, s)
			return g.B.Const(int64(len(s))), nil
		}
		d := dst
		o = g.exprWant(it.Expr, want{dest: &d, str: true})
	}
	switch {
	case o.Len != nil && o.P.Ptr == dst.Ptr && o.P.Off == dst.Off:
		return o.Len, o.Cut
	case it.Type.Kind == types.Buffer:
		src, n := o.P, o.Len
		limit := it.Type.Size - 4
		if n == nil {
			n = g.B.Bound(g.LoadScalar(o.P.At(0, 4), types.TUint32), int64(limit))
			src = o.P.At(4, limit)
		}
		g.B.Helper(asm.FnProbeReadKernel, g.pointer(dst), n, g.Address(src))
		return n, nil
	}
	return g.ReadStr(dst, o.Type.Size, o.P), nil
}

// wakeFlags gives the flags of an event: wake the reader at most once in each tick and CPU.
func (g *Gen) wakeFlags(ev *object.Event) *ir.Value {
	if ev.Kind == object.EvExit {
		return g.B.Const(ringForceWakeup)
	}
	if !g.Target.Features.Has(target.Jiffies64) {
		return g.B.Const(0)
	}
	s := g.u.wakeLines()
	p := g.cpuLine(s)
	now := g.B.Helper(asm.FnJiffies64)
	flags := g.B.NewVar("flags", ir.I64)
	g.B.Set(flags, g.B.Const(ringNoWakeup))
	g.B.If(g.B.Cmp(ir.OpNe, g.B.Load(p, 0, 8, false), now), func() {
		g.B.Store(p, 0, 8, now)
		g.B.Set(flags, g.B.Const(ringForceWakeup))
	}, nil)
	return g.B.Get(flags)
}

// wakeLines is the place of each CPU's tick of the last wake-up.
func (u *Unit) wakeLines() *object.GlobalSlot {
	if u.wake == nil {
		u.wake = u.globalLines(8, false)
	}
	return u.wake
}

// ring declares the ring buffer, or makes it larger.
func (u *Unit) ring(size int) {
	if u.Opts.Ring > 0 {
		size = u.Opts.Ring
	} else if c := u.Info.Config; c != nil && c.PerfRBPages > 0 {
		size = c.PerfRBPages * max(u.Target.PageSize, 4096)
	}
	n := max(u.Target.PageSize, 4096)
	for n < size {
		n *= 2
	}
	m := u.addInternal(&object.Map{Name: ringMap, Role: object.MapRing, Type: ebpf.RingBuf, MaxEntries: n})
	m.MaxEntries = max(m.MaxEntries, n)
	u.Object.Config.RingBytes = m.MaxEntries
}

// event gives the number of a layout; equal layouts of the same place share one.
func (u *Unit) event(ev *object.Event, sp sourceSpan) *object.Event {
	ev.Span = sp
	var key strings.Builder
	fmt.Fprintf(&key, "%d|%q|%q|%q|%v|%d", ev.Kind, ev.Format, ev.Map, ev.Text, sp, ev.Size)
	for _, f := range ev.Fields {
		fmt.Fprintf(&key, "|%p %d %v", f.Type, f.Off, f.Tail)
	}
	if old := u.events[key.String()]; old != nil {
		return old
	}
	ev.ID = uint32(len(u.Object.Events))
	u.Object.Events = append(u.Object.Events, ev)
	u.events[key.String()] = ev
	return ev
}

func (g *Gen) warnDivision() {
	g.EventItems(&object.Event{
		Kind:   object.EvWarnf,
		Format: "Divide or modulo by 0 detected. This can lead to unexpected results. 1 is being used as the result.",
	})
}
