// SPDX-License-Identifier: MIT
#include "maps/netlink.hpp"

#include <sys/socket.h>

#include <cstring>
#include <string>

#include "config/address.hpp"

namespace petrel::netlink {

Error error(int rc, const char* what) {
  return Error(ExitCode::kRuntime, std::string(what) + ": " + nl_geterror(rc));
}

Result<Socket> connect() {
  Socket socket(nl_socket_alloc());
  if (!socket) return Error(ExitCode::kRuntime, "allocate a netlink socket");
  if (const int rc = nl_connect(socket.get(), NETLINK_ROUTE); rc < 0) {
    return error(rc, "connect to rtnetlink");
  }
  return socket;
}

Address to_address(const bpf::address& address) {
  if (is_v4(address)) return Address(nl_addr_build(AF_INET, &address.bytes[12], 4));
  return Address(nl_addr_build(AF_INET6, address.bytes, 16));
}

bpf::address from_bytes(const void* bytes, int length) {
  bpf::address address{};
  if (length == 4) {
    address.bytes[10] = address.bytes[11] = 0xff;
    std::memcpy(&address.bytes[12], bytes, 4);
  } else {
    std::memcpy(address.bytes, bytes, sizeof(address.bytes));
  }
  return address;
}

void probe_neighbour(nl_sock* socket, int ifindex, const bpf::address& address) {
  const Neighbour neighbour(rtnl_neigh_alloc());
  const Address destination = to_address(address);
  rtnl_neigh_set_ifindex(neighbour.get(), ifindex);
  rtnl_neigh_set_dst(neighbour.get(), destination.get());
  rtnl_neigh_set_flags(neighbour.get(), NTF_USE);
  // A link that has just gone refuses: then there is nothing to find.
  rtnl_neigh_add(socket, neighbour.get(), NLM_F_CREATE);
}

}  // namespace petrel::netlink
