package shell

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/runtime/value"
)

func mapCommands() []command {
	return []command{
		{name: "print", aliases: []string{"p"}, args: "[@m...] [N]", group: groupMaps, takes: "map", summary: "print maps, or the N largest entries; all maps without a name", run: (*Shell).cmdPrint},
		{name: "top", args: "@m [N]", group: groupMaps, takes: "map", summary: "the N largest entries (10), largest first, with their share", run: (*Shell).cmdTop},
		{name: "sort", args: "@m [key|value] [asc|desc]", group: groupMaps, takes: "map", summary: "print a map in another order", run: (*Shell).cmdSort},
		{name: "clear", args: "@m... | all", group: groupMaps, takes: "map", summary: "remove all entries", run: (*Shell).cmdClear},
		{name: "drop", args: "@m...", group: groupMaps, takes: "map", summary: "forget a map that no item uses, so that its name is free for another type", run: (*Shell).cmdDrop},
		{name: "maps", args: "", group: groupMaps, summary: "the maps of the session: types, entries, memory, users", run: func(sh *Shell, _ context.Context, _ string) error { return sh.listMaps() }},
		{name: "watch", aliases: []string{"w"}, args: "@m [seconds] [top N] [rate]", group: groupMaps, takes: "map", summary: "live view of a map that redraws in place; q or Ctrl-C leaves", run: (*Shell).cmdWatch},
	}
}

// userMaps lists the maps that a user knows of.
func (sh *Shell) userMaps() []string {
	var names []string
	for _, n := range sh.hub.Maps() {
		if !strings.HasPrefix(n, hiddenPrefix) {
			names = append(names, n)
		}
	}
	return names
}

// mapNames splits arguments into names of maps and the rest. Every map must exist.
func (sh *Shell) mapNames(args string) (names, rest []string, err error) {
	known := sh.userMaps()
	for _, w := range strings.FieldsFunc(args, func(r rune) bool { return r == ' ' || r == ',' }) {
		if !strings.HasPrefix(w, "@") {
			rest = append(rest, w)
			continue
		}
		if !slices.Contains(known, w) {
			return nil, nil, hintf("`\\maps` lists the maps of the session", "there is no map `%s`", w)
		}
		names = append(names, w)
	}
	return names, rest, nil
}

// oneMap is mapNames for commands of exactly one map; the only map of a session needs no name.
func (sh *Shell) oneMap(args string) (string, []string, error) {
	names, rest, err := sh.mapNames(args)
	if err != nil {
		return "", nil, err
	}
	if len(names) == 0 {
		names = sh.userMaps()
	}
	if len(names) != 1 {
		return "", nil, hintf("name one map, such as `@`", "which map?")
	}
	return names[0], rest, nil
}

func (sh *Shell) printMap(name string, top uint64) error {
	dump, err := sh.hub.Dump(name)
	if err != nil {
		return err
	}
	if dump.N == 0 {
		sh.say("%s is empty", name)
		return nil
	}
	sh.write(string(sh.hub.Values().AppendMap(nil, dump, top, 0)))
	return nil
}

func (sh *Shell) cmdPrint(_ context.Context, args string) error {
	names, rest, err := sh.mapNames(args)
	if err != nil {
		return err
	}
	top := uint64(0)
	if len(rest) > 0 {
		if top, err = strconv.ParseUint(rest[0], 10, 32); err != nil {
			return hintf("write `\\print @m 10`; an expression is evaluated without a command", "`%s` is neither a map nor a number", rest[0])
		}
	}
	if len(names) == 0 {
		names = sh.userMaps()
		if len(names) == 0 {
			sh.say("no maps yet")
		}
	}
	for _, n := range names {
		if err := sh.printMap(n, top); err != nil {
			return err
		}
	}
	return nil
}

// entry is a row of a map as text.
type entry struct {
	key, val string
	n        float64 // the value as a number
	number   bool
	hist     bool
	row      value.Row
}

