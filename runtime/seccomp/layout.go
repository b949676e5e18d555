package seccomp

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// ErrNeedsBTF says that the kernel does not tell the layout of its types, without which threads cannot be followed.
var ErrNeedsBTF = errors.New("needs the kernel's type information (BTF, /sys/kernel/btf/vmlinux)")

// layout is where the kernel keeps what the programs read, in bytes.
type layout struct {
	taskPID, taskTGID  int16
	taskFlags          int16 // the word in thread_info that tells a 32-bit call
	taskSeccompMode    int16
	taskFiltered       int16 // a word whose bits in filteredMask are set when calls of the thread are filtered
	filteredMask       int32
	taskExitCode       int16
	taskCPU            int16 // the number of the CPU that the thread runs on, 0 when it is not beside the flags
	binprmFile         int16
	binprmInterp       int16
	fileInode          int16
	inodeIno, inodeSB  int16
	superDev           int16
	regArgs, compatArg [6]int16 // arguments in struct pt_regs
	regNumber          int16    // the system call's number there
	regNumberBytes     int
	compatMask         int64 // in the taskFlags word
	compatShift        int32
	// Where a thread's cgroup and the numbers of those above it are, for kernels whose programs cannot ask for them (before Linux 5.14).
	// Newer ones have no such list, so that ancestorIDs is 0.
	taskCgroups, cssDefault, cgroupLevel, ancestorIDs int16
}

func findLayout(k *kernel.Kernel) (*layout, error) {
	b, err := k.BTF()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNeedsBTF, err)
	}
	f := &fieldFinder{btf: b}
	l := &layout{
		taskPID: f.at("task_struct", "pid"), taskTGID: f.at("task_struct", "tgid"), taskExitCode: f.at("task_struct", "exit_code"),
		taskSeccompMode: f.at("task_struct", "seccomp", "mode"),
		binprmFile:      f.at("linux_binprm", "file"), binprmInterp: f.at("linux_binprm", "interp"),
		fileInode: f.at("file", "f_inode"), inodeIno: f.at("inode", "i_ino"), inodeSB: f.at("inode", "i_sb"), superDev: f.at("super_block", "s_dev"),
	}
	// What the kernel's own way into a call tests (Linux 5.11) lies beside the flags; the mode is a line of the cache away.
	w := &fieldFinder{btf: b}
	l.taskFiltered, l.filteredMask = w.at("task_struct", "thread_info", "syscall_work"), 1
	if w.err != nil {
		l.taskFiltered, l.filteredMask = l.taskSeccompMode, -1
	}
	c := &fieldFinder{btf: b}
	if l.taskCPU = c.at("task_struct", "thread_info", "cpu"); c.err != nil {
		l.taskCPU = 0
	}
	g := &fieldFinder{btf: b}
	l.taskCgroups, l.cssDefault, l.cgroupLevel, l.ancestorIDs = g.at("task_struct", "cgroups"), g.at("css_set", "dfl_cgrp"), g.at("cgroup", "level"), g.at("cgroup", "ancestor_ids")
	if g.err != nil {
		l.ancestorIDs = 0
	}
	switch runtime.GOARCH {
	case "amd64":
		// TS_COMPAT: set on the way in by the 32-bit entries, also for a 64-bit program.
		l.taskFlags, l.compatMask, l.compatShift = f.at("task_struct", "thread_info", "status"), 2, 1
		l.regArgs = [6]int16{f.at("pt_regs", "di"), f.at("pt_regs", "si"), f.at("pt_regs", "dx"), f.at("pt_regs", "r10"), f.at("pt_regs", "r8"), f.at("pt_regs", "r9")}
		l.compatArg = [6]int16{f.at("pt_regs", "bx"), f.at("pt_regs", "cx"), f.at("pt_regs", "dx"), f.at("pt_regs", "si"), f.at("pt_regs", "di"), f.at("pt_regs", "bp")}
		l.regNumber, l.regNumberBytes = f.at("pt_regs", "orig_ax"), 8
	case "arm64":
		// TIF_32BIT: a thread is of one kind for as long as its program runs.
		l.taskFlags, l.compatMask, l.compatShift = f.at("task_struct", "thread_info", "flags"), 1<<22, 22
		base := f.at("pt_regs", "regs")
		for i := range l.regArgs {
			l.regArgs[i] = base + int16(8*i)
		}
		l.compatArg = l.regArgs
		l.regNumber, l.regNumberBytes = f.at("pt_regs", "syscallno"), 4
	default:
		return nil, fmt.Errorf("recording system calls is not possible on %s; it is on amd64 and arm64", runtime.GOARCH)
	}
	return l, f.err
}

// fieldFinder keeps the first error.
type fieldFinder struct {
	btf *kernel.BTF
	err error
}

// at is the offset of a member, through anonymous structs and unions.
func (f *fieldFinder) at(typ string, path ...string) int16 {
	id, ok := f.btf.TypeByName(typ, kernel.KindStruct)
	off := uint32(0)
	for _, name := range path {
		var o uint32
		if ok {
			id, o, ok = f.member(id, name, 0)
		}
		off += o
	}
	if (!ok || off > 32767) && f.err == nil {
		f.err = fmt.Errorf("the kernel's type information has no %s.%v", typ, path)
	}
	return int16(off)
}

func (f *fieldFinder) member(id kernel.ID, name string, depth int) (kernel.ID, uint32, bool) {
	t, err := f.btf.Resolve(id)
	if err != nil || depth > 8 || t.Kind != kernel.KindStruct && t.Kind != kernel.KindUnion {
		return 0, 0, false
	}
	for _, m := range t.Members() {
		if m.Name == name {
			return m.Type, m.Offset(), true
		}
		if m.Name == "" {
			if in, o, ok := f.member(m.Type, name, depth+1); ok {
				return in, m.Offset() + o, true
			}
		}
	}
	return 0, 0, false
}
