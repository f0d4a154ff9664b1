// SPDX-License-Identifier: MIT
// Overrides: what people have ordered of services' weights: who, why, since when and until when.
//
// Kept in agent.state_dir as overrides.json, replaced whole at each change, so that an order outlasts
// the agent and the host's restart. Times are of the day (CLOCK_REALTIME), for the same reason.
// No I/O but for the function that reads the file, and no clock.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "decisions/decision.hpp"

namespace petrel {

enum class OverrideKind : std::uint8_t { kWeight, kFreeze, kNeutral, kDrain };
std::string_view to_string(OverrideKind kind);

struct Override {
  OverrideKind kind = OverrideKind::kWeight;
  std::string service;
  std::string backend;          // "" of a whole service
  double percent = 100;         // kWeight: of the configured weight
  std::string reason;           // as given; "": none
  std::string by;               // as the command line said: SUDO_USER, or the user's name
  std::uint32_t uid = 0;        // of the process that asked, as the kernel says
  std::int64_t since_ns = 0;    // CLOCK_REALTIME
  std::int64_t until_ns = 0;    // 0: until it is released
  std::int64_t drained_ns = 0;  // kDrain: when its flows are reset or moved
  std::map<std::string, std::uint32_t> frozen_q16 = {};  // kFreeze: control's part, by backend

  bool is_of_service() const { return backend.empty(); }
  bool is_over(std::int64_t now_ns) const { return until_ns != 0 && until_ns <= now_ns; }
};

class Overrides {
 public:
  // Those of a file; `name` stands for it in errors. What is over is left out.
  static Result<Overrides> parse(std::string_view text, const std::string& name,
                                 std::int64_t now_ns);
  std::string text() const;

  // In the place of the one of the same backend and kind, or of the same service.
  void put(Override override);
  // Those of a backend, or with "" all of the service; returns what is gone.
  std::vector<Override> release(const std::string& service, const std::string& backend);
  // A backend's of one kind.
  void release(const std::string& service, const std::string& backend, OverrideKind kind);
  std::vector<Override> expire(std::int64_t now_ns);

  const std::vector<Override>& list() const { return list_; }

 private:
  template <class Which>
  std::vector<Override> take(Which which);

  std::vector<Override> list_;  // in the order in which they were given
};

// As status shows it, with what is left of its time.
boost::json::object override_json(const Override& override, std::int64_t now_ns);

// No file: none.
Result<Overrides> read_overrides(const std::string& path, std::int64_t now_ns);

}  // namespace petrel
