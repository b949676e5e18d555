package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/cmd/sonde/verify"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/runtime/lab"
)

func writeScripts(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sonde(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"sonde"}, args...), stdio{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

// TestKernelVerifyRunning is what a guest does for its host.
func TestKernelVerifyRunning(t *testing.T) {
	needs.BPF(t)
	dir := writeScripts(t, map[string]string{
		"good.bt":  `interval:ms:10 { printf("tick\n"); exit(); }`,
		"wrong.bt": "BEGIN {\n  printf(\"%d\", nosuch);\n}",
		"field.bt": `BEGIN { $t = curtask; print($t.no_such_field); }`,
		"code.bt":  `BEGIN { exit(3); }`,
		"lib.bt":   `macro two() { 2 }`,
		"uses.bt":  `import "lib.bt"; BEGIN { printf("%d\n", two()); }`,
	})
	want := map[string]struct {
		state  verify.State
		reason string
		output string
	}{
		"good.bt":  {verify.OK, "", "tick\n"},
		"wrong.bt": {verify.Compile, "line 2: ", ""},
		"field.bt": {verify.Compile, "no_such_field", ""},
		"code.bt":  {verify.Running, "exit status 3", ""},
		"uses.bt":  {verify.OK, "", "2\n"},
	}
	args := []string{"verify", "--kernel", "running", "-f", "json", "--run", "5"}
	for name := range want {
		args = append(args, filepath.Join(dir, name))
	}
	code, out, errs := sonde(t, args...)
	if code != exitUser {
		t.Errorf("status %d, want %d\n%s", code, exitUser, errs)
	}
	var r verify.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(r.Columns) != 1 || len(r.Columns[0].Rows) != len(want) {
		t.Fatalf("got %s", out)
	}
	for _, row := range r.Columns[0].Rows {
		w := want[filepath.Base(row.Path)]
		if row.State != w.state || !strings.Contains(row.Reason, w.reason) || !strings.Contains(row.Output, w.output) {
			t.Errorf("%s: %s, %q, printed %q", row.Path, row.State, row.Reason, row.Output)
		}
		if row.State == verify.OK && len(row.Programs) == 0 {
			t.Errorf("%s: no programs", row.Path)
		}
	}
}

func TestVerifyWrongUse(t *testing.T) {
	dir := writeScripts(t, map[string]string{"a.bt": "BEGIN { }"})
	a := filepath.Join(dir, "a.bt")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, exitUsage, "no script given"},
		{[]string{"-f", "xml", a}, exitUsage, "unknown format `xml`"},
		{[]string{"--kernel", "3.7", a}, exitUsage, "3.7"},
		{[]string{"--kernel", "", a}, exitUsage, "no kernel given"},
		{[]string{"--kernel", a, a}, exitKernel, "too short for a kernel"},
		{[]string{"--arch", "vax", a}, exitUsage, "vax"},
		{[]string{"--arch", "", a}, exitUsage, "no architecture given"},
		{[]string{"--kernel", "running", "--arch", otherArch(), a}, exitUsage, "the running kernel is for"},
		{[]string{"--kernel", "running", "--module", "xfs", a}, exitUsage, "--module is for kernels that are booted"},
		{[]string{"--run", "soon", a}, exitUsage, `invalid argument "soon" for "--run" flag`},
		{[]string{"--parallel", "-1", a}, exitUsage, "--parallel takes a number of guests"},
		{[]string{filepath.Join(dir, "none.bt")}, exitUser, "cannot open"},
		{[]string{dir}, exitUser, "is no file"},
		{[]string{"--object", "--run", "1", a}, exitUsage, "--run needs scripts"},
	} {
		code, _, errs := sonde(t, append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: status %d, %q", tt.args, code, errs)
		}
	}
}

// guestSonde builds this program as a guest runs it.
func guestSonde(t *testing.T) string {
	t.Helper()
	if lab.InGuest() {
		t.Skip("needs a host: guests do not nest")
	}
	if testing.Short() {
		t.Skip("needs a run without -short: it boots kernels")
	}
	if err := lab.Available(lab.HostArch()); err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	bin := filepath.Join(t.TempDir(), "sonde")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	for _, spec := range []string{"5.10", "6.12"} {
		if _, ok := lab.NewCatalogue().Cached(spec, lab.HostArch()); !ok {
			if _, err := lab.NewCatalogue().Fetch(t.Context(), spec, lab.HostArch()); err != nil {
				t.Skipf("needs a kernel: %v", err)
			}
		}
	}
	return bin
}

