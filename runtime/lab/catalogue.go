package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Catalogue finds and fetches kernels. Its methods may be called from several
// goroutines and processes.
type Catalogue struct {
	// Dir is the cache folder.
	Dir string
	// Mirror is the base address of a Debian archive; empty means what apt is
	// configured with.
	Mirror string
	// Refresh fetches again what the cache has.
	Refresh bool
	// Log, when set, is told about downloads.
	Log func(string)
}

// NewCatalogue returns a catalogue with the default cache.
func NewCatalogue() *Catalogue { return &Catalogue{Dir: DefaultCacheDir()} }

// DefaultCacheDir returns $XDG_CACHE_HOME/sonde, for root without that
// /var/cache/sonde, for others the user's cache folder.
func DefaultCacheDir() string {
	if d := os.Getenv("XDG_CACHE_HOME"); d != "" {
		return filepath.Join(d, "sonde")
	}
	if os.Geteuid() == 0 {
		return "/var/cache/sonde"
	}
	d, err := os.UserCacheDir()
	if err != nil {
		d = os.TempDir()
	}
	return filepath.Join(d, "sonde")
}

// Cached returns the kernel that Fetch would return without a download.
func (c *Catalogue) Cached(spec string, arch Arch) (Kernel, bool) {
	e, ok := findEntry(spec)
	if !ok {
		return Kernel{}, false
	}
	k, err := readKernel(c.kernelDir(e.name, arch))
	return k, err == nil
}

// Fetch returns the kernel for a spec: a catalogue name ("6.12", "newest"), a
// release ("debian:12"), or the path of a vmlinuz or of a package with one.
// What the cache does not have is downloaded, once even when several processes
// ask; a package is unpacked there once.
func (c *Catalogue) Fetch(ctx context.Context, spec string, arch Arch) (Kernel, error) {
	if strings.ContainsRune(spec, '/') {
		if strings.HasSuffix(spec, ".deb") {
			return c.unpack(ctx, spec)
		}
		return KernelFromFile(spec)
	}
	e, ok := findEntry(spec)
	if !ok {
		return Kernel{}, fmt.Errorf("lab: kernel `%s`: %w: use one of %s, or the path of a vmlinuz or of its package",
			spec, ErrNoKernel, strings.Join(Names(), ", "))
	}
	if _, err := machineFor(arch); err != nil {
		return Kernel{}, err
	}
	dir := c.kernelDir(e.name, arch)
	started := time.Now()
	if !c.Refresh {
		if k, err := readKernel(dir); err == nil {
			return k, nil
		}
	}
	unlock, err := lockEntry(ctx, dir)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	// Someone else may have fetched it while this process waited.
	if k, err := readKernel(dir); err == nil && (!c.Refresh || fetchedSince(dir, started)) {
		return k, nil
	}
	k, err := c.fetch(ctx, e, arch, dir)
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: kernel %s for %s: %w", e.name, arch, err)
	}
	return k, nil
}

func (c *Catalogue) kernelDir(name string, arch Arch) string {
	return filepath.Join(c.Dir, "kernels", string(arch), name)
}

// Say passes a line to Log.
func (c *Catalogue) Say(text string) { c.log("%s", text) }

func (c *Catalogue) log(format string, args ...any) {
	if c.Log != nil {
		c.Log(fmt.Sprintf(format, args...))
	}
}

// lockEntry makes this process the only one that changes an entry of the cache, whose parent is made where it is missing.
func lockEntry(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("lab: cache: %w", err)
	}
	return lockFile(ctx, dir+".lock")
}

func fetchedSince(dir string, t time.Time) bool {
	st, err := os.Stat(filepath.Join(dir, "kernel.json"))
	return err == nil && st.ModTime().After(t)
}

func readKernel(dir string) (Kernel, error) {
	var k Kernel
	b, err := os.ReadFile(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k, err
	}
	k.Image = filepath.Join(dir, "vmlinuz")
	_, err = os.Stat(k.Image)
	return k, err
}

// fetch tries the suites of e until one has the kernel.
func (c *Catalogue) fetch(ctx context.Context, e entry, arch Arch, dir string) (k Kernel, err error) {
	err = c.eachArchive(ctx, e, func(s suite, uri string) (err error) {
		k, err = c.fetchFrom(ctx, e, s, uri, arch, dir)
		return err
	})
	return k, err
}

// eachArchive calls try for the suites of e in the archives that may have them, until it succeeds.
func (c *Catalogue) eachArchive(ctx context.Context, e entry, try func(s suite, uri string) error) error {
	var failures []error
	for _, s := range e.suites {
		uris := []string{c.Mirror}
		if c.Mirror == "" {
			var err error
			if uris, err = archiveURIs(ctx, s.security); err != nil {
				failures = append(failures, err)
				continue
			}
		}
		for _, uri := range uris {
			err := try(s, uri)
			if err == nil {
				return nil
			}
			failures = append(failures, fmt.Errorf("suite %s: %w", s.name, err))
			if ctx.Err() != nil {
				return errors.Join(failures...)
			}
		}
	}
	return errors.Join(failures...)
}

