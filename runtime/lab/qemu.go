package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Arch is a processor architecture by its Go name.
type Arch string

// The architectures the lab knows.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// HostArch is the architecture of this program.
func HostArch() Arch { return Arch(runtime.GOARCH) }

// ParseArch understands the names of Go, Debian and uname.
func ParseArch(s string) (Arch, error) {
	switch s {
	case "amd64", "x86_64", "x86-64":
		return AMD64, nil
	case "arm64", "aarch64":
		return ARM64, nil
	}
	return "", fmt.Errorf("lab: unknown architecture `%s`: use amd64 or arm64", s)
}

// Accel is how QEMU runs guest code.
type Accel uint8

const (
	// AccelAuto uses KVM when it was seen to boot a guest, else emulation.
	AccelAuto Accel = iota
	// AccelTCG emulates.
	AccelTCG
	// AccelKVM uses /dev/kvm.
	AccelKVM
)

// String returns QEMU's name.
func (a Accel) String() string {
	switch a {
	case AccelTCG:
		return "tcg"
	case AccelKVM:
		return "kvm"
	default:
		return "auto"
	}
}

// kvmBootTimeout is several times what a guest needs with a working KVM. A
// nested KVM may start a guest and never get anywhere.
const kvmBootTimeout = 6 * time.Second

// machine is what differs between architectures.
type machine struct {
	arch    Arch
	program string
	pkg     string
	// line is the guest's device of the result line.
	line string
	// kernel is the command line that names the console.
	kernel string
	board  []string
	// cpu is for emulation.
	cpu string
	// terminal is the guest's device of [Config.Terminal].
	terminal string
	// serials place the console and the result line.
	serials []string
}

func machineFor(a Arch) (*machine, error) {
	switch a {
	case AMD64:
		return &machine{
			arch: a, program: "qemu-system-x86_64", pkg: "qemu-system-x86",
			line: "/dev/ttyS1", terminal: "/dev/ttyS2",
			kernel: "console=ttyS0 tsc=reliable no_timer_check reboot=t i8042.noaux i8042.nopnp pci=lastbus=0",
			board:  []string{"-machine", "pc"},
			// Five page levels slow the emulation down; a compare-and-swap of
			// 16 bytes went wrong in QEMU 7.2's single-thread emulation.
			cpu:     "max,la57=off,cx16=off",
			serials: []string{"-serial", "chardev:console", "-serial", "chardev:results"},
		}, nil
	case ARM64:
		return &machine{
			arch: a, program: "qemu-system-aarch64", pkg: "qemu-system-arm",
			// The board has one serial line of its own; the second sits on PCI.
			line: "/dev/ttyS0", terminal: "/dev/ttyS1",
			kernel: "console=ttyAMA0",
			board:  []string{"-machine", "virt,gic-version=3"},
			// Pointer authentication is emulated at a high price.
			cpu:     "max,pauth-impdef=on",
			serials: []string{"-serial", "chardev:console", "-device", "pci-serial,chardev=results"},
		}, nil
	}
	return nil, fmt.Errorf("lab: no machine for architecture `%s`", a)
}

// Available returns nil when QEMU for arch is installed, else a
// [*MissingError].
func Available(arch Arch) error {
	m, err := machineFor(arch)
	if err != nil {
		return err
	}
	_, err = m.find()
	return err
}

func (m *machine) find() (string, error) {
	p, err := exec.LookPath(m.program)
	if err != nil {
		return "", &MissingError{Program: m.program, Package: m.pkg}
	}
	return p, nil
}

// args returns QEMU's arguments. Descriptor 3 is the initramfs, 4 the console, 5 the kernel, 6 the terminal;
// standard output is the result line.
func (m *machine) args(c *Config, accel Accel) []string {
	a := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-m", strconv.Itoa(c.MemoryMiB), "-smp", strconv.Itoa(c.CPUs),
		"-chardev", "file,id=console,path=/dev/fd/4",
		"-chardev", "stdio,id=results,signal=off",
	}
	a = append(a, m.board...)
	a = append(a, m.serials...)
	if c.Terminal != nil {
		a = append(a, "-chardev", "socket,id=terminal,fd=6")
		if m.arch == AMD64 {
			a = append(a, "-serial", "chardev:terminal")
		} else {
			a = append(a, "-device", "pci-serial,chardev=terminal")
		}
	}
	switch {
	case accel == AccelKVM:
		a = append(a, "-accel", "kvm", "-cpu", "host")
	case c.ICount:
		a = append(a, "-accel", "tcg,thread=single", "-cpu", m.cpu, "-icount", "shift=0,sleep=off")
	default:
		// One thread for all CPUs: with a thread each, a CPU may go on running code that another CPU has patched (tracepoints, static calls),
		// and hangs in or oopses on the breakpoint that the kernel patches in between.
		a = append(a, "-accel", "tcg,thread=single", "-cpu", m.cpu)
	}
	return append(a, "-kernel", "/dev/fd/5", "-initrd", "/dev/fd/3", "-append", m.cmdline(c))
}

func (m *machine) cmdline(c *Config) string {
	words := []string{
		m.kernel, "panic=-1", "oops=panic", "quiet", "mitigations=off", "nokaslr",
		"random.trust_cpu=on", "cryptomgr.notests", defaultLSM, guestMarker + "=1",
	}
	if c.Cmdline != "" {
		words = append(words, c.Cmdline) // later words win
	}
	return strings.Join(words, " ")
}

// runProbed chooses between KVM and emulation and runs. The first guest on a
// host whose KVM was not tried yet is the probe.
func runProbed(ctx context.Context, c *Config, m *machine, qemu string, initrd, kernel *os.File) (Result, error) {
	accel := c.Accel
	if c.ICount {
		if accel == AccelKVM {
			return Result{}, errors.New("lab: instructions can only be counted under emulation")
		}
		accel = AccelTCG
	}
	if accel != AccelAuto {
		return runOnce(ctx, c, m, qemu, accel, initrd, kernel)
	}
	if m.arch != HostArch() || unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return runOnce(ctx, c, m, qemu, AccelTCG, initrd, kernel)
	}
	verdict := kvmVerdictPath()
	switch known, _ := os.ReadFile(verdict); string(known) {
	case "kvm":
		return runOnce(ctx, c, m, qemu, AccelKVM, initrd, kernel)
	case "tcg":
		return runOnce(ctx, c, m, qemu, AccelTCG, initrd, kernel)
	}
	try := *c
	try.BootTimeout = kvmBootTimeout
	res, err := runOnce(ctx, &try, m, qemu, AccelKVM, initrd, kernel)
	if res.Boot > 0 {
		saveVerdict(verdict, "kvm")
		return res, err
	}
	if ctx.Err() != nil {
		return res, err
	}
	saveVerdict(verdict, "tcg")
	return runOnce(ctx, c, m, qemu, AccelTCG, initrd, kernel)
}

// kvmVerdictPath names the note of whether KVM works, which holds until the
// host boots again.
func kvmVerdictPath() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return filepath.Join(DefaultCacheDir(), "accel-"+strings.TrimSpace(string(id)))
}

// saveVerdict is a convenience: without it the next run probes again.
func saveVerdict(path, verdict string) {
	if path == "" {
		return
	}
	if os.MkdirAll(filepath.Dir(path), 0o755) == nil {
		_ = os.WriteFile(path, []byte(verdict), 0o644)
	}
}
