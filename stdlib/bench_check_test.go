package stdlib

import "testing"

// BenchmarkCheck is the front end of a one-liner: registry, library macros, parsing, checking.
func BenchmarkCheck(b *testing.B) {
	r, env := hostRegistry(b)
	for b.Loop() {
		_, diags := checkText(r, env, "stdin", `tracepoint:syscalls:sys_enter_openat { printf("%d %s %s\n", pid, comm, str(args.filename)); @[comm] = count(); }`)
		if diags.HasErrors() {
			b.Fatal(diags.Error())
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New(nil)
	}
}
