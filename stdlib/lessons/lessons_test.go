package lessons

import "testing"

func TestAll(t *testing.T) {
	list, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 12 {
		t.Errorf("%d lessons", len(list))
	}
	for _, l := range list {
		if len(l.Before) > 600 || len(l.After) > 600 {
			t.Errorf("lesson %s is not short", l.Name)
		}
	}
}

func TestParseMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"no parts":     "title: x\n",
		"unknown key":  "title: x\ncolour: y\n---\na\n---\nb\n",
		"no check":     "title: x\ntry: pid\nhint: h\n---\na\n---\nb\n",
		"no such line": "title: x\nnothing\n---\na\n---\nb\n",
	} {
		if _, err := Parse("test", text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
