// SPDX-License-Identifier: MIT
#include "tap/pairing.hpp"

#include <algorithm>

namespace petrel::tap {

void Pairing::add(Sample sample) {
  const Key key{sample.cpu, sample.header.sequence};
  // A CPU works on one packet after the other and its records come in that order.
  forget_older(key);
  if (sample.header.leaving == 0) {
    waiting_.insert_or_assign(key, std::move(sample));
    return;
  }
  TappedPacket packet;
  if (auto arrival = waiting_.extract(key)) packet.arrival = std::move(arrival.mapped());
  packet.departure = std::move(sample);
  finish(std::move(packet));
}

void Pairing::forget_older(const Key& key) {
  const auto begin = waiting_.lower_bound({key.first, 0});
  const auto end = waiting_.upper_bound({key.first, UINT32_MAX});
  for (auto other = begin; other != end;) {
    if (other->first == key) {
      ++other;
      continue;
    }
    finish({std::move(other->second), {}});
    other = waiting_.erase(other);
  }
}

void Pairing::finish(TappedPacket packet) {
  if (!packet.arrival || !packet.departure) ++halves_;
  done_.push_back(std::move(packet));
}

std::vector<TappedPacket> Pairing::take() {
  std::vector<TappedPacket> packets = std::exchange(done_, {});
  std::stable_sort(packets.begin(), packets.end(),
                   [](const TappedPacket& left, const TappedPacket& right) {
                     return left.first().header.time_ns < right.first().header.time_ns;
                   });
  return packets;
}

std::vector<TappedPacket> Pairing::take_all() {
  for (auto& [key, arrival] : waiting_) finish({std::move(arrival), {}});
  waiting_.clear();
  return take();
}

}  // namespace petrel::tap
