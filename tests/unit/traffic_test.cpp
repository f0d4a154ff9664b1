// SPDX-License-Identifier: MIT
// The pure parts of petrel-traffic: arrivals, retries, client addresses, percentiles, faults.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "traffic/arrivals.hpp"
#include "traffic/attempt.hpp"
#include "traffic/endpoint.hpp"
#include "traffic/fault.hpp"
#include "traffic/random.hpp"
#include "traffic/retry_policy.hpp"
#include "traffic/service_time.hpp"
#include "traffic/source_range.hpp"
#include "traffic/summary.hpp"

namespace petrel::traffic {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// --- arrivals -----------------------------------------------------------------------------------

TEST(Arrivals, ComeAtTheRateAskedFor) {
  Arrivals arrivals(800, Random(1, Stream::kArrivals));
  nanoseconds last{};
  for (int i = 0; i < 80000; ++i) last = arrivals.next();
  // 80,000 arrivals take 100 s; the standard deviation is 100 s / sqrt(80,000) = 0.35 s.
  EXPECT_NEAR(static_cast<double>(last.count()) / 1e9, 100, 1.8);
}

TEST(Arrivals, ArePoissonAndNotEvenlySpaced) {
  Arrivals arrivals(100, Random(7, Stream::kArrivals));
  std::vector<int> per_second(2000, 0);
  for (;;) {
    const auto second = static_cast<std::size_t>(arrivals.next().count() / 1'000'000'000);
    if (second >= per_second.size()) break;
    ++per_second[second];
  }
  const double mean = std::accumulate(per_second.begin(), per_second.end(), 0.0) / 2000;
  double variance = 0;
  for (const int count : per_second) variance += (count - mean) * (count - mean) / 2000;
  // A Poisson count's variance is its mean; that of even spacing would be near 0.
  EXPECT_NEAR(variance / mean, 1, 0.15);
}

TEST(Arrivals, RepeatWithTheSameSeedAndDifferWithAnother) {
  Arrivals first(100, Random(3, Stream::kArrivals));
  Arrivals same(100, Random(3, Stream::kArrivals));
  Arrivals other(100, Random(4, Stream::kArrivals));
  const auto time = first.next();
  EXPECT_EQ(time, same.next());
  EXPECT_NE(time, other.next());
}

// --- retry policy -------------------------------------------------------------------------------

RetryPolicy policy(RetryKind kind) {
  return {.kind = kind, .delay = milliseconds(100), .cap = milliseconds(1000), .max_attempts = 8};
}

TEST(RetryPolicy, NoneNeverRetries) {
  EXPECT_FALSE(policy(RetryKind::kNone).delay_after(1, 0.5));
}

TEST(RetryPolicy, ImmediateAndFixedDoNotDependOnTheDraw) {
  for (const double draw : {0.0, 0.5, 0.999}) {
    EXPECT_EQ(policy(RetryKind::kImmediate).delay_after(3, draw), nanoseconds(0));
    EXPECT_EQ(policy(RetryKind::kFixed).delay_after(3, draw), milliseconds(100));
  }
}

TEST(RetryPolicy, ExponentialHasFullJitterUpToTheDoubledDelayAndTheCap) {
  const auto exponential = policy(RetryKind::kExponential);
  const std::vector<int> bounds_ms = {100, 200, 400, 800, 1000, 1000, 1000};
  Random random(1, Stream::kRetries);
  for (int made = 1; made <= 7; ++made) {
    const auto bound = milliseconds(bounds_ms[static_cast<std::size_t>(made - 1)]);
    EXPECT_EQ(exponential.delay_after(made, 0), nanoseconds(0));
    EXPECT_EQ(exponential.delay_after(made, 0.5), nanoseconds(bound) / 2);
    for (int draw = 0; draw < 1000; ++draw) {
      const auto delay = exponential.delay_after(made, random.uniform());
      ASSERT_TRUE(delay);
      EXPECT_GE(*delay, nanoseconds(0));
      EXPECT_LT(*delay, bound);
    }
  }
}

TEST(RetryPolicy, ExponentialStaysCappedAfterManyAttempts) {
  RetryPolicy many = policy(RetryKind::kExponential);
  many.max_attempts = 1'000'000;
  EXPECT_EQ(many.delay_after(5000, 0.5), milliseconds(500));
}

TEST(RetryPolicy, GivesUpAtMaxAttemptsAndNotBefore) {
  for (const auto kind : {RetryKind::kImmediate, RetryKind::kFixed, RetryKind::kExponential}) {
    EXPECT_TRUE(policy(kind).delay_after(7, 0.5));
    EXPECT_FALSE(policy(kind).delay_after(8, 0.5));
    EXPECT_FALSE(policy(kind).delay_after(9, 0.5));
  }
}

TEST(RetryPolicy, UnknownNameSaysWhatWasExpectedAndFound) {
  const auto kind = parse_retry_kind("sometimes");
  ASSERT_FALSE(kind);
  EXPECT_EQ(kind.error().message(),
            "expected none, immediate, fixed or exponential, found 'sometimes'");
  EXPECT_EQ(kind.error().kind(), ExitCode::kUsage);
}

// --- service time -------------------------------------------------------------------------------

TEST(ServiceTime, EveryDistributionHasTheMeanAskedFor) {
  for (const auto distribution :
       {Distribution::kExponential, Distribution::kLognormal, Distribution::kConstant}) {
    const ServiceTime time{.distribution = distribution, .mean_ms = 10, .sigma = 0.8};
    Random random(1, Stream::kServiceTimes);
    double sum_ms = 0;
    for (int i = 0; i < 100000; ++i) sum_ms += static_cast<double>(time.draw(random).count()) / 1e6;
    EXPECT_NEAR(sum_ms / 100000, 10, 0.2);
  }
}

TEST(ServiceTime, ConstantIsConstant) {
  const ServiceTime time{.distribution = Distribution::kConstant, .mean_ms = 2.5};
  Random random(1, Stream::kServiceTimes);
  EXPECT_EQ(time.draw(random), std::chrono::microseconds(2500));
  EXPECT_EQ(time.draw(random), std::chrono::microseconds(2500));
}

// --- endpoints and client addresses -------------------------------------------------------------

TEST(Endpoint, BothFamiliesAreRead) {
  EXPECT_EQ(to_text(*parse_endpoint("10.0.0.1:80")), "10.0.0.1:80");
  EXPECT_EQ(to_text(*parse_endpoint("[fd00::1]:65535")), "[fd00::1]:65535");
}

TEST(Endpoint, WrongOnesAreRefused) {
  for (const char* text :
       {"", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:8x", "fd00::1:80",
        "[10.0.0.1]:80", "[fd00::1]", "host:80", ":80", "[]:80"}) {
    const auto endpoint = parse_endpoint(text);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_NE(endpoint.error().message().find("found '" + std::string(text) + "'"),
              std::string::npos);
  }
}

struct RangeCase {
  const char* cidr;
  std::uint64_t size;
  const char* first;
  const char* last;
};

TEST(SourceRange, HoldsTheHostsOfItsNetwork) {
  const std::vector<RangeCase> cases = {
      {"10.1.128.0/20", 4094, "10.1.128.1", "10.1.143.254"},
      {"10.0.0.0/24", 254, "10.0.0.1", "10.0.0.254"},
      {"10.0.0.4/31", 2, "10.0.0.4", "10.0.0.5"},
      {"10.0.0.7/32", 1, "10.0.0.7", "10.0.0.7"},
      {"0.0.0.0/0", 4294967294, "0.0.0.1", "255.255.255.254"},
      {"fd00:1:ffff::/120", 255, "fd00:1:ffff::1", "fd00:1:ffff::ff"},
      {"fd00::fffe/127", 2, "fd00::fffe", "fd00::ffff"},
      {"fd00::7/128", 1, "fd00::7", "fd00::7"},
      {"fd00:1:ffff::/64", 4294967295, "fd00:1:ffff::1", "fd00:1:ffff::ffff:ffff"},
  };
  for (const RangeCase& range_case : cases) {
    const auto range = SourceRange::parse(range_case.cidr);
    ASSERT_TRUE(range) << range_case.cidr;
    EXPECT_EQ(range->size(), range_case.size) << range_case.cidr;
    EXPECT_EQ(range->at(0).to_string(), range_case.first) << range_case.cidr;
    EXPECT_EQ(range->at(range->size() - 1).to_string(), range_case.last) << range_case.cidr;
  }
}

TEST(SourceRange, AddressesAreDistinctAcrossByteBoundaries) {
  for (const char* cidr : {"10.1.128.0/20", "fd00:1:ffff::/64"}) {
    const auto range = SourceRange::parse(cidr);
    std::set<std::string> seen;
    for (std::uint64_t client = 0; client < 1024; ++client) {
      seen.insert(range->at(client).to_string());
    }
    EXPECT_EQ(seen.size(), 1024U) << cidr;
  }
}

TEST(SourceRange, WrongOnesAreRefusedWithTheReason) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"10.1.128.0", "no prefix length"},
      {"10.1.128.0/33", "the prefix length is 0 to 32"},
      {"fd00::/129", "the prefix length is 0 to 128"},
      {"10.1.128.0/", "the prefix length is 0 to 32"},
      {"10.1.128.0/2x", "the prefix length is 0 to 32"},
      {"10.1.128.0/-1", "the prefix length is 0 to 32"},
      {"10.1.128/20", "no address before the '/'"},
      {"/20", "no address before the '/'"},
      {"10.1.129.5/20", "did you mean 10.1.128.0/20?"},
      {"fd00::1/64", "did you mean fd00::/64?"},
  };
  for (const auto& [cidr, reason] : cases) {
    const auto range = SourceRange::parse(cidr);
    ASSERT_FALSE(range) << cidr;
    EXPECT_NE(range.error().message().find(reason), std::string::npos) << range.error().message();
    EXPECT_EQ(range.error().kind(), ExitCode::kUsage);
  }
}

