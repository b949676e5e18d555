package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"

	"github.com/sonde-sh/sonde/runtime/seccomp"
	"github.com/sonde-sh/sonde/runtime/seccomp/scan"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// scan reads machine code for a second opinion beside a recording.
func (c *seccompCommand) scan(context.Context) (int, error) {
	with := c.fs.String("with", "", "")
	format := c.fs.StringP("format", "f", "text", "")
	files, _, err := c.parse()
	if err != nil {
		return 0, err
	}
	if *format != "text" && *format != "json" {
		return 0, badUse("unknown format `%s`; known are text, json", *format)
	}
	var p *seccomp.Profile
	if *with != "" {
		if p, err = seccomp.ReadFile(*with); err != nil {
			return 0, err
		}
		if len(files) == 0 {
			files = recordedPrograms(p)
		}
	}
	if len(files) == 0 {
		return 0, badUse("nothing to scan: name programs or libraries, or a recording with --with")
	}
	for i, name := range files {
		if files[i], err = symbol.FindBinary(name); err == nil {
			continue
		}
		if _, here := os.Stat(name); here != nil {
			return 0, err
		}
		files[i] = name
	}
	r, err := scan.Run(files)
	if err != nil {
		return 0, err
	}
	if p != nil {
		if err := r.Join(p, files); err != nil {
			return 0, err
		}
	}
	if *format == "json" {
		enc := json.NewEncoder(c.std.out)
		enc.SetIndent("", " ")
		enc.SetEscapeHTML(false)
		return exitOK, enc.Encode(r)
	}
	return exitOK, r.Show(c.std.out, p != nil)
}

// recordedPrograms are the programs of a recording that are still there.
func recordedPrograms(p *seccomp.Profile) []string {
	var out []string
	for _, run := range p.Runs {
		for _, q := range run.Programs {
			if _, err := os.Stat(q.Path); err == nil && !slices.Contains(out, q.Path) {
				out = append(out, q.Path)
			}
		}
	}
	return out
}
