package seccomp

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// arity is how many arguments the calls of x86-64 take, by number; the second row begins at 424, where all ABIs share their numbers.
const (
	arity = "333122233632144034433215053333331202213043336633232334555003142133412453321122321122122123223331222114030110020002222333" +
		"311112224322231122232322311122210032652121012522142213632664666666035554443332222163362153366166531044342112224144326635" +
		"41552345545320324434534345343365123644464632144244213215545525453214236653345332535133666421564"
	aritySince424 = "4264352533223434565434212544464644444336654555"
)

// argumentsOf is how many arguments a call takes, 6 where that is not known.
func argumentsOf(name string) int {
	n, ok := X8664.Number(name)
	row := arity
	if n >= 424 {
		n, row = n-424, aritySince424
	}
	if !ok || n >= len(row) {
		return 6
	}
	return int(row[n] - '0')
}

// invocation is a call with its arguments; what else was in the registers is left out. label is the name that is printed.
func invocation(label, name string, args []Hex) string {
	out := make([]string, min(len(args), argumentsOf(name)))
	for i := range out {
		out[i] = "0x" + strconv.FormatUint(uint64(args[i]), 16)
	}
	return label + "(" + strings.Join(out, ", ") + ")"
}

// resultText is what a call gave: an error by its name.
func resultText(n int64) string {
	if n < 0 && n > -4096 {
		if name := unix.ErrnoName(unix.Errno(-n)); name != "" {
			return "-1 " + name
		}
	}
	return strconv.FormatInt(n, 10)
}
