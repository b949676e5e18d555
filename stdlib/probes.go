package stdlib

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// Kind is a probe kind: what the checker, the compiler and listings ask of it.
type Kind interface {
	check.ProbeKind
	lower.ProbeKind
	// List calls yield for every attach point of the kind that the segments match, sorted, until yield returns false. Missing segments
	// match everything. Errors are about the machine (no rights to read its lists); a pattern that matches nothing is none.
	List(segments []string, opts ListOptions, yield func(Listed) bool) error
}

// kinds makes every probe kind for a machine.
func kinds(m *Machine) []KindEntry {
	all := slices.Concat(
		selfKinds(m),
		timerKinds(m),
		perfKinds(m),
		tracepointKinds(m),
		kprobeKinds(m),
		fentryKinds(m),
		uprobeKinds(m),
		usdtKinds(m),
		iterKinds(m),
		watchKinds(m),
		syscallKinds(m),
		lsmKinds(m),
	)
	sort.Slice(all, func(i, j int) bool { return all[i].Kind.Name() < all[j].Kind.Name() })
	return all
}

// ProbeKinds are the probe kinds for a machine, sorted by name.
func ProbeKinds(m *Machine) []KindEntry { return kinds(m) }

// FindKind finds a kind by its name or an alias. A name with wildcards gives a kind that stands for all that match it.
func FindKind(entries []KindEntry, name string) check.ProbeKind {
	if kernel.HasWildcard(name) {
		if w := newWildKind(entries, name); w != nil {
			return w
		}
		return nil
	}
	for _, e := range entries {
		if e.Kind.Name() == name || slices.Contains(e.Aliases, name) {
			return e.Kind
		}
	}
	return nil
}

// request is one attach point that is being expanded: what all kinds need to read it and to complain about it.
type request struct {
	ap    *ast.AttachPoint
	env   *check.Env
	diags *diag.List
	kind  string // canonical name
	seg   []string
}

func newRequest(kind string, ap *ast.AttachPoint, env *check.Env, diags *diag.List) *request {
	r := &request{ap: ap, env: env, diags: diags, kind: kind}
	for _, s := range ap.Segments {
		r.seg = append(r.seg, s.Text)
	}
	return r
}

// missing is what the script wants for probes that do not exist: "error", "warn" or "ignore".
func (r *request) missing() string {
	if r.env.Config == nil || r.env.Config.MissingProbes == "" {
		return "error"
	}
	return r.env.Config.MissingProbes
}

// errorf reports an error about the whole attach point.
func (r *request) errorf(code diag.Code, format string, args ...any) *diag.Diagnostic {
	return r.diags.Errorf(code, r.ap.Span(), format, args...)
}

// segErrorf reports an error about one segment.
func (r *request) segErrorf(i int, code diag.Code, format string, args ...any) *diag.Diagnostic {
	return r.labelled(r.diags.Errorf(code, r.ap.Span(), format, args...), i)
}

// labelled marks the segment that a report about an attach point is about.
func (r *request) labelled(d *diag.Diagnostic, i int) *diag.Diagnostic {
	if sp := r.segSpan(i); sp != r.ap.Span() {
		d.Label(sp, "this part")
	}
	return d
}

func (r *request) segSpan(i int) source.Span {
	if i >= 0 && i < len(r.ap.Segments) {
		if sp := r.ap.Segments[i].Span(); sp.IsValid() {
			return sp
		}
	}
	return r.ap.Span()
}

// count checks the number of segments: lo, or from lo to hi. usage is the hint.
func (r *request) count(lo, hi int, usage string) bool {
	n := len(r.seg)
	if n >= lo && n <= hi {
		return true
	}
	want := strconv.Itoa(lo)
	if hi != lo {
		want += " or " + strconv.Itoa(hi)
	}
	d := r.errorf(codeSegments, "%s probe type requires %s arguments, found %d", r.kind, want, n)
	if usage != "" {
		d.Hint("write `%s`", usage)
	}
	return false
}

