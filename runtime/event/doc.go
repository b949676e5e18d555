// Package event reads the ring buffer of events and decodes records by their layout.
//
// [Reader] maps the ring itself and hands out records in place, without a copy or an allocation. Programs wake the reader at most once per
// jiffy and CPU, so after a non-empty drain the reader polls for a while before it sleeps. [Decode] splits a record into its fields.
// A Reader is used by one goroutine; Close may be called from another. Imports: codegen/object, runtime/value.
package event
