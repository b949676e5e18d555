package syntax

import (
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
)

// The examples of the syntax errors must report exactly the code they document.
func TestCodeExamples(t *testing.T) {
	for _, e := range diag.Codes() {
		if e.Code > "E0199" || e.Code[0] != 'E' || e.Example == "" {
			continue
		}
		_, diags := parse(t, e.Example)
		if all := diags.All(); len(all) != 1 || all[0].Code != e.Code {
			t.Errorf("%s: the example reports %v", e.Code, all)
		}
	}
}
