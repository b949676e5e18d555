package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

func hostFeatures(t testing.TB) (*Kernel, *Features) {
	t.Helper()
	k := host(t)
	if err := k.CheckRights(); err != nil {
		t.Skip("needs rights to load programs: ", err)
	}
	return k, k.Features()
}

// TestFeatureTable keeps the table in order: names are unique, everything is described and dated.
func TestFeatureTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range FeatureNames() {
		if seen[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		seen[r.Name] = true
		if r.About == "" {
			t.Errorf("%s is not described", r.Name)
		}
		if _, err := ParseVersion(r.Since); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
}

// lacking lists features that a kernel newer than their mainline version may lack, and why.
func lacking(k *Kernel, name string) string {
	// The cloud builds of Debian, which the lab boots without their configuration file.
	release, _ := k.Release()
	if strings.Contains(release, "-cloud-") {
		switch {
		case name == FeatureErrorInjection, name == "bpf_override_return":
			return "cloud kernels are built without CONFIG_FUNCTION_ERROR_INJECTION"
		case name == FeatureKprobeMulti && strings.HasPrefix(release, "6.1."):
			return "this cloud kernel is built without CONFIG_FPROBE"
		}
	}
	cfg, cerr := k.Config()
	without := func(opts ...string) string {
		if cerr != nil {
			return ""
		}
		for _, o := range opts {
			if !cfg.Enabled(o) {
				return "built without " + o
			}
		}
		return ""
	}
	switch name {
	case FeatureKprobes, FeatureKprobePMU, FeatureKprobeEvents:
		return without("CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS")
	case FeatureUprobePMU, FeatureUprobeRefCount:
		return without("CONFIG_UPROBES", "CONFIG_UPROBE_EVENTS")
	case FeatureKprobeMulti, FeatureKprobeSession:
		if k.Arch() == "arm64" {
			if v, err := ParseVersion(release); err == nil && v.Less(Version{6, 14}) {
				return "arm64 has fprobe since 6.14"
			}
		}
		return without("CONFIG_FPROBE")
	case FeatureUprobeMulti, FeatureUprobeSession:
		return without("CONFIG_UPROBES")
	case FeatureFentry, FeatureFexit, FeatureFmodRet, FeatureLSM, FeatureFentryStruct, FeatureFentryArgs:
		if v, err := ParseVersion(release); err == nil && name == FeatureFentryArgs && k.Arch() == "arm64" && v.Less(Version{6, 16}) {
			return "arm64 passes more than eight registers on since 6.16"
		}
		if k.Arch() == "arm64" {
			if v, err := ParseVersion(release); err == nil && v.Less(Version{6, 4}) {
				return "arm64 attaches to functions since 6.4"
			}
		}
		if name == FeatureLSM {
			return without("CONFIG_BPF_LSM")
		}
		return without("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS")
	case "bpf_get_func_arg", "bpf_get_func_ret":
		return without("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS")
	case FeatureErrorInjection:
		return without("CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_DEBUG_FS")
	case "bpf_override_return":
		return without("CONFIG_BPF_KPROBE_OVERRIDE")
	case FeatureLSMActive:
		return "the list is given at boot"
	case FeatureModuleBTF:
		return without("CONFIG_DEBUG_INFO_BTF_MODULES")
	case FeatureMapArena:
		if k.Arch() != "amd64" && k.Arch() != "arm64" {
			return "needs the JIT of x86-64 or arm64"
		}
	case "bpf_probe_write_user":
		if l, err := k.Lockdown(); err == nil && l != LockdownNone {
			return "lockdown is " + string(l)
		}
	}
	return ""
}

// TestFeaturesAreHonest probes everything on the running kernel. What is missing although the kernel is newer than the version in the
// table is a wrong probe or a wrong version, unless lacking knows a reason. What is there although the kernel is older is either a
// distribution's backport or a wrong probe, and is only logged.
func TestFeaturesAreHonest(t *testing.T) {
	k, f := hostFeatures(t)
	release, err := k.Release()
	if err != nil {
		t.Fatal(err)
	}
	running, err := ParseVersion(release)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range FeatureNames() {
		err := f.Check(r.Name)
		since, _ := ParseVersion(r.Since)
		newer := !running.Less(since)
		var fe *FeatureError
		var re *RefusedError
		switch {
		case err == nil && !newer:
			t.Logf("%-36s there on %s, mainline has it since %s", r.Name, release, r.Since)
		case err == nil:
		case errors.As(err, &re):
			t.Logf("%-36s refused: %v", r.Name, re)
		case errors.As(err, &fe) && newer:
			if why := lacking(k, r.Name); why != "" {
				t.Logf("%-36s missing: %s", r.Name, why)
			} else {
				t.Errorf("%s is missing on %s, but the table says %s: %v", r.Name, release, r.Since, err)
			}
		case errors.As(err, &fe):
		default:
			t.Logf("%-36s cannot tell: %v", r.Name, err)
		}
		if again := f.Check(r.Name); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("%s: second answer %v, first %v", r.Name, again, err)
		}
	}
}

