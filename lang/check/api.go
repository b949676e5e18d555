package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// Universe is what is predeclared.
type Universe interface {
	Var(name string) *Var       // builtin variable, nil when unknown
	Func(name string) *Func     // builtin function
	Kind(name string) ProbeKind // probe kind by name or alias (as written; `kfunc`, `k`, `BEGIN`), nil when unknown
	MapKind(name string) *MapKind
	ConfigKey(name string) *ConfigKey
	// Names lists names for suggestions: what is "var", "func", "macro" (of the library), "kind", "mapkind" or "config".
	Names(what string) []string
	// Library returns the macros written in the language itself, parsed; they are visible in every script.
	Library(set *source.Set, diags *diag.List) []*ast.Macro
}

// Var is a builtin variable.
type Var struct {
	Name string
	// Type gives the variable's type in a body, or reports through c why it is not available there (then returns nil).
	Type func(c *VarUse) *types.Type
	// Const gives a value known while compiling (ncpus); nil when there is none.
	Const func(c *VarUse) (int64, bool)
	Lower any // lower.VarFunc; opaque here
}

// VarUse is one use of a builtin variable.
type VarUse struct {
	Node  *ast.Ident
	Name  string // canonical: "arg0" is {Name: "argN", Index: 0}
	Index int    // N of argN
	Body  *Body
	Info  *Info // Config is set; Maps may not be complete yet
	Diags *diag.List
	Env   *Env
}

// Func is a builtin function.
type Func struct {
	Name   string
	Params []Param
	// Agg is set for aggregations (count() to tseries()): the call may only be the value of an assignment to a map.
	Agg types.Kind
	// Result gives the type of the call once the types of its arguments are known; nil means void. It may report errors. It
	// may be called again when argument types grow (a string variable got longer). It is not called before the types of all arguments are known.
	// A rule may store the call's value in c.Body.Consts[c.Node] when it is known while compiling.
	Result func(c *Call) *types.Type
	// Unsafe functions need --unsafe.
	Unsafe bool
	// MustUse: a discarded result earns a warning (has_key, str ...).
	MustUse bool
	// Unstable is the config key of an unstable feature that the function belongs to, "" for all others.
	Unstable string
	// Effects says what a call does to the maps that are its arguments.
	Effects []Effect
	// Macro: bpftrace writes the function in its own language, so the message about a wrong number of arguments is that of macros.
	Macro bool
	// CountMessage is bpftrace's own message about a wrong number of arguments; "" for the usual one.
	CountMessage string
	// Deprecated names the replacement; "" when not deprecated.
	Deprecated string
	Lower      any // lower.Func; opaque here
}

// Effect is something that a call does to a map.
type Effect uint8

// Effects of calls on maps.
const (
	EffectRead Effect = iota
	EffectDelete
	EffectClear
	EffectPrint
	EffectLen
)

// Param is one parameter.
type Param struct {
	Name     string
	Class    Class
	Optional bool
	Variadic bool // the last one: any number of arguments, none included
	// Words are bare names with a meaning as this argument (nsecs(boot), kstack(perf)); such an argument has type types.TypeValue and its
	// name as string constant in Body.Consts.
	Words []string
	// BadWord is the message about a bare name that is none of Words; %s is the name. "" means a message made from the name of the parameter.
	BadWord string
	// NotLiteral is the message about an argument that is not known while compiling, or no string literal; "" means one made from the class.
	NotLiteral string
}

// Class is what a parameter accepts.
type Class uint8

// Classes.
const (
	AnyValue    Class = iota // a value of any type that can be stored
	Integer                  // integer, bool, enum or pointer
	Number                   // integer without pointers
	IntLiteral               // integer known while compiling (literal, positional parameter, sizeof ...)
	StrLiteral               // string known while compiling
	StringLike               // string, or something printable as one
	Address                  // pointer or integer used as an address; arrays decay
	MapArg                   // a whole map: @m
	MapOrKey                 // @m or @m[k]
	MapOrValue               // @m, @m[k] or any value
	TypeOrValue              // a type or an expression
	AnyArg                   // the function's Result checks it
	Word                     // one of Words
	MapKey                   // a key of the map that is the first argument
	VarArg                   // a scratch variable that the function assigns; Result gets its type from the map of the first argument
)

// Call is one call of a builtin function, given to its Result and Lower.
type Call struct {
	Node  *ast.Call
	Func  *Func
	Args  []ast.Expr // arguments, parentheses removed
	Body  *Body
	Info  *Info // Config is set; Maps holds the maps with the types known so far
	Env   *Env
	Diags *diag.List
	// Target is the map that an aggregation is assigned to, nil elsewhere.
	Target *Map
}

// Type returns the type of argument i; nil when there is no such argument.
func (c *Call) Type(i int) *types.Type {
	if i >= len(c.Args) {
		return nil
	}
	return c.Body.Types[c.Args[i]]
}

