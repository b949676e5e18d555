package seccomp

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// straceCounts reads strace's log: "PID name(args) = result", where a call that was interrupted by another line is there twice.
// Those in cut have no result because their process was killed: strace stops a thread before it is inside its call, and when
// another thread ends the process then, the call is never made.
func straceCounts(t *testing.T, path string) (counts, cut map[string]uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts, cut = map[string]uint64{}, map[string]uint64{}
	begun := map[string]string{} // by thread: a call whose result did not come yet
	end := func(pid string) {
		if name := begun[pid]; name != "" {
			cut[name]++
		}
		delete(begun, pid)
	}
	// Calls that never return have no result either.
	noResult := func(pid, rest string) {
		if name := begun[pid]; (strings.HasSuffix(rest, "= ?") || strings.HasSuffix(rest, "= ? <unavailable>")) && name != "exit" && name != "exit_group" {
			end(pid)
		}
		delete(begun, pid)
	}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		pid, rest, ok := strings.Cut(s.Text(), " ")
		rest = strings.TrimSpace(rest)
		switch {
		case !ok || strings.HasPrefix(rest, "---"):
			continue
		case strings.HasPrefix(rest, "+++"):
			end(pid)
			continue
		case strings.HasPrefix(rest, "<..."):
			noResult(pid, rest)
			continue
		}
		name, _, ok := strings.Cut(rest, "(")
		if !ok {
			t.Fatalf("line of strace is not understood: %s", s.Text())
		}
		if hex, ok := strings.CutPrefix(name, "syscall_0x"); ok { // newer than strace
			n, err := strconv.ParseInt(hex, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			name = Native().Name(int(n))
		}
		counts[name]++
		begun[pid] = name
		if !strings.HasSuffix(rest, "<unfinished ...>") {
			noResult(pid, rest)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	for pid := range begun {
		end(pid)
	}
	return counts, cut
}

// TestRecordEqualsStrace lets both watch the same run: two runs of one program would differ by themselves.
func TestRecordEqualsStrace(t *testing.T) {
	strace := tool(t, "strace")
	for _, w := range workloads(t) {
		t.Run(w.name, func(t *testing.T) {
			for i := range *launches {
				log := filepath.Join(t.TempDir(), "strace")
				p := record(t, Options{}, append([]string{strace, "-f", "-qq", "-s", "0", "-o", log}, w.command...)...)
				want, cut := straceCounts(t, log)
				want["execve"]++ // that of strace itself, which we started
				got := map[string]uint64{}
				for _, c := range p.Calls {
					for _, q := range c.Programs {
						if q.Path != strace {
							got[c.Name] += q.Count
						}
					}
					if c.Name == "execve" { // those that a program makes count for the program that made them
						got["execve"] = c.Count
					}
				}
				if len(p.Runs[0].Lost) > 0 {
					t.Errorf("lost: %v", p.Runs[0].Lost)
				}
				if diff := countDiff(want, cut, got); diff != "" {
					t.Fatalf("launch %d: strace and the recording differ (strace, recorded): %s", i, diff)
				}
				if len(want) < 10 {
					t.Fatalf("strace saw only %d kinds of calls", len(want))
				}
			}
		})
	}
}

func countDiff(want, cut, got map[string]uint64) string {
	var out []string
	names := slices.Sorted(maps.Keys(want))
	for n := range got {
		if _, ok := want[n]; !ok {
			names = append(names, n)
		}
	}
	for _, n := range names {
		if got[n] > want[n] || got[n]+cut[n] < want[n] {
			out = append(out, fmt.Sprintf("%s %d %d", n, want[n], got[n]))
		}
	}
	return strings.Join(out, ", ")
}
