package kernel

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func fixture(t testing.TB) *Kernel {
	t.Helper()
	k, err := Open(Options{Root: "testdata/machine"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// host is the running machine. Tests over it check what must hold on every kernel.
func host(t testing.TB) *Kernel {
	t.Helper()
	k, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func hostTracefs(t testing.TB) (*Kernel, *Tracefs) {
	t.Helper()
	k := host(t)
	tr, err := k.Tracefs()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs rights to read tracefs: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k, tr
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(Options{Root: "testdata/none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing root: %v", err)
	}
	if _, err := Open(Options{Root: "kernel.go"}); err == nil {
		t.Error("a file is a root")
	}
	k, err := Open(Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	// A machine with nothing at all: errors, no panic, and nothing taken from the running one.
	if _, err := k.BTF(); !errors.Is(err, ErrNoBTF) {
		t.Errorf("BTF: %v", err)
	}
	if _, err := k.Tracefs(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Tracefs: %v", err)
	}
	if _, err := k.Symbols(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Symbols: %v", err)
	}
	if _, err := k.Config(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Config: %v", err)
	}
	if _, _, err := k.TraceableFunctions("", "*"); err == nil {
		t.Error("functions were found")
	}
	if _, err := k.KprobeBlacklist(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("KprobeBlacklist: %v", err)
	}
	if m, err := k.Modules(); err != nil || len(m) != 0 {
		t.Errorf("Modules = %v, %v", m, err)
	}
}

func TestEvents(t *testing.T) {
	tr, err := fixture(t).Tracefs()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ cat, name, want string }{
		{"*", "*", "sched:sched_switch syscalls:sys_enter_openat syscalls:sys_exit_openat raw_syscalls:sys_enter"},
		{"", "", "sched:sched_switch syscalls:sys_enter_openat syscalls:sys_exit_openat raw_syscalls:sys_enter"},
		{"sys*", "sys_enter_*", "syscalls:sys_enter_openat"},
		{"sched", "sched_switch", "sched:sched_switch"},
		{"sched", "none", ""},
		{"..", "..", ""},
		{"*", "sys_enter", "raw_syscalls:sys_enter"},
	} {
		var got []string
		for cat, ev := range tr.Events(c.cat, c.name) {
			got = append(got, cat+":"+ev)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("Events(%q, %q) = %s, want %s", c.cat, c.name, s, c.want)
		}
	}
	if got, err := tr.Categories(); err != nil || !slices.Equal(got, []string{"raw_syscalls", "sched", "syscalls"}) {
		t.Errorf("Categories = %v, %v", got, err)
	}
	if got := tr.Syscalls(); !slices.Equal(got, []string{"openat"}) {
		t.Errorf("Syscalls = %v", got)
	}
	for _, bad := range [][2]string{{"sched", "none"}, {"none", "x"}, {"", ""}, {"..", "events"}, {"a/b", "c"}} {
		if _, err := tr.Event(bad[0], bad[1]); !errors.Is(err, ErrNoEvent) {
			t.Errorf("Event(%v): %v", bad, err)
		}
	}
	if id, err := tr.EventID("sched", "sched_switch"); err != nil || id != 316 {
		t.Errorf("EventID = %d, %v", id, err)
	}
}

func TestFormat(t *testing.T) {
	tr, err := fixture(t).Tracefs()
	if err != nil {
		t.Fatal(err)
	}
	e, err := tr.Event("sched", "sched_switch")
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != 316 || e.Name != "sched_switch" || e.Category != "sched" || e.Size != 112 || len(e.Args()) != 8 {
		t.Errorf("event = %+v", e)
	}
	want := []Field{
		{Name: "prev_comm", Type: CType{CInt, "char", 1, true, 0, []int{16}, false}, Text: "char[TASK_COMM_LEN]", Offset: 8, Size: 16, Len: 16},
		{Name: "prev_pid", Type: CType{CInt, "pid_t", 4, true, 0, nil, false}, Text: "pid_t", Offset: 24, Size: 4, Signed: true},
		{Name: "prev_state", Type: CType{CInt, "long", 8, true, 0, nil, false}, Text: "long", Offset: 32, Size: 8, Signed: true},
		{Name: "name", Type: CType{CInt, "char", 1, true, 0, []int{-1}, false}, Text: "char[]", Offset: 40, Size: 4, Loc: DataLoc},
		{Name: "addrs", Type: CType{CInt, "u64", 8, false, 0, []int{-1}, false}, Text: "u64[]", Offset: 44, Size: 4, Loc: RelLoc},
		{Name: "fn", Type: CType{CFunc, "int (*)(void *)", 0, false, 1, nil, false}, Text: "int (*)(void *)", Offset: 48, Size: 8},
		{Name: "f", Type: CType{CStruct, "struct file", 0, false, 1, nil, false}, Text: "struct file *", Offset: 56, Size: 8},
		{Name: "args", Type: CType{CInt, "unsigned long", 8, false, 0, []int{2, 3}, false}, Text: "unsigned long[2][3]", Offset: 64, Size: 48, Len: 2},
	}
	for i, f := range e.Args() {
		if !reflect.DeepEqual(f, want[i]) {
			t.Errorf("field %d = %+v\nwant      %+v", i, f, want[i])
		}
		if f.IsString() != (f.Name == "prev_comm" || f.Name == "name") {
			t.Errorf("%s: IsString = %v", f.Name, f.IsString())
		}
	}
	if f, ok := e.Field("common_pid"); !ok || !f.Common || f.Offset != 4 || !f.Signed {
		t.Errorf("common_pid = %+v %v", f, ok)
	}
	if _, ok := e.Field("nothing"); ok {
		t.Error("a field that does not exist")
	}
	o, err := tr.Event("syscalls", "sys_enter_openat")
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := o.Field("filename"); !ok || !f.Type.IsPointer() || !f.Type.IsChar() || f.IsString() || f.Size != 8 {
		t.Errorf("filename = %+v", f)
	}
	if f, _ := o.Field("dfd"); f.Type.Size != 4 || f.Size != 8 {
		t.Errorf("dfd = %+v", f)
	}
}

func TestFormatErrors(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"no ID":          "name: x\nformat:\n",
		"bad ID":         "name: x\nID: y\n",
		"no offset":      "name: x\nID: 1\nfield:int a;\tsize:4;\n",
		"bad size":       "name: x\nID: 1\nfield:int a;\toffset:0;\tsize:four;\n",
		"no name":        "name: x\nID: 1\nfield:;\toffset:0;\tsize:4;\n",
		"no semicolon":   "name: x\nID: 1\nfield:int a\n",
		"absurd numbers": "name: x\nID: 1\nfield:int a;\toffset:99999999999;\tsize:4;\n",
	} {
		if e, err := ParseFormat("c", text); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestParseCType(t *testing.T) {
	for text, want := range map[string]string{
		"const char *":                 "char *",
		"unsigned":                     "unsigned int",
		"unsigned long int":            "unsigned long",
		"long unsigned int":            "unsigned long",
		"long long":                    "long long",
		"short int":                    "short",
		"const struct sk_buff * const": "struct sk_buff *",
		"char __user *":                "char *",
		"const char *const *":          "char **",
		"struct list_head[4]":          "struct list_head[4]",
		"char[NAME_LEN]":               "char[]",
		"enum  zone_type":              "enum zone_type",
		"_Bool":                        "bool",
		"void *":                       "void *",
		"signed char":                  "signed char",
		"union bpf_attr *":             "union bpf_attr *",
		"xfs_ino_t":                    "xfs_ino_t",
	} {
		if got := ParseCType(text).String(); got != want {
			t.Errorf("%q = %q, want %q", text, got, want)
		}
	}
	if c := ParseCType("const char __user *"); !c.User || c.Kind != CInt || c.Elem() != 8 {
		t.Errorf("user pointer = %+v", c)
	}
	if c := ParseCType("xfs_ino_t"); c.Kind != CTypedef || c.Size != 0 {
		t.Errorf("unknown typedef = %+v", c)
	}
}

func TestHostFormats(t *testing.T) {
	_, tr := hostTracefs(t)
	n := 0
	for cat, name := range tr.Events("*", "*") {
		if n++; n%4 != 0 && cat != "syscalls" && cat != "sched" {
			continue
		}
		e, err := tr.Event(cat, name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if e.Name != name {
			t.Errorf("%s:%s calls itself %s", cat, name, e.Name)
		}
		end := 0
		for _, f := range e.Fields {
			if f.Offset < end && f.Name != "buf" { // bprint and friends overlap nothing either
				t.Errorf("%s:%s: %s overlaps the field before it", cat, name, f.Name)
			}
			end = f.Offset + f.Size
			if f.Loc == InPlace && f.Type.Kind == CInt && !f.Type.IsPointer() && f.Len == 0 && len(f.Type.Dims) == 0 && cat != "syscalls" && f.Type.Size != f.Size {
				t.Errorf("%s:%s: %s %s has %d bytes, not %d", cat, name, f.Text, f.Name, f.Size, f.Type.Size)
			}
			if f.Loc == InPlace && f.Len > 0 && f.Type.Elem() > 0 && len(f.Type.Dims) == 1 && f.Len*f.Type.Elem() != f.Size {
				t.Errorf("%s:%s: %s %s: %d elements of %d are not %d bytes", cat, name, f.Text, f.Name, f.Len, f.Type.Elem(), f.Size)
			}
			if f.Loc != InPlace && f.Size != 4 {
				t.Errorf("%s:%s: %s: a location of %d bytes", cat, name, f.Name, f.Size)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d events", n)
	}
	if _, err := tr.Event("sched", "sched_switch"); err != nil {
		t.Error(err)
	}
}

func TestPrivateMount(t *testing.T) {
	dir, done, err := privateMount("tracefs")
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs CAP_SYS_ADMIN: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr := newTracefs(dir)
	if _, err := tr.Event("sched", "sched_switch"); err != nil {
		t.Error(err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/events"); err == nil {
		t.Error("the mount is still there")
	}
}

func TestTraceableFunctions(t *testing.T) {
	k := fixture(t)
	for _, c := range []struct{ mod, name, want string }{
		{"", "vfs_*", "vfs_read vfs_write"},
		{"*", "*", "do_one_initcall vfs_read vfs_write ext4:ext4_read ext4:ext4_write"},
		{"vmlinux", "*", "do_one_initcall vfs_read vfs_write"},
		{"ext4", "*_write", "ext4:ext4_write"},
		{"", "nothing", ""},
	} {
		seq, src, err := k.TraceableFunctions(c.mod, c.name)
		if err != nil || src != FromFtrace {
			t.Fatalf("%v from %s", err, src)
		}
		var got []string
		for f := range seq {
			got = append(got, f.String())
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("TraceableFunctions(%q, %q) = %s, want %s", c.mod, c.name, s, c.want)
		}
	}
}

func TestHostTraceableFunctions(t *testing.T) {
	k := host(t)
	seq, src, err := k.TraceableFunctions("vmlinux", "vfs_*")
	if err != nil {
		t.Skip("needs function lists of this kernel: ", err)
	}
	names := map[string]bool{}
	for f := range seq {
		names[f.Name] = true
		if !strings.HasPrefix(f.Name, "vfs_") || f.Module != "" {
			t.Errorf("%v does not match", f)
		}
	}
	if !names["vfs_read"] || len(names) < 20 {
		t.Errorf("%d functions from %s: %v", len(names), src, slices.Sorted(maps.Keys(names)))
	}
}

func TestHostRawTracepoints(t *testing.T) {
	k := host(t)
	seq, err := k.RawTracepoints("vmlinux", "sched_*")
	if errors.Is(err, ErrNoBTF) {
		t.Skip("needs kernel BTF: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for f := range seq {
		names[f.Name]++
		if f.Module != "" || !strings.HasPrefix(f.Name, "sched_") {
			t.Errorf("%v does not match", f)
		}
		if _, _, _, _, err := k.FindTracepoint(f.Name); err != nil {
			t.Error(err)
		}
	}
	if names["sched_switch"] != 1 || len(names) < 15 {
		t.Errorf("raw tracepoints: %v", names)
	}
	if _, err := fixture(t).RawTracepoints("", ""); !errors.Is(err, ErrNoBTF) {
		t.Errorf("without BTF: %v", err)
	}
}

func TestBlacklist(t *testing.T) {
	b, err := fixture(t).KprobeBlacklist()
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != 2 || !b.Has("secondary") || b.Has("vfs_read") {
		t.Errorf("blacklist = %+v", b)
	}
	for addr, want := range map[uint64]bool{0xffffffff81000000: true, 0xffffffff81000041: true, 0xffffffff81000100: false, 0xffffffff80ffffff: false} {
		if b.HasAddr(addr) != want {
			t.Errorf("HasAddr(%#x) = %v", addr, !want)
		}
	}
}

func TestSymbols(t *testing.T) {
	k := fixture(t)
	s, err := k.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 16 || s.Hidden() {
		t.Errorf("Len = %d, Hidden = %v", s.Len(), s.Hidden())
	}
	for addr, want := range map[uint64]string{
		0xffffffff81000000: "startup_64+0", // not the marks at the same address
		0xffffffff8100003f: "startup_64+63",
		0xffffffff81000110: "vfs_read+16",
		0xffffffffc0a00004: "ext4_init+4", // the file has modules out of order
		0xffffffffc0a00010: "ext4_read+0",
		0xffffffffc0c00001: "bpf_prog_6deef7357e7b4530_hello+1",
		0xffffffff80ffffff: "",
		0x1000:             "",
		0:                  "",
		0xffffffffffffffff: "",
	} {
		got := ""
		if sym, off, ok := s.Lookup(addr); ok {
			got = sym.Name + "+" + itoa(off)
		}
		if got != want {
			t.Errorf("Lookup(%#x) = %q, want %q", addr, got, want)
		}
	}
	if a, ok := s.Addr("jiffies"); !ok || a != 0xffffffff82000000 {
		t.Errorf("jiffies = %#x %v", a, ok)
	}
	if _, ok := s.Addr("none"); ok {
		t.Error("a symbol that does not exist has an address")
	}
	if got := s.ByName("static_twice"); len(got) != 3 || got[0].Addr != 0xffffffff81000200 || got[2].Module != "xfs" {
		t.Errorf("static_twice = %+v", got)
	}
	if got := s.FunctionModules("static_twice"); !slices.Equal(got, []string{"", "xfs"}) {
		t.Errorf("FunctionModules = %q", got)
	}
	if s.HasText("jiffies") || !s.HasText("vfs_read") || s.HasText("none") {
		t.Error("HasText")
	}
	if got := s.Modules(); !slices.Equal(got, []string{"ext4", "xfs", "bpf"}) {
		t.Errorf("Modules = %v", got)
	}
	if again, _ := k.Symbols(); again != s {
		t.Error("symbols were read twice")
	}
	if again, _ := k.ReloadSymbols(); again == s {
		t.Error("symbols were not read again")
	}
}

func itoa(n uint64) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestHiddenSymbols(t *testing.T) {
	s, err := parseKallsyms([]byte("0000000000000000 T vfs_read\n0000000000000000 D jiffies\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Addr("vfs_read"); ok || !s.Hidden() || !s.HasText("vfs_read") {
		t.Errorf("hidden symbols: %+v", s)
	}
	for _, text := range []string{"", "\n\n", "x", "ffffffff81000000", "ffffffff81000000 T", "ffffffff81000000 T \n", "zz T name\n"} {
		if s, err := parseKallsyms([]byte(text)); err != nil || s.Len() != 0 {
			t.Errorf("%q: %d symbols, %v", text, s.Len(), err)
		}
	}
}

func TestHostSymbols(t *testing.T) {
	k := host(t)
	s, err := k.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	if s.Hidden() {
		t.Skip("needs symbol addresses: ", ErrHiddenSymbols)
	}
	a, ok := s.Addr("vfs_read")
	if !ok {
		t.Fatal("no vfs_read")
	}
	if sym, off, ok := s.Lookup(a + 1); !ok || sym.Name != "vfs_read" || off != 1 || !sym.IsText() {
		t.Errorf("Lookup = %+v %d %v", sym, off, ok)
	}
	if !slices.IsSorted(s.addrs) {
		t.Error("addresses are not sorted")
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pat, name string
		want      bool
	}{
		{"", "x", true},
		{"*", "", true},
		{"a*", "abc", true},
		{"a*c", "abc", true},
		{"a*c", "abcd", false},
		{"*b*", "abc", true},
		{"a?c", "abc", false},
		{"a?c", "a?c", true},
		{"abc", "abc", true},
		{"abc", "abcd", false},
		{"*a*a*a*", "aa", false},
		{"*a*a*a*", "banana", true},
		{"sys_*_open*", "sys_enter_openat", true},
		{"**", "x", true},
		{"a**b", "ab", true},
	} {
		if got := CompileGlob(c.pat).Match(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pat, c.name, got)
		}
	}
}

func TestFacts(t *testing.T) {
	k := fixture(t)
	if r, err := k.Release(); err != nil || r != "6.1.0-13-amd64" {
		t.Errorf("Release = %q, %v", r, err)
	}
	if v, err := ParseVersion("6.1.0-13-amd64"); err != nil || v != (Version{6, 1}) || !v.Less(Version{6, 2}) || v.Less(Version{5, 10}) {
		t.Errorf("ParseVersion = %v, %v", v, err)
	}
	if _, err := ParseVersion("linux"); err == nil {
		t.Error("a version without numbers")
	}
	if l, err := k.OnlineCPUs(); err != nil || !slices.Equal(l, CPUList{0, 1, 2, 3, 8}) {
		t.Errorf("OnlineCPUs = %v, %v", l, err)
	}
	if l, err := k.PossibleCPUs(); err != nil || len(l) != 8 {
		t.Errorf("PossibleCPUs = %v, %v", l, err)
	}
	for _, bad := range []string{"", "a", "1-", "3-1", "-1"} {
		if l, err := ParseCPUList(bad); err == nil {
			t.Errorf("ParseCPUList(%q) = %v", bad, l)
		}
	}
	c, err := k.Config()
	if err != nil {
		t.Fatal(err)
	}
	if c.Enabled("CONFIG_KPROBES") || !c.Enabled("CONFIG_BPF") || !c.Enabled("CONFIG_EXT4_FS") || c.Get("CONFIG_LSM") != "a,b" {
		t.Errorf("config = %+v", c)
	}
	if hz, ok := k.HZ(); !ok || hz != 250 {
		t.Errorf("HZ = %d, %v", hz, ok)
	}
	if l, err := k.Lockdown(); err != nil || l != LockdownIntegrity {
		t.Errorf("Lockdown = %v, %v", l, err)
	}
	if ok, err := k.BPFLSM(); err != nil || !ok {
		t.Errorf("BPFLSM = %v, %v", ok, err)
	}
	if m, err := k.Modules(); err != nil || !slices.Equal(m, []string{"ext4", "xfs"}) {
		t.Errorf("Modules = %v, %v", m, err)
	}
	if d, err := k.CgroupMount(); err != nil || d != "/sys/fs/cgroup/unified" {
		t.Errorf("CgroupMount = %v, %v", d, err)
	}
	if ms, err := k.CgroupMounts(); err != nil || len(ms) != 2 || ms[1].Options != "rw,cpu" {
		t.Errorf("CgroupMounts = %+v, %v", ms, err)
	}
	if ms, err := k.Mounts(); err != nil || ms[3].Dir != "/mnt/with space" || ms[3].Root != "/a b" {
		t.Errorf("Mounts = %+v, %v", ms, err)
	}
	if p, err := k.ProcessCgroup(0); err != nil || p != "/user.slice/session-1.scope" {
		t.Errorf("ProcessCgroup = %q, %v", p, err)
	}
}

func TestHostFacts(t *testing.T) {
	k := host(t)
	if l, err := k.OnlineCPUs(); err != nil || len(l) == 0 {
		t.Errorf("OnlineCPUs = %v, %v", l, err)
	}
	hz, ok := k.HZ()
	if !ok || hz < 24 || hz > 1200 {
		t.Errorf("HZ = %d, %v", hz, ok)
	}
	if cfg, err := k.Config(); err == nil && cfg.Get("CONFIG_HZ") != strconv.Itoa(hz) {
		t.Errorf("HZ = %d, the configuration says %s", hz, cfg.Get("CONFIG_HZ"))
	}
	c, err := k.ReadClocks()
	if err != nil || c.Boot <= 0 || c.Boot < c.Mono-1e6 || c.Wall.Sub(c.BootTime()) != c.Boot {
		t.Errorf("Clocks = %+v, %v", c, err)
	}
	if ns, err := k.PIDNamespace(0); err != nil || ns.Inode == 0 {
		t.Errorf("PIDNamespace = %+v, %v", ns, err)
	}
	if _, err := k.PIDNamespace(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("namespace of no process: %v", err)
	}
	caps, err := k.Capabilities()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && caps == 0 {
		t.Error("root has no capabilities at all")
	}
	root, err := k.CgroupMount()
	if err != nil {
		t.Skip("needs a cgroup2 mount: ", err)
	}
	dir := root
	if es, err := os.ReadDir(root); err == nil {
		for _, e := range es {
			if e.IsDir() {
				dir = root + "/" + e.Name()
			}
		}
	}
	id, err := k.CgroupID(dir)
	if err != nil || id == 0 {
		t.Fatalf("CgroupID(%s) = %d, %v", dir, id, err)
	}
	if p, err := k.CgroupPath(id); err != nil || p != below(root, dir) {
		t.Errorf("CgroupPath(%d) = %q, %v, want %q", id, p, err, below(root, dir))
	}
	if p, err := k.CgroupPath(1 << 40); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CgroupPath of no cgroup = %q, %v", p, err)
	}
}

func TestCheckRights(t *testing.T) {
	bit := func(cs ...Capability) (s Capabilities) {
		for _, c := range cs {
			s |= 1 << uint(c)
		}
		return s
	}
	for _, c := range []struct {
		have Capabilities
		want string
	}{
		{bit(CapSysAdmin), ""},
		{bit(CapBPF, CapPerfmon), ""},
		{bit(CapBPF), "missing CAP_PERFMON"},
		{0, "missing CAP_BPF, CAP_PERFMON"},
	} {
		got := ""
		if err := checkRights(c.have, false); err != nil {
			got = err.Error()
			var re *RightsError
			if !errors.As(err, &re) || !strings.Contains(re.Hint(), "sudo") {
				t.Errorf("no hint: %v", err)
			}
		}
		if got != c.want {
			t.Errorf("%b: %q, want %q", c.have, got, c.want)
		}
	}
}

func BenchmarkKallsyms(b *testing.B) {
	k := host(b)
	for b.Loop() {
		if _, err := k.ReloadSymbols(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKallsymsParse(b *testing.B) {
	data, err := readLarge("/proc/kallsyms")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := parseKallsyms(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKallsymsLookup(b *testing.B) {
	s, err := host(b).Symbols()
	if err != nil {
		b.Fatal(err)
	}
	a, _ := s.Addr("vfs_read")
	for b.Loop() {
		s.Lookup(a + 20)
	}
}

func BenchmarkEventList(b *testing.B) {
	_, tr := hostTracefs(b)
	for b.Loop() {
		for range newTracefs(tr.Dir()).Events("*", "sched*") {
		}
	}
}

func BenchmarkEventRead(b *testing.B) {
	_, tr := hostTracefs(b)
	for b.Loop() {
		if _, err := newTracefs(tr.Dir()).Event("syscalls", "sys_enter_openat"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFormatParse(b *testing.B) {
	text, err := os.ReadFile("testdata/machine/sys/kernel/tracing/events/syscalls/sys_enter_openat/format")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ParseFormat("syscalls", string(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzFormat(f *testing.F) {
	for _, p := range []string{"syscalls/sys_enter_openat", "sched/sched_switch"} {
		b, err := os.ReadFile("testdata/machine/sys/kernel/tracing/events/" + p + "/format")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseFormat("c", text)
		if err != nil {
			return
		}
		for _, fl := range e.Fields {
			_, _ = fl.Type.String(), fl.IsString()
		}
	})
}

func FuzzKallsyms(f *testing.F) {
	b, err := os.ReadFile("testdata/machine/proc/kallsyms")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("ffffffff81000000 T a\tmod\nffffffff81000000 t b\t[\nffffffff81000000 t \t[x]\n1 a b\t]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseKallsyms(text)
		if err != nil {
			return
		}
		for sym := range s.All() {
			if len(s.ByName(sym.Name)) == 0 {
				t.Errorf("%q is not found by its name", sym.Name)
			}
			s.Lookup(sym.Addr)
			s.HasText(sym.Name)
		}
	})
}
