package stdlib

import (
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// argSet is what an argument of a system call means: the names of its values or of its flags.
type argSet struct {
	name   string
	bits   bool
	choice int64 // bits that are one number, see types.EnumDef
	base   int
	// values are name and value in turn; arm64 are those that differ there. Names of several bits stand before those of their parts.
	values, arm64 string
}

// syscallArgType gives an argument of a system call the type that people know it by: what its C type says, where the kernel's record has
// eight bytes for each, with the names of values and flags.
func syscallArgType(src types.Source, arch, syscall string, f kernel.Field) *types.Type {
	recorded := fieldType(src, f, types.SpaceUser)
	if f.Type.IsPointer() || f.Loc != kernel.InPlace || !recorded.IsInteger() {
		return recorded
	}
	t := recorded
	c := f
	c.Size = 0 // the size of the type itself; the machine is a little-endian one, so that the low bytes come first
	if own := fieldType(src, c, types.SpaceUser); own.IsInteger() && own.Size > 0 && own.Size < f.Size {
		t = own
	}
	if f.Type.Base == "clockid_t" || f.Name == "fd" && f.Type.Size == 8 {
		t = types.TInt32 // a descriptor is an int, even where the kernel declares a long
	}
	set, ok := syscallArgSets[syscallArgs[syscall+"."+f.Name]]
	if !ok {
		set, ok = syscallArgSets[everyArg(f)]
	}
	if !ok {
		return t
	}
	return &types.Type{Kind: types.Enum, Size: t.Size, Signed: t.Signed, Enum: set.def(arch, t)}
}

func (s argSet) def(arch string, t *types.Type) *types.EnumDef {
	d := &types.EnumDef{Name: s.name, Size: t.Size, Signed: t.Signed, Bits: s.bits, Choice: s.choice, Base: s.base}
	words := strings.Fields(s.values)
	if arch == "arm64" {
		words = append(strings.Fields(s.arm64), words...) // the first name of a value wins
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(words); i += 2 {
		v, err := strconv.ParseInt(words[i+1], 0, 64)
		if err == nil && !seen[words[i]] {
			d.Values = append(d.Values, types.EnumValue{Name: words[i], Value: v})
		}
		seen[words[i]] = true
	}
	return d
}

// isText tells which pointers to characters are strings; the others are buffers with a length, or nothing is in them yet.
func isText(syscall string, f kernel.Field) bool {
	if f.Type.Pointers != 1 || len(f.Type.Dims) > 0 || !f.Type.IsChar() {
		return false
	}
	switch f.Name {
	case "buf", "u_msg_ptr", "ubuf", "optval", "shmaddr", "vec", "list":
		return false
	case "name":
		return syscall != "sethostname" && syscall != "setdomainname" && syscall != "gethostname"
	}
	return true
}

// everyArg names the set of an argument that means the same in all system calls, "" where there is none.
func everyArg(f kernel.Field) string {
	if f.Type.Base == "umode_t" {
		return "mode"
	}
	if f.Type.Base == "clockid_t" {
		return "clock"
	}
	switch f.Name {
	case "dfd", "olddfd", "newdfd", "from_dfd", "to_dfd", "mountdirfd":
		return "at_fd"
	case "sig":
		return "signal"
	case "prot":
		return "prot"
	case "whence":
		return "whence"
	}
	return ""
}

// syscallArgs names the set of an argument by system call and name.
var syscallArgs = map[string]string{
	"open.flags": "open", "openat.flags": "open", "open_by_handle_at.flags": "open", "pipe2.flags": "open", "dup3.flags": "open", "mq_open.oflag": "open",
	"access.mode": "access", "faccessat.mode": "access", "faccessat2.mode": "access", "umask.mask": "mode",
	"faccessat2.flags": "faccess", "unlinkat.flag": "unlink", "linkat.flags": "at", "newfstatat.flag": "at", "statx.flags": "at",
	"fchownat.flag": "at", "fchmodat2.flags": "at", "utimensat.flags": "at", "execveat.flags": "at", "name_to_handle_at.flag": "at",
	"execveat.fd": "at_fd", "statx.mask": "statx",
	"renameat2.flags": "rename", "fallocate.mode": "fallocate", "flock.cmd": "flock", "fcntl.cmd": "fcntl", "close_range.flags": "close_range",
	"fadvise64.advice": "fadvise", "splice.flags": "splice", "tee.flags": "splice", "vmsplice.flags": "splice", "preadv2.flags": "rwf", "pwritev2.flags": "rwf",
	"ioctl.cmd": "hex", "umount.flags": "umount", "mount.flags": "mount", "move_mount.flags": "move_mount", "fsconfig.cmd": "fsconfig",
	"mmap.flags": "map", "mremap.flags": "mremap", "msync.flags": "msync", "mlockall.flags": "mlockall", "madvise.behavior": "madvise", "process_madvise.behavior": "madvise",
	"memfd_create.flags": "memfd", "membarrier.cmd": "membarrier",
	"socket.family": "family", "socketpair.family": "family", "socket.type": "socket", "socketpair.type": "socket", "accept4.flags": "socket",
	"shutdown.how": "shutdown", "setsockopt.level": "sol", "getsockopt.level": "sol",
	"sendto.flags": "msg", "recvfrom.flags": "msg", "sendmsg.flags": "msg", "recvmsg.flags": "msg", "sendmmsg.flags": "msg", "recvmmsg.flags": "msg",
	"epoll_ctl.op": "epoll_ctl", "epoll_create1.flags": "epoll", "eventfd2.flags": "eventfd", "signalfd4.flags": "epoll", "inotify_init1.flags": "epoll",
	"timerfd_create.flags": "epoll", "timerfd_create.clockid": "clock", "userfaultfd.flags": "epoll", "inotify_add_watch.mask": "inotify",
	"timerfd_settime.flags": "timer", "timer_settime.flags": "timer", "clock_nanosleep.flags": "timer",
	"clone.clone_flags": "clone", "unshare.unshare_flags": "clone", "setns.flags": "clone", "futex.op": "futex",
	"wait4.options": "wait", "waitid.options": "wait", "waitid.which": "waitid", "rt_sigprocmask.how": "sigmask",
	"ptrace.request": "ptrace", "prctl.option": "prctl", "arch_prctl.option": "arch_prctl", "seccomp.op": "seccomp", "seccomp.flags": "seccomp_filter",
	"bpf.cmd": "bpf", "perf_event_open.flags": "perf", "getrandom.flags": "random", "reboot.cmd": "reboot",
	"sched_setscheduler.policy": "sched", "getrlimit.resource": "rlimit", "setrlimit.resource": "rlimit", "prlimit64.resource": "rlimit",
	"getrusage.who": "rusage", "getpriority.which": "priority", "setpriority.which": "priority", "getitimer.which": "itimer", "setitimer.which": "itimer",
	"shmget.shmflg": "ipc", "semget.semflg": "ipc", "msgget.msgflg": "ipc", "kcmp.type": "kcmp", "keyctl.option": "keyctl",
}

// syscallArgSets are the values by name (include/uapi/linux, include/uapi/asm-generic and those of x86).
var syscallArgSets = map[string]argSet{
	"at_fd": {name: "at_fd", values: "AT_FDCWD -100"},
	"mode":  {name: "mode", base: 8},
	"hex":   {name: "request", base: 16},
	"open": {
		name: "open_flags", bits: true, choice: 3,
		values: "O_RDONLY 0 O_WRONLY 1 O_RDWR 2 O_TMPFILE 020200000 O_SYNC 04010000 O_CREAT 0100 O_EXCL 0200 O_NOCTTY 0400 O_TRUNC 01000 O_APPEND 02000 " +
			"O_NONBLOCK 04000 O_DSYNC 010000 FASYNC 020000 O_DIRECT 040000 O_LARGEFILE 0100000 O_DIRECTORY 0200000 O_NOFOLLOW 0400000 O_NOATIME 01000000 " +
			"O_CLOEXEC 02000000 O_PATH 010000000",
		arm64: "O_RDONLY 0 O_WRONLY 1 O_RDWR 2 O_TMPFILE 020040000 O_DIRECTORY 040000 O_NOFOLLOW 0100000 O_DIRECT 0200000 O_LARGEFILE 0400000",
	},
	"access":      {name: "access_mode", bits: true, values: "F_OK 0 R_OK 4 W_OK 2 X_OK 1"},
	"faccess":     {name: "at_flags", bits: true, values: "AT_SYMLINK_NOFOLLOW 0x100 AT_EACCESS 0x200 AT_EMPTY_PATH 0x1000"},
	"unlink":      {name: "at_flags", bits: true, values: "AT_REMOVEDIR 0x200"},
	"at":          {name: "at_flags", bits: true, values: "AT_SYMLINK_NOFOLLOW 0x100 AT_HANDLE_FID 0x200 AT_SYMLINK_FOLLOW 0x400 AT_NO_AUTOMOUNT 0x800 AT_EMPTY_PATH 0x1000 AT_STATX_FORCE_SYNC 0x2000 AT_STATX_DONT_SYNC 0x4000 AT_RECURSIVE 0x8000"},
	"statx":       {name: "statx_mask", bits: true, values: "STATX_BASIC_STATS 0x7ff STATX_TYPE 1 STATX_MODE 2 STATX_NLINK 4 STATX_UID 8 STATX_GID 0x10 STATX_ATIME 0x20 STATX_MTIME 0x40 STATX_CTIME 0x80 STATX_INO 0x100 STATX_SIZE 0x200 STATX_BLOCKS 0x400 STATX_BTIME 0x800 STATX_MNT_ID 0x1000 STATX_DIOALIGN 0x2000 STATX_MNT_ID_UNIQUE 0x4000 STATX_SUBVOL 0x8000"},
	"rename":      {name: "rename_flags", bits: true, values: "RENAME_NOREPLACE 1 RENAME_EXCHANGE 2 RENAME_WHITEOUT 4"},
	"fallocate":   {name: "fallocate_mode", bits: true, values: "FALLOC_FL_KEEP_SIZE 1 FALLOC_FL_PUNCH_HOLE 2 FALLOC_FL_COLLAPSE_RANGE 8 FALLOC_FL_ZERO_RANGE 0x10 FALLOC_FL_INSERT_RANGE 0x20 FALLOC_FL_UNSHARE_RANGE 0x40"},
	"flock":       {name: "flock_operation", bits: true, values: "LOCK_SH 1 LOCK_EX 2 LOCK_NB 4 LOCK_UN 8"},
	"close_range": {name: "close_range_flags", bits: true, values: "CLOSE_RANGE_UNSHARE 2 CLOSE_RANGE_CLOEXEC 4"},
	"fcntl": {name: "fcntl_cmd", values: "F_DUPFD 0 F_GETFD 1 F_SETFD 2 F_GETFL 3 F_SETFL 4 F_GETLK 5 F_SETLK 6 F_SETLKW 7 F_SETOWN 8 F_GETOWN 9 F_SETSIG 10 F_GETSIG 11 F_SETOWN_EX 15 F_GETOWN_EX 16 " +
		"F_OFD_GETLK 36 F_OFD_SETLK 37 F_OFD_SETLKW 38 F_SETLEASE 1024 F_GETLEASE 1025 F_NOTIFY 1026 F_DUPFD_CLOEXEC 1030 F_SETPIPE_SZ 1031 F_GETPIPE_SZ 1032 F_ADD_SEALS 1033 F_GET_SEALS 1034 F_GET_RW_HINT 1035 F_SET_RW_HINT 1036"},
	"fadvise":    {name: "fadvise", values: "POSIX_FADV_NORMAL 0 POSIX_FADV_RANDOM 1 POSIX_FADV_SEQUENTIAL 2 POSIX_FADV_WILLNEED 3 POSIX_FADV_DONTNEED 4 POSIX_FADV_NOREUSE 5"},
	"splice":     {name: "splice_flags", bits: true, values: "SPLICE_F_MOVE 1 SPLICE_F_NONBLOCK 2 SPLICE_F_MORE 4 SPLICE_F_GIFT 8"},
	"rwf":        {name: "rwf_flags", bits: true, values: "RWF_HIPRI 1 RWF_DSYNC 2 RWF_SYNC 4 RWF_NOWAIT 8 RWF_APPEND 0x10 RWF_NOAPPEND 0x20 RWF_ATOMIC 0x40"},
	"umount":     {name: "umount_flags", bits: true, values: "MNT_FORCE 1 MNT_DETACH 2 MNT_EXPIRE 4 UMOUNT_NOFOLLOW 8"},
	"mount":      {name: "mount_flags", bits: true, values: "MS_RDONLY 1 MS_NOSUID 2 MS_NODEV 4 MS_NOEXEC 8 MS_SYNCHRONOUS 0x10 MS_REMOUNT 0x20 MS_MANDLOCK 0x40 MS_DIRSYNC 0x80 MS_NOSYMFOLLOW 0x100 MS_NOATIME 0x400 MS_NODIRATIME 0x800 MS_BIND 0x1000 MS_MOVE 0x2000 MS_REC 0x4000 MS_SILENT 0x8000 MS_POSIXACL 0x10000 MS_UNBINDABLE 0x20000 MS_PRIVATE 0x40000 MS_SLAVE 0x80000 MS_SHARED 0x100000 MS_RELATIME 0x200000 MS_I_VERSION 0x800000 MS_STRICTATIME 0x1000000 MS_LAZYTIME 0x2000000"},
	"move_mount": {name: "move_mount_flags", bits: true, values: "MOVE_MOUNT_F_SYMLINKS 1 MOVE_MOUNT_F_AUTOMOUNTS 2 MOVE_MOUNT_F_EMPTY_PATH 4 MOVE_MOUNT_T_SYMLINKS 0x10 MOVE_MOUNT_T_AUTOMOUNTS 0x20 MOVE_MOUNT_T_EMPTY_PATH 0x40 MOVE_MOUNT_SET_GROUP 0x100 MOVE_MOUNT_BENEATH 0x200"},
	"fsconfig":   {name: "fsconfig_cmd", values: "FSCONFIG_SET_FLAG 0 FSCONFIG_SET_STRING 1 FSCONFIG_SET_BINARY 2 FSCONFIG_SET_PATH 3 FSCONFIG_SET_PATH_EMPTY 4 FSCONFIG_SET_FD 5 FSCONFIG_CMD_CREATE 6 FSCONFIG_CMD_RECONFIGURE 7 FSCONFIG_CMD_CREATE_EXCL 8"},

	"prot": {name: "prot", bits: true, values: "PROT_NONE 0 PROT_READ 1 PROT_WRITE 2 PROT_EXEC 4 PROT_SEM 8 PROT_GROWSDOWN 0x1000000 PROT_GROWSUP 0x2000000", arm64: "PROT_NONE 0 PROT_READ 1 PROT_WRITE 2 PROT_EXEC 4 PROT_SEM 8 PROT_BTI 0x10 PROT_MTE 0x20"},
	"map": {name: "map_flags", bits: true, choice: 0xf, values: "MAP_FILE 0 MAP_SHARED 1 MAP_PRIVATE 2 MAP_SHARED_VALIDATE 3 MAP_FIXED 0x10 MAP_ANONYMOUS 0x20 MAP_32BIT 0x40 MAP_GROWSDOWN 0x100 MAP_DENYWRITE 0x800 MAP_EXECUTABLE 0x1000 MAP_LOCKED 0x2000 " +
		"MAP_NORESERVE 0x4000 MAP_POPULATE 0x8000 MAP_NONBLOCK 0x10000 MAP_STACK 0x20000 MAP_HUGETLB 0x40000 MAP_SYNC 0x80000 MAP_FIXED_NOREPLACE 0x100000"},
	"mremap":   {name: "mremap_flags", bits: true, values: "MREMAP_MAYMOVE 1 MREMAP_FIXED 2 MREMAP_DONTUNMAP 4"},
	"msync":    {name: "msync_flags", bits: true, values: "MS_ASYNC 1 MS_INVALIDATE 2 MS_SYNC 4"},
	"mlockall": {name: "mlockall_flags", bits: true, values: "MCL_CURRENT 1 MCL_FUTURE 2 MCL_ONFAULT 4"},
	"madvise": {name: "madvise", values: "MADV_NORMAL 0 MADV_RANDOM 1 MADV_SEQUENTIAL 2 MADV_WILLNEED 3 MADV_DONTNEED 4 MADV_FREE 8 MADV_REMOVE 9 MADV_DONTFORK 10 MADV_DOFORK 11 MADV_MERGEABLE 12 MADV_UNMERGEABLE 13 MADV_HUGEPAGE 14 MADV_NOHUGEPAGE 15 " +
		"MADV_DONTDUMP 16 MADV_DODUMP 17 MADV_WIPEONFORK 18 MADV_KEEPONFORK 19 MADV_COLD 20 MADV_PAGEOUT 21 MADV_POPULATE_READ 22 MADV_POPULATE_WRITE 23 MADV_DONTNEED_LOCKED 24 MADV_COLLAPSE 25 MADV_HWPOISON 100 MADV_SOFT_OFFLINE 101 MADV_GUARD_INSTALL 102 MADV_GUARD_REMOVE 103"},
	"memfd":      {name: "memfd_flags", bits: true, values: "MFD_CLOEXEC 1 MFD_ALLOW_SEALING 2 MFD_HUGETLB 4 MFD_NOEXEC_SEAL 8 MFD_EXEC 0x10"},
	"membarrier": {name: "membarrier_cmd", values: "MEMBARRIER_CMD_QUERY 0 MEMBARRIER_CMD_GLOBAL 1 MEMBARRIER_CMD_GLOBAL_EXPEDITED 2 MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED 4 MEMBARRIER_CMD_PRIVATE_EXPEDITED 8 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED 16 MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE 32 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE 64 MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ 128 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ 256"},

	"family":   {name: "address_family", values: "AF_UNSPEC 0 AF_UNIX 1 AF_INET 2 AF_AX25 3 AF_IPX 4 AF_APPLETALK 5 AF_BRIDGE 7 AF_X25 9 AF_INET6 10 AF_KEY 15 AF_NETLINK 16 AF_PACKET 17 AF_RDS 21 AF_PPPOX 24 AF_CAN 29 AF_TIPC 30 AF_BLUETOOTH 31 AF_RXRPC 33 AF_ALG 38 AF_NFC 39 AF_VSOCK 40 AF_KCM 41 AF_QIPCRTR 42 AF_SMC 43 AF_XDP 44 AF_MCTP 45"},
	"socket":   {name: "socket_type", bits: true, choice: 0xf, values: "SOCK_STREAM 1 SOCK_DGRAM 2 SOCK_RAW 3 SOCK_RDM 4 SOCK_SEQPACKET 5 SOCK_DCCP 6 SOCK_PACKET 10 SOCK_NONBLOCK 0x800 SOCK_CLOEXEC 0x80000"},
	"shutdown": {name: "shutdown_how", values: "SHUT_RD 0 SHUT_WR 1 SHUT_RDWR 2"},
	"sol":      {name: "socket_level", values: "IPPROTO_IP 0 SOL_SOCKET 1 IPPROTO_TCP 6 IPPROTO_UDP 17 IPPROTO_IPV6 41 IPPROTO_ICMPV6 58 IPPROTO_SCTP 132 SOL_RAW 255 SOL_PACKET 263 SOL_NETLINK 270 SOL_ALG 279 SOL_TLS 282 SOL_XDP 283 IPPROTO_MPTCP 284"},
	"msg": {name: "msg_flags", bits: true, values: "MSG_OOB 1 MSG_PEEK 2 MSG_DONTROUTE 4 MSG_CTRUNC 8 MSG_PROBE 0x10 MSG_TRUNC 0x20 MSG_DONTWAIT 0x40 MSG_EOR 0x80 MSG_WAITALL 0x100 MSG_FIN 0x200 MSG_SYN 0x400 MSG_CONFIRM 0x800 MSG_RST 0x1000 MSG_ERRQUEUE 0x2000 " +
		"MSG_NOSIGNAL 0x4000 MSG_MORE 0x8000 MSG_WAITFORONE 0x10000 MSG_BATCH 0x40000 MSG_ZEROCOPY 0x4000000 MSG_FASTOPEN 0x20000000 MSG_CMSG_CLOEXEC 0x40000000"},

	"epoll_ctl": {name: "epoll_op", values: "EPOLL_CTL_ADD 1 EPOLL_CTL_DEL 2 EPOLL_CTL_MOD 3"},
	"epoll":     {name: "fd_flags", bits: true, values: "O_NONBLOCK 04000 O_CLOEXEC 02000000"},
	"eventfd":   {name: "eventfd_flags", bits: true, values: "EFD_SEMAPHORE 1 EFD_NONBLOCK 04000 EFD_CLOEXEC 02000000"},
	"inotify": {name: "inotify_mask", bits: true, values: "IN_ALL_EVENTS 0xfff IN_CLOSE 0x18 IN_MOVE 0xc0 IN_ACCESS 1 IN_MODIFY 2 IN_ATTRIB 4 IN_CLOSE_WRITE 8 IN_CLOSE_NOWRITE 0x10 IN_OPEN 0x20 IN_MOVED_FROM 0x40 IN_MOVED_TO 0x80 IN_CREATE 0x100 IN_DELETE 0x200 " +
		"IN_DELETE_SELF 0x400 IN_MOVE_SELF 0x800 IN_ONLYDIR 0x1000000 IN_DONT_FOLLOW 0x2000000 IN_EXCL_UNLINK 0x4000000 IN_MASK_CREATE 0x10000000 IN_MASK_ADD 0x20000000 IN_ISDIR 0x40000000 IN_ONESHOT 0x80000000"},
	"timer": {name: "timer_flags", bits: true, values: "TIMER_ABSTIME 1 TFD_TIMER_CANCEL_ON_SET 2"},
	"clock": {name: "clock_id", values: "CLOCK_REALTIME 0 CLOCK_MONOTONIC 1 CLOCK_PROCESS_CPUTIME_ID 2 CLOCK_THREAD_CPUTIME_ID 3 CLOCK_MONOTONIC_RAW 4 CLOCK_REALTIME_COARSE 5 CLOCK_MONOTONIC_COARSE 6 CLOCK_BOOTTIME 7 CLOCK_REALTIME_ALARM 8 CLOCK_BOOTTIME_ALARM 9 CLOCK_TAI 11"},
	"clone": {name: "clone_flags", bits: true, choice: 0xff, values: "SIGCHLD 17 CLONE_VM 0x100 CLONE_FS 0x200 CLONE_FILES 0x400 CLONE_SIGHAND 0x800 CLONE_PIDFD 0x1000 CLONE_PTRACE 0x2000 CLONE_VFORK 0x4000 CLONE_PARENT 0x8000 CLONE_THREAD 0x10000 CLONE_NEWNS 0x20000 " +
		"CLONE_SYSVSEM 0x40000 CLONE_SETTLS 0x80000 CLONE_PARENT_SETTID 0x100000 CLONE_CHILD_CLEARTID 0x200000 CLONE_UNTRACED 0x800000 CLONE_CHILD_SETTID 0x1000000 CLONE_NEWCGROUP 0x2000000 CLONE_NEWUTS 0x4000000 CLONE_NEWIPC 0x8000000 CLONE_NEWUSER 0x10000000 CLONE_NEWPID 0x20000000 CLONE_NEWNET 0x40000000 CLONE_IO 0x80000000"},
	"futex":   {name: "futex_op", bits: true, choice: 0x7f, values: "FUTEX_WAIT 0 FUTEX_WAKE 1 FUTEX_FD 2 FUTEX_REQUEUE 3 FUTEX_CMP_REQUEUE 4 FUTEX_WAKE_OP 5 FUTEX_LOCK_PI 6 FUTEX_UNLOCK_PI 7 FUTEX_TRYLOCK_PI 8 FUTEX_WAIT_BITSET 9 FUTEX_WAKE_BITSET 10 FUTEX_WAIT_REQUEUE_PI 11 FUTEX_CMP_REQUEUE_PI 12 FUTEX_LOCK_PI2 13 FUTEX_PRIVATE_FLAG 128 FUTEX_CLOCK_REALTIME 256"},
	"wait":    {name: "wait_options", bits: true, values: "WNOHANG 1 WUNTRACED 2 WEXITED 4 WCONTINUED 8 WNOWAIT 0x1000000 __WNOTHREAD 0x20000000 __WALL 0x40000000 __WCLONE 0x80000000"},
	"waitid":  {name: "waitid_which", values: "P_ALL 0 P_PID 1 P_PGID 2 P_PIDFD 3"},
	"sigmask": {name: "sigmask_how", values: "SIG_BLOCK 0 SIG_UNBLOCK 1 SIG_SETMASK 2"},
	"signal": {name: "signal", values: "SIGHUP 1 SIGINT 2 SIGQUIT 3 SIGILL 4 SIGTRAP 5 SIGABRT 6 SIGBUS 7 SIGFPE 8 SIGKILL 9 SIGUSR1 10 SIGSEGV 11 SIGUSR2 12 SIGPIPE 13 SIGALRM 14 SIGTERM 15 SIGSTKFLT 16 SIGCHLD 17 SIGCONT 18 SIGSTOP 19 SIGTSTP 20 SIGTTIN 21 SIGTTOU 22 " +
		"SIGURG 23 SIGXCPU 24 SIGXFSZ 25 SIGVTALRM 26 SIGPROF 27 SIGWINCH 28 SIGIO 29 SIGPWR 30 SIGSYS 31 SIGRTMIN 32"},
	"ptrace": {name: "ptrace_request", values: "PTRACE_TRACEME 0 PTRACE_PEEKTEXT 1 PTRACE_PEEKDATA 2 PTRACE_PEEKUSR 3 PTRACE_POKETEXT 4 PTRACE_POKEDATA 5 PTRACE_POKEUSR 6 PTRACE_CONT 7 PTRACE_KILL 8 PTRACE_SINGLESTEP 9 PTRACE_GETREGS 12 PTRACE_SETREGS 13 PTRACE_GETFPREGS 14 PTRACE_SETFPREGS 15 PTRACE_ATTACH 16 PTRACE_DETACH 17 " +
		"PTRACE_SYSCALL 24 PTRACE_SETOPTIONS 0x4200 PTRACE_GETEVENTMSG 0x4201 PTRACE_GETSIGINFO 0x4202 PTRACE_SETSIGINFO 0x4203 PTRACE_GETREGSET 0x4204 PTRACE_SETREGSET 0x4205 PTRACE_SEIZE 0x4206 PTRACE_INTERRUPT 0x4207 PTRACE_LISTEN 0x4208 PTRACE_PEEKSIGINFO 0x4209 PTRACE_GET_SYSCALL_INFO 0x420e"},
	"prctl": {name: "prctl_option", values: "PR_SET_PDEATHSIG 1 PR_GET_PDEATHSIG 2 PR_GET_DUMPABLE 3 PR_SET_DUMPABLE 4 PR_GET_KEEPCAPS 7 PR_SET_KEEPCAPS 8 PR_SET_NAME 15 PR_GET_NAME 16 PR_GET_SECCOMP 21 PR_SET_SECCOMP 22 PR_CAPBSET_READ 23 PR_CAPBSET_DROP 24 PR_GET_TSC 25 PR_SET_TSC 26 PR_GET_SECUREBITS 27 PR_SET_SECUREBITS 28 " +
		"PR_SET_TIMERSLACK 29 PR_GET_TIMERSLACK 30 PR_SET_MM 35 PR_SET_CHILD_SUBREAPER 36 PR_GET_CHILD_SUBREAPER 37 PR_SET_NO_NEW_PRIVS 38 PR_GET_NO_NEW_PRIVS 39 PR_SET_THP_DISABLE 41 PR_GET_THP_DISABLE 42 PR_CAP_AMBIENT 47 PR_SET_IO_FLUSHER 57 PR_SET_MDWE 65 PR_GET_MDWE 66 PR_SET_VMA 0x53564d41 PR_SET_PTRACER 0x59616d61"},
	"arch_prctl":     {name: "arch_prctl_option", values: "ARCH_SET_GS 0x1001 ARCH_SET_FS 0x1002 ARCH_GET_FS 0x1003 ARCH_GET_GS 0x1004 ARCH_GET_CPUID 0x1011 ARCH_SET_CPUID 0x1012 ARCH_CET_STATUS 0x3001 ARCH_SHSTK_ENABLE 0x5001 ARCH_SHSTK_DISABLE 0x5002 ARCH_SHSTK_LOCK 0x5003"},
	"seccomp":        {name: "seccomp_op", values: "SECCOMP_SET_MODE_STRICT 0 SECCOMP_SET_MODE_FILTER 1 SECCOMP_GET_ACTION_AVAIL 2 SECCOMP_GET_NOTIF_SIZES 3"},
	"seccomp_filter": {name: "seccomp_flags", bits: true, values: "SECCOMP_FILTER_FLAG_TSYNC 1 SECCOMP_FILTER_FLAG_LOG 2 SECCOMP_FILTER_FLAG_SPEC_ALLOW 4 SECCOMP_FILTER_FLAG_NEW_LISTENER 8 SECCOMP_FILTER_FLAG_TSYNC_ESRCH 0x10 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 0x20"},
	"bpf": {name: "bpf_cmd", values: "BPF_MAP_CREATE 0 BPF_MAP_LOOKUP_ELEM 1 BPF_MAP_UPDATE_ELEM 2 BPF_MAP_DELETE_ELEM 3 BPF_MAP_GET_NEXT_KEY 4 BPF_PROG_LOAD 5 BPF_OBJ_PIN 6 BPF_OBJ_GET 7 BPF_PROG_ATTACH 8 BPF_PROG_DETACH 9 BPF_PROG_TEST_RUN 10 BPF_PROG_GET_NEXT_ID 11 BPF_MAP_GET_NEXT_ID 12 BPF_PROG_GET_FD_BY_ID 13 BPF_MAP_GET_FD_BY_ID 14 " +
		"BPF_OBJ_GET_INFO_BY_FD 15 BPF_PROG_QUERY 16 BPF_RAW_TRACEPOINT_OPEN 17 BPF_BTF_LOAD 18 BPF_BTF_GET_FD_BY_ID 19 BPF_TASK_FD_QUERY 20 BPF_MAP_LOOKUP_AND_DELETE_ELEM 21 BPF_MAP_FREEZE 22 BPF_BTF_GET_NEXT_ID 23 BPF_MAP_LOOKUP_BATCH 24 BPF_MAP_LOOKUP_AND_DELETE_BATCH 25 BPF_MAP_UPDATE_BATCH 26 BPF_MAP_DELETE_BATCH 27 BPF_LINK_CREATE 28 BPF_LINK_UPDATE 29 " +
		"BPF_LINK_GET_FD_BY_ID 30 BPF_LINK_GET_NEXT_ID 31 BPF_ENABLE_STATS 32 BPF_ITER_CREATE 33 BPF_LINK_DETACH 34 BPF_PROG_BIND_MAP 35 BPF_TOKEN_CREATE 36"},
	"perf":     {name: "perf_flags", bits: true, values: "PERF_FLAG_FD_NO_GROUP 1 PERF_FLAG_FD_OUTPUT 2 PERF_FLAG_PID_CGROUP 4 PERF_FLAG_FD_CLOEXEC 8"},
	"random":   {name: "random_flags", bits: true, values: "GRND_NONBLOCK 1 GRND_RANDOM 2 GRND_INSECURE 4"},
	"reboot":   {name: "reboot_cmd", base: 16, values: "RESTART 0x01234567 HALT 0xcdef0123 CAD_ON 0x89abcdef CAD_OFF 0 POWER_OFF 0x4321fedc RESTART2 0xa1b2c3d4 SW_SUSPEND 0xd000fce2 KEXEC 0x45584543"},
	"sched":    {name: "sched_policy", bits: true, choice: 0xf, values: "SCHED_NORMAL 0 SCHED_FIFO 1 SCHED_RR 2 SCHED_BATCH 3 SCHED_IDLE 5 SCHED_DEADLINE 6 SCHED_EXT 7 SCHED_RESET_ON_FORK 0x40000000"},
	"rlimit":   {name: "rlimit_resource", values: "RLIMIT_CPU 0 RLIMIT_FSIZE 1 RLIMIT_DATA 2 RLIMIT_STACK 3 RLIMIT_CORE 4 RLIMIT_RSS 5 RLIMIT_NPROC 6 RLIMIT_NOFILE 7 RLIMIT_MEMLOCK 8 RLIMIT_AS 9 RLIMIT_LOCKS 10 RLIMIT_SIGPENDING 11 RLIMIT_MSGQUEUE 12 RLIMIT_NICE 13 RLIMIT_RTPRIO 14 RLIMIT_RTTIME 15"},
	"rusage":   {name: "rusage_who", values: "RUSAGE_SELF 0 RUSAGE_CHILDREN -1 RUSAGE_THREAD 1"},
	"priority": {name: "priority_which", values: "PRIO_PROCESS 0 PRIO_PGRP 1 PRIO_USER 2"},
	"itimer":   {name: "itimer_which", values: "ITIMER_REAL 0 ITIMER_VIRTUAL 1 ITIMER_PROF 2"},
	"ipc":      {name: "ipc_flags", bits: true, base: 8, values: "IPC_CREAT 01000 IPC_EXCL 02000 SHM_HUGETLB 04000 SHM_NORESERVE 010000"},
	"kcmp":     {name: "kcmp_type", values: "KCMP_FILE 0 KCMP_VM 1 KCMP_FILES 2 KCMP_FS 3 KCMP_SIGHAND 4 KCMP_IO 5 KCMP_SYSVSEM 6 KCMP_EPOLL_TFD 7"},
	"keyctl": {name: "keyctl_option", values: "KEYCTL_GET_KEYRING_ID 0 KEYCTL_JOIN_SESSION_KEYRING 1 KEYCTL_UPDATE 2 KEYCTL_REVOKE 3 KEYCTL_CHOWN 4 KEYCTL_SETPERM 5 KEYCTL_DESCRIBE 6 KEYCTL_CLEAR 7 KEYCTL_LINK 8 KEYCTL_UNLINK 9 KEYCTL_SEARCH 10 KEYCTL_READ 11 KEYCTL_INSTANTIATE 12 KEYCTL_NEGATE 13 KEYCTL_SET_REQKEY_KEYRING 14 KEYCTL_SET_TIMEOUT 15 " +
		"KEYCTL_ASSUME_AUTHORITY 16 KEYCTL_GET_SECURITY 17 KEYCTL_SESSION_TO_PARENT 18 KEYCTL_REJECT 19 KEYCTL_INSTANTIATE_IOV 20 KEYCTL_INVALIDATE 21 KEYCTL_GET_PERSISTENT 22 KEYCTL_CAPABILITIES 31"},
}
