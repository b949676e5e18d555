package codegen_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/stdlib"
)

var (
	randomScripts = flag.Int("scripts", 12, "random scripts to compile, load and run")
	randomSeed    = flag.Uint64("seed", 1, "first seed of the random scripts")
)

// scriptGen writes random scripts that the checker accepts. All of a script's results are printed, so that two ways of running it
// can be compared; nothing in it depends on the machine.
type scriptGen struct {
	r     *rand.Rand
	sb    strings.Builder
	depth int
	ints  []string // scratch variables in scope
	strs  []string
	tups  []string
	n     int
	loops int
	maps  map[string]bool // maps that were stored to
}

func randomScript(seed uint64) string {
	g := &scriptGen{r: rand.New(rand.NewPCG(seed, 99)), maps: map[string]bool{}}
	g.sb.WriteString("begin {\n")
	g.sb.WriteString("@i = (int64)7; @u = (uint64)9; @k[1] = (int64)3; @k[2] = (int64)4; @s = \"some text here\"; @t[\"a\", 1] = (int64)5; @c = count(); @sum[1] = sum(4);\n")
	for range 4 + g.r.IntN(10) {
		g.stmt()
	}
	g.sb.WriteString("printf(\"%d %d %d %d %s %d %d %d\\n\", @i, @u, @k[1], @k[2], @s, @t[\"a\", 1], (int64)@c, (int64)@sum[1]);\n}\n")
	return g.sb.String()
}

func (g *scriptGen) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *scriptGen) name(prefix string) string {
	g.n++
	return fmt.Sprintf("$%s%d", prefix, g.n)
}

// int gives an integer expression.
func (g *scriptGen) int() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 4 || g.r.IntN(3) == 0 {
		switch g.r.IntN(7) {
		case 0, 1:
			return fmt.Sprint(g.r.IntN(100))
		case 2:
			return g.pick("@i", "@k[1]", "@k[2]", "@k[5]", "@t[\"a\", 1]")
		case 3:
			return "(int64)@c"
		case 4:
			return "(int64)@sum[1]"
		default:
			if len(g.ints) > 0 {
				return g.pick(g.ints...)
			}
			return "@i"
		}
	}
	switch g.r.IntN(16) {
	case 0, 1, 2, 3:
		return fmt.Sprintf("((int64)%s %s (int64)%s)", g.int(), g.pick("+", "-", "*", "&", "|", "^"), g.int())
	case 4:
		return fmt.Sprintf("((int64)%s %s %d)", g.int(), g.pick("/", "%"), 1+g.r.IntN(9))
	case 5:
		return fmt.Sprintf("((int64)%s %s %d)", g.int(), g.pick("<<", ">>"), g.r.IntN(20))
	case 6:
		return fmt.Sprintf("(%s ? (int64)%s : (int64)%s)", g.cond(), g.int(), g.int())
	case 7:
		return fmt.Sprintf("(int64)(%s)%s", g.pick("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64"), g.int())
	case 8:
		return fmt.Sprintf("(-(int64)%s)", g.int())
	case 9:
		return fmt.Sprintf("(~(int64)%s)", g.int())
	case 10:
		return fmt.Sprintf("(int64)(%s)", g.cond())
	case 11:
		return fmt.Sprintf("strlen(%s)", g.str())
	case 12:
		b := g.name("b")
		return fmt.Sprintf("({ let %s = (int64)%s; %s + 1 })", b, g.int(), b)
	case 13:
		return fmt.Sprintf("strstr(%s, %s)", g.str(), g.pick(`"e"`, `"tex"`, `"zz"`))
	case 14:
		if len(g.tups) > 0 {
			return g.pick(g.tups...) + ".0"
		}
		return "@i"
	}
	return fmt.Sprintf("@k[%s %% 3]", "(uint64)"+g.int())
}

func (g *scriptGen) cond() string {
	g.depth++
	defer func() { g.depth-- }()
	switch g.r.IntN(8) {
	case 0, 1, 2:
		return fmt.Sprintf("(int64)%s %s (int64)%s", g.int(), g.pick("<", ">", "<=", ">=", "==", "!="), g.int())
	case 3:
		return fmt.Sprintf("%s %s %s", g.str(), g.pick("==", "!="), g.str())
	case 4:
		if g.depth < 4 {
			return fmt.Sprintf("(%s) %s (%s)", g.cond(), g.pick("&&", "||"), g.cond())
		}
		return "@i"
	case 5:
		return fmt.Sprintf("!(%s)", g.int())
	case 6:
		return fmt.Sprintf("has_key(@k, %d)", g.r.IntN(4))
	}
	return fmt.Sprintf("strcontains(%s, %s)", g.str(), g.pick(`"te"`, `"x"`, `"here"`))
}

