package stdlib

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// mapOf returns the map that is argument i as a whole, nil when it is something else.
func mapOf(c *check.Call, i int) *check.Map {
	if i >= len(c.Args) {
		return nil
	}
	if ref, ok := c.Args[i].(*ast.MapRef); ok {
		return c.Info.Maps[ref.Name]
	}
	return nil
}

func mapFuncs() []Builtin {
	return []Builtin{
		{
			Name: "clear", Doc: Doc{
				Group: "map", Summary: "remove all entries of a map",
				Text:    "User space removes the entries when it gets to it, after everything that was printed before.",
				Example: "interval:s:1 { @[comm] = count(); print(@); clear(@); exit(); }", SeeAlso: []string{"zero", "delete"},
			},
			Func: &check.Func{Params: params(req("map", check.MapArg)), Effects: []check.Effect{check.EffectClear}},
		},
		{
			Name: "zero", Doc: Doc{
				Group: "map", Summary: "set all values of a map to zero",
				Text:    "The keys stay. User space does it when it gets to it.",
				Example: "interval:s:1 { @[comm] = count(); print(@); zero(@); exit(); }", SeeAlso: []string{"clear"},
			},
			Func: &check.Func{Params: params(req("map", check.MapArg)), Effects: []check.Effect{check.EffectClear}},
		},
		{
			Name: "delete", Doc: Doc{
				Group: "map", Summary: "remove one entry of a map",
				Text: "Removes the entry with a key; several keys are given as a tuple: `delete(@m, (1, \"a\"))`. A map without keys is cleared by `delete(@m)`. The result is false when there was no such " +
					"entry. The old form `delete(@m[key])` works too.",
				Example: "BEGIN { @[1] = 1; delete(@, 1); }", SeeAlso: []string{"clear", "has_key"},
			},
			Func: &check.Func{Macro: true, Params: params(req("map", check.MapOrKey), opt("key", check.MapKey)), Effects: []check.Effect{check.EffectDelete}, Result: deleteResult},
		},
		{
			Name: "has_key", Doc: Doc{
				Group: "map", Summary: "whether a map has a key",
				Text:    "True when an entry with the key exists, whatever its value. Several keys are given as a tuple.",
				Example: "BEGIN { @[1] = 0; if (has_key(@, 1)) { print(\"yes\"); } }", SeeAlso: []string{"find", "delete"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("map", check.MapArg), req("key", check.MapKey)), Effects: []check.Effect{check.EffectRead}, Result: func(c *check.Call) *types.Type {
				if !keyed(c) {
					return types.TInvalid
				}
				return types.TBool
			}},
		},
		{
			Name: "find", Doc: Doc{
				Group: "map", Summary: "look a key up and get its value",
				Text:    "Stores the value that belongs to the key in a scratch variable and returns true, or returns false and leaves the variable alone. It is one look-up where `has_key` and a read are two.",
				Example: "BEGIN { @[2] = 7; let $v; if (find(@, 2, $v)) { print($v); } }", SeeAlso: []string{"has_key"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("map", check.MapArg), req("key", check.MapKey), req("value", check.VarArg)), Effects: []check.Effect{check.EffectRead}, Result: func(c *check.Call) *types.Type {
				if !keyed(c) {
					return types.TInvalid
				}
				return types.TBool
			}},
		},
		{
			Name: "len", Doc: Doc{
				Group: "map", Summary: "number of entries of a map, or of frames of a stack",
				Text:    "For a map the number of its entries; for a stack the number of its frames.",
				Example: "BEGIN { @[1] = 1; print(len(@)); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("value", check.MapOrValue)), Effects: []check.Effect{check.EffectLen}, Result: func(c *check.Call) *types.Type {
				if m := mapOf(c, 0); m != nil && !m.Keyed {
					keyed(c)
					return types.TInvalid
				}
				if t := c.Type(0); t.Kind != types.MapKind && !t.IsStack() {
					return argError(c, "call to len() expects a map, ustack, or kstack")
				}
				return types.TInt64
			}},
		},
	}
}

// keyed reports a map without keys.
func keyed(c *check.Call) bool {
	m := mapOf(c, 0)
	if m == nil || m.Keyed {
		return m != nil
	}
	what := c.Node.Func + "()"
	if c.Node.Func == "delete" {
		what += " with two arguments"
	}
	c.Diags.Errorf(check.CodeMapExpected, c.Node.Sp, "call to %s expects a map with explicit keys (non-scalar map)", what).Hint("`%s` has no keys", m.Name)
	return false
}

func deleteResult(c *check.Call) *types.Type {
	_, isIndex := c.Args[0].(*ast.Index)
	switch {
	case isIndex && len(c.Args) == 2:
		c.Diags.Errorf(check.CodeMapExpected, c.Node.Sp, "Call to delete() has arguments that do not match any definition.").Hint("write `delete(@map, key)`")
		return types.TInvalid
	case isIndex: // the old form, which most public scripts use
	case len(c.Args) == 2:
		if !keyed(c) {
			return types.TInvalid
		}
	default:
		if m := mapOf(c, 0); m != nil && m.Keyed {
			c.Diags.Errorf(check.CodeMapExpected, c.Node.Sp, "call to delete() with a single argument expects a map without explicit keys (scalar map)").Hint("`%s` has keys: use `clear(%s)` to remove all entries", m.Name, m.Name)
			return types.TInvalid
		}
	}
	return types.TBool
}
