# SPDX-License-Identifier: MIT
# Raises a lab's namespaces, links, addresses and routes. Sourced by scripts/lab.
#
#            10.N.0.0/24                 10.N.i.0/24, i = 1..60
#   client ─────────────── lb ─┬──────── b1      VIPs 10.N.100.0/24 are nobody's address:
#     .2  eth0    to-client .1 │ to-b1 .1        the client routes them to lb, where XDP or
#   and 10.N.128.0/17          └──────── bN      nothing answers.  IPv6: fd00:N:… alike.
#
# A dsr backend has the VIP on its lo too, and takes off what the balancer puts around packets, by a
# program on eth0 or by the kernel's tunnel devices, dsr4 and dsr6.
# N is in every address because the kernel-wide sensors see all labs and tell them apart by it.
# The functions named *_batch print commands for `ip -batch`: a process for each would cost seconds.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with who sources this

# The lb's ends of all links are in one group, so that one command removes them.
readonly link_group=70
readonly client_mtu=1500

# Index 0 is the client. Fixed MACs keep captures and neighbour tables comparable between runs.
node_mac() { printf '02:70:%02x:%02x:00:02' "$1" "$2"; }
lb_mac() { printf '02:70:%02x:%02x:00:01' "$1" "$2"; }
node_name() { if (($1 == 0)); then printf client; else printf 'b%d' "$1"; fi; }

# sysctl_script NODE: run inside a namespace before its links exist, which take over "default".
# Without duplicate address detection an IPv6 address works at once.
sysctl_script() {
  cat <<'SH'
cd /proc/sys/net
for scope in all default; do
  echo 0 >ipv4/conf/$scope/rp_filter
  echo 0 >ipv6/conf/$scope/accept_dad
  echo 0 >ipv6/conf/$scope/dad_transmits
  echo 0 >ipv6/conf/$scope/accept_ra
  echo 0 >ipv6/conf/$scope/router_solicitations
  echo 0 >ipv6/conf/$scope/disable_ipv6
done
SH
  case $1 in
    lb) printf 'echo 1 >ipv4/ip_forward\necho 1 >ipv6/conf/all/forwarding\n' ;;
    # IPv4 may bind to any address with a local route; IPv6 asks for this as well.
    client) printf 'echo 1 >ipv6/ip_nonlocal_bind\n' ;;
  esac
}

# in_node NAMESPACE COMMAND...: not `ip netns exec`, whose fresh /sys hides bpffs.
in_node() {
  local namespace=$1
  shift
  nsenter --net="/run/netns/$namespace" -- "$@"
}

namespaces_batch() {
  local name=$1 backends=$2 i
  printf 'netns add petrel-%s-lb\n' "$name"
  for ((i = 0; i <= backends; i++)); do
    printf 'netns add petrel-%s-%s\n' "$name" "$(node_name "$i")"
  done
}

# One queue at each end: native XDP on a veth needs as many receive queues as its peer sends on.
# links_batch NAME ID BACKENDS MTU: the MTU of the backends' links; the client's has the usual one.
links_batch() {
  local name=$1 id=$2 backends=$3 mtu=$4 i node ends
  for ((i = 0; i <= backends; i++)); do
    node=$(node_name "$i")
    ends="mtu $((i == 0 ? client_mtu : mtu)) numtxqueues 1 numrxqueues 1"
    printf 'link add name to-%s address %s %s netns petrel-%s-lb ' \
      "$node" "$(lb_mac "$id" "$i")" "$ends" "$name"
    printf 'type veth peer name eth0 address %s %s netns petrel-%s-%s\n' \
      "$(node_mac "$id" "$i")" "$ends" "$name" "$node"
  done
}

lb_batch() {
  local id=$1 backends=$2 i node
  printf 'link set lo up\n'
  for ((i = 0; i <= backends; i++)); do
    node=$(node_name "$i")
    printf 'link set to-%s group %d\n' "$node" "$link_group"
    printf 'addr add 10.%d.%d.1/24 dev to-%s\n' "$id" "$i" "$node"
    printf 'addr add fd00:%d:%d::1/64 dev to-%s nodad\n' "$id" "$i" "$node"
    printf 'link set to-%s up\n' "$node"
  done
  printf 'route add 10.%d.128.0/17 via 10.%d.0.2\n' "$id" "$id"
  printf 'route add fd00:%d:ffff::/64 via fd00:%d:0::2\n' "$id" "$id"
}

