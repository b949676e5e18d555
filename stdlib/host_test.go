package stdlib

import (
	"os"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// TestListHost prints what a pattern lists on this machine: go test -run ListHost -v with SONDE_LIST set.
func TestListHost(t *testing.T) {
	pattern, ok := os.LookupEnv("SONDE_LIST")
	if !ok {
		t.Skip("needs SONDE_LIST, a pattern")
	}
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(k)
	start := time.Now()
	var out []byte
	n := 0
	err = List(m, ProbeKinds(m), pattern, ListOptions{Verbose: os.Getenv("SONDE_V") != ""}, func(l Listed) bool {
		out = l.Write(out)
		n++
		return true
	})
	took := time.Since(start)
	if len(out) > 3000 {
		out = out[:3000]
	}
	t.Logf("%d in %v, error %v\n%s", n, took, err, out)
}
