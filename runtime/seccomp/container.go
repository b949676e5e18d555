package seccomp

import "errors"

// Container is an OCI bundle that a runtime starts.
type Container struct {
	Runtime string // runc, crun, or a path
	Bundle  string
	ID      string
}

type created struct{}

func (c *created) remove() error { return nil }

func (r *Recorder) startContainer() error {
	return errors.New("recording a container from its start is not possible yet; record its cgroup")
}
