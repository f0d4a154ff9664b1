// SPDX-License-Identifier: MIT
#include "trainer/bootstrap.hpp"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <random>

namespace petrel {
namespace {

constexpr double kTail = 0.025;  // on either side of a 95 % interval

double tail_for(size_t runs) {
  const auto n = static_cast<double>(runs);
  const double t = boost::math::quantile(boost::math::students_t(n - 1), kTail);
  return boost::math::cdf(boost::math::normal(), std::sqrt(n / (n - 1)) * t);
}

// Between neighbours in proportion; `ascending` is not empty.
double quantile(const std::vector<double>& ascending, double share) {
  const double place = share * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above], place - static_cast<double>(below));
}

}  // namespace

RunResamples::RunResamples(size_t runs, size_t count, uint64_t seed)
    : runs_(runs), count_(count), weights_(runs * count) {
  std::mt19937_64 random(seed);
  if (runs == 0) return;
  for (size_t resample = 0; resample < count; resample++) {
    for (size_t draw = 0; draw < runs; draw++) weights_[resample * runs + random() % runs]++;
  }
}

std::span<const uint32_t> RunResamples::weights(size_t resample) const {
  return std::span(weights_).subspan(resample * runs_, runs_);
}

bool Estimate::has_value() const {
  return !std::isnan(value);
}
bool Estimate::has_interval() const {
  return !std::isnan(low);
}

Estimate estimate(double value, std::vector<double> resampled, size_t runs) {
  Estimate result{.value = value};
  const size_t drawn = resampled.size();
  std::erase_if(resampled, [](double each) { return std::isnan(each); });
  if (std::isnan(value) || runs < 2 || resampled.empty() || resampled.size() * 2 < drawn) {
    return result;
  }
  std::sort(resampled.begin(), resampled.end());
  const double tail = tail_for(runs);
  result.low = quantile(resampled, tail);
  result.high = quantile(resampled, 1 - tail);
  return result;
}

double weighted_quantile(std::span<const RunValue> ascending, std::span<const uint32_t> weights,
                         double share) {
  double total = 0;
  for (const RunValue& each : ascending) total += weights[each.run];
  double up_to = 0;
  for (const RunValue& each : ascending) {
    up_to += weights[each.run];
    if (up_to > 0 && up_to >= share * total) return each.value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace petrel
