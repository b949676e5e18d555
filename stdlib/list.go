package stdlib

// ListOptions says what a listing shows.
type ListOptions struct {
	Verbose bool // fill Listed.Args
	PID     int  // the process whose files are meant, 0 for none
}

// Listed is one attach point of a listing.
type Listed struct {
	Name string   // as it can be used in a script
	Args []string // with Verbose: "int dfd", one for each argument; the last is "retval" where there is one
}
