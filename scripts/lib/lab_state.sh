# SPDX-License-Identifier: MIT
# Which labs exist: their names, numbers, locks, owners and descriptions. Sourced by scripts/lab.
#
#   $lab_dir/<name>/lab.json   the description, written last: a lab without one is not whole
#   $lab_dir/<name>/owners     "PID START" a line: the lab ends when the first of them does
#   $lab_dir/<name>/watcher    "PID START" of the process that waits for that
#   $lab_dir/<name>/run/       sockets and logs of whoever uses the lab
#   $lab_dir/ids/<N>           symlink to ../<name>: the number is taken
#
# The flock of a lab's directory is held by whoever raises or removes it. Directories appear
# and disappear by rename, so nobody ever sees half of one.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with who sources this

lab_dir=${PETREL_LAB_DIR:-/run/petrel-lab}
readonly lab_dir
readonly most_ids=200
readonly most_backends=60

lab_lock_fd=

# check_name NAME: short enough for socket paths, plain enough for JSON, paths and namespaces.
check_name() {
  [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ && $1 != ids ]] ||
    usage_error "'$1' is no lab name: 1 to 32 of a-z, 0-9 and '-' (not at an end), and not 'ids'"
}

lab_names() {
  local path
  for path in "$lab_dir"/*/; do
    path=${path%/}
    [[ -d $path && ${path##*/} != ids ]] && printf '%s\n' "${path##*/}"
  done
  return 0
}

# one_lab [NAME]: NAME itself, or the only lab there is.
one_lab() {
  local names
  if [[ -n ${1:-} ]]; then
    [[ -d $lab_dir/$1 ]] || die "$exit_runtime" "no lab is called '$1': see $script_name list"
    printf '%s' "$1"
    return
  fi
  mapfile -t names < <(lab_names)
  case ${#names[@]} in
    0) die "$exit_runtime" "there is no lab: raise one with $script_name up" ;;
    1) printf '%s' "${names[0]}" ;;
    *) usage_error "there are ${#names[@]} labs (${names[*]}): choose one with --name" ;;
  esac
}

# process_start PID: when it started (clock ticks since boot), which tells it from a later
# process of the same number. Fails if it has ended; a zombie has.
process_start() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The name in parentheses may hold anything, so count from the last ')': state is field 3.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] || return 1
  printf '%s' "${fields[19]}"
}

# is_same_process PID START
is_same_process() { [[ $(process_start "$1") == "$2" ]]; }

# lock_lab NAME [FLOCK_OPTION...]: takes the lab's lock. Fails if the lab is gone, or went while
# we waited for it (and perhaps another of its name came).
lock_lab() {
  local path=$lab_dir/$1
  shift
  { exec {lab_lock_fd}<"$path"; } 2>/dev/null || return 1
  if flock "$@" "$lab_lock_fd" && [[ $path -ef /proc/self/fd/$lab_lock_fd ]]; then
    return 0
  fi
  unlock_lab
  return 1
}

unlock_lab() { exec {lab_lock_fd}<&-; }

# claim_name NAME OWNER_PID...: makes the lab's directory, locked by us; fails if the name is
# taken. rename(2) refuses to replace a directory that is not empty, and `owners` is always there.
claim_name() {
  local name=$1 fresh=$lab_dir/.new.$$ pid
  shift
  mkdir -p "$lab_dir/ids"
  mkdir -m 0755 "$fresh"
  mkdir -m 0700 "$fresh/run"
  for pid in "$@"; do
    printf '%s %s\n' "$pid" "$(process_start "$pid")"
  done >"$fresh/owners"
  exec {lab_lock_fd}<"$fresh"
  flock "$lab_lock_fd"
  if ! mv -T "$fresh" "$lab_dir/$name" 2>/dev/null; then
    unlock_lab
    rm -rf "$fresh"
    return 1
  fi
}

