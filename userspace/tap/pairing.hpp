// SPDX-License-Identifier: MIT
// Pairing: joins a packet as it came with the same packet as it left, by CPU and sequence number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "tap/sample.hpp"

namespace petrel::tap {

class Pairing {
 public:
  void add(Sample sample);

  // All packets that are whole, oldest first, and those whose other record can come no more.
  std::vector<TappedPacket> take();

  // The rest as well, at the end.
  std::vector<TappedPacket> take_all();

  std::uint64_t halves() const { return halves_; }  // packets taken with one record missing

 private:
  using Key = std::pair<int, std::uint32_t>;  // CPU, sequence

  void forget_older(const Key& key);
  void finish(TappedPacket packet);

  std::map<Key, Sample> waiting_;  // arrivals without their departure
  std::vector<TappedPacket> done_;
  std::uint64_t halves_ = 0;
};

}  // namespace petrel::tap
