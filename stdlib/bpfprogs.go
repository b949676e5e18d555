package stdlib

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// bpfModule is how a loaded BPF program stands in object.Program.Module: this and its id.
const bpfModule = "bpf:"

// bpfFunc is a function of a loaded BPF program: the program itself, or a subprogram.
type bpfFunc struct {
	id   ebpf.ProgramID
	name string
}

// bpfFuncs lists the functions of the BPF programs that are loaded and have type information, by name and id.
func bpfFuncs(id ebpf.ProgramID, pattern string) ([]bpfFunc, error) {
	g := kernel.CompileGlob(pattern)
	var out []bpfFunc
	add := func(id ebpf.ProgramID) error {
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			return err
		}
		defer prog.Close()
		info, err := prog.Info()
		if err != nil {
			return err
		}
		if _, ok := info.BTFID(); !ok {
			return nil // without types nothing can attach to it
		}
		funcs, err := info.FuncInfos()
		if err != nil {
			return err
		}
		for _, f := range funcs {
			if g.Match(f.Func.Name) {
				out = append(out, bpfFunc{id, f.Func.Name})
			}
		}
		return nil
	}
	if id != 0 {
		err := add(id)
		return out, err
	}
	for next := ebpf.ProgramID(0); ; {
		var err error
		if next, err = ebpf.ProgramGetNextID(next); err != nil {
			break // the last one, or no rights, which the caller finds out by having nothing
		}
		_ = add(next) // gone in the meantime
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].name != out[j].name {
			return out[i].name < out[j].name
		}
		return out[i].id < out[j].id
	})
	return slices.Compact(out), nil
}

// expandBPF is the variant for BPF programs: `fentry:bpf[:ID]:NAME`.
func (k *fentry) expandBPF(r *request) []*check.Point {
	if len(r.seg) == 1 {
		r.errorf(codeSegments, "the 'bpf' variant of this probe requires a bpf program name and optional bpf program id").Hint("write `%s:bpf:NAME`", k.name)
		return nil
	}
	if len(r.seg) > 3 {
		r.errorf(codeSegments, "%s probe type requires 1 or 3 arguments, found %d", k.name, len(r.seg)).Hint("write `%s:bpf:ID:NAME`", k.name)
		return nil
	}
	name := r.seg[len(r.seg)-1]
	var id uint64
	if len(r.seg) == 3 && r.seg[1] != "*" {
		var err error
		if id, err = strconv.ParseUint(r.seg[1], 10, 32); err != nil || id == 0 {
			r.segErrorf(1, codeSegments, "bpf program id must be a number or '*'")
			return nil
		}
	}
	found, err := bpfFuncs(ebpf.ProgramID(id), name)
	if err != nil {
		r.segErrorf(1, codeTarget, "cannot read BPF program %d: %v", id, err)
		return nil
	}
	if len(found) == 0 {
		var near []string
		if all, err := bpfFuncs(0, "*"); err == nil && !kernel.HasWildcard(name) {
			near = nearest(name, func(yield func(string) bool) {
				for _, f := range all {
					if !yield(f.name) {
						return
					}
				}
			})
			if len(near) == 0 {
				for _, f := range all[:min(len(all), maxNearest)] {
					near = append(near, f.name)
				}
			}
		}
		r.noMatch(len(r.seg)-1, strings.Join(r.seg, ":"), near)
		return nil
	}
	var points []*check.Point
	for _, f := range found {
		p := r.point(k, fmt.Sprintf("%s:bpf:%d:%s", k.name, f.id, f.name))
		p.Scope, p.Base = p.Name, k.name+":bpf"
		p.FuncName, p.Space = f.name, types.SpaceKernel
		p.Data = &fentryPoint{module: fmt.Sprint(bpfModule, f.id), fn: f.name, words: 1}
		if k.exit {
			p.Retval = types.TUint64
		}
		points = append(points, p)
	}
	return points
}

// listBPF lists the functions of BPF programs.
func (k *fentry) listBPF(segments []string, yield func(Listed) bool) error {
	name, id := "*", uint64(0)
	if len(segments) > 0 {
		name = segments[len(segments)-1]
	}
	if len(segments) == 2 && segments[0] != "*" {
		var err error
		if id, err = strconv.ParseUint(segments[0], 10, 32); err != nil {
			return nil //nolint:nilerr // no program has such an id
		}
	}
	found, err := bpfFuncs(ebpf.ProgramID(id), name)
	if err != nil {
		return nil //nolint:nilerr // no such program
	}
	for _, f := range found {
		if !yield(Listed{Name: fmt.Sprintf("%s:bpf:%d:%s", k.name, f.id, f.name)}) {
			break
		}
	}
	return nil
}

// bpfTarget opens a loaded program and finds a function of it; the descriptor stays open until the machine is closed.
func (m *Machine) bpfTarget(module, name string) (id uint32, fd int, err error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(module, bpfModule), 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("BPF program %q: %w", module, err)
	}
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(n))
	if err != nil {
		return 0, 0, fmt.Errorf("BPF program %d: %w", n, err)
	}
	m.mu.Lock()
	m.programs = append(m.programs, prog)
	m.mu.Unlock()
	info, err := prog.Info()
	if err != nil {
		return 0, 0, fmt.Errorf("BPF program %d: %w", n, err)
	}
	btfID, ok := info.BTFID()
	if !ok {
		return 0, 0, fmt.Errorf("BPF program %d has no type information", n)
	}
	handle, err := btf.NewHandleFromID(btfID)
	if err != nil {
		return 0, 0, fmt.Errorf("types of BPF program %d: %w", n, err)
	}
	defer handle.Close()
	spec, err := handle.Spec(nil)
	if err != nil {
		return 0, 0, fmt.Errorf("types of BPF program %d: %w", n, err)
	}
	var fn *btf.Func
	if err := spec.TypeByName(name, &fn); err != nil {
		return 0, 0, fmt.Errorf("types of BPF program %d: %w", n, err)
	}
	typeID, err := spec.TypeID(fn)
	return uint32(typeID), prog.FD(), err
}

func closePrograms(progs []*ebpf.Program) error {
	var errs []error
	for _, p := range progs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
