package attach

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Detach stops the programs of many links: after it no new run begins. Perf events stay open until they are closed, but for those without a BPF link
// (before Linux 5.15), which are closed to stop the program.
func Detach(links []*Link) error {
	var fds []int
	for _, l := range links {
		fds = append(fds, l.takeLinks()...)
	}
	return closeTogether(fds, 512) // these waits need no lock of the kernel: hundreds of them end together
}

// CloseAll detaches and closes many links at once and waits for the kernel to be done. Closing perf events one by one costs 65 to 115 ms
// each; 32 at a time cost 39 ms each, because the kernel's waits overlap.
func CloseAll(links []*Link) error {
	err := Detach(links)
	var events []int
	for _, l := range links {
		events = append(events, l.takeEvents()...)
	}
	return errors.Join(err, closeTogether(events, maxParallel))
}

// closeTogether closes descriptors, up to limit of them at a time.
func closeTogether(fds []int, limit int) error {
	errs := make([]error, len(fds))
	parallel(len(fds), limit, func(i int) { errs[i] = closeFDs(fds[i : i+1]) })
	return errors.Join(errs...)
}

// Leave gives up many links for good, at the end of the process, and does not wait: all descriptors are given to the kernel, which closes them
// in the background. Programs may run for some ten milliseconds more, so nothing may depend on what they write. Where the kernel
// has no way to do that, everything is closed at once as by [CloseAll].
//
// A descriptor that is in flight in a socket which nothing but its own queue refers to is garbage, and newer kernels collect garbage in
// a kernel thread. Older kernels (before 6.9) collect in the process that closes the socket, which costs what closing would have cost.
func Leave(links []*Link) error {
	var fds []int
	for _, l := range links {
		fds = append(append(fds, l.takeLinks()...), l.takeEvents()...)
	}
	return closeTogether(discard(fds), maxParallel)
}

// maxSocketFDs is how many descriptors one message carries (SCM_MAX_FD is 253).
const maxSocketFDs = 250

// discard puts descriptors into sockets that refer only to themselves and returns those that it could not.
func discard(fds []int) (left []int) {
	for len(fds) > 0 {
		n := min(len(fds), maxSocketFDs)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fds
		}
		rights := unix.UnixRights(append([]int{pair[1]}, fds[:n]...)...)
		err = unix.Sendmsg(pair[0], []byte{0}, rights, nil, 0)
		if err == nil {
			for _, fd := range fds[:n] {
				_ = unix.Close(fd) // the socket holds another reference: this one is free
			}
		}
		// The receiver first: it stays alive through itself. Closing the sender then is what starts the collection, which must
		// find the circle complete.
		_ = unix.Close(pair[1])
		_ = unix.Close(pair[0])
		if err != nil {
			return fds
		}
		fds = fds[n:]
	}
	return nil
}

// maxParallel bounds the threads that wait in the kernel for the same lock.
const maxParallel = 32

func parallel(n, limit int, f func(i int)) {
	if n <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, limit) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// Missed says how often the kernel could not run the program at this link, because all its return probes were in use or a probe hit inside a
// probe. ok is false when the kernel does not tell (links of kprobes before 6.7, and mechanisms that miss nothing). After Detach it is the last
// count before.
func (l *Link) Missed() (n uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil {
		return *l.last, true
	}
	for _, fd := range l.links {
		if m, known := linkMissed(fd); known {
			n, ok = n+m, true
		}
	}
	return n, ok
}

// remember keeps the count of missed runs of links that are about to be closed. l.mu is held.
func (l *Link) remember() {
	var sum uint64
	known := false
	for _, fd := range l.links {
		if m, ok := linkMissed(fd); ok {
			sum, known = sum+m, true
		}
	}
	if known {
		l.last = &sum
	}
}

// RecursionMisses is how often the kernel did not run a program because it was running on the same CPU already (kernel 5.12).
func RecursionMisses(prog *ebpf.Program) (uint64, error) {
	stats, err := prog.Stats()
	if err != nil {
		return 0, fmt.Errorf("read the program's counters: %w", err)
	}
	return stats.RecursionMisses, nil
}
