package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

func main() {
	lab.Init() // this program is also the init of the lab's guests
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "launch":
			os.Exit(runLaunch(os.Args[2:]))
		case "load":
			os.Exit(runLoad(os.Stdin, os.Stdout))
		case "mounted":
			mountTracing()
			os.Exit(run(ctx, os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	if lacksTracing() {
		os.Exit(runMounted(ctx, os.Args[1:]))
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	sonde, peer, peerRoot string
	quick, icount, write  bool
	guest                 bool
	kernel                string
	limits                string
	match                 *regexp.Regexp // nil: all programs
	rounds                int
	only                  []string
	doc                   string
}

// bench is one run.
type bench struct {
	options
	ours   *tracer
	theirs *tracer // nil when there is no peer
	table  table
	log    io.Writer
}

// section is one part of the measurements.
type section struct {
	name string
	root bool // needs the right to load programs
	run  func(*bench, context.Context) error
}

func sections() []section {
	return []section{
		{"start", true, (*bench).start},
		{"size", false, (*bench).size},
		{"code", true, (*bench).code},
		{"choice", true, (*bench).choice},
		{"flood", true, (*bench).flood},
		{"keys", true, (*bench).keys},
		{"stages", false, (*bench).stages},
		{"icount", false, (*bench).emulated},
	}
}

// chosen gives the sections to run.
func (o *options) chosen() ([]section, error) {
	all := sections()
	if o.icount {
		o.only = []string{"icount"}
	}
	var out []section
	for _, s := range all {
		all := len(o.only) == 0 && (s.name != "icount" || !o.quick)
		if all || slices.Contains(o.only, s.name) {
			out = append(out, s)
		}
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(all, func(s section) bool { return s.name == name }) {
			return nil, fmt.Errorf("no section %q", name)
		}
	}
	return out, nil
}

func parse(argv []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.sonde, "sonde", "bin/sonde", "`path` of sonde")
	fs.StringVar(&o.peer, "bpftrace", "", "`path` of bpftrace instead of the installed one; none: do not compare")
	fs.StringVar(&o.peerRoot, "bpftrace-root", "", "`folder` of an unpacked system with the libraries of -bpftrace, and its loader")
	fs.BoolVar(&o.quick, "quick", false, "few repetitions, nothing emulated: a few minutes, numbers are rough")
	fs.BoolVar(&o.icount, "icount", false, "count instructions of the generated code in an emulated kernel, nothing else")
	fs.StringVar(&o.kernel, "kernel", "6.12", "kernel of the lab in which instructions are counted")
	fs.StringVar(&o.limits, "limits", "", "`file` of the instructions that programs execute: more is an error, -write writes it")
	fs.BoolVar(&o.write, "write", false, "write the table to the page given with -doc, or the counts to that of -limits")
	fs.StringVar(&o.doc, "doc", "docs/performance.md", "`page` for -write")
	fs.IntVar(&o.rounds, "rounds", 0, "number of rounds; 0 chooses")
	fs.BoolVar(&o.guest, "guest", false, "this is the emulated kernel: measure by the clock, which counts instructions")
	match := fs.String("match", "", "`expression` that the names of the programs match, in the sections that have several")
	only := fs.String("only", "", "`sections` to run, comma-separated: start, size, code, choice, flood, keys, stages, icount")
	if err := fs.Parse(argv); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	if *match != "" {
		re, err := regexp.Compile(*match)
		if err != nil {
			return nil, fmt.Errorf("-match: %w", err)
		}
		o.match = re
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.rounds == 0 {
		if o.rounds = 7; o.quick {
			o.rounds = 1
		}
	}
	return o, nil
}

func run(ctx context.Context, argv []string, stdout, stderr io.Writer) int {
	o, err := parse(argv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	b := &bench{options: *o, log: stderr}
	if err := b.main(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func (b *bench) main(ctx context.Context, stdout io.Writer) error {
	var err error
	if b.ours, err = newTracer("sonde", b.sonde, ""); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	if b.theirs, err = findPeer(b.peer, b.peerRoot); err != nil {
		return err
	}
	if b.guest {
		return b.inGuest(ctx, stdout)
	}
	b.table.head(b)
	began := time.Now()
	failed := b.all(ctx)
	if ctx.Err() != nil {
		b.table.note("interrupted: what was measured until then")
	}
	b.table.facts = append(b.table.facts, fmt.Sprintf("measured in %.0f minutes", math.Ceil(time.Since(began).Minutes())))
	if _, err := io.WriteString(stdout, b.table.text()); err != nil {
		return errors.Join(failed, err)
	}
	if b.write && b.limits == "" && ctx.Err() == nil {
		return errors.Join(failed, b.table.writePage(b.doc))
	}
	return failed
}

// all runs the sections. One that fails is noted in the table, and the others run.
func (b *bench) all(ctx context.Context) error {
	list, err := b.chosen()
	if err != nil {
		return err
	}
	mayTrace := os.Geteuid() == 0
	var failed error
	for _, s := range list {
		if s.root && !mayTrace {
			b.table.note("%s: not measured, needs root", s.name)
			continue
		}
		b.progress("%s", s.name)
		began := time.Now()
		err := s.run(b, ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.progress("%s: %.1f minutes", s.name, time.Since(began).Minutes())
		var missing *lab.MissingError
		switch {
		case errors.As(err, &missing) && !b.icount:
			b.table.note("%s: not measured: %v", s.name, err)
		case err != nil:
			b.table.note("%s: not complete: %v", s.name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return failed
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.log, "bench: "+format+"\n", args...)
}

// tracers are those to measure, ours first.
func (b *bench) tracers() []*tracer {
	if b.theirs == nil {
		return []*tracer{b.ours}
	}
	return []*tracer{b.ours, b.theirs}
}