# node_batch ID INDEX: the client or a backend; all it does not own goes to lb.
node_batch() {
  local id=$1 i=$2
  printf 'link set lo up\n'
  printf 'addr add 10.%d.%d.2/24 dev eth0\n' "$id" "$i"
  printf 'addr add fd00:%d:%d::2/64 dev eth0 nodad\n' "$id" "$i"
  printf 'link set eth0 up\n'
  printf 'route add default via 10.%d.%d.1\n' "$id" "$i"
  printf 'route add ::/0 via fd00:%d:%d::1\n' "$id" "$i"
  printf 'neigh replace fd00:%d:%d::1 dev eth0 lladdr %s nud stale\n' \
    "$id" "$i" "$(lb_mac "$id" "$i")"
  if ((i == 0)); then
    printf 'route add local 10.%d.128.0/17 dev lo\n' "$id"
    printf 'route add local fd00:%d:ffff::/64 dev lo\n' "$id"
  fi
}

# The first IPv6 neighbour solicitation on a fresh veth is lost (with or without petrel) and its
# repetition comes a second later; hosts that have talked before know each other. Call it last.
neighbours_batch() {
  local id=$1 backends=$2 i
  for ((i = 0; i <= backends; i++)); do
    printf 'neigh replace fd00:%d:%d::2 dev to-%s lladdr %s nud stale\n' \
      "$id" "$i" "$(node_name "$i")" "$(node_mac "$id" "$i")"
  done
}

# What leaves a node looks as on a wire: checksums finished, packets no longer than the MTU. GRO
# gives the node's end a NAPI context, without which a packet redirected into it is dropped. Only
# GRO switched on while eth0 is up is noted at lb's end (NETDEV_XDP_ACT_NDO_XMIT, since Linux 6.3),
# and without that note the redirect fails: call it after node_batch.
as_on_a_wire() { in_node "$1" ethtool -K eth0 tx off tso off gso off gro on >/dev/null; }

configure_node() {
  local name=$1 id=$2 i=$3 namespace
  namespace=petrel-$name-$(node_name "$i")
  node_batch "$id" "$i" | ip -n "$namespace" -batch - ||
    die "$exit_runtime" "cannot set addresses and routes in $namespace"
  as_on_a_wire "$namespace" ||
    die "$exit_runtime" "cannot set the offloads of eth0 in $namespace"
}

# raise_network NAME ID BACKENDS MTU
raise_network() {
  local name=$1 id=$2 backends=$3 mtu=$4 i node
  namespaces_batch "$name" "$backends" | ip -batch - ||
    die "$exit_missing" "cannot create namespaces petrel-$name-*: needs CAP_SYS_ADMIN and" \
      "CAP_NET_ADMIN on a kernel with CONFIG_NET_NS, and no namespaces of these names"
  for node in lb client; do
    sysctl_script "$node" | in_node "petrel-$name-$node" sh -e
  done
  for ((i = 1; i <= backends; i++)); do
    sysctl_script backend | in_node "petrel-$name-b$i" sh -e
  done
  links_batch "$name" "$id" "$backends" "$mtu" | ip -batch - ||
    die "$exit_missing" "cannot create the veth links of lab $name: needs CONFIG_VETH"
  lb_batch "$id" "$backends" | ip -n "petrel-$name-lb" -batch - ||
    die "$exit_runtime" "cannot set addresses and routes in petrel-$name-lb"
  for ((i = 0; i <= backends; i++)); do
    configure_node "$name" "$id" "$i"
  done
  neighbours_batch "$id" "$backends" | ip -n "petrel-$name-lb" -batch - ||
    die "$exit_runtime" "cannot set the IPv6 neighbours of petrel-$name-lb"
}

# nat_client NAME ID: the client is its network's router: one address of each family for all hosts.
# Their ports are kept where no other host's flow has them; timestamps are never touched.
nat_client() {
  local name=$1 id=$2
  in_node "petrel-$name-client" nft -f - <<NFT ||
table inet lab_nat {
  chain out {
    type nat hook postrouting priority srcnat
    ip saddr 10.$id.128.0/17 oif eth0 snat ip to 10.$id.0.2
    ip6 saddr fd00:$id:ffff::/64 oif eth0 snat ip6 to fd00:$id::2
  }
}
NFT
    die "$exit_missing" "cannot set the NAT rules in petrel-$name-client: needs CAP_NET_ADMIN on a" \
      "kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT"
}