func (g *scriptGen) str() string {
	if len(g.strs) > 0 && g.r.IntN(2) == 0 {
		return g.pick(g.strs...)
	}
	switch g.r.IntN(3) {
	case 0:
		return "@s"
	case 1:
		return g.pick(`"text"`, `"some text here"`, `"a"`, `"0123456789012345678901234567890123456789"`)
	}
	if len(g.tups) > 0 {
		return g.pick(g.tups...) + ".1"
	}
	return `"te"`
}

func (g *scriptGen) block() {
	i, s, t := len(g.ints), len(g.strs), len(g.tups)
	g.depth++
	for range 1 + g.r.IntN(3) {
		g.stmt()
	}
	g.depth--
	g.ints, g.strs, g.tups = g.ints[:i], g.strs[:s], g.tups[:t]
}

func (g *scriptGen) stmt() {
	w := func(format string, args ...any) { fmt.Fprintf(&g.sb, format, args...) }
	n := g.r.IntN(20)
	if g.depth > 3 && n < 5 {
		n += 5
	}
	switch n {
	case 0:
		w("if (%s) {\n", g.cond())
		g.block()
		w("} else {\n")
		g.block()
		w("}\n")
	case 1:
		if g.loops >= 2 {
			g.stmt()
			return
		}
		g.loops++
		v := g.name("i")
		bounds := []string{"0..4", "2..9", "0..60", "0..(uint64)@u", "1..(uint64)(@k[1] & 15)"}
		w("for (%s : %s) {\n", v, g.pick(bounds...))
		g.ints = append(g.ints, "(int64)"+v)
		if g.r.IntN(3) == 0 {
			w("if (%s) { %s; }\n", g.cond(), g.pick("break", "continue"))
		}
		g.block()
		g.ints = g.ints[:len(g.ints)-1]
		w("}\n")
		g.loops--
	case 2:
		if g.loops >= 2 {
			g.stmt()
			return
		}
		g.loops++
		v := g.name("w")
		w("let %s = (int64)0;\nwhile (%s < %d) {\n%s++;\n", v, v, 1+g.r.IntN(12), v)
		g.block()
		w("}\n")
		g.loops--
	case 3:
		w("unroll (%d) {\n", 1+g.r.IntN(3))
		g.block()
		w("}\n")
	case 4:
		w("{\n")
		g.block()
		w("}\n")
	case 5, 6, 7:
		v, e := g.name("x"), g.int()
		w("let %s = (int64)%s;\n", v, e)
		g.ints = append(g.ints, v)
	case 8:
		v, e := g.name("s"), g.str()
		w("let %s = %s;\n", v, e)
		g.strs = append(g.strs, v)
	case 9:
		v, a, b := g.name("t"), g.int(), g.str()
		w("let %s = ((int64)%s, %s);\n", v, a, b)
		g.tups = append(g.tups, v)
	case 10:
		if len(g.ints) > 0 {
			if v := g.pick(g.ints...); strings.HasPrefix(v, "$x") {
				w("%s %s= (int64)%s;\n", v, g.pick("", "+", "-", "*", "^"), g.int())
				return
			}
		}
		w("@i++;\n")
	case 11:
		w("@i = (int64)%s;\n", g.int())
	case 12:
		w("@k[%s] = (int64)%s;\n", g.pick("1", "2", "3"), g.int())
	case 13:
		w("@k[%d] %s= (int64)%s;\n", g.r.IntN(4), g.pick("+", "-", "|"), g.int())
	case 14:
		w("@s = %s;\n", g.str())
	case 15:
		w("@t[%s, %d] = (int64)%s;\n", g.str(), g.r.IntN(2), g.int())
	case 16:
		w("@c = count();\n@sum[%d] = sum((int64)%s);\n", g.r.IntN(2), g.int())
	case 17:
		w("_ = delete(@k, %d);\n", g.r.IntN(4))
	case 18:
		w("printf(\"%%d %%s %%d\\n\", %s, %s, %s);\n", g.int(), g.str(), g.int())
	default:
		w("print((%s, %s));\n", "(int64)"+g.int(), g.str())
	}
}

