// SPDX-License-Identifier: MIT
// The backends that a policy may choose from. Internal to simulate/.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "simulate/random.hpp"

namespace petrel::simulate {

class UsableSet {
 public:
  explicit UsableSet(std::uint32_t backends) : is_usable_(backends, true) { list(); }

  void set(std::uint32_t backend, bool usable) {
    if (is_usable_[backend] == usable) return;
    is_usable_[backend] = usable;
    list();
  }

  bool empty() const { return backends_.empty(); }
  std::size_t size() const { return backends_.size(); }
  std::uint32_t operator[](std::size_t index) const { return backends_[index]; }
  bool contains(std::uint32_t backend) const { return is_usable_[backend]; }
  std::uint32_t one(Random& random) const {
    return backends_[random.below(static_cast<std::uint32_t>(backends_.size()))];
  }

  // Two that differ, where there are two.
  std::pair<std::uint32_t, std::uint32_t> two(Random& random) const {
    const auto count = static_cast<std::uint32_t>(backends_.size());
    const std::uint32_t first = random.below(count);
    if (count == 1) return {backends_[first], backends_[first]};
    std::uint32_t second = random.below(count - 1);
    if (second >= first) ++second;
    return {backends_[first], backends_[second]};
  }

 private:
  void list() {
    backends_.clear();
    for (std::uint32_t i = 0; i < is_usable_.size(); ++i) {
      if (is_usable_[i]) backends_.push_back(i);
    }
  }

  std::vector<bool> is_usable_;
  std::vector<std::uint32_t> backends_;
};

}  // namespace petrel::simulate
