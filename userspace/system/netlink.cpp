// SPDX-License-Identifier: MIT
#include "system/netlink.hpp"

#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>

#include <cstring>
#include <functional>

#include "config/address.hpp"

namespace petrel {
namespace {

template <auto Release>
struct Releaser {
  template <class T>
  void operator()(T* object) const {
    Release(object);
  }
};
template <class T, auto Release>
using Owned = std::unique_ptr<T, Releaser<Release>>;

using Socket = Owned<nl_sock, nl_socket_free>;
using Cache = Owned<nl_cache, nl_cache_free>;
using Address = Owned<nl_addr, nl_addr_put>;
using Route = Owned<rtnl_route, rtnl_route_put>;
using Neighbour = Owned<rtnl_neigh, rtnl_neigh_put>;
using Link = Owned<rtnl_link, rtnl_link_put>;
using Message = Owned<nl_msg, nlmsg_free>;

// linux/netdev.h, which Debian 12's headers (6.1) do not have yet.
constexpr const char* kNetdevFamily = "netdev";
constexpr std::uint8_t kNetdevDevGet = 1;
constexpr int kNetdevIfindex = 1;
constexpr int kNetdevXdpFeatures = 3;

constexpr int kUsableStates =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

Error netlink_error(int rc, const char* what) {
  return Error(ExitCode::kRuntime, std::string(what) + ": " + nl_geterror(rc));
}

Address to_netlink(const bpf::address& address) {
  if (is_v4(address)) return Address(nl_addr_build(AF_INET, &address.bytes[12], 4));
  return Address(nl_addr_build(AF_INET6, address.bytes, 16));
}

bpf::address from_netlink(nl_addr* from) {
  bpf::address address{};
  const unsigned length = nl_addr_get_len(from);
  if (length == 4) address.bytes[10] = address.bytes[11] = 0xff;
  std::memcpy(&address.bytes[sizeof address.bytes - length], nl_addr_get_binary_addr(from), length);
  return address;
}

Result<Socket> connected(int protocol) {
  Socket socket(nl_socket_alloc());
  if (!socket) return Error(ExitCode::kRuntime, "allocate netlink");
  if (const int rc = nl_connect(socket.get(), protocol); rc < 0) {
    return netlink_error(rc, "connect to netlink");
  }
  return socket;
}

using Reader = std::function<void(nlmsghdr*)>;

int read_message(nl_msg* message, void* reader) {
  (*static_cast<Reader*>(reader))(nlmsg_hdr(message));
  return NL_OK;
}

// Sends a request and hands each answer to `reader`; false if the kernel refused.
bool ask(nl_sock* socket, nl_msg* request, Reader reader) {
  nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, read_message, &reader);
  // nl_recvmsgs reads until the acknowledgement that NLM_F_ACK asks for, or an error.
  return nl_send_auto(socket, request) >= 0 && nl_recvmsgs_default(socket) >= 0 &&
         nl_wait_for_ack(socket) >= 0;
}

Message generic_request(std::uint16_t family, std::uint8_t command) {
  Message message(nlmsg_alloc_simple(family, NLM_F_REQUEST | NLM_F_ACK));
  const genlmsghdr header{command, 1, 0};
  nlmsg_append(message.get(), const_cast<genlmsghdr*>(&header), sizeof header, NLMSG_ALIGNTO);
  return message;
}

nlattr* generic_attribute(nlmsghdr* header, int type) {
  return nlmsg_find_attr(header, sizeof(genlmsghdr), type);
}

}  // namespace

struct RouteTables::Sockets {
  Socket route;
  Socket generic;  // null where the kernel has no netdev family
  std::uint16_t netdev_family = 0;
  Cache links;
  Cache neighbours;

  void find_netdev_family() {
    auto opened = connected(NETLINK_GENERIC);
    if (!opened) return;
    generic = std::move(*opened);
    const Message request = generic_request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    nla_put_string(request.get(), CTRL_ATTR_FAMILY_NAME, kNetdevFamily);
    ask(generic.get(), request.get(), [this](nlmsghdr* answer) {
      if (nlattr* id = generic_attribute(answer, CTRL_ATTR_FAMILY_ID))
        netdev_family = nla_get_u16(id);
    });
  }
};

RouteTables::RouteTables() : sockets_(std::make_unique<Sockets>()) {}
RouteTables::RouteTables(RouteTables&&) noexcept = default;
RouteTables& RouteTables::operator=(RouteTables&&) noexcept = default;
RouteTables::~RouteTables() = default;

