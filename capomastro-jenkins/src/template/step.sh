
# --- from here on it is the same for every job ---

say() { printf 'capomastro: %s\n' "$*" >&2; }
fail() { say "$1"; exit 70; }

set -euf
umask 022
capo_child='' capo_links='' capo_name='' capo_timer='' capo_watched=''
capo_workspace=${WORKSPACE:-$(pwd)}
capo_temp=${WORKSPACE_TMP:-${TMPDIR:-/tmp}}
mkdir -p -- "$capo_temp" || fail "the temporary folder $capo_temp cannot be made"
# What steps left that were killed with everything around them.
find "$capo_temp" -maxdepth 1 -name 'capomastro.*' -mtime +7 -exec rm -rf -- {} + 2>/dev/null || :
capo_run=$(mktemp -d "$capo_temp/capomastro.XXXXXX") || fail "no folder can be made in $capo_temp"
chmod 711 "$capo_run"
mkdir -m 777 "$capo_run/out"
chmod 777 "$capo_run/out"

# One word that a shell reads back as it was.
quote() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }

# A path as it stands in a list of mounts.
blank() { printf '%s\n' "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g'; }

# An LXC tool, as the settings say.
tool() {
    capo_which=$1
    shift
    if [ -n "$capo_lxcpath" ]; then set -- -P "$capo_lxcpath" "$@"; fi
    $capo_through "lxc-$capo_which" "$@"
}

stop() {
    trap '' HUP INT TERM
    if [ -n "$capo_timer" ]; then kill -s KILL "$capo_timer" 2>/dev/null || :; fi
    if [ -n "$capo_child" ]; then
        kill -s TERM -- "-$capo_child" 2>/dev/null || kill -s TERM "$capo_child" 2>/dev/null || :
        { sleep "$capo_grace"; kill -s KILL -- "-$capo_child"; } 9>&- </dev/null >/dev/null 2>&1 &
        capo_killer=$!
        wait "$capo_child" 2>/dev/null || :
        kill -s KILL "$capo_killer" 2>/dev/null || :
    fi
    if [ -n "$capo_name" ]; then tool stop -k -n "$capo_name" >/dev/null 2>&1 || :; fi
    if [ -n "$capo_watched" ]; then { echo over >&9; } 2>/dev/null || :; fi
    rm -rf -- "$capo_run" ${capo_links:+"$capo_links"}
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command in a process group of its own, so that a signal to this shell is not kept waiting by it.
# Its status goes to $capo_status. Its standard input is file $1, its standard output file $2, or that of this shell for "-".
attend() {
    capo_input=$1 capo_output=$2
    shift 2
    if [ "$capo_output" = - ]; then
        setsid "$@" <"$capo_input" 9>&- &
    else
        setsid "$@" <"$capo_input" >"$capo_output" 9>&- &
    fi
    capo_child=$!
    capo_status=0
    wait "$capo_child" || capo_status=$?
    capo_child=''
}

case $capo_seconds in
    '') ;;
    *[!0-9]* | ??????*) fail "the time limit is not a number of seconds: $capo_seconds" ;;
    *)
        { sleep "$capo_seconds" 2>/dev/null; say "the time limit of $capo_seconds s has passed"; kill -s TERM $$; } </dev/null >/dev/null &
        capo_timer=$!
        ;;
esac

# --- the job type: its branch at its revision ---

capo_job_type=$capo_run/job-type
[ -n "$capo_repository" ] || fail "no job type is given: set its repository"
case $capo_repository in -*) fail "the repository begins with a dash" ;; esac
git check-ref-format "refs/heads/$capo_branch" || fail "the branch is no name of one: $capo_branch"
case $capo_revision in
    '') ;;
    *[!0-9a-f]*) fail "the job type's revision is not a full commit id: $capo_revision" ;;
    *) case ${#capo_revision} in 40 | 64) ;; *) fail "the job type's revision is not a full commit id: $capo_revision" ;; esac ;;
esac
case /$capo_script/ in
    *//* | */./* | */../*) fail "the script is not a path inside the job type: $capo_script" ;;
esac
export GIT_TERMINAL_PROMPT=0
attend /dev/null - git clone --quiet --no-checkout --no-tags --single-branch --branch="$capo_branch" -- "$capo_repository" "$capo_job_type"
[ "$capo_status" = 0 ] || fail "the job type's branch $capo_branch cannot be had from $capo_repository"
capo_tip=$(git -C "$capo_job_type" rev-parse --quiet --verify "refs/remotes/origin/$capo_branch^{commit}") ||
    fail "there is no branch $capo_branch in $capo_repository"
capo_revision=${capo_revision:-$capo_tip}
git -C "$capo_job_type" merge-base --is-ancestor "$capo_revision" "$capo_tip" 2>/dev/null ||
    fail "branch $capo_branch of $capo_repository does not have revision $capo_revision"
attend /dev/null - git -C "$capo_job_type" -c advice.detachedHead=false checkout --quiet --detach "$capo_revision"
[ "$capo_status" = 0 ] || fail "revision $capo_revision of the job type cannot be checked out"
[ -f "$capo_job_type/$capo_script" ] || fail "revision $capo_revision of the job type has no file $capo_script"
[ -x "$capo_job_type/$capo_script" ] || fail "$capo_script of the job type is not executable at revision $capo_revision"
say "job type at $capo_revision, script $capo_script"

# --- the script ---

capo_answer=-
if [ "$capo_purpose" = probe ]; then
    case $capo_mark in '' | *[!0-9A-Za-z-]*) fail "no mark was given for the answer" ;; esac
    capo_answer=$capo_run/answer
fi

