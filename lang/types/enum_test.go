package types

import "testing"

func TestEnumText(t *testing.T) {
	open := &EnumDef{Bits: true, Choice: 3, Values: []EnumValue{{"RDONLY", 0}, {"WRONLY", 1}, {"RDWR", 2}, {"SYNC", 0o4010000}, {"CREAT", 0o100}, {"DSYNC", 0o10000}}}
	prot := &EnumDef{Bits: true, Values: []EnumValue{{"NONE", 0}, {"READ", 1}, {"WRITE", 2}}}
	bare := &EnumDef{Bits: true, Values: []EnumValue{{"A", 4}}}
	at := &EnumDef{Values: []EnumValue{{"AT_FDCWD", -100}}}
	for _, c := range []struct {
		what string
		def  *EnumDef
		v    int64
		want string
	}{
		{"a choice that is zero", open, 0, "RDONLY"},
		{"a choice with flags", open, 0o101, "WRONLY|CREAT"},
		{"a name of several bits before those of its parts", open, 0o4010002, "RDWR|SYNC"},
		{"a part of a name of several bits", open, 0o10000, "RDONLY|DSYNC"},
		{"a choice without a name", open, 3, "0x3"},
		{"bits without a name", open, 0o100 | 1<<30, "RDONLY|CREAT|0x40000000"},
		{"no bits, with a name", prot, 0, "NONE"},
		{"no bits, without a name", bare, 0, "0"},
		{"a negative value", at, -100, "AT_FDCWD"},
		{"a value without a name", at, 3, "3"},
		{"octal", &EnumDef{Base: 8}, 0o644, "0644"},
		{"octal zero", &EnumDef{Base: 8}, 0, "0"},
		{"hexadecimal", &EnumDef{Base: 16}, 0x5401, "0x5401"},
	} {
		if got := c.def.Text(c.v); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
