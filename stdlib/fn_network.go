package stdlib

import (
	"net/netip"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func networkFuncs() []Builtin {
	return []Builtin{
		{
			Name: "ntop", Doc: Doc{
				Group: "network", Summary: "address of a host as text",
				Text:    "An IPv4 address from an integer or 4 bytes, an IPv6 address from 16 bytes. The address family (AF_INET, AF_INET6) may be given first.",
				Example: "BEGIN { print(ntop(0x0100007f)); }", SeeAlso: []string{"pton"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("family or address", check.AnyArg), opt("address", check.AnyArg)), Result: ntopResult},
		},
		{
			Name: "pton", Doc: Doc{
				Group: "network", Summary: "bytes of a host's address",
				Text:    "The 4 or 16 bytes of an address that is written as a literal, in network order; found while compiling. Cast it to an integer to compare it.",
				Example: "BEGIN { print((uint32)pton(\"127.0.0.1\")); }", SeeAlso: []string{"ntop"},
			},
			Func: &check.Func{MustUse: true, Params: params(check.Param{Name: "address", Class: check.StrLiteral, NotLiteral: "pton() expects an string literal at the first argument"}), Result: ptonResult},
		},
		{
			Name: "macaddr", Doc: Doc{
				Group: "network", Summary: "hardware address as text",
				Text:    "Reads 6 bytes and prints them as `18:C0:4D:08:2E:BB`.",
				Example: "fentry:dev_queue_xmit { printf(\"%s\\n\", macaddr(args.skb.dev.perm_addr)); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("mac", check.AnyArg)), Result: macResult},
		},
		{
			Name: "bswap", Doc: Doc{
				Group: "network", Summary: "reverse the bytes of an integer",
				Text:    "The result is unsigned and as wide as `n`.",
				Example: "BEGIN { printf(\"%x\\n\", bswap((uint32)0x12345678)); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("n", check.AnyArg)), Result: func(c *check.Call) *types.Type {
				t := c.Type(0)
				if t.Kind != types.Int {
					return typeError(c, 0, "integer")
				}
				return types.IntOf(t.Size, false)
			}},
		},
		{
			Name: "socket_cookie", Doc: Doc{
				Group: "network", Summary: "number of a socket that never changes",
				Text:    "The cookie of a socket, made at the first call. 0 for a null pointer.",
				Example: "fentry:tcp_rcv_established { @[socket_cookie(args.sk)] = count(); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("sk", check.AnyArg)), Result: func(c *check.Call) *types.Type {
				t := c.Type(0)
				if t.Kind != types.Pointer || t.Elem == nil || t.Elem.Kind != types.Struct || t.Elem.Struct.Name != "sock" {
					return argError(c, "socket_cookie() only supports 'struct sock *' argument (%s provided)", c.Type(0))
				}
				return types.TUint64
			}},
		},
		{
			Name: "skboutput", Doc: Doc{
				Group: "network", Summary: "write a packet to a capture file",
				Text: "Appends `length` bytes of the packet, from `offset` on and as far as the packet goes, to a file that tcpdump reads, as raw IP without an Ethernet header; an offset of 14 leaves a header out that is there. " +
					"The file is written anew by each run. The result is 0, or a negative error number. Each CPU has a buffer of `perf_rb_pages` pages for packets, 256 when it is not set; those that find it full are counted and reported at the end. " +
					"Needs the pointer to the packet as the kernel gave it: in fentry, fexit and rawtracepoint probes, a member of `args`.",
				Example: "rawtracepoint:net_dev_queue { _ = skboutput(\"out.pcap\", args.skb, args.skb.len, 14); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("path", check.StrLiteral), req("skb", check.AnyArg), req("length", check.Number), req("offset", check.Number)), Result: func(c *check.Call) *types.Type {
				if c.Type(1).Kind != types.Pointer {
					return typeError(c, 1, "pointer")
				}
				if !onlyIn(c, "fentry", "fexit", "rawtracepoint") {
					return types.TInvalid
				}
				return types.TUint32
			}},
		},
	}
}

func ntopResult(c *check.Call) *types.Type {
	at := 0
	if len(c.Args) == 2 {
		if !isInt(c.Type(0)) {
			return typeError(c, 0, "int")
		}
		at = 1
	}
	t := c.Type(at)
	switch {
	case isInt(t) && t.Kind != types.Bool:
	case t.Kind == types.String, t.Kind == types.Array:
		if t.Size != 4 && t.Size != 16 {
			c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "ntop() argument must be 4 or 16 bytes in size").Hint("this one has %d bytes", t.Size)
			return types.TInvalid
		}
	case t.Kind == types.Struct && (t.Size == 4 || t.Size == 16): // struct in_addr and in6_addr
	case t.Kind == types.Pointer && t.Elem != nil && (t.Elem.Size == 4 || t.Elem.Size == 16) && t.Elem.Kind != types.Pointer:
	default:
		return argError(c, "ntop() expects an integer or array argument, got %s", check.KindWord(t))
	}
	return tInet
}

func ptonResult(c *check.Call) *types.Type {
	s, _ := c.Str(0)
	a, err := netip.ParseAddr(s)
	switch {
	case !strings.ContainsAny(s, ".:"):
		return argError(c, "pton() expects an string argument of an IPv4/IPv6 address, got %s", s)
	case err != nil, a.Zone() != "":
		return argError(c, "pton() expects a valid IPv4/IPv6 address, got %s", s)
	case strings.Contains(s, ":"):
		return inSpace(types.ArrayOf(types.TUint8, 16), types.SpaceBPF, types.ProvBPF)
	}
	return inSpace(types.ArrayOf(types.TUint8, 4), types.SpaceBPF, types.ProvBPF)
}

func macResult(c *check.Call) *types.Type {
	if _, lit := c.Str(0); lit {
		return argError(c, "macaddr() does not support literal string arguments")
	}
	switch t := c.Type(0); t.Kind {
	case types.Int, types.Pointer:
	case types.Array, types.String, types.Buffer:
		if t.Size < 6 {
			c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "macaddr() argument must be at least 6 bytes in size").Hint("this one has %d bytes", t.Size)
			return types.TInvalid
		}
	default:
		return typeError(c, 0, "array or pointer")
	}
	return tMac
}
