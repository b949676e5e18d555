package lower

import (
	"fmt"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
)

// Where a program does the same to one map, or sends a record of one form, very often, that becomes a function of integers. The verifier checks
// such a function once, however many calls there are (it takes no more than 8192 branches on one way through a program), and compiling
// a call takes a tenth of the time.
const (
	outlineFrom = 65 // from that time on; ordinary scripts have less
	// outlineCalls is how many calls a function gets: each has a word for its last failure.
	outlineCalls = 1024
)

// outline is one such function, and the times that it was not one.
type outline struct {
	times int
	f     *ir.Func
	calls int
	notes bool // it may note failures
	// Where the function's calls note failures: of which helper, in words of the globals from off on. helper is empty when nothing can fail.
	helper string
	off    int
}

// spare is the number of parameters that a function keeps for itself: the number of the call, where it may note a failure.
func (o *outline) spare() int {
	if o.notes {
		return 1
	}
	return 0
}

// outlines tells whether something that takes args integers is to become a call, and gives its function. shape says all that the code depends on
// beside these: what is done, the map, types. notes tells whether it may fail in a way that is reported.
func (g *Gen) outlines(shape string, args int, notes bool) *outline {
	from := g.u.Opts.OutlineFrom
	if from == 0 {
		from = outlineFrom
	}
	// With -k each failure is an event of its place in the script. Callbacks have little stack left for one more function.
	if from < 0 || g.u.Opts.HelperErrors || g.fr.cb != nil {
		return nil
	}
	o := g.outlined[shape]
	if o == nil {
		o = &outline{notes: notes}
		if g.outlined == nil {
			g.outlined = map[string]*outline{}
		}
		g.outlined[shape] = o
	}
	if o.times++; o.times < from || args+o.spare() > ir.MaxArgs {
		return nil
	}
	if o.calls == outlineCalls && notes {
		*o = outline{times: o.times, notes: notes}
	}
	if o.f == nil && len(g.module.Funcs) > maxGlobals {
		return nil
	}
	return o
}

// callOutline calls an outlined function, which is made by body when there is none.
func (g *Gen) callOutline(o *outline, args []*ir.Value, body func(args []*ir.Value)) {
	if o.f == nil {
		g.makeOutline(o, len(args), body)
	}
	if o.helper != "" {
		g.u.Object.Failures = append(g.u.Object.Failures, object.Failure{Off: o.off + 8*o.calls, Helper: o.helper, Span: g.B.Span})
	}
	if o.notes {
		args = append(args[:len(args):len(args)], g.B.Const(int64(o.calls)))
	}
	g.B.Call(o.f, args...)
	o.calls++
}

func (g *Gen) makeOutline(o *outline, args int, body func(args []*ir.Value)) {
	params := make([]ir.Type, args+o.spare())
	for i := range params {
		params[i] = ir.I64
	}
	o.f = ir.NewFunc(fmt.Sprintf("%s_again%d", g.prog.Name, len(g.module.Funcs)), ir.Subprog, params...)
	g.module.Funcs = append(g.module.Funcs, o.f)
	outerB, outerFr := g.B, g.fr
	g.B = ir.NewBuilder(o.f)
	g.B.Span = outerB.Span
	g.fr = newFrame(g.B, nil)
	g.fr.outline = o
	in := make([]*ir.Value, args)
	for i := range in {
		in[i] = g.B.Param(i)
	}
	body(in)
	g.B.ReturnConst(0)
	if err := g.B.Finish(); err != nil {
		panic(err.Error())
	}
	g.B, g.fr = outerB, outerFr
}

// note keeps a failure for the call of an outlined function that is running.
func (o *outline) note(g *Gen, rc *ir.Value, helper string) {
	if o.helper == "" && o.notes {
		o.helper, o.off = helper, g.u.global(8*outlineCalls, 8)
	}
	if o.helper != helper {
		panic("lower: an outlined function has one helper that may fail")
	}
	call := g.B.Bound(g.B.Param(len(o.f.Blocks[0].Params)-1), outlineCalls-1)
	g.B.Store(g.B.PtrAdd(g.B.MapValAddr(object.GlobalsMap, o.off), g.scale(call, 8)), 0, 8, rc)
}

// withKey does something with a key of a map, and with integers, of which code may be shared with others of its kind.
func (g *Gen) withKey(what string, m *Map, key func() Place, args []*ir.Value, do func(key func() Place, args []*ir.Value)) {
	size := scalarKey
	switch {
	case m.plan.store == storeLines:
		size = 0
	case m.Key != nil:
		size = m.Key.Size
	}
	words := wordsOf(size)
	o := g.outlines(what+m.Name, len(args)+len(words), size > 0)
	if o == nil {
		do(key, args)
		return
	}
	in := args[:len(args):len(args)]
	if size > 0 {
		in = append(in, g.loads(key())...)
	}
	g.callOutline(o, in, func(in []*ir.Value) {
		do(func() Place {
			k := g.Temp("key", size)
			k.Size = size
			g.stores(k, words, in[len(args):])
			return k
		}, in[:len(args)])
	})
}

// wordsOf are the pieces of size bytes that a load reads.
func wordsOf(size int) []Place {
	var words []Place
	off := 0
	for n := 8; n > 0; n /= 2 {
		for ; size-off >= n; off += n {
			words = append(words, Place{Off: int32(off), Size: n})
		}
	}
	return words
}

// loads gives the pieces of memory.
func (g *Gen) loads(p Place) []*ir.Value {
	var out []*ir.Value
	for _, w := range wordsOf(p.Size) {
		out = append(out, g.B.Load(p.Ptr, int(p.Off+w.Off), w.Size, false))
	}
	return out
}

// stores writes pieces at p.
func (g *Gen) stores(p Place, words []Place, values []*ir.Value) {
	for i, w := range words {
		g.B.Store(p.Ptr, int(p.Off+w.Off), w.Size, values[i])
	}
}

// sendOutlined sends a record of a few words by a call, and reports whether it did.
func (g *Gen) sendOutlined(ev *object.Event, items []Item) bool {
	if ev.Kind == object.EvExit || !g.comparesReferences() {
		return false
	}
	shape := fmt.Sprint("send ", ev.Size)
	var parts []Place // of the record
	for i, it := range items {
		for _, w := range wordsOf(it.Type.Size) {
			w.Off += int32(ev.Fields[i].Off)
			parts = append(parts, w)
		}
		shape += fmt.Sprint(" ", ev.Fields[i].Off, " ", it.Type.Size)
	}
	o := g.outlines(shape, 1+len(parts), false)
	if o == nil {
		return false
	}
	args := []*ir.Value{g.B.Const(int64(ev.ID))}
	for _, it := range items {
		if it.Type.IsScalar() && it.Expr == nil {
			args = append(args, g.asInt(g.Convert(it.Op, it.Type).V))
			continue
		}
		p := g.TempOf(it.Type)
		g.storeItem(p, object.EventField{Type: it.Type}, it)
		args = append(args, g.loads(p)...)
	}
	g.callOutline(o, args, func(in []*ir.Value) {
		g.sendReserved(ev, in[0], func(rec Place) { g.stores(rec, parts, in[1:]) })
	})
	return true
}
