package scriptgen_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// What goes between the host, which compiles, and a guest, which loads: compiling takes more than half of the time of an emulated processor.

// machineFacts is what compiling for another machine needs of it: files below a root, and what its kernel can do.
type machineFacts struct {
	Files    map[string][]byte
	Features []string
}

// factFiles are patterns of the files that compiling reads, apart from those of the tracing file system.
var factFiles = []string{
	"/sys/kernel/btf/vmlinux", "/proc/kallsyms", "/proc/sys/kernel/osrelease", "/proc/version", "/proc/config.gz", "/sys/devices/system/cpu/possible",
	"/sys/kernel/debug/kprobes/blacklist",
}

// gatherFacts reads this machine.
func gatherFacts(k *kernel.Kernel) (*machineFacts, error) {
	f := &machineFacts{Files: map[string][]byte{}}
	for _, info := range kernel.FeatureNames() {
		if k.Features().Has(info.Name) {
			f.Features = append(f.Features, info.Name)
		}
	}
	for _, p := range factFiles {
		if data, err := os.ReadFile(p); err == nil {
			f.Files[p] = data
		}
	}
	dir, err := k.TracefsDir()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(dir + "/events/*/*/*")
	if err != nil {
		return nil, err
	}
	for _, p := range append(files, dir+"/available_filter_functions", dir+"/available_events") {
		switch filepath.Base(p) {
		case "format", "id", "available_filter_functions", "available_events":
			if data, err := os.ReadFile(p); err == nil {
				f.Files["/sys/kernel/tracing"+strings.TrimPrefix(p, dir)] = data
			}
		}
	}
	return f, nil
}

// open makes a machine of the facts, with its files below root.
func (f *machineFacts) open(root string) (*host, error) {
	for p, data := range f.Files {
		p = filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			return nil, err
		}
	}
	k, err := kernel.Open(kernel.Options{Root: root})
	if err != nil {
		return nil, err
	}
	m := stdlib.NewMachine(k)
	m.Features = kernel.FixedFeatures(f.Features...)
	return hostOf(k, m), nil
}

// wireScript is a compiled script.
type wireScript struct {
	Seed     int64
	Run      bool // run it to its end, else load it only
	Programs []wireProgram

	// The rest is the object's.
	Maps     []*object.Map
	Events   []*object.Event
	Points   []string
	Funcs    []string
	Probes   int
	Config   object.Config
	Budgeted bool
	Failures []object.Failure
	Captures []string
	License  string
}

// wireProgram is a program. The library's instructions keep names where gob does not look.
type wireProgram struct {
	Name       string
	Type       ebpf.ProgramType
	AttachType ebpf.AttachType
	AttachTo   string
	Module     string
	Flags      uint32
	Role       object.Role
	Bodies     int
	Insns      []wireInsn
}

type wireInsn struct {
	Op              uint64
	Dst, Src        uint8
	Offset          int16
	Constant        int64
	Reference, Name string
	Func            string // of the function that starts here
	Params          []string
	Linkage         int
}

// wireResult is what became of a script in the guest.
type wireResult struct {
	Seed    int64
	Error   string
	Log     string
	TooLong bool
	Text    string
}

