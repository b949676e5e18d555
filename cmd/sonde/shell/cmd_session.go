package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/lang/diag"
)

func sessionCommands() []command {
	return []command{
		{name: "pause", group: groupScreen, summary: "hold back what items print; the maps go on", run: func(sh *Shell, _ context.Context, _ string) error {
			sh.out.pause()
			sh.say("paused; `\\resume` goes on")
			return nil
		}},
		{name: "resume", group: groupScreen, summary: "show what items print again", run: func(sh *Shell, _ context.Context, _ string) error { sh.out.resume(); return nil }},
		{name: "save", args: "FILE", group: groupScreen, takes: "path", summary: "write the session as a script that runs by itself", run: (*Shell).cmdSave},
		{name: "load", aliases: []string{"i"}, args: "FILE", group: groupScreen, takes: "path", summary: "run the lines of a file, or a script", run: (*Shell).cmdLoad},
		{name: "record", args: "[FILE | off]", group: groupScreen, takes: "path", summary: "keep a transcript of everything typed and shown", run: (*Shell).cmdRecord},
		{name: "time", aliases: []string{"timing"}, args: "[on | off]", group: groupScreen, summary: "show how long each line takes", run: (*Shell).cmdTime},
		{name: "set", args: "[KEY = VALUE]", group: groupScreen, takes: "set", summary: "config keys for the items that follow, and choices of the prompt", run: (*Shell).cmdSet},
		{
			name: "filter", args: "[comm NAME | cgroup PATH | container ID | pod UID | pid N | children | off]", group: groupScreen,
			summary: "which processes the items that follow see, as --comm, --cgroup, -p do", run: (*Shell).cmdFilter,
		},
		{name: "sleep", args: "SECONDS", group: groupScreen, summary: "wait; for sessions in files", run: (*Shell).cmdSleep},
		{name: "quit", aliases: []string{"q", "exit"}, group: groupScreen, summary: "detach everything and leave (also Ctrl-D)", run: func(sh *Shell, _ context.Context, _ string) error { sh.quit = true; return nil }},
	}
}

// settings are what \set changes.
type settings struct {
	config   map[string]string // config keys of the language
	stats    bool
	warnings bool
	vi       bool
}

func defaultSettings() settings {
	return settings{config: map[string]string{}, stats: true, warnings: true}
}

// environ gives the config keys that were set as the variables that the checker reads.
func (s *settings) environ(list []string) map[string]string {
	out := map[string]string{}
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && (strings.HasPrefix(k, "BPFTRACE_") || strings.HasPrefix(k, "SONDE_")) {
			out[k] = v
		}
	}
	for k, v := range s.config {
		out["BPFTRACE_"+strings.ToUpper(k)] = v
	}
	return out
}

// choices are the settings of the prompt itself.
func (sh *Shell) choices() map[string]*bool {
	return map[string]*bool{"stats": &sh.set.stats, "warnings": &sh.set.warnings, "vi": &sh.set.vi, "unsafe": &sh.cfg.Unsafe, "timing": &sh.timing}
}

