package diag

import (
	"encoding/json"
	"strings"

	"github.com/sonde-sh/sonde/lang/source"
)

// Where is a span in the JSON form: lines and columns count from 1, columns in bytes, the end is exclusive.
type Where struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Col     int    `json:"col"`
	EndLine int    `json:"end_line"`
	EndCol  int    `json:"end_col"`
}

type jsonLabel struct {
	Where *Where `json:"where,omitempty"`
	Text  string `json:"text"`
}

type jsonDiagnostic struct {
	Severity string      `json:"severity"`
	Code     Code        `json:"code,omitempty"`
	Message  string      `json:"message"`
	Where    *Where      `json:"where,omitempty"`
	Labels   []jsonLabel `json:"labels,omitempty"`
	Hints    []string    `json:"hints,omitempty"`
	Origins  []jsonLabel `json:"origins,omitempty"`
	Notes    []string    `json:"notes,omitempty"`
	Fix      *jsonLabel  `json:"fix,omitempty"`
}

// JSON returns the machine-readable form of a diagnostic, on one line without a line break.
func JSON(set *source.Set, d *Diagnostic) ([]byte, error) {
	out := jsonDiagnostic{
		Severity: strings.ToLower(d.Severity.String()), Code: d.Code, Message: d.Message, Where: whereOf(set, d.Span),
		Labels: jsonLabels(set, d.Labels), Hints: d.Hints, Origins: jsonLabels(set, d.Origins), Notes: d.Notes,
	}
	if d.Fix != nil {
		out.Fix = &jsonLabel{whereOf(set, d.Fix.Span), d.Fix.Text}
	}
	return json.Marshal(out)
}

func jsonLabels(set *source.Set, list []Label) []jsonLabel {
	var out []jsonLabel
	for _, l := range list {
		out = append(out, jsonLabel{whereOf(set, l.Span), l.Text})
	}
	return out
}

func whereOf(set *source.Set, sp source.Span) *Where {
	if set == nil || !sp.IsValid() {
		return nil
	}
	from, to := set.Position(sp.Start), set.Position(sp.End)
	if from.File == nil {
		return nil
	}
	if to.File != from.File {
		to = from
	}
	return &Where{File: from.File.Name, Line: from.Line, Col: from.Col, EndLine: to.Line, EndCol: to.Col}
}
