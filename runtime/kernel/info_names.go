package kernel

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// namedAnswer is an answer under a name of bpftrace's. All of the features must be there.
type namedAnswer struct {
	name     string
	features []string
}

type namedSection struct {
	title string
	rows  []namedAnswer
}

// bpftraceNames are the parts of bpftrace's `--info` (of versions 0.12 to 0.27) that wrappers and test suites search, for "NAME: yes".
func bpftraceNames() []namedSection {
	return []namedSection{
		{"Kernel helpers", []namedAnswer{
			{"probe_read", []string{"bpf_probe_read_kernel"}},
			{"probe_read_str", []string{"bpf_probe_read_kernel_str"}},
			{"probe_read_user", []string{"bpf_probe_read_user"}},
			{"probe_read_user_str", []string{"bpf_probe_read_user_str"}},
			{"probe_read_kernel", []string{"bpf_probe_read_kernel"}},
			{"probe_read_kernel_str", []string{"bpf_probe_read_kernel_str"}},
			{"get_current_cgroup_id", []string{"bpf_get_current_cgroup_id"}},
			{"send_signal", []string{"bpf_send_signal"}},
			{"override_return", []string{"bpf_override_return"}},
			{"get_boot_ns", []string{"bpf_ktime_get_boot_ns"}},
			{"dpath", []string{"bpf_d_path", FeatureFentry}},
			{"skboutput", []string{"bpf_skb_output", FeatureFentry}},
			{"get_tai_ns", []string{"bpf_ktime_get_tai_ns"}},
			{"get_func_ip", []string{"bpf_get_func_ip"}},
			{"jiffies64", []string{"bpf_jiffies64"}},
			{"for_each_map_elem", []string{"bpf_for_each_map_elem"}},
			{"get_ns_current_pid_tgid", []string{"bpf_get_ns_current_pid_tgid"}},
			{"lookup_percpu_elem", []string{"bpf_map_lookup_percpu_elem"}},
			{"loop", []string{"bpf_loop"}},
		}},
		{"Kernel features", []namedAnswer{
			{"Loop support", []string{FeatureBoundedLoops}},
			{"btf", []string{FeatureBTF}},
			{"module btf", []string{FeatureModuleBTF}},
		}},
		{"Map types", []namedAnswer{
			{"percpu hash", []string{FeatureMapPerCPUHash}},
			{"percpu array", []string{FeatureMapPerCPUArray}},
			{"stack_trace", []string{FeatureMapStackTrace}},
			{"ringbuf", []string{FeatureMapRingBuf}},
		}},
		{"Probe types", []namedAnswer{
			{"kprobe", []string{FeatureKprobes}},
			{"tracepoint", []string{FeatureProgTracepoint}},
			{"perf_event", []string{FeatureProgPerfEvent}},
			{"fentry", []string{FeatureFentry}},
			{"kfunc", []string{FeatureFentry}},
			{"kprobe_multi", []string{FeatureKprobeMulti}},
			{"uprobe_multi", []string{FeatureUprobeMulti}},
			{"kprobe_session", []string{FeatureKprobeSession}},
			{"iter", []string{FeatureIter}},
		}},
	}
}

// bpftraceInfo writes what bpftrace's report has.
func (k *Kernel) bpftraceInfo(w *infoWriter) {
	f := k.Features()
	for _, s := range bpftraceNames() {
		w.section(s.title)
		if s.title == "Kernel features" {
			n := 4096
			if f.Has(FeatureBoundedLoops) {
				n = 1000000
			}
			w.pair("Instruction limit", strconv.Itoa(n))
		}
		for _, r := range s.rows {
			there := true
			for _, name := range r.features {
				there = there && f.Has(name)
			}
			w.pair(r.name, yes(there, nil))
		}
	}
}

// systemText is the system as bpftrace's report has it.
func systemText() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
}
