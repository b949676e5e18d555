package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Loaded is what the kernel made of one program.
type Loaded struct {
	Verified int          // instructions that the verifier looked at, 0 when the kernel does not say (before 5.16)
	Memory   uint64       // bytes
	Native   []NativeInsn // the translated code; empty when the kernel does not let us read it
	NativeAt uint64       // bytes of native code
	Why      string       // why there is no native code
}

// NativeInsn is one instruction of the machine.
type NativeInsn struct {
	Offset int    // bytes from the start of the program's code
	Insn   int    // raw offset of the BPF instruction that it was made from, -1 when that is not known
	Text   string // in GNU syntax; where a jump within the program goes is an offset, a helper has its name
}

// Loaded reads what the kernel made of program i.
func (s *Session) Loaded(i int) (Loaded, error) {
	info, err := s.programs[i].Info()
	if err != nil {
		return Loaded{}, fmt.Errorf("read the facts of %s: %w", s.obj.Programs[i].Name, err)
	}
	var l Loaded
	if n, ok := info.VerifiedInstructions(); ok {
		l.Verified = int(n)
	}
	if n, ok := info.Memlock(); ok {
		l.Memory = n
	}
	image, ok := imageOf(info)
	if !ok {
		l.Why = "the kernel does not show native code here (it needs root, net.core.bpf_jit_enable=1 and kernel.kptr_restrict below 2)"
		return l, nil
	}
	l.NativeAt = uint64(len(image.code))
	origin, err := s.origins(i, image)
	if err != nil {
		origin = nil // the code is worth showing without it
	}
	l.Native = image.disassemble(origin, s.kernelSymbol())
	return l, nil
}

// image is the native code of a program: its functions one behind the other, each at an address of its own.
type image struct {
	code  []byte
	addrs []uint64 // of the functions
	lens  []int
}

func imageOf(info *ebpf.ProgramInfo) (image, bool) {
	code, ok := info.JitedInsns()
	if !ok {
		return image{}, false
	}
	im := image{code: code}
	lens, _ := info.JitedFuncLens()
	addrs, _ := info.JitedKsymAddrs()
	if len(lens) == 0 || len(lens) != len(addrs) {
		im.lens, im.addrs = []int{len(code)}, []uint64{0}
		if len(addrs) > 0 {
			im.addrs[0] = uint64(addrs[0])
		}
		return im, true
	}
	for k, n := range lens {
		im.lens, im.addrs = append(im.lens, int(n)), append(im.addrs, uint64(addrs[k]))
	}
	return im, true
}

// offset is where an address lies in the code.
func (im *image) offset(addr uint64) (int, bool) {
	at := 0
	for k, n := range im.lens {
		if addr >= im.addrs[k] && addr < im.addrs[k]+uint64(n) {
			return at + int(addr-im.addrs[k]), true
		}
		at += n
	}
	return 0, false
}

// disassemble gives the instructions with the BPF instruction that each belongs to: the last of origin at or before it.
func (im *image) disassemble(origin []origin, symbolAt func(uint64) (string, uint64)) []NativeInsn {
	name := func(addr uint64) (string, uint64) {
		if at, ok := im.offset(addr); ok {
			return fmt.Sprintf("%x", at), addr
		}
		return symbolAt(addr)
	}
	var out []NativeInsn
	at, k := 0, -1
	for f, n := range im.lens {
		if at+n > len(im.code) {
			break
		}
		for _, in := range symbol.NativeCode(im.code[at:at+n], im.addrs[f], name) {
			here := at + in.Offset
			for k+1 < len(origin) && origin[k+1].native <= here {
				k++
			}
			insn := -1
			if k >= 0 {
				insn = origin[k].insn
			}
			out = append(out, NativeInsn{Offset: here, Insn: insn, Text: in.Text})
		}
		at += n
	}
	return out
}

// origin says that the code of a BPF instruction starts here.
type origin struct{ native, insn int }

// origins loads program i once more with a line for each instruction, and reads back where the native code of each line starts. The result is
// in the order of the code; it fits the image only when both have the same functions.
func (s *Session) origins(i int, loaded image) ([]origin, error) {
	p := s.obj.Programs[i]
	insns, err := linkMaps(p, s.maps)
	if err != nil {
		return nil, err
	}
	for it := insns.Iterate(); it.Next(); {
		*it.Ins = it.Ins.WithSource(asm.Comment(strconv.Itoa(int(it.Offset))))
	}
	prog, err := loadInstructions(p, insns, s.obj.License, s.opts.Targets, 0)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil, err
	}
	im, _ := imageOf(info)
	starts, _ := info.JitedLineInfos()
	lines, err := info.LineInfos()
	if err != nil {
		return nil, err
	}
	if !slices.Equal(im.lens, loaded.lens) || len(starts) != len(lines) {
		return nil, errors.New("the kernel made other code of it the second time")
	}
	var out []origin
	for k, l := range lines {
		// The kernel moves and drops instructions; the text of the line is the number that the instruction had.
		insn, err := strconv.Atoi(l.Line.Line())
		if err != nil {
			return nil, err
		}
		if at, ok := im.offset(starts[k]); ok {
			out = append(out, origin{native: at, insn: insn})
		}
	}
	slices.SortStableFunc(out, func(a, b origin) int { return a.native - b.native })
	return out, nil
}

