package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A file of limits says what programs executed when it was written: a line `kernel RELEASE`, then lines `INSTRUCTIONS NAME`.

const (
	// tolerance is what a count may be above its limit. The few instructions of slack are those of timer interrupts.
	tolerance, slack = 0.03, 3
	// Another build of the kernel has other helpers.
	otherTolerance = 0.10
)

func writeLimits(path, release string, g *group) error {
	var sb strings.Builder
	fmt.Fprintf(&sb, "# Written by: go run ./cmd/bench -icount -bpftrace none -limits %s -write\nkernel %s\n", path, release)
	for _, r := range g.rows {
		fmt.Fprintf(&sb, "%.0f %s\n", r.ours, r.name)
	}
	return os.WriteFile(path, []byte(sb.String()), 0o644)
}

// checkLimits compares what was counted with the file.
func checkLimits(path, release string, g *group) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	limits := map[string]float64{}
	allowed := otherTolerance
	for sc := bufio.NewScanner(f); sc.Scan(); {
		first, rest, _ := strings.Cut(sc.Text(), " ")
		switch first {
		case "#", "":
			continue
		case "kernel":
			if rest == release {
				allowed = tolerance
			}
			continue
		}
		n, err := strconv.ParseFloat(first, 64)
		if err != nil {
			return fmt.Errorf("%s: %q: %w", path, sc.Text(), err)
		}
		limits[rest] = n
	}
	var failed error
	for _, r := range g.rows {
		n, ok := limits[r.name]
		switch {
		case !ok:
			failed = errors.Join(failed, fmt.Errorf("%s: no limit for %q", path, r.name))
		case r.ours > n*(1+allowed)+slack:
			failed = errors.Join(failed, fmt.Errorf("%s: %.1f instructions executed, %s says %.0f and %.0f %% more are allowed", r.name, r.ours, path, n, 100*allowed))
		}
	}
	return failed
}
