package value

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrnoText gives strerror(3)'s text.
func ErrnoText(n int64) string {
	if n < 0 {
		n = -n
	}
	if n == 0 {
		return "Success"
	}
	s := unix.Errno(n).Error()
	if strings.HasPrefix(s, "errno ") {
		return fmt.Sprintf("Unknown error %d", n)
	}
	// Go's table is glibc's with a lower-case first letter.
	return strings.ToUpper(s[:1]) + s[1:]
}

func signalName(n int64) string {
	if s := unix.SignalName(unix.Signal(n)); s != "" {
		return s
	}
	return strconv.FormatInt(n, 10)
}

// gfpNames are the allocation flags of include/linux/gfp_types.h, compound ones first and the largest of them first, as the kernel's %pGg
// prints them. Bits moved between versions; these are those of Linux 6.10 and newer. A kernel with hardware tags of KASAN sets
// __GFP_SKIP_KASAN in the movable ones.
var gfpNames = []struct {
	bits uint64
	name string
}{
	{0x21c24ca, "GFP_TRANSHUGE"},
	{0x21c20ca, "GFP_TRANSHUGE_LIGHT"},
	{0x2100cca, "GFP_HIGHUSER_MOVABLE"},
	{0x1c24ca, "GFP_TRANSHUGE"},
	{0x1c20ca, "GFP_TRANSHUGE_LIGHT"},
	{0x100cca, "GFP_HIGHUSER_MOVABLE"},
	{0x100cc2, "GFP_HIGHUSER"},
	{0x100cc0, "GFP_USER"},
	{0x400cc0, "GFP_KERNEL_ACCOUNT"},
	{0xcc0, "GFP_KERNEL"},
	{0xc40, "GFP_NOFS"},
	{0x820, "GFP_ATOMIC"},
	{0xc00, "GFP_NOIO"},
	{0x2800, "GFP_NOWAIT"},
	{0x1, "GFP_DMA"},
	{0x4, "GFP_DMA32"},
	{0x1, "__GFP_DMA"},
	{0x2, "__GFP_HIGHMEM"},
	{0x4, "__GFP_DMA32"},
	{0x8, "__GFP_MOVABLE"},
	{0x10, "__GFP_RECLAIMABLE"},
	{0x20, "__GFP_HIGH"},
	{0x40, "__GFP_IO"},
	{0x80, "__GFP_FS"},
	{0x100, "__GFP_ZERO"},
	{0x400, "__GFP_DIRECT_RECLAIM"},
	{0x800, "__GFP_KSWAPD_RECLAIM"},
	{0x1000, "__GFP_WRITE"},
	{0x2000, "__GFP_NOWARN"},
	{0x4000, "__GFP_RETRY_MAYFAIL"},
	{0x8000, "__GFP_NOFAIL"},
	{0x10000, "__GFP_NORETRY"},
	{0x20000, "__GFP_MEMALLOC"},
	{0x40000, "__GFP_COMP"},
	{0x80000, "__GFP_NOMEMALLOC"},
	{0x100000, "__GFP_HARDWALL"},
	{0x200000, "__GFP_THISNODE"},
	{0x400000, "__GFP_ACCOUNT"},
	{0x800000, "__GFP_ZEROTAGS"},
	{0x1000000, "__GFP_SKIP_ZERO"},
	{0x2000000, "__GFP_SKIP_KASAN"},
	{0x4000000, "__GFP_NO_OBJ_EXT"},
}

// AppendGFP appends page allocation flags by name, joined by bars; unknown bits in hexadecimal.
func AppendGFP(dst []byte, flags uint64) []byte {
	if flags == 0 {
		return append(dst, '0')
	}
	start := len(dst)
	for _, g := range gfpNames {
		if flags&g.bits == g.bits {
			if len(dst) > start {
				dst = append(dst, '|')
			}
			dst = append(dst, g.name...)
			flags &^= g.bits
		}
	}
	if flags != 0 {
		if len(dst) > start {
			dst = append(dst, '|')
		}
		dst = strconv.AppendUint(append(dst, "0x"...), flags, 16)
	}
	return dst
}