// kernelSymbol finds the functions that native code calls.
func (s *Session) kernelSymbol() func(uint64) (string, uint64) {
	syms := &kernelSymbols{k: s.opts.Kernel}
	return func(addr uint64) (string, uint64) {
		name, off, _, ok := syms.Lookup(addr)
		if !ok {
			return "", 0
		}
		return name, addr - off
	}
}

// stateLine matches a line of the verifier's log with an instruction and, behind a semicolon, the registers that it changed.
// It is made when it is first needed: no script that only runs pays for it.
var stateLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) [^;]*?\s*; (R\d+.*)$`) })

// Knowledge loads program i once more with a full log and gives what the verifier knew of the registers that each instruction changes, by the
// raw offset of the instruction, the first time that it looked at it.
func (s *Session) Knowledge(i int) (map[int]string, error) {
	p := s.obj.Programs[i]
	insns, err := linkMaps(p, s.maps)
	if err != nil {
		return nil, err
	}
	var code bytes.Buffer
	if err := insns.Marshal(&code, binary.LittleEndian); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	license := append([]byte(s.obj.License), 0)
	attr := progLoadAttr{
		progType: uint32(p.Type), expectedAttachType: uint32(p.AttachType), flags: p.Flags, kernelVersion: kernelVersionCode(),
		insns: pointer(code.Bytes()), insnCount: uint32(code.Len() / 8), license: pointer(license),
	}
	copy(attr.name[:15], kernelName(p.Name))
	if p.AttachTo != "" {
		id, fd, err := s.opts.Targets.AttachID(p.Type, p.AttachType, p.Module, p.AttachTo)
		if err != nil {
			return nil, err
		}
		attr.attachBTFID, attr.attachBTFObjFD = id, uint32(fd)
	}
	for size := 1 << 18; size <= 1<<24; size *= 8 {
		buf := make([]byte, size)
		attr.logLevel, attr.logSize, attr.logBuf = 2, uint32(size), pointer(buf)
		fd, err := progLoad(&attr)
		if err == nil {
			unix.Close(fd)
		}
		runtime.KeepAlive([]any{code, license})
		if errors.Is(err, unix.ENOSPC) {
			continue
		}
		return knowledge(unix.ByteSliceToString(buf)), nil
	}
	return nil, errors.New("the verifier's log is larger than 16 MiB")
}

// knowledge reads a log of level 2. Since Linux 5.18 what an instruction changed stands behind it; before, all registers stand on a line of their
// own before the next one.
func knowledge(log string) map[int]string {
	out := map[int]string{}
	note := func(insn int, what string) {
		if _, seen := out[insn]; !seen && what != "" {
			out[insn] = what
		}
	}
	last, before := -1, map[string]string(nil)
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if m := stateLine().FindStringSubmatch(line); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				note(n, strings.TrimSpace(m[2]))
			}
			continue
		}
		if m := wholeState().FindStringSubmatch(line); m != nil {
			after, changed := registers(m[2], before)
			if m[1] == "" && last >= 0 { // not the state at the target of a jump
				note(last, strings.Join(changed, " "))
			}
			last, before = -1, after
			continue
		}
		if m := insnLine.FindStringSubmatch(line); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				last = n
			}
		}
	}
	return out
}

// wholeState matches a line with all registers: "5: R0=inv ...", and at the target of a jump "from 4 to 5: R0=inv ...".
var wholeState = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(from \d+ to )?\d+: (?:frame\d+: ?)?((?:R\d+|fp-\d+)[_a-zA-Z]*=.*)$`)
})

var registerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^| )(R\d+|fp-\d+)[_a-zA-Z]*=`) })

// registers splits a state into registers and stack slots, and lists those that it has other than the state before; the frame pointer is always
// the same.
func registers(state string, before map[string]string) (after map[string]string, changed []string) {
	after = map[string]string{}
	at := registerName().FindAllStringSubmatchIndex(state, -1)
	for i, m := range at {
		end := len(state)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		name, val := state[m[2]:m[3]], strings.TrimSpace(state[m[1]:end])
		after[name] = val
		if name != "R10" && before != nil && before[name] != val {
			changed = append(changed, name+"="+val)
		}
	}
	return after, changed
}
