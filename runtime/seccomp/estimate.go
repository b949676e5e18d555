package seccomp

// Unseen estimates how many calls of the workload were not seen yet.
type Unseen struct {
	Samples int     // runs, or intervals of one run
	Once    int     // calls in exactly one sample
	Twice   int     // calls in exactly two
	Missing float64 // calls that are probably still missing, a lower bound
}

// estimate is the Chao2 estimator in its bias-corrected form: how many kinds were missed, from how many kinds were met in one
// sample and in two. It says nothing about code that no sample could have reached.
func estimate(incidence []int, samples int) Unseen {
	u := Unseen{Samples: samples}
	for _, n := range incidence {
		switch n {
		case 1:
			u.Once++
		case 2:
			u.Twice++
		}
	}
	if samples > 1 {
		m := float64(samples)
		u.Missing = (m - 1) / m * float64(u.Once*(u.Once-1)) / (2 * float64(u.Twice+1))
	}
	return u
}

// Unseen estimates over the runs of the profile; with fewer than two there is nothing to compare.
func (p *Profile) Unseen() Unseen {
	var inc []int
	for _, c := range p.Calls {
		if c.Origin == OriginRecorded {
			inc = append(inc, len(c.Runs))
		}
	}
	return estimate(inc, len(p.Runs))
}

// OnlyIn lists the recorded calls that exactly one of several runs made, by run.
func (p *Profile) OnlyIn() map[string][]*Call {
	if p.Unseen().Samples < 2 {
		return nil
	}
	out := map[string][]*Call{}
	for _, c := range p.Calls {
		if c.Origin == OriginRecorded && len(c.Runs) == 1 {
			out[c.Runs[0].Run] = append(out[c.Runs[0].Run], c)
		}
	}
	return out
}