# host_clocks NAME OBJECT: see the object's source. Pinned only until TC holds its two programs,
# which share a map: TC itself would load the object once for each of them.
host_clocks() {
  local name=$1 object=$2 pins=$bpffs/petrel-$1/host_clocks namespace=petrel-$1-client
  in_node "$namespace" sh -ec 'echo 2 >/proc/sys/net/ipv4/tcp_timestamps'
  mkdir -p -m 0700 "$bpffs/petrel-$name"
  if ! bpftool prog loadall "$object" "$pins" type classifier; then
    die "$exit_missing" "cannot load $object: needs CAP_BPF and CAP_NET_ADMIN"
  fi
  printf '%s\n' 'qdisc add dev eth0 clsact' \
    "filter add dev eth0 egress bpf direct-action object-pinned $pins/send" \
    "filter add dev eth0 ingress bpf direct-action object-pinned $pins/receive" |
    in_node "$namespace" tc -batch - ||
    die "$exit_missing" "cannot attach $object to eth0 in $namespace: needs CAP_BPF and" \
      "CAP_NET_ADMIN on a kernel with CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
  rm -rf "$bpffs/petrel-$name"
}

# dsr_backends NAME ID BACKENDS: each has the VIPs as addresses of its own, which it tells
# nobody about: only what asks for eth0's own address is answered, and nothing is asked from a VIP.
dsr_backends() {
  local name=$1 id=$2 backends=$3 i namespace
  for ((i = 1; i <= backends; i++)); do
    namespace=petrel-$name-b$i
    in_node "$namespace" sh -ec 'cd /proc/sys/net/ipv4/conf/all; echo 1 >arp_ignore
      echo 2 >arp_announce'
    printf 'addr add %s dev lo%s\n' "10.$id.100.1/32" '' "fd00:$id:100::1/128" ' nodad' |
      ip -n "$namespace" -batch - || die "$exit_runtime" "cannot set the VIPs in $namespace"
  done
}

# decapsulate NAME BACKENDS OBJECT: the lab's own program, on kernels without tunnel devices too.
decapsulate() {
  local name=$1 backends=$2 object=$3 i namespace
  for ((i = 1; i <= backends; i++)); do
    namespace=petrel-$name-b$i
    printf '%s\n' 'qdisc add dev eth0 clsact' \
      "filter add dev eth0 ingress bpf direct-action object-file $object section tc" |
      tc -n "$namespace" -batch - ||
      die "$exit_missing" "cannot attach $object to eth0 in $namespace: needs CAP_BPF and" \
        "CAP_NET_ADMIN on a kernel with CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
  done
}

# tunnel_devices NAME BACKENDS: the kernel's own, which take packets from any source: the balancer
# draws the outer one from each flow's hash. One for each family of the outer header; dsr6 takes both
# families inside.
tunnel_devices() {
  local name=$1 backends=$2 i namespace
  for ((i = 1; i <= backends; i++)); do
    namespace=petrel-$name-b$i
    printf 'link add name %s type %s external\n' dsr4 ipip dsr6 'ip6tnl mode any' |
      ip -n "$namespace" -batch - ||
      die "$exit_missing" "cannot make the tunnel devices in $namespace: needs a kernel with" \
        "CONFIG_NET_IPIP and CONFIG_IPV6_TUNNEL; those of scripts/kernels have them (docs/vm.md)"
    printf 'link set %s up\n' dsr4 dsr6 | ip -n "$namespace" -batch - ||
      die "$exit_runtime" "cannot set the tunnel devices of $namespace up"
  done
}

# xdp_ends NAME BACKENDS OBJECT: a program that lets all pass on each node's end. What lb's XDP
# sends back where it came from (XDP_TX) waits in a veth for the next packet unless its far end has one:
# veth_xdp_flush() asks for a program, where a redirect is content with GRO.
xdp_ends() {
  local name=$1 backends=$2 object=$3 i namespace
  for ((i = 0; i <= backends; i++)); do
    namespace=petrel-$name-$(node_name "$i")
    ip -n "$namespace" link set dev eth0 xdpdrv obj "$object" sec xdp ||
      die "$exit_missing" "cannot attach $object to eth0 in $namespace: needs CAP_BPF and" \
        "CAP_NET_ADMIN"
  done
}

# single_packets NAME BACKENDS: a capture at a node's end then shows packets as they were on the
# wire, where GRO would show several as one, whose checksum nobody ever made. Call it after
# xdp_ends: a program keeps the NAPI context that GRO was there for.
single_packets() {
  local name=$1 backends=$2 i namespace
  for ((i = 0; i <= backends; i++)); do
    namespace=petrel-$name-$(node_name "$i")
    in_node "$namespace" ethtool -K eth0 gro off ||
      die "$exit_runtime" "cannot switch GRO off in $namespace"
  done
}