func (c *Catalogue) fetchFrom(ctx context.Context, e entry, s suite, uri string, arch Arch, dir string) (Kernel, error) {
	work, err := os.MkdirTemp(filepath.Dir(dir), "."+e.name+"-")
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(work)
	c.log("reading the index of %s for %s", s.name, arch)
	a, err := newApt(ctx, work, uri, s.name, arch)
	if err != nil {
		return Kernel{}, err
	}
	p, err := a.findImage(ctx)
	if err != nil {
		return Kernel{}, err
	}
	c.log("fetching %s %s", p.name, p.version)
	deb, err := a.download(ctx, p)
	if err != nil {
		return Kernel{}, err
	}
	done := filepath.Join(work, "done")
	if err := os.Mkdir(done, 0o755); err != nil {
		return Kernel{}, err
	}
	k := Kernel{Name: e.name, Arch: arch, Package: p.name, Version: p.version}
	if k.Release, err = extractImage(deb, filepath.Join(done, "vmlinuz")); err != nil {
		return Kernel{}, fmt.Errorf("package %s: %w", p.name, err)
	}
	b, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return Kernel{}, err
	}
	if err := os.WriteFile(filepath.Join(done, "kernel.json"), b, 0o644); err != nil {
		return Kernel{}, err
	}
	// The old folder, when there is one, goes away with work.
	if err := os.Rename(dir, filepath.Join(work, "old")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Kernel{}, err
	}
	if err := os.Rename(done, dir); err != nil {
		return Kernel{}, err
	}
	return readKernel(dir)
}

// unpack takes the kernel of a package file, and its modules when it has them, into the cache. What is unpacked is found again by its checksum.
func (c *Catalogue) unpack(ctx context.Context, deb string) (Kernel, error) {
	sum, err := fileSHA256(deb)
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: %w", err)
	}
	dir := filepath.Join(c.Dir, "kernels", "packages", sum[:16])
	if k, err := readKernel(dir); err == nil {
		return k, nil
	}
	unlock, err := lockEntry(ctx, dir)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if k, err := readKernel(dir); err == nil {
		return k, nil
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: cache: %w", err)
	}
	defer os.RemoveAll(work)
	release, err := extractImage(deb, filepath.Join(work, "vmlinuz"))
	if err != nil {
		return Kernel{}, fmt.Errorf("lab: %s: %w", deb, err)
	}
	k, err := KernelFromFile(filepath.Join(work, "vmlinuz"))
	if err != nil {
		return Kernel{}, err
	}
	k.Name, k.Release = strings.TrimSuffix(filepath.Base(deb), ".deb"), release
	k.Name, _, _ = strings.Cut(k.Name, "_") // without version and architecture
	if err := repackModules(deb, filepath.Join(work, modulesFile)); errors.Is(err, ErrNoModule) {
		_ = os.Remove(filepath.Join(work, modulesFile)) // they are in a package of their own
	} else if err != nil {
		return Kernel{}, fmt.Errorf("lab: %s: %w", deb, err)
	}
	b, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return Kernel{}, err
	}
	if err := os.WriteFile(filepath.Join(work, "kernel.json"), b, 0o644); err != nil {
		return Kernel{}, fmt.Errorf("lab: cache: %w", err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("lab: cache: %w", err)
	}
	if err := os.Rename(work, dir); err != nil {
		return Kernel{}, fmt.Errorf("lab: cache: %w", err)
	}
	return readKernel(dir)
}

// extractImage writes the kernel image of a package to dst and returns the
// release that its name carries.
func extractImage(deb, dst string) (release string, err error) {
	in, err := os.Open(deb)
	if err != nil {
		return "", err
	}
	defer in.Close()
	var image []byte
	err = extractDeb(in, isImage, func(name string, r io.Reader) (bool, error) {
		if image, err = io.ReadAll(r); err != nil {
			return false, err
		}
		release = strings.TrimPrefix(path.Base(name), "vmlinuz-")
		if release == "vmlinuz" {
			release = path.Base(path.Dir(name))
		}
		return true, nil
	})
	if err != nil {
		return "", err
	}
	if image == nil {
		return "", errors.New("holds no kernel image")
	}
	if image, err = unwrapImage(image); err != nil {
		return "", err
	}
	if _, _, err := identify(image); err != nil {
		return "", err
	}
	return release, os.WriteFile(dst, image, 0o644)
}

// isImage knows both places: boot/vmlinuz-RELEASE and
// usr/lib/modules/RELEASE/vmlinuz.
func isImage(name string) bool {
	return strings.HasPrefix(name, "boot/vmlinuz-") ||
		strings.HasPrefix(name, "usr/lib/modules/") && path.Base(name) == "vmlinuz"
}

// unwrapImage takes off the outer compression that arm64 images have and that
// QEMU cannot always undo: plain gzip, or the self-extracting EFI form
// (drivers/firmware/efi/libstub/zboot-header.S).
func unwrapImage(image []byte) ([]byte, error) {
	payload := image
	switch {
	case len(image) > 64 && string(image[:2]) == "MZ" && string(image[4:8]) == "zimg":
		off := uint64(le32(image[8:]))
		size := uint64(le32(image[12:]))
		if off+size > uint64(len(image)) {
			return nil, errors.New("kernel image: broken EFI header")
		}
		payload = image[off : off+size]
	case bytes.HasPrefix(image, []byte{0x1f, 0x8b}):
	default:
		return image, nil
	}
	plain, done, err := decompress(bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	defer done()
	out, err := io.ReadAll(plain)
	if err != nil {
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	return out, nil
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// lockFile waits for an exclusive lock, which the kernel releases with the
// process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lab: cache: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lab: lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lab: waiting for %s: %w", path, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
