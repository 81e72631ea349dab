#!/usr/bin/env bash
# Runs in Hetzner's rescue system: lays out the disk, fetches the release with Piste, and makes it boot. Nothing is
# evaluated or built here, and the only secret that is ever here comes on standard input.
#
#   install.sh disk | source < ARCHIVE | system HUB PUBLIC_KEY REFERENCE < TOKEN
set -euo pipefail
umask 077
disk=/dev/sda
root=/mnt
setup=$root/piste-setup # on the disk: the rescue system lives in memory and is small

lay_out_disk() {
    umount -R "$root" 2>/dev/null || true
    # A BIOS boot partition for GRUB, and the rest for the one file system.
    printf 'label: gpt\n,1M,21686148-6449-6E6F-744E-656564454649\n,,L\n' | sfdisk --quiet --wipe always "$disk"
    udevadm settle
    mkfs.ext4 -q -F -L nixos "${disk}2"
    udevadm settle
    mount "${disk}2" "$root"
    chmod 755 "$root"
}

unpack_source() {
    mkdir -p "$setup"
    tar -x -C "$setup"
    "$setup/tools/setup"
}

install_system() {
    local hub=$1 key=$2 reference=$3 system
    install -m 600 /dev/stdin /run/install-token
    export PATH="$setup/.venv/bin:$setup/.cache/nix/bin:$PATH"
    export PISTE_HUB=$hub PISTE_TOKEN_FILE=/run/install-token PISTE_TRUSTED_PUBLIC_KEYS=$key
    export PISTE_STORE="local?root=$root" NIX_REMOTE="local?root=$root" NIX_STATE_DIR="$root/nix/var/nix"
    umask 022
    piste fetch "$reference" "$setup/fetched"
    system=$(piste resolve "$reference")
    nix-env --profile "$root/nix/var/nix/profiles/system" --set "$system"
    make_bootable "$system"
    host_key
    rm -rf "$setup" /run/install-token
    umount -R "$root"
}

make_bootable() {
    local system=$1 folder
    mkdir -p "$root"/{dev,proc,sys,run,tmp,etc/ssh}
    chmod 1777 "$root/tmp"
    touch "$root/etc/NIXOS" # else the next program takes this for another distribution, and refuses
    ln -sfn /proc/mounts "$root/etc/mtab"
    for folder in dev sys; do
        mount --rbind "/$folder" "$root/$folder"
        mount --make-rslave "$root/$folder"
    done
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/run"
    inside "$system" IN_NIXOS_ENTER=1 "$system/activate"
    inside "$system" NIXOS_INSTALL_BOOTLOADER=1 "$system/bin/switch-to-configuration" boot
}

inside() {
    local system=$1
    shift
    chroot "$root" "$system/sw/bin/env" -i PATH="$system/sw/bin:$system/sw/sbin" HOME=/root "$@"
}

host_key() {
    # From the metadata service, so that whoever sits on the line to the rescue system never sees it.
    curl --silent --show-error --fail --max-time 20 http://169.254.169.254/hetzner/v1/userdata \
        >"$root/etc/ssh/ssh_host_ed25519_key"
    chmod 600 "$root/etc/ssh/ssh_host_ed25519_key"
    ssh-keygen -y -f "$root/etc/ssh/ssh_host_ed25519_key" >"$root/etc/ssh/ssh_host_ed25519_key.pub"
}

case ${1:-} in
disk) lay_out_disk ;;
source) unpack_source ;;
system) install_system "$2" "$3" "$4" ;;
*) echo "usage: $0 disk | source | system HUB PUBLIC_KEY REFERENCE" >&2; exit 2 ;;
esac
