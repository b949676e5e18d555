package cdef

import (
	"testing"

	"github.com/sonde-sh/sonde/lang/types"
)

// FuzzParse checks that no C text panics, and that the types found are sane: members inside their struct, fields readable.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"struct s { int a; char b[4]; struct s *n; };\nunion u { int a; long b; };", "#define A 1\n#if A > 0\nenum e { X = A, Y };\n#endif",
		"typedef struct { unsigned a:3, :0, b:7; } __attribute__((packed)) t;", "#ifdef X\n#else\n#include <linux/fs.h>\n#endif", "struct s {", "struct s { int a; int *const; };", "struct s{b[4 bs *", "struct s { int a; char b[4]; struct s n; };", "#define F(x) x##x\nstruct s { int F(a); };",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2000 {
			return
		}
		d, diags := parse(t, text, Options{Base: fakeBTF{}, HaveBTF: true})
		for _, e := range diags.All() {
			if e.Code == "" || e.Message == "" {
				t.Fatalf("diagnostic without code or message: %+v", e)
			}
		}
		for _, name := range d.Names("struct", "", 0) {
			s := d.StructType(name)
			if s == nil || s.Kind != types.Struct {
				t.Fatalf("struct %s is %v", name, s)
			}
			for _, m := range s.Struct.Resolve() {
				if m.Offset < 0 || m.BitSize == 0 && m.Offset+m.Type.Size > s.Size {
					t.Fatalf("struct %s: member %s at %d leaves the struct of %d bytes", name, m.Name, m.Offset, s.Size)
				}
			}
		}
		for _, m := range d.Defines() {
			d.Const(m.Name)
		}
	})
}
