package lower

import "github.com/sonde-sh/sonde/lang/types"

// The verifier checks every plain load through a BTF pointer against the struct's layout (btf_struct_walk in kernel/bpf/btf.c) and refuses
// a load that does not fit a member. walk foresees its answer, so that lowering uses a plain load only where it is accepted, and knows
// what the loaded value is to the verifier.

type walkResult uint8

const (
	walkRefused walkResult = iota // use a probe read
	walkScalar                    // an integer to the verifier
	walkPtr                       // a BTF pointer to the struct that comes with it
	walkAddr                      // another pointer: an integer to older kernels, memory that is not trusted to newer ones
)

// maxWalk bounds the nesting of structs that walk follows.
const maxWalk = 32

// walk tells what a load of size bytes at offset off of struct s gives.
func walk(s *types.StructDef, off, size int) (walkResult, *types.StructDef) {
	for range maxWalk {
		next, rest, res, to := walkStep(s, off, size)
		if next == nil {
			return res, to
		}
		s, off = next, rest
	}
	return walkRefused, nil
}

// walkStep looks for the member of s that holds off. It gives a struct to go on with and the offset in it, or the result.
func walkStep(s *types.StructDef, off, size int) (next *types.StructDef, rest int, res walkResult, to *types.StructDef) {
	if off < 0 || off+size > s.Size {
		return nil, 0, walkRefused, nil // a flexible array at the end is readable, but seldom worth the trouble
	}
	for _, f := range s.Resolve() {
		t := f.Type
		if off+size <= f.Offset {
			break
		}
		if f.BitSize > 0 {
			end := f.Offset + (f.BitOffset+f.BitSize+7)/8
			if off <= f.Offset && end <= off+size {
				return nil, 0, walkScalar, nil
			}
			continue
		}
		if off < f.Offset {
			break
		}
		if off >= f.Offset+t.Size {
			continue
		}
		start, end := f.Offset, f.Offset+t.Size
		for t.Kind == types.Array && t.Elem != nil && t.Elem.Size > 0 {
			n := (off - start) / t.Elem.Size
			start += n * t.Elem.Size
			t = t.Elem
			// Kernels before 6.12 (seen on 5.10 and 6.1) do not follow the typedef of an element: to them atomic_long_t in an array is neither a
			// struct nor a pointer.
			if t.Name != "" && (t.Kind == types.Struct || t.Kind == types.Pointer) {
				return nil, 0, walkRefused, nil
			}
		}
		switch t.Kind {
		case types.Struct:
			return t.Struct, off - start, walkRefused, nil
		case types.Pointer:
			if size != 8 || off != start {
				return nil, 0, walkRefused, nil
			}
			if e := t.Elem; e != nil && e.Kind == types.Struct && !t.Declared && t.Space != types.SpaceUser {
				// In a union older kernels trust it, newer ones do not; both read it.
				return nil, 0, walkPtr, e.Struct
			}
			return nil, 0, walkAddr, nil
		}
		if off+size > end {
			return nil, 0, walkRefused, nil
		}
		return nil, 0, walkScalar, nil
	}
	return nil, 0, walkRefused, nil
}
