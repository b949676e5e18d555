// Package valuetest helps the tests of other packages to print values without a machine.
package valuetest

import (
	"fmt"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

// Resolver names the points and functions of an object, and nothing of a machine: addresses stay numbers. It is a value.Resolver.
type Resolver struct {
	Object   *object.Object
	Syscalls func(n int64) string // nil: they have no names
}

func (Resolver) KernelSymbol(addr uint64, _ bool) string { return fmt.Sprintf("%#x", addr) }

func (Resolver) UserSymbol(_ uint32, addr uint64, _ bool) string { return fmt.Sprintf("%#x", addr) }
func (Resolver) Stack(*types.Type, uint64, int) string           { return "" }
func (Resolver) Username(uint32) string                          { return "root" }
func (Resolver) WallTime(string, uint64) time.Time               { return time.Time{} }
func (Resolver) CgroupPath(uint64, string) string                { return "" }
func (r Resolver) ProbeName(i uint64) string                     { return r.Object.Points[i] }
func (r Resolver) FuncName(i uint64) string                      { return r.Object.Funcs[i] }

func (r Resolver) SyscallName(n int64) string {
	if r.Syscalls == nil {
		return ""
	}
	return r.Syscalls(n)
}