// TestRandomScriptsInTheInterpreter checks that optimisation does not change what a script does.
func TestRandomScriptsInTheInterpreter(t *testing.T) {
	for i := range *randomScripts {
		seed := *randomSeed + uint64(i)
		text := randomScript(seed)
		info := tryCheck(text, stdlib.New(fixtureKinds()), &check.Env{Types: newFixture(), Arch: "amd64", CPUs: 2, NamedUsed: map[string]bool{}})
		if info == nil {
			continue
		}
		var results [2]string
		for j, noOpt := range []bool{true, false} {
			var m *ir.Module
			obj := compile(t, info, fixtureTarget(target.TaskBTF), codegen.Options{NoOpt: noOpt, Dump: func(_ string, d *ir.Module) { m = d }})
			results[j] = interpret(t, obj, m)
		}
		if results[0] != results[1] {
			t.Errorf("seed %d: optimised\n%s\nbut not optimised\n%s\n%s", seed, results[1], results[0], text)
		}
	}
}

// TestKernelRandomScripts loads and runs random scripts, in the form for the running kernel and in that for old ones, and compares what
// they print with the interpreter.
func TestKernelRandomScripts(t *testing.T) {
	h := openHost(t)
	ran := 0
	for i := range *randomScripts {
		seed := *randomSeed + uint64(i)
		text := randomScript(seed)
		info := tryCheck(text, h.reg, &check.Env{Types: h.machine.Types, Arch: h.kernel.Arch(), CPUs: h.machine.Target().CPUs, NamedUsed: map[string]bool{}, Machine: h.machine})
		if info == nil {
			continue
		}
		ran++
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var m *ir.Module
			ref := compile(t, fixtureInfo(t, text), fixtureTarget(target.TaskBTF), codegen.Options{NoOpt: true, Dump: func(_ string, d *ir.Module) { m = d }})
			want := interpret(t, ref, m)
			for _, without := range [][]target.Feature{nil, old} {
				tg := *h.machine.Target()
				if without != nil {
					tg.Features = target.AllBut(without...)
				}
				obj, err := codegen.Compile(info, &tg, codegen.Options{Verify: true})
				if err != nil {
					var list *diag.List
					if errors.As(err, &list) {
						t.Fatalf("refused: %s\n%s", messages(list), text)
					}
					t.Fatalf("%v\n%s", err, text)
				}
				var again func(budget int) *object.Object
				if !tg.Features.Has(target.BpfLoop) {
					again = func(budget int) *object.Object { return compile(t, info, &tg, codegen.Options{LoopBudget: budget}) }
				}
				got := h.runOr(t, obj, again)
				if !tg.Features.Has(target.BpfLoop) && strings.Contains(got, stoppedLoop) {
					continue // it said so
				}
				if got != want {
					t.Errorf("old code %v: got\n%swant\n%s%s", without != nil, got, want, text)
				}
				if t.Failed() {
					t.Log(text)
				}
			}
		})
	}
	if ran < *randomScripts*9/10 {
		t.Errorf("the checker refused %d of %d scripts", *randomScripts-ran, *randomScripts)
	}
}

// stoppedLoop is what the report says of loops that ran into a limit.
const stoppedLoop = "stopped by a limit"

// tryCheck checks a script; nil when it has errors.
func tryCheck(text string, reg check.Universe, env *check.Env) *check.Info {
	set := &source.Set{}
	diags := &diag.List{}
	script := syntax.Parse(set, set.Add("stdin", text), diags)
	env.ParseScript = func(f *source.File, d *diag.List) *ast.Script { return syntax.Parse(set, f, d) }
	env.ParseExpr = func(f *source.File) ast.Expr { return syntax.ParseExpr(f, &diag.List{}) }
	env.ParseC = stdlib.ParseC(set)
	info := check.Check(script, set, reg, env, diags)
	if diags.HasErrors() {
		lastRefusal = messages(diags) + text
		return nil
	}
	return info
}

// lastRefusal is why tryCheck last said no, to look at with a debugger or a print.
var lastRefusal string
