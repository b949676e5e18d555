package seccomp

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

func TestMain(m *testing.M) {
	if IsLaunch(os.Args) {
		LaunchChild()
	}
	os.Exit(m.Run())
}

func testKernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// startRecording skips where recording is not possible, for the reason that the recorder itself gives.
func startRecording(t testing.TB, o Options) *Recorder {
	t.Helper()
	o.Kernel, o.Tool = testKernel(t), "sonde test"
	r, err := Start(o)
	var rights *RightsError
	if errors.As(err, &rights) || errors.Is(err, ErrNeedsBTF) {
		t.Skipf("needs rights and BTF: %v", err)
	}
	if err != nil {
		t.Fatalf("start: %+v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// record records a command to its end.
func record(t testing.TB, o Options, command ...string) *Profile {
	t.Helper()
	o.Command = command
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	r := startRecording(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("wait: %v", err)
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatalf("stop: %v", err)
	}
	return p
}
