// SPDX-License-Identifier: MIT
// What each BPF program costs to have: instructions, machine code, stack, the verifier's work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace petrel::bench {

struct ProgramFacts {
  std::string name;
  std::uint32_t instructions = 0;  // after the verifier has rewritten it
  std::uint32_t jited_bytes = 0;   // 0: the kernel has no JIT, or does not tell
  std::uint32_t verified_instructions = 0;
  std::optional<std::uint32_t> stack_bytes;  // of its deepest chain of calls
  // The same as Linux 6.1 counts it, which refuses more than 512.
  std::optional<std::uint32_t> stack_bytes_counted;
};

// Of all programs of the balancer and the sensor. An object that the kernel refuses adds a line to
// `notes` instead.
std::vector<ProgramFacts> program_facts(std::vector<std::string>& notes);

}  // namespace petrel::bench
