package verify

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/lab"
)

func TestOwners(t *testing.T) {
	o := &lab.Owners{
		Functions: map[string][]string{
			"xfs_read": {"xfs"}, "xfs_write": {"xfs"}, "xfs_helper": {"zonefs"},
			"init_net": {"a", "b", "c", "d", "e"}, "init_one": {"a"}, "probe_one": {"a", "b"},
		},
		Tracepoints: map[string][]string{"rpc_start": {"sunrpc"}, "rpc_stop": {"sunrpc", "nfs"}, "other": {"nfs"}},
	}
	tests := []struct {
		name  string
		names KernelNames
		want  []string
		many  string
	}{
		{"a function", KernelNames{Functions: []string{"xfs_read"}}, []string{"xfs"}, ""},
		{"a function of two modules", KernelNames{Functions: []string{"probe_one"}}, []string{"a", "b"}, ""},
		{"a function of many modules", KernelNames{Functions: []string{"init_net"}}, nil, "`init_net` is in 5 modules of this kernel: a, b, c, d, ..."},
		{"a function of no module", KernelNames{Functions: []string{"vfs_read"}}, nil, ""},
		{"a pattern with the name of its module", KernelNames{Functions: []string{"xfs_*"}}, []string{"xfs"}, ""},
		{"a pattern in two modules", KernelNames{Functions: []string{"xfs_[hw]*"}}, []string{"xfs", "zonefs"}, ""},
		{"a pattern in many modules", KernelNames{Functions: []string{"init_*"}}, nil, "`init_*` is in 5 modules"},
		{"a pattern that is broken", KernelNames{Functions: []string{"x[*"}}, nil, ""},
		{"an event by its name", KernelNames{Tracepoints: []Tracepoint{{"sunrpc", "rpc_stop"}}}, []string{"nfs", "sunrpc"}, ""},
		{"events of a category", KernelNames{Tracepoints: []Tracepoint{{"sunrpc", "rpc_*"}}}, []string{"sunrpc"}, ""},
		{"categories by a pattern", KernelNames{Tracepoints: []Tracepoint{{"*rpc", "*"}}}, []string{"sunrpc"}, ""},
		{"raw events by a pattern", KernelNames{Tracepoints: []Tracepoint{{"", "rpc_st*"}}}, []string{"nfs", "sunrpc"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, many := tt.names.owners(o)
			if !reflect.DeepEqual(got, tt.want) || (len(many) > 0) != (tt.many != "") || !strings.HasPrefix(strings.Join(many, ""), tt.many) {
				t.Errorf("got %q and %q, want %q and %q", got, many, tt.want, tt.many)
			}
		})
	}
}

func TestHintOfARow(t *testing.T) {
	r := Row{Diagnostics: []Diagnostic{{Severity: "warning", Text: "w\n"}, {Severity: "error", Hints: []string{"one"}, Text: "e\nHINT: one\n"}}}
	r.hint("two")
	if d := r.Diagnostics[1]; !reflect.DeepEqual(d.Hints, []string{"one", "two"}) || d.Text != "e\nHINT: one\nHINT: two\n" || r.Diagnostics[0].Hints != nil {
		t.Errorf("got %+v", r.Diagnostics)
	}
}
