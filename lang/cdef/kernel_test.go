package cdef

import (
	"io/fs"
	"strings"
	"testing"
)

// TestKernelHeaders reads macros of a small tree of kernel headers, whose C no front end but the kernel's own would take.
func TestKernelHeaders(t *testing.T) {
	tree := map[string]string{
		"/b/include/generated/autoconf.h":     "#define CONFIG_HZ 250\n#define CONFIG_SMP 1\n",
		"/k/include/linux/kconfig.h":          "#include <generated/autoconf.h>\n#define IS_ENABLED(x) __or(x)\n#define __or(x) (x + 0)\n",
		"/k/include/linux/compiler_types.h":   "#define __force __attribute__((force))\n#undef __force\n#define __force\n",
		"/k/include/asm-generic/param.h":      "# define HZ\t\tCONFIG_HZ\n",
		"/k/include/linux/own.h":              "#ifndef OWN_H\n#define OWN_H\n#include \"relative.h\"\n#include <asm-generic/param.h>\n#include <missing/here.h>\n#include \"own.h\"\n" + own + "#endif\n",
		"/k/include/linux/relative.h":         "#define RELATIVE 3 /* not\n 4 */\n",
		"/k/include/linux/broken.h":           "#if 1\n#define BROKEN 1\n#define F(\n",
		"/usr/include/linux/own.h":            "#define OF_USERS 9\n",
		"/k/include/uapi/linux/user_kernel.h": "#define SEEN_BY_BOTH 11\n",
	}
	opts := Options{
		Base: fakeBTF{}, KernelDirs: []string{"/k/include", "/b/include", "/k/include/uapi"},
		ReadFile: func(path string) ([]byte, error) {
			if text, ok := tree[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		},
	}
	names := "HZ RELATIVE SHIFTED CAST Mixed TERNARY OF_RED SIZE QUOTE CHAR NEGATIVE NOT_HERE CALL STATEMENT FUNC SEEN_BY_BOTH"
	want := map[string]Value{
		"HZ": {Int: 250}, "RELATIVE": {Int: 3}, "SHIFTED": {Int: 0x60}, "CAST": {Int: 0x8000}, "Mixed": {Int: 12}, "TERNARY": {Int: 1}, "OF_RED": {Int: 1 << 7},
		"SIZE": {Int: 24}, "QUOTE": {Str: "a /* no comment */ b", IsString: true}, "CHAR": {Int: '"'}, "NEGATIVE": {Int: -2}, "SEEN_BY_BOTH": {Int: 11},
	}
	for _, head := range []string{"#include <linux/own.h>\n#include <linux/user_kernel.h>\n", "#include <linux/broken.h>\n#include <linux/own.h>\n#include <linux/user_kernel.h>\n"} {
		d := mustParse(t, head+"// "+names+"\n", opts)
		for name := range strings.FieldsSeq(names) {
			got, _, ok := d.Const(name)
			if w, known := want[name]; ok != known || got.Int != w.Int || got.Str != w.Str || got.IsString != w.IsString {
				t.Errorf("%s = %+v %v, want %+v %v", name, got, ok, w, known)
			}
		}
		if got, _, ok := d.Const("OF_USERS"); !ok || got.Int != 9 {
			t.Errorf("OF_USERS = %+v %v: the C library's header of the same name was not read", got, ok)
		}
	}
	if d := mustParse(t, "#include <netdb.h>\n// HZ\n", opts); func() bool { _, _, ok := d.Const("HZ"); return ok }() {
		t.Error("HZ without a header of the kernel")
	}
}

const own = `
static inline void f(void) { asm goto ("1: " ".pushsection x, \"a\"\n" :: "i"(1) :: l); l: ; }
#error this compiler will not do
#warning nor is it liked
#pragma GCC poison everything
#define SHIFTED (3 << 5)
#define CAST ((__force u32)(1 << 15))
#define Mixed (RELATIVE * 4)
#if defined(CONFIG_SMP) && IS_ENABLED(CONFIG_SMP)
#define TERNARY (HZ > 100 ? 1 : 2)
#else
#define TERNARY 5
#endif
#define OF_RED (1UL << RED)
#define SIZE (sizeof(struct sock))
#define QUOTE "a /* no comment */ b"
#define CHAR '"' // "a comment
#define NEGATIVE \
	(-2)
#define CALL f()
#define STATEMENT do { f(); } while (0)
#define FUNC(x) ((x) + 1)
/* #define NOT_HERE 1
#define NOT_HERE 1
*/
`
