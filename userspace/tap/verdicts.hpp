// SPDX-License-Identifier: MIT
// Verdicts and notes by name: "forwarded", "off_ring".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "bpf/types.h"

namespace petrel::tap {

// Of an enum verdict, notes included; "unknown" for a value that this build does not know.
std::string_view verdict_name(std::uint32_t verdict);
std::string_view verdict_meaning(std::uint32_t verdict);
std::optional<std::uint32_t> verdict_by_name(std::string_view name);

// In enum order.
std::vector<std::string_view> verdict_names();

bool has_note(const bpf::tap_header& header, std::uint32_t note);
std::vector<std::uint32_t> notes_of(const bpf::tap_header& header);

std::string_view action_name(std::uint8_t xdp_action);

}  // namespace petrel::tap
