package stdlib

import "github.com/sonde-sh/sonde/lang/diag"

// Codes of attach points (065x), and of what the kernel cannot do (07). The table in lang/diag documents them; numbers are never reused.
const (
	codeSegments   diag.Code = "E0651" // number or form of the segments does not fit the probe kind
	codeNoMatch    diag.Code = "E0652" // the pattern or name matches nothing
	codeTarget     diag.Code = "E0653" // binary, library, process or module that does not exist
	codeNoMeans    diag.Code = "E0701" // the kernel cannot do what the kind needs
	codeTime       diag.Code = "E0654" // interval or count out of range
	codeOffset     diag.Code = "E0655" // offset or address that cannot be probed
	codeUntracable diag.Code = "E0656" // warning: function that is not traceable
	codeDuplicate  diag.Code = "E0657" // name used twice
)
