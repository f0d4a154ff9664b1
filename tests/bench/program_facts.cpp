// SPDX-License-Identifier: MIT
#include "tests/bench/program_facts.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>

#include "balancer.skel.h"
#include "maps/programs.hpp"
#include "sensor.skel.h"

namespace petrel::bench {
namespace {

constexpr std::uint32_t kLogStatistics = 4;  // BPF_LOG_STATS of the kernel's bpf_verifier.h
constexpr std::size_t kLogBytes = 1 << 16;
constexpr std::uint32_t kOldFrameBytes = 32;  // steps in which Linux 6.1 counts a frame

// Of late (seen: 7.3) the verifier has a line for each function, in the order of their code:
// "subprog 4 (name) static insns_self 96 insns_total 96 stack 16".
std::vector<std::uint32_t> stack_depths_by_line(const std::string& log) {
  constexpr std::string_view kMark = " stack ";
  std::vector<std::uint32_t> depths;
  std::istringstream lines(log.c_str());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.rfind(kMark);
    if (!line.starts_with("subprog ") || at == std::string::npos) continue;
    depths.push_back(
        static_cast<std::uint32_t>(std::strtoul(line.c_str() + at + kMark.size(), nullptr, 10)));
  }
  return depths;
}

// Before, the line "stack depth 96+0+64": the same.
std::vector<std::uint32_t> stack_depths(const std::string& log) {
  constexpr std::string_view kMark = "stack depth ";
  std::vector<std::uint32_t> depths = stack_depths_by_line(log);
  if (!depths.empty()) return depths;
  const std::size_t at = log.find(kMark);
  if (at == std::string::npos) return depths;
  const std::size_t begin = at + kMark.size();
  std::istringstream line(log.substr(begin, log.find_first_of(" \n", begin) - begin));
  for (std::string depth; std::getline(line, depth, '+');) {
    depths.push_back(static_cast<std::uint32_t>(std::strtoul(depth.c_str(), nullptr, 10)));
  }
  return depths;
}

// The verifier's line "processed 812 insns": kernels before 5.16 tell it nowhere else.
std::uint32_t processed_instructions(const std::string& log) {
  constexpr std::string_view kMark = "processed ";
  const std::size_t at = log.find(kMark);
  if (at == std::string::npos) return 0;
  return static_cast<std::uint32_t>(std::strtoul(log.c_str() + at + kMark.size(), nullptr, 10));
}

// The lines before the statistics: why the program was refused.
std::string refusal(const std::string& log) {
  std::istringstream lines(log.c_str());
  std::string why;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("processed ") || line.starts_with("verification time") ||
        line.starts_with("stack depth") || line.starts_with("subprog ")) {
      continue;
    }
    why += (why.empty() ? "" : "; ") + line;
  }
  return why.size() > 400 ? why.substr(why.size() - 400) : why;
}

// Who calls whom, from the code as the kernel shows it: a call to another BPF function has its
// distance in `off` (the JIT has replaced `imm`).
class Calls {
 public:
  explicit Calls(const std::vector<bpf_insn>& code) : code_(code) {
    starts_[0] = 0;
    for (std::size_t i = 0; i < code.size(); ++i) {
      if (is_call(code[i])) starts_[i + 1 + code[i].off] = 0;
    }
    std::size_t number = 0;
    for (auto& [start, function] : starts_) function = number++;
  }

  std::size_t functions() const { return starts_.size(); }

  // Each function's bytes are counted in steps of `step`, one at least.
  std::uint32_t deepest(std::size_t function, const std::vector<std::uint32_t>& depths,
                        std::uint32_t step) const {
    std::uint32_t below = 0;
    for (std::size_t i = 0; i < code_.size(); ++i) {
      if (!is_call(code_[i]) || function_of(i) != function) continue;
      below = std::max(below, deepest(starts_.at(i + 1 + code_[i].off), depths, step));
    }
    const std::uint32_t own = depths.at(function);
    return (step == 1 ? own : (std::max(own, 1U) + step - 1) / step * step) + below;
  }

 private:
  static bool is_call(const bpf_insn& insn) {
    return insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_CALL;
  }
  std::size_t function_of(std::size_t index) const {
    return std::prev(starts_.upper_bound(index))->second;
  }

  const std::vector<bpf_insn>& code_;
  std::map<std::size_t, std::size_t> starts_;  // first instruction to function
};

std::optional<ProgramFacts> facts_of(const bpf_program* program, const std::string& log) {
  bpf_prog_info info{};
  __u32 bytes = sizeof(info);
  const int fd = bpf_program__fd(program);
  if (bpf_obj_get_info_by_fd(fd, &info, &bytes) != 0) return std::nullopt;
  ProgramFacts facts;
  facts.name = bpf_program__name(program);
  facts.instructions = info.xlated_prog_len / sizeof(bpf_insn);
  facts.jited_bytes = info.jited_prog_len;
  facts.verified_instructions =
      info.verified_insns != 0 ? info.verified_insns : processed_instructions(log);

  std::vector<bpf_insn> code(facts.instructions);
  bpf_prog_info with_code{};
  with_code.xlated_prog_len = info.xlated_prog_len;
  with_code.xlated_prog_insns = reinterpret_cast<std::uintptr_t>(code.data());
  bytes = sizeof(with_code);
  const std::vector<std::uint32_t> depths = stack_depths(log);
  if (depths.empty() || bpf_obj_get_info_by_fd(fd, &with_code, &bytes) != 0) return facts;
  const Calls calls(code);
  if (calls.functions() != depths.size()) return facts;
  facts.stack_bytes = calls.deepest(0, depths, 1);
  facts.stack_bytes_counted = calls.deepest(0, depths, kOldFrameBytes);
  return facts;
}

void add_object(bpf_object* object, const std::string& name, std::vector<ProgramFacts>& facts,
                std::vector<std::string>& notes) {
  std::map<const bpf_program*, std::string> logs;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    std::string& log = logs[program];
    log.resize(kLogBytes);
    bpf_program__set_log_level(program, kLogStatistics);
    bpf_program__set_log_buf(program, log.data(), log.size());
  }
  if (const int rc = bpf_object__load(object); rc != 0) {
    notes.push_back("programs of " + name +
                    " are missing: the kernel refuses them: " + std::strerror(-rc));
    bpf_object__for_each_program(program, object) {
      if (const std::string why = refusal(logs[program]); !why.empty()) {
        notes.push_back(bpf_program__name(program) + (": " + why));
      }
    }
    return;
  }
  bpf_object__for_each_program(program, object) {
    if (auto found = facts_of(program, logs[program])) facts.push_back(*found);
  }
}

}  // namespace

std::vector<ProgramFacts> program_facts(std::vector<std::string>& notes) {
  std::vector<ProgramFacts> facts;
  if (balancer_bpf* balancer = open_balancer()) {
    add_object(balancer->obj, "the balancer", facts, notes);
    balancer_bpf__destroy(balancer);
  }
  if (sensor_bpf* sensor = open_sensor()) {
    add_object(sensor->obj, "the sensor", facts, notes);
    sensor_bpf__destroy(sensor);
  }
  return facts;
}

}  // namespace petrel::bench
