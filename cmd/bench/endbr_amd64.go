package main

// endbr is a function that starts as C compilers let functions start on this architecture: with endbr64, then a push. The kernel must take a
// trap for each of the two instructions when the probe stands on the first, and emulates the second.
//
//go:noescape
func endbr()

const hasEndbr = true
