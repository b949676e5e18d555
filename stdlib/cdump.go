package stdlib

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// cDefinition writes a struct, union or enum as C would define it, indented with tabs, ending in "};" and a line end.
func cDefinition(b *kernel.BTF, id kernel.ID) string {
	t, err := b.Type(id)
	if err != nil {
		return ""
	}
	var s strings.Builder
	dumpBody(&s, b, t, 0, 16)
	s.WriteString(";\n")
	return s.String()
}

// dumpBody writes "struct name { ... }". depth bounds anonymous structs inside each other, which malformed BTF may nest without end.
func dumpBody(s *strings.Builder, b *kernel.BTF, t kernel.Type, indent, depth int) {
	head := map[kernel.Kind]string{kernel.KindStruct: "struct", kernel.KindUnion: "union", kernel.KindEnum: "enum", kernel.KindEnum64: "enum"}[t.Kind]
	s.WriteString(head)
	if t.Name != "" {
		s.WriteString(" " + t.Name)
	}
	s.WriteString(" {\n")
	tabs := strings.Repeat("\t", indent+1)
	for _, e := range t.Enumerators() {
		if t.Signed() {
			fmt.Fprintf(s, "%s%s = %d,\n", tabs, e.Name, int64(e.Value))
		} else {
			fmt.Fprintf(s, "%s%s = %d,\n", tabs, e.Name, e.Value)
		}
	}
	for _, m := range t.Members() {
		s.WriteString(tabs)
		dumpMember(s, b, m, indent+1, depth-1)
		s.WriteString(";\n")
	}
	s.WriteString(strings.Repeat("\t", indent) + "}")
}

func dumpMember(s *strings.Builder, b *kernel.BTF, m kernel.Member, indent, depth int) {
	// Dimensions and the pointers between them and an anonymous struct stay around the name.
	name, id := m.Name, m.Type
	for range 32 {
		t, err := b.Type(id)
		if err != nil {
			break
		}
		switch t.Kind {
		case kernel.KindArray:
			name += fmt.Sprintf("[%d]", t.Len())
			id = t.Ref
			continue
		case kernel.KindPtr:
			if in, err := b.Strip(t.Ref); err == nil && in.Kind == kernel.KindFuncProto {
				s.WriteString(functionPointer(b, in, name))
				return
			}
			name = "*" + name
			id = t.Ref
			continue
		case kernel.KindStruct, kernel.KindUnion, kernel.KindEnum, kernel.KindEnum64:
			if t.Name == "" && depth > 0 {
				dumpBody(s, b, t, indent, depth)
				if name != "" {
					s.WriteString(" " + name)
				}
				return
			}
		}
		break
	}
	s.WriteString(b.String(id))
	if name != "" {
		s.WriteString(" " + name)
	}
	if m.BitSize > 0 {
		fmt.Fprintf(s, ": %d", m.BitSize)
	}
}

func functionPointer(b *kernel.BTF, proto kernel.Type, name string) string {
	var s strings.Builder
	s.WriteString(tight(b.String(proto.Ref)))
	fmt.Fprintf(&s, "(*%s)(", name)
	params, variadic := proto.Params()
	for i, p := range params {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(strings.TrimSpace(b.String(p.Type)))
	}
	if variadic {
		s.WriteString(", ...")
	}
	if len(params) == 0 && !variadic {
		s.WriteString("void")
	}
	s.WriteByte(')')
	return s.String()
}

// tight keeps the star of a pointer next to what follows.
func tight(typ string) string {
	if strings.HasSuffix(typ, "*") {
		return typ
	}
	return typ + " "
}
