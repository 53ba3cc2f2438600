# The supervisor's companion: stops the build when asked, with a grace; when the supervisor itself is killed, at once.
# Arguments: folder, grace (seconds). Standard input is the control pipe, which ends when the supervisor does.
# Ended by SIGKILL as soon as the build has ended, so that it never signals a number that means another process.
leader() {
    { read -r skipped && read -r skipped && read -r leader skipped; } <"$1/started"
}
if read -r word && [ "$word" = stop ] && leader "$1"; then
    true >"$1/stopping"
    if [ -p "$1/stop.pipe" ]; then
        # Somebody inside an enclosure reads it, now or soon: it stays open meanwhile.
        exec 3<>"$1/stop.pipe" 4>"$1/stop.pipe"
        printf 'stop\n' >&4
    else
        kill -TERM "-$leader"
    fi
    sleep "$2" </dev/null
    kill -KILL "-$leader"
else
    # A build that is just beginning says so within moments, or never begins.
    for try in 1 2 3 4 5; do
        if leader "$1"; then
            kill -KILL "-$leader"
            break
        fi
        sleep 1
    done
fi
