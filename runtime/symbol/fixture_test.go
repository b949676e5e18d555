package symbol

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tool skips a test when a program that builds or inspects fixtures is not installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s", name)
	}
	return path
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// build compiles source text and returns the path of the result.
func build(t testing.TB, compiler, file, source string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, file)
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, strings.TrimSuffix(file, filepath.Ext(file)))
	run(t, compiler, append(args, "-o", out, src)...)
	return out
}

const cSource = `#include <stdio.h>
#include <stdint.h>
#include <unistd.h>

struct point { int x, y; };
enum color { RED, GREEN = 5 };
typedef unsigned long word;
int counter = 7;
long zeroed[100];

static inline __attribute__((always_inline)) int doubled(int v)
{
	return v * 2 + counter;
}

static __attribute__((noinline)) int helper(int a)
{
	return a + counter;
}

__attribute__((noipa)) int visible(int a, const char *name, struct point *p, word w, enum color c)
{
	int r = doubled(a);
	zeroed[3] += r;
	if (p)
		p->x = r;
	return helper(r) + (name ? name[0] : 0) + (int)w + (int)c;
}

__attribute__((noipa)) double mixed(double d, uint8_t b, struct point by_value, int (*cb)(const char *, ...), const volatile int *cv, char text[8], ...)
{
	return d + b + by_value.x + (cb != 0) + *cv + text[0];
}

int main(int argc, char **argv)
{
	struct point p = {1, 2};
	int n = 3;
	char text[8] = "x";
	printf("%p %p %p %p\n", (void *)&visible, (void *)&helper, (void *)&counter, (void *)&zeroed[3]);
	fflush(stdout);
	int r = visible(argc, argv[0], &p, 4, GREEN) + (int)mixed(1.5, 2, p, printf, &n, text);
	char c;
	if (read(0, &c, 1) < 0)
		return 1;
	return r & 0;
}
`

// nm returns the text symbols of a file as nm prints them.
func nm(t *testing.T, path string, args ...string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	lines := bufio.NewScanner(strings.NewReader(run(t, "nm", append(args, path)...)))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || !strings.ContainsAny(f[1], "tTwWiI") {
			continue
		}
		name, _, _ := strings.Cut(f[2], "@")
		addr, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = addr
	}
	return out
}

func mustOpen(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
