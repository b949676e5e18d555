package stdlib

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// codeLateSignal warns about a signal that does not prevent what the probe sees.
const codeLateSignal diag.Code = "W0731"

// maxErrno is the largest error number that the verifier lets a security hook return (MAX_ERRNO).
const maxErrno = 4095

// denyFuncs are the functions that refuse what a hook asks about.
func denyFuncs() []Builtin {
	return []Builtin{{
		Name: "deny", Doc: Doc{
			Group: "action", Summary: "refuse what a security hook asks about",
			Text: "The operation fails with the error number, EPERM when none is given, and has no effect. The action goes on behind `deny()`. When several " +
				"clauses deny, the last one's number counts; nothing lifts a denial, also not one of another security module.",
			Example: "lsm:file_open /str(args.file.f_path.dentry.d_name.name) == \"secret\"/ { deny(EACCES); }", SeeAlso: []string{"signal", "override"},
		},
		Func: &check.Func{Unsafe: true, Params: []check.Param{{Name: "errno", Class: check.IntLiteral, Optional: true, Words: errnoNames()}}, Result: void(denyCheck)},
	}}
}

// errnoNames are the names of all error numbers.
func errnoNames() []string {
	var out []string
	for n := 1; n <= 133; n++ {
		if name := kernel.ErrnoName(n); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// denyErrno is the error number of a call, positive.
func denyErrno(c *check.Call) (int64, bool) {
	if name, ok := c.Str(0); ok {
		for n := 1; n <= 133; n++ {
			if kernel.ErrnoName(n) == name {
				return int64(n), true
			}
		}
		return 0, false
	}
	if n, ok := c.Int(0); ok {
		if n < 0 {
			n = -n // as the kernel writes it
		}
		return n, n > 0 && n <= maxErrno
	}
	return int64(unix.EPERM), len(c.Args) == 0
}

func denyCheck(c *check.Call) {
	if !onlyIn(c, "lsm") {
		return
	}
	if _, ok := denyErrno(c); !ok {
		c.Diags.Errorf(check.CodeLiteralRange, c.Args[0].Span(), "deny() takes an error number from 1 to %d", maxErrno).Hint("use a name such as EPERM or EACCES")
	}
	for _, p := range c.Body.Points {
		d, ok := p.Data.(*lsmPoint)
		if ok && d.cannotDeny != "" {
			c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "%s cannot deny: %s", p.Name, d.cannotDeny)
		}
	}
}

// How much a signal prevents was measured, 40 to 200 times for each operation: it is acted on at the way out of the kernel, or where the kernel
// looks for it. Writing and exec look for it, and so does everything that waits; creating, removing, renaming, truncating and connecting
// are done before the process dies.

// stoppedCalls are the system calls that a deadly signal sent at their start prevents or interrupts.
var stoppedCalls = strings.Fields("write writev pwrite64 pwritev pwritev2 execve execveat nanosleep clock_nanosleep poll ppoll select pselect6 epoll_wait " +
	"epoll_pwait epoll_pwait2 wait4 waitid futex futex_wait pause rt_sigsuspend rt_sigtimedwait accept accept4 recvfrom recvmsg recvmmsg flock exit exit_group")

// hooksOf are the security hooks that refuse what system calls do.
var hooksOf = map[string]string{
	"open": "file_open", "openat": "file_open", "openat2": "file_open", "creat": "file_open", "unlink": "inode_unlink", "unlinkat": "inode_unlink", "rmdir": "inode_rmdir",
	"mkdir": "inode_mkdir", "mkdirat": "inode_mkdir", "rename": "inode_rename", "renameat": "inode_rename", "renameat2": "inode_rename", "symlink": "inode_symlink",
	"symlinkat": "inode_symlink", "link": "inode_link", "linkat": "inode_link", "truncate": "path_truncate", "ftruncate": "path_truncate", "chmod": "path_chmod",
	"fchmod": "path_chmod", "fchmodat": "path_chmod", "chown": "path_chown", "fchown": "path_chown", "fchownat": "path_chown", "connect": "socket_connect",
	"bind": "socket_bind", "listen": "socket_listen", "socket": "socket_create", "sendto": "socket_sendmsg", "sendmsg": "socket_sendmsg", "ptrace": "ptrace_access_check",
	"mount": "sb_mount", "umount": "sb_umount", "bpf": "bpf", "kill": "task_kill", "setuid": "task_fix_setuid", "mmap": "mmap_file", "mprotect": "file_mprotect",
}

// functionCalls are kernel functions that do the work of a system call.
var functionCalls = map[string]string{
	"do_sys_open": "openat", "do_sys_openat2": "openat", "do_filp_open": "openat", "vfs_open": "openat", "vfs_create": "openat", "vfs_unlink": "unlinkat", "do_unlinkat": "unlinkat",
	"vfs_mkdir": "mkdirat", "do_mkdirat": "mkdirat", "vfs_rmdir": "rmdir", "do_rmdir": "rmdir", "vfs_rename": "renameat2", "do_renameat2": "renameat2", "vfs_symlink": "symlinkat",
	"vfs_link": "linkat", "do_truncate": "truncate", "vfs_truncate": "truncate", "notify_change": "fchmodat", "chmod_common": "fchmodat", "tcp_v4_connect": "connect",
	"tcp_v6_connect": "connect", "tcp_connect": "connect", "__sys_connect": "connect", "inet_bind": "bind",
}

// deadly reports whether a signal is meant to stop what the process does.
func deadly(c *check.Call) bool {
	n := int64(0)
	if name, ok := c.Str(0); ok {
		n = int64(SignalNumber(name))
	} else if n, ok = c.Int(0); !ok {
		return false
	}
	switch n {
	case 1, 2, 3, 6, 9, 15, 19: // HUP, INT, QUIT, ABRT, KILL, TERM, STOP
		return true
	}
	return false
}

// lateSignal warns where a signal comes too late to prevent what the probe sees.
func lateSignal(c *check.Call) {
	if !deadly(c) {
		return
	}
	for _, p := range c.Body.Points {
		call, past := callOf(p)
		if call == "" || !past && slices.Contains(stoppedCalls, call) {
			continue
		}
		text := fmt.Sprintf("the signal comes too late for `%s`, which still takes effect: it is acted on when the kernel is left", call)
		if past {
			text = fmt.Sprintf("the signal comes too late for `%s`, which has taken effect already", call)
		}
		d := c.Diags.Warnf(codeLateSignal, c.Node.Sp, "%s", text)
		if h := hooksOf[call]; h != "" {
			d.Hint("use `lsm:%s` with `deny()` to prevent it", h)
		}
		return
	}
}

// callOf names the operation that a point sees, "" when it is none that a signal is meant to prevent; past tells that it has been done.
func callOf(p *check.Point) (name string, past bool) {
	switch d := p.Data.(type) {
	case *syscallPoint:
		return d.name, d.ret
	case *tracepointPoint:
		if d.category != "syscalls" {
			return "", false
		}
		if n, ok := strings.CutPrefix(d.name, "sys_exit_"); ok {
			return strings.TrimPrefix(n, "new"), true
		}
		n, _ := strings.CutPrefix(d.name, "sys_enter_")
		return strings.TrimPrefix(n, "new"), false
	case *lsmPoint:
		for call, hook := range hooksOf {
			if hook == d.hook && call != "open" && call != "creat" {
				return d.hook, false
			}
		}
		return "", false
	}
	past = p.Kind.Name() == "kretprobe" || p.Kind.Name() == "fexit"
	if p.Space != types.SpaceKernel {
		return "", false
	}
	fn := p.FuncName
	for _, prefix := range []string{"__x64_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_", "ksys_"} {
		if n, ok := strings.CutPrefix(fn, prefix); ok {
			return n, past
		}
	}
	if n, ok := strings.CutPrefix(fn, "security_"); ok {
		for _, hook := range hooksOf {
			if hook == n {
				return n, past
			}
		}
	}
	return functionCalls[fn], past
}
