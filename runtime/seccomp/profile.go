package seccomp

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// fileType and fileVersion mark our profile files.
const (
	fileType    = "sonde seccomp profile"
	fileVersion = 1
)

// Origin says why a call is in a profile.
type Origin string

const (
	// OriginRecorded calls were made by the workload.
	OriginRecorded Origin = "recorded"
	// OriginRuntime calls were made by a container runtime, between installing the filter and starting the workload.
	OriginRuntime Origin = "runtime"
	// OriginAccepted calls were denied in a check and accepted by a person.
	OriginAccepted Origin = "accepted"
)

// Profile is what one or several recordings found.
type Profile struct {
	Type    string   `json:"type"`
	Version int      `json:"version"`
	Tool    string   `json:"tool"`
	Kernel  string   `json:"kernel,omitempty"`
	ABI     ABI      `json:"abi"` // the native one of the machine recorded on
	Runs    []*Run   `json:"runs"`
	Calls   []*Call  `json:"calls"`
	Denials []Denial `json:"denials,omitempty"`
}

// Run is one recording.
type Run struct {
	ID       string        `json:"id"` // tells recordings apart when files are merged
	Target   string        `json:"target"`
	Command  []string      `json:"command,omitempty"`
	Kernel   string        `json:"kernel,omitempty"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration_ns"`
	Exit     string        `json:"exit,omitempty"`
	Tasks    uint64        `json:"tasks"` // threads that ran
	Calls    uint64        `json:"calls"` // system calls made
	Programs []Program     `json:"programs,omitempty"`
	Runtime  *RuntimeInfo  `json:"runtime,omitempty"`
	// Learned is set when argument values were recorded: only then does their absence mean something.
	Learned bool `json:"arguments_learned,omitempty"`
	// Lost says what the recorder could not keep; empty when everything is here.
	Lost map[string]uint64 `json:"lost,omitempty"`
}

// Program is an executable that ran.
type Program struct {
	Path     string `json:"path"`
	Language string `json:"language,omitempty"` // "go" where the calls follow from the language's own runtime
	Calls    uint64 `json:"calls"`
}

// RuntimeInfo says of which container runtime calls of OriginRuntime were recorded, in a run that parked a container.
type RuntimeInfo struct {
	Name            string `json:"name"`
	Version         string `json:"version,omitempty"`
	NoNewPrivileges bool   `json:"no_new_privileges"`
	Starts          int    `json:"starts,omitempty"`
}

// Call is one system call of one ABI with its provenance.
type Call struct {
	ABI      ABI            `json:"abi"`
	Name     string         `json:"name"`
	Number   int            `json:"number"` // without the x32 bit
	Count    uint64         `json:"count"`
	Origin   Origin         `json:"origin"`
	First    time.Time      `json:"first,omitzero"`
	Program  string         `json:"program,omitempty"` // that made it first
	Threads  []string       `json:"threads,omitempty"` // names of threads that made it, sorted
	Example  []Hex          `json:"example,omitempty"` // arguments of the first
	Stack    []string       `json:"stack,omitempty"`   // user stack of the first, when asked for
	Runs     []RunCount     `json:"runs,omitempty"`
	Programs []ProgramCount `json:"programs,omitempty"`
	Args     *ArgSet        `json:"args,omitempty"`
}

// RunCount says how often a run made a call.
type RunCount struct {
	Run   string `json:"run"`
	Count uint64 `json:"count"`
}

// ProgramCount says how often a program made a call.
type ProgramCount struct {
	Path  string `json:"path"`
	Count uint64 `json:"count"`
}

// ArgSet holds the argument values that a call was made with: one tuple per combination seen.
type ArgSet struct {
	Indexes []int   `json:"indexes"` // which arguments, 0 to 5
	Bits    []int   `json:"bits"`    // 32 where the kernel takes only the lower half
	Values  [][]Hex `json:"values"`
	// Wide is set when there were more combinations than are kept: the call is then not restricted.
	Wide bool `json:"wide,omitempty"`
}

// Denial is a call that a filter refused while recording.
type Denial struct {
	ABI     ABI      `json:"abi"`
	Name    string   `json:"name"`
	Number  int      `json:"number"`
	Count   uint64   `json:"count"`
	Result  int64    `json:"result"` // what the caller got, for example -1 for EPERM
	Program string   `json:"program,omitempty"`
	Thread  string   `json:"thread,omitempty"`
	PID     int      `json:"pid,omitempty"`
	Example []Hex    `json:"example,omitempty"`
	Stack   []string `json:"stack,omitempty"`
}

// Hex is a number that is written in hexadecimal.
type Hex uint64

// MarshalText writes 0x2a.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(h)), nil }

// UnmarshalText reads a number in Go's syntax.
func (h *Hex) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 0, 64)
	if err != nil {
		return fmt.Errorf("`%s` is not a number of 64 bits", b)
	}
	*h = Hex(v)
	return nil
}

