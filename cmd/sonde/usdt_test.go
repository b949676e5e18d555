package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// markedProgram is a program without any library that goes round for ever, with a marker that has two arguments, a number and a text. It
// passes the marker only while the marker's semaphore is set. It is put together here because the machines of the lab have no compiler.
type markedProgram struct {
	machine elf.Machine
	code    []byte // with a nop at marker
	marker  int
	args    string
	// link fills in the distances to the text, to the time to sleep and to the semaphore, all from the start of the code.
	link func(code []byte, text, pause, semaphore int)
}

const (
	codeAddr, dataAddr = 0x400000, 0x480000
	pageBytes          = 4096
	codeStart          = 512 // in the file, behind the headers
)

func markedPrograms() map[string]markedProgram {
	order := binary.LittleEndian
	rel32 := func(code []byte, at, target int) { order.PutUint32(code[at:], uint32(target-(at+4))) }
	// adr gives the address of a place up to 1 MiB away: the low 2 bits of the distance are in bits 29 and 30, the others from bit 5 on.
	adr := func(code []byte, at, target int) {
		d := uint32(target - at)
		order.PutUint32(code[at:], order.Uint32(code[at:])|(d&3)<<29|(d>>2&0x7ffff)<<5)
	}
	words := func(list ...uint32) (out []byte) {
		for _, w := range list {
			out = order.AppendUint32(out, w)
		}
		return out
	}
	return map[string]markedProgram{
		"amd64": {
			machine: elf.EM_X86_64, marker: 23, args: "-4@%r12d 8@%r13",
			code: []byte{
				0x41, 0xbc, 42, 0, 0, 0, // mov $42, %r12d
				0x4c, 0x8d, 0x2d, 0, 0, 0, 0, // lea text(%rip), %r13
				0x66, 0x83, 0x3d, 0, 0, 0, 0, 0, // cmpw $0, semaphore(%rip)
				0x74, 0x01, // je behind the nop
				0x90,              // nop
				0xb8, 35, 0, 0, 0, // mov $nanosleep, %eax
				0x48, 0x8d, 0x3d, 0, 0, 0, 0, // lea pause(%rip), %rdi
				0x31, 0xf6, // xor %esi, %esi
				0x0f, 0x05, // syscall
				0xeb, 0xe3, // jmp to the comparison
			},
			link: func(code []byte, text, pause, semaphore int) {
				rel32(code, 9, text)
				rel32(code, 16, semaphore-1) // a byte of the instruction follows
				rel32(code, 32, pause)
			},
		},
		"arm64": {
			machine: elf.EM_AARCH64, marker: 20, args: "-4@w19 8@x20",
			code: words(
				0x52800000|42<<5|19,  // mov w19, #42
				0x10000000|20,        // adr x20, text
				0x10000000|2,         // adr x2, semaphore
				0x79400042,           // ldrh w2, [x2]
				0x34000042,           // cbz w2, behind the nop
				0xd503201f,           // nop
				0x10000000,           // adr x0, pause
				0xd2800001,           // mov x1, #0
				0xd2800000|101<<5|8,  // mov x8, #nanosleep
				0xd4000001,           // svc #0
				0x14000000|(1<<26-8), // b to the semaphore
			),
			link: func(code []byte, text, pause, semaphore int) {
				adr(code, 4, text)
				adr(code, 8, semaphore)
				adr(code, 24, pause)
			},
		},
	}
}

