package symbol

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"strings"
)

// PlaceKind tells where a parameter is when its function starts.
type PlaceKind int

const (
	// PlaceUnknown cannot be told: see Place.Why.
	PlaceUnknown PlaceKind = iota
	// PlaceRegisters is in Place.Registers, 8 bytes in each, in order.
	PlaceRegisters
	// PlaceStack is in memory, Place.Offset bytes above the stack pointer.
	PlaceStack
	// PlacePointer is in memory whose address is in Place.Registers[0], or on the stack at Place.Offset when there is no
	// register.
	PlacePointer
)

// Place is where a parameter or result is, by the calling convention.
type Place struct {
	Kind      PlaceKind
	Registers []Register
	// Offset is in bytes from the stack pointer at the first instruction of the function.
	Offset int64
	// Why says what is unknown.
	Why string
}

// Parameter is a parameter of a function.
type Parameter struct {
	// Name is "" when the source text gives none.
	Name string
	// Type is its type; its String is what -lv prints.
	Type *Type
	// Place tells where it is at the first instruction.
	Place Place
}

// Signature is what debug information tells of a function.
type Signature struct {
	// Name is the function.
	Name string
	// Params are its parameters in order; the receiver of a method comes first.
	Params []Parameter
	// Variadic is set when more arguments may follow.
	Variadic bool
	// Result is the type of the result; nil for none. Go functions have Results.
	Result *Type
	// Results are the results of a Go function with their places at its return instructions.
	Results []Parameter
	// Decl is where the function stands in the source text.
	Decl SourceLine
	// Language is "C", "C++", "Go", "Rust" or "".
	Language string
}

// Signature returns the parameters of a function of the file with types. The error wraps [ErrNoDebugInfo] for a file
// without DWARF and [ErrNoSymbol] for a function that is not described (assembly, a library linked without -g).
func (f *File) Signature(s Symbol) (Signature, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := f.index()
	if err != nil {
		return Signature{}, err
	}
	u := ix.unitAt(s.Addr)
	if u == nil {
		return Signature{}, fmt.Errorf("%s: debug information: %w: %s", f.path, ErrNoSymbol, s.Name)
	}
	for _, sc := range ix.scopes(u) {
		for _, r := range sc.ranges {
			if r[0] == s.Addr {
				return f.signature(ix, u, sc, s)
			}
		}
	}
	return Signature{}, fmt.Errorf("%s: debug information: %w: %s", f.path, ErrNoSymbol, s.Name)
}

func (f *File) signature(ix *dwarfIndex, u *unit, sc *scope, s Symbol) (Signature, error) {
	sig := Signature{Name: s.Name}
	switch {
	case u.language == langGo:
		sig.Language = "Go"
	case u.language == langRust:
		sig.Language = "Rust"
	case u.cplusplus():
		sig.Language = "C++"
	case u.language == 1 || u.language == 2 || u.language == 0xc || u.language == 0x1d || u.language == 0x2c:
		sig.Language = "C"
	}
	at := die{ix, sc.off}
	e := at.entry()
	// The parameters of the copy with code refer to those of the abstract function for name and type.
	if t, ok := findRef(at, dwarf.AttrType); ok {
		sig.Result = t.typeAt()
	}
	if file, ok := findInt(at, dwarf.AttrDeclFile); ok {
		ix.fileTable(u)
		line, _ := findInt(at, dwarf.AttrDeclLine)
		sig.Decl = SourceLine{Function: ix.functionName(e), File: u.file(int32(file)), Line: int(line)}
	}
	at.children(func(c *dwarf.Entry) bool {
		switch c.Tag {
		case dwarf.TagFormalParameter:
			p := Parameter{}
			here := die{ix, c.Offset}
			p.Name, _ = findText(here, dwarf.AttrName)
			if t, ok := findRef(here, dwarf.AttrType); ok {
				p.Type = t.typeAt()
			} else {
				p.Type = &Type{Kind: TypeUnknown, Size: -1, at: here}
			}
			if result, _ := c.Val(dwarf.AttrVarParam).(bool); result && u.language == langGo {
				sig.Results = append(sig.Results, p)
			} else {
				sig.Params = append(sig.Params, p)
			}
		case dwarf.TagUnspecifiedParameters:
			sig.Variadic = true
		}
		return true
	})
	if why := changedConvention(e, s.Name); why != "" {
		for i := range sig.Params {
			sig.Params[i].Place.Why = why
		}
		return sig, nil
	}
	if u.language == langGo {
		info := registerABI("", f.elf.Machine)
		if v, err := f.goVersion(); err == nil {
			info = registerABI(v, f.elf.Machine)
		}
		placeGo(f.elf.Machine, info, sig.Params, sig.Results)
	} else {
		placeC(f.elf.Machine, u, sig.Result, sig.Params)
		if optimised(u) {
			l := ix.locations
			strict := u.language == langRust || s.Local && strings.Contains(u.producer, "clang")
			i := 0
			at.children(func(c *dwarf.Entry) bool {
				if c.Tag == dwarf.TagFormalParameter && i < len(sig.Params) {
					sig.Params[i].correct(l, u, c, f.elf.Machine, s.Addr, strict)
					i++
				}
				return true
			})
		}
	}
	return sig, nil
}

