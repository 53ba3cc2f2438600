# The first process of a build inside its container. Outlives the build's own, whose status it tells.
# Arguments: the file that tells the end, the pipe by which the build is told to stop, the working directory, names of
# variables, "--", the build's argument vector. The values of the variables come under names that mean nothing to anybody
# outside.
# A handler, unlike "ignore", is not inherited by the build.
trap : TERM
exec 8>>"$1"
cd "$3" || exit 125
# The companion, which stops the build when asked; and which ends everything when this shell is gone, and with it the last
# that could write to the pipe. It is first opened for both, so that no opening waits.
exec 5<>"$2" 6<"$2" 9>"$2" 5<&-
{
    if read -r capomastro_word && [ "$capomastro_word" = stop ]; then
        kill -TERM -1
        read -r capomastro_word
    fi
    kill -KILL -1
} <&6 >/dev/null 2>&1 6<&- 8>&- 9>&- &
exec 6<&-
shift 3
while [ "$1" != -- ]; do
    eval "export $1=\"\$CAPOMASTRO_IN_$1\""
    unset "CAPOMASTRO_IN_$1"
    shift
done
shift
unset OLDPWD SHLVL
printf 'begun\n' >&8
# What the shell itself says of a build that a signal has ended is no part of the log.
exec 7>&2 2>/dev/null
(exec "$@") 2>&7 7>&- 8>&- 9>&-
capomastro_code=$?
# What the build left running ends with it.
kill -KILL -1
printf 'end %d\n' "$capomastro_code" >&8
exit "$capomastro_code"