// Int returns the value of argument i when it is an integer known while compiling.
func (c *Call) Int(i int) (int64, bool) {
	if i >= len(c.Args) {
		return 0, false
	}
	v, ok := c.Body.Consts[c.Args[i]]
	return v.Int, ok && !v.IsString
}

// Str returns the value of argument i when it is a string known while compiling.
func (c *Call) Str(i int) (string, bool) {
	if i >= len(c.Args) {
		return "", false
	}
	v, ok := c.Body.Consts[c.Args[i]]
	return v.Str, ok && v.IsString
}

// MapKind is a kind of map for `let @m = kind(n)`.
type MapKind struct {
	Name string
	// PerCPU and LRU describe the kernel map.
	PerCPU, LRU bool
}

// ConfigKey is a key of the config block and of the environment.
type ConfigKey struct {
	Name string // canonical: lower case without prefix
	// Set checks a value and stores it in the config; an error's text is the message, behind the key's name unless it holds that.
	Set func(c *Config, value string) error
	// NoEffect marks a key that is only accepted, with a warning in a config block.
	NoEffect bool
}

// ProbeKind is a kind of probe. stdlib has one implementation per kind.
type ProbeKind interface {
	// Name is the canonical name: "tracepoint", "fentry".
	Name() string
	// Expand parses the segments, expands wildcards and returns the points; errors go to diags. It may read the target machine
	// (through what the implementation was made with).
	Expand(ap *ast.AttachPoint, env *Env, diags *diag.List) []*Point
}

// Point is one attach point after expansion.
type Point struct {
	Kind ProbeKind
	// Name is the full canonical name as `probe` prints it: "tracepoint:syscalls:sys_enter_openat".
	Name string
	// FuncName is what `func` prints when it is known while compiling; "" otherwise.
	FuncName string
	// Scope: points with the same Scope see the same builtins with the same types, so that an action is checked and, where
	// possible, compiled once for all of them.
	Scope string
	// Base takes the place of Scope for an action that uses none of args, argN and retval: sys_enter_read and sys_enter_write differ in
	// nothing else. "" means the same as Scope.
	Base string
	// Space is the address space that raw pointers of this probe are taken to be in (arg0 of a uprobe: user).
	Space types.Space
	// Args is the type of `args` (Kind Args), nil when the kind has none.
	Args *types.Type
	// Retval is the type of `retval`, nil when there is none.
	Retval *types.Type
	// ArgTypes gives typed argN where known (usdt); nil elements mean 64-bit integers. NumArgs is -1 when argN is not available.
	NumArgs  int
	ArgTypes []*types.Type
	Node     *ast.AttachPoint
	// Together is set where one link attaches any number of such points: max_probes is no limit for them unless the script sets it.
	Together bool
	// Types are those of the program that is probed, by its debug information; nil for none. They are looked at last.
	Types types.Source
	// Data is the kind's own (parsed segments, program type, event ids); only stdlib looks into it.
	Data any
}

// Traced is the process that probes of programs fire in: that of -p or, as in bpftrace, the one that -c started, without those that it starts; 0 means all.
func (e *Env) Traced() int {
	if e.PID == 0 && !e.Children {
		return e.ChildPID
	}
	return e.PID
}

// Env is what a compilation is told from outside.
type Env struct {
	Types      types.Source // structs and enums of the target, shadowed by the script's own definitions
	Arch       string
	CPUs       int
	PID        int    // -p, 0 when absent
	Children   bool   // -p means the process and all that descend from it: no predicate on the number
	Command    string // -c
	ChildPID   int    // the process that -c started, 0 when there is none
	Unwinds    bool   // there are processes whose unwind tables are loaded, beside these
	Unsafe     bool
	Positional []string          // $1 ...
	Named      map[string]string // --name=value after `--`; a bare --name has value "true"
	NamedBare  map[string]bool   // those without a value
	NamedUsed  map[string]bool   // filled by getopt
	Environ    map[string]string // BPFTRACE_* and SONDE_* variables
	// ReadFile opens imports and includes; nil means none.
	ReadFile func(path string) ([]byte, error)
	ReadDir  func(path string) ([]string, error)
	// ParseScript parses an imported file or a library script that was added to the set; ParseExpr parses the text of a C macro
	// as an expression (nil without a message when it is none). Both are the syntax package's; nil means that there are no imports or
	// only literal macros.
	ParseScript func(f *source.File, diags *diag.List) *ast.Script
	ParseExpr   func(f *source.File) ast.Expr
	// ParseC reads the C definitions of a script; nil means that only `#define NAME literal` is understood.
	ParseC func(defs []*ast.CDef, base types.Source, env *Env, diags *diag.List) CDefs
	// IncludeDirs and Includes are -I and --include.
	IncludeDirs, Includes []string
	NoWarnings            bool
	// DisabledWarnings are warning codes that are not printed.
	TestMode, BenchMode bool
	// Prior are the maps of the session that a script of the prompt may use, empty but not nil while there are none; nil for a script that
	// stands alone. In a session integers in maps take 64 bits, so that what exists already fits what later items store.
	Prior map[string]*Map
	// Config is the config in force; set by Check for the probe kinds that it calls.
	Config *Config
	// Missed takes the report about a pattern that matches nothing: an error when nothing else of its probe exists, else nothing to speak of. Set by
	// Check for the probe kinds that it calls; nil means that they report it themselves.
	Missed func(d *diag.Diagnostic)
	// Machine is stdlib's view of the target machine; opaque here.
	Machine any
}

