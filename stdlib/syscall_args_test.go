package stdlib

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

func TestSyscallArgSets(t *testing.T) {
	for name, s := range syscallArgSets {
		for _, words := range [][]string{strings.Fields(s.values), strings.Fields(s.arm64)} {
			if len(words)%2 != 0 {
				t.Errorf("%s: names and values do not pair", name)
			}
			for i := 1; i < len(words); i += 2 {
				if _, err := strconv.ParseInt(words[i], 0, 64); err != nil {
					t.Errorf("%s: %s: %v", name, words[i-1], err)
				}
			}
		}
	}
	for arg, set := range syscallArgs {
		if _, ok := syscallArgSets[set]; !ok {
			t.Errorf("%s: there is no set %s", arg, set)
		}
		call, _, _ := strings.Cut(arg, ".")
		_, amd64 := kernel.SyscallNumber("amd64", call)
		_, arm64 := kernel.SyscallNumber("arm64", call)
		if !amd64 && !arm64 {
			t.Errorf("%s: there is no such system call", arg)
		}
	}
	open := syscallArgSets["open"]
	for arch, want := range map[string]string{"amd64": "O_RDONLY|O_DIRECTORY|O_CLOEXEC", "arm64": "O_RDONLY|O_DIRECT|O_CLOEXEC"} {
		if got := open.def(arch, types.TInt32).Text(0o2200000); got != want {
			t.Errorf("open on %s: %s, want %s", arch, got, want)
		}
	}
}

func TestSyscallArgTypes(t *testing.T) {
	const format = `name: x
ID: 1
format:
	field:int __syscall_nr;	offset:8;	size:4;	signed:1;
	field:int dfd;	offset:16;	size:8;	signed:0;
	field:const char * filename;	offset:24;	size:8;	signed:0;
	field:char * buf;	offset:32;	size:8;	signed:0;
	field:int flags;	offset:40;	size:8;	signed:0;
	field:size_t count;	offset:48;	size:8;	signed:0;
	field:unsigned long fd;	offset:56;	size:8;	signed:0;

print fmt: ""
`
	ev, err := kernel.ParseFormat("syscalls", format)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		kind types.Kind
		size int
		text bool
	}{
		"dfd": {types.Enum, 4, false}, "filename": {types.Pointer, 8, true}, "buf": {types.Pointer, 8, false}, "flags": {types.Enum, 4, false},
		"count": {types.Int, 8, false}, "fd": {types.Int, 4, false},
	}
	for _, f := range ev.Args()[1:] {
		got, w := syscallArgType(noTypes{}, "amd64", "openat", f), want[f.Name]
		if got.Kind != w.kind || got.Size != w.size || isText("openat", f) != w.text {
			t.Errorf("%s: %s of %d bytes, text %v; want %v", f.Name, got, got.Size, isText("openat", f), w)
		}
	}
}

// noTypes is a kernel without type information.
type noTypes struct{}

func (noTypes) StructType(string) *types.Type               { return nil }
func (noTypes) EnumType(string) *types.Type                 { return nil }
func (noTypes) Typedef(string) *types.Type                  { return nil }
func (noTypes) EnumConst(string) (int64, *types.Type, bool) { return 0, nil, false }
func (noTypes) FuncProto(string) *types.Proto               { return nil }
func (noTypes) Names(_, _ string, _ int) []string           { return nil }
