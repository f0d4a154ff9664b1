// SPDX-License-Identifier: MIT
#include "trainer/lead_time.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace petrel {
namespace {

constexpr double kNsPerMs = 1e6;

struct RunCounts {
  double requests = 0;
  double waited = 0;
  double crossed = 0;
};

// What one run's requests have come to, and how early.
struct Tally {
  std::vector<RunCounts> retried;
  std::vector<RunCounts> others;
  std::vector<RunValue> leads_ms;
};

bool is_waiting(const LabelledRow& row) {
  return row.point == Point::kWaitingSyn || row.point == Point::kWaitingResponse;
}

// A handshake's rows have number 0 and belong to the first request.
auto request_key(const LabelledRow& row) {
  return std::make_tuple(row.connection_id, std::max(row.request, 1U));
}

// `rows` are of one request, in order of time.
void add_request(const Run& run, std::span<const size_t> rows,
                 std::span<const double> probabilities, double working_point, uint32_t number,
                 Tally& tally) {
  const LabelledRow* alarm = nullptr;
  const LabelledRow* outcome = nullptr;
  bool waited = false;
  for (const size_t index : rows) {
    const LabelledRow& row = run.rows[index];
    if (!is_waiting(row)) {
      outcome = &row;
      continue;
    }
    waited = true;
    if (alarm == nullptr && probabilities[index] >= working_point) alarm = &row;
  }
  if (outcome == nullptr) return;
  RunCounts& counts = (outcome->retried ? tally.retried : tally.others)[number];
  counts.requests++;
  if (waited) counts.waited++;
  if (alarm == nullptr) return;
  counts.crossed++;
  if (!outcome->retried) return;
  tally.leads_ms.push_back(
      {static_cast<double>(outcome->time_ns - alarm->time_ns) / kNsPerMs, number});
}

void add_run(const Run& run, std::span<const double> probabilities, double working_point,
             uint32_t number, Tally& tally) {
  std::vector<size_t> order(run.rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&run](size_t left, size_t right) {
    const LabelledRow& a = run.rows[left];
    const LabelledRow& b = run.rows[right];
    return std::make_tuple(request_key(a), a.time_ns, !is_waiting(a)) <
           std::make_tuple(request_key(b), b.time_ns, !is_waiting(b));
  });
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() &&
           request_key(run.rows[order[end]]) == request_key(run.rows[order[begin]])) {
      end++;
    }
    add_request(run, std::span(order).subspan(begin, end - begin), probabilities, working_point,
                number, tally);
    begin = end;
  }
}

// Sums over the runs, each as often as it was drawn.
RunCounts total(const std::vector<RunCounts>& runs, std::span<const uint32_t> weights) {
  RunCounts sum;
  for (size_t i = 0; i < runs.size(); i++) {
    sum.requests += weights[i] * runs[i].requests;
    sum.waited += weights[i] * runs[i].waited;
    sum.crossed += weights[i] * runs[i].crossed;
  }
  return sum;
}

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : std::numeric_limits<double>::quiet_NaN();
}

AlarmCounts count(const std::vector<RunCounts>& runs, const RunResamples& resamples) {
  const std::vector<uint32_t> once(runs.size(), 1);
  const RunCounts all = total(runs, once);
  std::vector<double> crossed;
  std::vector<double> crossed_of_waited;
  for (size_t i = 0; i < resamples.count(); i++) {
    const RunCounts drawn = total(runs, resamples.weights(i));
    crossed.push_back(ratio(drawn.crossed, drawn.requests));
    crossed_of_waited.push_back(ratio(drawn.crossed, drawn.waited));
  }
  const auto with = [&runs](double RunCounts::*member) {
    return static_cast<size_t>(std::count_if(
        runs.begin(), runs.end(), [member](const RunCounts& run) { return run.*member > 0; }));
  };
  return {
      .requests = static_cast<uint64_t>(all.requests),
      .waited = static_cast<uint64_t>(all.waited),
      .crossed = static_cast<uint64_t>(all.crossed),
      .share_crossed = estimate(ratio(all.crossed, all.requests), std::move(crossed),
                                with(&RunCounts::requests)),
      .share_crossed_of_waited = estimate(ratio(all.crossed, all.waited),
                                          std::move(crossed_of_waited), with(&RunCounts::waited))};
}

Estimate lead_quantile(const Tally& tally, double share, const RunResamples& resamples) {
  const std::vector<uint32_t> once(tally.retried.size(), 1);
  std::vector<double> resampled;
  for (size_t i = 0; i < resamples.count(); i++) {
    resampled.push_back(weighted_quantile(tally.leads_ms, resamples.weights(i), share));
  }
  const auto runs = std::count_if(tally.retried.begin(), tally.retried.end(),
                                  [](const RunCounts& run) { return run.crossed > 0; });
  return estimate(weighted_quantile(tally.leads_ms, once, share), std::move(resampled),
                  static_cast<size_t>(runs));
}

}  // namespace

LeadTime measure_lead_time(std::span<const Run* const> runs,
                           const std::vector<std::vector<double>>& probabilities,
                           double working_point, const RunResamples& resamples) {
  Tally tally{std::vector<RunCounts>(runs.size()), std::vector<RunCounts>(runs.size()), {}};
  for (size_t i = 0; i < runs.size(); i++) {
    add_run(*runs[i], probabilities[i], working_point, static_cast<uint32_t>(i), tally);
  }
  std::sort(tally.leads_ms.begin(), tally.leads_ms.end(),
            [](const RunValue& left, const RunValue& right) { return left.value < right.value; });
  return {.retried = count(tally.retried, resamples),
          .others = count(tally.others, resamples),
          .median_ms = lead_quantile(tally, 0.5, resamples),
          .p90_ms = lead_quantile(tally, 0.9, resamples)};
}

}  // namespace petrel
