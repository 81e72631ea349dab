# A server of Hetzner Cloud with an x86 processor, as provision/install.sh lays out its disk: it boots by BIOS
# from a partition for GRUB, and everything else is one file system.
{ modulesPath, ... }:

{
  imports = [ "${modulesPath}/profiles/qemu-guest.nix" ];

  boot.loader.grub = {
    enable = true;
    device = "/dev/sda";
    # A roll-back needs the generation before; the boot menu needs no more than a few.
    configurationLimit = 10;
  };
  boot.initrd.availableKernelModules = [
    "ahci"
    "sd_mod"
    "virtio_pci"
    "virtio_scsi"
  ];
  boot.growPartition = true;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
    autoResize = true;
  };

  # IPv4 by DHCP. The IPv6 network is told by the metadata service alone, and is not set up here.
  networking.useDHCP = true;
  networking.timeServers = [
    "ntp1.hetzner.de"
    "ntp2.hetzner.com"
    "ntp3.hetzner.net"
  ];
}