Result<RouteTables> RouteTables::open() {
  RouteTables tables;
  Sockets& sockets = *tables.sockets_;
  auto opened = connected(NETLINK_ROUTE);
  if (!opened) return opened.error();
  sockets.route = std::move(*opened);
  nl_cache* cache = nullptr;
  if (const int rc = rtnl_link_alloc_cache(sockets.route.get(), AF_UNSPEC, &cache); rc < 0) {
    return netlink_error(rc, "read links");
  }
  sockets.links.reset(cache);
  if (const int rc = rtnl_neigh_alloc_cache(sockets.route.get(), &cache); rc < 0) {
    return netlink_error(rc, "read neighbours");
  }
  sockets.neighbours.reset(cache);
  sockets.find_netdev_family();
  return tables;
}

std::optional<LinkFacts> RouteTables::link(const std::string& name) const {
  const Link link(rtnl_link_get_by_name(sockets_->links.get(), name.c_str()));
  if (!link) return {};
  LinkFacts facts;
  facts.ifindex = static_cast<std::uint32_t>(rtnl_link_get_ifindex(link.get()));
  facts.up = (rtnl_link_get_flags(link.get()) & IFF_UP) != 0;
  facts.mtu_bytes = rtnl_link_get_mtu(link.get());
  facts.peer_ifindex = static_cast<std::uint32_t>(rtnl_link_get_link(link.get()));
  int id = 0;
  if (rtnl_link_get_link_netnsid(link.get(), &id) == 0) facts.peer_namespace_id = id;
  return facts;
}

RouteFacts RouteTables::route(const bpf::address& address) const {
  RouteFacts facts;
  const Address target = to_netlink(address);
  rtnl_route* found = nullptr;
  if (rtnl_route_lookup(sockets_->route.get(), target.get(), &found) < 0) return facts;
  const Route route(found);
  const std::uint8_t type = rtnl_route_get_type(route.get());
  facts.kind = type == RTN_LOCAL     ? RouteKind::kLocal
               : type == RTN_UNICAST ? RouteKind::kUnicast
                                     : RouteKind::kRefused;
  rtnl_nexthop* via = rtnl_route_nexthop_n(route.get(), 0);
  if (via == nullptr || facts.kind != RouteKind::kUnicast) return facts;
  const int ifindex = rtnl_route_nh_get_ifindex(via);
  nl_addr* gateway = rtnl_route_nh_get_gateway(via);
  nl_addr* hop = gateway != nullptr ? gateway : target.get();
  facts.has_gateway = gateway != nullptr;
  facts.next_hop = from_netlink(hop);

  const Link link(rtnl_link_get(sockets_->links.get(), ifindex));
  if (!link) return facts;
  facts.interface = rtnl_link_get_name(link.get());
  facts.mtu_bytes = rtnl_link_get_mtu(link.get());
  std::uint32_t metric = 0;
  if (rtnl_route_get_metric(route.get(), RTAX_MTU, &metric) == 0 && metric != 0) {
    facts.mtu_bytes = metric;
  }
  const Neighbour neighbour(rtnl_neigh_get(sockets_->neighbours.get(), ifindex, hop));
  facts.neighbour_known =
      (rtnl_link_get_flags(link.get()) & IFF_NOARP) != 0 ||
      (neighbour && (rtnl_neigh_get_state(neighbour.get()) & kUsableStates) != 0);
  return facts;
}

std::optional<int> RouteTables::namespace_id(int namespace_fd) const {
  const Message request(nlmsg_alloc_simple(RTM_GETNSID, NLM_F_REQUEST | NLM_F_ACK));
  rtgenmsg header{AF_UNSPEC};
  nlmsg_append(request.get(), &header, sizeof header, NLMSG_ALIGNTO);
  nla_put_u32(request.get(), NETNSA_FD, static_cast<std::uint32_t>(namespace_fd));
  std::optional<int> id;
  const auto socket = connected(NETLINK_ROUTE);
  if (!socket) return {};
  ask(socket->get(), request.get(), [&](nlmsghdr* answer) {
    nlattr* attribute = nlmsg_find_attr(answer, sizeof(rtgenmsg), NETNSA_NSID);
    if (attribute != nullptr && nla_get_s32(attribute) >= 0) id = nla_get_s32(attribute);
  });
  return id;
}

std::optional<std::uint64_t> RouteTables::xdp_features(std::uint32_t ifindex) const {
  if (sockets_->netdev_family == 0) return {};
  const Message request = generic_request(sockets_->netdev_family, kNetdevDevGet);
  nla_put_u32(request.get(), kNetdevIfindex, ifindex);
  std::optional<std::uint64_t> features;
  ask(sockets_->generic.get(), request.get(), [&](nlmsghdr* answer) {
    if (nlattr* found = generic_attribute(answer, kNetdevXdpFeatures))
      features = nla_get_u64(found);
  });
  return features;
}

}  // namespace petrel
