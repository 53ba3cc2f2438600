# The first steps of a build's own process: leads its session and process group, says so on disk, becomes the build.
# Arguments: folder, PATH of the build, working directory, then the build's argument vector.
# Descriptor 3 is the launch lock: whoever holds it may start the build. Descriptor 4 leads to the launcher.
# The launcher may be gone when it is told. A handler, unlike "ignore", is not inherited by the build.
trap : PIPE
capomastro_here=$1
capomastro_path=$2
cd "$3" || exit 125
shift 3
[ ! -e "$capomastro_here/started" ] || exit 125
read -r capomastro_boot </proc/sys/kernel/random/boot_id || exit 125
read -r capomastro_self <"/proc/$$/stat" || exit 125
printf '1\n%s\n%s\n' "$capomastro_boot" "$capomastro_self" \
    >"$capomastro_here/started.new" 2>&4 || exit 125
sync "$capomastro_here/started.new" 2>&4 || exit 125
# From this rename on the build counts as started, for ever.
mv "$capomastro_here/started.new" "$capomastro_here/started" 2>&4 || exit 125
sync "$capomastro_here" 2>/dev/null
printf 'started\n' 2>/dev/null >&4
PATH=$capomastro_path
unset OLDPWD SHLVL capomastro_here capomastro_path capomastro_boot capomastro_self
exec "$@" 3<&- 4>&-
