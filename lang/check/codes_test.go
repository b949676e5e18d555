package check_test

import (
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

// The example of each code of the checker must report exactly that code: examples are what `sonde explain` shows.
func TestCodeExamples(t *testing.T) {
	for _, e := range diag.Codes() {
		c := string(e.Code)
		ours := strings.HasPrefix(c, "E025") || strings.HasPrefix(c, "E026") || strings.HasPrefix(c, "E03") || strings.HasPrefix(c, "E04") || strings.HasPrefix(c, "E05") ||
			strings.HasPrefix(c, "E060") || (c[0] == 'W' && c >= "W0300" && c < "W0600" || c == "W0201")
		if !ours || e.Example == "" {
			continue
		}
		_, _, diags := run(e.Example, func(env *check.Env) { env.ReadFile = func(string) ([]byte, error) { return nil, errNoFile } })
		var got []string
		for _, d := range diags.All() {
			got = append(got, string(d.Code)+" "+d.Message)
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], c+" ") {
			t.Errorf("%s: the example %q reports %q", c, e.Example, got)
		}
	}
}
