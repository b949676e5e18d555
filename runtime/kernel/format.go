package kernel

import (
	"fmt"
	"strconv"
	"strings"
)

// Event is a trace event: what its `format` file says.
type Event struct {
	Category string
	Name     string
	ID       int // what perf_event_open wants as config
	Fields   []Field
	Size     int // bytes of the fixed part, up to the end of the last field
}

// Location says where the bytes of a field are.
type Location uint8

// Where a field is: in the record itself, or behind a 32-bit word (length << 16 | offset) whose offset counts from the start of
// the record (__data_loc) or from the end of that word (__rel_loc, 5.16).
const (
	InPlace Location = iota
	DataLoc
	RelLoc
)

// Field is one field of a trace event's record.
type Field struct {
	Name   string
	Type   CType
	Text   string // the type as the file has it, without the name
	Offset int    // from the start of the record, the 8 bytes of common fields counted
	Size   int    // bytes in the record; 4 for a DataLoc or RelLoc word. A system call's argument has 8 whatever its type
	Signed bool
	Len    int // elements of an array in place, 0 for all else
	Loc    Location
	Common bool // one of the fields that every event has
}

// IsString reports whether the field is text: an array of char in place or behind a location word. A `char *` is not, its
// bytes are not in the record.
func (f Field) IsString() bool {
	return f.Type.IsChar() && f.Type.Pointers == 0 && (f.Loc != InPlace || len(f.Type.Dims) > 0)
}

// Field finds a field by name.
func (e *Event) Field(name string) (Field, bool) {
	for _, f := range e.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Args are the fields that belong to this event alone, which is what `args` shows.
func (e *Event) Args() []Field {
	for i, f := range e.Fields {
		if !f.Common {
			return e.Fields[i:]
		}
	}
	return nil
}

// ParseFormat reads a trace event's `format` file.
func ParseFormat(category string, text string) (*Event, error) {
	e := &Event{Category: category, ID: -1}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "name:"):
			e.Name = strings.TrimSpace(line[len("name:"):])
		case strings.HasPrefix(line, "ID:"):
			n, err := strconv.Atoi(strings.TrimSpace(line[len("ID:"):]))
			if err != nil {
				return nil, fmt.Errorf("format of event %s:%s: ID is not a number: %q", category, e.Name, line)
			}
			e.ID = n
		case strings.HasPrefix(line, "field:"), strings.HasPrefix(line, "field special:"):
			_, decl, _ := strings.Cut(line, ":")
			f, err := parseField(decl)
			if err != nil {
				return nil, fmt.Errorf("format of event %s:%s: %w", category, e.Name, err)
			}
			f.Common = strings.HasPrefix(f.Name, "common_")
			e.Fields = append(e.Fields, f)
			e.Size = max(e.Size, f.Offset+f.Size)
		case strings.HasPrefix(line, "print fmt:"):
			return e, e.check()
		}
	}
	return e, e.check()
}

func (e *Event) check() error {
	if e.Name == "" || e.ID < 0 {
		return fmt.Errorf("format of event %s:%s has no name or no ID", e.Category, e.Name)
	}
	return nil
}

// parseField reads "const char * filename;	offset:24;	size:8;	signed:0;".
func parseField(line string) (Field, error) {
	decl, rest, ok := cutDecl(line)
	if !ok {
		return Field{}, fmt.Errorf("field without an offset: %q", line)
	}
	f := Field{}
	var seen int
	for part := range strings.SplitSeq(rest, ";") {
		key, val, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(val))
		if err != nil || n < 0 || n > 1<<20 {
			return Field{}, fmt.Errorf("field with a bad %s: %q", key, line)
		}
		switch key {
		case "offset":
			f.Offset = n
			seen |= 1
		case "size":
			f.Size = n
			seen |= 2
		case "signed":
			f.Signed = n != 0
		}
	}
	if seen != 3 {
		return Field{}, fmt.Errorf("field without offset and size: %q", line)
	}
	decl = strings.TrimSpace(decl)
	if t, ok := strings.CutPrefix(decl, "__data_loc "); ok {
		decl, f.Loc = t, DataLoc
	} else if t, ok := strings.CutPrefix(decl, "__rel_loc "); ok {
		decl, f.Loc = t, RelLoc
	}
	f.Name, f.Text = splitDecl(decl)
	if f.Name == "" {
		return Field{}, fmt.Errorf("field without a name: %q", line)
	}
	f.Type = ParseCType(f.Text)
	if f.Loc == InPlace && len(f.Type.Dims) > 0 {
		f.complete()
	}
	return f, nil
}

// complete fills in the array lengths that the text gives by name (`char comm[TASK_COMM_LEN]` before 6.4) from the size.
func (f *Field) complete() {
	elem, known := f.Type.Elem(), 1
	for i, d := range f.Type.Dims {
		if d > 0 && i > 0 {
			known *= d
		}
	}
	if elem > 0 && f.Type.Dims[0] < 0 && f.Size%(elem*known) == 0 {
		f.Type.Dims[0] = f.Size / (elem * known)
	}
	f.Len = max(f.Type.Dims[0], 0)
	if elem == 0 && f.Len > 0 && f.Size%(f.Len*known) == 0 && f.Type.Kind != CStruct && f.Type.Kind != CUnion {
		f.Type.Size = f.Size / (f.Len * known)
	}
}

// cutDecl splits at the ';' that ends the declaration.
func cutDecl(line string) (decl, rest string, ok bool) {
	i := strings.Index(line, ";")
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// splitDecl takes the name out of a C declaration: "char comm[16]" is comm of type "char[16]", "char[] name" is name of type
// "char[]", "int (*fn)(void *)" is fn of type "int (*)(void *)".
func splitDecl(decl string) (name, typ string) {
	if i := strings.Index(decl, "(*"); i >= 0 {
		if j := strings.IndexByte(decl[i:], ')'); j > 0 {
			return strings.TrimSpace(decl[i+2 : i+j]), decl[:i+2] + decl[i+j:]
		}
	}
	end := len(decl)
	dims := ""
	if strings.HasSuffix(decl, "]") {
		// Only brackets at the very end belong to the name: "__data_loc char[] name" has them before it.
		i := end
		for i > 0 && decl[i-1] == ']' {
			j := strings.LastIndexByte(decl[:i], '[')
			if j < 0 {
				break
			}
			i = j
		}
		dims, end = decl[i:], i
	}
	head := strings.TrimRight(decl[:end], " ")
	i := len(head)
	for i > 0 && isIdent(head[i-1]) {
		i--
	}
	typ = strings.TrimRight(head[:i], " ")
	return head[i:], typ + dims
}

func isIdent(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
