package check

import (
	"path"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/source"
)

// importer loads imported files, each once, in the order that makes what a file depends on come first.
type importer struct {
	c      *checker
	loaded map[string]bool
	items  []ast.Item
}

// imports returns the items of the script and of everything that it imports.
func (c *checker) imports(script *ast.Script) []ast.Item {
	im := &importer{c: c, loaded: map[string]bool{}}
	dir := ""
	if f := c.set.File(script.Sp.Start); f != nil && strings.Contains(f.Name, "/") {
		dir = path.Dir(f.Name)
	}
	im.script(script, dir)
	return im.items
}

func (im *importer) script(s *ast.Script, dir string) {
	for _, it := range s.Items {
		if imp, ok := it.(*ast.Import); ok {
			im.load(imp, dir)
		}
	}
	for _, it := range s.Items {
		if _, ok := it.(*ast.Import); !ok {
			im.items = append(im.items, it)
		}
	}
}

func (im *importer) load(imp *ast.Import, dir string) {
	c := im.c
	if c.env.ReadFile == nil || c.env.ParseScript == nil {
		c.diags.Errorf(CodeImport, imp.Sp, "cannot import `%s`: there is no file system here", imp.Path)
		return
	}
	p := imp.Path
	if !path.IsAbs(p) && dir != "" {
		p = path.Join(dir, p)
	}
	p = path.Clean(p)
	if im.loaded[p] {
		return
	}
	im.loaded[p] = true
	if im.directory(imp, p) {
		return
	}
	switch {
	case strings.HasSuffix(p, ".bt"):
		im.file(imp.Sp, p)
	case strings.HasSuffix(p, ".h"):
		im.items = append(im.items, &ast.CDef{Base: imp.Base, Text: "#include \"" + p + "\"", Kind: ast.CDirective, Name: p})
	case strings.HasSuffix(p, ".c"), strings.HasSuffix(p, ".o"):
		c.diags.Errorf(CodeImport, imp.Sp, "cannot import `%s`: sonde has no C compiler", imp.Path).Hint("write the function as a macro in a .bt file")
	default:
		c.diags.Errorf(CodeImport, imp.Sp, "Unable to find suitable path for import: `%s` is neither a .bt file, a .h file nor a folder", imp.Path)
	}
}

// directory imports every .bt and .h file of a folder, in the order of their names; it reports whether p is one.
func (im *importer) directory(imp *ast.Import, p string) bool {
	if im.c.env.ReadDir == nil {
		return false
	}
	names, err := im.c.env.ReadDir(p)
	if err != nil || names == nil {
		return false
	}
	names = append([]string(nil), names...)
	sort.Strings(names)
	for _, n := range names {
		if strings.HasSuffix(n, ".bt") || strings.HasSuffix(n, ".h") {
			im.load(&ast.Import{Base: imp.Base, Path: path.Join(p, n)}, "")
		}
	}
	return true
}

func (im *importer) file(sp source.Span, p string) {
	text, err := im.c.env.ReadFile(p)
	if err != nil {
		im.c.diags.Errorf(CodeImport, sp, "Unable to find suitable path for import").Hint("%v", err)
		return
	}
	f := im.c.set.Add(p, string(text))
	s := im.c.env.ParseScript(f, im.c.diags)
	if s == nil {
		return
	}
	im.script(s, path.Dir(p))
}
