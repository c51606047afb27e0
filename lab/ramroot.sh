# shellcheck shell=bash
# Part of lab/run: the root file system of an --icount guest, a cpio archive
# that the kernel unpacks into memory. It holds what the caller names, a small
# Debian to run it in, and what all of that needs to start: symbolic links'
# targets, scripts' interpreters, programs' shared libraries.

# Beside Debian's essential packages, on which its scripts rely: the RDMA tools,
# and the modules of PAM for su and runuser.
readonly ram_base_packages='procps kmod iproute2 ibverbs-utils ibverbs-providers
    rdmacm-utils perftest libpam-modules libpam-runtime'

# Files that belong to no package or are loaded by name: alternatives, the
# dynamic linker's cache, users and their sessions, libgcc for thread
# cancellation, time zones.
readonly ram_base_paths='/bin /sbin /lib /lib32 /lib64 /libx32
    /tmp /var/tmp /root /mnt /home /usr/bin/awk /usr/bin/which
    /etc/passwd /etc/group /etc/shadow /etc/pam.d/* /etc/hostname /etc/localtime /etc/timezone
    /etc/ld.so.cache /lib/x86_64-linux-gnu/libgcc_s.so.1
    /usr/share/zoneinfo/Etc /usr/share/zoneinfo/UTC /usr/share/zoneinfo/GMT'

# Not needed to run a program. LLVM is 120 MB; PostgreSQL finds llvmjit missing
# and runs without.
readonly ram_unwanted='^/usr/share/(doc|man|locale|info|lintian|bug|bash-completion)(/|$)|/bitcode(/|$)|/llvmjit'

essential_packages()
{
    dpkg-query -W -f '${Essential} ${Package}\n' | sed -n 's/^yes //p'
}

# Files of the packages $@. A directory is listed too, but only as itself.
package_paths()
{
    dpkg-query -L "$@" | grep '^/.' | grep -vE "$ram_unwanted"
}

# The files of the caller's paths, with all that is below a directory. Sockets
# cannot be archived.
named_paths()
{
    local path
    for path in "$@"; do
        realpath -s "$path"
        find "$(realpath "$path")" ! -type s
    done | grep -vE "$ram_unwanted"
}

# Adds paths to the work list, each under the real name of its directory: in
# the archive, a path through a symbolic link would make a second directory.
# Names with a line break in them are left out throughout.
declare -A ram_seen ram_real
add_paths()
{
    local path parent name
    while IFS= read -r path; do
        parent=${path%/*} name=${path##*/}
        if [ -z "${ram_real[/$parent]-}" ]; then
            ram_real[/$parent]=$(realpath "${parent:-/}" 2>/dev/null) || continue
        fi
        path=${ram_real[/$parent]%/}/$name
        [[ -z ${ram_seen[$path]-} && -e $path ]] || continue
        ram_seen[$path]=1
        ram_new+=("$path")
    done
}

# Prints what a link points to, as a path.
link_target()
{
    local target
    target=$(readlink "$1")
    case $target in
        /*) echo "$target" ;;
        *) echo "${1%/*}/$target" ;;
    esac
}

# Sorts the paths $@ by what they need: prints links' targets and scripts'
# interpreters, and puts programs and libraries into the file "elf". Reading
# four bytes by the shell itself is what makes thousands of files bearable.
needed_by()
{
    local path start
    for path in "$@"; do
        if [ -L "$path" ]; then
            link_target "$path"
        elif [ -f "$path" ] && IFS= LC_ALL=C read -r -n 80 start <"$path"; then
            case $start in
                $'\x7fELF'*) echo "$path" >&3 ;;
                '#!'*) start=${start#'#!'}; start=${start# }; echo "${start%% *}" ;;
            esac
        fi
    done 2>/dev/null
}

libraries_of()
{
    xargs -r -d '\n' ldd 2>/dev/null | grep -oE '/[^ ]+ \(0x' | sed 's/ (0x$//' | sort -u
}

# From the work list to its closure: each round adds what the last one's paths
# need, until that is nothing new.
close_paths()
{
    local round elf=$1/elf
    while ((${#ram_new[@]} > 0)); do
        round=("${ram_new[@]}")
        ram_new=()
        needed_by "${round[@]}" 3>"$elf" >"$1/needed"
        libraries_of <"$elf" >>"$1/needed"
        add_paths <"$1/needed"
    done
}

# Parents, because cpio makes none and would not know their owners.
with_parents()
{
    local path
    for path in "${!ram_seen[@]}"; do
        while [ -n "$path" ]; do
            echo "${path#/}"
            path=${path%/*}
        done
    done | LC_ALL=C sort -u
}

# $1: work directory; then directories that are wanted empty, --, paths, --,
# packages. Writes the archive to stdout.
build_ram_root()
{
    local directory=$1 empty=() paths=()
    shift
    while [ "$1" != -- ]; do
        empty+=("$1")
        shift
    done
    shift
    while [ "$1" != -- ]; do
        paths+=("$1")
        shift
    done
    shift
    ram_new=()
    # shellcheck disable=SC2046,SC2086 # lists of words
    add_paths < <(
        printf '%s\n' $ram_base_paths "${empty[@]}"
        package_paths $(essential_packages) $ram_base_packages "$@"
        named_paths "${paths[@]}")
    close_paths "$directory"
    with_parents | (cd / && cpio --quiet -o -H newc)
}
