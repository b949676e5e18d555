package runtime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// launchName is what the child is called before it has become the command, as the probes see its execve.
const launchName = "sonde"

// A launcher is a program of a few instructions: it sets its name, stops, and executes its first argument with those that follow it, which begin with
// the name that the command is to have. When that fails it ends with the error number as its status. So the probes see the command's execve, and
// nothing else of sonde's: a Go program would make some hundred calls first.
var launchers = map[string]struct {
	machine elf.Machine
	code    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{
		0xb8, 0x9d, 0, 0, 0, // mov $157, %eax: prctl
		0xbf, 0x0f, 0, 0, 0, // mov $15, %edi: PR_SET_NAME
		0x48, 0x8d, 0x35, 0x3c, 0, 0, 0, // lea name(%rip), %rsi
		0x0f, 0x05, // syscall
		0xb8, 0x27, 0, 0, 0, // mov $39, %eax: getpid
		0x0f, 0x05, // syscall
		0x89, 0xc7, // mov %eax, %edi
		0xbe, 0x13, 0, 0, 0, // mov $19, %esi: SIGSTOP
		0xb8, 0x3e, 0, 0, 0, // mov $62, %eax: kill
		0x0f, 0x05, // syscall
		0x48, 0x8b, 0x04, 0x24, // mov (%rsp), %rax: the number of arguments
		0x48, 0x8b, 0x7c, 0x24, 0x08, // mov 8(%rsp), %rdi: the first
		0x48, 0x8d, 0x74, 0x24, 0x10, // lea 16(%rsp), %rsi: the others
		0x48, 0x8d, 0x54, 0xc4, 0x10, // lea 16(%rsp,%rax,8), %rdx: the environment
		0xb8, 0x3b, 0, 0, 0, // mov $59, %eax: execve
		0x0f, 0x05, // syscall
		0xf7, 0xd8, // neg %eax
		0x89, 0xc7, // mov %eax, %edi
		0xb8, 0xe7, 0, 0, 0, // mov $231, %eax: exit_group
		0x0f, 0x05, // syscall
	}},
	"arm64": {elf.EM_AARCH64, []byte{
		0xe8, 0x14, 0x80, 0xd2, // mov x8, #167: prctl
		0xe0, 0x0f, 0x40, 0xb2, // mov x0, #15: PR_SET_NAME
		0x21, 0x02, 0x00, 0x10, // adr x1, name
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0x88, 0x15, 0x80, 0xd2, // mov x8, #172: getpid
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0x61, 0x02, 0x80, 0xd2, // mov x1, #19: SIGSTOP
		0x28, 0x10, 0x80, 0xd2, // mov x8, #129: kill
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0xe3, 0x03, 0x00, 0x91, // mov x3, sp
		0x62, 0x00, 0x40, 0xf9, // ldr x2, [x3]: the number of arguments
		0x60, 0x04, 0x40, 0xf9, // ldr x0, [x3, #8]: the first
		0x61, 0x40, 0x00, 0x91, // add x1, x3, #16: the others
		0x22, 0x0c, 0x02, 0x8b, // add x2, x1, x2, lsl #3: the environment
		0xa8, 0x1b, 0x80, 0xd2, // mov x8, #221: execve
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0xe0, 0x03, 0x00, 0xcb, // neg x0, x0
		0xc8, 0x0b, 0x80, 0xd2, // mov x8, #94: exit_group
		0x01, 0x00, 0x00, 0xd4, // svc #0
	}},
}

// newLauncher makes a launcher in memory. It is run by its path below /proc/self/fd.
func newLauncher() (*os.File, error) {
	l, ok := launchers[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("no launcher for %s", runtime.GOARCH)
	}
	// Linux 6.3 wants to be told that the file will be executed; older kernels refuse what they do not know.
	fd, err := unix.MemfdCreate(launchName, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(launchName, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), launchName)
	if _, err := f.Write(segment(l.machine, append(l.code[:len(l.code):len(l.code)], launchName+"\x00"...))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// segment makes an executable of one segment.
func segment(machine elf.Machine, code []byte) []byte {
	const base, ehdr, phdr, page = 0x400000, 64, 56, 0x10000
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Entry: base + ehdr + phdr,
		Phoff: ehdr, Ehsize: ehdr, Phentsize: phdr, Phnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	size := uint64(ehdr + phdr + len(code))
	for _, part := range []any{h, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: page,
	}, code} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a buffer takes everything
	}
	return b.Bytes()
}
