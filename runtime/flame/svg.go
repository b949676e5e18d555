package flame

import (
	"bufio"
	_ "embed" // for the script
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"strings"
)

// Options say what a flame graph looks like.
type Options struct {
	Title string // "" is "Flame graph"
	// Unit names what was counted: "samples" when it is "".
	Unit string
	// MinWidth leaves out boxes narrower than so many pixels; 0 means 0.1.
	MinWidth float64
}

//go:embed flame.js
var script string

const (
	graphWidth = 1200.0
	rowHeight  = 17
	topSpace   = 44
	sideSpace  = 8.0
	charWidth  = 6.6 // of the 11 px font, a little too wide on purpose
)

// box is one function below its callers.
type box struct {
	name     string
	value    int64
	children []*box
}

// tree makes the boxes of stacks that are in the order of their names.
func tree(stacks []Stack) *box {
	root := &box{name: "all"}
	for _, s := range stacks {
		if s.Value <= 0 {
			continue
		}
		at := root
		at.value += s.Value
		for _, n := range s.Names {
			var next *box
			if k := len(at.children); k > 0 && at.children[k-1].name == n {
				next = at.children[k-1]
			} else {
				next = &box{name: n}
				at.children = append(at.children, next)
			}
			next.value += s.Value
			at = next
		}
	}
	return root
}

type svg struct {
	w      *bufio.Writer
	opts   Options
	total  int64
	height int
}

// WriteSVG writes a flame graph: a picture that a browser can search (Ctrl-F or the word in the corner) and zoom (click a box). stacks must be in
// the order of their names, as Fold and ParseFolded give them.
func WriteSVG(w io.Writer, stacks []Stack, opts Options) error {
	if opts.Title == "" {
		opts.Title = "Flame graph"
	}
	if opts.Unit == "" {
		opts.Unit = "samples"
	}
	if opts.MinWidth == 0 {
		opts.MinWidth = 0.1
	}
	root := tree(stacks)
	g := &svg{w: bufio.NewWriter(w), opts: opts, total: max(root.value, 1)}
	g.height = topSpace + (g.depth(root)+2)*rowHeight
	fmt.Fprintf(g.w, `<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" version="1.1" viewBox="0 0 %[1]d %[2]d" width="100%%" id="flame" data-side="%[3]g" data-total="%[4]d" font-family="monospace" font-size="11">
<rect x="0" y="0" width="%[1]d" height="%[2]d" fill="#fdfdfb"/>
<text x="%[5]g" y="20" text-anchor="middle" font-size="15">%[6]s</text>
<text x="%[3]g" y="36" id="reset" fill="#666" style="cursor:pointer;visibility:hidden">reset zoom</text>
<text x="%[7]g" y="20" id="search" text-anchor="end" fill="#666" style="cursor:pointer">search</text>
<text x="%[7]g" y="36" id="matched" text-anchor="end" fill="#666"></text>
<text x="%[3]g" y="%[8]d" id="details" fill="#333"> </text>
<g id="boxes">
`, int(graphWidth), g.height, sideSpace, g.total, graphWidth/2, html.EscapeString(opts.Title), graphWidth-sideSpace, g.height-6)
	if root.value == 0 {
		fmt.Fprintf(g.w, "<text x=\"%g\" y=\"%d\" text-anchor=\"middle\">no %s</text>\n", graphWidth/2, topSpace+rowHeight, html.EscapeString(opts.Unit))
	} else {
		g.box(root, 0, 0)
	}
	fmt.Fprintf(g.w, "</g>\n<script type=\"text/ecmascript\"><![CDATA[\n%s]]></script>\n</svg>\n", script)
	return g.w.Flush()
}

// pixels is the width of a number of samples.
func (g *svg) pixels(v int64) float64 {
	return float64(v) / float64(g.total) * (graphWidth - 2*sideSpace)
}

// depth is the number of rows below a box that are wide enough to be drawn.
func (g *svg) depth(b *box) int {
	if g.pixels(b.value) < g.opts.MinWidth {
		return 0
	}
	most := 0
	for _, c := range b.children {
		most = max(most, g.depth(c))
	}
	return most + 1
}

func (g *svg) box(b *box, row int, before int64) {
	width := g.pixels(b.value)
	if width < g.opts.MinWidth {
		return
	}
	x, y := sideSpace+g.pixels(before), g.height-(row+3)*rowHeight+8
	title := fmt.Sprintf("%s (%d %s, %.2f%%)", strings.TrimSuffix(b.name, kernelMark), b.value, g.opts.Unit, 100*float64(b.value)/float64(g.total))
	fmt.Fprintf(g.w, `<g class="b" data-n="%s" data-s="%d" data-v="%d" data-r="%d"><title>%s</title><rect x="%.2f" y="%d" width="%.2f" height="%d" rx="1" fill="%s"/><text x="%.2f" y="%d">%s</text></g>`+"\n",
		html.EscapeString(b.name), before, b.value, row, html.EscapeString(title), x, y, width, rowHeight-1, colour(b.name), x+3, y+12,
		html.EscapeString(short(strings.TrimSuffix(b.name, kernelMark), width)))
	for _, c := range b.children {
		g.box(c, row+1, before)
		before += c.value
	}
}

// short cuts a name to what fits into a box.
func short(name string, width float64) string {
	n := int((width - 6) / charWidth)
	r := []rune(name)
	switch {
	case n < 3:
		return ""
	case len(r) <= n:
		return name
	}
	return string(r[:n-2]) + ".."
}

// colour gives the same colour to the same function in every picture: orange for the kernel's, warm ones for the others.
func colour(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	v := h.Sum32()
	a, b := int(v&0xff), int(v>>8&0xff)
	if strings.HasSuffix(name, kernelMark) {
		return fmt.Sprintf("rgb(%d,%d,0)", 240-a/16, 120+b/5)
	}
	if strings.Contains(name, "::") || strings.Contains(name, ".") {
		return fmt.Sprintf("rgb(%d,%d,%d)", 225+a/9, 205-b/4, 90)
	}
	return fmt.Sprintf("rgb(%d,%d,%d)", 215+a/7, 130-b/3, 60)
}
