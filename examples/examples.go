// Package examples holds scripts to read, to run and to start from. They are embedded so that tests, and a guest of the lab, have them.
package examples

import "embed"

// Scripts are the example scripts, by file name.
//
//go:embed *.bt
var Scripts embed.FS