func (sh *Shell) cmdSet(_ context.Context, args string) error {
	choices := sh.choices()
	if args == "" {
		var b strings.Builder
		var names []string
		for k := range choices {
			names = append(names, k)
		}
		slices.Sort(names)
		for _, k := range names {
			fmt.Fprintf(&b, "%-24s %s\n", k, onOff(*choices[k]))
		}
		for _, e := range sh.reg.Config() {
			v := sh.set.config[e.Key.Name]
			if v == "" {
				v = e.Default
			}
			b.WriteString(cut(fmt.Sprintf("%-24s %-12s %s", e.Key.Name, v, e.Doc.Summary), sh.width()) + "\n")
		}
		sh.write(b.String())
		return nil
	}
	key, val, _ := strings.Cut(strings.Replace(args, "=", " ", 1), " ")
	key, val = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(val), `"`)
	if p := choices[key]; p != nil {
		on, err := parseSwitch(val, !*p)
		if err != nil {
			return err
		}
		*p = on
		if key == "vi" && sh.editor != nil {
			sh.editor.rl.SetVimMode(on)
		}
		if key == "stats" && !on && sh.stats != nil {
			err := sh.stats.Close()
			sh.stats = nil
			return err
		}
		return nil
	}
	entry := sh.reg.ConfigKey(strings.ToLower(key))
	if entry == nil {
		names := sh.reg.Names("config")
		for k := range choices {
			names = append(names, k)
		}
		hint := "`\\set` lists all keys"
		if n := diag.Nearest(key, names); n != "" {
			hint = fmt.Sprintf("did you mean `%s`?", n)
		}
		return hintf(hint, "there is no setting `%s`", key)
	}
	if val == "" {
		delete(sh.set.config, entry.Name)
		return nil
	}
	old, had := sh.set.config[entry.Name]
	sh.set.config[entry.Name] = val
	// An empty script tells whether the value is good.
	u := newUnit("prompt", "begin {}")
	u.parse()
	if !sh.check(u) {
		if delete(sh.set.config, entry.Name); had {
			sh.set.config[entry.Name] = old
		}
		for _, d := range u.diags.All() {
			return errors.New(d.Message)
		}
	}
	return nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func parseSwitch(val string, toggled bool) (bool, error) {
	switch val {
	case "":
		return toggled, nil
	case "on", "1", "true", "yes":
		return true, nil
	case "off", "0", "false", "no":
		return false, nil
	}
	return false, hintf("write on or off", "`%s` is neither on nor off", val)
}

func (sh *Shell) cmdTime(_ context.Context, args string) error {
	on, err := parseSwitch(args, !sh.timing)
	if err != nil {
		return err
	}
	sh.timing = on
	sh.say("timing is %s", onOff(on))
	return nil
}

func (sh *Shell) cmdSleep(ctx context.Context, args string) error {
	d, err := time.ParseDuration(args)
	if err != nil {
		if d, err = time.ParseDuration(args + "s"); err != nil || d < 0 {
			return hintf("write `\\sleep 2` or `\\sleep 500ms`", "`%s` is not a time", args)
		}
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (sh *Shell) cmdLoad(ctx context.Context, args string) error {
	if args == "" {
		return hintf("write `\\load FILE`", "load what?")
	}
	if sh.depth > 16 {
		return hintf("a file must not load itself", "files that load files are nested too deeply")
	}
	b, err := os.ReadFile(homePath(args))
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return hintf("give the path of a script or of a file with lines of a session", "cannot read `%s`: %v", args, err)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return hintf("give the path of a script or of a file with lines of a session", "`%s` is no text", args)
	}
	sh.depth++
	defer func() { sh.depth-- }()
	if bytes.HasPrefix(b, []byte("#!")) || strings.HasSuffix(args, ".bt") {
		u := newUnit(args, string(b))
		u.filter = sh.filter
		u.parse()
		if u.diags.HasErrors() {
			return sh.report(u.set, u.diags)
		}
		text := string(b)
		if bytes.HasPrefix(b, []byte("#!")) {
			_, text, _ = strings.Cut(text, "\n")
		}
		return sh.addItem(ctx, u, text)
	}
	_, err = sh.ReadAll(ctx, bytes.NewReader(b))
	return err
}

func (sh *Shell) cmdRecord(_ context.Context, args string) error {
	if args == "off" || args == "" {
		if sh.record == nil {
			return hintf("write `\\record FILE`", "nothing is recorded")
		}
		name := sh.record.Name()
		sh.out.setCopy(nil)
		err := sh.record.Close()
		sh.record = nil
		sh.say("transcript is in %s", name)
		return err
	}
	f, err := os.OpenFile(homePath(args), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return hintf("choose a place that can be written", "cannot write `%s`: %v", args, errors.Unwrap(err))
	}
	if sh.record != nil {
		_ = sh.record.Close()
	}
	sh.record = f
	fmt.Fprintf(f, "# sonde session, %s\n", time.Now().Format(time.RFC3339))
	sh.out.setCopy(f)
	return nil
}

// transcript notes a line that was typed.
func (sh *Shell) transcript(text string) {
	if sh.record != nil {
		_, _ = io.WriteString(sh.record, prompt+strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+morePrompt)+"\n")
	}
}