// CDefs are the C definitions of one script: a source of the types that it defines itself (and that its headers define), and its macros.
type CDefs interface {
	types.Source
	// Macro returns the text that an object-like macro stands for.
	Macro(name string) (text string, ok bool)
	// Macros lists the names of all object-like macros of the script itself, not those of headers.
	Macros() []string
}

// Const is a value known while compiling.
type Const struct {
	Int      int64
	Str      string
	IsString bool
}

// Info is a checked script.
type Info struct {
	Files   *source.Set
	Script  *ast.Script
	Bodies  []*Body // in script order
	Maps    map[string]*Map
	Order   []string // map names by first use
	Strict  bool     // the script is in the newest dialect: neither a bool nor an aggregation counts as an integer
	Config  *Config
	Defines map[string]Const // C macros of the script with a constant value
	Options []*Option        // getopt calls, for --help
}

// Option is one named parameter.
type Option struct {
	Name, Default, Help, Kind string // Kind: "bool", "int", "string"
	Span                      source.Span
}

// Body is one action checked for one scope. A probe with attach points of two scopes gives two bodies. Macro calls are expanded: Block and
// Predicate are private copies that belong to this body.
type Body struct {
	Probe     *ast.Probe
	Points    []*Point // at least one, all with the same Scope
	Predicate ast.Expr
	Block     *ast.Block
	Types     map[ast.Expr]*types.Type // every expression
	Consts    map[ast.Expr]Const
	// Vars binds uses (*ast.Var nodes) to variables.
	Vars map[*ast.Var]*LocalVar
	// Calls holds the context of each builtin call, for lowering.
	Calls map[*ast.Call]*Call
	// Infos holds the three literals (btf_id, base_type, full_type) that a typeinfo stands for.
	Infos map[*ast.Typeinfo][]ast.Expr
	// Idents tells what a bare name is.
	Idents map[*ast.Ident]*Ident
	// Implicit conversions that lowering must apply are those from Types[e] to the type that the context wants; there is no cast node.
}

// LocalVar is a scratch variable with its final type.
type LocalVar struct {
	Name string // with $
	Type *types.Type
	Span source.Span // declaration or first assignment
	Addr bool        // its address is taken (&$x): it must live in memory
	Loop bool        // assigned in a loop body that becomes a callback
	// Captured is set for a variable of an outer block that a `for` body reads.
	Captured bool
	Depth    int  // nesting depth of its block
	Scope    int  // id of its block
	Param    bool // loop variable
}

// Ident is what a bare name refers to.
type Ident struct {
	Builtin *VarUse // with Var set in BuiltinVar
	Var     *Var
	Const   *Const // enumerator or #define
	Type    *types.Type
}

// Map is a map of the script.
type Map struct {
	Name  string      // with @
	Key   *types.Type // nil for a scalar map, and while its keys' type is not known
	Value *types.Type
	Keyed bool // the script uses it with keys
	// Kind is the declared kind ("" when not declared), Max the number of entries.
	Kind     string
	Max      int
	Declared bool
	Span     source.Span
	// How it is used, for the choice of the kernel map.
	Written, Read, Deleted, Iterated, Printed, Cleared, LenUsed, AddrTaken, Incremented bool
	External                                                                            bool // belongs to the session, exists already
}

// Config is the config in force: defaults, then the script's block, then the environment.
type Config struct {
	MaxMapKeys      int
	MaxStrlen       int
	MaxProbes       int
	MaxBPFProgs     int
	MaxCatBytes     int
	LogSize         int
	PerfRBPages     int // 0: chosen by the runtime
	OnStackLimit    int
	StackMode       types.StackMode
	StrTruncTrailer string
	MissingProbes   string
	PrintMapsOnExit bool
	CppDemangle     bool
	LazySymbols     bool
	ShowDebugInfo   bool
	UserSymbolCache string
	License         string
	Unstable        map[string]string // unstable_map_decl ... -> error, warn, enable
	Extra           map[string]string // keys of sonde's own: lowering choices and so on
	Set             map[string]bool   // keys that were set explicitly
}
