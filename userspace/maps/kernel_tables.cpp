// SPDX-License-Identifier: MIT
#include "maps/kernel_tables.hpp"

#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <utility>

#include "maps/netlink.hpp"

namespace petrel {
namespace {

constexpr int kIpv4Bits = 32;
constexpr int kMappedBits = 96;  // before an IPv4 address in an IPv6 one
constexpr int kDumpTries = 4;    // one is void when the table changes while it is read
constexpr int kDeadNexthop = RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_UNRESOLVED;

using OnMessage = std::function<bool(const nlmsghdr&)>;  // false: no more of them

int hand_over(nl_msg* message, void* context) {
  return (*static_cast<OnMessage*>(context))(*nlmsg_hdr(message)) ? NL_OK : NL_STOP;
}

// All objects of a kind. Each dump has a socket of its own: closing it ends a dump half-read.
template <class Header>
int dump(int type, std::uint8_t family, OnMessage on_message) {
  auto socket = netlink::connect();
  if (!socket) return -NLE_FAILURE;
  nl_socket_modify_cb(socket->get(), NL_CB_VALID, NL_CB_CUSTOM, hand_over, &on_message);
  Header request{};
  std::memcpy(&request, &family, sizeof(family));  // rtnetlink's headers all begin with it
  const int sent = nl_send_simple(socket->get(), type, NLM_F_DUMP, &request, sizeof(request));
  return sent < 0 ? sent : nl_recvmsgs_default(socket->get());
}

template <class Header>
const Header& body(const nlmsghdr& message) {
  return *static_cast<const Header*>(nlmsg_data(&message));
}

template <class Header, class OnAttribute>
void for_each_attribute(const nlmsghdr& message, OnAttribute on_attribute) {
  int left = nlmsg_attrlen(&message, sizeof(Header));
  for (nlattr* attribute = nlmsg_attrdata(&message, sizeof(Header)); nla_ok(attribute, left);
       attribute = nla_next(attribute, &left)) {
    on_attribute(*attribute);
  }
}

bpf::address address_of(const nlattr& attribute) {
  return netlink::from_bytes(nla_data(&attribute), nla_len(&attribute));
}

bool copy_mac(const nlattr& attribute, std::uint8_t (&to)[6]) {
  if (nla_len(&attribute) != netlink::kMacBytes) return false;
  std::memcpy(to, nla_data(&attribute), netlink::kMacBytes);
  return true;
}

// --- rules -----------------------------------------------------------------------------------

struct Rule {
  std::uint32_t priority = 0;
  std::uint32_t table = 0;
  bool for_all = true;  // takes every packet to its table
};

Rule read_rule(const nlmsghdr& message) {
  const auto& header = body<fib_rule_hdr>(message);
  Rule rule{0, header.table,
            header.action == FR_ACT_TO_TBL && header.src_len == 0 && header.dst_len == 0 &&
                header.tos == 0 && (header.flags & ~static_cast<__u32>(FIB_RULE_PERMANENT)) == 0};
  for_each_attribute<fib_rule_hdr>(message, [&](const nlattr& attribute) {
    switch (nla_type(&attribute)) {
      case FRA_PRIORITY:
        rule.priority = nla_get_u32(&attribute);
        break;
      case FRA_TABLE:
        rule.table = nla_get_u32(&attribute);
        break;
      case FRA_PROTOCOL:
        break;  // who put it there
      // -1 (always sent): nothing is suppressed
      case FRA_SUPPRESS_PREFIXLEN:
        rule.for_all &= nla_get_u32(&attribute) == ~0u;
        break;
      default:
        rule.for_all = false;
    }
  });
  return rule;
}

// As the kernel makes them (fib_default_rules_init, fib6_rules_net_init).
bool is_default_rule(const Rule& rule) {
  return rule.for_all && ((rule.priority == 0 && rule.table == RT_TABLE_LOCAL) ||
                          (rule.priority == 0x7ffe && rule.table == RT_TABLE_MAIN) ||
                          (rule.priority == 0x7fff && rule.table == RT_TABLE_DEFAULT));
}

int read_rules(std::uint8_t family, FamilyTables& tables) {
  bool local = false;
  bool main = false;
  bool others = false;
  const int rc = dump<fib_rule_hdr>(RTM_GETRULE, family, [&](const nlmsghdr& message) {
    if (body<fib_rule_hdr>(message).family != family) return true;
    const Rule rule = read_rule(message);
    tables.present = true;
    others |= !is_default_rule(rule);
    local |= rule.table == RT_TABLE_LOCAL;
    main |= rule.table == RT_TABLE_MAIN;
    return true;
  });
  tables.default_rules = local && main && !others;
  return rc;
}

// --- routes ----------------------------------------------------------------------------------

std::uint32_t mtu_of(const nlattr& metrics) {
  const nlattr* mtu =
      nla_find(static_cast<nlattr*>(nla_data(&metrics)), nla_len(&metrics), RTAX_MTU);
  return mtu != nullptr ? nla_get_u32(mtu) : 0;
}

// RTA_VIA: a gateway of another family than the route's.
std::optional<bpf::address> gateway_of_via(const nlattr& attribute) {
  const auto* via = static_cast<const rtvia*>(nla_data(&attribute));
  const int length = nla_len(&attribute) - static_cast<int>(sizeof(rtvia));
  if (via->rtvia_family == AF_INET6 && length == 16) return netlink::from_bytes(via + 1, 16);
  if (via->rtvia_family == AF_INET && length == 4) return netlink::from_bytes(via + 1, 4);
  return {};
}

std::pair<std::uint32_t, KernelRoute> read_route(const nlmsghdr& message) {
  const auto& header = body<rtmsg>(message);
  const bool v4 = header.rtm_family == AF_INET;
  std::uint32_t table = header.rtm_table;
  KernelRoute route;
  const std::uint8_t nowhere[16] = {};
  route.prefix = netlink::from_bytes(nowhere, v4 ? 4 : 16);
  route.prefix_bits = header.rtm_dst_len + (v4 ? kMappedBits : 0);
  route.selective = header.rtm_tos != 0 || header.rtm_src_len != 0;
  route.plain = header.rtm_type == RTN_UNICAST && (header.rtm_flags & kDeadNexthop) == 0;
  for_each_attribute<rtmsg>(message, [&](const nlattr& attribute) {
    switch (nla_type(&attribute)) {
      case RTA_DST:
        route.prefix = address_of(attribute);
        break;
      case RTA_TABLE:
        table = nla_get_u32(&attribute);
        break;
      case RTA_OIF:
        route.ifindex = static_cast<int>(nla_get_u32(&attribute));
        break;
      case RTA_GATEWAY:
        route.gateway = address_of(attribute);
        break;
      case RTA_VIA:
        route.gateway = gateway_of_via(attribute);
        route.plain &= route.gateway.has_value();
        break;
      case RTA_PRIORITY:
        route.metric = nla_get_u32(&attribute);
        break;
      case RTA_METRICS:
        route.mtu_bytes = mtu_of(attribute);
        break;
      // Nothing of these changes where a forwarded packet goes. A next-hop object's own facts come
      // beside its id (sysctl net.ipv4.nexthop_compat_mode); without them there is no RTA_OIF.
      case RTA_PREFSRC:
      case RTA_CACHEINFO:
      case RTA_PREF:
      case RTA_FLOW:
      case RTA_NH_ID:
        break;
      default:
        route.plain = false;  // several next hops, encapsulation, and what is yet to come
    }
  });
  route.plain &= route.ifindex != 0;
  return {table, route};
}

int read_routes(std::uint8_t family, std::size_t most, FamilyTables& tables) {
  return dump<rtmsg>(RTM_GETROUTE, family, [&](const nlmsghdr& message) {
    const auto& header = body<rtmsg>(message);
    if (header.rtm_family != family || (header.rtm_flags & RTM_F_CLONED) != 0) return true;
    auto [table, route] = read_route(message);
    if (table == RT_TABLE_LOCAL) tables.local.push_back(route);
    if (table == RT_TABLE_MAIN) tables.main.push_back(route);
    tables.too_many = tables.local.size() + tables.main.size() > most;
    return !tables.too_many;
  });
}

// --- links and neighbours --------------------------------------------------------------------

// IFLA_AF_SPEC holds a block a family; IPv6's has the sysctls of the link, one s32 each.
std::uint32_t mtu_v6_of(const nlattr& af_spec) {
  const nlattr* v6 =
      nla_find(static_cast<nlattr*>(nla_data(&af_spec)), nla_len(&af_spec), AF_INET6);
  if (v6 == nullptr) return 0;
  const nlattr* conf = nla_find(static_cast<nlattr*>(nla_data(v6)), nla_len(v6), IFLA_INET6_CONF);
  if (conf == nullptr || nla_len(conf) <= DEVCONF_MTU6 * static_cast<int>(sizeof(__s32))) return 0;
  return static_cast<std::uint32_t>(static_cast<const __s32*>(nla_data(conf))[DEVCONF_MTU6]);
}

int read_links(std::map<int, KernelLink>& links) {
  return dump<ifinfomsg>(RTM_GETLINK, AF_UNSPEC, [&](const nlmsghdr& message) {
    const auto& header = body<ifinfomsg>(message);
    KernelLink link;
    bool has_mac = false;
    for_each_attribute<ifinfomsg>(message, [&](const nlattr& attribute) {
      switch (nla_type(&attribute)) {
        case IFLA_ADDRESS:
          has_mac = copy_mac(attribute, link.mac);
          break;
        case IFLA_MTU:
          link.mtu_bytes = nla_get_u32(&attribute);
          break;
        case IFLA_AF_SPEC:
          link.mtu_v6_bytes = mtu_v6_of(attribute);
          break;
        default:
          break;
      }
    });
    link.usable = has_mac && header.ifi_type == ARPHRD_ETHER && (header.ifi_flags & IFF_UP) != 0;
    links[header.ifi_index] = link;
    return true;
  });
}

int read_neighbours(std::uint8_t family, std::vector<KernelNeighbour>& neighbours) {
  return dump<ndmsg>(RTM_GETNEIGH, family, [&](const nlmsghdr& message) {
    const auto& header = body<ndmsg>(message);
    if (header.ndm_family != family || (header.ndm_flags & NTF_PROXY) != 0) return true;
    KernelNeighbour neighbour{.ifindex = header.ndm_ifindex, .state = header.ndm_state};
    bool has_address = false;
    for_each_attribute<ndmsg>(message, [&](const nlattr& attribute) {
      if (nla_type(&attribute) == NDA_DST) {
        neighbour.address = address_of(attribute);
        has_address = true;
      }
      if (nla_type(&attribute) == NDA_LLADDR)
        neighbour.has_mac = copy_mac(attribute, neighbour.mac);
    });
    if (has_address) neighbours.push_back(neighbour);
    return true;
  });
}

int read_family(std::uint8_t family, std::size_t most_routes, FamilyTables& tables) {
  // A kernel without the family, or without rules, refuses: then nothing is present.
  const int rules = read_rules(family, tables);
  if (rules == -NLE_DUMP_INTR) return rules;
  if (rules < 0) tables = {};
  if (!tables.present || !tables.default_rules) return 0;
  return read_routes(family, most_routes, tables);
}

int read_all(std::size_t most_routes, KernelTables& tables) {
  int rc = read_family(AF_INET, most_routes, tables.v4);
  if (rc >= 0) rc = read_family(AF_INET6, most_routes, tables.v6);
  if (rc >= 0) rc = read_links(tables.links);
  if (rc >= 0) rc = read_neighbours(AF_INET, tables.neighbours);
  if (rc >= 0 && tables.v6.present) rc = read_neighbours(AF_INET6, tables.neighbours);
  return rc;
}

}  // namespace

Result<KernelTables> read_kernel_tables(std::size_t most_routes) {
  int rc = -NLE_DUMP_INTR;
  for (int i = 0; i < kDumpTries && rc == -NLE_DUMP_INTR; ++i) {
    KernelTables tables;
    rc = read_all(most_routes, tables);
    if (rc >= 0) return tables;
  }
  return netlink::error(rc, "read the kernel's routes and neighbours");
}

}  // namespace petrel
