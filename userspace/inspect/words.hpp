// SPDX-License-Identifier: MIT
// What the numbers in the maps are called: the same words in tables and in JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "inspect/placement.hpp"

namespace petrel::inspect {

std::string_view connection_state_name(std::uint8_t state);
std::string_view backend_state_name(std::uint16_t state);
std::string_view failure_name(std::uint8_t failure);
std::string_view outcome_name(ProbeOutcome outcome);
std::string_view second_reason_name(SecondReason reason);
std::string_view admission_name(Admission admission);  // the verdict's name; "admitted"
std::string_view protocol_name(std::uint8_t protocol);

// Why a flow is where it is, by its flags: "ring" where nothing else took part.
std::vector<std::string_view> reasons_of(std::uint32_t connection_flags);
// What each of them means, in a few words.
std::string_view reason_meaning(std::string_view reason);

// What a service does, by its flags: "nat", "act", "steer_retries", ...
std::vector<std::string_view> abilities_of(std::uint32_t service_flags);

std::string joined(const std::vector<std::string_view>& words, std::string_view between);

// "20 us", "0.4 ms", "12.3 s", "5 min".
std::string duration_text(std::uint64_t duration_ns);

}  // namespace petrel::inspect
