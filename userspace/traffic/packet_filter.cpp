// SPDX-License-Identifier: MIT
#include "traffic/packet_filter.hpp"

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>

namespace petrel::traffic {

Result<> drop_packets(int socket_fd) {
  // "Accept 0 bytes of the packet" is how a classic filter says drop.
  sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog program{.len = 1, .filter = drop_all};
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
    return Error::from_errno(errno, "attach packet filter");
  }
  return {};
}

Result<> pass_packets(int socket_fd) {
  const int unused = 0;
  if (::setsockopt(socket_fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) != 0 &&
      errno != ENOENT) {
    return Error::from_errno(errno, "detach packet filter");
  }
  return {};
}

}  // namespace petrel::traffic
