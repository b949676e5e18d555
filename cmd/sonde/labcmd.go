package main

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

const labUsage = `USAGE: sonde lab list
       sonde lab fetch [--arch ARCH] [--refresh] [--modules] [--mirror URL] SPEC...
       sonde lab run [OPTIONS] SPEC -- COMMAND [ARGS]
       sonde lab shell [OPTIONS] SPEC [-- COMMAND [ARGS]]

Kernels of the distribution for sonde verify, and a command on one of them, under QEMU, with this program as the init. SPEC is a
catalogue name or release (5.10, debian:12, newest), ` + "`all`" + `, or the path of a vmlinuz or of its package (.deb). Kernels are fetched through the
package mirror that apt is configured with, checked against the archive's checksums, and cached; their modules when they are needed, or with --modules.

Options of run and shell:
    --arch ARCH         x86_64 or arm64
    --guest FILE        sonde built for the other architecture; default: sonde-ARCH beside this program
    --file HOST[:PATH]  bring a file along; may be repeated
    --module LIST       load kernel modules, and those that they need
    --timeout DURATION  limit for the command, on the guest's clock (default 1m)
    --memory MIB        the guest's memory, which holds the files too (default 768)
    --cpus N            the guest's CPUs (default 2)
    --append WORDS      added to the kernel's command line
    --console           show the kernel's console afterwards

COMMAND is a program of this machine; the libraries that it needs come along. ` + "`sonde`" + ` is this program. shell gives the command this
terminal: a shell with a few tools when none is named. Leaving it ends the guest.
EXIT STATUS of run: the command's, or 3 when the guest failed
`

// runLab is the sub-command `lab`.
func runLab(ctx context.Context, argv []string, std stdio) int {
	err := usagef("no command given")
	if len(argv) > 0 {
		switch argv[0] {
		case "list":
			if len(argv) > 1 {
				err = usagef("list takes no arguments")
			} else {
				err = labList(std)
			}
		case "fetch":
			err = labFetch(ctx, argv[1:], std)
		case "run":
			code, rerr := labRun(ctx, argv[1:], std, false)
			if rerr == nil {
				return code
			}
			err = rerr
		case "shell":
			code, rerr := labRun(ctx, argv[1:], std, true)
			if rerr == nil {
				return code
			}
			err = rerr
		case "-h", "--help", "help":
			err = pflag.ErrHelp
		default:
			err = usagef("unknown command `%s`", argv[0])
		}
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pflag.ErrHelp):
		printHelp(std.out, labUsage)
		return exitOK
	case errors.As(err, new(*usageError)):
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: run `sonde lab --help` for the commands\n", err)
		return exitUsage
	}
	return verifyFailed(std, err)
}

// labList prints the kernels that can be had, and which are here.
func labList(std stdio) error {
	c := lab.NewCatalogue()
	tw := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tARCH\tALSO\tRELEASE\tIMAGE")
	for _, name := range lab.Names() {
		for _, arch := range []lab.Arch{lab.AMD64, lab.ARM64} {
			k, ok := c.Cached(name, arch)
			if !ok {
				k = lab.Kernel{Release: "not fetched", Image: "-"}
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", name, arch, strings.Join(lab.Aliases(name), ", "), k.Release, k.Image)
		}
	}
	return tw.Flush()
}

type labFlags struct {
	*pflag.FlagSet
	arch      string
	catalogue *lab.Catalogue
}

func newLabFlags(name string, std stdio) *labFlags {
	f := &labFlags{FlagSet: pflag.NewFlagSet(name, pflag.ContinueOnError), catalogue: lab.NewCatalogue()}
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&f.arch, "arch", string(lab.HostArch()), "")
	f.StringVar(&f.catalogue.Mirror, "mirror", "", "")
	f.BoolVar(&f.catalogue.Refresh, "refresh", false, "")
	f.catalogue.Log = func(s string) { fmt.Fprintln(std.err, s) }
	return f
}

func (f *labFlags) parse(argv []string) (lab.Arch, error) {
	if err := f.Parse(argv); err != nil {
		return "", flagError(err)
	}
	if f.NArg() == 0 {
		return "", usagef("no kernel given: use one of %s", strings.Join(lab.Names(), ", "))
	}
	arch, err := lab.ParseArch(f.arch)
	if err != nil {
		return "", usagef("%s", lab.Message(err))
	}
	return arch, nil
}

