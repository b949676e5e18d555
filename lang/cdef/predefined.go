package cdef

import (
	"fmt"
	"strings"
)

// isPredefined reports whether a macro is defined before the script starts.
func (o *Options) isPredefined(name string) bool {
	switch name {
	case "BPFTRACE_HAVE_BTF":
		return o.HaveBTF
	case "__x86_64__", "__amd64__":
		return o.arch() == "amd64"
	case "__aarch64__":
		return o.arch() == "arm64"
	case "LINUX_VERSION_CODE":
		return o.KernelVersion != 0
	case "__linux__", "__linux", "linux", "__LP64__", "_LP64", "__SONDE__", "__BPFTRACE__", "KERNEL_VERSION", "__STDC__":
		return true
	}
	return false
}

func (o *Options) arch() string {
	if o.Arch == "" {
		return "amd64"
	}
	return o.Arch
}

// predefined is the text of the predefined macros; those that only the C library's headers ask for are left out unless
// headers is set. The numbers are those of every LP64 Linux.
func (o *Options) predefined(headers bool) string {
	var b strings.Builder
	b.WriteString(`#define __STDC__ 1
#define __linux__ 1
#define __linux 1
#define linux 1
#define __LP64__ 1
#define _LP64 1
#define __SONDE__ 1
#define __BPFTRACE__ 1
#define __CHAR_BIT__ 8
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
`)
	if headers {
		b.WriteString(headerMacros)
	}
	switch o.arch() {
	case "arm64":
		b.WriteString("#define __aarch64__ 1\n#define __AARCH64EL__ 1\n#define __CHAR_UNSIGNED__ 1\n")
	default:
		b.WriteString("#define __x86_64__ 1\n#define __x86_64 1\n#define __amd64__ 1\n")
	}
	if o.HaveBTF {
		b.WriteString("#define BPFTRACE_HAVE_BTF 1\n")
	}
	if o.KernelVersion != 0 {
		fmt.Fprintf(&b, "#define LINUX_VERSION_CODE %d\n", o.KernelVersion)
	}
	return b.String()
}

const headerMacros = `#define __STDC_VERSION__ 201112L
#define __STDC_HOSTED__ 1
#define __unix__ 1
#define __ORDER_LITTLE_ENDIAN__ 1234
#define __ORDER_BIG_ENDIAN__ 4321
#define __BYTE_ORDER__ 1234
#define __SIZEOF_SHORT__ 2
#define __SIZEOF_INT__ 4
#define __SIZEOF_LONG__ 8
#define __SIZEOF_LONG_LONG__ 8
#define __SIZEOF_POINTER__ 8
#define __SIZEOF_SIZE_T__ 8
#define __SCHAR_MAX__ 127
#define __SHRT_MAX__ 32767
#define __INT_MAX__ 2147483647
#define __LONG_MAX__ 9223372036854775807L
#define __LONG_LONG_MAX__ 9223372036854775807LL
#define __INT8_TYPE__ signed char
#define __INT16_TYPE__ short
#define __INT32_TYPE__ int
#define __INT64_TYPE__ long
#define __UINT8_TYPE__ unsigned char
#define __UINT16_TYPE__ unsigned short
#define __UINT32_TYPE__ unsigned int
#define __UINT64_TYPE__ unsigned long
#define __INTPTR_TYPE__ long
#define __UINTPTR_TYPE__ unsigned long
#define __INTMAX_TYPE__ long
#define __UINTMAX_TYPE__ unsigned long
#define __SIZE_TYPE__ unsigned long
#define __PTRDIFF_TYPE__ long
#define __WCHAR_TYPE__ int
#define __WINT_TYPE__ unsigned int
#define __GNUC__ 4
#define __GNUC_MINOR__ 2
#define __GNUC_PATCHLEVEL__ 1
`

// builtins are the declarations that the front end cannot work without.
const builtins = `int __predefined_declarator;
typedef unsigned long __predefined_size_t;
typedef int __predefined_wchar_t;
typedef long __predefined_ptrdiff_t;
#define __builtin_va_list void *
#define __extension__
#define __restrict
#define __inline
#define __inline__
#define __signed__ signed
#define __const const
#define __volatile__ volatile
#define __user
#define __kernel
#define __rcu
#define __percpu
#define __iomem
#define __force
#define __bitwise
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
#define ____cacheline_aligned __attribute__((aligned(64)))
#define ____cacheline_aligned_in_smp __attribute__((aligned(64)))
#define __randomize_layout
#define randomized_struct_fields_start
#define randomized_struct_fields_end
#define __counted_by(x)
#define DECLARE_FLEX_ARRAY(type, name) struct { struct { } __empty_##name; type name[]; }
`

// basicC gives C's spelling of integer typedefs that scripts use without defining them, for a target without BTF.
func basicC(name string) string {
	switch name {
	case "s8", "__s8", "int8_t":
		return "signed char"
	case "u8", "__u8", "uint8_t", "u_char", "unchar", "u_int8_t":
		return "unsigned char"
	case "s16", "__s16", "int16_t":
		return "short"
	case "u16", "__u16", "uint16_t", "__be16", "__le16", "__sum16", "ushort", "u_short", "u_int16_t", "umode_t", "sa_family_t", "in_port_t":
		return "unsigned short"
	case "s32", "__s32", "int32_t", "pid_t", "clockid_t", "key_t":
		return "int"
	case "u32", "__u32", "uint32_t", "__be32", "__le32", "__wsum", "uint", "u_int", "u_int32_t", "uid_t", "gid_t", "dev_t", "gfp_t", "fmode_t",
		"mode_t", "nlink_t", "socklen_t", "in_addr_t", "blk_opf_t":
		return "unsigned int"
	case "s64", "__s64", "int64_t", "ssize_t", "loff_t", "off_t", "ptrdiff_t", "intptr_t", "time_t", "time64_t", "ktime_t", "clock_t", "suseconds_t":
		return "long"
	case "u64", "__u64", "uint64_t", "__be64", "__le64", "size_t", "uintptr_t", "sector_t", "ino_t", "u_long", "ulong", "u_int64_t", "dma_addr_t",
		"phys_addr_t", "resource_size_t", "pgoff_t", "blkcnt_t":
		return "unsigned long"
	case "bool":
		return "_Bool"
	}
	return ""
}
