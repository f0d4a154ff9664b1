// SPDX-License-Identifier: MIT
// ServiceState: what usually happens at one service, as its events tell it.
//
// How long answers and handshakes take, how that varies, how long clients wait before they leave, and
// how often they try again what failed: all slow to follow and bounded in what one event can do, so
// that an incident does not become usual. Integer Q16 throughout.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "features/features.hpp"
#include "features/usual.hpp"

namespace petrel {

class ServiceState {
 public:
  ServiceState();

  // Outcomes, and what is said of retries.
  void on_event(const bpf::event& event);

  void tick(uint64_t elapsed_ns);

  // As of now, without the time of day.
  ServiceView view() const;

  // Of ns; none before clients were seen to leave.
  std::optional<int32_t> known_patience_log2_q16() const {
    return patience_log2_.is_known() ? std::optional(patience_log2_.value_q16()) : std::nullopt;
  }

  template <class Fields>
  void archive(Fields& fields) {
    response_log2_.archive(fields, "response_log2");
    spread_log2_.archive(fields, "spread_log2");
    connect_log2_.archive(fields, "connect_log2");
    patience_log2_.archive(fields, "patience_log2");
    srtt_log2_.archive(fields, "srtt_log2");
    fields("undecided_q16", undecided_q16_);
    fields("retried_q16", retried_q16_);
    fields("unretried_q16", unretried_q16_);
    for (size_t i = 0; i < answers_q16_.size(); i++) {
      fields("answers_" + std::to_string(i) + "_q16", answers_q16_[i]);
    }
  }

 private:
  void on_good_answer(const bpf::event& event);
  void on_failure(const bpf::event& event);

  Usual response_log2_;
  Usual spread_log2_;
  Usual connect_log2_;
  Usual patience_log2_;
  Usual srtt_log2_;
  // Decayed counts. A failure is undecided until its retry comes or has had the time to.
  uint64_t undecided_q16_ = 0;
  uint64_t retried_q16_ = 0;
  uint64_t unretried_q16_ = 0;
  std::array<uint64_t, RARITY_OCTAVES> answers_q16_{};  // good ones, by octave of their time
};

}  // namespace petrel
