package scriptgen

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// function picks a function that gives what matches.
func (w *writer) function(match func(*types.Type) bool) (fn, bool) {
	var list []fn
	for _, f := range w.g.funcs {
		if match(f.result) {
			list = append(list, f)
		}
	}
	for _, f := range w.g.vars {
		if match(f.result) {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return fn{}, false
	}
	return pick(w, list), true
}

// call writes a call of a function, or a variable.
func (w *writer) call(f fn) string {
	if f.params == nil && f.result != nil {
		for _, v := range w.g.vars {
			if v.name == f.name {
				return f.name
			}
		}
	}
	var args []string
	for i, p := range f.params {
		if p.Optional && w.chance(50) || p.Variadic {
			break
		}
		args = append(args, w.argument(f.name, i, p))
	}
	return f.name + "(" + strings.Join(args, ", ") + ")"
}

// argument is an argument of a parameter's class. Where the class says little, the function's name helps.
func (w *writer) argument(name string, i int, p check.Param) string {
	if len(p.Words) > 0 && (p.Class == check.Word || w.chance(60)) {
		return pick(w, p.Words)
	}
	d := 2
	switch p.Class {
	case check.Integer, check.Number:
		return w.integer(d)
	case check.IntLiteral:
		return pick(w, []string{"1", "2", "3", "8", "16", "20"})
	case check.StrLiteral:
		switch name {
		case "strftime":
			return `"%H:%M:%S"`
		case "pton":
			return pick(w, []string{`"127.0.0.1"`, `"::1"`})
		case "reg":
			return pick(w, []string{`"ip"`, `"sp"`, `"di"`})
		case "kaddr":
			return `"jiffies"`
		case "cgroupid", "cgroup_path":
			return `"/sys/fs/cgroup"`
		case "globmatch":
			return pick(w, []string{`"a*"`, `"*b"`, `"*"`, `"a?c"`, `"ab*c*d"`, `"*x*"`})
		}
		return w.quoted()
	case check.StringLike:
		return w.text(d)
	case check.Address:
		return w.pointer()
	case check.TypeOrValue:
		if w.chance(30) {
			return pick(w, ints).String()
		}
		e, _ := w.any(1)
		return e
	case check.AnyArg:
		switch name {
		case "strcontains", "strstr", "strncmp", "globmatch":
			return w.text(d)
		case "str", "buf":
			if w.chance(30) || w.g.cfg.Deterministic {
				if name == "str" {
					return w.text(0)
				}
				return w.of(types.ArrayOf(types.TInt8, 8), 1)
			}
			return w.pointer()
		case "macaddr":
			return w.of(types.ArrayOf(types.TUint8, 8), 1)
		case "pcomm", "ppid", "leader_comm", "leader_tid":
			return "curtask"
		case "ntop":
			if i == 0 && w.chance(20) {
				return "2"
			}
			if w.chance(30) {
				return `pton("10.1.2.3")`
			}
			return "(uint32)(" + w.integer(1) + ")"
		case "bswap":
			return w.of(pick(w, ints), 2)
		}
		if w.chance(50) {
			return w.integer(d)
		}
		e, _ := w.any(1)
		return e
	}
	e, _ := w.any(1)
	return e
}

// pointer is an address.
func (w *writer) pointer() string {
	if e, _ := w.member(func(t *types.Type) bool { return t.Kind == types.Pointer }); e != "" && w.chance(70) {
		return e
	}
	if w.site != nil && w.site.nargs > 0 && w.chance(50) {
		return fmt.Sprintf("arg%d", w.r.Intn(w.site.nargs))
	}
	return pick(w, []string{"(uint8 *)0", "curtask", "(int8 *)" + w.unsigned(), `kaddr("jiffies")`, w.integer(1)})
}

// member walks from args, retval or the current task to a member that matches.
func (w *writer) member(match func(*types.Type) bool) (string, *types.Type) {
	if w.g.cfg.Deterministic || w.site == nil {
		return "", nil
	}
	for range 6 {
		var text string
		var t *types.Type
		switch n := w.r.Intn(4); {
		case n == 0 || w.site.args == nil && w.site.retval == nil && w.site.nargs <= 0:
			for _, v := range w.g.vars {
				if v.name == "curtask" {
					text, t = v.name, v.result
				}
			}
		case w.site.args != nil && (n < 3 || w.site.retval == nil):
			text, t = "args", w.site.args
		case w.site.retval != nil:
			text, t = "retval", w.site.retval
		default:
			text, t = fmt.Sprintf("arg%d", w.r.Intn(w.site.nargs)), types.TUint64
		}
		for steps := 0; t != nil && steps < 6; steps++ {
			done := steps > 0 || t.Kind != types.Args
			if char := t; done && match(t) && usable(char) && (w.chance(60) || isInt(t)) {
				return text, t
			}
			var def *types.StructDef
			switch {
			case t.Kind == types.Struct || t.Kind == types.Args:
				def = t.Struct
			case t.Kind == types.Pointer && t.Elem != nil && t.Elem.Kind == types.Struct:
				def = t.Elem.Struct
			case t.Kind == types.Array && t.Len > 0 && t.Elem != nil:
				if t.Elem.Kind == types.Int && t.Elem.Size == 1 && match(types.StringOf(t.Len)) {
					return text, types.StringOf(t.Len)
				}
				text, t = fmt.Sprintf("%s[%d]", text, w.r.Intn(t.Len)), t.Elem
				continue
			}
			if def == nil || def.Resolve == nil {
				break
			}
			fields := def.Resolve()
			if len(fields) == 0 {
				break
			}
			f := fields[w.r.Intn(len(fields))]
			if f.Name == "" {
				if f.Type.Kind != types.Struct {
					break
				}
				t = f.Type
				continue
			}
			sep := "."
			if t.Kind == types.Pointer && w.chance(50) {
				sep = "->"
			}
			text, t = text+sep+f.Name, f.Type
		}
	}
	return "", nil
}

func usable(t *types.Type) bool {
	return t.Kind != types.Void && t.Kind != types.Invalid && (t.Kind == types.Pointer || t.Size > 0)
}
