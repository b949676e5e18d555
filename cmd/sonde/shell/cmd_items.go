package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
)

func itemCommands() []command {
	return []command{
		{name: "list", aliases: []string{"l", "ls"}, group: groupItems, summary: "items of the session with hits, average cost and share of a CPU", run: (*Shell).cmdList},
		{name: "detach", args: "#N... | all", group: groupItems, takes: "item", summary: "detach items; their maps stay", run: (*Shell).cmdDetach},
		{name: "attach", args: "#N...", group: groupItems, takes: "item", summary: "attach items again", run: (*Shell).cmdAttach},
		{name: "remove", aliases: []string{"rm"}, args: "#N... | all", group: groupItems, takes: "item", summary: "detach items and forget them; `all` means those that are detached or have ended", run: (*Shell).cmdRemove},
		{name: "edit", aliases: []string{"e"}, args: "[#N]", group: groupItems, takes: "item", summary: "edit an item in $EDITOR and attach the result in its place", run: (*Shell).cmdEdit},
		{name: "mute", args: "#N...", group: groupItems, takes: "item", summary: "do not show what items print", run: func(sh *Shell, _ context.Context, args string) error { return sh.mute(args, true) }},
		{name: "unmute", args: "#N...", group: groupItems, takes: "item", summary: "show it again", run: func(sh *Shell, _ context.Context, args string) error { return sh.mute(args, false) }},
		{name: "stats", args: "[#N]", group: groupItems, takes: "item", summary: "hits and cost of every probe, and what was lost or missed", run: (*Shell).cmdStats},
	}
}

// liveStats reads what an item cost so far.
func (it *item) liveStats() []runtime.Stat {
	if it.session != nil {
		if st, err := it.session.Stats(); err == nil {
			return st
		}
	}
	return it.stats
}

func (it *item) state() string {
	switch {
	case it.session == nil:
		return it.ended
	case it.muted:
		return "muted"
	}
	return "attached"
}

// oneLine is a script on one line, shortened.
func oneLine(text string, width int) string {
	s := strings.Join(strings.Fields(text), " ")
	if r := []rune(s); len(r) > width && width > 3 {
		return string(r[:width-3]) + "..."
	}
	return s
}

// brief is a script on one line of a width. Comments before it are left out, and what its first attach point begins with where that makes
// room: the names of many begin with the same words.
func brief(text string, width int) string {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "//") {
		_, rest, _ := strings.Cut(text, "\n")
		text = strings.TrimSpace(rest)
	}
	for strings.HasPrefix(text, "/*") {
		_, rest, _ := strings.Cut(text, "*/")
		text = strings.TrimSpace(rest)
	}
	if s := oneLine(text, width); !strings.HasSuffix(s, "...") {
		return s
	}
	end := strings.IndexAny(text, " \t\n,{")
	if end < 0 {
		end = len(text)
	}
	if i := strings.LastIndexByte(text[:end], ':'); i > 0 && strings.Contains(text[:i], ":") && strings.Trim(text[i+1:end], "0123456789") != "" {
		text = text[i+1:]
	}
	return oneLine(text, width)
}

func (sh *Shell) cmdList(context.Context, string) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.items) == 0 {
		sh.say("no items yet; type a probe, such as: tracepoint:raw_syscalls:sys_enter { @[comm] = count() }")
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s %-9s %6s %10s %8s %7s  %s\n", "ITEM", "STATE", "PROBES", "HITS", "NS/HIT", "CPU %", "SCRIPT")
	for _, it := range sh.items {
		var hits uint64
		var spent time.Duration
		cpu := 0.0
		for _, st := range it.liveStats() {
			hits += st.Runs
			spent += st.Time
			cpu += st.CPU
		}
		per := "-"
		if hits > 0 {
			per = fmt.Sprintf("%.0f", float64(spent.Nanoseconds())/float64(hits))
		}
		fmt.Fprintf(&b, "%-4s %-9s %6d %10s %8s %7.3f  %s\n", fmt.Sprintf("#%d", it.id), it.state(), it.probes, group(int(hits)), per, 100*cpu, brief(it.text, sh.width()-52))
	}
	sh.write(b.String())
	return nil
}

