// SPDX-License-Identifier: MIT
// Prometheus' text from a status.
#include "agent/metrics.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace petrel {
namespace {

TEST(Metrics, WhatIsKnownOfEachServiceIsSaidAndNothingElse) {
  const std::string text = metrics_text(boost::json::parse(R"({
    "model": {"drifted": 0, "drifted_total": 2}, "losses": {},
    "services": [
      {"name": "web", "retries": 17, "panic": false,
       "self_check": {"harm": true, "last_hour": {"avoided": null}},
       "edge": {"amplification": 1.25, "capacity_per_s": null}},
      {"name": "a\"b", "retries": 0}]})"));
  const auto has = [&](const std::string& line) {
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << " in:\n" << text;
  };
  has("# TYPE petrel_retries_total counter");
  has("petrel_retries_total{service=\"web\"} 17");
  has("petrel_retries_total{service=\"a\\\"b\"} 0");
  has("# TYPE petrel_self_check_harm gauge");
  has("petrel_self_check_harm{service=\"web\"} 1");
  has("petrel_panic{service=\"web\"} 0");
  has("petrel_amplification{service=\"web\"} 1.25");
  has("petrel_model_drifted_total 2");
  EXPECT_EQ(text.find("petrel_retries_avoided"), std::string::npos);
  EXPECT_EQ(text.find("petrel_capacity"), std::string::npos);
  EXPECT_EQ(text.find("petrel_lost_events"), std::string::npos);
}

}  // namespace
}  // namespace petrel
