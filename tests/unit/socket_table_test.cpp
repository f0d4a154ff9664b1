// SPDX-License-Identifier: MIT
// The kernel's own account of sockets, asked for connections over loopback.
#include "maps/socket_table.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

namespace petrel {
namespace {

bpf::address loopback_v4() {
  bpf::address address{};
  address.bytes[10] = address.bytes[11] = 0xff;
  address.bytes[12] = 127;
  address.bytes[15] = 1;
  return address;
}

// A connection to a listener of its own.
struct Loopback {
  explicit Loopback(int family)
      : listener(::socket(family, SOCK_STREAM, 0)), client(::socket(family, SOCK_STREAM, 0)) {
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      ends.local = ends.remote = loopback_v4();
    } else {
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
      ends.local.bytes[15] = ends.remote.bytes[15] = 1;
    }
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    ends.remote_port_be = port_of(listener.get(), address);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    accepted = UniqueFd(accept(listener.get(), nullptr, nullptr));
    ends.local_port_be = port_of(client.get(), address);
  }

  // Of both families the port is in the same place.
  static std::uint16_t port_of(int socket, sockaddr_storage& address) {
    socklen_t length = sizeof address;
    EXPECT_EQ(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length), 0);
    return reinterpret_cast<sockaddr_in&>(address).sin_port;
  }
  SocketEnds other_end() const {
    return {ends.remote, ends.local, ends.remote_port_be, ends.local_port_be};
  }

  UniqueFd listener, client, accepted;
  SocketEnds ends;  // of the client's
};

class SocketTableTest : public testing::TestWithParam<int> {
 protected:
  bool has(const SocketEnds& ends) {
    const auto table = SocketTable::open();
    EXPECT_TRUE(table) << table.error().message();
    const auto found = table->has(ends);
    EXPECT_TRUE(found) << found.error().message();
    return found && *found;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, SocketTableTest, testing::Values(AF_INET, AF_INET6),
                         [](const auto& each) {
                           return std::string(each.param == AF_INET ? "IPv4" : "IPv6");
                         });

TEST_P(SocketTableTest, BothEndsOfAConnectionAreThere) {
  const Loopback loopback(GetParam());
  EXPECT_TRUE(has(loopback.ends));
  EXPECT_TRUE(has(loopback.other_end()));
}

TEST_P(SocketTableTest, AListenerIsNoConnection) {
  const Loopback loopback(GetParam());
  SocketEnds unknown = loopback.other_end();
  unknown.remote_port_be = htons(1);
  EXPECT_FALSE(has(unknown));
}

TEST_P(SocketTableTest, WhatWasResetIsGone) {
  Loopback loopback(GetParam());
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(loopback.client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  loopback.client = UniqueFd();
  EXPECT_FALSE(has(loopback.ends));
}

TEST_P(SocketTableTest, OneInTimeWaitIsGone) {
  Loopback loopback(GetParam());
  loopback.client = UniqueFd();
  char byte;
  EXPECT_EQ(recv(loopback.accepted.get(), &byte, 1, 0), 0);  // its FIN
  loopback.accepted = UniqueFd();
  EXPECT_FALSE(has(loopback.ends));
}

}  // namespace
}  // namespace petrel
