package cdef

import (
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
)

// The examples of the codes of this package must report exactly the code they document.
func TestCodeExamples(t *testing.T) {
	for _, e := range diag.Codes() {
		if !strings.HasPrefix(string(e.Code), "E020") && !strings.HasPrefix(string(e.Code), "W021") {
			continue
		}
		text, _, _ := strings.Cut(e.Example, "BEGIN")
		_, diags := parse(t, strings.TrimSpace(text), Options{})
		if all := diags.All(); len(all) != 1 || all[0].Code != e.Code {
			t.Errorf("%s: the example reports %v", e.Code, all)
		}
	}
}
