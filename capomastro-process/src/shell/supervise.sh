# Supervises one build; outlives the scheduler. Standard input is the launch lock, standard output leads to the launcher.
# Arguments: text of begin.sh, text of stop.sh, folder, PATH of the build, working directory, largest log (512-byte
# blocks), grace (seconds), then the build's argument vector.
# Names begin with capomastro_, which the build's environment may not use, so that nothing of it is changed here.
exec 3<&0 4>&1 0</dev/null 1>/dev/null 2>&4
# Handlers, not "ignore": ignoring would be inherited by the build.
trap : HUP INT TERM PIPE

capomastro_begin=$1
capomastro_stop=$2
capomastro_here=$3
capomastro_path=$4
capomastro_dir=$5
capomastro_blocks=$6
capomastro_grace=$7
shift 7

# Ends a helper and what it has started. SIGKILL, since a shell that is just starting loses other signals.
capomastro_end() {
    kill -KILL "-$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null
}

mkfifo -m 600 "$capomastro_here/log.pipe" "$capomastro_here/control" || exit 1

# The log: as much as is allowed, then a mark; the build is never held up by it.
# Each pipe is first opened for reading and writing, so that no opening waits; each end is then held by one process only.
exec 5<>"$capomastro_here/log.pipe" 6<"$capomastro_here/log.pipe" 7>"$capomastro_here/log.pipe" 5<&-
setsid /bin/sh -c '
    trap "" XFSZ
    ulimit -c 0
    ulimit -f "$2"
    cat >"$1/log" || {
        true >"$1/log.cut"
        cat >/dev/null
    }
' capomastro-log "$capomastro_here" "$capomastro_blocks" <&6 >/dev/null 2>&1 3<&- 4>&- 6<&- 7>&- &
capomastro_log=$!

exec 5<>"$capomastro_here/control" 6<"$capomastro_here/control" 8>"$capomastro_here/control" 5<&-
setsid /bin/sh -c "$capomastro_stop" capomastro-stop "$capomastro_here" "$capomastro_grace" \
    <&6 >/dev/null 2>&1 3<&- 4>&- 6<&- 7>&- 8>&- &
capomastro_stopper=$!
exec 6<&-

# In the foreground: what a shell starts with "&" has SIGINT ignored.
setsid /bin/sh -c "$capomastro_begin" capomastro-begin \
    "$capomastro_here" "$capomastro_path" "$capomastro_dir" "$@" \
    </dev/null >&7 2>&1 7>&- 8>&-
capomastro_code=$?

# What the build left running in its group ends with it; then nobody may stop that number any more.
exec 7>&-
if { read -r capomastro_x && read -r capomastro_x && read -r capomastro_leader capomastro_x; } \
    2>/dev/null <"$capomastro_here/started"; then
    kill -KILL "-$capomastro_leader" 2>/dev/null
fi
capomastro_end "$capomastro_stopper"
wait "$capomastro_stopper" 2>/dev/null
if [ -z "$capomastro_leader" ]; then
    capomastro_end "$capomastro_log"
    exit 1
fi

# The log is complete when its pipe is closed; who has left the group and holds it is not waited for.
setsid /bin/sh -c 'sleep 3; kill -KILL "-$1"' capomastro-timer "$capomastro_log" \
    >/dev/null 2>&1 3<&- 4>&- 8>&- &
capomastro_timer=$!
wait "$capomastro_log" 2>/dev/null
capomastro_end "$capomastro_timer"

if [ -e "$capomastro_here/stopping" ]; then capomastro_stopped=true; else capomastro_stopped=false; fi
# What an enclosure was told inside must not be less durable than the status.
if [ -f "$capomastro_here/says/end" ] && [ ! -L "$capomastro_here/says/end" ]; then
    sync "$capomastro_here/says/end" 2>/dev/null
fi
# A full disk must not lose the outcome: try for ten minutes.
capomastro_try=0
until printf '{"format":1,"code":%d,"stopped":%s}\n' "$capomastro_code" "$capomastro_stopped" \
    2>/dev/null >"$capomastro_here/status.new" &&
    sync "$capomastro_here/status.new" 2>/dev/null &&
    mv "$capomastro_here/status.new" "$capomastro_here/status.json" 2>/dev/null; do
    capomastro_try=$((capomastro_try + 1))
    [ "$capomastro_try" -lt 600 ] && [ -d "$capomastro_here" ] || exit 1
    sleep 1
done
sync "$capomastro_here" 2>/dev/null
exit 0