// --- attempts and summary -----------------------------------------------------------------------

TEST(Outcome, TooManyRequestsAndServerErrorsAreFailuresAndOthersAreNot) {
  for (const unsigned status : {429U, 500U, 503U, 599U}) {
    EXPECT_EQ(outcome_of_status(status), Outcome::kStatus);
  }
  for (const unsigned status : {200U, 204U, 301U, 404U, 428U, 600U}) {
    EXPECT_EQ(outcome_of_status(status), Outcome::kOk);
  }
}

TEST(Outcome, TheSameErrorMeansAnotherThingBeforeAndAfterTheHandshake) {
  namespace error = boost::asio::error;
  using boost::beast::http::make_error_code;
  EXPECT_EQ(outcome_of_connect(error::timed_out), Outcome::kConnectTimeout);
  EXPECT_EQ(outcome_of_exchange(error::timed_out), Outcome::kResponseTimeout);
  EXPECT_EQ(outcome_of_connect(error::connection_refused), Outcome::kRefused);
  EXPECT_EQ(outcome_of_exchange(error::connection_reset), Outcome::kReset);
  EXPECT_EQ(outcome_of_exchange(error::broken_pipe), Outcome::kReset);
  EXPECT_EQ(outcome_of_exchange(make_error_code(boost::beast::http::error::end_of_stream)),
            Outcome::kEof);
  EXPECT_EQ(outcome_of_exchange(make_error_code(boost::beast::http::error::partial_message)),
            Outcome::kEof);
  EXPECT_EQ(outcome_of_connect(error::host_unreachable), Outcome::kError);
}

