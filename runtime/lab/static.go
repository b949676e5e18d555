package lab

import (
	"debug/elf"
	"fmt"
)

// CheckStatic returns nil when the program at path can run in a guest, which
// has no libraries: an ELF file for arch that names no interpreter.
func CheckStatic(path string, arch Arch) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("lab: %s: %w", path, err)
	}
	defer f.Close()
	want := map[Arch]elf.Machine{AMD64: elf.EM_X86_64, ARM64: elf.EM_AARCH64}[arch]
	if f.Machine != want {
		return fmt.Errorf("lab: %s is a program for %s, the kernel is for %s", path, f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("lab: %s needs shared libraries, the guest has none: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
