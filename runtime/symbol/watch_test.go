package symbol

import (
	"encoding/binary"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// TestKernelWatch names an address of a process that has ended before anybody looked at it, and of one that has been there all along.
func TestKernelWatch(t *testing.T) {
	needs.BPF(t)
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var cmd *exec.Cmd
	var p *Process
	for range 20 {
		lost := w.Lost()
		cmd = exec.Command(exe, "-test.run", "^$")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if _, err := readProcess("/proc", cmd.Process.Pid); err == nil {
			t.Fatal("the process is still there")
		}
		// Where other processes map more than there is room for, while this one is kept from reading it, the kernel drops records and says so.
		p = w.Process(cmd.Process.Pid)
		if w.Lost() == lost {
			break
		}
	}
	if p == nil {
		t.Fatalf("nothing is known of the process; %d records lost", w.Lost())
	}
	f, err := Open(exe, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Lookup("runtime.main")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Gone: w.Process})
	defer s.Close()
	var at uint64
	for i := range p.Mappings {
		if p.Mappings[i].Path == exe {
			at = p.bias(i, f) + syms[0].Addr + 4
		}
	}
	if got := s.User(cmd.Process.Pid, at); got.Name != "runtime.main" || got.Module != exe {
		t.Errorf("address %#x is %+v; mappings %+v", at, got, p.Mappings)
	}
	// What ran before is read while the watching goes on, which ends it.
	for end := time.Now().Add(2 * time.Minute); w.Process(os.Getpid()) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is known of this process, which ran before")
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if w.Process(os.Getpid()) == nil {
		t.Error("what was known of this process is gone")
	}
}

func TestWatchRecords(t *testing.T) {
	record := func(kind uint32, misc uint16, body ...any) []byte {
		b := binary.NativeEndian.AppendUint32(nil, kind)
		b = append(binary.NativeEndian.AppendUint16(b, misc), 0, 0)
		for _, v := range body {
			switch v := v.(type) {
			case uint32:
				b = binary.NativeEndian.AppendUint32(b, v)
			case uint64:
				b = binary.NativeEndian.AppendUint64(b, v)
			case string:
				b = append(b, v+strings.Repeat("\x00", 8-len(v)%8)...)
			}
		}
		return b
	}
	mmap := func(pid uint32, start, size uint64, name string, time uint64) []byte {
		return record(recordMmap2, 0, pid, pid, start, size, uint64(0), uint32(8), uint32(1), uint64(77), uint64(0), uint32(5), uint32(2), name, time)
	}
	w := &Watcher{tasks: map[int]*watched{}}
	for _, b := range [][]byte{
		record(recordComm, miscCommExec, uint32(10), uint32(10), "prog", uint64(1)),
		mmap(10, 0x1000, 0x2000, "/bin/prog", 2),
		mmap(10, 0x9000, 0x1000, "/lib/a.so (deleted)", 3),
		record(recordFork, 0, uint32(11), uint32(10), uint32(11), uint32(10), uint64(4), uint64(4)),
		record(recordFork, 0, uint32(10), uint32(10), uint32(12), uint32(10), uint64(4), uint64(4)), // a thread
		mmap(11, 0x9000, 0x1000, "//anon", 5),
		record(recordExit, 0, uint32(10), uint32(1), uint32(12), uint32(10), uint64(6), uint64(6)), // the thread
		record(recordExit, 0, uint32(10), uint32(1), uint32(10), uint32(1), uint64(7), uint64(7)),
		record(recordComm, 0, uint32(11), uint32(11), "renamed", uint64(8)),
		record(recordLost, 0, uint64(1), uint64(5), uint64(9)),
		{1, 2, 3},
	} {
		if r, ok := parseRecord(b, &w.lost); ok {
			w.apply(&r)
		}
	}
	if w.lost != 5 || len(w.ended) != 1 || w.ended[0] != 10 {
		t.Errorf("lost %d, ended %v", w.lost, w.ended)
	}
	p := w.Process(10)
	if p == nil || len(p.Mappings) != 2 || p.Exe != "/bin/prog" || !p.Mappings[1].Deleted || p.Mappings[1].Path != "/lib/a.so" || p.Mappings[0].Inode != 77 {
		t.Errorf("process 10: %+v", p)
	}
	if p := w.Process(11); p == nil || len(p.Mappings) != 2 || p.Mappings[1].Path != "" || p.Exe != "/bin/prog" {
		t.Errorf("process 11: %+v", p)
	}
	if w.Process(12) != nil {
		t.Error("there is no process 12")
	}
}
