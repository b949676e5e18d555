package lab

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// readFrames returns all frames of a stream, the payloads copied.
func readFrames(t testing.TB, r io.Reader) (all []frame, skipped int64) {
	t.Helper()
	fr := newFrameReader(r)
	for {
		f, err := fr.next()
		if errors.Is(err, io.EOF) {
			return all, fr.skipped
		}
		if err != nil {
			t.Fatal(err)
		}
		f.payload = append([]byte(nil), f.payload...)
		all = append(all, f)
	}
}

func TestFrames(t *testing.T) {
	one := appendFrame(nil, frameStdout, 3, []byte("hello"))
	two := appendFrame(nil, frameExit, 3, []byte(`{"Code":1}`))
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x40
		return b
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tests := []struct {
		name    string
		in      []byte
		want    []frameKind
		skipped int
	}{
		{"two frames", join(one, two), []frameKind{frameStdout, frameExit}, 0},
		{"nothing", nil, nil, 0},
		{"noise before, between and after", join([]byte("[  1.0] boot SLB1\n"), one, []byte("oops"), two, []byte("SLB1")), []frameKind{frameStdout, frameExit}, 26},
		{"a flipped bit in a payload", join(flip(one, 18), two), []frameKind{frameExit}, len(one)},
		{"a flipped bit in a sum", join(flip(one, 13), two), []frameKind{frameExit}, len(one)},
		{"a flipped bit in a job number", join(flip(one, 6), two), []frameKind{frameExit}, len(one)},
		{"a length that reaches behind the end", join(flip(one, 9), two), []frameKind{frameExit}, len(one)},
		{"a length beyond all limits", join(flip(one, 11), two), []frameKind{frameExit}, len(one)},
		{"a lost byte", join(one[:20], two), []frameKind{frameExit}, 20},
		{"the end cut off", join(one, two[:20]), []frameKind{frameStdout}, 20},
		{"an unknown kind", join(appendFrame(nil, frameKindEnd, 0, nil), two), []frameKind{frameExit}, frameHeaderLen},
		{"only noise", bytes.Repeat([]byte("SLB"), 50000), nil, 150000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":        bytes.NewReader(tt.in),
				"byte by byte": iotest.OneByteReader(bytes.NewReader(tt.in)),
			} {
				got, skipped := readFrames(t, r)
				if len(got) != len(tt.want) || skipped != int64(tt.skipped) {
					t.Fatalf("%s: got %d frames, skipped %d; want %d, %d", name, len(got), skipped, len(tt.want), tt.skipped)
				}
				for i := range got {
					if got[i].kind != tt.want[i] || got[i].job != 3 {
						t.Errorf("%s: frame %d is %d of job %d", name, i, got[i].kind, got[i].job)
					}
				}
			}
		})
	}
}

func TestFrameWriterSplitsLongPayloads(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), framePayloadMax/4)
	var out bytes.Buffer
	w := &frameWriter{w: &out}
	if err := w.write(frameStderr, 7, long); err != nil {
		t.Fatal(err)
	}
	got, skipped := readFrames(t, &out)
	var sum []byte
	for _, f := range got {
		if f.kind != frameStderr || f.job != 7 || len(f.payload) > framePayloadMax {
			t.Errorf("frame %d, job %d, %d bytes", f.kind, f.job, len(f.payload))
		}
		sum = append(sum, f.payload...)
	}
	if !bytes.Equal(sum, long) || skipped != 0 {
		t.Errorf("got %d bytes, want %d; skipped %d", len(sum), len(long), skipped)
	}
}

// TestReceiverLimits feeds a guest that never ends and one that lies.
func TestReceiverLimits(t *testing.T) {
	c, err := Config{Kernel: Kernel{Image: "x"}, Init: "x", MaxOutputBytes: 1 << 20, Jobs: []Job{{Args: []string{"x"}}}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a flood of noise", func(t *testing.T) {
		res := Result{Jobs: make([]JobResult, 1)}
		r := &receiver{c: &c, res: &res, hello: make(chan struct{})}
		src := rand.NewChaCha8([32]byte{1})
		r.receive(src)
		if !r.flood || r.done || res.SkippedBytes == 0 {
			t.Errorf("flood %v, done %v, skipped %d", r.flood, r.done, res.SkippedBytes)
		}
	})
	t.Run("frames of a job that does not exist, broken JSON, two greetings", func(t *testing.T) {
		var b []byte
		b = appendFrame(b, frameHello, 0, []byte("{"))
		b = appendFrame(b, frameHello, 0, []byte(`{"Release":"r"}`))
		b = appendFrame(b, frameHello, 0, []byte(`{"Release":"r"}`))
		b = appendFrame(b, frameStdout, 9, []byte("x"))
		b = appendFrame(b, frameStart, 0, nil)
		b = appendFrame(b, frameExit, 0, []byte("nonsense"))
		b = appendFrame(b, frameDone, 0, nil)
		res := Result{Jobs: make([]JobResult, 1)}
		r := &receiver{c: &c, res: &res, hello: make(chan struct{})}
		r.receive(bytes.NewReader(b))
		if !r.done || res.Release != "r" || res.Jobs[0].Ended || res.Jobs[0].Err() == nil {
			t.Errorf("done %v, %+v", r.done, res)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(nil, frameStdout, 1, []byte("hello")), []byte("noise"))
	f.Add([]byte("SLB1"), appendFrame(nil, frameDone, 0, nil))
	f.Fuzz(func(t *testing.T, noise, payload []byte) {
		// Whatever comes before, a whole frame at the end of the stream is found,
		// unless the noise itself announces a longer frame that swallows it.
		want := appendFrame(nil, frameStdout, 1, payload[:min(len(payload), framePayloadMax)])
		got, skipped := readFrames(t, bytes.NewReader(append(bytes.Clone(noise), want...)))
		total := skipped
		for _, fr := range got {
			total += int64(frameHeaderLen + len(fr.payload))
		}
		if total != int64(len(noise)+len(want)) {
			t.Errorf("%d bytes accounted for, want %d", total, len(noise)+len(want))
		}
		if len(got) == 0 {
			t.Error("the frame was not found")
		}
	})
}
