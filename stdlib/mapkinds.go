package stdlib

import "github.com/sonde-sh/sonde/lang/check"

func mapKinds() []MapKindEntry {
	return []MapKindEntry{
		{Kind: check.MapKind{Name: "hash"}, Doc: Doc{
			Group: "map kind", Summary: "hash table shared by all CPUs",
			Text:    "The kind of every map that holds plain values. Updates are refused, and counted, once the declared number of entries is reached.",
			Example: "let @a = hash(100);\nBEGIN { @a[1] = 1; }",
		}},
		{Kind: check.MapKind{Name: "lruhash", LRU: true}, Doc: Doc{
			Group: "map kind", Summary: "hash table that drops the least recently used entries when it is full",
			Text:    "A full map takes new entries and drops old ones instead of refusing. Which ones go is an approximation of the kernel: entries may disappear before the map is quite full.",
			Example: "let @recent = lruhash(1000);\nBEGIN { @recent[pid] = nsecs; }",
		}},
		{Kind: check.MapKind{Name: "percpuhash", PerCPU: true}, Doc: Doc{
			Group: "map kind", Summary: "hash table with one value per CPU, for aggregations",
			Text:    "The kind of every map that holds an aggregation. CPUs update their own value without disturbing each other; user space adds them up.",
			Example: "let @n = percpuhash(100);\nBEGIN { @n[1] = count(); }",
		}},
		{Kind: check.MapKind{Name: "percpulruhash", PerCPU: true, LRU: true}, Doc: Doc{
			Group: "map kind", Summary: "per-CPU hash table that drops the least recently used entries",
			Text:    "Like `percpuhash`, but a full map drops old entries instead of refusing new ones.",
			Example: "let @n = percpulruhash(100);\nBEGIN { @n[1] = count(); }",
		}},
	}
}