// entries reads a map, sorted as print sorts it: the largest last.
func (sh *Shell) entries(name string) (list []entry, keyed bool, err error) {
	dump, err := sh.hub.Dump(name)
	if err != nil {
		return nil, false, err
	}
	for _, r := range sh.hub.Values().Rows(dump, 0, 0) {
		e := entry{row: r, val: string(value.AppendText(nil, r.Val)), hist: r.Val.Kind == value.Histogram || r.Val.Kind == value.Series}
		if dump.Key != nil {
			e.key = string(value.AppendKey(nil, r.Key))
		}
		switch r.Val.Kind {
		case value.Int:
			e.n, e.number = float64(r.Val.Int), true
		case value.Uint:
			e.n, e.number = float64(r.Val.U), true
		}
		list = append(list, e)
	}
	return list, dump.Key != nil, nil
}

func (sh *Shell) cmdTop(_ context.Context, args string) error {
	name, rest, err := sh.oneMap(args)
	if err != nil {
		return err
	}
	n := 10
	if len(rest) > 0 {
		if n, err = strconv.Atoi(rest[0]); err != nil || n < 1 {
			return hintf("write `\\top @m 10`", "`%s` is not a number of entries", rest[0])
		}
	}
	list, keyed, err := sh.entries(name)
	if err != nil {
		return err
	}
	if !keyed || len(list) > 0 && !list[0].number {
		return sh.printMap(name, uint64(n))
	}
	sh.write(topTable(name, list, n, sh.width(), nil))
	return nil
}

