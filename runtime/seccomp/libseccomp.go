package seccomp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// LibraryNames reads from an installed libseccomp which calls it has names for: the names are strings in it, and no list of
// versions knows what a distribution has added. The path "" searches the usual directories.
func LibraryNames(path string) (known func(abi ABI, name string) bool, found string, err error) {
	if path == "" {
		for _, p := range []string{"/lib/*/libseccomp.so.2", "/usr/lib/*/libseccomp.so.2", "/lib64/libseccomp.so.2", "/usr/lib64/libseccomp.so.2", "/usr/lib/libseccomp.so.2"} {
			if m, _ := filepath.Glob(p); len(m) > 0 {
				path = m[0]
				break
			}
		}
		if path == "" {
			return nil, "", fmt.Errorf("libseccomp.so.2: %w", os.ErrNotExist)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	if !bytes.Contains(b, []byte("\x00openat\x00")) || !bytes.Contains(b, []byte("\x00rt_sigreturn\x00")) {
		return nil, "", fmt.Errorf("%s has no table of system calls", path)
	}
	return func(_ ABI, name string) bool { return bytes.Contains(b, []byte("\x00"+name+"\x00")) }, path, nil
}
