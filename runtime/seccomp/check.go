package seccomp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// CheckOptions say what is replayed.
type CheckOptions struct {
	Policy         *Policy
	Profile        *Profile // to tell which arguments a restricted call was refused for
	Command        []string
	Env            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// DryRun lets every call through, so that one run shows all that would be denied. Otherwise the policy holds.
	DryRun bool
	Stacks bool
}

// CheckResult is what a replay found.
type CheckResult struct {
	Denials []Denial
	Total   uint64 // denied calls, repeated ones too
	Exit    string // "" for exit status 0
	Code    int
}

// Check runs a command under a policy and reports every call that the policy denies. The kernel asks us about each one and the
// thread waits for the answer, so none can be lost, however many there are. Needs Linux 5.6, and no rights.
func Check(ctx context.Context, o CheckOptions) (*CheckResult, error) {
	pol := *o.Policy
	answer := pol.Default
	if answer.Kind != ActionErrno {
		answer = EPERM
	}
	pol.Default, pol.Foreign = Notify, Notify
	code, err := Compile(&pol)
	if err != nil {
		return nil, err
	}
	nothing := func() error { return nil }
	c, err := start(&Options{
		Command: o.Command, Env: o.Env, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		Filter: &LaunchFilter{Program: Bytes(code), Listener: true},
	}, nothing, nothing)
	if err != nil {
		return nil, err
	}
	s := &supervisor{o: o, answer: answer, child: c, index: map[string]int{}, names: symbol.New(symbol.Config{Demangle: true})}
	defer s.names.Close()
	err = s.serve(ctx)
	if err != nil {
		_ = c.cmd.Process.Kill()
	}
	<-c.done
	res := &CheckResult{Denials: s.denials, Total: s.total, Exit: c.status(), Code: c.exitCode()}
	if err2 := c.stop(); err == nil {
		err = err2
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return res, err
}

// supervisor answers the kernel's questions.
type supervisor struct {
	o       CheckOptions
	answer  Action
	child   *child
	names   *symbol.Symbolizer
	index   map[string]int // into denials
	denials []Denial
	total   uint64
	kill    bool // end whoever asks
}

// notification is struct seccomp_notif.
type notification struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

// reply is struct seccomp_notif_resp.
type reply struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

const (
	ioctlReceive  = 3<<30 | unsafe.Sizeof(notification{})<<16 | '!'<<8
	ioctlSend     = 3<<30 | unsafe.Sizeof(reply{})<<16 | '!'<<8 | 1
	flagContinue  = 1
	pollIntervalM = 200 // ms: how soon a cancelled context is noticed
)

// grace is how long processes have to end after SIGTERM when the context was cancelled.
const grace = 3 * time.Second

// serve returns when no process is under the filter any more. A cancelled context ends the command first, and after a time of
// grace every process that still asks: it is one of the command's, as no other has our filter.
func (s *supervisor) serve(ctx context.Context) error {
	var cancelled time.Time
	for {
		fds := []unix.PollFd{{Fd: int32(s.child.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, pollIntervalM); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if ctx.Err() != nil && cancelled.IsZero() {
			cancelled = time.Now()
			_ = s.child.cmd.Process.Signal(unix.SIGTERM)
		}
		s.kill = !cancelled.IsZero() && time.Since(cancelled) > grace
		if s.kill {
			_ = s.child.cmd.Process.Kill()
			if fds[0].Revents == 0 && time.Since(cancelled) > 2*grace {
				return nil // what is left asks nothing, and hears with ENOSYS that we are gone when it does
			}
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			if err := s.one(); err != nil {
				return err
			}
			continue
		}
		if fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return nil
		}
	}
}

func (s *supervisor) one() error {
	var n notification
	if errno := ioctl(s.child.listener, ioctlReceive, unsafe.Pointer(&n)); errno != 0 {
		if errno == unix.ENOENT || errno == unix.EINTR { // its thread was killed meanwhile
			return nil
		}
		return os.NewSyscallError("receive a notification", errno)
	}
	s.note(&n)
	r := reply{ID: n.ID}
	if s.kill {
		_ = unix.Kill(int(n.PID), unix.SIGKILL)
	}
	if s.o.DryRun {
		r.Flags = flagContinue
	} else {
		r.Error = -int32(s.answer.Errno)
	}
	if errno := ioctl(s.child.listener, ioctlSend, unsafe.Pointer(&r)); errno != 0 && errno != unix.ENOENT && errno != unix.EINPROGRESS {
		return os.NewSyscallError("answer a notification", errno)
	}
	return nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno != unix.EAGAIN {
			return errno
		}
	}
}

// note counts a denial; the thread that made the call waits, so all about it can be read.
func (s *supervisor) note(n *notification) {
	s.total++
	abi, number := abiOf(n.Arch, uint32(n.Nr), s.o.Policy.Native)
	d := Denial{ABI: abi, Number: number, Name: abi.Name(number), Count: 1, Result: -int64(s.answer.Errno), Example: hexArgs(n.Args)}
	if s.o.DryRun {
		d.Result = 0
	}
	if d.Name == "" {
		d.Name = Unnamed(number)
	}
	proc := "/proc/" + strconv.Itoa(int(n.PID))
	d.Program, _ = os.Readlink(proc + "/exe")
	if b, err := os.ReadFile(proc + "/comm"); err == nil {
		d.Thread = strings.TrimSpace(string(b))
	}
	d.PID = groupOf(proc, int(n.PID))
	key := fmt.Sprintf("%s %d %s %v", abi, number, d.Program, s.restricted(abi, number, n.Args))
	if i, ok := s.index[key]; ok {
		s.denials[i].Count++
		return
	}
	if s.o.Stacks {
		d.Stack = s.stack(d.PID, int(n.PID), n.IP)
	}
	s.index[key] = len(s.denials)
	s.denials = append(s.denials, d)
}

// restricted is the tuple for which a call was refused that is allowed with others, nil for a call that is not allowed at all.
func (s *supervisor) restricted(abi ABI, number int, args [6]uint64) []Hex {
	if s.o.Profile == nil {
		return nil
	}
	c := s.o.Profile.Find(abi, number)
	if c == nil || c.Args == nil {
		return nil
	}
	return c.Args.tupleOf(hexArgs(args))
}

// tupleOf takes the values of the set's arguments out of all six.
func (s *ArgSet) tupleOf(args []Hex) []Hex {
	out := make([]Hex, len(s.Indexes))
	for i, x := range s.Indexes {
		if x < len(args) {
			out[i] = args[x]
		}
		if s.Bits[i] == 32 {
			out[i] &= 0xffffffff
		}
	}
	return out
}

func abiOf(audit, nr uint32, native ABI) (ABI, int) {
	for _, f := range abiTable {
		if f.audit == audit {
			if f.abi == X8664 && nr >= x32Bit && nr < 1<<31 {
				return X32, int(nr &^ x32Bit)
			}
			return f.abi, int(int32(nr))
		}
	}
	return native, int(int32(nr))
}

func groupOf(proc string, tid int) int {
	b, err := os.ReadFile(proc + "/status")
	if err != nil {
		return tid
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
				return n
			}
		}
	}
	return tid
}

