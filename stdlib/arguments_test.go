package stdlib

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

// Whatever a builtin is called with, there is an answer: no panic, and a complete script when there is no error.
func TestAnyArguments(t *testing.T) {
	r, env := hostRegistry(t)
	args := []string{
		"1", "-1", "0xffffffffffffffff", `"a"`, `""`, `"%d %s"`, "comm", "@m", "@m[1]", "@c", "@h", "@k[1, \"x\"]", "curtask", "(1, \"b\")", "$x", "$s",
		"kstack", "nsecs", "true", "$1", "*curtask", "(uint8[6])1", "pton(\"::1\")", "perf", "init", "buf(comm, 4)", "()", "(a = 1)",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	try := func(call string) {
		for _, form := range []string{"CALL;", "$y = CALL; print($y);", "@out = CALL;", "if (CALL) { }"} {
			text := `kprobe:vfs_read { @m[1] = 1; @c = count(); @h = hist(1); @k[1, "x"] = "y"; $x = 5; $s = "str"; ` + strings.ReplaceAll(form, "CALL", call) + " }"
			info, diags := checkText(r, env, "stdin", text)
			if info == nil || diags.HasErrors() {
				for _, d := range diags.All() {
					if d.Severity == diag.Error && (d.Message == "" || d.Code == "") {
						t.Errorf("%s: an error without text or code", text)
					}
				}
				continue
			}
			if err := check.Complete(info); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	for _, b := range r.Builtins() {
		try(b.Name)
		if b.Func == nil {
			continue
		}
		for n := 0; n <= 4; n++ {
			for range 6 {
				list := make([]string, n)
				for i := range list {
					list[i] = args[rnd.IntN(len(args))]
				}
				try(b.Name + "(" + strings.Join(list, ", ") + ")")
			}
		}
	}
}
