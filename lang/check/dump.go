package check

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// Dump renders a checked script, as `sonde -d checked` prints it: maps with their types, then for each body its attach points and the type
// of each expression, indented by depth.
func Dump(info *Info) string {
	var b strings.Builder
	for _, name := range info.Order {
		m := info.Maps[name]
		key := ""
		if m.Key != nil {
			key = "[" + m.Key.String() + "]"
		}
		fmt.Fprintf(&b, "map %s%s : %s%s\n", name, key, m.Value, where(m.Value))
	}
	for _, body := range info.Bodies {
		b.WriteByte('\n')
		for _, p := range body.Points {
			fmt.Fprintf(&b, "point %s\n", p.Name)
		}
		d := dumper{b: &b, body: body}
		if body.Predicate != nil {
			b.WriteString("predicate\n")
			d.node(body.Predicate, 1)
		}
		if body.Block != nil {
			b.WriteString("body\n")
			d.children(body.Block, 1)
		}
	}
	return b.String()
}

type dumper struct {
	b    *strings.Builder
	body *Body
}

func (d *dumper) node(n ast.Node, depth int) {
	pad := strings.Repeat("  ", depth)
	x, ok := n.(ast.Expr)
	if !ok {
		fmt.Fprintf(d.b, "%s%s\n", pad, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", n), "*ast.")))
		d.children(n, depth+1)
		return
	}
	text := strings.Join(strings.Fields(ast.ExprString(x)), " ")
	fmt.Fprintf(d.b, "%s%s : %s%s", pad, text, d.body.Types[x], where(d.body.Types[x]))
	if c, ok := d.body.Consts[x]; ok {
		if c.IsString {
			fmt.Fprintf(d.b, " = %q", c.Str)
		} else {
			fmt.Fprintf(d.b, " = %d", c.Int)
		}
	}
	d.b.WriteByte('\n')
	d.children(n, depth+1)
}

// children visits the nodes directly below n.
func (d *dumper) children(n ast.Node, depth int) {
	top := true
	ast.Inspect(n, func(c ast.Node) bool {
		if c == nil {
			return false
		}
		if top {
			top = false
			return true
		}
		d.node(c, depth)
		return false
	})
}

// where tells the address space of a pointer and what the verifier knows of it.
func where(t *types.Type) string {
	if t == nil || t.Kind != types.Pointer {
		return ""
	}
	space := [...]string{types.SpaceNone: "?", types.SpaceKernel: "kernel", types.SpaceUser: "user", types.SpaceBPF: "own"}[t.Space]
	prov := [...]string{types.ProvRaw: "", types.ProvCtx: " context", types.ProvBTF: " trusted", types.ProvBPF: ""}[t.Prov]
	return " (" + space + prov + ")"
}
