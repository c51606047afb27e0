# shellcheck shell=bash
# Part of t/run: the kernel module's models, builds and tests.

# Builds the module in DIRECTORY, with all that the kernel's build can warn of.
# What else is given is for make.
kmod_build()
{
    make -C "$1/kmod" W=1 "${@:2}" >"$work/kmod.log" 2>&1 ||
        { cat "$work/kmod.log"; return 1; }
    ! grep -iE 'warning|error' "$work/kmod.log"
}

# In a mount namespace, since dkms makes keys, and a tree of its own.
kmod_dkms()
{
    local version kernel
    version=$(<"$repo/VERSION")
    kernel=$(basename "$(dirname "$(printf '%s\n' /lib/modules/*/build | sort -V |
        tail -n 1)")")
    make -C "$work/src/kmod" -s install-dkms DESTDIR="$work/dkms" &&
        unshare -m sh -ec 'mount -t tmpfs tmpfs /var/lib/dkms
            dkms build "fastwake/$1" -k "$2" --sourcetree "$3/usr/src"
            dkms status' - "$version" "$kernel" "$work/dkms" >"$work/dkms.log" 2>&1 &&
        grep -qE '^fastwake.*: built' "$work/dkms.log" && return
    cat "$work/dkms.log"
    return 1
}

# WHAT TESTS KERNEL...: sets "kernel_dir" to what lab/kernel KERNEL... has, which is not
# this machine's; so many TESTS are skipped if it is not to be had.
other_kernel()
{
    kernel_dir=$("$repo/lab/kernel" "${@:3}") && return
    say "skipped for want of the kernel: $1"
    skipped=$((skipped + $2))
    return 1
}

kmod_on_6_12()
{
    local kernel_dir src=$work/src-6.12
    other_kernel 'the module on Linux 6.12' 2 6.12 || return
    cp -a "$work/src" "$src"
    make -C "$src/kmod" -s clean
    check 'the module builds without a warning on 6.12 (W=1, sparse)' \
        kmod_build "$src" SPARSE=1 KDIR="$kernel_dir/build"
    make -C "$src/kmod" -s tests WERROR=1
    tap 'the module in the lab, on 6.12' "$repo/lab/run" --kernel "$kernel_dir" \
        --cpus 2 --timeout 900 -- env FASTWAKE_STRESS_SECONDS=15 \
        FASTWAKE_FUZZ_SECONDS=5 "$src/kmod/test/in_lab"
}

# Not by default: the kernel is built at first, and everything takes longer on it.
part_kmod_debug()
{
    local kernel_dir src=$work/src-debug
    other_kernel 'the module on a debug kernel' 2 debug 6.12 || return
    cp -a "$work/src" "$src"
    make -C "$src/kmod" -s clean
    check 'the module builds without a warning on a debug kernel (W=1)' \
        kmod_build "$src" KDIR="$kernel_dir/build"
    make -C "$src/kmod" -s tests WERROR=1
    tap 'the module in the lab, on a debug kernel' "$repo/lab/run" --kernel "$kernel_dir" \
        --cpus 2 --timeout 3600 -- env FASTWAKE_STRESS_SECONDS="${FASTWAKE_STRESS_SECONDS-}" \
        FASTWAKE_FUZZ_SECONDS="${FASTWAKE_FUZZ_SECONDS-}" "$src/kmod/test/in_lab"
}

kmod_on_arm64()
{
    local kernel_dir src=$work/src-arm64
    other_kernel 'the module for arm64' 1 arm64 || return
    cp -a "$work/src" "$src"
    make -C "$src/kmod" -s clean
    check 'the module builds without a warning for arm64 (W=1)' \
        kmod_build "$src" KDIR="$kernel_dir/build" DEB_BUILD_ARCH=amd64 \
        DEB_HOST_ARCH=arm64 DEB_HOST_GNU_TYPE=aarch64-linux-gnu
}

kmod_exact_times()
{
    local test=$work/src/kmod/test/build/test_left_behind
    "$repo/lab/run" --icount --timeout 600 --ram "$work/src/kmod/fastwake.ko" \
        --ram "$test" -- sh -c 'insmod "$1" test_events=1 && "$2" && rmmod fastwake' \
        - "$work/src/kmod/fastwake.ko" "$test"
}

part_kmod()
{
    tap "models of the module's waits" "$work/src/kmod/model/check"
    check 'the module builds without a warning (W=1, sparse)' \
        kmod_build "$work/src" SPARSE=1
    check 'the module is built by dkms' kmod_dkms
    kmod_on_arm64
    make -C "$work/src/kmod" -s tests WERROR=1 || { fail "the module's tests are built"; return; }
    tap 'the module in the lab' "$repo/lab/run" --cpus 2 --timeout 900 -- \
        env FASTWAKE_STRESS_SECONDS="${FASTWAKE_STRESS_SECONDS-}" \
        FASTWAKE_FUZZ_SECONDS="${FASTWAKE_FUZZ_SECONDS-}" "$work/src/kmod/test/in_lab"
    tap 'the module, where times are exact' kmod_exact_times
    kmod_on_6_12
    core_programs || return
    tap 'core tests on the module, in the lab' "$repo/lab/run" --cpus 2 \
        --timeout 900 -- "$work/src/core/test/in_lab"
}