// picked gives the items that arguments name.
func (sh *Shell) picked(args string) ([]*item, error) {
	if strings.TrimSpace(args) == "all" || strings.TrimSpace(args) == "*" {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		return slices.Clone(sh.items), nil
	}
	names := strings.FieldsFunc(args, func(r rune) bool { return r == ' ' || r == ',' })
	if len(names) == 0 {
		return nil, hintf("name items, such as `#1`, or say `all`", "which item?")
	}
	var out []*item
	for _, n := range names {
		it, err := sh.find(n)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

func (sh *Shell) cmdDetach(_ context.Context, args string) error {
	list, err := sh.picked(args)
	if err != nil {
		return err
	}
	took := make([]time.Duration, len(list))
	var wg sync.WaitGroup
	for i, it := range list {
		sh.mu.Lock()
		running := it.session != nil
		sh.mu.Unlock()
		if !running {
			took[i] = -1
			continue
		}
		wg.Go(func() { // the kernel's waits overlap
			start := time.Now()
			sh.stop(it)
			took[i] = time.Since(start)
		})
	}
	wg.Wait()
	for i, it := range list {
		switch {
		case took[i] >= 0:
			sh.say("#%d detached in %s", it.id, shortDuration(took[i]))
		case strings.TrimSpace(args) != "all":
			sh.say("#%d is not attached", it.id)
		}
	}
	return nil
}

func (sh *Shell) cmdAttach(ctx context.Context, args string) error {
	list, err := sh.picked(args)
	if err != nil {
		return err
	}
	for _, it := range list {
		sh.mu.Lock()
		running := it.session != nil
		sh.mu.Unlock()
		if running {
			sh.say("#%d is attached already", it.id)
			continue
		}
		if err := sh.reattach(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// cmdRemove takes items off the list.
func (sh *Shell) cmdRemove(_ context.Context, args string) error {
	list, err := sh.picked(args)
	if err != nil {
		return err
	}
	all := false
	if a := strings.TrimSpace(args); a == "all" || a == "*" {
		all = true
		sh.mu.Lock()
		list = slices.DeleteFunc(list, func(it *item) bool { return it.session != nil })
		sh.mu.Unlock()
	}
	for _, it := range list {
		sh.stop(it)
	}
	sh.mu.Lock()
	sh.items = slices.DeleteFunc(sh.items, func(it *item) bool { return slices.Contains(list, it) })
	left := len(sh.items)
	sh.mu.Unlock()
	if all && len(list) == 0 && left > 0 {
		return hintf("`\\detach all` comes first", "nothing to remove: all items are attached")
	}
	sh.say("removed %d item%s, %d left; maps stay until `\\drop`", len(list), plural(len(list)), left)
	return nil
}

// reattach compiles an item again, because the session's maps may have changed meanwhile, and attaches it.
func (sh *Shell) reattach(ctx context.Context, it *item) error {
	start := time.Now()
	u, err := sh.compileText(it.text, it.filter)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	it.unit = u
	sh.mu.Unlock()
	return sh.attach(ctx, it, start)
}

// compileText takes a script to an object for this session; diagnostics are printed.
func (sh *Shell) compileText(text string, filter *Filter) (*unit, error) {
	u := newUnit("prompt", text)
	u.filter = filter
	u.script = syntax.Parse(u.set, u.file, u.diags)
	if u.diags.HasErrors() || !sh.check(u) {
		return nil, sh.report(u.set, u.diags)
	}
	if err := sh.compile(u); err != nil {
		return nil, err
	}
	return u, nil
}

func (sh *Shell) mute(args string, on bool) error {
	list, err := sh.picked(args)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	state := "shown"
	if on {
		state = "muted"
	}
	for _, it := range list {
		it.muted = on
		sh.say("#%d %s", it.id, state)
	}
	return nil
}

func (sh *Shell) cmdStats(_ context.Context, args string) error {
	list := slices.Clone(sh.items)
	if args != "" {
		var err error
		if list, err = sh.picked(args); err != nil {
			return err
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var b strings.Builder
	names := max(20, min(48, sh.width()-34))
	fmt.Fprintf(&b, "%-4s %-*s %10s %8s %7s\n", "ITEM", names, "PROBE", "HITS", "NS/HIT", "CPU %")
	for _, it := range list {
		for _, st := range it.liveStats() {
			per := "-"
			if st.Runs > 0 {
				per = fmt.Sprintf("%.0f", float64(st.Time.Nanoseconds())/float64(st.Runs))
			}
			fmt.Fprintf(&b, "%-4s %-*s %10s %8s %7.3f\n", fmt.Sprintf("#%d", it.id), names, brief(st.Probe, names), group(int(st.Runs)), per, 100*st.CPU)
		}
	}
	lost := 0
	for _, it := range list {
		if it.session == nil {
			continue
		}
		lines, err := it.session.QualityReport()
		if err != nil {
			return err
		}
		for _, l := range lines {
			lost++
			fmt.Fprintf(&b, "WARNING: #%d %s\n", it.id, l)
		}
	}
	if lost == 0 {
		b.WriteString("nothing lost, refused or missed by what is attached\n")
	}
	if n := sh.out.total; n > 0 {
		fmt.Fprintf(&b, "%s lines of events were not shown on the screen\n", group(n))
	}
	sh.write(b.String())
	return nil
}

// cmdEdit lets the user change an item in an editor. What comes back takes the item's place when it compiles.
func (sh *Shell) cmdEdit(ctx context.Context, args string) error {
	text, it := "", (*item)(nil)
	if args != "" || len(sh.items) > 0 {
		var err error
		if it, err = sh.find(args); err != nil {
			return err
		}
		text = it.text
	}
	name := os.Getenv("VISUAL")
	if name == "" {
		name = os.Getenv("EDITOR")
	}
	if name == "" {
		name = "vi"
	}
	f, err := os.CreateTemp("", "sonde-*.bt")
	if err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(strings.TrimSpace(text) + "\n"); err != nil {
		return errors.Join(fmt.Errorf("edit: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	c := exec.CommandContext(ctx, "/bin/sh", "-c", name+` "$1"`, "sh", f.Name())
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	done := sh.handOver()
	err = c.Run()
	done()
	if err != nil {
		return hintf("set $EDITOR to an editor that is installed", "edit: `%s` failed: %v", name, err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	edited := strings.TrimSpace(string(b))
	if edited == "" || edited == strings.TrimSpace(text) {
		sh.say("nothing changed")
		return nil
	}
	sh.remember(edited)
	if it == nil {
		return sh.code(ctx, edited)
	}
	if _, err := sh.compileText(edited, it.filter); err != nil { // the old one runs on
		return err
	}
	sh.stop(it)
	sh.mu.Lock()
	it.text = edited
	sh.mu.Unlock()
	return sh.reattach(ctx, it)
}
