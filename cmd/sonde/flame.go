package main

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

	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/flame"
)

// graph is what is made of a map of stacks at the end of a run: -o FILE.svg, --folded, --pprof. A nil graph makes nothing.
type graph struct {
	a       *app
	name    string // of the map
	started time.Time
	// files are open from the start, so that a path that cannot be written is known before anything is traced.
	picture, profile *os.File
}

// graph finds the map that the options ask a picture of.
func (a *app) graph(obj *object.Object) (*graph, error) {
	o := a.opts
	svg := strings.HasSuffix(o.output, ".svg")
	if !svg && !o.folded && o.pprof == "" {
		if o.graphMap != "" {
			return nil, usagef("--map says which map is drawn: give -o FILE.svg, --folded or --pprof FILE too")
		}
		return nil, nil
	}
	if o.folded && o.format == "json" {
		return nil, usagef("--folded is text: leave -f json out")
	}
	names := runtime.StackMaps(obj)
	name := o.graphMap
	switch {
	case len(names) == 0:
		return nil, &userError{"no map is keyed by stacks", "count by stack, as in profile:hz:99 { @[ustack, kstack] = count(); }"}
	case name != "":
		if name[0] != '@' {
			name = "@" + name
		}
		if !slices.Contains(names, name) {
			return nil, &userError{fmt.Sprintf("the map `%s` is not keyed by stacks", name), "use --map " + strings.Join(names, " or ")}
		}
	case len(names) > 1:
		return nil, &userError{fmt.Sprintf("%d maps are keyed by stacks", len(names)), "choose one with --map: " + strings.Join(names, ", ")}
	default:
		name = names[0]
	}
	g := &graph{a: a, name: name, started: time.Now()}
	for _, f := range []struct {
		path string
		to   **os.File
	}{{o.output, &g.picture}, {o.pprof, &g.profile}} {
		if f.path == "" || f.to == &g.picture && !svg {
			continue
		}
		file, err := os.Create(f.path)
		if err != nil {
			return nil, &userError{fmt.Sprintf("cannot write `%s`: %v", f.path, errors.Unwrap(err)), ""}
		}
		a.closers = append(a.closers, file.Close)
		*f.to = file
	}
	return g, nil
}

// svg reports whether the file of -o takes the picture.
func (g *graph) svg() bool { return g != nil && g.picture != nil }

func (g *graph) set(opts *runtime.Options) {
	if g != nil {
		opts.Graph, opts.GraphMap = g.make, g.name
	}
}

// make writes the pictures.
func (g *graph) make(s *runtime.Session) error {
	samples, err := s.Samples(g.name)
	if err != nil {
		return err
	}
	stacks := flame.Fold(samples)
	o := g.a.opts
	if o.folded {
		s.Print(func(w io.Writer) error { return flame.WriteFolded(w, stacks) })
	}
	if g.picture != nil {
		if err := flame.WriteSVG(g.picture, stacks, flame.Options{Title: g.title()}); err != nil {
			return fmt.Errorf("write %s: %w", o.output, err)
		}
	}
	if g.profile != nil {
		about := flame.Profile{PeriodNS: s.SamplePeriod(), Time: g.started, Duration: time.Since(g.started)}
		if err := flame.WritePprof(g.profile, samples, about); err != nil {
			return fmt.Errorf("write %s: %w", o.pprof, err)
		}
	}
	return nil
}

func (g *graph) title() string {
	o := g.a.opts
	switch {
	case o.command != "":
		return o.command
	case o.pid != 0:
		return "process " + strconv.Itoa(o.pid)
	case o.file != "" && o.file != "-":
		return o.file
	}
	return ""
}