// New is an empty profile of a machine.
func New(native ABI, tool, release string) *Profile {
	return &Profile{Type: fileType, Version: fileVersion, Tool: tool, Kernel: release, ABI: native}
}

// Find is the entry of a call, nil when it was not made.
func (p *Profile) Find(abi ABI, number int) *Call {
	for _, c := range p.Calls {
		if c.ABI == abi && c.Number == number {
			return c
		}
	}
	return nil
}

// findOrigin is the entry of a call with an origin: the same call may be the workload's and the runtime's.
func (p *Profile) findOrigin(abi ABI, number int, o Origin) *Call {
	for _, c := range p.Calls {
		if c.ABI == abi && c.Number == number && c.Origin == o {
			return c
		}
	}
	return nil
}

// sort brings everything into the order of files: by ABI, native first, then by name.
func (p *Profile) sort() {
	fam := p.ABI.Family()
	slices.SortStableFunc(p.Calls, func(a, b *Call) int {
		return cmp.Or(cmp.Compare(slices.Index(fam, a.ABI), slices.Index(fam, b.ABI)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Origin, b.Origin))
	})
	for _, c := range p.Calls {
		slices.Sort(c.Threads)
		sort.SliceStable(c.Programs, func(i, j int) bool {
			a, b := c.Programs[i], c.Programs[j]
			return a.Count > b.Count || a.Count == b.Count && a.Path < b.Path
		})
		if c.Args != nil {
			sort.Slice(c.Args.Values, func(i, j int) bool { return slices.Compare(c.Args.Values[i], c.Args.Values[j]) < 0 })
		}
	}
}

// Write writes the profile as a file.
func (p *Profile) Write(w io.Writer) error {
	p.sort()
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	return enc.Encode(p)
}