TEST(Percentile, IsTheNearestRank) {
  std::vector<std::int64_t> values(1000);
  std::iota(values.begin(), values.end(), 1);
  std::reverse(values.begin(), values.end());
  EXPECT_EQ(percentile(values, 0.5), 500);
  EXPECT_EQ(percentile(values, 0.99), 990);
  EXPECT_EQ(percentile(values, 0.999), 999);
  EXPECT_EQ(percentile(values, 1), 1000);
  EXPECT_EQ(percentile(values, 0), 1);
}

TEST(Percentile, OfFewValuesIsOneOfThem) {
  std::vector<std::int64_t> none;
  std::vector<std::int64_t> one = {7};
  std::vector<std::int64_t> three = {30, 10, 20};
  EXPECT_FALSE(percentile(none, 0.5));
  EXPECT_EQ(percentile(one, 0.5), 7);
  EXPECT_EQ(percentile(one, 0.999), 7);
  EXPECT_EQ(percentile(three, 0.5), 20);
  EXPECT_EQ(percentile(three, 0.99), 30);
}

TEST(Summary, CountsAttemptsRetriesAndWhatWasNeverServed) {
  Summary summary;
  Attempt failed{.request = 1, .number = 1, .outcome = Outcome::kRefused};
  Attempt unavailable{.request = 1, .number = 2, .outcome = Outcome::kStatus};
  unavailable.status = 503;
  unavailable.backend = "b2";
  Attempt good{.request = 2, .number = 1, .outcome = Outcome::kOk};
  good.status = 200;
  good.backend = "b1";
  good.connect_us = 250;
  for (const Attempt& attempt : {failed, unavailable, good}) summary.add_attempt(attempt);
  summary.add_request(false, 9000);
  summary.add_request(true, 1500);

  const auto object = summary.to_json();
  EXPECT_EQ(object.at("schema"), "petrel/traffic/v1");
  EXPECT_EQ(object.at("requests").to_number<int>(), 2);
  EXPECT_EQ(object.at("attempts").to_number<int>(), 3);
  EXPECT_EQ(object.at("first_attempt_failures").to_number<int>(), 1);
  EXPECT_EQ(object.at("retries").to_number<int>(), 1);
  EXPECT_DOUBLE_EQ(object.at("amplification").to_number<double>(), 1.5);
  EXPECT_EQ(object.at("never_served").to_number<int>(), 1);
  EXPECT_DOUBLE_EQ(object.at("p50_ms").to_number<double>(), 1.5);
  EXPECT_DOUBLE_EQ(object.at("p99_ms").to_number<double>(), 9);
  EXPECT_EQ(object.at("by_outcome").at("refused").to_number<int>(), 1);
  EXPECT_EQ(object.at("by_status").at("503").to_number<int>(), 1);
  EXPECT_EQ(object.at("by_backend").at("b1").to_number<int>(), 1);
  EXPECT_EQ(object.at("connect_p50_us").to_number<int>(), 250);
}

