package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// floodScript prints every event of the load, and of nobody else.
const floodScript = `tracepoint:syscalls:sys_enter_openat /pid == $1/ { printf("%d %s %s\n", pid, comm, str(args->filename)); }`

// flow is what came of the events of one run.
type flow struct {
	produced, printed, reported int
	usage                       usage
	added                       float64       // CPU nanoseconds that a call takes longer when it is traced
	took                        time.Duration // all calls together
}

// lostNumber finds what tracers say about lost events.
var lostNumber = regexp.MustCompile(`(?i)\blost (\d+)|(\d+) (?:events?|records?)[^\n]* lost|(\d+) lost`)

func lostEvents(messages string) int {
	sum := 0
	for _, m := range lostNumber.FindAllStringSubmatch(messages, -1) {
		for _, s := range m[1:] {
			if n, err := strconv.Atoi(s); err == nil {
				sum += n
			}
		}
	}
	return sum
}

// stream runs a tracer while the load makes n events.
func (b *bench) stream(ctx context.Context, t *tracer, n int, pause time.Duration) (flow, error) {
	f := flow{produced: n}
	l, err := startLoad(ctx)
	if err != nil {
		return f, err
	}
	defer l.close()
	// As fast as possible, the fastest of several counts; with pauses the mean, because what wakes the reader up now and then belongs to it.
	free, err := b.freeCall(l, pause)
	if err != nil {
		return f, err
	}
	out, err := os.CreateTemp("/dev/shm", "bench-")
	if err != nil {
		return f, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	s, err := t.begin(ctx, nil, "-o", out.Name(), "-e", floodScript, strconv.Itoa(l.pid))
	if err != nil {
		return f, err
	}
	defer func() { _ = syscall.Kill(s.PID, syscall.SIGKILL) }()
	if err := s.wait(ctx); err != nil {
		return f, err
	}
	c, err := l.run("openat", n, pause)
	if err != nil {
		return f, err
	}
	f.added, f.took = c.perCall()-free, c.wall
	time.Sleep(300 * time.Millisecond) // the rest of the ring
	if err := s.interrupt(); err != nil {
		return f, err
	}
	if f.usage, err = s.end(); err != nil {
		return f, err
	}
	prefix := strconv.Itoa(l.pid) + " "
	r, err := os.Open(out.Name())
	if err != nil {
		return f, err
	}
	defer r.Close()
	for br := bufio.NewReaderSize(r, 1<<20); ; {
		line, err := br.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte(prefix)) && bytes.HasSuffix(line, []byte(missingFile+"\n")) {
			f.printed++
		} else {
			f.reported += lostEvents(string(line)) // bpftrace says it in its output
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return f, err
		}
	}
	f.reported += lostEvents(s.messages())
	return f, nil
}

// freeCall gives the CPU nanoseconds of a call of the stream that nobody traces.
func (b *bench) freeCall(l *load, pause time.Duration) (float64, error) {
	if pause == 0 {
		return b.timeCalls(l, "openat", 5)
	}
	c, err := l.run("openat", 20_000, pause)
	return c.perCall(), err
}

// flood measures the way of an event from a program to the output.
func (b *bench) flood(ctx context.Context) error {
	g := b.table.group("Printing", "`"+oneLine(floodScript)+"` into a memory file. CPU is user and system time of the tracer less that of a run "+
		"without events. An unreported event is one that was neither printed nor counted as lost.")
	scale := 1
	if b.quick {
		scale = 10
	}
	modes := []struct {
		name   string
		n      int
		pause  time.Duration
		rounds int
		limit  float64 // of the reader's CPU
		added  float64 // of what the call takes longer
	}{
		{"flood", 3_000_000 / scale, 0, max(1, b.rounds/2), 1.0 / 10, 0.5},
		{"100000 a second", 200_000 / scale, 10 * time.Microsecond, max(1, b.rounds/2), 1.0 / 10, 0},
		{"50000 a second", 100_000 / scale, 20 * time.Microsecond, max(1, b.rounds/2), 1.0 / 10, 0.1},
		{"20000 a second", 40_000 / scale, 50 * time.Microsecond, max(1, b.rounds/2), 0, 0},
	}
	idle := newSeries()
	for range max(2, b.rounds/2) {
		for i, t := range b.tracers() {
			f, err := b.stream(ctx, t, 1, 0)
			if err != nil {
				return err
			}
			idle.add(i, f.usage.cpu().Seconds())
		}
	}
	for _, m := range modes {
		b.progress("flood: %s", m.name)
		cpu, user, share, unreported, added, rss := newSeries(), newSeries(), newSeries(), newSeries(), newSeries(), newSeries()
		for range m.rounds {
			for i, t := range b.tracers() {
				f, err := b.stream(ctx, t, m.n, m.pause)
				if err != nil {
					return err
				}
				if f.printed == 0 {
					return fmt.Errorf("%s printed nothing of %d events", t.name, f.produced)
				}
				cpu.add(i, (f.usage.cpu().Seconds()-median(idle.v[i]))/float64(f.printed)*1e9)
				user.add(i, f.usage.User.Seconds()/float64(f.printed)*1e9)
				share.add(i, 100*float64(f.produced-f.printed)/float64(f.produced))
				unreported.add(i, float64(f.produced-f.printed-f.reported))
				added.add(i, f.added)
				rss.add(i, float64(f.usage.MaxRSS)/(1<<20))
			}
		}
		g.add(cpu.row(m.name+": CPU per printed event", "ns", m.limit))
		g.add(user.row(m.name+": user CPU per printed event, with the start", "ns", m.limit))
		g.add(share.row(m.name+": not printed", "%", 0))
		u := unreported.row(m.name+": unreported", "events", 0)
		if u.absolute = true; u.ours != 0 {
			u.limit = math.SmallestNonzeroFloat64
		}
		g.add(u)
		g.add(added.row(m.name+": CPU that the traced call takes longer", "ns", m.added))
		g.add(rss.row(m.name+": peak memory", "MiB", 1.0/8))
	}
	return b.lossFree(ctx)
}

