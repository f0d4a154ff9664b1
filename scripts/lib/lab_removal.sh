# SPDX-License-Identifier: MIT
# Takes labs down: processes, links, namespaces, pins, state; by hand or because an owner ended.
# Every step may find its work done already: a lab can be half raised or half removed.
# Sourced by scripts/lab.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with who sources this

readonly term_grace_ms=2000

# lab_namespaces NAME: exact node names only, for "a" and "a-b1" are two labs.
lab_namespaces() {
  local path
  for path in /run/netns/petrel-"$1"-*; do
    path=${path##*/}
    [[ ${path#"petrel-$1-"} =~ ^(client|lb|b[0-9]+)$ ]] && printf '%s\n' "$path"
  done
  return 0
}

# lab_processes NAME: all that live in its namespaces, ourselves excepted.
lab_processes() {
  local namespace
  for namespace in $(lab_namespaces "$1"); do
    # A namespace may go between the listing and here, when two remove the lab at once.
    ip netns pids "$namespace" 2>/dev/null || true
  done | grep -vx "$$" || true
}

# end_processes NAME: TERM, then KILL for those that are still there when the grace is over.
end_processes() {
  local pids waited_ms=0
  mapfile -t pids < <(lab_processes "$1")
  ((${#pids[@]} > 0)) || return 0
  kill -TERM "${pids[@]}" 2>/dev/null || true
  while ((waited_ms < term_grace_ms)); do
    mapfile -t pids < <(lab_processes "$1")
    ((${#pids[@]} > 0)) || return 0
    sleep 0.05
    waited_ms=$((waited_ms + 50))
  done
  say "lab $1: ${#pids[@]} processes did not end on SIGTERM, killing: ${pids[*]}"
  kill -KILL "${pids[@]}" 2>/dev/null || true
}

# Links are removed before namespaces: whoever still holds a namespace open would keep them.
remove_network() {
  local namespace
  if [[ -e /run/netns/petrel-$1-lb ]]; then
    ip -n "petrel-$1-lb" link delete group "$link_group" 2>/dev/null || true
  fi
  for namespace in $(lab_namespaces "$1"); do
    ip netns delete "$namespace" 2>/dev/null || true
  done
}

# Links before the rest, so that no program runs on while its maps' names are gone.
remove_pins() {
  local pins=$bpffs/petrel-$1
  [[ -d $pins ]] || return 0
  find "$pins" -path '*link*' -type f -delete
  rm -rf "$pins"
}

stop_watcher() {
  local pid start
  read -r pid start 2>/dev/null <"$lab_dir/$1/watcher" || return 0
  # The watcher becomes the process that removes the lab: do not end ourselves.
  if ((pid != $$)) && is_same_process "$pid" "$start"; then
    kill -TERM "$pid" 2>/dev/null || true
  fi
}

# remove_lab NAME: call with the lab's lock held, or where it has no directory to lock.
remove_lab() {
  trap '' INT TERM HUP
  stop_watcher "$1"
  end_processes "$1"
  remove_network "$1"
  remove_pins "$1"
  free_state "$1"
  trap - INT TERM HUP
}

# down_lab NAME: waits for whoever raises or removes it now. Namespaces without a state directory
# (someone emptied it) are removed as well.
down_lab() {
  if lock_lab "$1"; then
    remove_lab "$1"
    unlock_lab
  elif [[ ! -d $lab_dir/$1 ]]; then
    remove_lab "$1"
  fi
}

# reap_lab NAME [FLOCK_OPTION...]: removes it if an owner has ended, or if the process that raised
# it was killed on the way: unlocked and without description.
reap_lab() {
  local name=$1
  shift
  lock_lab "$name" "$@" || return 0
  if [[ ! -e $lab_dir/$name/lab.json ]] || has_ended_owner "$name"; then
    say "removing lab $name, whose owner has ended"
    remove_lab "$name"
  fi
  unlock_lab
}

# reap_labs: those that no watcher could remove. Never waits for a lab that is being raised.
reap_labs() {
  local name
  sweep_leftovers
  for name in $(lab_names); do
    reap_lab "$name" --nonblock
  done
}

# watch_owners NAME: a process of its own session that removes the lab as soon as one of its
# owners ends, however it ends. A pidfd tells that at once, without polling, and a zombie owner
# counts as ended. It keeps none of our descriptors: a caller may be reading our output to its end.
watch_owners() {
  local pids watcher
  [[ -s $lab_dir/$1/owners ]] || return 0
  mapfile -t pids < <(cut -d ' ' -f 1 "$lab_dir/$1/owners")
  setsid python3 -ISc '
import os, select, sys
lab, name, pids = sys.argv[1], sys.argv[2], sys.argv[3:]
poller = select.poll()
try:
    for pid in pids:
        poller.register(os.pidfd_open(int(pid)), select.POLLIN)
    poller.poll()
except ProcessLookupError:
    pass
os.chdir("/")
os.execv(lab, [lab, "reap", "--name", name])
' "$script_path" "$1" "${pids[@]}" </dev/null >"$lab_dir/$1/watcher.log" 2>&1 \
    {lab_lock_fd}<&- &
  watcher=$!
  printf '%s %s\n' "$watcher" "$(process_start "$watcher")" >"$lab_dir/$1/watcher"
}
