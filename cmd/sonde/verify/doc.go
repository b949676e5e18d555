// Package verify checks scripts and BPF objects on other kernels.
//
// A column is a kernel: the running one, or one that the lab boots with this very program as its init. A row is a script. The
// program in the guest does what `sonde verify --kernel running -f json` does here, one job for each row, so that a row that hangs
// or floods spoils no other; its report comes back as JSON. [Run] makes the columns, [Table], [JSON] and [JUnit] print them.
//
// Imports: runtime/lab, lang/diag. What compiles and loads a script is given by the caller ([Checker]). Nothing here is safe for
// concurrent use but what says so.
package verify
