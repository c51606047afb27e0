# shellcheck shell=bash
# Part of lab/run and lab/pair: what both do on the host around a guest. Each
# guest has a directory of its own, with what it boots from and what comes out.

# Modprobe is elsewhere than a user's programs.
PATH=$PATH:/usr/sbin:/sbin

program=lab/${0##*/}
readonly program

# Beside the command's own status, like timeout(1) and docker-run(1).
readonly status_kernel=123 status_timeout=124 status_lab=125

# What the kernel writes when something is wrong in it, one pattern a line.
# "traps: program[pid] general protection fault ip:" is a fault in a program,
# which tests cause on purpose; the kernel's own has a comma.
readonly kernel_trouble='BUG:
WARNING:
Oops
Call Trace:
Kernel panic
kernel BUG at
general protection fault,
KASAN
KCSAN
UBSAN
LOCKUP
soft lockup
INFO: task .* blocked for more than
rcu.*(stall|self-detected)
circular locking
recursive locking
inconsistent lock state
suspicious RCU usage
scheduling while atomic
list_(add|del) corruption
refcount_t:
page allocation failure
Out of memory'

# shellcheck source=initramfs.sh
. "$lab/initramfs.sh"
# shellcheck source=vmlinux.sh
. "$lab/vmlinux.sh"

say()
{
    echo "$program: $*" >&2
}

fail()
{
    say "$*"
    exit "$status_lab"
}

argument()
{
    (($# > 1)) || fail "$1 needs an argument"
    printf '%s\n' "$2"
}

positive()
{
    [[ ${2-} =~ ^[1-9][0-9]*$ ]] || fail "$1 needs a positive number"
    echo "$2"
}

resolve_shares()
{
    local i
    for i in "${!shares[@]}"; do
        mkdir -p "${shares[i]}" || fail "cannot make ${shares[i]}"
        shares[i]=$(realpath "${shares[i]}")
    done
}

check_host()
{
    local missing
    [ "$(uname -m)" = x86_64 ] || fail "runs on x86-64 only"
    missing=$(missing_packages)
    [ -z "$missing" ] || fail "missing packages; apt-get install $missing"
}

missing_packages()
{
    comm -23 <("$lab/deps" | sort) <(
        # shellcheck disable=SC2046 # one word per package
        dpkg-query -W -f '${db:Status-Status} ${Package}\n' $("$lab/deps") 2>/dev/null |
            sed -n 's/^installed //p' | sort) | tr '\n' ' '
}

# The guest shows the host's files with their owners, which takes root to read.
become_root()
{
    ((EUID == 0)) && return
    sudo -n true 2>/dev/null || fail "needs root, or sudo without a password"
    exec sudo -n env LAB_KEEP="${LAB_KEEP-}" LAB_QEMU_ARGS="${LAB_QEMU_ARGS-}" \
        TMPDIR="${TMPDIR-/tmp}" "$lab/${program#lab/}" "$@"
}

# Sets "kernel" to a version and "kernel_root" to where it lies: nothing for
# the root directory, or the directory that was given instead of a version.
choose_kernel()
{
    local modules
    kernel_root=""
    if [[ $kernel == */* ]]; then
        kernel_root=$(realpath "$kernel")
        kernel=""
    fi
    [ -n "$kernel" ] || kernel=$(newest_kernel "$kernel_root/boot")
    [ -n "$kernel" ] || fail "no kernel in $kernel_root/boot"
    modules=$kernel_root/lib/modules/$kernel
    [ -r "$kernel_root/boot/vmlinuz-$kernel" ] ||
        fail "no kernel $kernel_root/boot/vmlinuz-$kernel"
    [ -d "$modules" ] || fail "no modules of that version: $modules"
    # A package that was only unpacked has no list of dependences yet.
    [ -e "$modules/modules.dep" ] || depmod -b "$kernel_root/" "$kernel" ||
        fail "no $modules/modules.dep"
}

# Debian's flavours for clouds have no rdma_rxe.
newest_kernel()
{
    find "$1" -name 'vmlinuz-*-amd64' -printf '%f\n' | sed 's/^vmlinuz-//' |
        grep -vE -- '-(cloud|rt)-amd64$' | sort -V | tail -n 1
}

# Read by busybox as well as bash. $1: which of a pair the guest is, or nothing.
write_config()
{
    local root=9p postgres
    [ "$icount" = no ] || root=ram
    postgres=$(getent passwd postgres | cut -d: -f3,4)
    printf 'LAB_ROOT=%s\nLAB_GUEST=%s\nLAB_POSTGRES=%s\nLAB_MODULES=%q\n' "$root" \
        "$1" "${postgres:-0:0}" \
        "${kernel_root:+$kernel_root/lib/modules/$kernel}"
}

# Read by bash alone; %q keeps any argument whole.
write_command()
{
    local rows=24 columns=80 uid gid home
    IFS=: read -r _ _ uid gid _ home _ < <(getent passwd "$user")
    if [ "$terminal" = yes ]; then
        read -r rows columns < <(stty size)
    fi
    printf 'LAB_COMMAND=('
    printf '%q ' "${command[@]}"
    printf ')\nLAB_SHARES=('
    ((${#shares[@]} > 0)) && printf '%q ' "${shares[@]}"
    printf ')\n'
    printf 'LAB_%s=%q\n' CWD "$PWD" USER "$user" \
        UID "$uid" GID "$gid" HOME "$home" TERMINAL "$terminal" \
        TERM "${TERM:-dumb}" ROWS "$rows" COLUMNS "$columns"
}

# Fills a guest's directory $1 but for the initramfs, to which a root file system
# may be added first. $2: as for write_config.
prepare_guest()
{
    mkdir -p "$1/lab"
    write_config "$2" >"$1/lab/config"
    write_command >"$1/lab/command"
    : >"$1/output"
    : >"$1/status"
    : >"$1/kernel.log"
    : >"$1/initramfs"
}

# mitigations=off: TCG has none of the flaws, and the detours cost it time.
# tsc=reliable: otherwise the kernel mistrusts QEMU's TSC and takes HPET.
# no_timer_check, cryptomgr.notests: a second less until init runs.
# oops=panic: nothing after an oops means anything, so the guest ends there.
# norandmaps: two runs that count instructions have the same addresses.
kernel_arguments()
{
    [ "$icount" = no ] || echo norandmaps
    echo "console=ttyS0 tsc=reliable no_timer_check mitigations=off" \
        "cryptomgr.notests panic=-1 oops=panic rdinit=/init"
}

# Under icount the guest's clock and random numbers come from nothing outside
# it, so that runs are alike.
qemu_accelerator()
{
    if [ "$icount" = yes ]; then
        qemu+=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off'
            -rtc 'base=utc,clock=vm' -seed 1)
    else
        qemu+=(-accel 'tcg,thread=multi')
    fi
}

# What each guest has, whose directory is $1: sets "qemu".
qemu_basics()
{
    qemu=(qemu-system-x86_64 -name fastwake-lab -cpu max -smp "$cpus" -m "$memory"
        -display none -nodefaults -no-user-config -no-reboot -monitor none
        -kernel "$directory/vmlinux" -initrd "$1/initramfs"
        -append "$(kernel_arguments)")
    qemu_accelerator
    qemu_ports "$1"
    qemu_filesystems
}

# ioeventfd=off: the port's data has reached the file when the guest's write
# returns, so that nothing is lost when the guest ends.
qemu_ports()
{
    qemu+=(-chardev "file,id=kernel,path=$1/kernel.log,append=on"
        -serial chardev:kernel
        -device 'virtio-serial-pci,ioeventfd=off'
        -chardev "file,id=output,path=$1/output"
        -device 'virtserialport,chardev=output,name=output,nr=1'
        -chardev "file,id=status,path=$1/status"
        -device 'virtserialport,chardev=status,name=status,nr=2')
    if [ "$terminal" = yes ]; then
        qemu+=(-chardev 'stdio,id=terminal,signal=off'
            -device 'virtconsole,chardev=terminal,nr=3')
    fi
}

qemu_filesystems()
{
    local i
    if [ "$icount" = no ]; then
        qemu+=(-virtfs 'local,path=/,mount_tag=rootfs,security_model=none,readonly=on,multidevs=remap')
    fi
    for i in "${!shares[@]}"; do
        qemu+=(-virtfs "local,path=${shares[i]//,/,,},mount_tag=share$i,security_model=none,multidevs=remap")
    done
}

# Every process started here dies with this one, whatever ends it.
attached()
{
    exec setpriv --pdeathsig KILL -- "$@"
}

# The output goes through a file, not a pipe: a slow reader would stop the
# guest, whose clock goes on. The limit keeps a command that never stops
# printing from filling the disk.
start_qemu()
{
    ulimit -f $((4 << 20))
    attached "${qemu[@]}"
}

end_process()
{
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# Each takes a guest's directory.
has_kernel_trouble()
{
    grep -qaE "$kernel_trouble" "$1/kernel.log"
}

show_kernel_trouble()
{
    say "the kernel reported trouble:"
    grep -aE -A 30 "$kernel_trouble" "$1/kernel.log" | head -n 120 >&2
}

show_end_of_log()
{
    local guest=$1
    shift
    say "$*; the last lines of its log:"
    tail -q -n 20 "$guest/kernel.log" "$guest/qemu.log" >&2
}
