// Package lab boots other kernels under QEMU, with a static Go binary as the
// only user-space program, and brings its results back.
//
// It answers one question for the rest of the tree: does this work on that
// kernel? Kernels come from the distribution, through the package mirror that
// this machine's apt is configured with, or from a file. No root, no network
// in the guest, no disk image: the initramfs is built in memory, results come
// back as checked frames over a serial line of their own, so that the kernel's
// console can never mix with them.
//
// # From a test package
//
// Kernel tests of a package are ordinary Go tests. They run on the host, and
// on every lab kernel, without a change:
//
//	go test ./runtime/attach
//	go run ./runtime/lab/labrun -kernel all -test ./runtime/attach
//	go run ./runtime/lab/labrun -kernel 5.10 -test ./runtime/attach -- -test.run Kprobe -test.v
//
// Tests that need a kernel's BPF have names that start with TestKernel: `make
// test` runs those of all packages on the host and on every lab kernel, the
// other tests on the host only. Whether the kernel can do something is probed,
// and a test that cannot run says why with a skip that starts with "needs ".
//
// The package's testdata folder travels along and the tests start in their
// package's folder, as under go test. In the guest [InGuest] is true, the
// tests run as root, /proc, /sys, tracefs, debugfs, bpffs, securityfs and
// cgroup2 are mounted and lo is up; there is no shell, no libc and no other
// program (os.Args[0] can be started again).
//
// # From Go
//
// [Catalogue.Fetch] gives a [Kernel], [Run] boots it with a list of [Job] values
// and returns one [JobResult] for each, [Matrix] does that for several kernels
// at once. The init binary is any static Go program whose main calls [Init]
// first; a test binary does when its TestMain calls [RunTests]:
//
//	kernel, err := lab.NewCatalogue().Fetch(ctx, "6.12", lab.HostArch())
//	res, err := lab.Run(ctx, lab.Config{
//		Kernel: kernel,
//		Init:   "bin/sonde",
//		Jobs:   []lab.Job{{Args: []string{"/init", "-e", "BEGIN { exit(); }"}}},
//	})
//
// # Modules
//
// The kernels of the lab have most drivers and file systems as modules. [Catalogue.Modules] gives those that belong to a kernel,
// [Modules.Load] the files of one with all that it needs, in order, for [Config.Modules]; the guest's init loads them before the first job.
// What a module needs is read from the module itself: the distribution's package has no modules.dep, which is made at installation.
//
// # Failures
//
// A guest that does not come up, panics, hangs, or floods gives an [*Error]
// whose Kind says which; a job that fails, is killed, hangs, or runs out of
// memory gives a JobResult that says so, and the next job runs. Whatever
// happens, QEMU is gone when Run returns, and also when the calling process is
// killed; nothing is written outside the cache.
//
// The package imports nothing of ours. All functions may be called from
// several goroutines and several processes at once; the cache is locked where
// it is written. Read [Run] first, then [Init] for the other side.
package lab
