package check

import (
	"sort"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/source"
)

func itoa(n int) string { return strconv.Itoa(n) }

// DefaultConfig returns the config that is in force when nothing is set.
func DefaultConfig() *Config {
	return &Config{
		MaxMapKeys: 4096, MaxStrlen: 1024, MaxProbes: 1024, MaxBPFProgs: 1024, MaxCatBytes: 10240, LogSize: 1000000,
		OnStackLimit: 32, StrTruncTrailer: "..", MissingProbes: "error", PrintMapsOnExit: true, CppDemangle: true,
		License:  "GPL",
		Unstable: map[string]string{}, Extra: map[string]string{}, Set: map[string]bool{},
	}
}

// canonicalKey is the name of a config key without the prefix of its environment variable, in lower case.
func canonicalKey(name string) string {
	name = strings.ToLower(name)
	for _, prefix := range []string{"bpftrace_", "sonde_"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest
		}
	}
	return name
}

// configure applies the config blocks, then the environment, which wins.
func (c *checker) configure(blocks []*ast.Config) {
	for _, b := range blocks {
		for _, s := range b.Settings {
			sp := source.Span{Start: s.NameSp.Start, End: max(s.NameSp.End, s.ValueSp.End)}
			key := c.u.ConfigKey(canonicalKey(s.Name))
			if key == nil {
				d := c.diags.Errorf(CodeConfigKey, sp, "%s: not a known configuration option", s.Name)
				didYouMean(d, canonicalKey(s.Name), c.u.Names("config"))
				continue
			}
			if key.NoEffect {
				c.diags.Warnf(CodeDeprecated, sp, "%s is deprecated and has no effect", s.Name)
			}
			c.setConfig(key, s.Value, sp)
		}
	}
	names := make([]string, 0, len(c.env.Environ))
	for n := range c.env.Environ {
		names = append(names, n)
	}
	sort.Strings(names) // a variable of ours wins over bpftrace's: BPFTRACE_ sorts before SONDE_
	for _, n := range names {
		if n != strings.ToUpper(n) {
			continue
		}
		if key := c.u.ConfigKey(canonicalKey(n)); key != nil {
			c.setConfig(key, c.env.Environ[n], source.Span{})
		}
	}
}

func (c *checker) setConfig(key *ConfigKey, val string, sp source.Span) {
	if err := key.Set(c.info.Config, val); err != nil {
		text := err.Error()
		if key.Name != "license" {
			text = key.Name + ": " + text
		}
		c.diags.Errorf(CodeConfigValue, sp, "%s", text)
		return
	}
	c.info.Config.Set[key.Name] = true
}

// unstable reports the use of a feature that bpftrace calls unstable, as the config wants it.
func (c *checker) unstable(key string, sp source.Span, what string) {
	state := c.info.Config.Unstable[key]
	if state == "" && key == "unstable_typeinfo" { // the one that is off until it is asked for
		state = "error"
	}
	switch state {
	case "error":
		c.diags.Errorf(CodeUnstable, sp, "%s feature is not enabled by default. To enable this unstable feature, set the config flag to enable. %s=enable", what, key)
	case "enable":
	default:
		if !c.warned[key] {
			c.warned[key] = true
			c.diags.Warnf(CodeUnstableNotice, source.Span{}, "Script is using an unstable feature: %s. To prevent this warning you must explicitly enable it in the config e.g. %s=enable", what, key)
		}
	}
}
