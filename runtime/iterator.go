package runtime

import (
	"context"
	"errors"
	"io"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
)

// iterators lists the links of iterator programs.
func (s *Session) iterators() []*attached {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*attached
	for _, l := range s.links {
		if l.link.Used.Mechanism == object.Iter {
			out = append(out, l)
		}
	}
	return out
}

// runIterators walks over the objects of all iterators that are not pinned; those that are run whenever somebody reads the pinned file. It
// reports whether there was any.
func (s *Session) runIterators(ctx context.Context) bool {
	links := s.iterators()
	for _, l := range links {
		a := l.link.Used
		if a.PinPath != "" {
			s.out.Message("", "Program pinned to "+a.PinPath+"\n")
			continue
		}
		if ctx.Err() != nil {
			break
		}
		f, err := l.link.Iterator()
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			s.report(diag.Error, "E0803", a.Span, err.Error())
		}
	}
	return len(links) > 0
}
