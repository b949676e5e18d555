package scriptgen

import (
	"slices"
	"strings"
)

// Script is a random script: a tree of lines.
type Script struct {
	Seed  int64
	Items []*Node // config block, map declarations and probes
}

// Node is a line with the lines that belong to it.
type Node struct {
	Head string // "$x = 1;" or "if ($x) {"
	Body []*Node
	Else []*Node
	Tail string // "}" of a node with a body, "" for a simple line
}

// String is the text of the script, one line for each head and tail.
func (s *Script) String() string {
	text, _ := s.render()
	return text
}

// render gives the text and the node that each line belongs to.
func (s *Script) render() (string, []*Node) {
	var sb strings.Builder
	var lines []*Node
	var emit func(n *Node, depth int)
	line := func(n *Node, depth int, text string) {
		sb.WriteString(strings.Repeat("  ", depth))
		sb.WriteString(text)
		sb.WriteByte('\n')
		lines = append(lines, n)
	}
	emit = func(n *Node, depth int) {
		line(n, depth, n.Head)
		for _, c := range n.Body {
			emit(c, depth+1)
		}
		if len(n.Else) > 0 {
			line(n, depth, "} else {")
			for _, c := range n.Else {
				emit(c, depth+1)
			}
		}
		if n.Tail != "" {
			line(n, depth, n.Tail)
		}
	}
	for _, n := range s.Items {
		emit(n, 0)
	}
	return sb.String(), lines
}

func cloneNodes(list []*Node) []*Node {
	out := make([]*Node, len(list))
	for i, n := range list {
		out[i] = &Node{n.Head, cloneNodes(n.Body), cloneNodes(n.Else), n.Tail}
	}
	return out
}

// drop removes nodes from a list and from what is below.
func drop(list []*Node, gone map[*Node]bool) []*Node {
	list = slices.DeleteFunc(list, func(n *Node) bool { return gone[n] })
	for _, n := range list {
		n.Body, n.Else = drop(n.Body, gone), drop(n.Else, gone)
	}
	return list
}

// Shrink makes the script smaller while fails still says that its text fails. fails must be false for a text that the checker refuses. At
// most tries texts are tried.
func (s *Script) Shrink(tries int, fails func(text string) bool) *Script {
	cur := &Script{s.Seed, cloneNodes(s.Items)}
	try := func(next *Script) bool {
		if tries <= 0 {
			return false
		}
		tries--
		if fails(next.String()) {
			cur = next
			return true
		}
		return false
	}
	for progress := true; progress && tries > 0; {
		progress = false
		// Nodes are addressed by their number in a walk, because each try works on a copy.
		for i := 0; i < cur.count(); {
			switch {
			case try(cur.without(i, false)), try(cur.without(i, true)):
				progress = true
			default:
				i++
			}
		}
		for i := 0; i < cur.count(); i++ {
			for from := 0; ; {
				next, at := cur.simpler(i, from)
				if next == nil {
					break
				}
				if try(next) {
					progress = true
				} else {
					from = at + 1
				}
			}
		}
	}
	return cur
}

func (s *Script) walk(f func(list *[]*Node, i int) bool) {
	var rec func(list *[]*Node) bool
	rec = func(list *[]*Node) bool {
		for i := 0; i < len(*list); i++ {
			n := (*list)[i]
			if !f(list, i) || !rec(&n.Body) || !rec(&n.Else) {
				return false
			}
		}
		return true
	}
	rec(&s.Items)
}

func (s *Script) count() (n int) {
	s.walk(func(*[]*Node, int) bool { n++; return true })
	return n
}

// without is a copy without node number k; with keep its body takes its place.
func (s *Script) without(k int, keep bool) *Script {
	c := &Script{s.Seed, cloneNodes(s.Items)}
	n := 0
	c.walk(func(list *[]*Node, i int) bool {
		if n++; n-1 < k {
			return true
		}
		var in []*Node
		if keep {
			in = append(slices.Clone((*list)[i].Body), (*list)[i].Else...)
		}
		*list = slices.Replace(*list, i, i+1, in...)
		return false
	})
	return c
}

// simpler is a copy in which an expression in parentheses of node number k, the first that starts at from or behind it, is replaced by a
// literal; nil when there is none.
func (s *Script) simpler(k, from int) (*Script, int) {
	c := &Script{s.Seed, cloneNodes(s.Items)}
	n, at := 0, -1
	c.walk(func(list *[]*Node, i int) bool {
		if n++; n-1 < k {
			return true
		}
		node := (*list)[i]
		for j := from; j < len(node.Head); j++ {
			end := closing(node.Head, j)
			if end < 0 || end-j <= 2 {
				continue
			}
			at = j
			node.Head = node.Head[:j] + "(1)" + node.Head[end+1:]
			return false
		}
		return false
	})
	if at < 0 {
		return nil, 0
	}
	return c, at
}

// closing is where the parenthesis at i closes, -1 when there is none at i.
func closing(s string, i int) int {
	if s[i] != '(' {
		return -1
	}
	depth, quoted := 0, false
	for j := i; j < len(s); j++ {
		switch {
		case quoted && s[j] == '\\':
			j++
		case s[j] == '"':
			quoted = !quoted
		case quoted:
		case s[j] == '(':
			depth++
		case s[j] == ')':
			if depth--; depth == 0 {
				return j
			}
		}
	}
	return -1
}
