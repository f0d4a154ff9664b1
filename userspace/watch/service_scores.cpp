// SPDX-License-Identifier: MIT
#include "watch/service_scores.hpp"

#include <algorithm>

namespace petrel {

std::uint64_t ServiceScores::part_number(std::uint64_t now_ns) const {
  return 1 + now_ns / static_cast<std::uint64_t>(part_.count());
}

void ServiceScores::add(const LabelledRow& row, std::uint32_t probability_q16,
                        std::uint64_t now_ns) {
  const std::uint64_t number = part_number(now_ns);
  Part& part = services_[row.service_id][number % kParts];
  if (part.number != number) part = {.number = number, .table = {}};
  part.table.add(probability_q16, row.retried);
  const std::uint32_t request = std::max(row.request, 1U);  // a handshake is its first one's
  if (row.connection_id != last_connection_ || request != last_request_) part.table.add_request();
  last_connection_ = row.connection_id;
  last_request_ = request;
}

WatchMeasures ServiceScores::measure(std::uint32_t service_id, std::uint64_t now_ns) const {
  ScoreTable sum;
  const std::uint64_t newest = part_number(now_ns);
  if (const auto found = services_.find(service_id); found != services_.end()) {
    for (const Part& part : found->second) {
      if (part.number != 0 && part.number + kParts > newest) sum.add(part.table);
    }
  }
  return sum.measure();
}

}  // namespace petrel
