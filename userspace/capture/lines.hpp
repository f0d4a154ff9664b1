// SPDX-License-Identifier: MIT
// What the agent tells of as rows of a capture's tables: each function makes one line of the stream,
// the table's name first. docs/capture.md says what the columns mean.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/types.h"
#include "capture/client_mask.hpp"
#include "loop/loop.hpp"

namespace petrel {

// Names by id; those that are not known have their number.
struct CaptureNames {
  std::vector<std::string> services;
  std::vector<std::string> backends;

  explicit CaptureNames(const std::vector<ServiceLoop>& loops = {});
  std::string service(std::uint32_t id) const;
  std::string backend(std::uint32_t id) const;  // "" for 0
};

std::string meta_line(std::string_view name, std::string_view value);
std::string loss_line(std::uint64_t time_ns, std::string_view place, std::uint64_t lost);

// `record` and `event` have their client masked already.
std::string request_line(std::string_view run, const bpf::record& record, const CaptureNames& names,
                         const ClientMask& mask);
// Of an EVENT_NO_RETRY.
std::string withdrawn_line(const bpf::event& event, const ClientMask& mask);
std::string event_line(std::uint64_t tick, const bpf::event& event, const ClientMask& mask);

// "8388608:3;25165824:1": ages in ns and how many.
std::string groups_text(std::span<const WaitingGroup> groups);
// False where it is none.
bool parse_groups(std::string_view text, std::vector<WaitingGroup>& groups);

// What a tick did to the rings, in order: equal for equal moves.
class MoveHash {
 public:
  void add(std::uint32_t service_id, std::span<const RingChange> changes);
  std::uint64_t slots() const { return slots_; }
  std::uint64_t hash() const { return slots_ == 0 ? 0 : hash_; }

 private:
  std::uint64_t slots_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;  // FNV-1a
};

struct TickFacts {
  std::uint64_t tick = 0;
  std::uint64_t time_ns = 0;
  std::uint64_t elapsed_ns = 0;
  std::uint64_t events = 0;    // drained in it
  std::uint64_t backends = 0;  // rows of tick_backends that belong to it
  std::uint64_t moved_slots = 0;
  std::uint64_t moved_hash = 0;

  bool operator==(const TickFacts&) const = default;
};
std::string tick_line(const TickFacts& tick);

// What a tick has decided of a backend.
struct Decided {
  std::uint32_t risk_q16 = 0;
  std::uint32_t factor_q16 = 65536;
  std::uint32_t reason = 0;
  std::uint32_t slots = 0;

  static Decided of(const BackendLoop& backend);
  bool operator==(const Decided&) const = default;
};
std::string tick_backend_line(std::uint64_t tick, std::uint32_t service_id,
                              std::uint32_t backend_id, const BackendTick& inputs,
                              const Decided& decided);

std::string state_line(std::uint64_t tick, std::string_view name, std::string_view value);
// A whole checkpoint: its last line, kStateEnd, says how many came before it, so that one of which
// lines were lost is not taken for whole.
inline constexpr std::string_view kStateEnd = "end";
std::vector<std::string> state_lines(std::uint64_t tick, const StateOut& state);

// The stream's own: a checkpoint of that tick begins, and a new file may begin with it.
std::string checkpoint_line(std::uint64_t tick);

}  // namespace petrel
