// SPDX-License-Identifier: MIT
// GrownMap: a pinned array that is too small, on its way to a larger one of the same content.
//
// Programs write both for a moment: copy() while the old one is still in use, settle() once nothing
// uses it any more. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace petrel {

class GrownMap {
 public:
  GrownMap(std::string name, UniqueFd old) : name_(std::move(name)), old_(std::move(old)) {}

  const std::string& name() const { return name_; }

  // Every element, as it is now, into the map `new_fd`.
  Result<void> copy(int new_fd);

  // Pins the new map where the old one was, in one step.
  Result<void> pin(int new_fd, const std::string& pin_path) const;

  // Requests in flight that began or ended in the old map since copy() are added to the new one. What
  // per-CPU counters counted meanwhile is for their reader: before() and after().
  Result<void> settle(int new_fd);

  // Raw values of a per-CPU array; empty of another.
  const std::vector<std::byte>& before() const { return before_; }
  const std::vector<std::byte>& after() const { return after_; }

 private:
  std::string name_;
  UniqueFd old_;
  std::vector<std::byte> before_;
  std::vector<std::byte> after_;
};

}  // namespace petrel
