package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Loaded is what the kernel made of one program.
type Loaded struct {
	Verified int      // instructions that the verifier looked at, 0 when the kernel does not say (before 5.16)
	Memory   uint64   // bytes
	Native   []string // the translated code, one line for each instruction; empty when the kernel does not let us read it
	NativeAt uint64   // bytes of native code
	Why      string   // why there is no native code
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
	code, ok := info.JitedInsns()
	if !ok || len(code) == 0 {
		l.Why = "the kernel does not show native code here (it needs root, net.core.bpf_jit_enable=1 and kernel.kptr_restrict below 2)"
		return l, nil
	}
	addr := uint64(0)
	if addrs, ok := info.JitedKsymAddrs(); ok && len(addrs) > 0 {
		addr = uint64(addrs[0])
	}
	l.NativeAt = uint64(len(code))
	l.Native = symbol.NativeCode(code, addr)
	return l, nil
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

func knowledge(log string) map[int]string {
	out := map[int]string{}
	for line := range strings.Lines(log) {
		m := stateLine().FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if _, seen := out[n]; err == nil && !seen {
			out[n] = strings.TrimSpace(m[2])
		}
	}
	return out
}
