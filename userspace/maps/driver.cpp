// SPDX-License-Identifier: MIT
#include "maps/driver.hpp"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/unique_fd.hpp"

namespace petrel {

std::string driver_of(const std::string& interface) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&info);
  if (!socket || ::ioctl(socket.get(), SIOCETHTOOL, &request) != 0) return {};
  return info.driver;
}

}  // namespace petrel
