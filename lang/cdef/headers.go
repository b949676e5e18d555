package cdef

import (
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"modernc.org/cc/v4"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// missingDir is searched last; every header exists there and is empty. That is what makes a header that is not installed
// no error.
const missingDir = "/<missing>"

// includePaths returns the directories to search, for "name" or for <name>.
func (d *Defs) includePaths(quoted bool) []string {
	var out []string
	if quoted {
		out = append(out, "@", ".")
	}
	out = append(out, d.opts.IncludeDirs...)
	out = append(out, "/usr/local/include")
	if d.opts.arch() == "arm64" {
		out = append(out, "/usr/include/aarch64-linux-gnu")
	} else {
		out = append(out, "/usr/include/x86_64-linux-gnu")
	}
	out = append(out, "/usr/include")
	return append(out, compilerDir, missingDir)
}

// compilerDir holds the headers that belong to a compiler rather than to the C library.
const compilerDir = "/<compiler>"

func compilerHeader(name string) (string, bool) {
	switch name {
	case "stddef.h":
		return `#ifndef __SONDE_STDDEF
#define __SONDE_STDDEF
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __WCHAR_TYPE__ wchar_t;
#define NULL ((void *)0)
#define offsetof(t, m) __builtin_offsetof(t, m)
#endif
#ifndef __SONDE_WINT
#define __SONDE_WINT
typedef __WINT_TYPE__ wint_t;
#endif
`, true
	case "stdarg.h":
		return "#ifndef __SONDE_STDARG\n#define __SONDE_STDARG\ntypedef void *va_list;\ntypedef void *__gnuc_va_list;\n#endif\n", true
	case "stdbool.h":
		return "#ifndef bool\n#define bool _Bool\n#define true 1\n#define false 0\n#endif\n", true
	}
	return "", false
}

// hasOwnHeaders reports whether an include that is in force names a header of the user's own: one that was found through -I,
// --include or next to the script. Those are read at once; those of the system only when a name is missing.
func (d *Defs) hasOwnHeaders(diags *diag.List) bool {
	own := false
	for _, inc := range d.include {
		switch {
		case d.findOwn(inc):
			own = true
		case inc.quoted && !isSystemHeader(inc.path):
			diags.Errorf("E0203", inc.span, "fatal error: '%s' file not found", inc.path).
				Hint("name its directory with `-I`, or write <%s> for a header of the system", inc.path)
		case !isSystemHeader(inc.path) && !d.findSystem(inc.path) && !d.findIn(d.opts.KernelDirs, inc.path):
			diags.Errorf("E0203", inc.span, "fatal error: '%s' file not found", inc.path).
				Hint("types of the kernel need no header; name the directory of other headers with `-I`")
		}
	}
	return own
}

// findOwn looks for a header in the user's directories.
func (d *Defs) findOwn(inc include) bool {
	if d.opts.ReadFile == nil {
		return false
	}
	dirs := d.opts.IncludeDirs
	if inc.quoted {
		if path.IsAbs(inc.path) {
			dirs = []string{""}
		} else {
			dirs = append([]string{d.scriptDir(inc.span)}, dirs...)
		}
	}
	for _, dir := range dirs {
		if _, err := d.opts.ReadFile(path.Join(dir, inc.path)); err == nil {
			return true
		}
	}
	return false
}

func (d *Defs) scriptDir(sp source.Span) string {
	if f := d.set.File(sp.Start); f != nil && sp.IsValid() {
		return path.Dir(f.Name)
	}
	return "."
}

func (d *Defs) findSystem(name string) bool { return d.findIn(d.includePaths(false), name) }

func (d *Defs) findIn(dirs []string, name string) bool {
	if d.opts.ReadFile == nil {
		return false
	}
	for _, dir := range dirs {
		if dir == missingDir || dir == compilerDir {
			continue
		}
		if _, err := d.opts.ReadFile(path.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// isOwnInclude reports whether the #include at sp is one that is read at once.
func (d *Defs) isOwnInclude(sp source.Span) bool {
	for _, inc := range d.include {
		if inc.span == sp {
			return d.findOwn(inc)
		}
	}
	return false
}

// isSystemHeader reports whether a header belongs to the kernel or the C library, so that its absence is no mistake.
func isSystemHeader(name string) bool {
	dir, _, found := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, "../"), "./"), "/")
	if !found {
		switch strings.TrimSuffix(name, ".h") {
		case "errno", "fcntl", "signal", "stddef", "stdint", "stdbool", "stdio", "stdlib", "string", "time", "unistd", "limits", "inttypes",
			"poll", "sched", "pthread", "elf", "netdb", "mount", "internal", "blk", "vmlinux":
			return true
		}
		return false
	}
	switch dir {
	case "linux", "asm", "asm-generic", "uapi", "net", "kernel", "trace", "scsi", "drm", "sound", "xen", "rdma", "crypto", "media", "video", "acpi",
		"generated", "sys", "netinet", "netinet6", "arpa", "bits", "fs", "mm", "block", "sched", "kvm", "pcmcia", "keys", "math-emu", "ras", "soc", "vdso",
		"clocksource", "dt-bindings", "memory", "misc", "target", "cgroup", "rpc", "mtd", "bpf", "drivers", "security", "ipc", "io_uring", "netpacket",
		"net-sysfs", "x86", "arch", "virt", "lib", "events", "time", "locking", "irq", "nfs", "xfs", "ext4", "btrfs", "overlayfs", "proc":
		return true
	}
	return false
}

// loadHeaders reads the headers that the script includes, once, at the first name that nothing else knows. Headers that the
// front end cannot digest are left out: the kernel's own often are.
func (d *Defs) loadHeaders() *unit {
	d.headersOnce.Do(func() {
		if d.opts.ReadFile == nil || len(d.include) == 0 {
			return
		}
		var found []include
		for _, inc := range d.include {
			if d.findSystem(inc.path) || d.findOwn(inc) {
				found = append(found, inc)
			}
		}
		if len(found) == 0 {
			return
		}
		if u := d.readHeaders(found); u != nil || len(found) == 1 {
			d.headers = u
			return
		}
		for _, inc := range found {
			d.headers = merge(d.headers, d.readHeaders([]include{inc}))
		}
	})
	return d.headers
}

func (d *Defs) readHeaders(list []include) *unit {
	var b strings.Builder
	for _, inc := range list {
		if inc.quoted {
			b.WriteString("#include \"" + inc.path + "\"\n")
		} else {
			b.WriteString("#include <" + inc.path + ">\n")
		}
	}
	_, f := source.NewSet("<headers>", b.String())
	u, err := d.runFrontEnd(cc.Builtin, []cFile{{f, f.Text}}, nil)
	if err != nil {
		return nil
	}
	return u
}

// merge adds what b has and a has not.
func merge(a, b *unit) *unit {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	mergeMap(a.structs, b.structs)
	mergeMap(a.enums, b.enums)
	mergeMap(a.typedefs, b.typedefs)
	mergeMap(a.consts, b.consts)
	mergeMap(a.macros, b.macros)
	return a
}

func mergeMap[V any](a, b map[string]V) {
	for k, v := range b {
		if _, ok := a[k]; !ok {
			a[k] = v
		}
	}
}

// headerFS gives the front end the files that Options.ReadFile opens, and empty ones below missingDir.
type headerFS struct{ d *Defs }

func (h headerFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, missingDir+"/") {
		return &memFile{name: name}, nil
	}
	if rest, ok := strings.CutPrefix(name, compilerDir+"/"); ok {
		if text, ok := compilerHeader(rest); ok {
			return &memFile{name: name, data: []byte(text), size: int64(len(text))}, nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if h.d.opts.ReadFile == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data, err := h.d.opts.ReadFile(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{name: name, data: data, size: int64(len(data))}, nil
}

// memFile is a file in memory.
type memFile struct {
	name string
	data []byte
	size int64
}

func (f *memFile) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, nil
}

func (f *memFile) Close() error               { return nil }
func (f *memFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *memFile) Name() string               { return path.Base(f.name) }
func (f *memFile) Size() int64                { return f.size }
func (f *memFile) Mode() fs.FileMode          { return 0o444 }
func (f *memFile) ModTime() time.Time         { return time.Time{} }
func (f *memFile) IsDir() bool                { return false }
func (f *memFile) Sys() any                   { return nil }