// TestFeaturesAgainstLibrary compares with the probes of the library where it has the same ones.
func TestFeaturesAgainstLibrary(t *testing.T) {
	_, f := hostFeatures(t)
	conclusive := func(err error) bool { return err == nil || errors.Is(err, ebpf.ErrNotSupported) }
	for _, c := range []struct {
		name string
		err  error
	}{
		{FeatureMapRingBuf, features.HaveMapType(ebpf.RingBuf)},
		{FeatureMapTaskStorage, features.HaveMapType(ebpf.TaskStorage)},
		{FeatureMapArena, features.HaveMapType(ebpf.Arena)},
		{FeatureMapBloomFilter, features.HaveMapType(ebpf.BloomFilter)},
		{FeatureMapLRUPerCPUHash, features.HaveMapType(ebpf.LRUCPUHash)},
		{FeatureProgSyscall, features.HaveProgramType(ebpf.Syscall)},
		{FeatureBoundedLoops, features.HaveBoundedLoops()},
		{FeatureJmp32, features.HaveV3ISA()},
		// Not FeatureCPUv4: the library tries only the long jump, which 6.1 loads by mistake and lacks the rest.
		{FeatureUprobeMulti, features.HaveBPFLinkUprobeMulti()},
		{FeatureKprobeMulti, features.HaveBPFLinkKprobeMulti()},
		{FeatureKprobeSession, features.HaveBPFLinkKprobeSession()},
	} {
		if got := f.Check(c.name); conclusive(c.err) && (got == nil) != (c.err == nil) {
			t.Errorf("%s: %v, the library says %v", c.name, got, c.err)
		}
	}
	for _, h := range helperTable {
		if h.in != inKprobe || h.id == asm.FnTailCall {
			continue
		}
		lib := features.HaveProgramHelper(ebpf.Kprobe, h.id)
		if got := f.Check(h.name); conclusive(lib) && (got == nil) != (lib == nil) {
			t.Errorf("%s: %v, the library says %v", h.name, got, lib)
		}
	}
}

func TestFixedFeatures(t *testing.T) {
	f := FixedFeatures(FeatureMapRingBuf)
	if !f.Has(FeatureMapRingBuf) || f.Has(FeatureFentry) || f.HasKfunc("x") {
		t.Error("fixed features are not those given")
	}
	err := f.Check(FeatureFentry)
	var fe *FeatureError
	if !errors.As(err, &fe) || !errors.Is(err, ErrNotSupported) || fe.Since != "5.5" {
		t.Errorf("missing: %v", err)
	}
	if want := "this kernel lacks function entry programs (fentry); mainline has it since 5.5"; err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
}

func TestFeaturesElsewhere(t *testing.T) {
	f := fixture(t).Features()
	if err := f.Check(FeatureMapRingBuf); err == nil || errors.Is(err, ErrNotSupported) {
		t.Errorf("probed a kernel that does not run: %v", err)
	}
	if err := f.Check("nonsense"); err == nil || errors.Is(err, ErrNotSupported) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestKfuncs(t *testing.T) {
	k, f := hostFeatures(t)
	b, err := k.BTF()
	if err != nil {
		t.Skip("needs kernel BTF: ", err)
	}
	if f.HasKfunc("no_such_kfunc_at_all") {
		t.Error("a kernel function that does not exist")
	}
	if _, ok := b.TypeByName("bpf_iter_num_new", KindFunc); !ok {
		t.Skip("needs bpf_iter_num_new in the kernel's BTF")
	}
	if !f.HasKfunc("bpf_iter_num_new") {
		t.Error("no bpf_iter_num_new")
	}
	if err := f.KfuncIn("bpf_iter_num_new", ebpf.Kprobe); err != nil {
		t.Errorf("bpf_iter_num_new in a kprobe program: %v", err)
	}
	if err := f.KfuncIn("vfs_read", ebpf.Kprobe); err == nil {
		t.Error("programs may call vfs_read")
	}
}

func TestHasHelper(t *testing.T) {
	_, f := hostFeatures(t)
	for _, c := range []struct {
		id   asm.BuiltinFunc
		typ  ebpf.ProgramType
		want bool
	}{
		{asm.FnKtimeGetNs, ebpf.Kprobe, true},
		{asm.FnKtimeGetNs, ebpf.RawTracepoint, true},
		{asm.FnXdpAdjustHead, ebpf.Kprobe, false},
		{asm.BuiltinFunc(5000), ebpf.Kprobe, false},
		{asm.FnPerfProgReadValue, ebpf.PerfEvent, true},
		{asm.FnPerfProgReadValue, ebpf.Kprobe, false},
	} {
		for range 2 {
			if got := f.HasHelper(c.id, c.typ); got != c.want {
				t.Errorf("HasHelper(%v, %v) = %v", c.id, c.typ, got)
			}
		}
	}
}

func TestLastLine(t *testing.T) {
	log := "func#0 @0\n0: R1=ctx() R10=fp0\n0: (85) call unknown#5000\ninvalid func unknown#5000\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n"
	if got := lastLine(log); got != "invalid func unknown#5000" {
		t.Errorf("lastLine = %q", got)
	}
	if got := lastLine(""); !strings.Contains(got, "no reason") {
		t.Errorf("lastLine of nothing = %q", got)
	}
}

func TestRefusedError(t *testing.T) {
	e := &RefusedError{"fentry", "function entry programs", errors.New("operation not permitted")}
	if want := "function entry programs (fentry): refused by this machine: operation not permitted"; e.Error() != want {
		t.Errorf("%q, want %q", e.Error(), want)
	}
}

// BenchmarkFeatures probes each feature afresh; the whole table is what an eager start would cost.
func BenchmarkFeatures(b *testing.B) {
	k, f := hostFeatures(b)
	if _, err := k.BTF(); err == nil {
		f.Check(FeatureTPBTF)
	}
	var names []string
	for _, r := range FeatureNames() {
		names = append(names, r.Name)
	}
	for _, name := range append([]string{"all"}, names...) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f := newFeatures(k)
				if name != "all" {
					_ = f.Check(name)
					continue
				}
				for _, n := range names {
					_ = f.Check(n)
				}
			}
		})
	}
	if !slices.IsSorted(names) {
		b.Error("names are not sorted")
	}
}