TEST(Summary, SkippedRequestsAreNeverServedAndDoNotFlatterTheAmplification) {
  Summary summary;
  summary.add_attempt(Attempt{.request = 1, .outcome = Outcome::kOk});
  summary.add_request(true, 1000);
  summary.add_skipped();
  const auto object = summary.to_json();
  EXPECT_EQ(object.at("requests").to_number<int>(), 2);
  EXPECT_EQ(object.at("never_served").to_number<int>(), 1);
  EXPECT_DOUBLE_EQ(object.at("amplification").to_number<double>(), 1);
}

TEST(Summary, OfNothingHasNoPercentiles) {
  const auto object = Summary().to_json();
  for (const char* name : {"amplification", "p50_ms", "p999_ms", "connect_p99_us"}) {
    EXPECT_TRUE(object.at(name).is_null()) << name;
  }
}

// --- faults -------------------------------------------------------------------------------------

Result<Fault> fault_of(const char* text) {
  return parse_fault(boost::json::parse(text).as_object());
}

TEST(Fault, SurvivesTheWayOverTheControlSocket) {
  const auto errors = fault_of(R"({"kind":"errors","rate":0.25,"status":500,"quick":true})");
  ASSERT_TRUE(errors);
  const auto again = parse_fault(to_json(*errors));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->kind, FaultKind::kErrors);
  EXPECT_DOUBLE_EQ(again->rate, 0.25);
  EXPECT_EQ(again->status, 500U);
  EXPECT_TRUE(again->quick);
}

TEST(Fault, EveryKindHasItsNameBack) {
  for (const char* name : {"none", "hang", "refuse", "reset", "blackhole", "slow", "errors"}) {
    const auto kind = parse_fault_kind(name);
    ASSERT_TRUE(kind) << name;
    EXPECT_EQ(to_text(*kind), name);
  }
}

TEST(Fault, WrongParametersAreNamed) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({})", "kind: expected the name of a fault, found none"},
      {R"({"kind":7})", "kind: expected the name of a fault, found none"},
      {R"({"kind":"sad"})", "found 'sad'"},
      {R"({"kind":"errors","rate":1.5})", "rate: expected a number from 0 to 1, found 1.5"},
      {R"({"kind":"errors","rate":"all"})", "rate: expected a number from 0 to 1, found \"all\""},
      {R"({"kind":"slow","factor":0})", "factor: expected a number from 0.001 to 1000000, found 0"},
      {R"({"kind":"errors","status":200})", "status: expected a number from 400 to 599, found 200"},
      {R"({"kind":"errors","quick":1})", "quick: expected true or false, found 1"},
  };
  for (const auto& [text, reason] : cases) {
    const auto fault = fault_of(text);
    ASSERT_FALSE(fault) << text;
    EXPECT_NE(fault.error().message().find(reason), std::string::npos) << fault.error().message();
  }
}

}  // namespace
}  // namespace petrel::traffic
