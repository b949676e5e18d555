package object

// Shared is what a session has already when another script is compiled for it: its maps by name and the names of its attach points. The objects
// of one session agree on both, so that a map or a probe value means the same to all of them. The compiler only reads it.
type Shared struct {
	// Maps are the maps that exist, those of the script and the arrays that hold its scalars. A script that uses one gets its very layout.
	Maps map[string]*Map
	// Points and Funcs are the beginning of the lists of the new object.
	Points, Funcs []string
}

// ScalarArray is the name of the array of a session that holds the scalar map of a name: scalars of a session are not in GlobalsMap, which every
// object has for itself.
func ScalarArray(name string) string { return "scalar " + name }
