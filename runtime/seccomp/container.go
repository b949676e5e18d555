package seccomp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// container is one that an OCI runtime made for a recording: parked between create and start, when its first process exists and
// waits, so that nothing it does afterwards is missed.
type container struct {
	runtime []string // the runtime and its options, without a command
	id      string
	info    RuntimeInfo
	create  *exec.Cmd // whose output the container writes to
}

// containerTimeout is how long a command of the runtime may take.
const containerTimeout = time.Minute

// createContainer runs a create command, such as runc create --bundle DIR ID, and finds the container's first process.
func createContainer(o *Options) (c *container, pid int, err error) {
	at := slices.Index(o.Create, "create")
	if at < 1 || at == len(o.Create)-1 || strings.HasPrefix(o.Create[len(o.Create)-1], "-") {
		return nil, 0, fmt.Errorf("`%s` is not a command that creates a container; it looks like `runc create --bundle DIR ID`", strings.Join(o.Create, " "))
	}
	c = &container{runtime: o.Create[:at], id: o.Create[len(o.Create)-1]}
	c.info.Name, c.info.Version = c.version()
	c.create = exec.Command(o.Create[0], o.Create[1:]...)
	c.create.Stdin, c.create.Stdout, c.create.Stderr = o.Stdin, o.Stdout, o.Stderr
	if err := c.create.Start(); err != nil {
		return nil, 0, &CommandError{o.Create[0], err}
	}
	// Not Wait: it also waits for the output to end, which the container has now.
	state, err := c.create.Process.Wait()
	if err != nil || !state.Success() {
		return nil, 0, &CommandError{strings.Join(o.Create, " "), fmt.Errorf("the container was not created: %w", errors.Join(err, exitError(state)))}
	}
	out, err := c.command("state", c.id)
	if err != nil {
		return c, 0, errors.Join(err, c.remove())
	}
	var s struct {
		PID    int    `json:"pid"`
		Status string `json:"status"`
		Bundle string `json:"bundle"`
	}
	if err := json.Unmarshal(out, &s); err != nil || s.PID <= 0 || s.Status != "created" {
		return c, 0, errors.Join(fmt.Errorf("container %s: the runtime says %s", c.id, strings.TrimSpace(string(out))), c.remove())
	}
	c.info.Starts = 1
	c.info.NoNewPrivileges, err = noNewPrivileges(filepath.Join(s.Bundle, "config.json"))
	if err != nil {
		return c, 0, errors.Join(err, c.remove())
	}
	return c, s.PID, nil
}

func exitError(s *os.ProcessState) error {
	if s == nil {
		return nil
	}
	return errors.New(s.String())
}

// noNewPrivileges reads the setting of a bundle that decides when the runtime installs a filter.
func noNewPrivileges(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("the container's configuration: %w", err)
	}
	var config struct {
		Process struct {
			NoNewPrivileges bool `json:"noNewPrivileges"`
		} `json:"process"`
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return config.Process.NoNewPrivileges, nil
}

// version asks the runtime what it is: "runc version 1.1.5".
func (c *container) version() (name, version string) {
	out, err := c.command("--version")
	if f := strings.Fields(string(out)); err == nil && len(f) >= 3 && f[1] == "version" {
		return f[0], f[2]
	}
	return filepath.Base(c.runtime[0]), ""
}

// command runs a command of the runtime and gives what it prints.
func (c *container) command(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), containerTimeout)
	defer cancel()
	argv := append(slices.Clone(c.runtime), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(diag.String()))
	}
	return out.Bytes(), nil
}

// start lets the parked process go on.
func (c *container) start() error {
	_, err := c.command("start", c.id)
	return err
}

// remove ends the container and forgets it.
func (c *container) remove() error {
	_, err := c.command("delete", "--force", c.id)
	_ = c.create.Wait() // it was waited for; what is left is its output
	return err
}

// park creates the container, follows its first process, and starts it.
func (r *Recorder) park() error {
	c, pid, err := createContainer(&r.opts)
	if err != nil {
		return err
	}
	r.container = c
	known := map[int]bool{}
	for fresh := -1; fresh != 0; {
		fresh = 0
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("container %s: %w", c.id, err)
		}
		for _, e := range threads {
			var tid int
			if _, err := fmt.Sscan(e.Name(), &tid); err != nil || known[tid] {
				continue
			}
			known[tid] = true
			fresh++
			// What it calls until its execve is the runtime's own.
			if err := r.follow(tid, slotNone, phaseUnknown, 1); err != nil {
				return err
			}
		}
	}
	return c.start()
}

// originOf tells whose a call is: without a container, everything is the workload's.
func (r *Recorder) originOf(k callKey, name string) Origin {
	if r.container != nil && k.slot == slotNone && name != "execve" && name != "execveat" {
		return OriginRuntime
	}
	return OriginRecorded
}
