// SPDX-License-Identifier: MIT
// PcapngWriter: packets with comments as Wireshark reads them (draft-ietf-opsawg-pcapng).
//
// One section in this host's byte order; times in ns. Blocks are written whole, so a file that ends
// early is good up to its last packet. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>

namespace petrel::tap {

enum class Direction : std::uint32_t { kInbound = 1, kOutbound = 2 };  // epb_flags, bits 0 and 1

struct PcapngPacket {
  std::uint32_t interface_id = 0;    // from add_interface()
  std::uint64_t time_ns = 0;         // since 1970
  std::span<const std::byte> bytes;  // Ethernet; the first ones of packet_bytes
  std::uint32_t packet_bytes = 0;
  Direction direction = Direction::kInbound;
  std::uint64_t packet_id = 0;               // the same for one packet seen twice
  std::optional<std::uint8_t> xdp_action{};  // epb_verdict
  std::string_view comment;
};

class PcapngWriter {
 public:
  // Writes the section header. `out` must outlive the writer; its state tells of failures.
  PcapngWriter(std::ostream& out, std::string_view application);

  std::uint32_t add_interface(std::string_view name, std::string_view description,
                              std::uint32_t snapshot_bytes);
  void write(const PcapngPacket& packet);

 private:
  void write_block(std::uint32_t type, std::string_view body);

  std::ostream& out_;
  std::uint32_t interfaces_ = 0;
};

}  // namespace petrel::tap
