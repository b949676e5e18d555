package lab

import (
	"context"
	"runtime"
	"sync"
)

// Outcome is one column of a [Matrix].
type Outcome struct {
	Kernel Kernel
	Result Result
	// Err is what [Run] returned.
	Err error
}

// Matrix boots every kernel with the config that configure makes for it,
// parallel guests at a time (zero means one per host CPU), and returns the
// outcomes in the order of kernels. configure is called from several
// goroutines.
func Matrix(ctx context.Context, kernels []Kernel, parallel int, configure func(Kernel) (Config, error)) []Outcome {
	if parallel <= 0 {
		parallel = runtime.NumCPU()
	}
	out := make([]Outcome, len(kernels))
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i, k := range kernels {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			out[i].Kernel = k
			c, err := configure(k)
			if err == nil {
				c.Kernel = k
				out[i].Result, err = Run(ctx, c)
			}
			out[i].Err = err
		})
	}
	all.Wait()
	return out
}
