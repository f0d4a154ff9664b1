// SPDX-License-Identifier: MIT
#include "maps/socket_table.hpp"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "config/address.hpp"

namespace petrel {
namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Error diag_error(int code, const char* what) {
  return Error(ExitCode::kRuntime, std::string("inet_diag: ") + what + ": " + std::strerror(code));
}

// An IPv4 address is the last 4 of its 16 bytes.
void put_address(__be32* to, const bpf::address& from, bool v4) {
  std::memcpy(to, v4 ? &from.bytes[12] : &from.bytes[0], v4 ? 4 : 16);
}

Request request_for(const SocketEnds& ends) {
  Request request{};
  const bool v4 = is_v4(ends.local);
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;  // no dump: the kernel looks it up by its hash
  request.body.sdiag_family = v4 ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0U;
  put_address(request.body.id.idiag_src, ends.local, v4);
  put_address(request.body.id.idiag_dst, ends.remote, v4);
  request.body.id.idiag_sport = ends.local_port_be;
  request.body.id.idiag_dport = ends.remote_port_be;
  request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

}  // namespace

Result<SocketTable> SocketTable::open() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!socket) return diag_error(errno, "open");
  return SocketTable(std::move(socket));
}

Result<bool> SocketTable::has(const SocketEnds& ends) const {
  const Request request = request_for(ends);
  if (send(socket_.get(), &request, sizeof request, 0) < 0) return diag_error(errno, "ask");
  alignas(nlmsghdr) std::array<char, 4096> answer;
  const ssize_t bytes = recv(socket_.get(), answer.data(), answer.size(), 0);
  if (bytes < 0) return diag_error(errno, "answer");
  nlmsghdr header;
  std::memcpy(&header, answer.data(), sizeof header);
  if (header.nlmsg_type == NLMSG_ERROR) {
    nlmsgerr error;
    std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof error);
    if (error.error == -ENOENT) return false;
    return diag_error(-error.error, "look up a socket");
  }
  inet_diag_msg found;
  std::memcpy(&found, answer.data() + NLMSG_HDRLEN, sizeof found);
  // A look-up that finds no connection goes on to the port's listener.
  return found.idiag_state != TCP_LISTEN && found.idiag_state != TCP_TIME_WAIT;
}

}  // namespace petrel
