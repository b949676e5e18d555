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
	pos := atomic.LoadUint64(r.consumer)
	n := 0
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
		// The space is given back record by record: a flood may wrap the ring while one batch is printed.
		atomic.StoreUint64(r.consumer, pos)
		if !more {
			break
		}
		if pos == end {
			end = atomic.LoadUint64(r.producer)
		}
	}
	return n
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

// Run drains the ring until ctx ends or fn returns false. idle is called whenever the ring was found empty after records, which is the time to
// flush output; it may be nil.
func (r *Reader) Run(ctx context.Context, fn func(record []byte) bool, idle func()) error {
	stop := context.AfterFunc(ctx, r.Wake)
	defer stop()
	stopped := false
	each := func(rec []byte) bool {
		stopped = !fn(rec)
		return !stopped
	}
	last := time.Time{}
	pause := time.Millisecond
	events := make([]unix.EpollEvent, 2)
	for {
		if n := r.Drain(each); n > 0 {
			last, pause = time.Now(), time.Millisecond
			if idle != nil {
				idle()
			}
		}
		if stopped || ctx.Err() != nil {
			return nil
		}
		if !last.IsZero() && time.Since(last) < r.idle {
			time.Sleep(pause)
			pause = min(2*pause, r.idle/2)
			continue
		}
		last = time.Time{}
		if _, err := unix.EpollWait(r.epoll, events, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for events: %w", err)
		}
		var b [8]byte
		_, _ = unix.Read(r.wake, b[:]) // EAGAIN when the ring itself woke us
	}
}

// Wake interrupts a waiting Run, which then drains once more. Safe to call from any goroutine before Close.
func (r *Reader) Wake() {
	if r.wake >= 0 {
		_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}
