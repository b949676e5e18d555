package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
)

// stages runs the Go benchmarks of the compiler's stages.
func (b *bench) stages(ctx context.Context) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		b.table.note("stages: not measured, the go command is not installed")
		return nil
	}
	benchtime := "0.3s"
	if b.quick {
		benchtime = "1x"
	}
	cmd := exec.CommandContext(ctx, goTool, "test", "-run", "^$", "-bench", "^BenchmarkStage", "-benchmem", "-benchtime", benchtime, "./cmd/sonde")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	g := b.table.group("Stages of the compiler", "`go test -bench Stage ./cmd/sonde`: one script through one stage, everything warm.")
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		name, values, ok := benchLine(sc.Text())
		if !ok {
			continue
		}
		for _, u := range []struct {
			key, unit string
			div       float64
		}{{"ns/op", "us", 1000}, {"allocs/op", "allocations", 1}} {
			if v, ok := values[u.key]; ok {
				g.add(row{name: name, unit: u.unit, ours: v / u.div, theirs: math.NaN()})
			}
		}
	}
	if len(g.rows) == 0 {
		return fmt.Errorf("no benchmark ran:\n%s", out)
	}
	return nil
}

// benchLine reads a result line of go test -bench.
func benchLine(line string) (name string, values map[string]float64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || !strings.HasPrefix(f[0], "BenchmarkStage") {
		return "", nil, false
	}
	name = strings.TrimPrefix(strings.TrimPrefix(f[0], "BenchmarkStage"), "/")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		name = name[:i]
	}
	values = map[string]float64{}
	for i := 2; i+1 < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return "", nil, false
		}
		values[f[i+1]] = v
	}
	return strings.ReplaceAll(name, "_", " "), values, true
}