const flameUsage = `USAGE:
    sonde flame [options]              sample the stacks of everything that runs
    sonde flame [options] -p PID       of one process
    sonde flame [options] -c COMMAND   of a command, until it ends
    sonde flame [options] FILE         draw folded stacks from a FILE (- reads standard input)

OPTIONS:
    -o FILE          the picture (default flame.svg)
    -t SECONDS       how long to sample (default 10; a command until it ends)
    -F HZ            samples a second and CPU (default 99)
    --user, --kernel user stacks, kernel stacks only (default both)
    --folded         print folded stacks instead of drawing
    --pprof FILE     write a profile for go tool pprof too
`

// runFlame samples stacks and draws them, or draws what another tool has folded.
func runFlame(ctx context.Context, argv []string, std stdio) int {
	fs := pflag.NewFlagSet("flame", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	output := fs.StringP("output", "o", "", "")
	seconds := fs.Float64P("time", "t", 0, "")
	hz := fs.IntP("frequency", "F", 99, "")
	pid := fs.StringP("pid", "p", "", "")
	command := fs.StringP("command", "c", "", "")
	user := fs.Bool("user", false, "")
	kernel := fs.Bool("kernel", false, "")
	folded := fs.Bool("folded", false, "")
	pprof := fs.String("pprof", "", "")
	help := fs.BoolP("help", "h", false, "")
	fail := func(format string, args ...any) int {
		fmt.Fprintf(std.err, "ERROR: "+format+"\n%s", append(args, flameUsage)...)
		return exitUsage
	}
	if err := fs.Parse(argv); err != nil {
		return fail("%v", err)
	}
	switch {
	case *help:
		printHelp(std.out, flameUsage)
		return exitOK
	case fs.NArg() > 1:
		return fail("more than one file given")
	case *hz < 1 || *hz > 10000:
		return fail("%d samples a second are not between 1 and 10000", *hz)
	case *seconds < 0:
		return fail("%g seconds is no time", *seconds)
	}
	if *output == "" {
		*output = "flame.svg"
	}
	if fs.NArg() == 1 {
		return drawFolded(fs.Arg(0), *output, *folded, std)
	}
	key := "comm, ustack, kstack"
	switch {
	case *user && !*kernel:
		key = "comm, ustack"
	case *kernel && !*user:
		key = "comm, kstack"
	}
	predicate := ""
	args := []string{"sonde"}
	switch {
	case *command != "":
		args, predicate = append(args, "-c", *command), "/pid == cpid/ "
	case *pid != "":
		args, predicate = append(args, "-p", *pid), "/pid == "+*pid+"/ "
	}
	script := fmt.Sprintf("profile:hz:%d %s{ @[%s] = count(); }", *hz, predicate, key)
	if *seconds == 0 && *command == "" {
		*seconds = 10
	}
	if *seconds > 0 {
		script += fmt.Sprintf(" interval:ms:%d { exit(); }", max(1, int(*seconds*1000)))
	}
	if *folded {
		args = append(args, "--folded")
	} else {
		args = append(args, "-o", *output)
	}
	if *pprof != "" {
		args = append(args, "--pprof", *pprof)
	}
	code := run(ctx, append(args, "-e", script), std)
	if code == exitOK && !*folded {
		fmt.Fprintf(std.err, "Wrote %s\n", *output)
	}
	return code
}

// drawFolded draws folded stacks.
func drawFolded(name, output string, again bool, std stdio) int {
	text, err := readScript(name, std.in)
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: cannot read `%s`: %v\n", name, err)
		return exitUser
	}
	stacks, err := flame.ParseFolded(strings.NewReader(text))
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: %s: %v\nHINT: give lines such as main;work;leaf 42\n", displayName(name), err)
		return exitUser
	}
	if again {
		err = flame.WriteFolded(std.out, stacks)
	} else {
		var f *os.File
		if f, err = os.Create(output); err == nil {
			err = errors.Join(flame.WriteSVG(f, stacks, flame.Options{}), f.Close())
		}
	}
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: cannot write `%s`: %v\n", output, err)
		return exitUser
	}
	if !again {
		fmt.Fprintf(std.err, "Wrote %s\n", output)
	}
	return exitOK
}
