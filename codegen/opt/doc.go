// Package opt improves IR functions. Passes are rows of one table ([Passes]) with a second table of the orders that matter and why
// ([Orders]); rewrite rules are named rows ([Rules]) that count how often they apply. Every pass keeps ir.Verify true and what the function
// does; tests run random functions before and after each pass.
//
// Imports: codegen/ir and its interpreter, whose definition of the integer ops constant folding uses. A run belongs to one goroutine.
// Read Run first.
package opt
