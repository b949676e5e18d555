package cdef

import (
	"compress/gzip"
	_ "embed" // for constants.txt.gz
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

//go:generate gzip -9 -k -f -n constants.txt

// packedConstants is constants.txt, which would take three times the room in the binary.
//
//go:embed constants.txt.gz
var packedConstants string

// constantsText holds the macros of the kernel and the C library that public scripts use and BTF does not carry: one a
// line, name and value, then the value on arm64 where it differs; sorted by name. Unpacking it takes a third of a millisecond.
var constantsText = sync.OnceValue(func() string {
	r, err := gzip.NewReader(strings.NewReader(packedConstants))
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(r); err == nil {
			return string(text)
		}
	}
	panic(fmt.Sprintf("cdef: constants.txt.gz is damaged: %v", err)) // a fault of the build
})

// Constant returns a constant of the kernel or the C library by its C name. arch is "arm64" or anything else for amd64. A
// search of the text takes microseconds, less than building a map of it would.
func Constant(name, arch string) (int64, bool) {
	if name == "" || strings.ContainsAny(name, " \n#") {
		return 0, false
	}
	i := strings.Index(constantsText(), "\n"+name+" ")
	if i < 0 {
		return 0, false
	}
	line, _, _ := strings.Cut(constantsText()[i+1:], "\n")
	f := strings.Fields(line)
	text := f[1]
	if len(f) > 2 && arch == "arm64" {
		text = f[2]
	}
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return n, true
	}
	n, err := strconv.ParseUint(text, 0, 64)
	return int64(n), err == nil
}

// ConstantNames lists the names of the table in alphabetical order.
func ConstantNames() []string {
	var out []string
	for line := range strings.Lines(constantsText()) {
		if name, _, ok := strings.Cut(line, " "); ok && name != "#" {
			out = append(out, name)
		}
	}
	return out
}
