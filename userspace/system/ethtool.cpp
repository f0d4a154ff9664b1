// SPDX-License-Identifier: MIT
// Drivers and offloads by ethtool's ioctl, which kernels of every age answer.
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "base/unique_fd.hpp"
#include "system/probes.hpp"

namespace petrel {
namespace {

bool ask_ethtool(const std::string& interface, void* command) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_data = static_cast<char*>(command);
  return socket && ::ioctl(socket.get(), SIOCETHTOOL, &request) == 0;
}

// A struct of <linux/ethtool.h> that ends in an array, with room for it.
template <class Header>
class Sized {
 public:
  explicit Sized(std::size_t array_bytes) : words_((sizeof(Header) + array_bytes + 7) / 8) {}
  Header* get() { return reinterpret_cast<Header*>(words_.data()); }

 private:
  std::vector<std::uint64_t> words_;  // aligned for any of them; zeroed
};

std::uint32_t count_features(const std::string& interface) {
  Sized<ethtool_sset_info> info(sizeof(std::uint32_t));
  info.get()->cmd = ETHTOOL_GSSET_INFO;
  info.get()->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!ask_ethtool(interface, info.get()) || info.get()->sset_mask == 0) return 0;
  return info.get()->data[0];
}

}  // namespace

std::string driver_of(const std::string& interface) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!ask_ethtool(interface, &info)) return {};
  return std::string(info.driver, ::strnlen(info.driver, sizeof info.driver));
}

std::uint32_t receive_queues_of(const std::string& interface) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (!ask_ethtool(interface, &channels)) return 0;
  return channels.rx_count + channels.combined_count;
}

Offloads offloads_of(const std::string& interface) {
  constexpr std::uint32_t kBlockBits = 32;
  const std::uint32_t count = count_features(interface);
  const std::uint32_t blocks = (count + kBlockBits - 1) / kBlockBits;
  Sized<ethtool_gstrings> names(std::size_t{count} * ETH_GSTRING_LEN);
  names.get()->cmd = ETHTOOL_GSTRINGS;
  names.get()->string_set = ETH_SS_FEATURES;
  names.get()->len = count;
  Sized<ethtool_gfeatures> features(blocks * sizeof(ethtool_get_features_block));
  features.get()->cmd = ETHTOOL_GFEATURES;
  features.get()->size = blocks;
  if (count == 0 || !ask_ethtool(interface, names.get()) ||
      !ask_ethtool(interface, features.get())) {
    return {};
  }
  Offloads offloads;
  for (std::uint32_t i = 0; i < count; ++i) {
    const char* name = reinterpret_cast<const char*>(names.get()->data) + i * ETH_GSTRING_LEN;
    const auto& block = features.get()->features[i / kBlockBits];
    const std::uint32_t bit = 1U << (i % kBlockBits);
    offloads[std::string(name, ::strnlen(name, ETH_GSTRING_LEN))] = {
        .on = (block.active & bit) != 0,
        .fixed = (block.available & bit) == 0 || (block.never_changed & bit) != 0};
  }
  return offloads;
}

}  // namespace petrel
