package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table prints the matrix, a row for each script and a column for each kernel, and below it each refusal once, with the kernels that
// share it.
func Table(w io.Writer, r *Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "SCRIPT")
	for i := range r.Columns {
		fmt.Fprintf(tw, "\t%s", r.Columns[i].Name(r.Host))
	}
	fmt.Fprintln(tw)
	if len(r.Columns) > 0 {
		for row := range r.Columns[0].Rows {
			fmt.Fprint(tw, r.Columns[0].Rows[row].Path)
			for i := range r.Columns {
				fmt.Fprintf(tw, "\t%s", cell(&r.Columns[i].Rows[row]))
			}
			fmt.Fprintln(tw)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i := range r.Columns {
		c := &r.Columns[i]
		fmt.Fprint(w, moduleNotes(c, r.Host))
		if c.Failure == "" {
			continue
		}
		fmt.Fprintf(w, "\n%s: %s\n", c.Name(r.Host), c.Failure)
		if c.Console != "" {
			fmt.Fprintf(w, "the end of its console:\n%s\n", indent(c.Console))
		}
	}
	for _, g := range refusals(r) {
		fmt.Fprintf(w, "\n%s on %s: %s\n", g.path, strings.Join(g.kernels, ", "), g.state)
		fmt.Fprint(w, g.text)
	}
	return runs(w, r)
}

func cell(row *Row) string {
	if row.State != OK {
		return string(row.State)
	}
	for _, d := range row.Diagnostics {
		if d.Severity == "warning" {
			return "ok, warning"
		}
	}
	return "ok"
}

// refusal is a finding and the kernels that have it.
type refusal struct {
	path, text string
	state      State
	kernels    []string
}

func refusals(r *Report) []*refusal {
	var out []*refusal
	for i := range r.Columns {
		c := &r.Columns[i]
		for j := range c.Rows {
			row := &c.Rows[j]
			text := findings(row)
			if text == "" || c.Failure != "" && row.State == Guest && row.Reason == c.Failure {
				continue
			}
			known := false
			for _, g := range out {
				if g.path == row.Path && g.state == row.State && g.text == text {
					g.kernels, known = append(g.kernels, c.Name(r.Host)), true
				}
			}
			if !known {
				out = append(out, &refusal{row.Path, text, row.State, []string{c.Name(r.Host)}})
			}
		}
	}
	return out
}

// findings is what to say about a row; nothing when it is fine.
func findings(row *Row) string {
	var b strings.Builder
	for _, d := range row.Diagnostics {
		b.WriteString(d.Text)
		if !strings.HasSuffix(d.Text, "\n") {
			b.WriteByte('\n')
		}
	}
	if row.State != OK && b.Len() == 0 {
		fmt.Fprintf(&b, "%s\n", row.Reason)
		if row.Log != "" {
			fmt.Fprintf(&b, "%s\n", indent(row.Log))
		}
	}
	return b.String()
}

// runs prints what the scripts printed with --run.
func runs(w io.Writer, r *Report) error {
	for i := range r.Columns {
		c := &r.Columns[i]
		for j := range c.Rows {
			if row := &c.Rows[j]; row.Output != "" {
				if _, err := fmt.Fprintf(w, "\n%s on %s prints:\n%s\n", row.Path, c.Name(r.Host), indent(firstLines(row.Output, tableLines))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tableLines is how much of a run's output the table shows.
const tableLines = 100

func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) <= n {
		return text
	}
	return strings.Join(lines[:n], "\n") + fmt.Sprintf("\n... and %d lines more; `-f json` has them", len(lines)-n)
}

func indent(text string) string {
	text = strings.TrimRight(text, "\n")
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// JSON prints the report as one object.
func JSON(w io.Writer, r *Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Cases    []junitCase `xml:"testcase"`
	Output   string      `xml:"system-err,omitempty"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Seconds float64       `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Error   *junitFailure `xml:"error"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// JUnit prints the report as the XML that CI systems read: a suite for each kernel, a case for each script. What the script or the
// kernel refuses is a failure, a guest that broke is an error.
func JUnit(w io.Writer, r *Report) error {
	var out junitSuites
	for i := range r.Columns {
		c := &r.Columns[i]
		s := junitSuite{Name: c.Name(r.Host), Tests: len(c.Rows), Output: printable(c.Console)}
		for j := range c.Rows {
			row := &c.Rows[j]
			jc := junitCase{Class: "sonde.verify." + c.Name(r.Host), Name: row.Path, Seconds: row.Seconds, Output: printable(row.Output)}
			f := &junitFailure{Message: printable(row.Reason), Type: string(row.State), Text: printable(findings(row))}
			switch row.State {
			case OK:
			case Guest:
				jc.Error, s.Errors = f, s.Errors+1
			default:
				jc.Failure, s.Failures = f, s.Failures+1
			}
			s.Cases = append(s.Cases, jc)
		}
		out.Suites = append(out.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// printable drops what XML cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
