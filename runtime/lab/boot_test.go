package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests boot real kernels; they skip where QEMU or a kernel cannot be
// had.

// guestDir holds the test guests, which are built once.
var guestDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "lab-guest-") })

var builtGuests = map[Arch]func() (string, error){
	AMD64: sync.OnceValues(func() (string, error) { return goBuildGuest(AMD64) }),
	ARM64: sync.OnceValues(func() (string, error) { return goBuildGuest(ARM64) }),
}

func TestMain(m *testing.M) {
	Init()
	code := m.Run()
	if dir, err := guestDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// needKernel returns a kernel or skips.
func needKernel(t *testing.T, spec string, arch Arch) Kernel {
	t.Helper()
	if InGuest() {
		t.Skip("needs a host: guests do not nest")
	}
	if testing.Short() {
		t.Skip("needs a run without -short: it boots a kernel")
	}
	if err := Available(arch); err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	k, err := NewCatalogue().Fetch(ctx, spec, arch)
	if err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	return k
}

// buildGuest returns the test guest, a static binary.
func buildGuest(t testing.TB, arch Arch) string {
	t.Helper()
	path, err := builtGuests[arch]()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func goBuildGuest(arch Arch) (string, error) {
	dir, err := guestDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "guest-"+string(arch))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+string(arch))
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, b)
	}
	return out, nil
}

func guestJob(args ...string) Job { return Job{Args: append([]string{"/init"}, args...)} }

