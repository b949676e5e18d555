package stdlib

import (
	"strings"
	"sync"

	"github.com/sonde-sh/sonde/lang/types"
)

// basicTypes are the names of C and of the kernel's types.h that mean the same on every 64-bit Linux. Knowing them here keeps
// scripts that use nothing else away from BTF, and working on kernels without it.
var basicTypes = sync.OnceValue(func() map[string]*types.Type {
	m := make(map[string]*types.Type)
	add := func(size int, signed bool, names string) {
		for _, name := range strings.Split(names, ",") {
			name = strings.TrimSpace(name)
			t := *types.IntOf(size, signed)
			t.Name = name
			m[name] = &t
		}
	}
	add(1, true, "char, signed char, s8, __s8, int8_t, __int8_t")
	add(1, false, "unsigned char, u8, __u8, uint8_t, __uint8_t, u_char, unchar, u_int8_t, cc_t")
	add(2, true, "short, short int, signed short, s16, __s16, int16_t, __int16_t")
	add(2, false, "unsigned short, unsigned short int, short unsigned int, u16, __u16, uint16_t, __uint16_t, u_int16_t, u_short, ushort, "+
		"__be16, __le16, __sum16, umode_t, sa_family_t, __kernel_sa_family_t")
	add(4, true, "int, signed, signed int, s32, __s32, int32_t, __int32_t, pid_t, __pid_t, __kernel_pid_t, clockid_t, timer_t, key_t, __kernel_timer_t")
	add(4, false, "unsigned, unsigned int, u32, __u32, uint32_t, __uint32_t, u_int32_t, u_int, uint, __be32, __le32, __wsum, uid_t, gid_t, "+
		"__kernel_uid32_t, __kernel_gid32_t, dev_t, __kernel_dev_t, gfp_t, slab_flags_t, fmode_t, blk_opf_t, blk_mode_t, nlink_t, socklen_t, mode_t, __poll_t, "+
		"projid_t")
	add(8, true, "long, long int, signed long, long long, long long int, signed long long, s64, __s64, int64_t, __int64_t, ssize_t, __kernel_ssize_t, "+
		"loff_t, __kernel_loff_t, off_t, __kernel_off_t, ptrdiff_t, intptr_t, time_t, time64_t, __kernel_time64_t, ktime_t, clock_t, __kernel_clock_t, "+
		"suseconds_t")
	add(8, false, "unsigned long, unsigned long int, long unsigned int, unsigned long long, unsigned long long int, long long unsigned int, "+
		"u64, __u64, uint64_t, __uint64_t, u_int64_t, u_long, ulong, size_t, __kernel_size_t, uintptr_t, sector_t, blkcnt_t, ino_t, "+
		"dma_addr_t, phys_addr_t, resource_size_t, __be64, __le64, pgoff_t, aio_context_t")
	for _, name := range []string{"bool", "_Bool"} {
		t := *types.TBool
		t.Name = name
		m[name] = &t
	}
	return m
})

func basicType(name string) *types.Type { return basicTypes()[name] }
