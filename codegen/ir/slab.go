package ir

// slab gives out pieces of larger pieces of memory: a function is made of very many small things that live as long as it does.
type slab[T any] struct {
	room []T
	next int // length of the next piece of memory
}

// Lengths of the first and of the largest pieces of memory.
const (
	slabFirst = 16
	slabMost  = 256
)

func (s *slab[T]) grow(n int) {
	s.next = min(max(2*s.next, slabFirst), slabMost)
	s.room = make([]T, max(n, s.next))
}

// one gives a zero T.
func (s *slab[T]) one() *T {
	if len(s.room) == 0 {
		s.grow(1)
	}
	p := &s.room[0]
	s.room = s.room[1:]
	return p
}

// list gives an empty list with room for n.
func (s *slab[T]) list(n int) []T {
	if len(s.room) < n {
		s.grow(n)
	}
	l := s.room[:0:n]
	s.room = s.room[n:]
	return l
}

// copy gives a copy of a list; nil of an empty one.
func (s *slab[T]) copy(l []T) []T {
	if len(l) == 0 {
		return nil
	}
	return append(s.list(len(l)), l...)
}
