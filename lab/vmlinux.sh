# shellcheck shell=bash
# Part of lab/host.sh: the kernel, unpacked. A bzImage unpacks itself under
# emulation, which takes 6 s; here it takes 1, and QEMU starts the ELF file
# by its PVH entry. There is no KASLR that way: addresses are the same in every
# run, and those of the debug symbols.

# Prints a little-endian number of 4 bytes at offset $2 (1 byte if $3 is 1).
number_at()
{
    od -An -v -t "u${3-4}" -j "$2" -N "${3-4}" "$1" | tr -d ' '
}

# The header's fields are in the kernel's Documentation/x86/boot.rst.
kernel_payload()
{
    local image=$1 setup_sectors offset length
    setup_sectors=$(number_at "$image" $((0x1f1)) 1)
    offset=$(number_at "$image" $((0x248)))
    length=$(number_at "$image" $((0x24c)))
    tail -c +$(((setup_sectors + 1) * 512 + offset + 1)) "$image" | head -c "$length"
}

# An image packed in another way boots too, only later.
unpack_kernel()
{
    local image=$1 result=$2
    kernel_payload "$image" | xz -dc --single-stream >"$result" 2>/dev/null
    [ "$(head -c 4 "$result")" = $'\x7fELF' ] || cp "$image" "$result"
}
