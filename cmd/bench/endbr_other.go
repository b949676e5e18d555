//go:build !amd64

package main

func endbr() {}

// hasEndbr tells whether functions of this architecture start with an instruction that the kernel cannot emulate.
const hasEndbr = false
