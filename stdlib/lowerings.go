package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
)

// lowerFuncs and lowerVars say how builtins become IR, by canonical name. A builtin that is known while compiling needs none.
func lowerFuncs() map[string]any {
	return map[string]any{
		"count": lowerCount, "sum": lowerSum, "avg": lowerAvg, "stats": lowerAvg, "min": lowerMinMax, "max": lowerMinMax,
		"hist": lowerHist, "lhist": lowerLHist, "tseries": lowerTSeries,

		"delete": lowerDelete, "has_key": lowerHasKey, "find": lowerFind, "len": lowerLen,
		"clear": lowerMapEvent(object.EvClear), "zero": lowerMapEvent(object.EvZero),

		"printf": lowerFormatted(object.EvPrintf), "errorf": lowerFormatted(object.EvErrorf), "warnf": lowerFormatted(object.EvWarnf),
		"cat": lowerFormatted(object.EvCat), "system": lowerFormatted(object.EvSystem),
		"print": lowerPrint, "debugf": lowerDebugf, "config": lowerConfig, "join": lowerJoin, "time": lowerTime, "exit": lowerExit,

		"signal":        lowerSignal(asm.FnSendSignal, "send_signal", object.CounterSignal),
		"signal_thread": lowerSignal(asm.FnSendSignalThread, "send_signal_thread", object.CounterSignalThread),
		"override":      lowerOverride, "deny": lowerDeny, "unwatch": lowerUnwatch,

		"ntop": lowerNtop, "pton": lowerPton, "macaddr": lowerMacaddr, "bswap": lowerBswap,

		"pid": lowerPIDCall(pidOf, hostPID), "tid": lowerPIDCall(tidOf, hostTID), "comm": lowerCommCall, "pcomm": nameOfCall("real_parent"), "leader_comm": nameOfCall("group_leader"), "leader_tid": lowerLeaderTIDCall, "ppid": lowerPPIDCall,
		"cgroup_path": lowerCgroupPath,

		"assert_str": lowerNothing, "static_assert": lowerNothing, "fail": lowerNothing,

		"str": lowerStr, "str_concat": lowerStrConcat, "globmatch": lower.Searcher(lowerGlobmatch), "buf": lowerBuf, "strlen": lowerStrlen, "strcap": lowerStrlen, "strncmp": lower.Searcher(lowerStrncmp), "memcmp": lower.Searcher(lowerMemcmp),
		"strcontains": lower.Searcher(lowerStrcontains), "strstr": lower.Searcher(lowerStrstr), "path": lowerPath,
		"strerror": lowerStrerror, "signal_name": lowerSignalName, "syscall_name": lowerSyscallName,

		"nsecs": lowerNsecs, "strftime": lowerStrftime,

		"kstack": lowerStackCall(false), "ustack": lowerStackCall(true), "dw_ustack": lowerUnwoundCall, "reg": lowerReg,
		"kaddr": lowerKaddr, "uaddr": lowerUaddr, "percpu_kaddr": lowerPercpuKaddr, "cgroupid": lowerCgroupID,
		"socket_cookie": lowerSocketCookie, "skboutput": lowerSkbOutput, "write_user": lowerWriteUser,
		"ksym": lowerScalarOf, "usym": lowerUSym, "kptr": lowerScalarOf, "uptr": lowerScalarOf,
	}
}

func lowerVars() map[string]lower.VarFunc {
	return map[string]lower.VarFunc{
		"args": lowerArgs, "argN": lowerArgN, "sargN": lowerStackArg, "retval": lowerRetval, "ctx": lowerCtx,
		"func": scalarVar(funcValue), "probe": scalarVar(probeIndex),
		"pid": scalarVar(pidOf), "tid": scalarVar(tidOf), "uid": scalarVar(uidOf), "gid": scalarVar(gidOf), "username": scalarVar(uidOf),
		"comm": lowerComm, "pcomm": nameOf("real_parent"), "leader_comm": nameOf("group_leader"), "leader_tid": lowerLeaderTID, "ppid": lowerPPID,
		"cgroup": scalarVar(cachedHelper("cgroup", asm.FnGetCurrentCgroupId)),
		"nsecs":  scalarVar(nanoseconds), "elapsed": scalarVar(elapsed), "jiffies": scalarVar(helperValue(asm.FnJiffies64)),
		"cpu": scalarVar(cachedHelper("cpu", asm.FnGetSmpProcessorId)), "numaid": scalarVar(helperValue(asm.FnGetNumaNodeId)),
		"rand": scalarVar(helperValue(asm.FnGetPrandomU32)), "usermode": scalarVar(userMode), "curtask": lowerCurtask,
		"kstack": lowerStackVar(false), "ustack": lowerStackVar(true),
	}
}
