#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT
# The init of a guest's initrd (scripts/kernels): loads what the disks need, mounts them, and hands
# over. vda: the userland (what is written to it is thrown away), vdb: the kernel's modules,
# vdc: petrel. What goes wrong here ends the guest: -no-reboot makes that the end of qemu.
/bin/busybox mkdir -p /dev /proc /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in /modules/*.ko; do
  [ ! -e "$module" ] || /bin/busybox insmod "$module"
done
tries=0
# The bus is looked through in the background.
while [ ! -b /dev/vdd ] && [ "$tries" -lt 100 ]; do
  tries=$((tries + 1))
  /bin/busybox usleep 100000
done
/bin/busybox mount -t ext4 /dev/vda /root &&
  /bin/busybox mkdir -p /root/lib/modules /root/petrel &&
  /bin/busybox mount -t ext4 -o ro /dev/vdb /root/lib/modules &&
  /bin/busybox mount -t ext4 -o ro /dev/vdc /root/petrel &&
  exec /bin/busybox switch_root /root /bin/bash /petrel/scripts/lib/guest_main.sh
echo 'petrel guest: cannot mount its disks'
/bin/busybox reboot -f