// lossFree looks for the rate up to which a tracer prints every event.
func (b *bench) lossFree(ctx context.Context) error {
	const seconds = 2
	pauses := []time.Duration{32, 16, 8, 4, 2, 1, 0} // microseconds
	best := newSeries()
	for range max(1, b.rounds/2) {
		for i, t := range b.tracers() {
			b.progress("flood: rate without loss, %s", t.name)
			least := math.NaN()
			for _, p := range pauses {
				n := 3_000_000
				if p > 0 {
					n = int(seconds * time.Second / (p * time.Microsecond))
				}
				f, err := b.stream(ctx, t, n, p*time.Microsecond)
				if err != nil {
					return err
				}
				if f.printed < f.produced {
					break
				}
				least = float64(f.took.Nanoseconds()) / float64(n)
			}
			best.add(i, least)
		}
	}
	g := b.table.group("Printing without loss", fmt.Sprintf("The same script. How close events of one thread may follow each other for %d seconds so that each is printed: "+
		"the closest of several, each half of the one before.", seconds))
	g.add(best.row("time between events", "ns", 1.0/5))
	return nil
}

// keys measures printing a large map.
func (b *bench) keys(ctx context.Context) error {
	for _, n := range []int{100_000, 1_000_000} {
		if b.quick {
			n /= 10
		}
		if err := b.printKeys(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) printKeys(ctx context.Context, n int) error {
	g := b.table.group(fmt.Sprintf("Printing %d keys", n), "A map with that many keys, printed at the end; from Ctrl-C to the end of the process.")
	script := "tracepoint:syscalls:sys_enter_getpgid /pid == $1/ { @[args->pid] = count(); }"
	wall, cpu, rss := newSeries(), newSeries(), newSeries()
	for range max(1, b.rounds/2) {
		for i, t := range b.tracers() {
			l, err := startLoad(ctx)
			if err != nil {
				return err
			}
			u, exit, err := b.keysOnce(ctx, t, l, script, n)
			l.close()
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			wall.add(i, ms(exit))
			cpu.add(i, ms(u.cpu()))
			rss.add(i, float64(u.MaxRSS)/(1<<20))
		}
	}
	g.add(wall.row("wall", "ms", 0))
	g.add(cpu.row("CPU of the whole process", "ms", 1.0/4))
	g.add(rss.row("peak memory", "MiB", 1.0/3))
	return nil
}

func (b *bench) keysOnce(ctx context.Context, t *tracer, l *load, script string, n int) (usage, time.Duration, error) {
	out, err := os.CreateTemp("/dev/shm", "bench-")
	if err != nil {
		return usage{}, 0, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	limit := strconv.Itoa(2 * n)
	// The name of the variable changed with 0.20; each version knows one.
	env := []string{"BPFTRACE_MAX_MAP_KEYS=" + limit, "BPFTRACE_MAP_KEYS_MAX=" + limit}
	s, err := t.begin(ctx, env, "-o", out.Name(), "-e", script, strconv.Itoa(l.pid))
	if err != nil {
		return usage{}, 0, err
	}
	defer func() { _ = syscall.Kill(s.PID, syscall.SIGKILL) }()
	if err := s.wait(ctx); err != nil {
		return usage{}, 0, err
	}
	if _, err := l.run("getpgids", n, 0); err != nil {
		return usage{}, 0, err
	}
	t0 := time.Now()
	if err := s.interrupt(); err != nil {
		return usage{}, 0, err
	}
	u, err := s.end()
	exit := time.Since(t0)
	if err != nil {
		return u, exit, err
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		return u, exit, err
	}
	refused := 0
	if n >= 1e6 { // a map of that size grows while events come; where the kernel's allocator has nothing at hand keys are refused, and counted
		refused = n / 200
	}
	if got := strings.Count(string(text), "@["); got > n || got < n-refused {
		return u, exit, fmt.Errorf("printed %d keys of %d", got, n)
	}
	return u, exit, nil
}