case $capo_isolation in
    direct)
        cd -- "$capo_workspace"
        attend /dev/null "$capo_answer" "$capo_job_type/$capo_script"
        ;;
    *)
        # The variables go in by standard input: no other way holds every value and is seen by nobody else.
        {
            for capo_variable in $capo_variables; do
                eval "capo_given=\${$capo_variable+x}"
                if [ -n "$capo_given" ]; then
                    eval "capo_value=\$$capo_variable"
                    printf '%s=' "$capo_variable"
                    quote "$capo_value"
                    printf 'export %s\n' "$capo_variable"
                fi
            done
            printf 'WORKSPACE=%s\nexport WORKSPACE\n' "$(quote "/$capo_mount/workspace")"
        } >"$capo_run/variables"
        # shellcheck disable=SC2016 # it is read inside
        capo_inside='set -u
eval "$(cat)"
exec </dev/null
cd -- "$WORKSPACE" || exit 70
capo_status=0
"$1" || capo_status=$?
echo "$capo_status" >"$2/status"'
        case $capo_workspace$capo_run in
            *'
'*) fail "the workspace's path has a line break, which LXC cannot mount" ;;
        esac
        # LXD and Incus take 63 characters at most.
        capo_name=capo-$(printf %s "${capo_id:-none}" | tr -c '0-9A-Za-z-' - | cut -c1-40)-$(printf %s "${BUILD_NUMBER:-$$}" | tr -cd 0-9 | cut -c1-10)
        if [ "$capo_isolation" = copy ]; then
            # In the list of mounts a blank, a comma and a colon each break a path, so it has links to the paths.
            capo_links=$(mktemp -d /tmp/capomastro.XXXXXX)
            chmod 711 "$capo_links"
            ln -s -- "$capo_workspace" "$capo_links/workspace"
            ln -s -- "$capo_job_type" "$capo_links/job-type"
            ln -s -- "$capo_run/out" "$capo_links/out"
        fi
        # Takes the container down when this shell is killed and cannot: the pipe ends with it. Without the environment,
        # by which Jenkins would find and kill it too.
        mkfifo -m 600 "$capo_run/alive"
        set -- $capo_through lxc-stop
        if [ -n "$capo_lxcpath" ]; then set -- "$@" -P "$capo_lxcpath"; fi
        # shellcheck disable=SC2016 # it is read later
        env -i "PATH=$PATH" setsid /bin/sh -c 'capo_run=$1 capo_links=$2; shift 2; read -r over || { "$@"; rm -rf -- "$capo_run" ${capo_links:+"$capo_links"}; }' \
            watch "$capo_run" "$capo_links" "$@" -k -n "$capo_name" <"$capo_run/alive" >/dev/null 2>&1 &
        exec 9>"$capo_run/alive"
        capo_watched=yes
        say "container $capo_name"
        if [ "$capo_isolation" = execute ]; then
            {
                printf '%s\n' "$capo_container"
                printf 'lxc.mount.entry = tmpfs %s tmpfs rw,nosuid,nodev,mode=0755,size=1m 0 0\n' "$capo_mount"
                printf 'lxc.mount.entry = %s %s/workspace none bind,create=dir,rw 0 0\n' "$(blank "$capo_workspace")" "$capo_mount"
                printf 'lxc.mount.entry = %s %s/job-type none bind,create=dir,ro 0 0\n' "$(blank "$capo_job_type")" "$capo_mount"
                printf 'lxc.mount.entry = %s %s/out none bind,create=dir,rw 0 0\n' "$(blank "$capo_run/out")" "$capo_mount"
            } >"$capo_run/lxc.conf"
            set -- $capo_through lxc-execute
            if [ -n "$capo_lxcpath" ]; then set -- "$@" -P "$capo_lxcpath"; fi
            set -- "$@" -n "$capo_name" -f "$capo_run/lxc.conf"
        else
            tool copy -n "$capo_container" -N "$capo_name" -e -B overlay \
                -m "bind=$capo_links/workspace:/$capo_mount/workspace:rw,bind=$capo_links/job-type:/$capo_mount/job-type:ro,bind=$capo_links/out:/$capo_mount/out:rw" \
                </dev/null >&2 9>&- || fail "no copy of container $capo_container can be started: is it there, and stopped?"
            tool wait -n "$capo_name" -s RUNNING -t 60 || fail "the copy of container $capo_container did not start within 60 s"
            set -- $capo_through lxc-attach
            if [ -n "$capo_lxcpath" ]; then set -- "$@" -P "$capo_lxcpath"; fi
            set -- "$@" -n "$capo_name" --clear-env -v "PATH=$capo_path"
        fi
        attend "$capo_run/variables" "$capo_answer" "$@" -- /bin/sh -c "$capo_inside" sh "/$capo_mount/job-type/$capo_script" "/$capo_mount/out"
        capo_ended=$capo_status
        capo_status=$(head -c 3 "$capo_run/out/status" 2>/dev/null | tr -cd 0-9) || capo_status=''
        if [ -z "$capo_status" ]; then
            say "the container did not run the script to its end (LXC says $capo_ended): see what it wrote above, and try lxc-execute or lxc-attach by hand"
            exit 75
        fi
        ;;
esac

if [ "$capo_purpose" = probe ]; then
    case $capo_language.$capo_status in
        changed.0) echo true >"$capo_answer" ;;
        changed.1) echo false >"$capo_answer" ;;
        changed.* | token.[!0]*) fail "the probe's script failed with status $capo_status" ;;
    esac
    [ "$(wc -c <"$capo_answer")" -le 4096 ] || fail "the probe's script printed more than 4,096 bytes"
    # What is in the answer cannot be taken for the lines around it: it does not know the mark.
    printf '\n%s begin\n' "$capo_mark"
    cat -- "$capo_answer"
    printf '\n%s end\n' "$capo_mark"
    exit 0
fi
exit "$capo_status"