// WriteFile replaces a file, so that a crash leaves the old or the new one and never half of it.
func (p *Profile) WriteFile(path string) error {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("write %s: is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		var at *fs.PathError // it names a file that is not the user's
		if errors.As(err, &at) {
			err = at.Err
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = errors.Join(f.Chmod(0o644), p.Write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// FileError says what is wrong with a profile file.
type FileError struct {
	Path  string
	Entry string // which entry, "" for the file as a whole
	Text  string
	Hint  string
}

func (e *FileError) Error() string {
	at := e.Path
	if e.Entry != "" {
		at += ": " + e.Entry
	}
	return at + ": " + e.Text
}

// maxFile is where reading stops: a profile of every call of every ABI with all provenance has a few megabytes.
const maxFile = 64 << 20

// ReadFile reads a profile and checks every entry of it.
func ReadFile(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, path)
}

// Read reads a profile; name is used in errors.
func Read(r io.Reader, name string) (*Profile, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxFile {
		return nil, &FileError{Path: name, Text: "is larger than any profile"}
	}
	if err := recognise(b, name); err != nil {
		return nil, err
	}
	p := &Profile{}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	// An unknown key might be a restriction that we would drop.
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, &FileError{Path: name, Text: jsonText(b, err)}
	}
	if err := p.validate(name); err != nil {
		return nil, err
	}
	return p, nil
}

// recognise tells what else a file is when it is not ours: it is usually an emitted one.
func recognise(b []byte, name string) error {
	var head struct {
		Type     string          `json:"type"`
		Version  int             `json:"version"`
		Default  json.RawMessage `json:"defaultAction"`
		Syscalls json.RawMessage `json:"syscalls"`
	}
	err := json.Unmarshal(b, &head)
	switch {
	case err == nil && head.Type == fileType && head.Version == fileVersion:
		return nil
	case err == nil && head.Type == fileType:
		return &FileError{Path: name, Text: fmt.Sprintf("is version %d of the profile file, this program reads version %d", head.Version, fileVersion), Hint: "use a newer sonde"}
	case err == nil && head.Default != nil:
		return &FileError{Path: name, Text: "is a filter for a container runtime, not a recording", Hint: "give the file that `sonde seccomp record -o` wrote; filters are made from it by `sonde seccomp emit`"}
	case err == nil:
		return &FileError{Path: name, Text: fmt.Sprintf("is JSON, but not a profile: its type is `%s`, a profile's is `%s`", head.Type, fileType), Hint: "give the file that `sonde seccomp record -o` wrote"}
	}
	return &FileError{Path: name, Text: "is not a profile: " + jsonText(b, err), Hint: "give the file that `sonde seccomp record -o` wrote"}
}

// jsonText says what is wrong in a file, without the types of this program.
func jsonText(b []byte, err error) string {
	line := func(off int64) int { return 1 + strings.Count(string(b[:min(int(off), len(b))]), "\n") }
	var syn *json.SyntaxError
	var typ *json.UnmarshalTypeError
	var date *time.ParseError
	switch {
	case errors.As(err, &syn):
		return fmt.Sprintf("line %d: %v", line(syn.Offset), err)
	case errors.As(err, &typ) && typ.Field == "":
		return fmt.Sprintf("line %d: here is no place for %s", line(typ.Offset), typ.Value)
	case errors.As(err, &typ):
		return fmt.Sprintf("line %d: `%s` cannot be a %s", line(typ.Offset), typ.Field, typ.Value)
	case errors.As(err, &date):
		return fmt.Sprintf("`%s` is no time", date.Value)
	}
	if key, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "unknown key " + strings.ReplaceAll(key, `"`, "`")
	}
	return err.Error()
}

func (p *Profile) validate(name string) error {
	fail := func(entry, format string, args ...any) error {
		return &FileError{Path: name, Entry: entry, Text: fmt.Sprintf(format, args...)}
	}
	fam := p.ABI.Family()
	if fam == nil || fam[0] != p.ABI {
		return fail("abi", "`%s` is not the native ABI of a machine that is known", p.ABI)
	}
	runs := map[string]bool{}
	for i, r := range p.Runs {
		if r == nil || r.ID == "" {
			return fail(fmt.Sprintf("runs[%d]", i), "has no id")
		}
		if runs[r.ID] {
			return fail(fmt.Sprintf("runs[%d]", i), "has the id of another run: %s", r.ID)
		}
		runs[r.ID] = true
	}
	type key struct {
		abi    ABI
		number int
		origin Origin
	}
	seen := map[key]bool{}
	for i, c := range p.Calls {
		entry := fmt.Sprintf("calls[%d]", i)
		if c == nil {
			return fail(entry, "is empty")
		}
		if err := checkCall(fam, c.ABI, c.Name, c.Number); err != nil {
			return fail(entry, "%v", err)
		}
		entry += " (" + c.Name + ")"
		switch c.Origin {
		case OriginRecorded, OriginRuntime, OriginAccepted:
		default:
			return fail(entry, "unknown origin `%s`", c.Origin)
		}
		if k := (key{c.ABI, c.Number, c.Origin}); seen[k] {
			return fail(entry, "is there twice")
		} else {
			seen[k] = true
		}
		for _, r := range c.Runs {
			if !runs[r.Run] {
				return fail(entry, "refers to a run that is not in the file: %s", r.Run)
			}
		}
		if err := c.Args.validate(c.ABI); err != nil {
			return fail(entry, "%v", err)
		}
	}
	for i, d := range p.Denials {
		if err := checkCall(fam, d.ABI, d.Name, d.Number); err != nil {
			return fail(fmt.Sprintf("denials[%d]", i), "%v", err)
		}
	}
	return nil
}

// checkCall holds name, number and ABI against each other: a profile edited by hand must not mean something else than it says.
func checkCall(fam []ABI, abi ABI, name string, number int) error {
	if !slices.Contains(fam, abi) {
		return fmt.Errorf("ABI `%s` does not run on the machine of this profile", abi)
	}
	known := abi.Name(number)
	switch {
	case number < 0 || number >= tableSize:
		return fmt.Errorf("number %d is not one of a system call", number)
	case known == "" && name == Unnamed(number):
		return nil
	case known == name && name != "":
		return nil
	}
	n, ok := abi.Number(name)
	switch {
	case !ok:
		msg := fmt.Sprintf("unknown system call `%s` for ABI %s", name, abi)
		if s := nearest(name, abi.Names()); s != "" {
			msg += fmt.Sprintf("; did you mean `%s`?", s)
		}
		return errors.New(msg)
	default:
		return fmt.Errorf("`%s` has number %d on %s, not %d", name, n, abi, number)
	}
}

func (s *ArgSet) validate(abi ABI) error {
	if s == nil {
		return nil
	}
	if len(s.Indexes) == 0 || len(s.Indexes) > 6 || len(s.Bits) != len(s.Indexes) {
		return errors.New("args: indexes and bits must have the same length, 1 to 6")
	}
	used := map[int]bool{}
	for i, x := range s.Indexes {
		if x < 0 || x > 5 || used[x] {
			return fmt.Errorf("args: index %d is not an argument or is there twice", x)
		}
		used[x] = true
		if s.Bits[i] != 32 && s.Bits[i] != 64 {
			return fmt.Errorf("args: %d bits; 32 and 64 are possible", s.Bits[i])
		}
		if s.Bits[i] > abi.facts().bits {
			return fmt.Errorf("args: %d bits, but arguments of %s have %d", s.Bits[i], abi, abi.facts().bits)
		}
	}
	if len(s.Values) == 0 && !s.Wide {
		return errors.New("args: there are no values; what allows any has `wide`")
	}
	for _, t := range s.Values {
		if len(t) != len(s.Indexes) {
			return fmt.Errorf("args: a tuple has %d values for %d arguments", len(t), len(s.Indexes))
		}
		for i, v := range t {
			if s.Bits[i] == 32 && v > 0xffffffff {
				return fmt.Errorf("args: %#x does not fit 32 bits", uint64(v))
			}
		}
	}
	return nil
}