// fact returns the value of a name in facts' output.
func fact(out []byte, name string) string {
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// patience is how long tests wait for what must happen. A machine that does much else takes long for everything: only a hang reaches it. The aim of
// 5 seconds for a boot is checked by the benchmark.
const patience = 3 * time.Minute

func TestBoot(t *testing.T) {
	tests := []struct {
		spec string
		arch Arch
	}{{"5.10", AMD64}, {"6.1", AMD64}, {"6.12", AMD64}, {"newest", AMD64}, {"6.1", ARM64}, {"6.12", ARM64}}
	for _, tt := range tests {
		t.Run(tt.spec+" "+string(tt.arch), func(t *testing.T) {
			k := needKernel(t, tt.spec, tt.arch)
			res, err := Run(t.Context(), Config{
				Kernel: k, Init: buildGuest(t, tt.arch), Jobs: []Job{guestJob("facts")}, CPUs: 2, BootTimeout: patience,
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, res.Console)
			}
			if err := res.Err(); err != nil {
				t.Fatalf("%v\n%s", err, res.Jobs[0].Stderr)
			}
			t.Logf("%s booted in %s, %s", res.Release, res.Boot.Round(time.Millisecond), res.Accel)
			out := res.Jobs[0].Stdout
			if got := fact(out, "release"); got != res.Release || got != k.Release {
				t.Errorf("release %q, result says %q, catalogue says %q", got, res.Release, k.Release)
			}
			if tt.spec != "newest" && !strings.HasPrefix(res.Release, tt.spec+".") {
				t.Errorf("release %q is not %s", res.Release, tt.spec)
			}
			for _, name := range []string{"btf", "tracefs", "kprobes", "functions", "bpffs", "cgroup2", "securityfs", "tmp", "bpf-lsm", "lo-up"} {
				if fact(out, name) != "true" {
					t.Errorf("%s: %q", name, fact(out, name))
				}
			}
			if res.CPUs != 2 {
				t.Errorf("%d CPUs, want 2", res.CPUs)
			}
			if res.SkippedBytes != 0 {
				t.Errorf("%d bytes of noise on the result line", res.SkippedBytes)
			}
		})
	}
}

// TestJobs runs one boot with jobs that end in every way there is.
func TestJobs(t *testing.T) {
	k := needKernel(t, "5.10", AMD64)
	withTimeout := func(j Job, d time.Duration) Job { j.Timeout = d; return j }
	const flood = 100_000
	jobs := []Job{
		{Args: []string{"/init", "env", "a b", ""}, Env: []string{"GREETING=hello"}, Dir: "/made"},
		{Args: []string{"/bin/tool", "cat"}, Stdin: []byte("from\x00stdin\xff")},
		guestJob("read", "/etc/conf"),
		guestJob("exit", "42"),
		guestJob("signal"),
		withTimeout(guestJob("sleep"), time.Second),
		{Args: []string{"/init", "flood", strconv.Itoa(flood)}, MaxOutputBytes: flood / 2},
		guestJob("flood", strconv.Itoa(flood)),
		guestJob("eat"),
		{Args: []string{"/no/such/program"}},
		guestJob("family"),
		guestJob("noise"),
		{Args: []string{"/init", "sleep"}, Background: true},
		guestJob("exit", "0"),
		{Args: []string{"/init", "flood", "1000000"}, MaxOutputBytes: 32 << 10}, // a limit that pieces of output fill exactly
	}
	var streamed bytes.Buffer
	res, err := Run(t.Context(), Config{
		Kernel: k, Init: buildGuest(t, AMD64), Jobs: jobs, MemoryMiB: 256,
		Files: []File{{Path: "/bin/tool", Link: "/init"}, {Path: "/etc/conf", Data: []byte("setting"), Mode: 0o600}},
		Output: func(job int, stderr bool, p []byte) {
			if job == 0 && !stderr {
				streamed.Write(p)
			}
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, res.Console)
	}
	job := func(i int) *JobResult { return &res.Jobs[i] }
	wantErr := func(i int, text string) {
		t.Helper()
		err := job(i).Err()
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			t.Errorf("job %d %q: got %v, want %q", i, job(i).Args, err, text)
		}
	}
	wantOut := func(i int, text string) {
		t.Helper()
		if got := string(job(i).Stdout); got != text {
			t.Errorf("job %d %q: got %.200q, want %q", i, job(i).Args, got, text)
		}
	}
	wantErr(0, "")
	wantOut(0, "hello /made true [a b ]\n")
	if string(job(0).Stderr) != "on stderr\n" || streamed.String() != string(job(0).Stdout) {
		t.Errorf("stderr %q, streamed %q", job(0).Stderr, streamed.String())
	}
	wantErr(1, "")
	wantOut(1, "from\x00stdin\xff")
	wantOut(2, "setting<nil>")
	wantErr(3, "exit status 42")
	wantErr(4, "killed by SIGKILL")
	wantErr(5, "timeout")
	wantErr(6, "too much output")
	if n := len(job(6).Stdout); n != flood/2 {
		t.Errorf("flooding job kept %d bytes, want %d", n, flood/2)
	}
	wantErr(7, "")
	if n := len(job(7).Stdout); n != flood {
		t.Errorf("got %d bytes, want %d", n, flood)
	}
	wantErr(8, "ran out of memory")
	wantErr(9, "no such file")
	wantErr(10, "")
	wantOut(10, "parent done\n")
	wantErr(11, "")
	if n := bytes.Count(job(11).Stdout, []byte("line ")); n != 50 {
		t.Errorf("%d of 50 lines came through the noise", n)
	}
	if res.SkippedBytes == 0 || !strings.Contains(res.Console, "noise SLB1 4") {
		t.Errorf("skipped %d bytes; console:\n%s", res.SkippedBytes, lastLines(res.Console, 5))
	}
	wantErr(12, "SIGKILL") // stopped at the end
	wantErr(13, "")
	wantErr(14, "too much output")
}

// TestGuestFailures boots guests that fail as a whole.
func TestGuestFailures(t *testing.T) {
	k := needKernel(t, "5.10", AMD64)
	guest := buildGuest(t, AMD64)
	tests := []struct {
		name     string
		config   Config
		kind     ErrorKind
		contains string
	}{
		{"panic", Config{Jobs: []Job{guestJob("exit", "0"), guestJob("panic")}}, KindPanic, "sysrq"},
		{"hang", Config{Jobs: []Job{guestJob("exit", "0"), guestJob("sleep")}, Timeout: 45 * time.Second}, KindTimeout, "45s"},
		{"boot that takes too long", Config{Jobs: []Job{guestJob("facts")}, BootTimeout: 100 * time.Millisecond}, KindBoot, "100ms"},
		{"flood", Config{Jobs: []Job{guestJob("exit", "0"), guestJob("line-flood")}, MaxOutputBytes: 100_000}, KindFlood, "100000"},
		{
			"too little memory for its files",
			Config{Jobs: []Job{guestJob("facts")}, MemoryMiB: 128, Files: []File{{Path: "/big", Data: bytes.Repeat([]byte("x"), 90<<20)}}},
			KindMemory, "has 128 MiB",
		},
		{"bad plan", Config{Jobs: []Job{guestJob("facts")}, Files: []File{{Path: planPath, Data: []byte("{")}}}, KindInit, "JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Kernel, tt.config.Init = k, guest
			if tt.config.Accel == AccelAuto {
				tt.config.Accel = AccelTCG // a probe would take longer than the limits here
			}
			res, err := Run(t.Context(), tt.config)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v; jobs %+v\n%s", err, res.Jobs, res.Console)
			}
			if e.Kind != tt.kind || !strings.Contains(e.Error(), tt.contains) {
				t.Errorf("got %v (%s), want %s with %q\n%s", e, e.Kind, tt.kind, tt.contains, lastLines(e.Console, 10))
			}
			if len(tt.config.Jobs) == 2 {
				if err := res.Jobs[0].Err(); err != nil {
					t.Errorf("the job before: %v", err)
				}
				if res.Jobs[1].Err() == nil || !res.Jobs[1].Started {
					t.Errorf("the failing job: %+v", res.Jobs[1])
				}
			}
		})
	}
}

