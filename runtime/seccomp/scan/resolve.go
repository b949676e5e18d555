package scan

import (
	"maps"
	"math/bits"
	"slices"

	"github.com/sonde-sh/sonde/runtime/seccomp"
)

// site is a place where a system call is made: an instruction that enters the kernel, or the call of a wrapper.
type site struct {
	at      uint64
	sys     sysKind
	numbers []uint64
	// passed is set when the number is the function's own parameter: its callers are the sites then.
	passed bool
	// unknown says why not all numbers are known, "" when they are.
	unknown string
	wrapper bool // the call of a wrapper
}

// wrapper is a function and the parameter that it takes the number from.
type wrapper struct {
	entry uint64 // an address, or the number of an import
	bit   int
	sys   sysKind
}

// resolver finds the numbers of one file.
type resolver struct {
	img      *image
	sites    map[uint64]*site
	wrappers map[wrapper]bool
	queue    []wrapper
}

// Reasons for which a number is not known.
const (
	whyComputed = "the number is computed or read from memory"
	whyPointer  = "the number is a parameter of a function that is called through a pointer"
	whyNobody   = "the number is a parameter of a function that nothing seems to call"
	whyNoCall   = "the number is none of a system call"
)

// resolve finds the numbers of all sites. imports tells which imported names are wrappers, from the files that define them.
func (img *image) resolve(imports func(name string) []wrapper) *resolver {
	r := &resolver{img: img, sites: map[uint64]*site{}, wrappers: map[wrapper]bool{}}
	for i, name := range img.imports {
		for _, w := range imports(name) {
			r.found(wrapper{importBase + uint64(i), w.bit, w.sys})
		}
	}
	done := -1
	for _, s := range img.sites {
		f := img.functionAt(s.at)
		if f < 0 || f == done {
			continue
		}
		done = f
		for _, u := range img.analyse(f, nil) {
			for _, e := range u.sites {
				number := img.machine.number
				if e.sys == sysInt80 {
					number = rax
				}
				r.note(u, e.at, e.sys, e.state.regs[number].narrow(4), false)
			}
		}
	}
	for len(r.queue) > 0 {
		r.callers()
	}
	for w := range r.wrappers {
		if w.entry < importBase {
			r.orphan(w)
		}
	}
	return r
}

// found takes up a wrapper that is not known yet.
func (r *resolver) found(w wrapper) {
	if !r.wrappers[w] {
		r.wrappers[w] = true
		r.queue = append(r.queue, w)
	}
}

// note adds to what is known of a site.
func (r *resolver) note(u *unit, at uint64, sys sysKind, v value, viaWrapper bool) {
	s := r.sites[at]
	if s == nil {
		s = &site{at: at, sys: sys, wrapper: viaWrapper}
		r.sites[at] = s
	}
	if v.kind != valueSet {
		s.unknown = whyComputed
		return
	}
	for _, n := range v.consts {
		n &= 0xffffffff
		if !slices.Contains(s.numbers, n) {
			s.numbers = append(s.numbers, n)
		}
		if n&^x32Bit >= maxNumber {
			s.unknown = whyNoCall
		}
	}
	for rest := v.params; rest != 0; rest &= rest - 1 {
		s.passed = true
		r.found(wrapper{u.entry, bits.TrailingZeros64(rest), sys})
	}
}

const (
	x32Bit    = 0x40000000
	maxNumber = 1024 // no table of the kernel is longer
)

// callers looks at everything that calls the wrappers in the queue.
func (r *resolver) callers() {
	byEntry := map[uint64][]wrapper{}
	wanted := map[uint64]bool{}
	functions := map[int]bool{}
	for _, w := range r.queue {
		byEntry[w.entry] = append(byEntry[w.entry], w)
		wanted[w.entry] = true
		for _, i := range r.img.callers[w.entry] {
			functions[r.img.functionAt(r.img.edges[i].from)] = true
		}
	}
	r.queue = nil
	for _, f := range slices.Sorted(maps.Keys(functions)) {
		for _, u := range r.img.analyse(f, wanted) {
			for _, l := range u.leaves {
				for _, w := range byEntry[l.target] {
					r.note(u, l.at, w.sys, l.parameter(r.img.machine, w.bit).narrow(4), true)
				}
			}
		}
	}
}

// parameter is what a function gets that control leaves to.
func (d *departure) parameter(m *machine, bit int) value {
	if bit < paramStack {
		return d.state.regs[bit]
	}
	sp := d.state.regs[m.sp]
	if sp.kind != valueFrame {
		return value{}
	}
	at := sp.frame + 8*int64(bit-paramStack)
	if d.call {
		at -= m.callPush
	}
	return d.state.slot(at)
}

// orphan marks the sites of a wrapper that something else than the calls we see may enter. Exported ones are looked at where they
// are imported.
func (r *resolver) orphan(w wrapper) {
	why := ""
	f := r.img.functionAt(w.entry)
	_, pointer := slices.BinarySearch(r.img.pointers, w.entry)
	switch {
	case r.img.exported(w.entry):
	case pointer:
		why = whyPointer
	case !r.img.entered(w.entry) && len(r.img.inner[f]) == 0:
		why = whyNobody
	}
	if why == "" || f < 0 {
		return
	}
	for _, s := range r.sites {
		if s.passed && s.unknown == "" && s.at >= r.img.funcs[f].start && s.at < r.img.funcs[f].end {
			s.unknown = why
		}
	}
}

func (img *image) exported(addr uint64) bool {
	for _, a := range img.exports {
		if a == addr {
			return true
		}
	}
	return false
}

// exportedWrappers are the wrappers that other files may call by a name.
func (r *resolver) exportedWrappers(name string) []wrapper {
	addr, ok := r.img.exports[name]
	if !ok {
		return nil
	}
	var out []wrapper
	for w := range r.wrappers {
		if w.entry == addr {
			out = append(out, w)
		}
	}
	return out
}

// calls are the system calls of a site, by ABI.
func (r *resolver) calls(s *site) []callID {
	var out []callID
	for _, n := range s.numbers {
		abi := r.img.abi
		switch {
		case n&^x32Bit >= maxNumber:
			continue
		case s.sys == sysInt80 && abi == seccomp.X8664:
			abi = seccomp.X86
		case abi == seccomp.X8664 && n&x32Bit != 0:
			abi = seccomp.X32
		}
		out = append(out, callID{abi, int(n &^ x32Bit)})
	}
	return out
}

// callID is a system call.
type callID struct {
	abi    seccomp.ABI
	number int
}

func (c callID) name() string {
	if n := c.abi.Name(c.number); n != "" {
		return n
	}
	return seccomp.Unnamed(c.number)
}
