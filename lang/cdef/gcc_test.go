package cdef

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/types"
)

// randomStruct writes a struct definition with the given tag and returns its text and its members' names.
func randomStruct(r *rand.Rand, tag string, inner []string) (text string, names []string) {
	scalars := []string{"char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long", "unsigned long", "void *", "_Bool", "double", "float"}
	bitTypes := []string{"unsigned char", "unsigned short", "unsigned int", "unsigned long"}
	kind := "struct"
	if r.IntN(6) == 0 {
		kind = "union"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s {\n", kind, tag)
	for i := range 1 + r.IntN(8) {
		name := fmt.Sprintf("m%d", i)
		switch n := r.IntN(12); {
		case n < 4:
			k := r.IntN(len(bitTypes))
			fmt.Fprintf(&b, "  %s %s : %d;\n", bitTypes[k], name, 1+r.IntN(8<<k))
			names = append(names, name)
		case n == 4 && kind == "struct":
			fmt.Fprintf(&b, "  %s : %d;\n", bitTypes[2], []int{0, 3, 17}[r.IntN(3)])
		case n == 5 && len(inner) > 0:
			fmt.Fprintf(&b, "  %s %s;\n", inner[r.IntN(len(inner))], name)
			names = append(names, name)
		case n == 6:
			fmt.Fprintf(&b, "  %s %s[%d];\n", scalars[r.IntN(len(scalars))], name, 1+r.IntN(5))
			names = append(names, name)
		case n == 7:
			fmt.Fprintf(&b, "  %s %s __attribute__((aligned(%d)));\n", scalars[r.IntN(len(scalars))], name, 1<<r.IntN(5))
			names = append(names, name)
		case n == 8:
			fmt.Fprintf(&b, "  %s %s __attribute__((packed));\n", scalars[3+r.IntN(6)], name)
			names = append(names, name)
		default:
			fmt.Fprintf(&b, "  %s %s;\n", scalars[r.IntN(len(scalars))], name)
			names = append(names, name)
		}
	}
	attr := ""
	switch r.IntN(6) {
	case 0:
		attr = " __attribute__((packed))"
	case 1:
		attr = fmt.Sprintf(" __attribute__((aligned(%d)))", 1<<r.IntN(6))
	}
	fmt.Fprintf(&b, "}%s;\n", attr)
	return b.String(), names
}

// TestLayoutAgainstGCC compares sizes and places of random structs with those of the C compiler of the machine.
func TestLayoutAgainstGCC(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc to compare with")
	}
	r := rand.New(rand.NewPCG(1, 2))
	const n = 150
	var defs, prog strings.Builder
	var all [][]string
	var tags []string
	for i := range n {
		var inner []string
		if i > 0 {
			inner = tags[max(0, i-3):i]
		}
		tag := fmt.Sprintf("s%d", i)
		text, names := randomStruct(r, tag, inner)
		defs.WriteString(text)
		tags = append(tags, strings.Fields(text)[0]+" "+tag)
		all = append(all, names)
	}
	prog.WriteString("#include <stdio.h>\n#include <string.h>\n" + defs.String() +
		"static void bits(const char *n, unsigned char *p, int size) { int first = -1, count = 0;\n" +
		"  for (int i = 0; i < size * 8; i++) if (p[i / 8] >> (i % 8) & 1) { if (first < 0) first = i; count++; }\n" +
		"  printf(\"%s %d %d\\n\", n, first, count); }\nint main() {\n")
	for i, names := range all {
		fmt.Fprintf(&prog, "{ static %s v; printf(\"%s size %%d\\n\", (int)sizeof v);\n", tags[i], tags[i])
		for _, m := range names {
			fmt.Fprintf(&prog, "memset(&v, 0, sizeof v); memset(&v, 0xff, sizeof v); { %s w; memset(&w, 0, sizeof w);\n", tags[i])
			// Setting the member to all ones shows which bits it occupies.
			fmt.Fprintf(&prog, "__builtin_choose_expr(0, 0, 0); FILL_%s_%s(w); bits(\"%s.%s\", (void *)&w, sizeof w); }\n", strings.Fields(tags[i])[1], m, tags[i], m)
		}
		prog.WriteString("}\n")
	}
	prog.WriteString("return 0; }\n")
	src := prog.String()
	// A member that is no bit-field can be filled through its address.
	var fills strings.Builder
	for i, names := range all {
		text := structText(defs.String(), tags[i])
		for _, m := range names {
			macro := fmt.Sprintf("FILL_%s_%s(w)", strings.Fields(tags[i])[1], m)
			if strings.Contains(text, m+" : ") {
				fmt.Fprintf(&fills, "#define %s w.%s = ~0ul\n", macro, m)
			} else {
				fmt.Fprintf(&fills, "#define %s memset((void *)&w.%s, 0xff, sizeof w.%s)\n", macro, m, m)
			}
		}
	}
	dir := t.TempDir()
	file, bin := filepath.Join(dir, "t.c"), filepath.Join(dir, "t")
	if err := os.WriteFile(file, []byte(fills.String()+src), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-w", "-o", bin, file).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%.2000s", err, out)
	}
	out, err := exec.Command(bin).Output()
	if err != nil {
		t.Fatal(err)
	}

	d := mustParse(t, defs.String(), Options{})
	var cur *types.Type
	var tag string
	bad := map[string]bool{}
	compared := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if f[2] == "size" {
			tag = f[0] + " " + f[1]
			cur = d.StructType(f[1])
			if want, _ := strconv.Atoi(f[3]); cur.Size != want && !bad[tag] {
				bad[tag] = true
				t.Errorf("%s: size %d, want %d\n%s%s", tag, cur.Size, want, structText(defs.String(), tag), describe(cur))
			}
			continue
		}
		_, name, _ := strings.Cut(f[1], ".")
		first, _ := strconv.Atoi(f[2])
		count, _ := strconv.Atoi(f[3])
		m, ok := cur.Struct.Field(name)
		gotCount := m.BitSize
		if gotCount == 0 && ok {
			gotCount = m.Type.Size * 8
		}
		compared++
		isBool := ok && m.Type.Kind == types.Bool
		if (m.Offset*8+m.BitOffset != first || gotCount != count && !isBool) && count > 0 && !bad[tag] {
			bad[tag] = true
			t.Errorf("%s.%s: at bit %d, %d bits; want %d, %d\n%s%s", tag, name, m.Offset*8+m.BitOffset, gotCount, first, count,
				structText(defs.String(), tag), describe(cur))
		}
	}
	if compared < n {
		t.Errorf("only %d members compared", compared)
	}
}

func structText(defs, tag string) string {
	i := strings.Index(defs, tag+" {")
	j := strings.Index(defs[i:], ";\nstruct s")
	if k := strings.Index(defs[i:], ";\nunion s"); k >= 0 && (j < 0 || k < j) {
		j = k
	}
	if j < 0 {
		return defs[i:]
	}
	return defs[i:i+j] + ";\n"
}
