// Guest stands in for sonde in a guest: what it does is the name of the script that it is asked to verify.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

func main() {
	lab.Init()
	switch name := filepath.Base(os.Args[len(os.Args)-1]); name {
	case "good.bt", "after.bt":
		fmt.Printf(`{"host": "amd64", "kernels": [{"kernel": "running", "arch": "amd64", "rows": [{"path": "x", "state": "ok", "probes": 1}]}]}`)
	case "hang.bt":
		time.Sleep(time.Hour)
	case "flood.bt":
		line := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
		for {
			check(os.Stdout.Write(line))
		}
	case "eat.bt":
		var kept [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "broken.bt":
		fmt.Fprintln(os.Stderr, "goroutine 1 [running]")
		os.Exit(2)
	case "panic.bt":
		check(0, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
		time.Sleep(time.Hour)
	default:
		fmt.Fprintln(os.Stderr, "unknown script", name)
		os.Exit(2)
	}
}

func check(_ int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
