package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/seccomp"
)

func workCommands() []command {
	return []command{
		{name: "triage", args: "[SECONDS] [text|json|html FILE]", group: groupWork, summary: "a first look at a machine in trouble: load, queues, disks, network, errors, stacks (60 seconds)", run: (*Shell).cmdTriage},
		{name: "lesson", args: "[N | next | list | stop]", group: groupWork, takes: "lesson", summary: "a course at the prompt: what to type, and what the kernel then says", run: (*Shell).cmdLesson},
		{
			name: "seccomp", args: "start [pid N... | container ID | cgroup DIR | COMMAND] | from @MAP | show | stop | save FILE", group: groupWork,
			summary: "record the system calls of something and make an allowlist of them", run: (*Shell).cmdSeccomp,
		},
	}
}

// recording is what \seccomp records, or recorded.
type recording struct {
	r       *seccomp.Recorder // nil once it is stopped
	profile *seccomp.Profile
	target  string
}

func (sh *Shell) cmdSeccomp(_ context.Context, args string) error {
	what, rest, _ := strings.Cut(args, " ")
	rest = strings.TrimSpace(rest)
	switch what {
	case "start":
		return sh.seccompStart(rest)
	case "from":
		return sh.seccompFrom(rest)
	case "show", "stop", "save":
	case "":
		return hintf("`\\seccomp start pid 123`, then `\\seccomp show`, `\\seccomp stop`, `\\seccomp save FILE`", "give one of start, from, show, stop, save")
	default:
		return hintf("`\\seccomp start pid 123`, then `\\seccomp show`, `\\seccomp stop`, `\\seccomp save FILE`", "`%s` is not one of start, from, show, stop, save", what)
	}
	rec := sh.seccomp
	if rec == nil {
		return hintf("begin with `\\seccomp start COMMAND` or `\\seccomp start pid N`", "nothing is recorded")
	}
	switch what {
	case "show":
		if rec.r != nil {
			l, err := rec.r.Live()
			if err != nil {
				return err
			}
			sh.say("recording %s for %s: %s calls of %d kinds, %d new in the last minute, %d denied, about %.1f kinds still unseen",
				rec.target, l.Elapsed.Round(time.Second), group(int(l.Calls)), l.Kinds, l.New, l.Denied, l.Unseen.Missing)
			return nil
		}
		return rec.profile.Show(sh.asWriter(), seccomp.ShowOptions{})
	case "stop":
		return sh.seccompStop()
	}
	if rest == "" {
		return hintf("write `\\seccomp save FILE`; `sonde seccomp emit` turns it into other formats", "save where?")
	}
	if rec.r != nil {
		if err := sh.seccompStop(); err != nil {
			return err
		}
	}
	if err := rec.profile.WriteFile(rest); err != nil {
		return err
	}
	sh.say("saved %s to %s; `sonde seccomp emit --format oci %s` makes an allowlist", seccomp.Counted(uint64(len(rec.profile.Calls)), "system call"), rest, rest)
	return nil
}

func (sh *Shell) seccompStart(args string) error {
	if sh.seccomp != nil && sh.seccomp.r != nil {
		return hintf("`\\seccomp stop` ends it", "%s is recorded already", sh.seccomp.target)
	}
	opts := seccomp.Options{Kernel: sh.cfg.Kernel, Tool: "sonde " + sh.cfg.Version, Stdout: sh.asWriter(), Stderr: sh.asWriter()}
	words, err := runtime.SplitCommand(args)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return hintf("name a command, `pid N`, `container ID` or `cgroup DIR`", "record what?")
	}
	switch {
	case words[0] == "pid" && len(words) > 1:
		for _, w := range words[1:] {
			pid, err := strconv.Atoi(w)
			if err != nil || pid < 1 {
				return hintf("write `\\seccomp start pid 123`", "`%s` is not a process number", w)
			}
			opts.PIDs = append(opts.PIDs, pid)
		}
	case words[0] == "cgroup" && len(words) == 2:
		opts.Cgroup = words[1]
	case words[0] == "container" && len(words) == 2:
		dir, err := seccomp.FindCgroup(sh.cfg.Kernel, words[1], "")
		if err != nil {
			return err
		}
		opts.Cgroup = dir
	case slices.Contains([]string{"pid", "cgroup", "container"}, words[0]):
		return hintf("write `\\seccomp start pid 123`, or one `cgroup DIR` or `container ID`", "which %s?", words[0])
	default:
		opts.Command = words
	}
	r, err := seccomp.Start(opts)
	if err != nil {
		return err
	}
	sh.seccomp = &recording{r: r, target: args}
	sh.say("recording %s; `\\seccomp show` looks, `\\seccomp stop` ends it", args)
	return nil
}

