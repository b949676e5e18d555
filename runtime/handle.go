package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/value"
)

// handle does what a record asks for; false ends the reading.
func (s *Session) handle(rec []byte) bool {
	id, ok := event.ID(rec)
	if !ok || int(id) >= len(s.events) {
		s.undecoded(fmt.Errorf("a record of %d bytes has event id %d of %d", len(rec), id, len(s.events)))
		return true
	}
	d := s.events[id]
	if d.Event.Kind == object.EvPrintf {
		return s.printf(d, rec)
	}
	if err := s.action(d, rec); err != nil {
		s.undecoded(err)
	}
	select {
	case <-s.exit:
		return false
	default:
		return true
	}
}

// handleRest prints what was sent before and by the end programs; a second exit changes nothing.
func (s *Session) handleRest(rec []byte) bool {
	s.handle(rec)
	return true
}

func (s *Session) undecoded(err error) {
	s.lost.n++
	if s.lost.err == nil {
		s.lost.err = err
	}
}

func (s *Session) printf(d *event.Decoder, rec []byte) bool {
	s.out.Append(func(dst []byte) []byte {
		n := len(dst)
		out, err := d.AppendPrintf(dst, rec)
		if err != nil {
			s.undecoded(err)
			return dst[:n]
		}
		if !s.out.json {
			return out
		}
		text := string(out[n:])
		return append(value.AppendJSONString(append(out[:n], `{"type": "printf", "data": `...), text), "}\n"...)
	})
	return true
}

func (s *Session) text(d *event.Decoder, rec []byte) (string, error) {
	b, err := d.AppendPrintf(nil, rec)
	return string(b), err
}

func (s *Session) action(d *event.Decoder, rec []byte) error {
	ev := d.Event
	switch ev.Kind {
	case object.EvErrorf, object.EvWarnf:
		return s.message(d, rec)
	case object.EvCat:
		name, err := s.text(d, rec)
		if err == nil {
			s.cat(name, ev.Span)
		}
		return err
	case object.EvSystem:
		cmd, err := s.text(d, rec)
		if err == nil {
			s.system(cmd, ev.Span)
		}
		return err
	case object.EvTime:
		s.out.Message("time", value.Strftime(ev.Text, time.Now()))
		return nil
	case object.EvPrintMap, object.EvClear, object.EvZero:
		return s.mapAction(d, rec)
	}
	vals, err := d.Fields(rec)
	if err != nil {
		return err
	}
	switch ev.Kind {
	case object.EvJoin:
		s.join(vals, ev.Text)
	case object.EvExit:
		s.exits.Add(1)
		if len(vals) > 0 {
			s.exitCode.CompareAndSwap(0, vals[0].Int|int64(vals[0].U))
		}
		s.exitOnce.Do(func() { close(s.exit) })
	case object.EvPrintValue:
		s.printValue(vals)
	case object.EvUnwatch:
		if len(vals) > 0 {
			s.unwatch(vals[0].U)
		}
	case object.EvHelperError:
		s.helperError(ev, vals)
	default:
		return fmt.Errorf("event %d has kind %d, which this session does not handle", ev.ID, ev.Kind)
	}
	return nil
}

func (s *Session) report(sev diag.Severity, code diag.Code, sp source.Span, text string, hints ...string) {
	s.out.Flush() // keep the order of output and messages where both go to one terminal
	s.opts.Report(&diag.Diagnostic{Severity: sev, Code: code, Span: sp, Message: text, Hints: hints})
}

func (s *Session) message(d *event.Decoder, rec []byte) error {
	text, err := s.text(d, rec)
	if err != nil {
		return err
	}
	if d.Event.Kind == object.EvWarnf {
		s.scriptMessage("warnf", diag.Warning, d.Event.Span, text)
	} else {
		s.errors.Add(1)
		s.scriptMessage("errorf", diag.Error, d.Event.Span, text)
	}
	return nil
}

// unwatch detaches the watchpoints at an address. Their links stay in the list: closing a link twice is harmless.
func (s *Session) unwatch(address uint64) {
	s.mu.Lock()
	links := slices.Clone(s.links)
	s.mu.Unlock()
	for _, l := range links {
		if a := l.link.Attach; a.Mechanism == object.Breakpoint && a.Address == address {
			l.link.Close()
		}
	}
}

func (s *Session) cat(name string, sp source.Span) {
	f, err := os.Open(name)
	if err != nil {
		s.report(diag.Error, "E0810", sp, fmt.Sprintf("failed to open file '%s' (%s)", name, diag.Sentence(errors.Unwrap(err).Error())))
		return
	}
	defer f.Close()
	limit := s.obj.Config.MaxCatBytes
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	if err != nil {
		s.report(diag.Error, "E0810", sp, fmt.Sprintf("cat: cannot read `%s`: %v", name, err))
	}
	s.out.Message("cat", string(b))
}

func (s *Session) system(cmd string, sp source.Span) {
	if !s.opts.Unsafe {
		s.report(diag.Error, "E0811", sp, "system() needs --unsafe")
		return
	}
	s.commands++
	if s.opts.DryActions {
		return
	}
	s.out.Flush() // the command may write to the same terminal
	c := exec.Command("/bin/sh", "-c", cmd)
	c.Stderr = os.Stderr
	b, err := c.Output()
	if len(b) > 0 {
		s.out.Message("syscall", string(b))
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		s.report(diag.Error, "E0812", sp, fmt.Sprintf("command exited with code %d", exit.ExitCode()))
	case errors.As(err, &exit):
		s.report(diag.Error, "E0812", sp, fmt.Sprintf("command ended: %s", exit.ProcessState))
	case err != nil:
		s.report(diag.Error, "E0812", sp, fmt.Sprintf("system: cannot run `%s`: %v", cmd, err))
	}
}

