package seccomp

import "slices"

// learnRow says which arguments of a call are worth restricting: numbers of which a program uses few. Bits are 32 where the kernel
// takes an int and ignores the upper half of the register, which callers may leave full of anything.
type learnRow struct {
	name string
	args []int
	bits int
}

var learnTable = []learnRow{
	{"socket", []int{0, 1, 2}, 32},
	{"socketpair", []int{0, 1, 2}, 32},
	{"setsockopt", []int{1, 2}, 32},
	{"getsockopt", []int{1, 2}, 32},
	{"shutdown", []int{1}, 32},
	{"ioctl", []int{1}, 32},
	{"prctl", []int{0}, 32},
	{"arch_prctl", []int{0}, 32},
	{"fcntl", []int{1}, 32},
	{"fcntl64", []int{1}, 32},
	{"clone", []int{0}, 64},
	{"unshare", []int{0}, 64},
	{"setns", []int{1}, 32},
	{"mmap", []int{2, 3}, 64},
	{"mmap2", []int{2, 3}, 64},
	{"mprotect", []int{2}, 64},
	{"pkey_mprotect", []int{2}, 64},
	{"madvise", []int{2}, 32},
	{"personality", []int{0}, 32},
	{"ptrace", []int{0}, 64},
	{"bpf", []int{0}, 32},
	{"keyctl", []int{0}, 32},
	{"futex", []int{1}, 32},
	{"epoll_ctl", []int{1}, 32},
	{"seccomp", []int{0, 1}, 32},
	{"membarrier", []int{0, 1}, 32},
	{"memfd_create", []int{1}, 32},
	{"prlimit64", []int{1}, 32},
	{"getrandom", []int{2}, 32},
	{"socketcall", []int{0}, 32},
	{"clock_gettime", []int{0}, 32},
	{"clock_nanosleep", []int{0, 1}, 32},
	{"rt_sigprocmask", []int{0}, 32},
}

// learned is the row of a call, nil when its arguments are not looked at. A 32-bit ABI passes 32 bits whatever the table says.
func learned(abi ABI, name string) *learnRow {
	i := slices.IndexFunc(learnTable, func(r learnRow) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	r := learnTable[i]
	if abi.facts().bits == 32 {
		r.bits = 32
	}
	return &r
}