// verified runs sonde verify in a folder, wants a status, and gives the report.
func verified(t *testing.T, bin, dir string, status int, args ...string) (r verify.Report) {
	t.Helper()
	cmd := exec.Command(bin, append([]string{"verify", "-f", "json"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		t.Fatalf("status: %v\n%s", err, out)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// TestVerifyKernels shows what differs between two kernels: a loop over a map needs 5.13. The newer one is given as a file.
func TestVerifyKernels(t *testing.T) {
	bin := guestSonde(t)
	k, ok := lab.NewCatalogue().Cached("6.12", lab.HostArch())
	if !ok {
		t.Fatal("the kernel is not in the cache")
	}
	dir := writeScripts(t, map[string]string{
		"loop.bt": "BEGIN {\n  @m[1] = 1;\n  for ($kv : @m) { printf(\"got %d\\n\", $kv.0); }\n  exit();\n}",
		"lib.bt":  `macro two() { 2 }`,
		"uses.bt": `import "lib.bt"; kprobe:vfs_read { @ = count(); } interval:ms:100 { printf("%d\n", two()); exit(); }`,
	})
	r := verified(t, bin, dir, exitUser, "--kernel", "5.10,"+k.Image, "--run", "5", "loop.bt", "uses.bt")
	state := func(i, j int) verify.Row { return r.Columns[i].Rows[j] }
	if len(r.Columns) != 2 || !strings.HasPrefix(r.Columns[0].Release, "5.10") || !strings.HasPrefix(r.Columns[1].Release, "6.12") {
		t.Fatalf("columns: %+v", r.Columns)
	}
	if row := state(0, 0); row.State != verify.Compile || !strings.Contains(row.Reason, "line 3: ") {
		t.Errorf("loop.bt on 5.10: %+v", row)
	}
	if row := state(1, 0); row.State != verify.OK || !strings.Contains(row.Output, "got 1") {
		t.Errorf("loop.bt on 6.12: %+v", row)
	}
	for i := range r.Columns {
		if row := state(i, 1); row.State != verify.OK || !strings.Contains(row.Output, "2\n") {
			t.Errorf("uses.bt on %s: %+v", r.Columns[i].Release, row)
		}
	}
}

func otherArch() string {
	if lab.HostArch() == lab.ARM64 {
		return string(lab.AMD64)
	}
	return string(lab.ARM64)
}

func TestLabWrongUse(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "no command given"},
		{[]string{"list", "6.1"}, exitUsage, "list takes no arguments"},
		{[]string{"fetch"}, exitUsage, "no kernel given"},
		{[]string{"fetch", "4.4"}, exitUsage, "use one of 5.10"},
		{[]string{"fetch", "--arch", "vax", "6.1"}, exitUsage, "vax"},
		{[]string{"run", "--cpus", "two", "6.1", "--", "true"}, exitUsage, "--cpus"},
		{[]string{"run", "6.1"}, exitUsage, "no command given"},
	} {
		code, _, errs := sonde(t, append([]string{"lab"}, tt.args...)...)
		if code != tt.code || !strings.Contains(errs, tt.want) || strings.Contains(errs, "strconv") {
			t.Errorf("%v: status %d, %q", tt.args, code, errs)
		}
	}
}

// TestVerifyModules names functions and events of modules, which the kernel of the lab has not loaded by itself.
func TestVerifyModules(t *testing.T) {
	bin := guestSonde(t)
	c := lab.NewCatalogue()
	k, err := c.Fetch(t.Context(), "6.12", lab.HostArch())
	if err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	m, err := c.Modules(t.Context(), k)
	if err != nil {
		t.Skipf("needs the modules of the kernel: %v", err)
	}
	m.Close()
	dir := writeScripts(t, map[string]string{
		"named.bt":   `fentry:xfs:xfs_file_open { printf("%s", args.file.f_path.dentry.d_name.name); }`,
		"unnamed.bt": `kprobe:nf_conntrack_in { @ = count(); }`,
		"event.bt":   `tracepoint:sunrpc:rpc_* { @[probe] = count(); }`,
		"wild.bt":    `kprobe:nf_conntrack_tcp_* { @ = count(); }`,
		"none.bt":    `kprobe:nosuch_module:f { @ = count(); }`,
		"wide.bt":    `kprobe:*_mt_check { @ = count(); }`,
	})
	r := verified(t, bin, dir, exitUser, "--kernel", "6.12", "--module", "dummy", "named.bt", "unnamed.bt", "event.bt", "wild.bt", "none.bt", "wide.bt")
	for i, want := range []verify.State{verify.OK, verify.OK, verify.OK, verify.OK, verify.Compile, verify.Compile} {
		if row := r.Columns[0].Rows[i]; row.State != want || want == verify.OK && row.Probes == 0 {
			t.Errorf("%s: %s, %d probes, %s", row.Path, row.State, row.Probes, row.Reason)
		}
	}
	wide := r.Columns[0].Rows[5].Diagnostics
	if len(wide) == 0 || len(wide[0].Hints) == 0 || !strings.Contains(wide[0].Hints[len(wide[0].Hints)-1], "modules of this kernel: ") || !strings.Contains(wide[0].Text, "--module NAME") {
		t.Errorf("it does not say that many modules have *_mt_check: %+v", wide)
	}
	loaded := map[string]string{}
	for _, m := range r.Columns[0].Modules {
		loaded[m.Name] = m.Error
	}
	for _, name := range []string{"xfs", "nf_conntrack", "nf_defrag_ipv4", "sunrpc", "dummy"} {
		if why, ok := loaded[name]; !ok || why != "" {
			t.Errorf("%s is not loaded: %q", name, why)
		}
	}
	if loaded["nosuch_module"] == "" {
		t.Error("it does not say that there is no such module")
	}
}

// TestVerifyMisbehaving runs scripts that flood, eat memory and bring the kernel down; the other rows keep their results.
func TestVerifyMisbehaving(t *testing.T) {
	bin := guestSonde(t)
	dir := writeScripts(t, map[string]string{
		"good.bt":  `begin { printf("fine\n"); exit(); }`,
		"flood.bt": `rawtracepoint:sys_enter { printf("%s %d ........................................................\n", comm, nsecs); } interval:us:50 { printf("%d ........................................................................................................\n", nsecs); }`,
		"large.bt": "let @m = hash(16777216);\nbegin { @m[1, 2, 3] = 1; }",
		"shell.bt": `begin { system("exit 3; nonsense"); } interval:s:1 { exit(); }`,
		"crash.bt": `begin { system("echo c > /proc/sysrq-trigger"); } interval:s:9 { exit(); }`,
	})
	names := []string{"good.bt", "flood.bt", "large.bt", "shell.bt", "crash.bt"}
	r := verified(t, bin, dir, exitKernel, append([]string{"--kernel", "5.10", "--unsafe", "--run", "3"}, names...)...)
	want := []struct {
		state          verify.State
		reason, output string
	}{
		{verify.OK, "", "fine\n"},
		{verify.OK, "", " bytes more\n"},
		{verify.Load, "line 1: cannot make map `@m`", ""},
		{verify.Running, "line 1: command exited with code 3", ""},
		{verify.Guest, "kernel panic: sysrq triggered crash", ""},
	}
	for i, w := range want {
		row := r.Columns[0].Rows[i]
		if row.State != w.state || !strings.Contains(row.Reason, w.reason) || !strings.Contains(row.Output, w.output) || len(row.Output) > verify.MaxOutput+100 {
			t.Errorf("%s: %s, %q, %d bytes of output", row.Path, row.State, row.Reason, len(row.Output))
		}
	}
	if c := r.Columns[0]; !strings.Contains(c.Failure, "kernel panic") || !strings.Contains(c.Console, "sysrq") {
		t.Errorf("the column says %q\n%s", c.Failure, c.Console)
	}
}

// TestVerifyKilled kills sonde while a guest runs: neither QEMU nor a file stays.
func TestVerifyKilled(t *testing.T) {
	bin := guestSonde(t)
	dir := writeScripts(t, map[string]string{"long.bt": `interval:s:1 { printf("tick\n"); }`})
	// A cache of its own, with the kernel: other tests may download others meanwhile.
	tmp, cache := t.TempDir(), t.TempDir()
	kernels := filepath.Join("kernels", string(lab.HostArch()))
	own := filepath.Join(cache, "sonde", kernels)
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(lab.DefaultCacheDir(), kernels, "5.10"), filepath.Join(own, "5.10")); err != nil {
		t.Fatal(err)
	}
	before := names(t, own)
	cmd := exec.Command(bin, "verify", "--kernel", "5.10", "--run", "600", "long.bt")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+tmp, "XDG_CACHE_HOME="+cache)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var guest int
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("waited too long for ", what)
			}
		}
	}
	wait("QEMU to start", func() bool {
		guest = childNamed(cmd.Process.Pid, "qemu")
		return guest != 0
	})
	time.Sleep(time.Second) // it boots
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	wait("QEMU to end", func() bool { return unix.Kill(guest, 0) != nil || zombie(guest) })
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("%v stays in the folder for temporary files (%v)", left, err)
	}
	if after := names(t, own); after != before {
		t.Errorf("the cache held\n%s\nand now\n%s", before, after)
	}
}

