package kernel

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// HeaderDirs lists the folders of the kernel's own headers, in the order in which its build searches them; nil when they are not installed. source
// is the kernel's source tree and build the folder of generated files; where they are "", /lib/modules/RELEASE/source and
// /lib/modules/RELEASE/build are taken, and one stands for the other where only one of them exists.
func (k *Kernel) HeaderDirs(source, build string) []string {
	release, _ := k.Release()
	if source == "" {
		source = k.Path("/lib/modules/" + release + "/source")
		if build == "" {
			build = k.Path("/lib/modules/" + release + "/build")
		}
	}
	if !isDir(source) {
		source = build
	}
	if !isDir(build) {
		build = source
	}
	if !isDir(source) {
		return nil
	}
	arch := map[string]string{"amd64": "x86"}[k.Arch()]
	if arch == "" {
		arch = k.Arch()
	}
	arch = "arch/" + arch + "/include"
	return []string{
		path.Join(source, arch), path.Join(build, arch, "generated"), path.Join(source, "include"), path.Join(build, "include"),
		path.Join(source, arch, "uapi"), path.Join(build, arch, "generated/uapi"), path.Join(source, "include/uapi"), path.Join(build, "include/generated/uapi"),
	}
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return name != "" && err == nil && st.IsDir()
}

// VersionCode is the release's LINUX_VERSION_CODE: the three numbers of major<<16 + minor<<8 + patch, of which the last is at most 255; 0 for
// a release without numbers.
func (k *Kernel) VersionCode() uint32 {
	release, _ := k.Release()
	release, _, _ = strings.Cut(release, "-")
	var code uint32
	for i, n := range strings.SplitN(release+".0.0", ".", 4)[:3] {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil && i < 2 {
			return 0
		}
		code |= uint32(min(v, 255)) << (16 - 8*i)
	}
	return code
}
