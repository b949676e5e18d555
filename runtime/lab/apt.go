package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// apt drives the machine's own package client in a folder of its own, for one
// suite and one architecture that the machine itself need not have. The
// client brings what is configured here (mirror, proxy, credentials) and
// checks signatures; nothing of the machine's package state is touched.
type apt struct {
	dir   string
	arch  Arch
	suite string
}

// archiveURIs returns the base addresses of the archives that this machine's
// apt is configured with, those of the distribution itself first.
func archiveURIs(ctx context.Context, security bool) ([]string, error) {
	out, err := command(ctx, "", "apt-get", "indextargets", "--format",
		"$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	uris := pickURIs(string(out), security)
	if len(uris) == 0 {
		return nil, errors.New("apt is configured with no Debian archive: give a mirror or a kernel file")
	}
	return uris, nil
}

func pickURIs(targets string, security bool) []string {
	var own, others []string
	for line := range strings.Lines(targets) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 || f[2] != "main" {
			continue
		}
		name := f[1]
		isSecurity := strings.HasSuffix(name, "-security") || strings.HasSuffix(name, "/updates")
		base, _, _ := strings.Cut(strings.ReplaceAll(name, "/", "-"), "-")
		if isSecurity != security || !isSuite(base) {
			continue
		}
		list := &others
		if f[3] == "Debian" {
			list = &own
		}
		if !slices.Contains(*list, f[0]) {
			*list = append(*list, f[0])
		}
	}
	for _, u := range others {
		if !slices.Contains(own, u) {
			own = append(own, u)
		}
	}
	return own
}

func isSuite(name string) bool {
	return slices.Contains([]string{
		"bullseye", "bookworm", "trixie", "forky", "duke", "sid",
		"oldoldstable", "oldstable", "stable", "testing", "unstable",
	}, name)
}

// newApt prepares dir for a suite at uri and loads its index.
func newApt(ctx context.Context, dir, uri, suite string, arch Arch) (*apt, error) {
	for _, d := range []string{"etc/preferences.d", "state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	options := "arch=" + string(arch)
	// The distribution's keys, wherever the machine trusts them by default.
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err == nil {
		options += " signed-by=" + keyring
	}
	source := fmt.Sprintf("deb [%s] %s %s main\n", options, uri, suite)
	if err := os.WriteFile(filepath.Join(dir, "etc/sources.list"), []byte(source), 0o644); err != nil {
		return nil, err
	}
	a := &apt{dir: dir, arch: arch, suite: suite}
	if _, err := a.run(ctx, "apt-get", "update", "--error-on=any"); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *apt) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	options := []string{
		"Dir::Etc=" + a.dir + "/etc",
		"Dir::Etc::sourcelist=" + a.dir + "/etc/sources.list",
		"Dir::Etc::sourceparts=-",
		"Dir::State=" + a.dir + "/state",
		"Dir::State::status=/dev/null",
		"Dir::Cache=" + a.dir + "/cache",
		"APT::Architecture=" + string(a.arch),
		"APT::Architectures=" + string(a.arch),
		"Acquire::Languages=none",
		"Acquire::Retries=3",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled=false",
		"Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false",
	}
	if os.Geteuid() == 0 {
		// The unprivileged user that apt would download as cannot reach the
		// cache; the files are checked against the signed index either way.
		options = append(options, "APT::Sandbox::User=root")
	}
	var all []string
	for _, o := range options {
		all = append(all, "-o", o)
	}
	return command(ctx, a.dir, program, append(all, args...)...)
}

// command runs a program and returns its output; the error has its last words.
func command(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, &MissingError{Program: program, Package: "apt"}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, lastLines(complaint.String(), 2))
	}
	return out.Bytes(), nil
}

// pkg is what the index says of a package.
type pkg struct {
	name, version, sha256 string
	depends               []string
}

// show returns the index entry of a package.
func (a *apt) show(ctx context.Context, name string) (pkg, error) {
	out, err := a.run(ctx, "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return pkg{}, err
	}
	stanzas, err := parseStanzas(bytes.NewReader(out))
	if err != nil {
		return pkg{}, err
	}
	for _, s := range stanzas {
		if s["Package"] == name {
			return pkg{name: name, version: s["Version"], sha256: s["SHA256"], depends: parseDepends(s["Depends"])}, nil
		}
	}
	return pkg{}, fmt.Errorf("package %s: %w in suite %s", name, ErrNoKernel, a.suite)
}

// findImage follows the cloud kernel's meta package to the package that holds
// the image: newer releases split it from the package that names it.
func (a *apt) findImage(ctx context.Context) (pkg, error) {
	name := "linux-image-cloud-" + string(a.arch)
	for range 4 {
		p, err := a.show(ctx, name)
		if err != nil {
			return pkg{}, err
		}
		next := imageDependency(p)
		if next == "" {
			return p, nil
		}
		name = next
	}
	return pkg{}, fmt.Errorf("package %s: too many steps to its image", name)
}

func imageDependency(p pkg) string {
	for _, prefix := range []string{"linux-binary-", "linux-image-"} {
		for _, d := range p.depends {
			if strings.HasPrefix(d, prefix) && d != p.name {
				return d
			}
		}
	}
	return ""
}

// download fetches a package into the folder and checks it against the index.
func (a *apt) download(ctx context.Context, p pkg) (string, error) {
	if _, err := a.run(ctx, "apt-get", "download", p.name+"="+p.version); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(a.dir, p.name+"_*.deb"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("package %s: downloaded %d files", p.name, len(files))
	}
	sum, err := fileSHA256(files[0])
	if err != nil {
		return "", err
	}
	if sum != p.sha256 {
		return "", fmt.Errorf("package %s: SHA256 is %s, the index says `%s`", p.name, sum, p.sha256)
	}
	return files[0], nil
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// parseStanzas reads the paragraphs of a package index (deb-control(5)).
// Continuation lines are joined with newlines.
func parseStanzas(r io.Reader) ([]map[string]string, error) {
	var all []map[string]string
	var current map[string]string
	var key string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		line := s.Text()
		switch {
		case strings.TrimSpace(line) == "":
			current, key = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if key == "" {
				return nil, fmt.Errorf("index: continuation without a field: %q", line)
			}
			current[key] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("index: no field in %q", line)
			}
			if current == nil {
				current = map[string]string{}
				all = append(all, current)
			}
			key = name
			current[key] = strings.TrimSpace(value)
		}
	}
	return all, s.Err()
}

// parseDepends returns the names of a dependency list, of alternatives the
// first.
func parseDepends(list string) []string {
	var names []string
	for d := range strings.SplitSeq(list, ",") {
		d, _, _ = strings.Cut(d, "|")
		d, _, _ = strings.Cut(strings.TrimSpace(d), " ")
		d, _, _ = strings.Cut(d, ":")
		if d != "" {
			names = append(names, d)
		}
	}
	return names
}
