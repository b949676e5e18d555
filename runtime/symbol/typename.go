package symbol

import "debug/dwarf"

// typeNames are the named types of a program: the first complete definition of each at the top level of a compilation unit.
type typeNames struct {
	tags, enums, typedefs map[string]die
}

// StructNamed finds a structure or union by its tag in the debug information; nil when there is none.
func (f *File) StructNamed(tag string) *Type {
	return f.named(func(n *typeNames) map[string]die { return n.tags }, tag)
}

// EnumNamed finds an enumeration by its tag; nil when there is none.
func (f *File) EnumNamed(tag string) *Type {
	return f.named(func(n *typeNames) map[string]die { return n.enums }, tag)
}

// TypedefNamed finds a typedef; nil when there is none.
func (f *File) TypedefNamed(name string) *Type {
	return f.named(func(n *typeNames) map[string]die { return n.typedefs }, name)
}

func (f *File) named(kind func(*typeNames) map[string]die, name string) *Type {
	if !f.HasDebugInfo() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := f.index()
	if err != nil {
		return nil
	}
	if ix.byName == nil {
		ix.byName = ix.readNames()
	}
	d, ok := kind(ix.byName)[name]
	if !ok {
		return nil
	}
	return d.typeAt()
}

// readNames goes through the top level of all compilation units, once.
func (ix *dwarfIndex) readNames() *typeNames {
	n := &typeNames{tags: map[string]die{}, enums: map[string]die{}, typedefs: map[string]die{}}
	for _, u := range ix.units {
		die{ix, u.entry.Offset}.children(func(e *dwarf.Entry) bool {
			var list map[string]die
			switch e.Tag {
			case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType:
				list = n.tags
			case dwarf.TagEnumerationType:
				list = n.enums
			case dwarf.TagTypedef:
				list = n.typedefs
			default:
				return true
			}
			if declared, _ := e.Val(dwarf.AttrDeclaration).(bool); declared {
				return true
			}
			name := ix.text(e, dwarf.AttrName)
			if _, known := list[name]; name != "" && !known {
				list[name] = die{ix, e.Offset}
			}
			return true
		})
	}
	return n
}

// Dims are the lengths of an array's dimensions, outermost first; -1 for one that is not known.
func (t *Type) Dims() []int64 { return t.dims }
