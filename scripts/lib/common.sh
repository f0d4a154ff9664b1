# SPDX-License-Identifier: MIT
# What every script of petrel shares: messages, exit codes, root, bpffs. Sourced, never run.
# Data goes to stdout and everything said here to stderr, so that `name=$(scripts/lab up)` works.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with who sources this

# The exit codes of petrel itself (docs: "Exit codes"), as far as scripts can end so.
readonly exit_runtime=1
readonly exit_usage=2
readonly exit_missing=5
readonly bpffs=/sys/fs/bpf

script_name=${0##*/}

say() { printf '%s: %s\n' "$script_name" "$*" >&2; }

# die CODE MESSAGE...
die() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}

# usage_error MESSAGE...: what was typed is wrong; says where the right form is shown.
usage_error() { die "$exit_usage" "$*; see $script_name --help"; }

# option_value OPTION VALUE...: prints the value an option needs, or ends with a usage error.
option_value() {
  (($# >= 2)) || usage_error "$1 needs a value"
  printf '%s' "$2"
}

# become_root ARGUMENTS...: runs this script again as root unless it is. sudo empties the
# environment, so the variables petrel's scripts read are carried over by name.
become_root() {
  ((EUID != 0)) || return 0
  command -v sudo >/dev/null || die "$exit_missing" "needs root and finds no sudo: run it as root"
  exec sudo --preserve-env=CI,PETREL_LAB_DIR,PETREL_LAB_OWNER -- "$0" "$@"
}

# as_root COMMAND...: for the few steps of a script that otherwise runs as its user.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    die "$exit_missing" "cannot run '$*': needs root and finds no sudo"
  fi
}

# need_tools TOOL...: ends with "missing" unless all are there.
need_tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null ||
      die "$exit_missing" "needs $tool, which is not installed: run scripts/setup"
  done
}

# Pins live in bpffs, which containers and some minimal systems do not mount by themselves.
# The kernel creates the mount point where it supports bpffs at all.
mount_bpffs() {
  [[ $(stat -f -c %T "$bpffs" 2>/dev/null) != bpf_fs ]] || return 0
  [[ -d $bpffs ]] ||
    die "$exit_missing" "cannot mount bpffs: no $bpffs: needs a kernel with CONFIG_BPF_SYSCALL"
  as_root mount -t bpf bpf "$bpffs" ||
    die "$exit_missing" "cannot mount bpffs at $bpffs: needs CAP_SYS_ADMIN and a writable /sys"
  say "mounted bpffs at $bpffs (until the next boot)"
}
