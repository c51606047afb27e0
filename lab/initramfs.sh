# shellcheck shell=bash
# Part of lab/host.sh: the initramfs, which holds busybox, the modules that the
# guest needs before and for its RDMA device, and the lab's own scripts.

# crypto-crc32: rxe asks for it by this alias; with modprobe out of reach it
# would find nothing. rxe0's network device is a dummy, or in a pair virtio_net.
readonly lab_modules='virtio_pci virtio_console crypto-crc32 crypto-crc32c
    rdma_rxe rdma_ucm ib_uverbs'
readonly lab_9p_modules='9pnet_virtio 9p overlay'

# Prints "PATH PARAMETERS" per module, each after those it depends on.
module_order()
{
    local module
    for module in "$@"; do
        # shellcheck disable=SC2154 # set in lab/run
        modprobe -d "$kernel_root/" -S "$kernel" --show-depends "$module" || return
    done | sed -n 's/^insmod //p' | awk '!seen[$1]++'
}

# Newer kernels ship their modules compressed.
copy_module()
{
    case $1 in
        *.xz) xz -dc "$1" >"$2" ;;
        *) cp "$1" "$2" ;;
    esac
}

# Loading a module takes time under emulation: those for 9p only if it is used.
copy_modules()
{
    local destination=$1 file parameters name modules=$lab_modules
    # shellcheck disable=SC2154 # set in lab/run and lab/pair
    modules="$network_module $modules"
    # shellcheck disable=SC2154 # set in lab/run
    [ "$icount" = yes ] && ((${#shares[@]} == 0)) || modules+=" $lab_9p_modules"
    # shellcheck disable=SC2086 # a list of words
    module_order $modules >"$destination/order" || return
    while read -r file parameters; do
        name=$(basename "${file%.xz}")
        copy_module "$file" "$destination/$name" || return
        echo "/lab/$name $parameters"
    done <"$destination/order" >"$destination/modules"
}

# $1/lab holds what was written for this guest; the rest is added here. The archive goes
# behind what is in the initramfs already: the kernel unpacks one by one.
build_initramfs()
{
    local directory=$1
    # shellcheck disable=SC2154 # set in lab/run
    # shellcheck disable=SC2154 # set in lab/run and lab/pair
    cp "$(command -v busybox)" "$lab/guest" "${guest_files[@]}" "$directory/lab/" &&
        copy_modules "$directory/lab" || return
    cp "$lab/init" "$directory/init"
    (cd "$directory" && find init lab -print0 |
        cpio -0 --quiet -o -H newc -R 0:0) >>"$directory/initramfs"
}
