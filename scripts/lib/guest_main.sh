#!/bin/bash
# SPDX-License-Identifier: MIT
# The first process of a guest of scripts/kernels: mounts what a system has, runs the job, ends.
export PATH=/petrel/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export LD_LIBRARY_PATH=/petrel/lib PYTHONPATH=/petrel/scripts/lib PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run
# What udev makes on a system of its own: bash's process substitution wants them.
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
ulimit -l unlimited
ip link set lo up
python3 -B -m petrel_lab.kernels_guest >/dev/ttyS1 2>/dev/ttyS0
sync
echo o >/proc/sysrq-trigger
sleep 60
