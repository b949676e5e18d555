package stdlib

import "github.com/sonde-sh/sonde/lang/diag"

// Codes of attach points (07). The table in lang/diag documents them; numbers are never reused.
const (
	codeSegments   diag.Code = "E0701" // number or form of the segments does not fit the probe kind
	codeNoMatch    diag.Code = "E0702" // the pattern or name matches nothing
	codeTarget     diag.Code = "E0703" // binary, library, process or module that does not exist
	codeNoMeans    diag.Code = "E0704" // the kernel cannot do what the kind needs
	codeTime       diag.Code = "E0705" // interval or count out of range
	codeOffset     diag.Code = "E0706" // offset or address that cannot be probed
	codeUntracable diag.Code = "E0707" // warning: function that is not traceable
	codeDuplicate  diag.Code = "E0708" // name used twice
)
