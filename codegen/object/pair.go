package object

import "encoding/binary"

// PairStride is the size of a slot in bytes. The slots of a map whose keys are threads (Map.Pair) are an array of one value. A slot is three
// words: its key, or 0 when it is free; the value; how many keys of this slot the hash holds. The first slot is never free.
const PairStride = 32

// pairNobody is the key of the first slot: that of no thread.
const pairNobody = ^uint64(0)

// PairMap is the name of the array of slots of a map.
func PairMap(name string) string { return "slots of " + name }

// PairContents are the slots of an empty map, as far as they are not zero. What would be in the first slot is in the hash.
func PairContents() []byte {
	b := binary.NativeEndian.AppendUint64(nil, pairNobody)
	b = binary.NativeEndian.AppendUint64(b, 0)
	return binary.NativeEndian.AppendUint64(b, 1)
}

// EachPair calls fn for each key in the slots of a map, with the bytes of its value.
func EachPair(slots []byte, fn func(key uint64, value []byte)) {
	for ; len(slots) >= PairStride; slots = slots[PairStride:] {
		if owner := binary.NativeEndian.Uint64(slots); owner != 0 && owner != pairNobody {
			fn(owner, slots[8:16])
		}
	}
}