// pack makes plain data of an object. The text of the script stays behind.
func pack(seed int64, run bool, obj *object.Object) *wireScript {
	w := &wireScript{
		Seed: seed, Run: run, Maps: slices.Clone(obj.Maps), Events: obj.Events, Points: obj.Points, Funcs: obj.Funcs, Probes: obj.Probes, Config: obj.Config,
		Budgeted: obj.Budgeted, Failures: obj.Failures, Captures: obj.Captures, License: obj.License,
	}
	for i, m := range w.Maps {
		// The verifier does not look at the size of a hash, and making one of many entries takes the guest longer than all else.
		if hash := m.Type == ebpf.Hash || m.Type == ebpf.PerCPUHash || m.Type == ebpf.LRUHash; hash && !run {
			small := *m
			small.MaxEntries = min(m.MaxEntries, 64)
			w.Maps[i] = &small
		}
	}
	for _, p := range obj.Programs {
		wp := wireProgram{Name: p.Name, Type: p.Type, AttachType: p.AttachType, AttachTo: p.AttachTo, Module: p.Module, Flags: p.Flags, Role: p.Role, Bodies: p.Bodies}
		for _, in := range p.Insns {
			wi := wireInsn{
				Op: uint64(in.OpCode), Dst: uint8(in.Dst), Src: uint8(in.Src), Offset: in.Offset, Constant: in.Constant, Reference: in.Reference(), Name: in.Symbol(),
			}
			if f := btf.FuncMetadata(&in); f != nil {
				wi.Func, wi.Linkage = f.Name, int(f.Linkage)
				for _, p := range f.Type.(*btf.FuncProto).Params {
					wi.Params = append(wi.Params, p.Name)
				}
			}
			wp.Insns = append(wp.Insns, wi)
		}
		w.Programs = append(w.Programs, wp)
	}
	return w
}

// unpack is the object again.
func (w *wireScript) unpack() *object.Object {
	obj := &object.Object{
		Maps: w.Maps, Events: w.Events, Points: w.Points, Funcs: w.Funcs, Probes: w.Probes, Config: w.Config,
		Budgeted: w.Budgeted, Failures: w.Failures, Captures: w.Captures, License: w.License,
	}
	for _, wp := range w.Programs {
		p := &object.Program{
			Name: wp.Name, Type: wp.Type, AttachType: wp.AttachType, AttachTo: wp.AttachTo, Module: wp.Module, Flags: wp.Flags, Role: wp.Role, Bodies: wp.Bodies,
		}
		for _, wi := range wp.Insns {
			in := asm.Instruction{OpCode: asm.OpCode(wi.Op), Dst: asm.Register(wi.Dst), Src: asm.Register(wi.Src), Offset: wi.Offset, Constant: wi.Constant}
			if wi.Reference != "" {
				in = in.WithReference(wi.Reference)
			}
			if wi.Name != "" {
				in = in.WithSymbol(wi.Name)
			}
			if wi.Func != "" {
				i64 := &btf.Int{Name: "long long", Size: 8, Encoding: btf.Signed}
				proto := &btf.FuncProto{Return: i64}
				for _, name := range wi.Params {
					param := btf.FuncParam{Name: name, Type: i64}
					if name == "ctx" {
						param.Type = &btf.Pointer{Target: &btf.Void{}}
					}
					proto.Params = append(proto.Params, param)
				}
				in = btf.WithFuncMetadata(in, &btf.Func{Name: wi.Func, Type: proto, Linkage: btf.FuncLinkage(wi.Linkage)})
			}
			p.Insns = append(p.Insns, in)
		}
		obj.Programs = append(obj.Programs, p)
	}
	return obj
}

// guestMain does in a guest what the host asks for; false when it asks for nothing.
func guestMain() bool {
	switch {
	case *guestFacts:
		guestDo(func(h *host) error {
			f, err := gatherFacts(h.kernel)
			if err != nil {
				return err
			}
			return gob.NewEncoder(os.Stdout).Encode(f)
		})
	case *guestScripts != "":
		guestDo(func(h *host) error { return loadScripts(h, *guestScripts) })
	default:
		return false
	}
	return true
}

func guestDo(f func(h *host) error) {
	k, err := kernel.Open(kernel.Options{})
	if err == nil {
		err = kernel.RaiseMemlock()
	}
	if err == nil {
		err = f(hostOf(k, stdlib.NewMachine(k)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// loadScripts loads, and runs, the scripts of a file and writes a result for each.
func loadScripts(h *host, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	in, out := gob.NewDecoder(bytes.NewReader(data)), gob.NewEncoder(os.Stdout)
	for {
		var w wireScript
		if err := in.Decode(&w); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		text, o := h.runObject(w.unpack(), w.Run)
		r := wireResult{Seed: w.Seed, Log: tail(o.log, 25), Text: text}
		if o.err != nil {
			var le *runtime.LoadError
			r.Error, r.TooLong = o.err.Error(), errors.As(o.err, &le) && le.TooLong()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}