// topTable draws the n largest entries, largest first, with bars. rate, when given, is the change per second by key.
func topTable(name string, list []entry, n, width int, rate map[string]float64) string {
	var b strings.Builder
	total, largest := 0.0, 0.0
	for _, e := range list {
		total += max(e.n, 0)
		largest = max(largest, e.n)
	}
	keyWidth := 8
	shown := slices.Clone(list)
	slices.Reverse(shown)
	if rate != nil {
		slices.SortStableFunc(shown, func(a, b entry) int {
			switch {
			case rate[a.key] > rate[b.key]:
				return -1
			case rate[a.key] < rate[b.key]:
				return 1
			}
			return 0
		})
	}
	shown = shown[:min(n, len(shown))]
	for _, e := range shown {
		if strings.Contains(e.key, "\n") {
			return stackTable(name, shown, total)
		}
		keyWidth = max(keyWidth, len([]rune(e.key)))
	}
	keyWidth = min(keyWidth, max(width-50, 20))
	head := fmt.Sprintf("%-*s %14s %7s", keyWidth, name, "VALUE", "SHARE")
	if rate != nil {
		head += fmt.Sprintf(" %12s", "PER SECOND")
	}
	b.WriteString(head + "\n")
	for _, e := range shown {
		share := 0.0
		if total > 0 {
			share = 100 * e.n / total
		}
		line := fmt.Sprintf("%-*s %14s %6.1f%%", keyWidth, oneLine(e.key, keyWidth), e.val, share)
		if rate != nil {
			line += fmt.Sprintf(" %12.1f", rate[e.key])
		}
		if room := width - len([]rune(line)) - 2; room > 8 && largest > 0 {
			line += " " + strings.Repeat("▇", int(float64(min(room, 40))*max(e.n, 0)/largest+0.5))
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if more := len(list) - len(shown); more > 0 {
		fmt.Fprintf(&b, "... %s more\n", group(more))
	}
	return b.String()
}

// stackTable is topTable for keys of several lines.
func stackTable(name string, list []entry, total float64) string {
	var b strings.Builder
	for _, e := range list {
		share := 0.0
		if total > 0 {
			share = 100 * e.n / total
		}
		fmt.Fprintf(&b, "%s[%s]: %s (%.1f%%)\n", name, e.key, e.val, share)
	}
	return b.String()
}

func (sh *Shell) cmdSort(_ context.Context, args string) error {
	name, rest, err := sh.oneMap(args)
	if err != nil {
		return err
	}
	byKey, desc := false, false
	for _, w := range rest {
		switch w {
		case "key":
			byKey = true
		case "value":
		case "desc":
			desc = true
		case "asc":
		default:
			return hintf("write `\\sort @m key desc`", "`%s` is not one of key, value, asc, desc", w)
		}
	}
	list, keyed, err := sh.entries(name)
	if err != nil {
		return err
	}
	if !keyed {
		return sh.printMap(name, 0)
	}
	if byKey {
		slices.SortStableFunc(list, func(a, b entry) int { return compareKeys(a.row.Key, b.row.Key, a.key, b.key) })
	}
	if desc {
		slices.Reverse(list)
	}
	var b strings.Builder
	for _, e := range list {
		sep := " "
		if e.hist {
			sep = "\n"
		}
		fmt.Fprintf(&b, "%s[%s]:%s%s\n", name, e.key, sep, e.val)
	}
	sh.write(b.String())
	return nil
}

// compareKeys orders numbers as numbers and everything else as text.
func compareKeys(a, b value.V, at, bt string) int {
	switch {
	case a.Kind == value.Int && b.Kind == value.Int:
		return compare(a.Int, b.Int)
	case a.Kind == value.Uint && b.Kind == value.Uint:
		return compare(a.U, b.U)
	}
	return strings.Compare(at, bt)
}

func compare[T int64 | uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (sh *Shell) cmdClear(_ context.Context, args string) error {
	names, rest, err := sh.mapNames(args)
	if err != nil {
		return err
	}
	if len(names) == 0 && len(rest) == 1 && rest[0] == "all" {
		names, rest = sh.userMaps(), nil
	}
	if len(names) == 0 || len(rest) > 0 {
		return hintf("name maps, such as `@`, or say `all`", "which map?")
	}
	for _, n := range names {
		if err := sh.hub.Clear(n); err != nil {
			return err
		}
	}
	return nil
}

func (sh *Shell) cmdDrop(_ context.Context, args string) error {
	names, rest, err := sh.mapNames(args)
	if err != nil {
		return err
	}
	if len(names) == 0 || len(rest) > 0 {
		return hintf("name maps, such as `@`", "which map?")
	}
	for _, n := range names {
		if err := sh.hub.Drop(n); err != nil {
			return hintf("detach the items that use it first; `\\list` shows them", "%v", err)
		}
		delete(sh.prior, n)
	}
	return nil
}

func (sh *Shell) listMaps() error {
	names := sh.userMaps()
	if len(names) == 0 && len(sh.vars) == 0 {
		sh.say("no maps yet")
		return nil
	}
	var b strings.Builder
	row := "%-16s %-24s %-20s %9s %9s %10s %5s\n"
	keys, values := 24, 20
	if sh.width() < 100 { // the columns of numbers as narrow as they may be
		row = "%-12s %-20s %-13s %7s %7s %8s %5s\n"
		keys, values = 20, 13
	}
	fmt.Fprintf(&b, row, "MAP", "KEY", "VALUE", "ENTRIES", "LIMIT", "MEMORY", "ITEMS")
	for _, n := range names {
		info, err := sh.hub.Map(n)
		if err != nil {
			return err
		}
		dump, err := sh.hub.Dump(n)
		if err != nil {
			return err
		}
		key := "-"
		if info.Key != nil {
			key = info.Key.String()
		}
		fmt.Fprintf(&b, row, n, oneLine(key, keys), oneLine(info.Value.String(), values), group(dump.N), group(max(info.MaxEntries, 1)), bytesText(info.Bytes), strconv.Itoa(info.Users))
	}
	var vars []string
	for v := range sh.vars {
		vars = append(vars, v)
	}
	slices.Sort(vars)
	for _, v := range vars {
		if info, err := sh.hub.Map(hiddenPrefix + v[1:]); err == nil {
			fmt.Fprintf(&b, "%-16s %-24s %-20s\n", v, "-", info.Value.String())
		}
	}
	sh.write(b.String())
	return nil
}

// bytesText prints a size.
func bytesText(n int64) string {
	switch {
	case n <= 0:
		return "-"
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
