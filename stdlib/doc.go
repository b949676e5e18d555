// Package stdlib is the registry: builtin variables and functions, probe kinds, map kinds, config keys, library macros. It is where the
// language, the compiler and the running machine meet. Checker, lowering, runtime, help, completion and reference docs all read it.
//
// A builtin is one literal in a themed file; a probe kind is one file. There is no init registration and no mutable global: [New] builds
// a registry value from slices. Imports: lang, codegen, runtime.
package stdlib