// image writes the program as an ELF file: a page of headers and code, and a page of data with the semaphore.
func (p markedProgram) image() []byte {
	order := binary.LittleEndian
	code := bytes.Clone(p.code)
	for len(code)%8 != 0 {
		code = append(code, 0)
	}
	text := len(code)
	code = append(code, "marked\x00\x00"...)
	pause := len(code)
	code = order.AppendUint64(order.AppendUint64(code, 0), 1e6) // a millisecond
	p.link(code, text, pause, dataAddr+pageBytes-codeAddr-codeStart)

	file := make([]byte, codeStart, 3*pageBytes)
	file = append(file, code...)
	note := len(file)
	desc := order.AppendUint64(nil, uint64(codeAddr+codeStart+p.marker))
	desc = order.AppendUint64(desc, codeAddr) // the base, where .stapsdt.base is too
	desc = order.AppendUint64(desc, dataAddr+pageBytes)
	desc = append(desc, "lab\x00tick\x00"+p.args+"\x00"...)
	file = order.AppendUint32(order.AppendUint32(order.AppendUint32(file, 8), uint32(len(desc))), 3)
	file = append(append(file, "stapsdt\x00"...), desc...)
	for len(file)%8 != 0 {
		file = append(file, 0)
	}
	noteSize := len(file) - note
	names := len(file)
	file = append(file, "\x00.note.stapsdt\x00.stapsdt.base\x00.shstrtab\x00.text\x00"...)
	for len(file)%8 != 0 {
		file = append(file, 0)
	}
	sections := len(file)
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, order, v) }
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_NOTE), Off: uint64(note), Size: uint64(noteSize), Addralign: 4})
	put(elf.Section64{Name: 15, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Addr: codeAddr, Off: 0, Size: 1, Addralign: 1})
	put(elf.Section64{Name: 29, Type: uint32(elf.SHT_STRTAB), Off: uint64(names), Size: uint64(sections - names), Addralign: 1})
	put(elf.Section64{Name: 39, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR), Addr: codeAddr + codeStart, Off: codeStart, Size: uint64(len(code)), Addralign: 4})
	file = append(file, b.Bytes()...)
	file = append(file, make([]byte, 2*pageBytes-len(file))...) // the second page: data

	b.Reset()
	put(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(p.machine), Version: uint32(elf.EV_CURRENT), Entry: codeAddr + codeStart, Phoff: 64, Shoff: uint64(sections),
		Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64, Shnum: 5, Shstrndx: 3,
	})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: 0, Vaddr: codeAddr, Paddr: codeAddr, Filesz: pageBytes, Memsz: pageBytes, Align: pageBytes})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: pageBytes, Vaddr: dataAddr + pageBytes, Paddr: dataAddr + pageBytes, Filesz: pageBytes, Memsz: pageBytes, Align: pageBytes})
	copy(file, b.Bytes())
	return file
}

// TestKernelUSDT hits a marker with arguments and a semaphore, by path and by process, on each architecture.
func TestKernelUSDT(t *testing.T) {
	openKernel(t)
	p, ok := markedPrograms()[runtime.GOARCH]
	if !ok {
		t.Skip("needs amd64 or arm64")
	}
	bin := filepath.Join(t.TempDir(), "marked")
	if err := os.WriteFile(bin, p.image(), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid := strconv.Itoa(cmd.Process.Pid)
	const body = ` { printf("%d %s %s\n", arg0, str(arg1), probe); exit(); }`
	for _, c := range []struct {
		what, prog, want string
		args             []string
	}{
		{"by path", "usdt:" + bin + ":lab:tick" + body, `(?m)^42 marked usdt:\S+:lab:tick$`, nil},
		{"without the provider", "usdt:" + bin + ":tick" + body, `(?m)^42 marked usdt:`, nil},
		{"by pattern", "usdt:" + bin + ":l*:*" + body, `(?m)^42 marked usdt:`, nil},
		{"of a process", "usdt:" + bin + ":lab:tick" + body, `(?m)^42 marked usdt:`, []string{"-p", pid}},
		{"of a process, in all of its files", "usdt:*:lab:tick" + body, `(?m)^42 marked usdt:`, []string{"-p", pid}},
		{"of a command", "usdt:" + bin + ":lab:tick /pid == cpid/" + body, `(?m)^42 marked usdt:`, []string{"-c", bin}},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			var out, errs bytes.Buffer
			code := run(ctx, append([]string{"sonde", "-e", c.prog}, c.args...), stdio{strings.NewReader(""), &out, &errs})
			if code != 0 || !regexp.MustCompile(c.want).MatchString(out.String()) {
				t.Errorf("%s: status %d\n%s%s", c.prog, code, out.String(), errs.String())
			}
		})
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"sonde", "-e", "usdt:" + bin + ":lab:tikc { }"}, stdio{strings.NewReader(""), &out, &errs})
	if code != exitUser || !strings.Contains(errs.String(), "tick") {
		t.Errorf("a marker that does not exist: status %d, %s", code, errs.String())
	}
}
