package value

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

type fakeResolver struct{}

func (fakeResolver) KernelSymbol(addr uint64, off bool) string           { return "ksym" }
func (fakeResolver) UserSymbol(pid uint32, addr uint64, off bool) string { return "usym" }
func (fakeResolver) Stack(t *types.Type, id uint64, indent int) string   { return "\n        f+1\n" }
func (fakeResolver) Username(uid uint32) string                          { return "root" }
func (fakeResolver) WallTime(mode string, ns uint64) time.Time           { return time.Unix(0, int64(ns)).UTC() }
func (fakeResolver) CgroupPath(id uint64, filter string) string          { return "unified:/x" }
func (fakeResolver) ProbeName(i uint64) string                           { return "BEGIN" }
func (fakeResolver) FuncName(i uint64) string                            { return "main" }
func (fakeResolver) SyscallName(nr int64) string                         { return "read" }

var dec = &Decoder{R: fakeResolver{}, Trailer: "..", Indent: 8}

func words(ws ...uint64) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return b
}

func TestValueTextAndJSON(t *testing.T) {
	tuple := types.TupleOf([]*types.Type{types.TInt64, types.StringOf(8), types.TupleOf([]*types.Type{types.TUint8, types.TUint8}, nil)}, nil)
	tb := append(words(^uint64(0)), "abc\x00\x00\x00\x00\x00"...)
	tb = append(tb, 2, 3, 0, 0, 0, 0, 0, 0)
	enum := &types.Type{Kind: types.Enum, Size: 4, Enum: &types.EnumDef{Name: "e", Values: []types.EnumValue{{Name: "A", Value: 3}}}}
	for _, c := range []struct {
		name string
		typ  *types.Type
		b    []byte
		text string
		json string
	}{
		{"signed", types.TInt8, []byte{0xff}, "-1", "-1"},
		{"unsigned", types.TUint8, []byte{0xff}, "255", "255"},
		{"too large for a double", types.TUint64, words(1<<63 + 1), "9223372036854775809", `"9223372036854775809"`},
		{"bool", types.TBool, []byte{1}, "true", "true"},
		{"tuple", tuple, tb, "(-1, abc, (2, 3))", `[-1,"abc",[2,3]]`},
		{"array", types.ArrayOf(types.TUint8, 3), []byte{1, 2, 3}, "[1,2,3]", "[1,2,3]"},
		{"cut string", types.StringOf(3), []byte("abc"), "abc..", `"abc.."`},
		{"enum", enum, []byte{3, 0, 0, 0}, "A", "3"},
		{"pointer", types.PointerTo(types.TInt8, 0, 0), words(0xff), "0xff", "255"},
		{"buffer", types.BufferOf(3), []byte{3, 0, 0, 0, 'a', 0, 0xff}, `a\x00\xff`, "[97,0,-1]"},
		{"ipv4", &types.Type{Kind: types.Inet, Size: 24}, append(words(2), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "127.0.0.1", `"127.0.0.1"`},
		{"mac", &types.Type{Kind: types.Mac, Size: 6}, []byte{0x18, 0xc0, 0, 1, 2, 3}, "18:C0:00:01:02:03", `"18:C0:00:01:02:03"`},
		{"record", types.TupleOf([]*types.Type{types.TUint8, types.TUint8}, []string{"a", "b"}), []byte{1, 2}, "{ .a = 1, .b = 2 }", `{"a": 1, "b": 2}`},
	} {
		v := dec.Value(c.typ, c.b)
		if got := Text(v); got != c.text {
			t.Errorf("%s: text %q, want %q", c.name, got, c.text)
		}
		if got := string(AppendJSON(nil, v)); got != c.json {
			t.Errorf("%s: JSON %q, want %q", c.name, got, c.json)
		}
	}
}

func TestPrintf(t *testing.T) {
	i := func(v int64) V { return V{Kind: Int, Int: v} }
	u := func(v uint64) V { return V{Kind: Uint, U: v} }
	s := func(v string) V { return V{Kind: Str, S: v} }
	for _, c := range []struct {
		format string
		args   []V
		want   string
	}{
		{"%d %u\n", []V{i(-1), u(5)}, "-1 5\n"},
		{"%5d|%-5d|%05d|%+d", []V{i(1), i(2), i(-3), i(4)}, "    1|2    |-0003|+4"},
		{"%x %X %#x %o %#o", []V{u(255), u(255), u(255), u(8), u(8)}, "ff FF 0xff 10 010"},
		{"%s|%5s|%-5s|%.2s", []V{s("a"), s("b"), s("c"), s("defg")}, "a|    b|c    |de"},
		{"%c%%%c", []V{u(65), u(66)}, "A%B"},
		{"%hhd %hd %lld %hhu", []V{i(300), i(70000), i(-7), i(-1)}, "44 4464 -7 255"},
		{"%p", []V{u(4096)}, "0x1000"},
		{"%r|%rx|%rh", []V{{Kind: Buf, S: "a\x01"}, {Kind: Buf, S: "a\x01"}, {Kind: Buf, S: "a\x01"}}, `a\x01|\x61\x01|61 01`},
		{"%6.3d|%d", []V{i(5), {Kind: Sym, S: "A", U: 3}}, "   005|3"},
		{"%d", []V{u(1 << 63)}, "-9223372036854775808"},
		{"%x %X %o %u %lx", []V{i(-1), i(-2), i(-1), i(-1), i(-1)}, "ffffffff FFFFFFFE 37777777777 4294967295 ffffffffffffffff"},
		{"%x %u", []V{i(-1 << 40), u(1<<64 - 1)}, "ffffff0000000000 18446744073709551615"},
		{"100%\n|%y|%gx|%", nil, "100%\n|%y|%gx|%"},
		{"%gr|%gr|%gr", []V{u(0xcc0), u(0), u(0x8000000)}, "GFP_KERNEL|0|0x8000000"},
		{"%gr|%gr", []V{u(0x100cca), u(0x2100ccb)}, "GFP_HIGHUSER_MOVABLE|GFP_HIGHUSER_MOVABLE|GFP_DMA"},
	} {
		f := ParseFormat(c.format)
		if got := string(f.Append(nil, c.args)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.format, got, c.want)
		}
	}
}