// childNamed finds a child of a process whose name begins so; 0 when there is none.
func childNamed(parent int, name string) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range stats {
		b, _ := os.ReadFile(p) // it may have ended
		pid, rest, _ := strings.Cut(string(b), " (")
		comm, rest, _ := strings.Cut(rest, ") ")
		f := strings.Fields(rest)
		if len(f) > 1 && f[1] == strconv.Itoa(parent) && strings.HasPrefix(comm, name) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// zombie tells a process that has ended and that nobody has asked for yet, as below an init that is slow.
func zombie(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(b), ") Z ")
}

// names are those of the files of a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return strings.Join(out, "\n")
}

// TestLabRun runs a program with its libraries, and gives its status back.
func TestLabRun(t *testing.T) {
	bin := guestSonde(t)
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs sh")
	}
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("brought along\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "lab", "run", "--file", note+":/note", "5.10", "--", "sh", "-c", "read l < /note; echo $l; read v < /proc/version; echo $v; exit 7")
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 || !strings.Contains(string(out), "brought along\nLinux version 5.10") {
		t.Errorf("status %d\n%s", code, out)
	}
}

// TestVerifyObject takes compiled objects of another project, which come with the module of the BPF library.
func TestVerifyObject(t *testing.T) {
	needs.BPF(t)
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cilium/ebpf").Output()
	if err != nil {
		t.Skip("needs the module cache")
	}
	data := filepath.Join(strings.TrimSpace(string(dir)), "testdata")
	row := verify.Object(filepath.Join(data, "loader-clang-14-el.elf"))
	if row.State == verify.Compile || len(row.Programs) == 0 {
		t.Errorf("loader: %+v", row)
	}
	row = verify.Object(filepath.Join(data, "errors-el.elf"))
	if row.State != verify.Load || len(row.Diagnostics) == 0 {
		t.Errorf("errors: %+v", row)
	}
	// GCC leaves out the tables of functions and lines that have no entries.
	b, err := os.ReadFile(filepath.Join(data, "loader-clang-14-el.elf"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	ext := f.Section(".BTF.ext")
	for _, length := range []uint64{12, 20} { // func_info_len and line_info_len of the header
		binary.LittleEndian.PutUint32(b[ext.Offset+length:], 0)
	}
	stripped := filepath.Join(t.TempDir(), "stripped.o")
	if err := os.WriteFile(stripped, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if row := verify.Object(stripped); row.State == verify.Compile || len(row.Programs) == 0 {
		t.Errorf("without functions and lines: %+v", row)
	}
	if row := verify.Object(filepath.Join(data, "errors.c")); row.State != verify.Compile {
		t.Errorf("a source file: %+v", row)
	}
}

func TestPortability(t *testing.T) {
	if _, err := kernel.Open(kernel.Options{}); err != nil {
		t.Skipf("needs kernel type information: %v", err)
	}
	dir := writeScripts(t, map[string]string{
		"plain.bt": `tracepoint:syscalls:sys_enter_getpid { @[pid] = count(); }`,
		"loop.bt":  "BEGIN { @m[1] = 1;\n for ($kv : @m) { print($kv); } }",
		"bad.bt":   `BEGIN { nosuch(); }`,
	})
	for name, want := range map[string]string{"plain.bt": "5.10", "loop.bt": "5.13"} {
		code, out, errs := sonde(t, "portability", "-f", "json", filepath.Join(dir, name))
		var list []portability
		if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != 1 {
			t.Fatalf("%s: status %d, %v\n%s%s", name, code, err, out, errs)
		}
		if list[0].Least != want {
			t.Errorf("%s: least kernel %s, want %s", name, list[0].Least, want)
		}
	}
	_, out, _ := sonde(t, "portability", filepath.Join(dir, "loop.bt"))
	if !strings.Contains(out, "loop.bt:2") || !strings.Contains(out, "bpf_for_each_map_elem") {
		t.Errorf("it does not say what and where:\n%s", out)
	}
	if code, _, _ := sonde(t, "portability", filepath.Join(dir, "bad.bt")); code != exitUser {
		t.Errorf("a wrong script: status %d", code)
	}
}

func TestVerifyPrinting(t *testing.T) {
	d := verify.Diagnostic{Severity: "error", Code: "E0652", Message: "no match", Line: 1, Text: "a.bt:1:1-3: ERROR: no match [E0652]\n"}
	r := &verify.Report{Host: "amd64", Columns: []verify.Column{
		{Kernel: "5.10", Arch: "amd64", Rows: []verify.Row{
			{Path: "a.bt", State: verify.Compile, Reason: "line 1: no match [E0652]", Diagnostics: []verify.Diagnostic{d}},
			{Path: "b.bt", State: verify.OK, Output: "hi\n"},
		}},
		{Kernel: "6.1", Arch: "arm64", Failure: "kernel panic: oops", Console: "a\x01b", Rows: []verify.Row{
			{Path: "a.bt", State: verify.Compile, Reason: "line 1: no match [E0652]", Diagnostics: []verify.Diagnostic{d}},
			{Path: "b.bt", State: verify.Guest, Reason: "running when the kernel failed: kernel panic: oops"},
		}},
	}}
	var b bytes.Buffer
	if err := verify.Table(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"SCRIPT  5.10     6.1/arm64\na.bt    compile  compile\nb.bt    ok       guest\n",
		"6.1/arm64: kernel panic: oops\n",
		"a.bt on 5.10, 6.1/arm64: compile\na.bt:1:1-3: ERROR: no match [E0652]\n",
		"b.bt on 5.10 prints:\n    hi\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing\n%s\nin\n%s", want, &b)
		}
	}
	b.Reset()
	if err := verify.JUnit(&b, r); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Suites []struct {
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &back); err != nil || len(back.Suites) != 2 || back.Suites[0].Failures != 1 || back.Suites[1].Errors != 1 {
		t.Errorf("%v: %+v\n%s", err, back, &b)
	}
	if r.OK() || !r.Broken() {
		t.Error("the report is neither fine nor whole")
	}
}

// TestLabTerminal types a line into a shell on another kernel.
func TestLabTerminal(t *testing.T) {
	bin := guestSonde(t)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs sh")
	}
	files, err := programFiles(sh)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := lab.NewCatalogue().Cached("5.10", lab.HostArch())
	if !ok {
		t.Fatal("the kernel is not in the cache")
	}
	screen := &screen{prompt: make(chan struct{})}
	res, err := lab.Run(t.Context(), lab.Config{
		Kernel: k, Init: bin, Files: files, Jobs: []lab.Job{{Args: []string{sh, "-i"}, Terminal: true}},
		Terminal: &lab.Terminal{In: &typist{screen, strings.NewReader("echo $((6*7)) > /dev/tty; exit 4\n")}, Out: screen, Rows: 24, Columns: 80},
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Jobs[0].Code != 4 || !strings.Contains(screen.String(), "\n42\r\n") {
		t.Errorf("status %d, the screen shows %q", res.Jobs[0].Code, screen.String())
	}
}

// screen keeps what a guest writes and tells when the shell's prompt is there.
type screen struct {
	mu     sync.Mutex
	b      bytes.Buffer
	prompt chan struct{}
	once   sync.Once
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(p)
	if bytes.Contains(s.b.Bytes(), []byte("# ")) {
		s.once.Do(func() { close(s.prompt) })
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// typist waits for the prompt before it types.
type typist struct {
	screen *screen
	text   io.Reader
}

func (t *typist) Read(p []byte) (int, error) {
	<-t.screen.prompt
	return t.text.Read(p)
}
