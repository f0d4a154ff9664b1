// SPDX-License-Identifier: MIT
#include "watch/sampled_labeller.hpp"

#include <algorithm>
#include <cstring>

namespace petrel {
namespace {

constexpr std::uint64_t kAdaptNs = 1'000'000'000;
constexpr double kRoom = 0.75;  // of what may be: rows come in bursts
constexpr double kFastestGrowth = 2;
constexpr double kLeastLimit = 1ULL << 40;  // it must be able to grow again

std::uint64_t mix(std::uint64_t state) {  // splitmix64's finisher
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

std::uint64_t hash(const bpf::address& client, std::uint16_t port_be, std::uint32_t service_id,
                   std::uint64_t syn_ns) {
  std::uint64_t words[2];
  static_assert(sizeof words == sizeof client.bytes);
  std::memcpy(words, client.bytes, sizeof words);
  std::uint64_t state = mix(words[0] + 0x9e3779b97f4a7c15ULL);
  state = mix(state ^ words[1]);
  state = mix(state ^ (std::uint64_t{service_id} << 16 | port_be));
  return mix(state ^ syn_ns);
}

}  // namespace

SampledLabeller::SampledLabeller(LabellerOptions options, Labeller::Sink sink,
                                 double most_rows_per_s)
    : options_(options), most_rows_per_s_(most_rows_per_s), labeller_(options, std::move(sink)) {}

void SampledLabeller::on_event(const bpf::event& event) {
  // What tells of a failed connection goes where that one's rows went.
  const bool of_earlier = event.type == bpf::EVENT_RETRY || event.type == bpf::EVENT_NO_RETRY;
  const std::uint64_t of = of_earlier ? hash(event.key.client, event.previous_port_be,
                                             event.key.service_id, event.previous_syn_ns)
                                      : hash(event.key.client, event.key.client_port_be,
                                             event.key.service_id, event.syn_ns);
  if (of <= (of_earlier ? wide_limit_ : limit_)) labeller_.on_event(event);
}

void SampledLabeller::on_tick(std::shared_ptr<const Snapshot> snapshot, std::uint64_t now_ns) {
  adapt(now_ns);
  labeller_.on_tick(std::move(snapshot), now_ns);
}

double SampledLabeller::share() const {
  return static_cast<double>(limit_) / static_cast<double>(~0ULL);
}

std::uint64_t SampledLabeller::rows_ever() const {
  const Labeller::Counters& counters = labeller_.counters();
  return labeller_.held_rows() + counters.written + counters.dropped_full;
}

void SampledLabeller::adapt(std::uint64_t now_ns) {
  while (!earlier_.empty() && earlier_.front().until_ns < now_ns) earlier_.pop_front();
  const std::uint64_t rows = rows_ever();
  if (adapted_ns_ == 0) {
    adapted_ns_ = now_ns;
    rows_then_ = rows;
  }
  // A flood is met at once, not at the end of its second.
  const bool flood = static_cast<double>(rows - rows_then_) > most_rows_per_s_;
  if (flood || now_ns - adapted_ns_ >= kAdaptNs) {
    const double seconds = std::max(0.001, static_cast<double>(now_ns - adapted_ns_) / 1e9);
    const double per_s = static_cast<double>(rows - rows_then_) / seconds;
    const double fits = per_s > 0 ? kRoom * most_rows_per_s_ / per_s : kFastestGrowth;
    if (fits < kRoom || (fits > 1 && limit_ != ~0ULL)) {
      const double wanted =
          std::max(kLeastLimit, static_cast<double>(limit_) * std::min(fits, kFastestGrowth));
      const std::uint64_t before = limit_;
      limit_ = wanted >= static_cast<double>(~0ULL) ? ~0ULL : static_cast<std::uint64_t>(wanted);
      if (limit_ < before) {
        const auto held = options_.retry_window + options_.lateness;
        while (!earlier_.empty() && earlier_.back().limit <= before) earlier_.pop_back();
        earlier_.push_back({now_ns + 2 * static_cast<std::uint64_t>(held.count()), before});
      }
    }
    adapted_ns_ = now_ns;
    rows_then_ = rows;
  }
  wide_limit_ = earlier_.empty() ? limit_ : std::max(limit_, earlier_.front().limit);
}

}  // namespace petrel
