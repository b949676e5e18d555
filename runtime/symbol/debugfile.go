package symbol

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxMiniDebug limits what a .gnu_debugdata section may unpack to; real ones have a few megabytes.
const maxMiniDebug = 256 << 20

// DebugDirs puts directories before the one where separate debug files are usually found.
func DebugDirs(more []string) []string { return append(slices.Clone(more), "/usr/lib/debug") }

// debugFile finds the separate debug file: by build id, then by the name and checksum in .gnu_debuglink. It returns nil
// when there is none or it does not belong to this image.
func (f *File) debugFile() *File {
	if f.debugs || f.opts.NoDebugFiles {
		return f.debug
	}
	f.debugs = true
	dirs := f.opts.DebugDirs
	if dirs == nil {
		dirs = DebugDirs(nil)
	}
	opts := f.opts
	opts.NoDebugFiles = true // a debug file has no debug file
	open := func(path string) *File {
		d, err := Open(path, opts)
		if err != nil {
			return nil
		}
		if d.elf.Machine != f.elf.Machine || d.elf.Class != f.elf.Class {
			d.Close()
			return nil
		}
		return d
	}
	id := f.BuildID()
	if len(id) > 1 {
		name := hex.EncodeToString(id)
		for _, dir := range dirs {
			if d := open(filepath.Join(dir, ".build-id", name[:2], name[2:]+".debug")); d != nil {
				if bytes.Equal(d.BuildID(), id) {
					f.debug = d
					return d
				}
				d.Close()
			}
		}
	}
	link, crc, ok := f.debugLink()
	if !ok {
		return nil
	}
	// The link is relative to where the file really is, not to a symbolic link that leads there.
	places := []string{filepath.Dir(f.path)}
	if real, err := f.opts.Root.Resolve(f.path); err == nil {
		if dir := filepath.Dir(strings.TrimPrefix(real, f.opts.Root.Dir)); dir != places[0] {
			places = append(places, dir)
		}
	}
	for _, here := range places {
		candidates := []string{filepath.Join(here, link), filepath.Join(here, ".debug", link)}
		for _, dir := range dirs {
			candidates = append(candidates, filepath.Join(dir, here, link))
		}
		for _, path := range candidates {
			if path == f.path {
				continue
			}
			d := open(path)
			if d == nil {
				continue
			}
			if (len(id) > 0 && bytes.Equal(d.BuildID(), id)) || checksum(d) == crc {
				f.debug = d
				return d
			}
			d.Close()
		}
	}
	return nil
}

// debugLink reads the name and the CRC-32 of the debug file from .gnu_debuglink.
func (f *File) debugLink() (name string, crc uint32, ok bool) {
	data, err := f.sectionData(".gnu_debuglink")
	if err != nil {
		return "", 0, false
	}
	end := bytes.IndexByte(data, 0)
	if end <= 0 {
		return "", 0, false
	}
	at := (end + 4) &^ 3
	if at+4 > len(data) {
		return "", 0, false
	}
	name = string(data[:end])
	if strings.ContainsRune(name, '/') {
		return "", 0, false // the format has plain names; a path could lead anywhere
	}
	return name, f.elf.ByteOrder.Uint32(data[at:]), true
}

func checksum(f *File) uint32 {
	h := crc32.NewIEEE()
	if _, err := io.Copy(h, io.NewSectionReader(f.reader, 0, f.size)); err != nil {
		return 0
	}
	return h.Sum32()
}

// miniDebug unpacks .gnu_debugdata, a compressed ELF image with the symbols of functions that are not exported, which
// Fedora and its relatives put into every binary.
func (f *File) miniDebug() *File {
	if f.minis || f.opts.NoDebugFiles {
		return f.mini
	}
	f.minis = true
	data, err := f.sectionData(".gnu_debugdata")
	if err != nil || len(data) == 0 {
		return nil
	}
	r, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	image, err := io.ReadAll(io.LimitReader(r, maxMiniDebug))
	if err != nil {
		return nil
	}
	opts := f.opts
	opts.NoDebugFiles = true
	m, err := NewFile(bytes.NewReader(image), int64(len(image)), f.path+" (.gnu_debugdata)", opts)
	if err != nil {
		return nil
	}
	f.mini = m
	return m
}

// DebugPath is the path of the separate debug file in use, "" when there is none.
func (f *File) DebugPath() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.debugFile(); d != nil {
		return d.path
	}
	return ""
}
