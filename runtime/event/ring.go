package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	headerBytes = 8
	busyBit     = 1 << 31 // the producer has reserved but not submitted the record
	discardBit  = 1 << 30
)

// Reader reads records of a BPF_MAP_TYPE_RINGBUF map.
type Reader struct {
	data     []byte // the data area, mapped once: a record across its end is copied
	consumer *uint64
	producer *uint64
	mask     uint64
	maps     [][]byte
	epoll    int
	wake     int // eventfd that interrupts the wait
	wrapped  []byte
	idle     time.Duration
}

// NewReader maps the ring. linger is how long the reader keeps polling after the last record before it sleeps: at least two ticks of the
// kernel's clock, because later records of the same tick do not wake it.
func NewReader(ring *ebpf.Map, linger time.Duration) (*Reader, error) {
	size, page := int(ring.MaxEntries()), os.Getpagesize()
	r := &Reader{mask: uint64(size - 1), epoll: -1, wake: -1, idle: linger}
	cons, err := unix.Mmap(ring.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring's consumer page: %w", err)
	}
	r.maps = append(r.maps, cons)
	prod, err := unix.Mmap(ring.FD(), int64(page), page+size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring's data: %w", err), r.Close())
	}
	r.maps = append(r.maps, prod)
	r.consumer = (*uint64)(unsafe.Pointer(&cons[0]))
	r.producer = (*uint64)(unsafe.Pointer(&prod[0]))
	r.data = prod[page:]
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), r.Close())
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), r.Close())
	}
	for _, fd := range []int{ring.FD(), r.wake} {
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, errors.Join(fmt.Errorf("epoll: %w", err), r.Close())
		}
	}
	return r, nil
}

// Close unmaps the ring. Run must have returned.
func (r *Reader) Close() error {
	var errs []error
	for _, m := range r.maps {
		errs = append(errs, unix.Munmap(m))
	}
	for _, fd := range []int{r.epoll, r.wake} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	r.maps, r.epoll, r.wake = nil, -1, -1
	return errors.Join(errs...)
}

// Drain hands every record that is ready to fn and returns how many there were. The record's bytes are valid only during the call.
// fn returns false to stop early; the record it saw counts as consumed.
func (r *Reader) Drain(fn func(record []byte) bool) int {
	n, _ := r.drain(fn)
	return n
}

// drain also tells how many bytes of the ring the records took.
func (r *Reader) drain(fn func(record []byte) bool) (n int, size uint64) {
	start := atomic.LoadUint64(r.consumer)
	pos, given := start, start
	// Space is given back in pieces while one batch is printed, because a flood may wrap the ring meanwhile; not record by record, because the
	// line with the position is one that every producer reads.
	piece := uint64(len(r.data)) / 64
	for end := atomic.LoadUint64(r.producer); pos < end; {
		off := pos & r.mask
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[off])))
		if head&busyBit != 0 {
			break
		}
		size := uint64(head &^ discardBit)
		pos += (size + headerBytes + 7) &^ 7
		more := true
		if head&discardBit == 0 {
			n++
			more = fn(r.bytes(off+headerBytes, size))
		}
		if pos-given >= piece {
			atomic.StoreUint64(r.consumer, pos)
			given = pos
		}
		if !more {
			break
		}
		if pos == end {
			end = atomic.LoadUint64(r.producer)
		}
	}
	if pos != given {
		atomic.StoreUint64(r.consumer, pos)
	}
	return n, pos - start
}

func (r *Reader) bytes(off, size uint64) []byte {
	off &= r.mask
	if off+size <= uint64(len(r.data)) {
		return r.data[off : off+size : off+size]
	}
	head := uint64(len(r.data)) - off
	r.wrapped = append(append(r.wrapped[:0], r.data[off:]...), r.data[:size-head]...)
	return r.wrapped
}

// Bounds of the pause between two looks at a ring in which records arrive.
const (
	minPause = time.Millisecond
	maxPause = 4 * time.Millisecond
)

// Run drains the ring until ctx ends or fn returns false. Records that are ready when ctx ends may be left, for [Reader.Drain]: in a flood there is
// no last one. idle is called whenever the ring was found empty after records, which is the time to
// flush output; it may be nil.
func (r *Reader) Run(ctx context.Context, fn func(record []byte) bool, idle func()) error {
	var ended atomic.Bool
	stop := context.AfterFunc(ctx, func() { ended.Store(true); r.Wake() })
	defer stop()
	stopped := false
	each := func(rec []byte) bool {
		stopped = !fn(rec) || ended.Load()
		return !stopped
	}
	var lingered time.Duration // slept since the last record
	pause := minPause
	lingering := false
	events := make([]unix.EpollEvent, 2)
	for {
		if n, size := r.drain(each); n > 0 {
			if idle != nil {
				idle()
			}
			lingering, lingered = true, 0
			pause = r.pause(pause, size)
		}
		if stopped || ctx.Err() != nil {
			return nil
		}
		if lingering && lingered < r.idle {
			sleep(pause)
			lingered += pause
			continue
		}
		lingering, pause = false, minPause
		if _, err := unix.EpollWait(r.epoll, events, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for events: %w", err)
		}
		var b [8]byte
		_, _ = unix.Read(r.wake, b[:]) // EAGAIN when the ring itself woke us
	}
}

// pause chooses how long to wait after size bytes came within the last pause: as long as a sixteenth of the ring takes at that rate.
func (r *Reader) pause(last time.Duration, size uint64) time.Duration {
	return min(max(last*time.Duration(len(r.data)/16)/time.Duration(max(size, 1)), minPause), maxPause)
}

// sleep waits in the kernel with the thread that runs it. time.Sleep would hand the processor through the scheduler, which wakes two more threads:
// several times the CPU of all the rest when a thousand pauses a second are made. The garbage collector waits for us at most maxPause.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// Wake interrupts a waiting Run, which then looks once more. Safe to call from any goroutine before Close.
func (r *Reader) Wake() {
	if r.wake >= 0 {
		_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}