// stack names the place of the call and, behind it, the return addresses that lie on the stack: programs without frame
// pointers have no chain to follow. Those are marked with a question mark, as some may be left over from earlier calls.
func (s *supervisor) stack(pid, tid int, ip uint64) []string {
	p, err := s.names.Snapshot(pid)
	if err != nil {
		return nil
	}
	out := []string{frameText(s.names.In(p, ip), ip)}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
	if err != nil {
		return out
	}
	f := strings.Fields(string(b))
	if len(f) < 3 {
		return out
	}
	sp, err := strconv.ParseUint(strings.TrimPrefix(f[len(f)-2], "0x"), 16, 64)
	if err != nil {
		return out
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return out
	}
	defer mem.Close()
	words := make([]byte, 4096)
	n, _ := mem.ReadAt(words, int64(sp))
	for i := 0; i+8 <= n && len(out) < 16; i += 8 {
		addr := binary.NativeEndian.Uint64(words[i:])
		if addr < 4096 || !returnsHere(mem, addr) {
			continue
		}
		if fr := s.names.In(p, addr-1); fr.Name != "" || fr.Module != "" {
			out = append(out, "? "+frameText(fr, addr))
		}
	}
	return out
}

// returnsHere reports whether the instruction before an address is a call.
func returnsHere(mem io.ReaderAt, addr uint64) bool {
	b := make([]byte, 7)
	if _, err := mem.ReadAt(b, int64(addr)-7); err != nil {
		return false
	}
	if Native() == AArch64 {
		w := binary.LittleEndian.Uint32(b[3:])
		return w&0xfc000000 == 0x94000000 || w&0xfffffc1f == 0xd63f0000
	}
	if b[2] == 0xe8 {
		return true
	}
	for _, at := range []int{5, 4, 1, 0} { // call through a register or memory, by length
		if b[at] == 0xff && b[at+1]&0x38 == 0x10 {
			return true
		}
	}
	return false
}

func frameText(f symbol.Frame, addr uint64) string {
	switch {
	case f.Name != "":
		return fmt.Sprintf("%s+%d (%s)", f.Name, f.Offset, f.Module)
	case f.Module != "":
		return fmt.Sprintf("%#x (%s)", f.FileOffset, f.Module)
	}
	return fmt.Sprintf("%#x", addr)
}

// Accept adds what was denied to a profile and says what that changes.
func (p *Profile) Accept(denials []Denial) []Difference {
	before := &Profile{ABI: p.ABI}
	for _, c := range p.Calls {
		n := *c
		n.Args = c.Args.clone()
		before.Calls = append(before.Calls, &n)
	}
	for _, d := range denials {
		if d.Number < 0 || d.Number >= tableSize || !slices.Contains(p.ABI.Family(), d.ABI) {
			continue
		}
		if c := p.Find(d.ABI, d.Number); c != nil && c.Args != nil && !c.Args.Wide {
			if t := c.Args.tupleOf(d.Example); !c.Args.has(t) {
				c.Args.Values = append(c.Args.Values, t)
				continue
			}
		}
		c := p.findOrigin(d.ABI, d.Number, OriginAccepted)
		if c == nil {
			c = &Call{ABI: d.ABI, Name: d.Name, Number: d.Number, Origin: OriginAccepted, Program: d.Program, Example: d.Example, Stack: d.Stack}
			if d.Thread != "" {
				c.Threads = []string{d.Thread}
			}
			p.Calls = append(p.Calls, c)
		}
		c.Count += d.Count
	}
	p.sort()
	return Diff(before, p)
}

// Enforce runs a command under a policy and gives its exit code: its status, or 128 and the signal that ended it. Needs no rights.
func Enforce(ctx context.Context, pol *Policy, opts Options) (code int, exit string, err error) {
	filter, err := Compile(pol)
	if err != nil {
		return 0, "", err
	}
	keep := false
	if opts.Filter != nil {
		keep = opts.Filter.KeepPrivileges
	}
	opts.Filter = &LaunchFilter{Program: Bytes(filter), KeepPrivileges: keep}
	nothing := func() error { return nil }
	c, err := start(&opts, nothing, nothing)
	if err != nil {
		return 0, "", err
	}
	select {
	case <-ctx.Done():
	case <-c.done:
	}
	err = c.stop()
	return c.exitCode(), c.status(), err
}