// seccompFrom takes a map that counts system calls by name, such as @calls[syscall_name(args.id)] = count(). Where keys have several
// parts, the last one is the name.
func (sh *Shell) seccompFrom(args string) error {
	if sh.seccomp != nil && sh.seccomp.r != nil {
		return hintf("`\\seccomp stop` ends it", "%s is recorded", sh.seccomp.target)
	}
	name, rest, err := sh.oneMap(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return hintf("`\\seccomp save FILE` writes what it makes", "`%s` is too much behind the map", strings.Join(rest, " "))
	}
	list, keyed, err := sh.entries(name)
	if err != nil {
		return err
	}
	if !keyed {
		return hintf("count by name: `@calls[syscall_name(args.id)] = count()`", "%s has no keys", name)
	}
	counts := map[string]uint64{}
	for _, e := range list {
		parts := strings.Split(e.key, ", ")
		counts[parts[len(parts)-1]] += uint64(max(e.n, 1))
	}
	release, err := sh.cfg.Kernel.Release()
	if err != nil {
		return err
	}
	p, err := seccomp.FromCounts("sonde "+sh.cfg.Version, release, name, counts)
	if err != nil {
		return hintf("count by name: `@calls[syscall_name(args.id)] = count()`", "%v", err)
	}
	sh.seccomp = &recording{target: name, profile: p}
	return sh.seccompSummary()
}

func (sh *Shell) seccompStop() error {
	rec := sh.seccomp
	if rec.r == nil {
		sh.say("the recording has ended already")
		return nil
	}
	p, err := rec.r.Stop()
	cerr := rec.r.Close()
	rec.r = nil
	if err != nil {
		sh.seccomp = nil
		return err
	}
	rec.profile = p
	return errors.Join(sh.seccompSummary(), cerr)
}

// seccompSummary says what to look at in what was recorded, and what there is.
func (sh *Shell) seccompSummary() error {
	p := sh.seccomp.profile
	for _, f := range p.Lint() {
		if f.Severity != seccomp.SeverityNote {
			sh.say("%v", f)
		}
	}
	names := make([]string, 0, len(p.Calls))
	for _, c := range p.Calls {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	sh.say("%s", foldText(fmt.Sprintf("%s: %s", seccomp.Counted(uint64(len(names)), "system call"), strings.Join(slices.Compact(names), " ")), sh.width()))
	return nil
}

// screenWriter lets others print to the screen.
type screenWriter struct{ s *screen }

func (w screenWriter) Write(b []byte) (int, error) {
	w.s.print(string(b))
	return len(b), nil
}

func (sh *Shell) asWriter() io.Writer { return screenWriter{sh.out} }

// cmdTriage takes a first look and prints it; the scripts stay as detached items.
func (sh *Shell) cmdTriage(ctx context.Context, args string) error {
	length, format, file := 60*time.Second, "text", ""
	for _, w := range strings.Fields(args) {
		if d, err := time.ParseDuration(w); err == nil {
			length = d
			continue
		}
		if n, err := strconv.ParseFloat(w, 64); err == nil && n > 0 {
			length = time.Duration(n * float64(time.Second))
			continue
		}
		switch {
		case w == "text" || w == "json" || w == "html":
			format = w
		case format != "text" || strings.ContainsAny(w, "./"):
			file = w
		default:
			return hintf("write `\\triage 30` or `\\triage 60 html report.html`", "`%s` is neither a time nor a format", w)
		}
	}
	sh.say("looking for %s ...", shortDuration(length))
	report, err := sh.Triage(ctx, length)
	if err != nil {
		return err
	}
	text, err := report.Format(format, sh.width())
	if err != nil {
		return err
	}
	if file == "" {
		sh.write(text)
		return nil
	}
	if err := os.WriteFile(homePath(file), []byte(text), 0o644); err != nil { //nolint:gosec // a report is there to be read
		return fmt.Errorf("triage: %w", err)
	}
	sh.write(report.Text(sh.width()))
	sh.say("report is in %s", file)
	return nil
}
