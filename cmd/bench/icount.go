package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// counted is what the guest reports about one program of one tracer, in instructions.
type counted struct {
	Tracer, Program string
	Added           float64
	Slots           int
}

// emulated boots a kernel whose clock counts instructions and measures there.
func (b *bench) emulated(ctx context.Context) error {
	if err := lab.Available(lab.HostArch()); err != nil {
		return err
	}
	c := lab.NewCatalogue()
	c.Log = func(s string) { b.progress("%s", s) }
	k, err := c.Fetch(ctx, b.kernel, lab.HostArch())
	if err != nil {
		return err
	}
	args := []string{"/init", "-guest", "-sonde", "/bin/sonde", "-bpftrace", "none"}
	cfg := lab.Config{Kernel: k, ICount: true, MemoryMiB: 1024, BootTimeout: 5 * time.Minute, Files: []lab.File{
		{Path: "/bin/sonde", Host: b.ours.files[0]},
		// A file where missingFile has a folder: that the walk ends there costs the same each time, while a name that is not in the guest's file
		// system makes the kernel allocate and free memory, now or later.
		{Path: "/usr/share/sonde", Data: []byte("\n")},
	}}
	peer := len(args) - 1
	if b.match != nil {
		args = append(args, "-match", b.match.String())
	}
	if b.theirs != nil {
		// Where the libraries are found is part of the programs: everything keeps its path.
		for i, f := range b.theirs.files {
			real, err := filepath.EvalSymlinks(f)
			if err != nil {
				return err
			}
			cfg.Files = append(cfg.Files, lab.File{Path: f, Host: real, Mode: 0o755})
			if i == 0 {
				args[peer] = f
			}
		}
		if len(b.theirs.command) > 1 {
			args = append(args, "-bpftrace-root", b.peerRoot)
		}
		cfg.MemoryMiB = 3072
	}
	cfg.Jobs = []lab.Job{{Args: args, Timeout: 30 * time.Minute}}
	cfg.Timeout = time.Hour
	cfg.Output = func(_ int, stderr bool, p []byte) {
		if stderr {
			_, _ = b.log.Write(p)
		}
	}
	b.progress("booting %s", k)
	res, err := lab.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := res.Err(); err != nil {
		return fmt.Errorf("%w\n%s", err, res.Jobs[0].Stderr)
	}
	body, err := b.countedTable(res.Release, res.Jobs[0].Stdout)
	if err != nil || b.limits == "" {
		return err
	}
	if b.write {
		return writeLimits(b.limits, res.Release, body)
	}
	return checkLimits(b.limits, res.Release, body)
}

// countedTable makes the table of what the guest reported.
func (b *bench) countedTable(release string, out []byte) (body *group, err error) {
	found := map[string]counted{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var c counted
		err := dec.Decode(&c)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the guest's report: %w", err)
		}
		found[c.Tracer+" "+c.Program] = c
	}
	get := func(t *tracer, name string) (c counted, ok bool) {
		if t == nil {
			return counted{Added: math.NaN()}, false
		}
		c, ok = found[t.name+" "+name]
		if !ok {
			c.Added = math.NaN()
		}
		return c, ok
	}
	where := "Counted by QEMU (`-icount`) in the kernel " + release + ", on one CPU."
	body = b.table.group("Instructions executed by the programs, helpers included", where+" Per event, less the empty program's of the same tracer.")
	call := b.table.group("Instructions that the traced call takes longer", where+" The attach mechanism included.")
	for _, p := range b.guestPrograms() {
		ours, ok := get(b.ours, p.name)
		if !ok {
			return nil, fmt.Errorf("the guest did not report %s", p.name)
		}
		theirs, _ := get(b.theirs, p.name)
		call.add(row{name: p.name, unit: "insns", ours: ours.Added, theirs: theirs.Added, limit: 1})
		if strings.HasPrefix(p.name, "empty") {
			continue
		}
		empty := "empty"
		switch {
		case p.call == "openat":
			empty = "empty openat"
		case strings.Contains(p.script, "sys_exit"):
			empty = "empty pair"
		}
		e, _ := get(b.ours, empty)
		te, _ := get(b.theirs, empty)
		body.add(row{name: p.name, unit: "insns", ours: ours.Added - e.Added, theirs: theirs.Added - te.Added, limit: p.insnLimit()})
	}
	b.byHandTable(where, found)
	return body, nil
}

func (o *options) guestPrograms() []program {
	openat := emptyProgram("openat")
	openat.name = "empty openat"
	pair := program{name: "empty pair", call: "getpgid", script: onEntry("{ } tracepoint:syscalls:sys_exit_getpgid { }")}
	return slices.Concat([]program{emptyProgram("getpgid"), openat, pair}, o.programs())
}

// inGuest measures by the clock and reports in JSON lines.
func (b *bench) inGuest(ctx context.Context, out io.Writer) error {
	l, err := startLoad(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	enc := json.NewEncoder(out)
	for _, p := range b.guestPrograms() {
		for _, t := range b.tracers() {
			s, err := b.measure(ctx, t, p, l, 30)
			if err != nil {
				return err
			}
			if err := enc.Encode(counted{t.name, p.name, s.added, s.static.slots}); err != nil {
				return err
			}
		}
	}
	for _, h := range handPrograms() {
		if h.program != "empty" && !b.wanted(h.program) {
			continue
		}
		added, err := b.measureByHand(h, l, 30)
		if err != nil {
			return err
		}
		if err := enc.Encode(counted{byHand, h.program, added, 0}); err != nil {
			return err
		}
	}
	return nil
}
