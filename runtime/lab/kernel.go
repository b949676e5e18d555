package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kernel is a kernel that can be booted.
type Kernel struct {
	// Name is how it was asked for: a catalogue name, or a file name.
	Name string
	Arch Arch
	// Release is uname's release as far as known before booting.
	Release string `json:",omitempty"`
	// Package and Version are the distribution's; empty for a file.
	Package string `json:",omitempty"`
	Version string `json:",omitempty"`
	// Image is the path of the vmlinuz.
	Image string `json:"-"`
}

// String returns the release, or the name when the release is not known, and
// the architecture when it is not the host's.
func (k Kernel) String() string {
	s := k.Release
	if s == "" {
		s = k.Name
	}
	if k.Arch != HostArch() {
		s += " (" + string(k.Arch) + ")"
	}
	return s
}

// entry is one row of the catalogue: a name and where such a kernel is found.
type entry struct {
	name    string
	aliases []string
	// suites are tried in this order.
	suites []suite
}

type suite struct {
	name string
	// security says that the suite is in the security archive.
	security bool
}

// entries lists the kernels of the distribution's releases. The point release
// of a suite comes first: it stays the same for months, so caches hold.
func entries() []entry {
	return []entry{
		{
			name: "5.10", aliases: []string{"debian:11", "bullseye"},
			suites: []suite{{name: "bullseye"}, {name: "bullseye-security", security: true}},
		},
		{
			name: "6.1", aliases: []string{"debian:12", "bookworm"},
			suites: []suite{{name: "bookworm"}, {name: "bookworm-security", security: true}},
		},
		{
			name: "6.12", aliases: []string{"debian:13", "trixie"},
			suites: []suite{{name: "trixie"}, {name: "bookworm-backports"}},
		},
		{
			name: "newest", aliases: []string{"debian:sid", "sid", "7"},
			suites: []suite{{name: "sid"}, {name: "forky"}, {name: "trixie-backports"}},
		},
	}
}

// Names returns the catalogue's kernel names, oldest first.
func Names() []string {
	var names []string
	for _, e := range entries() {
		names = append(names, e.name)
	}
	return names
}

func findEntry(spec string) (entry, bool) {
	for _, e := range entries() {
		if e.name == spec || slices.Contains(e.aliases, spec) {
			return e, true
		}
	}
	// A full version or a release names the series that it belongs to.
	for _, e := range entries() {
		if strings.HasPrefix(spec, e.name+".") || strings.HasPrefix(spec, "7.") && e.name == "newest" {
			return e, true
		}
	}
	return entry{}, false
}

// ParseSpecs splits a comma-separated list of specs; `all` stands for every
// catalogue name.
func ParseSpecs(list string) []string {
	var specs []string
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		switch s {
		case "":
		case "all":
			specs = append(specs, Names()...)
		default:
			specs = append(specs, s)
		}
	}
	return slices.Compact(specs)
}

// KernelFromFile describes a vmlinuz or Image file; the architecture and the
// release are read from it.
func KernelFromFile(path string) (Kernel, error) {
	f, err := os.Open(path)
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(f, head)
	if n < 1024 {
		return Kernel{}, fmt.Errorf("lab: %s is too short for a kernel: %w", path, err)
	}
	arch, release, err := identify(head[:n])
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: %s: %w", path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Kernel{}, err
	}
	return Kernel{Name: filepath.Base(path), Arch: arch, Release: release, Image: abs}, nil
}

// identify reads the header of a kernel image: Documentation/arch/x86/boot.rst
// and Documentation/arch/arm64/booting.rst.
func identify(head []byte) (Arch, string, error) {
	switch {
	case len(head) > 0x210 && string(head[0x202:0x206]) == "HdrS":
		at := int(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
		if at == 0x200 || at >= len(head) {
			return AMD64, "", nil
		}
		text, _, _ := bytes.Cut(head[at:], []byte{0})
		release, _, _ := strings.Cut(string(text), " ")
		return AMD64, release, nil
	case len(head) > 0x40 && string(head[0x38:0x3c]) == "ARM\x64":
		return ARM64, "", nil
	case len(head) > 0x40 && string(head[:2]) == "MZ" && string(head[4:8]) == "zimg":
		return "", "", fmt.Errorf("a self-extracting EFI kernel; unpack its Image first")
	}
	return "", "", fmt.Errorf("not a bzImage for x86-64 and not an Image for arm64")
}

// Aliases returns the other names of a catalogue kernel, such as the releases that ship it.
func Aliases(name string) []string {
	e, _ := findEntry(name)
	return e.aliases
}
