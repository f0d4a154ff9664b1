// SPDX-License-Identifier: MIT
#include "features/service_state.hpp"

#include <algorithm>
#include <cstdlib>

#include "features/decay.hpp"

namespace petrel {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// Priors until a service's own times are known: a LAN handshake, a quick page, a patient client.
constexpr uint64_t kPriorConnectNs = 1 * kNsPerMs;
constexpr uint64_t kPriorResponseNs = 16 * kNsPerMs;
constexpr uint64_t kPriorPatienceNs = 1'000 * kNsPerMs;
constexpr int32_t kPriorSpreadQ16 = Q16_ONE / 2;
constexpr int32_t kLargestSpreadQ16 = 8 * Q16_ONE;
// A client that leaves sooner was told to, or was killed: that is no patience.
constexpr uint64_t kLeastPatienceNs = 20 * kNsPerMs;

constexpr uint64_t kAnswersTimeConstantMs = 30'000;
constexpr uint64_t kRetriesTimeConstantMs = 60'000;
// By then half and more of the retries that will come have come.
constexpr uint64_t kDecidedAfterMs = 2'500;
// Most clients retry most failures: what counts before any is seen.
constexpr uint64_t kPriorRetriedQ16 = 3 * Q16_ONE;
constexpr uint64_t kPriorUnretriedQ16 = 1 * Q16_ONE;
constexpr int32_t kLargestOddsQ16 = 8 * Q16_ONE;

void take_off(uint64_t& count_q16, uint64_t amount_q16) {
  count_q16 -= std::min(count_q16, amount_q16);
}

}  // namespace

ServiceState::ServiceState()
    : response_log2_(bpf::log2_q16(kPriorResponseNs)),
      spread_log2_(kPriorSpreadQ16),
      connect_log2_(bpf::log2_q16(kPriorConnectNs)),
      patience_log2_(bpf::log2_q16(kPriorPatienceNs)) {}

void ServiceState::on_event(const bpf::event& event) {
  if (event.type == bpf::EVENT_RETRY) {
    take_off(undecided_q16_, Q16_ONE);
    retried_q16_ += Q16_ONE;
  } else if (event.type == bpf::EVENT_NO_RETRY) {
    take_off(retried_q16_, Q16_ONE);
    undecided_q16_ += Q16_ONE;
  } else if (is_outcome(event)) {
    if (event.failure != bpf::FAILURE_NONE) on_failure(event);
    // Errors are often quick and timeouts slow: neither tells how long an answer takes.
    if (event.type == bpf::EVENT_ANSWER && event.failure == bpf::FAILURE_NONE) {
      on_good_answer(event);
    }
  }
}

void ServiceState::on_good_answer(const bpf::event& event) {
  const int32_t time = bpf::log2_q16(event.waited_ns);
  spread_log2_.add(std::min(std::abs(time - response_log2_.value_q16()), kLargestSpreadQ16));
  response_log2_.add(time);
  const int32_t octave = time / Q16_ONE - RARITY_FIRST_OCTAVE;
  answers_q16_[static_cast<size_t>(std::clamp(octave, 0, RARITY_OCTAVES - 1))] += Q16_ONE;
  if (event.srtt_us > 0) srtt_log2_.add(bpf::log2_q16(event.srtt_us));
  if (event.request == 1 && event.connect_ns > 0) {
    connect_log2_.add(bpf::log2_q16(event.connect_ns));
  }
}

void ServiceState::on_failure(const bpf::event& event) {
  if (event.type == bpf::EVENT_MOVED) return;  // its client does not know
  undecided_q16_ += Q16_ONE;
  if (event.failure == bpf::FAILURE_ABANDONED && event.waited_ns >= kLeastPatienceNs) {
    patience_log2_.add(bpf::log2_q16(event.waited_ns));
  }
}

void ServiceState::tick(uint64_t elapsed_ns) {
  response_log2_.tick(elapsed_ns);
  spread_log2_.tick(elapsed_ns);
  connect_log2_.tick(elapsed_ns);
  patience_log2_.tick(elapsed_ns);
  srtt_log2_.tick(elapsed_ns);
  const uint64_t elapsed_ms = elapsed_ns / kNsPerMs;
  for (uint64_t& count_q16 : answers_q16_) {
    count_q16 = decayed(count_q16, elapsed_ms, kAnswersTimeConstantMs);
  }
  retried_q16_ = decayed(retried_q16_, elapsed_ms, kRetriesTimeConstantMs);
  unretried_q16_ = decayed(unretried_q16_, elapsed_ms, kRetriesTimeConstantMs);
  const uint64_t still = decayed(undecided_q16_, elapsed_ms, kDecidedAfterMs);
  unretried_q16_ += undecided_q16_ - still;
  undecided_q16_ = still;
}

ServiceView ServiceState::view() const {
  ServiceView view{};
  view.usual_response_log2_q16 = response_log2_.value_q16();
  view.response_spread_q16 = spread_log2_.value_q16();
  view.usual_connect_log2_q16 = connect_log2_.value_q16();
  view.patience_log2_q16 = patience_log2_.value_q16();
  view.usual_srtt_log2_q16 = srtt_log2_.is_known() ? srtt_log2_.value_q16() : 0;
  view.retry_odds_log2_q16 = std::clamp(bpf::log2_q16(retried_q16_ + kPriorRetriedQ16) -
                                            bpf::log2_q16(unretried_q16_ + kPriorUnretriedQ16),
                                        -kLargestOddsQ16, kLargestOddsQ16);
  // Those that take longer than an octave's beginning, from the slowest on. One more counts as
  // slower than all: what was never seen is rare, and how rare is not known.
  uint64_t slower_q16 = Q16_ONE;
  uint64_t all_q16 = Q16_ONE;
  for (const uint64_t count_q16 : answers_q16_) all_q16 += count_q16;
  const int32_t all = bpf::log2_q16(all_q16);
  view.rarity_q16[RARITY_OCTAVES] = all - bpf::log2_q16(slower_q16);
  for (size_t i = RARITY_OCTAVES; i-- > 0;) {
    slower_q16 += answers_q16_[i];
    view.rarity_q16[i] = all - bpf::log2_q16(slower_q16);
  }
  return view;
}

}  // namespace petrel
