package runtime

import (
	"fmt"
	"sort"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/value"
)

// mapAction does print(@m), clear(@m) and zero(@m).
func (s *Session) mapAction(d *event.Decoder, rec []byte) error {
	u := s.user[d.Event.Map]
	if u == nil {
		return fmt.Errorf("event %d: %s: %w", d.Event.ID, d.Event.Map, ErrNoMap)
	}
	switch d.Event.Kind {
	case object.EvClear:
		u.since = time.Now()
		return u.clear()
	case object.EvZero:
		u.since = time.Now()
		return u.zero()
	}
	vals, err := d.Fields(rec)
	if err != nil {
		return err
	}
	var args [2]uint64
	for i, v := range vals {
		if i < 2 {
			args[i] = uint64(v.Int) | v.U
		}
	}
	if d.Event.Text != "" {
		return s.printView(u, d.Event.Text, args[0], args[1])
	}
	return s.printMap(u, args[0], args[1])
}

// printView prints a map in the way that words ask for.
func (s *Session) printView(u *userMap, words string, top, div uint64) error {
	view, err := value.ParseView(words, u.spec.Value)
	if err != nil {
		return fmt.Errorf("print %s: %w", u.spec.Name, err)
	}
	view.Seconds = time.Since(u.since).Seconds()
	dump, err := u.dump()
	if err != nil {
		return err
	}
	s.out.Append(func(dst []byte) []byte { return s.values.AppendView(dst, dump, view, top, div, s.out.json) })
	return nil
}

func (s *Session) printMap(u *userMap, top, div uint64) error {
	dump, err := u.dump()
	if err != nil {
		return err
	}
	switch {
	case dump.N > 0:
	case u.spec.Key == nil:
		u.zeroRow(dump)
	case s.out.json:
		return nil // nothing is printed for an empty map, in neither form
	}
	s.out.Append(func(dst []byte) []byte {
		if s.out.json {
			return s.values.AppendMapJSON(dst, dump, top, div)
		}
		return s.values.AppendMap(dst, dump, top, div)
	})
	return nil
}

// printMaps prints all maps by name, those without entries left out.
func (s *Session) printMaps() error {
	names := make([]string, 0, len(s.user))
	for n := range s.user {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if s.opts.Graph != nil && n == s.opts.GraphMap {
			if err := s.opts.Graph(s); err != nil {
				return err
			}
			continue
		}
		dump, err := s.user[n].dump()
		if err != nil {
			return err
		}
		if dump.N == 0 {
			continue
		}
		s.out.Append(func(dst []byte) []byte {
			if s.out.json {
				return s.values.AppendMapJSON(dst, dump, 0, 0)
			}
			return s.values.AppendMap(dst, dump, 0, 0)
		})
	}
	return nil
}

// Dump reads a map of the script by its name (with @).
func (s *Session) Dump(name string) (*value.Dump, error) {
	u := s.user[name]
	if u == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNoMap)
	}
	return u.dump()
}