// changedConvention tells when a compiler gave a function that is not visible outside its own convention: arguments are
// missing, split or in other places. LLVM marks that in the debug information, GCC by a suffix of the symbol.
func changedConvention(e *dwarf.Entry, symbol string) string {
	const nocall = 3 // DW_CC_nocall
	if cc, ok := e.Val(dwarf.AttrCalling).(int64); ok && cc == nocall {
		return "the optimiser changed how the function is called"
	}
	for _, suffix := range []string{".isra.", ".constprop.", ".part."} {
		if strings.Contains(symbol, suffix) {
			return "the optimiser changed how the function is called (" + suffix[1:len(suffix)-1] + ")"
		}
	}
	return ""
}

// optimised reports whether the unit was compiled by LLVM (clang, rustc), the one whose optimiser changes functions
// without renaming them. Without optimisation parameters have a place in the frame, which says nothing about registers.
func optimised(u *unit) bool {
	return u.language == langRust || strings.Contains(u.producer, "clang")
}

// findText, findInt and findRef read an attribute of a die or of the abstract one that it is a copy of.
func findText(d die, attr dwarf.Attr) (string, bool) {
	return follow(d, func(d die, e *dwarf.Entry) (string, bool) {
		s := d.ix.text(e, attr)
		return s, s != ""
	})
}

func findInt(d die, attr dwarf.Attr) (int64, bool) {
	return follow(d, func(_ die, e *dwarf.Entry) (int64, bool) {
		v, ok := e.Val(attr).(int64)
		return v, ok
	})
}

func findRef(d die, attr dwarf.Attr) (die, bool) {
	return follow(d, func(d die, e *dwarf.Entry) (die, bool) { return d.ix.ref(e, attr) })
}

func follow[T any](d die, get func(die, *dwarf.Entry) (T, bool)) (T, bool) {
	for depth := 0; depth < 8; depth++ {
		e := d.entry()
		if e == nil {
			break
		}
		if v, ok := get(d, e); ok {
			return v, true
		}
		next, ok := d.ix.ref(e, dwarf.AttrAbstractOrigin)
		if !ok {
			if next, ok = d.ix.ref(e, dwarf.AttrSpecification); !ok {
				break
			}
		}
		d = next
	}
	var zero T
	return zero, false
}

// abi names the argument registers of a calling convention.
type abi struct {
	ints    []string
	floats  int
	stackAt int64 // of the first stack argument, from the stack pointer at entry
}

