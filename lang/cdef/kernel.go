package cdef

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"

	"modernc.org/cc/v4"

	"github.com/sonde-sh/sonde/lang/source"
)

// macroMark stands before each macro that expandKernelMacros asks for.
const macroMark = "__sonde_macro"

// macroWord matches what a macro of the kernel may be called: a word with a capital letter.
var macroWord = lazyPattern(`\b[a-z_]*[A-Z]\w*\b`)

// kernelConst finds the value of an object-like macro of the kernel's own headers, where they are installed and the script includes one of them.
func (d *Defs) kernelConst(name string) (Value, bool) {
	d.kernelOnce.Do(func() { d.kernel = d.loadKernelMacros() })
	if d.kernel == nil {
		return Value{}, false
	}
	if m := d.kernel.macros[name]; m != nil && m.Value != nil {
		return *m.Value, true
	}
	return Value{}, false
}

// loadKernelMacros reads the macros that the script's words may stand for. Kernel headers are full of what only its own compilers understand,
// so that nothing but their preprocessor lines is read; types come from the target's BTF. A fault of a header leaves out what it defines.
func (d *Defs) loadKernelMacros() *unit {
	if d.opts.ReadFile == nil || len(d.opts.KernelDirs) == 0 {
		return nil
	}
	var found []string
	for _, inc := range d.include {
		if !d.findOwn(inc) && d.findIn(d.opts.KernelDirs, inc.path) {
			found = append(found, inc.path)
		}
	}
	words := d.scriptWords()
	if len(found) == 0 || len(words) == 0 {
		return nil
	}
	text, err := d.expandKernelMacros(found, words)
	if err != nil && len(found) > 1 {
		for _, path := range found {
			if one, err := d.expandKernelMacros([]string{path}, words); err == nil {
				text += one
			}
		}
	}
	defines := d.kernelDefines(text)
	if defines == "" {
		return nil
	}
	_, f := source.NewSet("<kernel>", defines)
	files := []cFile{{f, f.Text}}
	prelude := d.makePrelude(files)
	u, err := d.runFrontEnd(builtins+prelude.text, files, prelude)
	if err != nil {
		return nil
	}
	return u
}

// scriptWords lists the words of the script that may be macros, each once.
func (d *Defs) scriptWords() []string {
	var out []string
	seen := map[string]bool{}
	for _, f := range d.set.Files() {
		for _, w := range macroWord().FindAllString(f.Text, -1) {
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
		}
	}
	return out
}

// expandKernelMacros runs the preprocessor over kernel headers and returns a line for each word: macroMark, the word in quotes, and what it
// expands to.
func (d *Defs) expandKernelMacros(headers, words []string) (text string, err error) {
	abi, err := cc.NewABI("linux", d.opts.arch())
	if err != nil {
		return "", err
	}
	dirs := append(append([]string{}, d.opts.KernelDirs...), missingDir)
	cfg := &cc.Config{
		ABI: abi, FS: directiveFS{headerFS{d}}, FSOnly: true, ExpansionLimit: expansionLimit,
		IncludePaths: append([]string{"@"}, dirs...), SysIncludePaths: dirs,
		PragmaHandler: func([]cc.Token) error { return nil },
	}
	var ask strings.Builder
	for _, path := range headers {
		fmt.Fprintf(&ask, "#include <%s>\n", path)
	}
	for _, w := range words {
		fmt.Fprintf(&ask, "%s \"%s\" %s\n", macroMark, w, w)
	}
	defer func() {
		if r := recover(); r != nil {
			text, err = "", fmt.Errorf("the preprocessor failed: %v", r)
		}
	}()
	var out strings.Builder
	err = cc.Preprocess(cfg, []cc.Source{
		{Name: "<predefined>", Value: d.opts.predefined(true) + kernelMacros},
		{Name: "<builtin>", Value: "#include <linux/kconfig.h>\n#include <linux/compiler_types.h>\n"},
		{Name: "<headers>", Value: ask.String()},
	}, &out)
	return out.String(), err
}

// kernelMacros is what the kernel's build gives to its compiler.
const kernelMacros = `#define __KERNEL__ 1
#define __BPF_TRACING__ 1
#define CC_USING_FENTRY 1
#define KBUILD_MODNAME "sonde"
`

// kernelDefines turns the lines of expandKernelMacros into #defines, with enumerators of Base replaced by their values. Words that stand for
// themselves are no macros.
func (d *Defs) kernelDefines(text string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, part := range strings.Split(text, macroMark)[1:] {
		name, body, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(part), `"`), `"`)
		body = strings.Join(strings.Fields(body), " ")
		if !ok || body == "" || body == name || seen[name] || strings.ContainsAny(body, "{};") {
			continue
		}
		seen[name] = true
		body = wordPattern().ReplaceAllStringFunc(body, func(w string) string {
			if d.opts.Base != nil {
				if v, _, ok := d.opts.Base.EnumConst(w); ok {
					return fmt.Sprint(v)
				}
			}
			return w
		})
		fmt.Fprintf(&b, "#define %s %s\n", name, body)
	}
	return b.String()
}

// directiveFS gives the preprocessor lines of the files of headerFS.
type directiveFS struct{ headerFS }

func (f directiveFS) Open(name string) (fs.File, error) {
	file, err := f.headerFS.Open(name)
	if m, ok := file.(*memFile); err == nil && ok {
		m.data = directives(m.data)
		m.size = int64(len(m.data))
	}
	return file, err
}

// layoutToken matches what decides where a line of C ends: comments, literals, continued lines, ends of lines.
var layoutToken = lazyPattern(`(?s:/\*.*?\*/)|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\\\n|\n`)

// directives keeps the preprocessor lines of a text, each on one line, without comments. Those that would only stop the preprocessor, #error and the
// like, are left out.
func directives(text []byte) []byte {
	var line, out bytes.Buffer
	end := func() {
		l := bytes.TrimSpace(line.Bytes())
		if len(l) > 1 && l[0] == '#' && !noDirective().Match(l) {
			out.Write(l)
			out.WriteByte('\n')
		}
		line.Reset()
	}
	pos := 0
	for _, m := range layoutToken().FindAllIndex(text, -1) {
		line.Write(text[pos:m[0]])
		pos = m[1]
		switch text[m[0]] {
		case '\n':
			end()
		case '"', '\'':
			line.Write(text[m[0]:m[1]])
		default:
			line.WriteByte(' ')
		}
	}
	line.Write(text[pos:])
	end()
	return out.Bytes()
}

var noDirective = lazyPattern(`^#\s*(error|warning|pragma|ident|line)\b`)