func TestLog2Histogram(t *testing.T) {
	typ := &types.Type{Kind: types.Hist}
	b := make([]byte, object.AggSize(typ))
	for _, v := range []int64{-5, 0, 1, 2, 3, 1000, 5 << 20} {
		b[8*object.HistIndex(v, 0)]++
	}
	m := &Dump{Name: "@h", Value: typ, N: 1, Values: b, ValueSize: len(b), Copies: 1, Stride: len(b)}
	got := string(dec.AppendMap(nil, m, 0, 0))
	for _, want := range []string{
		"@h:\n(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |\n",
		"[0]                    1 |", "[1]                    1 |", "[2, 4)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n",
		"[512, 1K)              1 |", "[4M, 8M)               1 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	js := string(dec.AppendMapJSON(nil, m, 0, 0))
	if !strings.HasPrefix(js, `{"type": "hist", "data": {"@h": [{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 1},`) {
		t.Errorf("JSON: %s", js)
	}
}

func TestLinearHistogram(t *testing.T) {
	typ := &types.Type{Kind: types.LHist, Lo: 0, Hi: 10, Step: 2}
	b := make([]byte, object.AggSize(typ))
	for _, v := range []int64{-1, 5, 100} {
		b[8*object.LHistIndex(v, typ)]++
	}
	m := &Dump{Name: "@", Value: typ, N: 1, Values: b, ValueSize: len(b), Copies: 1, Stride: len(b)}
	got := string(dec.AppendMap(nil, m, 0, 0))
	for _, want := range []string{"(..., 0)  ", "[4, 6)  ", "[10, ...)  "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestMapOrderTopAndDiv(t *testing.T) {
	m := &Dump{
		Name: "@", Key: types.TInt64, Value: &types.Type{Kind: types.Count, Size: 8}, N: 3, KeySize: 8, ValueSize: 16, Copies: 2, Stride: 8,
		Keys: words(1, 2, 3), Values: words(5, 5, 1, 0, 7, 0),
	}
	if got, want := string(dec.AppendMap(nil, m, 0, 0)), "@[2]: 1\n@[3]: 7\n@[1]: 10\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(dec.AppendMap(nil, m, 2, 2)), "@[3]: 3\n@[1]: 5\n"; got != want {
		t.Errorf("top 2, div 2: got %q, want %q", got, want)
	}
	if got, want := string(dec.AppendMapJSON(nil, m, 0, 0)), `{"type": "map", "data": {"@": {"2": 1, "3": 7, "1": 10}}}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAggregations(t *testing.T) {
	one := func(k types.Kind, signed bool, vals ...uint64) string {
		m := &Dump{Name: "@", Value: &types.Type{Kind: k, Signed: signed}, N: 1, Copies: 2, Stride: 16, ValueSize: 32, Values: words(vals...)}
		return string(dec.AppendMap(nil, m, 0, 0))
	}
	neg := ^uint64(0) - 4 // -5
	for _, c := range []struct{ got, want string }{
		{one(types.Min, true, neg, 1, 3, 1), "@: -5\n"},
		{one(types.Max, true, neg, 1, 0, 0), "@: -5\n"},
		{one(types.Max, false, 9, 1, 3, 1), "@: 9\n"},
		{one(types.Avg, true, 10, 2, 5, 1), "@: 5\n"},
		{one(types.Stats, true, 10, 2, 5, 1), "@: { .count = 3, .average = 5, .total = 15 }\n"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89012345, time.UTC)
	for f, want := range map[string]string{
		"%H:%M:%S": "05:06:07", "%Y-%m-%d": "2026-03-04", "%f": "089012", "%j %u %a %b %e": "063 3 Wed Mar  4", "%-d %I%p %%": "4 05AM %", "%T.%N": "05:06:07.089012345",
	} {
		if got := Strftime(f, at); got != want {
			t.Errorf("%s: %q, want %q", f, got, want)
		}
	}
}