func cABI(machine elf.Machine) (abi, bool) {
	switch machine {
	case elf.EM_X86_64:
		return abi{ints: []string{"rdi", "rsi", "rdx", "rcx", "r8", "r9"}, floats: 8, stackAt: 8}, true
	case elf.EM_AARCH64:
		return abi{ints: []string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"}, floats: 8}, true
	}
	return abi{}, false
}

func goABI(machine elf.Machine) (abi, bool) {
	switch machine {
	case elf.EM_X86_64:
		return abi{ints: []string{"rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11"}, floats: 15, stackAt: 8}, true
	case elf.EM_AARCH64:
		a := abi{floats: 16, stackAt: 8}
		for i := range 16 {
			a.ints = append(a.ints, fmt.Sprintf("x%d", i))
		}
		return a, true
	}
	return abi{}, false
}

// allocation hands out argument registers and stack slots.
type allocation struct {
	machine elf.Machine
	rust    bool
	abi     abi
	ints    int
	floats  int
	stack   int64
}

func (a *allocation) registers(n int) []Register {
	var out []Register
	for _, name := range a.abi.ints[a.ints : a.ints+n] {
		r, _ := RegisterByName(a.machine, name)
		out = append(out, r)
	}
	a.ints += n
	return out
}

func (a *allocation) onStack(size, align int64) Place {
	align = max(align, 8)
	a.stack = (a.stack + align - 1) &^ (align - 1)
	p := Place{Kind: PlaceStack, Offset: a.abi.stackAt + a.stack}
	a.stack += (size + 7) &^ 7
	return p
}

const vectorWhy = "it is in a vector register, which a probe cannot see"

// placeC places the parameters by the System V convention of x86-64 or by the AAPCS64. Rust's own convention follows
// it for the types that matter, but does not promise to; callers should say so.
func placeC(machine elf.Machine, u *unit, result *Type, params []Parameter) {
	conv, ok := cABI(machine)
	if !ok {
		for i := range params {
			params[i].Place.Why = fmt.Sprintf("the calling convention of %v is not known", machine)
		}
		return
	}
	a := &allocation{machine: machine, abi: conv, rust: u.language == langRust}
	// A result that does not fit in registers is written where a hidden first argument points; arm64 has x8 for that.
	if result != nil && machine == elf.EM_X86_64 {
		if r := result.strip(); r != nil && (r.Kind == TypeStruct || r.Kind == TypeUnion) && (r.bytes(0) > 16 || r.nontrivial(0)) {
			a.ints++
		}
	}
	for i := range params {
		params[i].Place = a.placeC(params[i].Type)
	}
}

func (a *allocation) placeC(full *Type) Place {
	t := full.strip()
	size := int64(-1)
	if t != nil {
		size = t.bytes(0)
	}
	switch {
	case t == nil || size < 0:
		return Place{Why: "its type has no known size"}
	case t.Kind == TypeFloat:
		if size > 8 && a.machine == elf.EM_X86_64 {
			return a.onStack(size, 16) // long double
		}
		if a.floats < a.abi.floats {
			a.floats++
			return Place{Why: vectorWhy}
		}
		return a.onStack(size, size)
	case t.Kind == TypeInt && size > 8: // __int128
		if a.machine == elf.EM_AARCH64 {
			a.ints = min((a.ints+1)&^1, len(a.abi.ints))
		}
		if a.ints+2 <= len(a.abi.ints) {
			return Place{Kind: PlaceRegisters, Registers: a.registers(2)}
		}
		return a.onStack(size, 16)
	case t.Kind != TypeStruct && t.Kind != TypeUnion && t.Kind != TypeArray:
		if a.ints < len(a.abi.ints) {
			return Place{Kind: PlaceRegisters, Registers: a.registers(1)}
		}
		return a.onStack(size, size)
	case size == 0:
		return Place{Why: "it is empty"}
	case t.nontrivial(0), a.rust && size > 16:
		return a.pointer()
	case a.machine == elf.EM_AARCH64:
		return a.aggregateARM64(t, size)
	}
	return a.aggregateX86(t, size)
}

// pointer places a value that the caller keeps in memory and passes by address.
func (a *allocation) pointer() Place {
	if a.ints < len(a.abi.ints) {
		return Place{Kind: PlacePointer, Registers: a.registers(1)}
	}
	p := a.onStack(8, 8)
	p.Kind = PlacePointer
	return p
}

// aggregateX86 follows the classification of eight-byte pieces: a piece of only floating-point fields is in a vector
// register, others in an integer register, and more than two pieces are in memory.
func (a *allocation) aggregateX86(t *Type, size int64) Place {
	if size > 16 {
		return a.onStack(size, 8)
	}
	pieces := int((size + 7) / 8)
	integer := make([]bool, 2)
	if !t.classify(0, integer, 0) {
		return a.onStack(size, 8)
	}
	ints := 0
	for _, isInt := range integer[:pieces] {
		if isInt {
			ints++
		}
	}
	if a.ints+ints > len(a.abi.ints) || a.floats+pieces-ints > a.abi.floats {
		return a.onStack(size, 8)
	}
	a.floats += pieces - ints
	if ints < pieces {
		a.ints += ints
		return Place{Why: "a part of " + vectorWhy}
	}
	return Place{Kind: PlaceRegisters, Registers: a.registers(ints)}
}

// classify marks the eight-byte pieces that hold an integer; false for fields that force the value into memory.
func (t *Type) classify(base int64, integer []bool, depth int) bool {
	t = t.strip()
	if t == nil || depth > 16 {
		return false
	}
	size := t.bytes(0)
	switch t.Kind {
	case TypeStruct, TypeUnion:
		for _, f := range t.members() {
			if !f.Type.classify(base+f.Offset, integer, depth+1) {
				return false
			}
		}
		return true
	case TypeArray:
		elem := t.element()
		n := elem.bytes(0)
		if n <= 0 || t.Count < 0 || t.Count > 16 {
			return t.Count == 0
		}
		for i := range t.Count {
			if !elem.classify(base+i*n, integer, depth+1) {
				return false
			}
		}
		return true
	case TypeFloat:
		return size <= 8
	}
	for at := base; at < base+size; at += 8 {
		if at/8 >= 2 {
			return false
		}
		integer[at/8] = true
	}
	return true
}

// nontrivial reports whether a C++ value has a copy constructor or destructor of its own (or virtual functions): such
// values are passed by address.
func (t *Type) nontrivial(depth int) bool {
	if t == nil || !t.foreign || t.golang || t.Kind != TypeStruct && t.Kind != TypeUnion || depth > 16 {
		return false
	}
	found := false
	t.at.children(func(c *dwarf.Entry) bool {
		switch c.Tag {
		case dwarf.TagInheritance, dwarf.TagMember:
			if v, ok := c.Val(dwarf.AttrVirtuality).(int64); ok && v != 0 {
				found = true
			} else if typ, ok := t.at.ix.ref(c, dwarf.AttrType); ok {
				found = typ.typeAt().strip().nontrivial(depth + 1)
			}
		case dwarf.TagSubprogram:
			const defaulted, deleted = 0x8b, 0x8a
			if v, ok := c.Val(dwarf.Attr(defaulted)).(int64); ok && v == 1 {
				break // = default in the class: trivial unless the members are not
			}
			if artificial, _ := c.Val(dwarf.AttrArtificial).(bool); artificial {
				break // made by the compiler
			}
			name := t.at.ix.text(c, dwarf.AttrName)
			if len(name) > 0 && name[0] == '~' {
				found = true
			} else if name == t.constructor() {
				found = t.copies(c)
			}
		}
		return !found
	})
	return found
}

// constructor is the name of the constructors: the name without template arguments.
func (t *Type) constructor() string {
	for i, r := range t.Name {
		if r == '<' {
			return t.Name[:i]
		}
	}
	return t.Name
}

// copies reports whether a constructor is a copy or move constructor: this, and a reference to the type itself.
func (t *Type) copies(c *dwarf.Entry) bool {
	n, own := 0, false
	die{t.at.ix, c.Offset}.children(func(p *dwarf.Entry) bool {
		if p.Tag != dwarf.TagFormalParameter {
			return true
		}
		if n++; n == 2 {
			if typ, ok := t.at.ix.ref(p, dwarf.AttrType); ok {
				if ref := typ.typeAt(); ref.Kind == TypeReference {
					target := ref.element().strip()
					own = target == t
				}
			}
		}
		return true
	})
	return own && n == 2
}

// aggregateARM64: up to four floats of one kind are in vector registers, up to 16 bytes in integer registers, more by
// address.
func (a *allocation) aggregateARM64(t *Type, size int64) Place {
	if n, ok := t.homogeneous(0); ok {
		if a.floats+n <= a.abi.floats {
			a.floats += n
			return Place{Why: vectorWhy}
		}
		a.floats = a.abi.floats
		return a.onStack(size, 8)
	}
	if size > 16 {
		return a.pointer()
	}
	n := int((size + 7) / 8)
	if a.ints+n <= len(a.abi.ints) {
		return Place{Kind: PlaceRegisters, Registers: a.registers(n)}
	}
	a.ints = len(a.abi.ints)
	return a.onStack(size, 8)
}

// homogeneous counts the members of an aggregate of one to four floats of the same size.
func (t *Type) homogeneous(depth int) (count int, ok bool) {
	size := int64(0)
	var walk func(t *Type, depth int) bool
	walk = func(t *Type, depth int) bool {
		t = t.strip()
		if t == nil || depth > 16 {
			return false
		}
		switch t.Kind {
		case TypeFloat:
			if size != 0 && size != t.bytes(0) {
				return false
			}
			size = t.bytes(0)
			count++
			return count <= 4
		case TypeStruct:
			for _, f := range t.members() {
				if !walk(f.Type, depth+1) {
					return false
				}
			}
			return true
		case TypeArray:
			if t.Count < 1 || t.Count > 4 {
				return false
			}
			for range t.Count {
				if !walk(t.element(), depth+1) {
					return false
				}
			}
			return true
		}
		return false
	}
	return count, walk(t, depth) && count > 0
}
