package shell

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// watchOptions is what \watch was asked for.
type watchOptions struct {
	maps  []string
	every time.Duration
	top   int
	rate  bool
	count int // frames, 0 for no end
}

func (sh *Shell) watchArgs(args string) (watchOptions, error) {
	o := watchOptions{every: time.Second, top: 0}
	names, rest, err := sh.mapNames(args)
	if err != nil {
		return o, err
	}
	if len(names) == 0 {
		names = sh.userMaps()
	}
	if len(names) == 0 {
		return o, hintf("attach a probe that uses one, such as `tracepoint:raw_syscalls:sys_enter { @[comm] = count() }`", "no map to watch yet")
	}
	o.maps = names
	for i := 0; i < len(rest); i++ {
		w := rest[i]
		switch {
		case w == "rate":
			o.rate = true
		case w == "top" && i+1 < len(rest):
			i++
			if o.top, err = strconv.Atoi(rest[i]); err != nil || o.top < 1 {
				return o, hintf("write `\\watch @ top 10`", "`%s` is not a number of entries", rest[i])
			}
		case w == "count" && i+1 < len(rest):
			i++
			if o.count, err = strconv.Atoi(rest[i]); err != nil || o.count < 1 {
				return o, hintf("write `\\watch @ count 3`", "`%s` is not a number of frames", rest[i])
			}
		default:
			f, err := strconv.ParseFloat(strings.TrimSuffix(w, "s"), 64)
			if err != nil || f < 0.05 || f > 3600 {
				return o, hintf("write `\\watch @m [seconds] [top N] [rate]`", "`%s` is not a number of seconds from 0.05 on", w)
			}
			o.every = time.Duration(f * float64(time.Second))
		}
	}
	return o, nil
}

// watcher remembers the last frame, for rates.
type watcher struct {
	opts watchOptions
	last map[string]map[string]float64
	when time.Time
}

// cmdWatch shows maps again and again. On a terminal the view takes the screen until q or Ctrl-C; elsewhere frames are printed one after the
// other, one unless `count` says more.
func (sh *Shell) cmdWatch(ctx context.Context, args string) error {
	o, err := sh.watchArgs(args)
	if err != nil {
		return err
	}
	w := &watcher{opts: o}
	if sh.editor == nil {
		if o.rate {
			if _, err := sh.frame(w, 1000); err != nil { // what the first rate is measured from
				return err
			}
		}
		for n := max(o.count, 1); n > 0; n-- {
			select {
			case <-time.After(o.every):
			case <-ctx.Done():
				return ctx.Err()
			}
			text, err := sh.frame(w, 1000)
			if err != nil {
				return err
			}
			sh.write(text)
		}
		return nil
	}
	restore, err := sh.editor.keys.rawMode()
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	out := sh.editor.out
	sh.out.view(true)
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	last, err := sh.watchLoop(ctx, w, out)
	fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
	restore()
	sh.out.view(false)
	if err != nil {
		return err
	}
	sh.write(last) // the last frame stays in the scrollback
	return nil
}

func (sh *Shell) watchLoop(ctx context.Context, w *watcher, out *os.File) (last string, err error) {
	next := time.Now()
	paused := false
	for frames := 0; ctx.Err() == nil; {
		cols, rows := screenSize(out)
		if !time.Now().Before(next) && !paused {
			if last, err = sh.frame(w, rows-3); err != nil {
				return "", err
			}
			draw(out, last, w.opts, cols, rows)
			next = time.Now().Add(w.opts.every)
			if frames++; w.opts.count > 0 && frames >= w.opts.count {
				return last, nil
			}
		}
		b, ok, err := sh.editor.keys.key(min(max(time.Until(next), time.Millisecond), 100*time.Millisecond))
		if err != nil {
			return last, nil
		}
		if !ok {
			if c, r := screenSize(out); c != cols || r != rows {
				next = time.Now()
			}
			continue
		}
		switch b {
		case 'q', 'Q', 3, 4, 27:
			return last, nil
		case ' ':
			paused = !paused
		case 'r':
			w.opts.rate = !w.opts.rate
			next = time.Now()
		case 'c':
			for _, m := range w.opts.maps {
				_ = sh.hub.Clear(m)
			}
			next = time.Now()
		case '+', '-':
			if b == '+' {
				w.opts.every /= 2
			} else {
				w.opts.every *= 2
			}
			w.opts.every = min(max(w.opts.every, 50*time.Millisecond), time.Minute)
			next = time.Now()
		}
	}
	return last, nil
}

// draw paints a frame from the top left; what is left of the last frame is cleared line by line, so nothing flickers.
func draw(out *os.File, text string, o watchOptions, cols, rows int) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	head := fmt.Sprintf("%s every %s   %s   q leaves, space pauses, r rates, c clears, + - speed", strings.Join(o.maps, " "), o.every, time.Now().Format("15:04:05"))
	b.WriteString("\x1b[7m" + pad(cut(head, cols), cols) + "\x1b[0m\r\n")
	n := 1
	for line := range strings.Lines(text) {
		if n >= rows-1 {
			break
		}
		b.WriteString(cut(strings.TrimRight(line, "\n"), cols) + "\x1b[K\r\n")
		n++
	}
	b.WriteString("\x1b[J")
	fmt.Fprint(out, b.String())
}

func cut(s string, cols int) string {
	s = strings.ReplaceAll(s, "\t", "    ")
	if r := []rune(s); len(r) > cols {
		return string(r[:cols])
	}
	return s
}

func pad(s string, cols int) string {
	return s + strings.Repeat(" ", max(0, cols-len([]rune(s))))
}

// frame draws the maps once: tables largest first, everything else as print does.
func (sh *Shell) frame(w *watcher, rows int) (string, error) {
	var b strings.Builder
	now := time.Now()
	seconds := now.Sub(w.when).Seconds()
	current := map[string]map[string]float64{}
	each := max(5, rows/max(1, len(w.opts.maps))-2)
	if w.opts.top > 0 {
		each = w.opts.top
	}
	for _, name := range w.opts.maps {
		list, keyed, err := sh.entries(name)
		if err != nil {
			return "", err
		}
		values := map[string]float64{}
		numbers := true
		for _, e := range list {
			values[e.key] = e.n
			numbers = numbers && e.number
		}
		current[name] = values
		var rate map[string]float64
		if w.opts.rate && w.last != nil {
			rate = map[string]float64{}
			for k, v := range values {
				rate[k] = (v - w.last[name][k]) / max(seconds, 1e-3)
			}
		}
		switch {
		case len(list) == 0:
			fmt.Fprintf(&b, "%s is empty\n", name)
		case keyed && numbers:
			b.WriteString(topTable(name, list, each, sh.width(), rate))
		case !keyed && numbers:
			fmt.Fprintf(&b, "%s: %s", name, list[0].val)
			if rate != nil {
				fmt.Fprintf(&b, "   %.1f per second", rate[""])
			}
			b.WriteByte('\n')
		default:
			dump, err := sh.hub.Dump(name)
			if err != nil {
				return "", err
			}
			b.Write(sh.hub.Values().AppendMap(nil, dump, uint64(w.opts.top), 0))
		}
	}
	w.last, w.when = current, now
	return b.String(), nil
}
