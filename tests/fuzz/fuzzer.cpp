// SPDX-License-Identifier: MIT
#include "tests/fuzz/fuzzer.hpp"

#include <linux/bpf.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace petrel::fuzz {
namespace {

constexpr std::size_t kRoom = 4096;
constexpr std::uint32_t kDisturbEach = 200;  // packets, about

std::string hex(const Frame& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

std::string describe(const Finding& finding, std::uint64_t seed) {
  return "seed " + std::to_string(seed) + ", packet " + std::to_string(finding.index) + ": " +
         finding.problem + "\n  action " + std::to_string(finding.action) + ", backend " +
         std::to_string(finding.backend_id) + "\n  in  " + hex(finding.in) + "\n  out " +
         hex(finding.out) + "\n";
}

Fuzzer::Fuzzer(std::uint64_t seed) : seed_(seed), out_(kRoom), other_out_(kRoom) {
  InstanceOptions options;
  options.services = static_cast<std::uint32_t>(world_.services().size() + 1);
  options.backends = static_cast<std::uint32_t>(world_.backends().size() + 1);
  options.ring_slots = static_cast<std::uint32_t>(world_.services().size() * 2 * kRingSlots);
  options.half_open = 128;  // few, so that flows give way
  options.pattern = 0xa5a5a5a5a5a5a5a5;
  options.tap_on = true;
  telling_ = std::make_unique<Instance>(options);
  options.pattern = 0x3c3c3c3c3c3c3c3c;
  options.tap_on = false;
  other_ = std::make_unique<Instance>(options);
}

std::string Fuzzer::load(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0 || unshare(CLONE_NEWNET) != 0) {
    missing_right_ = errno == EPERM;
    return std::string("a CPU and a network namespace to itself: ") + std::strerror(errno);
  }
  for (Instance* instance : {telling_.get(), other_.get()}) {
    const std::string problem = instance->load();
    missing_right_ = instance->missing_right();
    if (!problem.empty()) return problem;
  }
  return "";
}

void Fuzzer::begin_epoch() {
  world_ = World();
  silent_ = false;
  oracle_.forget();
  for (Instance* instance : {telling_.get(), other_.get()}) {
    instance->forget_flows();
    world_.write(*instance);
  }
}

// What an agent and its operators do meanwhile.
void Fuzzer::disturb(Rng& rng) {
  static constexpr bpf::backend_state kStates[] = {bpf::BACKEND_UP, bpf::BACKEND_UP,
                                                   bpf::BACKEND_QUARANTINED, bpf::BACKEND_DRAINING,
                                                   bpf::BACKEND_REMOVED};
  const std::uint32_t choice = rng.below(8);
  const Service& service = rng.pick(world_.services());
  const std::uint32_t id = rng.pick(service.backends);
  const std::uint32_t turn = rng.below(kRingSlots);
  if (choice == 0) silent_ = !silent_;
  if (choice > 3) world_.backends()[id - 1].state = rng.pick(kStates);
  for (Instance* instance : {telling_.get(), other_.get()}) {
    if (choice == 0) World::write_heartbeat(*instance, silent_);
    if (choice > 0 && choice <= 3) world_.write_ring(*instance, service.id, turn);
    if (choice > 3) world_.write_backend(*instance, id);
  }
}

std::optional<Finding> Fuzzer::run_packet(const Frame& in, Traffic& traffic) {
  const Ran ran = telling_->run(in, out_);
  const bpf::tap_header tap = telling_->last_tap();
  const Ran other = other_->run(in, other_out_);
  Left left{ran.action, Bytes(out_).first(std::min(ran.bytes, kRoom)), tap.verdict, tap.notes,
            tap.backend_id};
  std::string problem = oracle_.judge(in, left);
  if (problem.empty() && (ran.action != other.action || ran.bytes != other.bytes ||
                          std::memcmp(out_.data(), other_out_.data(), left.packet.size()) != 0))
    problem = "what lies around the packet shows in what becomes of it";
  packets_++;
  actions_.at(static_cast<std::size_t>(std::clamp(ran.action, 0, 4)))++;
  for (std::uint32_t note = 0; note + kFirstNote < bpf::VERDICTS; ++note)
    verdicts_[note + kFirstNote] += tap.notes >> note & 1;
  if (tap.verdict < bpf::VERDICTS) verdicts_[tap.verdict]++;
  traffic.went_to(tap.backend_id);
  if (problem.empty()) return std::nullopt;
  return Finding{0, problem, in, Frame(left.packet.begin(), left.packet.end()), ran.action,
                 tap.backend_id};
}

std::optional<Finding> Fuzzer::run_epoch(std::uint64_t epoch, std::uint64_t packets) {
  Rng rng(seed_ * 0x9e3779b97f4a7c15 + epoch);
  begin_epoch();
  Traffic traffic(world_, rng.word());
  Mutator mutator(rng.word());
  for (std::uint64_t i = 0; i < packets; ++i) {
    if (rng.one_in(kDisturbEach)) disturb(rng);
    Frame frame = traffic.next();
    mutator.mutate(frame);
    std::optional<Finding> finding = run_packet(frame, traffic);
    if (!finding) continue;
    finding->index = epoch * kEpochPackets + i;
    return finding;
  }
  return std::nullopt;
}

}  // namespace petrel::fuzz
