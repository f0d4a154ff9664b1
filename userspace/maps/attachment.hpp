// SPDX-License-Identifier: MIT
// The pinned XDP links: one an interface, its program replaced in place.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "config/config.hpp"

namespace petrel {

std::string links_path(const std::string& pin_path);
std::string xdp_pin(const std::string& pin_path, const std::string& interface);

// Puts a program in force on several interfaces: all of them or, unless commit() is called, none.
class XdpSwitch {
 public:
  XdpSwitch(std::string pin_path, int program_fd)
      : pin_path_(std::move(pin_path)), program_fd_(program_fd) {}
  ~XdpSwitch();  // not committed: each link has its earlier program again, or is gone
  XdpSwitch(XdpSwitch&&) = delete;

  // kConflict if a program that is not ours holds the interface.
  Result<void> put(const std::string& interface, XdpMode mode);

  // The links, pinned.
  std::vector<UniqueFd> commit();

 private:
  struct Change {
    UniqueFd link;
    UniqueFd before;  // the earlier program; none: the link is new
    std::string pin;
  };
  Result<void> create(int ifindex, XdpMode mode, const std::string& interface);

  std::string pin_path_;
  int program_fd_;
  std::vector<Change> changes_;
};

}  // namespace petrel