# claim_id NAME: prints the number this lab's addresses are made of. A link to a lab that is gone
# is what a killed process left; the lock keeps two of us from replacing the same one.
claim_id() (
  flock 9
  for ((id = 1; id <= most_ids; id++)); do
    link=$lab_dir/ids/$id
    [[ ! -L $link || ! -e $link ]] || continue
    ln -sfT "../$1" "$link"
    printf '%s' "$id"
    return 0
  done
  die "$exit_runtime" "all $most_ids lab numbers are taken: see $script_name list"
) 9<"$lab_dir/ids"

# free_state NAME: forgets the lab; the last step of removing it.
free_state() {
  local gone=$lab_dir/.gone.$$ link
  for link in "$lab_dir"/ids/*; do
    [[ $(readlink "$link") != "../$1" ]] || rm -f "$link"
  done
  if [[ -d $lab_dir/$1 ]]; then
    rm -rf "$gone"
    mv -T "$lab_dir/$1" "$gone"
    rm -rf "$gone"
  fi
}

# sweep_leftovers: directories of our own that a kill -9 left between two renames.
sweep_leftovers() {
  local path
  for path in "$lab_dir"/.new.* "$lab_dir"/.gone.*; do
    [[ -d $path ]] || continue
    process_start "${path##*.}" >/dev/null || rm -rf "$path"
  done
}

# has_ended_owner NAME: true if any owner is gone. A lab without owners stays until `down`.
has_ended_owner() {
  local pid start
  while read -r pid start; do
    is_same_process "$pid" "$start" || return 0
  done < <(cat "$lab_dir/$1/owners" 2>/dev/null)
  return 1
}

# has_owner NAME PID
has_owner() { grep -q "^$2 " "$lab_dir/$1/owners" 2>/dev/null; }

# lab_number NAME FIELD: a number from the description; empty while it is not written.
lab_number() {
  sed -n "s/^  \"$2\": \([0-9]*\),\$/\1/p" "$lab_dir/$1/lab.json" 2>/dev/null || true
}

# describe_lab NAME ID BACKENDS MTU DSR: the description as JSON; DSR is 0 or 1. Names are plain (check_name) and the
# rest is ours, so nothing needs escaping unless PETREL_LAB_DIR is odd, which scripts/lab refuses.
describe_lab() {
  local name=$1 id=$2 backends=$3 mtu=$4 dsr=$5 i
  cat <<JSON
{
  "schema": "petrel/lab/v1",
  "name": "$name",
  "id": $id,
  "backends": $backends,
  "mtu": $mtu,
  "dsr": $( ((dsr)) && echo true || echo false),
  "vip4": "10.$id.100.1",
  "vip6": "fd00:$id:100::1",
  "vip4_net": "10.$id.100.0/24",
  "vip6_net": "fd00:$id:100::/64",
  "client4": "10.$id.0.2",
  "client6": "fd00:$id::2",
  "client4_net": "10.$id.128.0/17",
  "client6_net": "fd00:$id:ffff::/64",
  "pin_path": "$bpffs/petrel-$name",
  "run_dir": "$lab_dir/$name/run",
  "nodes": [
    {"node": "client", "namespace": "petrel-$name-client", "lb_interface": "to-client", "address4": "10.$id.0.2", "address6": "fd00:$id::2", "mac": "$(node_mac "$id" 0)"},
JSON
  for ((i = 1; i <= backends; i++)); do
    printf '    {"node": "b%d", "namespace": "petrel-%s-b%d", "lb_interface": "to-b%d", ' \
      "$i" "$name" "$i" "$i"
    printf '"address4": "10.%d.%d.2", "address6": "fd00:%d:%d::2", "mac": "%s"},\n' \
      "$id" "$i" "$id" "$i" "$(node_mac "$id" "$i")"
  done
  printf '    {"node": "lb", "namespace": "petrel-%s-lb"}\n  ]\n}\n' "$name"
}
