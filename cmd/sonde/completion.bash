# Completion of sonde for bash. `make install` puts it where bash-completion finds it; else: source completion.bash

_sonde_probes() { # probe kinds, then whatever begins with what is typed
	local cur=$1
	case $cur in
	*:*) sonde -l "$cur*" 2>/dev/null | head -200 ;;
	*) printf '%s\n' fentry: fexit: hardware: interval: iter: kprobe: kretprobe: profile: rawtracepoint: software: syscall: tracepoint: uprobe: uretprobe: usdt: ;;
	esac
}

_sonde() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words line
	# Colons separate words for bash: what is completed is the text behind the last blank.
	line=${COMP_LINE:0:COMP_POINT}
	COMPREPLY=()
	case $line in
	*\ -l\ * | *\ -lv\ * | *\ -l\ \'* | *\ -lv\ \'*)
		local typed=${line##* }
		local before=${typed%"${typed##*:}"}
		[[ $typed == \'* ]] && typed=${typed#\'} before= # within quotes a word goes on behind a colon
		mapfile -t words < <(_sonde_probes "$typed")
		mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$typed")
		COMPREPLY=("${COMPREPLY[@]#"$before"}")
		[ "${#COMPREPLY[@]}" = 1 ] && [[ ${COMPREPLY[0]} == *: ]] && compopt -o nospace
		return
		;;
	esac
	case $prev in
	-p | --pid | --dwarf-pid) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur") && return ;;
	-f | --format) mapfile -t COMPREPLY < <(compgen -W "text json html junit" -- "$cur") && return ;;
	-B | --buffer) mapfile -t COMPREPLY < <(compgen -W "line full none" -- "$cur") && return ;;
	-d | --debug) mapfile -t COMPREPLY < <(compgen -W "tokens ast checked ir ir-opt bpf verifier all" -- "$cur") && return ;;
	--kernel) mapfile -t COMPREPLY < <(compgen -W "all running 5.10 6.1 6.12 newest" -- "$cur") && return ;;
	esac
	case ${COMP_WORDS[1]} in
	seccomp) [ "$COMP_CWORD" = 2 ] && words="record merge diff show lint emit run check scan" ;;
	lab) [ "$COMP_CWORD" = 2 ] && words="list fetch run shell" ;;
	help) words="explain flame learn triage fmt seccomp verify portability lab" ;;
	esac
	if [ "$COMP_CWORD" = 1 ]; then
		words="explain flame learn triage fmt seccomp verify portability lab help"
		[[ $cur == -* ]] && words="-e -l -lv -c -p --children --comm --container --pod --cgroup -f -o --folded --pprof --map -B -q -k -v -d -I
			--include --debuginfo --dwarf-pid --traceable-functions --dry-run --unsafe --dry-run-actions --no-warnings --no-feature
			--explain-attach --stats --test --bench --probe-filter --fmt --info --version --help"
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	[[ $cur == -* ]] || mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
}

complete -o filenames -F _sonde sonde
