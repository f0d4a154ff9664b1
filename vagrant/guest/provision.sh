#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Inside the VM, as root: petrel under systemd in front of local backends, with synthetic traffic.
# Run again it does what is missing or has changed: `vagrant provision`.
set -euo pipefail

readonly built_where=$1
readonly source_dir=/petrel
readonly here=$source_dir/vagrant/guest
readonly runtime=(
  libbpf1 libboost-json1.81.0 liblinear4 libspdlog1.10 libfmt9 libtomlplusplus3 libsqlite3-0
  libnl-3-200 libnl-route-3-200 libprometheus-cpp-core1.0
  iproute2 ethtool procps python3 nftables bpftool curl
)

say() { printf 'provision: %s\n' "$*"; }

install_packages() {
  local missing
  mapfile -t missing < <(comm -13 \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${runtime[@]}" 2>/dev/null |
      sed -n 's/^installed //p' | sort) <(printf '%s\n' "${runtime[@]}" | sort))
  ((${#missing[@]} > 0)) || return 0
  say "installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"
}

# Emulated this takes hours: the host's build is taken where it fits.
build_here() {
  say 'building petrel in the VM (some minutes with KVM, hours without)'
  "$source_dir/scripts/setup"
  cd "$source_dir"
  cmake --preset release
  cmake --build --preset release --target petrel petrel-traffic
  mkdir -p /opt/petrel/bin
  install -m 755 build/release/bin/petrel build/release/bin/petrel-traffic /opt/petrel/bin/
}

install_petrel() {
  [[ $built_where == host ]] || build_here
  systemctl stop petrel-client petrel 'petrel-backend@*' 2>/dev/null || true
  install -m 755 /opt/petrel/bin/petrel /usr/sbin/petrel
  install -m 755 /opt/petrel/bin/petrel-traffic /usr/bin/petrel-traffic
  install -D -m 644 "$source_dir/model/retry.json" /usr/share/petrel/retry.json
  install -D -m 644 "$here/petrel.toml" /etc/petrel/petrel.toml
  install -m 755 "$here/petrel" "$here/petrel-demo" /usr/local/bin/
  install -m 644 "$here"/*.service /etc/systemd/system/
  systemctl daemon-reload
}

start() {
  # At once: emulated, systemd takes seconds to read its units anew after each.
  systemctl enable --quiet --now petrel-lab petrel-backend@{1..4} petrel
  systemctl enable --quiet petrel-client
  say "petrel $(petrel --version) on $(uname -r), built on the ${built_where/guest/VM itself}"
  # Emulated, the verifier takes minutes over the balancer.
  for _ in $(seq 600); do
    systemctl --quiet is-failed petrel && break
    if petrel status >/dev/null 2>&1; then
      systemctl start petrel-client
      petrel status
      return
    fi
    sleep 1
  done
  journalctl -u petrel -n 20 --no-pager >&2
  say 'the agent does not answer'
  exit 1
}

main() {
  install_packages
  install_petrel
  start
}

main
