package shell

import (
	"context"
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/codegen/object"
)

// planText says how each program is attached, and why.
func planText(obj *object.Object) string {
	var b strings.Builder
	for _, p := range obj.Programs {
		if len(p.Attach) == 0 {
			fmt.Fprintf(&b, "    %s: run by sonde itself\n", p.Name)
		}
		for _, a := range p.Attach {
			var names []string
			for _, i := range a.Points {
				if i < len(obj.Points) {
					names = append(names, obj.Points[i])
				}
			}
			what := strings.Join(names, ", ")
			if len(names) > 4 {
				what = fmt.Sprintf("%s and %d more", strings.Join(names[:4], ", "), len(names)-4)
			}
			fmt.Fprintf(&b, "    %s: %v", what, a.Mechanism)
			if a.Reason != "" {
				fmt.Fprintf(&b, " (%s)", a.Reason)
			}
			for f := a.Fallback; f != nil; f = f.Fallback {
				fmt.Fprintf(&b, ", else %v", f.Mechanism)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (sh *Shell) cmdExplain(context.Context, string) error { return nil }
