// SPDX-License-Identifier: MIT
// A SYN as it came to a VIP and as it left to a backend, and the names of both: for the tap's
// tests.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "tap/names.hpp"
#include "tap/sample.hpp"

namespace petrel::tap {

inline constexpr std::uint64_t kArrivalNs = 5'000'000'123;

inline Names some_names() {
  return {"/sys/fs/bpf/petrel",
          {{1, "web"}, {2, "dns"}},
          {{1, {"b1", "web"}}, {2, {"b2", "web"}}, {3, {"b1", "dns"}}}};
}

inline std::vector<std::byte> bytes_of(std::initializer_list<int> list) {
  std::vector<std::byte> bytes;
  for (const int value : list) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

// 10.0.0.7:51812 > 10.9.9.9:80, SYN.
inline std::vector<std::byte> syn_to_vip() {
  return bytes_of(
      {2,    0,    0, 0,  0, 1, 2,    0, 0,  0, 0, 7, 0x08, 0x00,                           //
       0x45, 0,    0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10,   0,    0,    7,    10, 9, 9, 9,  //
       0xca, 0x64, 0, 80, 0, 0, 0,    1, 0,  0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0,  0, 0, 0});
}

// The same to 10.1.0.2:8080.
inline std::vector<std::byte> syn_to_backend() {
  return bytes_of(
      {2,    0,    0,    0,    1, 2, 2,    0, 0,  0, 1, 1, 0x08, 0x00,                           //
       0x45, 0,    0,    40,   0, 0, 0x40, 0, 63, 6, 0, 0, 10,   0,    0,    7,    10, 1, 0, 2,  //
       0xca, 0x64, 0x1f, 0x90, 0, 0, 0,    1, 0,  0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0,  0, 0, 0});
}

inline Sample arrival(std::uint32_t sequence = 9, int cpu = 0) {
  Sample sample;
  sample.cpu = cpu;
  sample.bytes = syn_to_vip();
  sample.header.time_ns = kArrivalNs;
  sample.header.sequence = sequence;
  sample.header.packet_bytes = 54;
  sample.header.ifindex = 1;
  sample.header.verdict = bpf::VERDICTS;
  return sample;
}

inline Sample departure(std::uint32_t sequence = 9, int cpu = 0) {
  Sample sample = arrival(sequence, cpu);
  sample.bytes = syn_to_backend();
  sample.header.time_ns += 300;
  sample.header.leaving = 1;
  sample.header.verdict = bpf::VERDICT_FORWARDED;
  sample.header.notes = 1u << (bpf::VERDICT_OFF_RING - bpf::FIRST_NOTE);
  sample.header.service_id = 1;
  sample.header.backend_id = 1;
  sample.header.action = XDP_REDIRECT;
  return sample;
}

inline TappedPacket forwarded() {
  return {arrival(), departure()};
}

}  // namespace petrel::tap