// noMatch reports that nothing matches, as the script's missing_probes says: an error, a warning or nothing. target is what was looked for, as
// the segments joined; near are names that exist. The result is the report, nil when there is none.
func (r *request) noMatch(i int, target string, near []string) *diag.Diagnostic {
	text := fmt.Sprintf("No matches for %s %s.", r.kind, target)
	var d *diag.Diagnostic
	if r.env.Missed != nil && r.isPattern() {
		d = &diag.Diagnostic{Severity: diag.Error, Code: codeNoMatch, Span: r.ap.Span(), Message: text, Notes: []string{text}}
		if !kernel.HasWildcard(target) {
			suggest(d, near)
		}
		r.env.Missed(d)
		return d
	}
	switch r.missing() {
	case "ignore":
		return nil
	case "warn":
		d = r.labelled(r.diags.Warnf(codeNoMatch, r.ap.Span(), "%s Skipping.", text), i)
	default:
		d = r.labelled(r.diags.Errorf(codeNoMatch, r.ap.Span(), "%s", text), i)
	}
	if !kernel.HasWildcard(target) {
		suggest(d, near)
	}
	return d
}

// isPattern reports whether the attach point is looked for among many: then it may have no match beside others that have one.
func (r *request) isPattern() bool {
	switch {
	case r.kind == "rawtracepoint" && len(r.seg) == 1, r.kind == "usdt" && len(r.seg) == 2: // in any module, by any provider
		return true
	case strings.HasSuffix(r.kind, "probe") && len(r.seg) == 3 && r.seg[1] == "cpp":
		return true
	}
	return slices.ContainsFunc(r.seg, hasPathWildcard)
}

func suggest(d *diag.Diagnostic, near []string) {
	switch len(near) {
	case 0:
	case 1:
		d.Hint("did you mean `%s`?", near[0])
	default:
		d.Hint("did you mean one of: %s?", strings.Join(near, ", "))
	}
}

// point makes a Point with what most kinds have in common.
func (r *request) point(k check.ProbeKind, name string) *check.Point {
	return &check.Point{Kind: k, Name: name, Scope: r.kind, NumArgs: -1, Node: r.ap}
}

// parseNumber reads an integer as the language writes it: any base, separators, scientific, with a unit of time (which makes it nanoseconds).
func parseNumber(text string) (uint64, error) {
	overflow := fmt.Errorf("overflow error, maximum value is 18446744073709551615: %s", text)
	s := strings.ReplaceAll(text, "_", "")
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		base, s = 16, s[2:]
	case strings.HasPrefix(s, "0b"), strings.HasPrefix(s, "0B"):
		base, s = 2, s[2:]
	case len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '7':
		base, s = 8, s[1:]
	}
	end := 0
	for end < len(s) && isDigit(s[end], base) {
		end++
	}
	if end == 0 {
		return 0, fmt.Errorf("invalid integer: %s", text)
	}
	n, err := strconv.ParseUint(s[:end], base, 64)
	if err != nil {
		return 0, overflow
	}
	rest := s[end:]
	if base == 10 && len(rest) > 1 && (rest[0] == 'e' || rest[0] == 'E') && rest[1] >= '0' && rest[1] <= '9' {
		i := 1
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		exp, err := strconv.Atoi(rest[1:i])
		if err != nil || exp > 19 {
			return 0, overflow
		}
		for range exp {
			if n > math.MaxUint64/10 {
				return 0, overflow
			}
			n *= 10
		}
		rest = rest[i:]
	}
	unit, ok := timeUnits[rest]
	if !ok {
		if strings.Trim(rest, "uUlL") != "" {
			return 0, fmt.Errorf("invalid trailing bytes: %s", text)
		}
		unit = 1
	}
	if n > math.MaxUint64/unit {
		return 0, overflow
	}
	return n * unit, nil
}

// timeUnits are the suffixes of durations, in nanoseconds.
var timeUnits = map[string]uint64{"": 1, "ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "d": 86400e9}

func isDigit(c byte, base int) bool {
	switch {
	case c >= '0' && c <= '9':
		return int(c-'0') < base
	case base == 16:
		return c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	}
	return false
}