func labFetch(ctx context.Context, argv []string, std stdio) error {
	f := newLabFlags("fetch", std)
	modules := f.Bool("modules", false, "")
	arch, err := f.parse(argv)
	if err != nil {
		return err
	}
	for _, arg := range f.Args() {
		for _, spec := range lab.ParseSpecs(arg) {
			k, err := f.catalogue.Fetch(ctx, spec, arch)
			if err != nil {
				return err
			}
			fmt.Fprintf(std.out, "%s  %s  %s\n", k.Name, k.Release, k.Image)
			if *modules {
				m, err := f.catalogue.Modules(ctx, k)
				if err != nil {
					return err
				}
				fmt.Fprintf(std.out, "%s  %d modules\n", k.Name, len(m.Names()))
				if err := m.Close(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// labRun runs one command on one kernel, on this terminal or without any.
func labRun(ctx context.Context, argv []string, std stdio, shell bool) (int, error) {
	f := newLabFlags("run", std)
	var files, modules []string
	cfg := lab.Config{}
	job := lab.Job{}
	f.StringArrayVar(&files, "file", nil, "")
	f.StringSliceVar(&modules, "module", nil, "")
	other := f.String("guest", "", "")
	f.DurationVar(&job.Timeout, "timeout", time.Minute, "")
	f.IntVar(&cfg.MemoryMiB, "memory", 768, "")
	f.IntVar(&cfg.CPUs, "cpus", 2, "")
	f.StringVar(&cfg.Cmdline, "append", "", "")
	console := f.Bool("console", false, "")
	arch, err := f.parse(argv)
	if err != nil {
		return 0, err
	}
	args := f.Args()[1:]
	switch {
	case len(args) > 0:
	case shell:
		args = []string{"sh"}
		if _, err := exec.LookPath("bash"); err == nil {
			args = []string{"bash", "--norc"}
		}
	default:
		return 0, usagef("no command given: sonde lab run %s -- COMMAND", f.Arg(0))
	}
	if err := lab.Available(arch); err != nil {
		return 0, err
	}
	if cfg.Kernel, err = f.catalogue.Fetch(ctx, f.Arg(0), arch); err != nil {
		return 0, err
	}
	if cfg.Init, err = guestBinary(arch, *other); err != nil {
		return 0, err
	}
	job.Args = args
	if args[0] == "sonde" {
		job.Args = append([]string{"/init"}, args[1:]...)
	} else {
		path, err := exec.LookPath(args[0])
		if err != nil {
			return 0, &userError{fmt.Sprintf("cannot find the command `%s`", args[0]), "give the path of a program of this machine"}
		}
		if path, err = filepath.Abs(path); err != nil {
			return 0, err
		}
		if arch != lab.HostArch() { // what libraries this machine has are of no use there
			if err := lab.CheckStatic(path, arch); err != nil {
				return 0, &userError{lab.Message(err), "bring a static program for that architecture, or run `sonde`"}
			}
		}
		if cfg.Files, err = programFiles(path); err != nil {
			return 0, err
		}
		job.Args = append([]string{path}, args[1:]...)
	}
	if cfg.Modules, err = moduleFiles(ctx, f.catalogue, cfg.Kernel, modules); err != nil {
		return 0, err
	}
	if shell {
		restore, err := labTerminal(&cfg, &job, std)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	for _, spec := range files {
		host, guest, ok := strings.Cut(spec, ":")
		if !ok {
			guest = host
		}
		abs, err := filepath.Abs(host)
		if err != nil {
			return 0, err
		}
		st, err := os.Stat(abs)
		if err != nil || !st.Mode().IsRegular() {
			return 0, &userError{fmt.Sprintf("`%s` is no file", host), "name files one by one; folders are not brought along"}
		}
		if !filepath.IsAbs(guest) {
			guest = "/" + guest
		}
		cfg.Files = append(cfg.Files, lab.File{Path: guest, Host: abs, Mode: st.Mode().Perm()})
	}
	cfg.Jobs = []lab.Job{job}
	cfg.Output = func(_ int, stderr bool, p []byte) {
		w := std.out
		if stderr {
			w = std.err
		}
		_, _ = w.Write(p)
	}
	return labResult(ctx, cfg, std, *console)
}

// moduleFiles reads modules of a kernel, with those that they need.
func moduleFiles(ctx context.Context, c *lab.Catalogue, k lab.Kernel, names []string) ([]lab.ModuleFile, error) {
	if len(names) == 0 {
		return nil, nil
	}
	m, err := c.Modules(ctx, k)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	files, err := m.Load(names...)
	if errors.Is(err, lab.ErrNoModule) {
		hint := "the kernel may have it built in: then nothing needs to be loaded"
		for _, n := range names {
			if near := diag.Nearest(n, m.Names()); near != "" && near != n {
				hint = fmt.Sprintf("did you mean `%s`? %s", near, hint)
				break
			}
		}
		return nil, &userError{lab.Message(err), hint}
	}
	return files, err
}

// shellTools are brought along for a shell, as far as they are installed.
var shellTools = []string{"cat", "dmesg", "free", "grep", "head", "id", "kill", "less", "ls", "mkdir", "mount", "ps", "rm", "sleep", "tail", "top", "uname", "wc"}

// labTerminal gives the job this terminal, and a shell its tools.
func labTerminal(cfg *lab.Config, job *lab.Job, std stdio) (restore func(), err error) {
	in, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, &userError{"lab shell needs a terminal", "use `sonde lab run` for a command without one"}
	}
	have := map[string]bool{}
	for _, f := range cfg.Files {
		have[f.Path] = true
	}
	for _, tool := range shellTools {
		path, err := exec.LookPath(tool)
		if err != nil {
			continue
		}
		files, err := programFiles(path)
		if err != nil {
			continue // a tool less
		}
		for _, f := range files {
			if !have[f.Path] {
				have[f.Path] = true
				cfg.Files = append(cfg.Files, f)
			}
		}
	}
	cfg.Files = append(cfg.Files, lab.File{Path: "/sbin/sonde", Link: "/init"})
	for _, f := range []string{"xterm", "xterm-256color", "screen-256color", "linux"} { // what less and top look at
		name := "/lib/terminfo/" + f[:1] + "/" + f
		if _, err := os.Stat(name); err == nil {
			cfg.Files = append(cfg.Files, lab.File{Path: name, Host: name, Mode: 0o644})
		}
	}
	job.Env = append(job.Env, "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "TERM="+cmp.Or(os.Getenv("TERM"), "linux"), "PS1=lab "+cfg.Kernel.Name+"# ")
	job.Terminal, job.Timeout = true, 24*time.Hour
	cfg.Terminal = &lab.Terminal{In: in, Out: std.out}
	cfg.Terminal.Columns, cfg.Terminal.Rows, _ = term.GetSize(int(in.Fd()))
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(in.Fd()), state) }, nil
}

func labResult(ctx context.Context, cfg lab.Config, std stdio, console bool) (int, error) {
	res, err := lab.Run(ctx, cfg)
	if text := strings.TrimRight(res.Console, "\n"); (console || err != nil) && text != "" {
		fmt.Fprintf(std.err, "%s\n", text)
	}
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: %s\n", lab.Message(err))
		return exitKernel, nil
	}
	for _, m := range res.Modules {
		if m.Error != "" {
			fmt.Fprintf(std.err, "WARNING: the module `%s` is not loaded: %s\n", m.Name, m.Error)
		}
	}
	j := &res.Jobs[0]
	if j.Code > 0 || j.Err() == nil {
		return j.Code, nil
	}
	fmt.Fprintf(std.err, "ERROR: %s: %v\n", j.Args[0], j.Err())
	return exitKernel, nil
}

// programFiles are a program and what its dynamic linker will look for.
func programFiles(path string) ([]lab.File, error) {
	var files []lab.File
	seen := map[string]bool{}
	finder := symbol.Finder{}
	var add func(string) error
	add = func(p string) error {
		if seen[p] {
			return nil
		}
		seen[p] = true
		st, err := os.Stat(p)
		if err != nil {
			return &userError{err.Error(), ""}
		}
		files = append(files, lab.File{Path: p, Host: p, Mode: st.Mode().Perm() | 0o555})
		f, err := elf.Open(p)
		if err != nil {
			return nil // a script: its interpreter is up to the user
		}
		defer f.Close()
		for _, s := range f.Progs {
			if s.Type != elf.PT_INTERP {
				continue
			}
			b, err := io.ReadAll(s.Open())
			if err != nil {
				return err
			}
			if err := add(strings.TrimRight(string(b), "\x00")); err != nil {
				return err
			}
		}
		libs, err := f.ImportedLibraries()
		if err != nil {
			return nil
		}
		for _, l := range libs {
			lib, err := finder.Find(l)
			if err != nil {
				return &userError{fmt.Sprintf("%s needs the library %s: %v", p, l, err), "use a static program"}
			}
			if err := add(lib); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(path); err != nil {
		return nil, err
	}
	if len(files) > 1 {
		files = append(files, lab.File{Path: "/etc/ld.so.cache", Host: "/etc/ld.so.cache", Mode: 0o644})
		files = slices.DeleteFunc(files, func(f lab.File) bool { _, err := os.Stat(f.Host); return err != nil })
	}
	return files, nil
}