// TestFindPanic has last words of kernels that are hard to bring about at will.
func TestFindPanic(t *testing.T) {
	tests := []struct {
		console, want string
		noMemory      bool
	}{
		{"[    0.9] Initramfs unpacking failed: write error\n[    1.0] Kernel panic - not syncing: No working init found.\n", "Initramfs unpacking failed: write error", true},
		{"[    3.1] Kernel panic - not syncing: System is deadlocked on memory\n", "Kernel panic - not syncing: System is deadlocked on memory", true},
		{"[    3.1] Out of memory and no killable processes...\n", "Out of memory and no killable processes...", true},
		{"[    2.0] BUG: kernel NULL pointer dereference\n[    2.1] Kernel panic - not syncing: Fatal exception\n", "BUG: kernel NULL pointer dereference", false},
		{"[    2.1] Kernel panic - not syncing: sysrq triggered crash\n", "sysrq triggered crash", false},
		{"[    0.1] Linux version 5.10\n", "", false},
	}
	for _, tt := range tests {
		if line, noMemory := findPanic(tt.console); line != tt.want || noMemory != tt.noMemory {
			t.Errorf("%q: got %q, %v", tt.console, line, noMemory)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	k := Kernel{Name: "x", Arch: AMD64, Image: "/x"}
	for name, c := range map[string]Config{
		"no kernel":     {Jobs: []Job{guestJob("facts")}},
		"empty command": {Kernel: k, Jobs: []Job{{}}},
		"no init":       {Kernel: k, Init: "/no/such/file"},
		"architecture":  {Kernel: Kernel{Arch: "mips", Image: "/x"}},
	} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	t.Run("missing QEMU", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := Run(t.Context(), Config{Kernel: k})
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Package != "qemu-system-x86" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("dynamic init", func(t *testing.T) {
		for _, p := range []string{"/bin/sh", "/usr/bin/env"} {
			if _, err := os.Stat(p); err == nil {
				if err := CheckStatic(p, AMD64); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
					t.Errorf("%s: got %v", p, err)
				}
				return
			}
		}
		t.Skip("needs a program that is not static")
	})
}

// TestVmlinuzByPath boots a vmlinuz that was given by its path.
func TestVmlinuzByPath(t *testing.T) {
	cached := needKernel(t, "6.1", AMD64)
	path := filepath.Join(t.TempDir(), "my-kernel")
	b, err := os.ReadFile(cached.Image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := NewCatalogue().Fetch(t.Context(), path, AMD64)
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != cached.Release || k.Arch != AMD64 {
		t.Errorf("got %+v, want release %s", k, cached.Release)
	}
	res, err := Run(t.Context(), Config{Kernel: k, Init: buildGuest(t, AMD64), Jobs: []Job{guestJob("facts")}})
	if err != nil || res.Err() != nil || res.Release != cached.Release {
		t.Errorf("got %v, %v, %q", err, res.Err(), res.Release)
	}
}

// TestInstructionCount checks that the same loop costs the same number of
// instructions in two boots.
func TestInstructionCount(t *testing.T) {
	k := needKernel(t, "5.10", AMD64)
	guest := buildGuest(t, AMD64)
	var counts [2]int64
	for i := range counts {
		res, err := Run(t.Context(), Config{Kernel: k, Init: guest, ICount: true, Jobs: []Job{guestJob("count")}})
		if err != nil || res.Err() != nil {
			t.Fatalf("%v, %v\n%s", err, res.Err(), res.Console)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(res.Jobs[0].Stdout)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		counts[i] = n
	}
	t.Logf("%d and %d instructions for a million rounds", counts[0], counts[1])
	// At least two instructions a round; timer interrupts add a little.
	if counts[0] < 2_000_000 || counts[0] > 10_000_000 {
		t.Errorf("%d instructions for a million rounds", counts[0])
	}
	if d := counts[0] - counts[1]; max(d, -d) > counts[0]/1000 {
		t.Errorf("counts differ by more than 0.1 %%: %d", counts)
	}
}

func TestMatrixRunsAllAndKeepsOrder(t *testing.T) {
	kernels := []Kernel{needKernel(t, "5.10", AMD64), needKernel(t, "6.1", AMD64), {Name: "broken", Arch: AMD64}}
	guest := buildGuest(t, AMD64)
	out := Matrix(t.Context(), kernels, 2, func(k Kernel) (Config, error) {
		return Config{Init: guest, Jobs: []Job{guestJob("env", k.Name)}}, nil
	})
	for i, o := range out[:2] {
		if o.Err != nil || o.Kernel != kernels[i] || !strings.Contains(string(o.Result.Jobs[0].Stdout), "["+kernels[i].Name+"]") {
			t.Errorf("%s: %v, %q", kernels[i].Name, o.Err, o.Result.Jobs[0].Stdout)
		}
	}
	if out[2].Err == nil {
		t.Error("no error for a kernel without an image")
	}
}

// TestNothingStays cancels a run, and kills a process that has one.
func TestNothingStays(t *testing.T) {
	k := needKernel(t, "5.10", AMD64)
	const role, guestPath = "LAB_TEST_ROLE", "LAB_TEST_GUEST"
	guest := os.Getenv(guestPath) // the child that is killed must build nothing
	if guest == "" {
		guest = buildGuest(t, AMD64)
	}
	const mark = "lab.test.nothing.stays="
	config := func(id string) Config {
		return Config{Kernel: k, Init: guest, Accel: AccelTCG, Jobs: []Job{guestJob("sleep")}, Cmdline: mark + id}
	}
	if id := os.Getenv(role); id != "" {
		_, err := Run(t.Context(), config(id))
		t.Fatal("was not killed:", err)
	}
	id := strconv.Itoa(os.Getpid())

	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := Run(ctx, config(id+"a"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if pids := processesWith(t, mark+id+"a"); len(pids) != 0 {
			t.Errorf("QEMU still runs: %v", pids)
		}
	})
	t.Run("killed", func(t *testing.T) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNothingStays$")
		cmd.Env = append(os.Environ(), role+"="+id+"b", guestPath+"="+guest)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "QEMU to start", func() bool { return len(processesWith(t, mark+id+"b")) > 0 })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		waitFor(t, "QEMU to end", func() bool { return len(processesWith(t, mark+id+"b")) == 0 })
	})
}

// processesWith returns the processes whose command line has text in it.
func processesWith(t *testing.T, text string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		b, _ := os.ReadFile(d) // a process may have ended
		if bytes.Contains(b, []byte(text)) && bytes.Contains(b, []byte("qemu")) {
			pid, _ := strconv.Atoi(strings.Split(d, "/")[2])
			if unix.Kill(pid, 0) == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long for ", what)
		}
	}
}

func BenchmarkBoot(b *testing.B) {
	for _, spec := range Names() {
		k, ok := NewCatalogue().Cached(spec, AMD64)
		if !ok || Available(AMD64) != nil {
			continue
		}
		guest := buildGuest(b, AMD64)
		b.Run(spec, func(b *testing.B) {
			var boot time.Duration
			for b.Loop() {
				res, err := Run(b.Context(), Config{Kernel: k, Init: guest})
				if err != nil {
					b.Fatal(err)
				}
				boot += res.Boot
			}
			b.ReportMetric(boot.Seconds()/float64(b.N), "boot-s/op")
		})
	}
}