func (s *Session) join(vals []value.V, sep string) {
	if len(vals) == 0 {
		return
	}
	text := strings.Join(strings.Split(strings.TrimSuffix(vals[0].S, "\x00"), "\x00"), sep)
	if s.out.JSON() {
		s.out.Message("join", text)
	} else {
		s.out.Message("join", text+"\n")
	}
}

func (s *Session) printValue(vals []value.V) {
	if len(vals) == 0 {
		return
	}
	s.out.Append(func(dst []byte) []byte {
		if s.out.json {
			return append(value.AppendJSON(append(dst, `{"type": "value", "data": `...), vals[0]), "}\n"...)
		}
		return append(value.AppendText(dst, vals[0]), '\n')
	})
}

func (s *Session) helperError(ev *object.Event, vals []value.V) {
	if len(vals) == 0 {
		return
	}
	s.helperFailure(ev.Text, vals[0].Int, ev.Span)
}

// failures reports each place of the script where a map operation failed, once; the counters tell how often.
func (s *Session) failures() {
	if len(s.obj.Failures) == 0 || s.globals == nil {
		return
	}
	if s.reported == nil {
		s.reported = make([]bool, len(s.obj.Failures))
	}
	for i, f := range s.obj.Failures {
		if s.reported[i] {
			continue
		}
		if rc := int64(binary.NativeEndian.Uint64(s.globals[f.Off:])); rc != 0 {
			s.reported[i] = true
			if missingDelete(f.Helper, rc) {
				continue // scripts delete without having looked: with -k only
			}
			if slices.ContainsFunc(s.failed, func(g object.Failure) bool { return g.Helper == f.Helper && g.Span == f.Span }) {
				continue // the same place, compiled for another attach point
			}
			s.failed = append(s.failed, f)
			s.helperFailure(f.Helper, rc, f.Span)
		}
	}
}

// scriptMessage prints what errorf and warnf say: a line without the source, which would only be the call itself, or a JSON object.
func (s *Session) scriptMessage(kind string, sev diag.Severity, sp source.Span, text string) {
	if !s.out.JSON() {
		s.out.Flush()
		s.opts.Report(&diag.Diagnostic{Severity: sev, Span: sp, Message: text, Brief: true})
		return
	}
	if sev == diag.Warning && s.opts.NoWarnings {
		return
	}
	s.out.Append(func(dst []byte) []byte {
		dst = append(append(append(dst, `{"type": "`...), kind...), `", "msg": `...)
		return s.appendPlace(value.AppendJSONString(dst, text), sp)
	})
}

// appendPlace appends the place in the script that ends a JSON message.
func (s *Session) appendPlace(dst []byte, sp source.Span) []byte {
	pos := s.obj.Files.Position(sp.Start)
	name := ""
	if pos.File != nil {
		name = pos.File.Name
	}
	return fmt.Appendf(value.AppendJSONString(append(dst, `, "filename": `...), name), `, "line": %d, "col": %d}`+"\n", pos.Line, pos.Col)
}

func (s *Session) helperFailure(helper string, errno int64, sp source.Span) {
	if helper == object.ArrayIndex {
		s.outOfBounds(sp)
		return
	}
	errno = int64(int32(errno)) // maps have results of 32 bits before Linux 6.4
	text := fmt.Sprintf("%s\nAdditional Info - helper: %s, retcode: %d", helperText(helper, errno), helper, errno)
	if !s.out.JSON() {
		s.report(diag.Warning, "W0820", sp, text)
		return
	}
	s.out.Append(func(dst []byte) []byte {
		dst = value.AppendJSONString(append(dst, `{"type": "helper_error", "msg": `...), value.ErrnoText(errno))
		dst = value.AppendJSONString(append(dst, `, "helper": `...), helper)
		return s.appendPlace(fmt.Appendf(dst, `, "retcode": %d`, errno), sp)
	})
}

func (s *Session) outOfBounds(sp source.Span) {
	const text = "Array access out of bounds. This can lead to unexpected results."
	if s.out.JSON() {
		s.scriptMessage("runtime_error", diag.Error, sp, text)
	} else {
		s.report(diag.Warning, "W0820", sp, text)
	}
}

// missingDelete reports whether a helper failed because the key to be deleted was not there.
func missingDelete(helper string, errno int64) bool {
	return strings.HasSuffix(helper, "map_delete_elem") && int64(int32(errno)) == -int64(unix.ENOENT)
}

// helperText says what a helper's error means for the script.
func helperText(helper string, errno int64) string {
	switch {
	case strings.HasSuffix(helper, "map_update_elem") && errno == -int64(unix.E2BIG):
		return "Map full; can't update element. Try increasing max_map_keys config or manually setting the max entries in a map declaration e.g. `let @a = hash(5000)`"
	case missingDelete(helper, errno):
		return "Can't delete map element because it does not exist."
	case strings.HasSuffix(helper, "map_lookup_elem"):
		return "Can't lookup map element because it does not exist."
	}
	return value.ErrnoText(errno)
}
