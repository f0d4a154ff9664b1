// SPDX-License-Identifier: MIT
#include "tap/pcapng.hpp"

#include <algorithm>

namespace petrel::tap {
namespace {

enum BlockType : std::uint32_t {
  kSectionHeader = 0x0a0d0d0a,
  kInterfaceDescription = 1,
  kEnhancedPacket = 6,
};

enum Option : std::uint16_t {
  kEndOfOptions = 0,
  kComment = 1,
  kSectionApplication = 4,
  kInterfaceName = 2,
  kInterfaceDescriptionText = 3,
  kInterfaceTimeResolution = 9,
  kPacketFlags = 2,
  kPacketId = 5,
  kPacketVerdict = 7,
};

constexpr std::uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr std::uint16_t kEthernet = 1;    // LINKTYPE_ETHERNET
constexpr std::uint8_t kNanoseconds = 9;  // if_tsresol: 10^-9 s
constexpr std::uint8_t kXdpVerdict = 2;   // epb_verdict: Linux_eBPF_XDP, then the action as u64
constexpr std::size_t kLongestOption = 65535;

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void pad_to_word(std::string& to) {
  to.append((4 - to.size() % 4) % 4, '\0');
}

void put_option(std::string& to, Option code, std::string_view value) {
  value = value.substr(0, kLongestOption);
  put(to, static_cast<std::uint16_t>(code));
  put(to, static_cast<std::uint16_t>(value.size()));
  to.append(value);
  pad_to_word(to);
}

template <class T>
void put_number_option(std::string& to, Option code, T value) {
  put_option(to, code, {reinterpret_cast<const char*>(&value), sizeof(value)});
}

void end_options(std::string& to) {
  put_option(to, kEndOfOptions, {});
}

}  // namespace

PcapngWriter::PcapngWriter(std::ostream& out, std::string_view application) : out_(out) {
  std::string body;
  put(body, kByteOrderMagic);
  put(body, std::uint16_t{1});  // version 1.0
  put(body, std::uint16_t{0});
  put(body, std::int64_t{-1});  // the section's length: not known
  put_option(body, kSectionApplication, application);
  end_options(body);
  write_block(kSectionHeader, body);
}

std::uint32_t PcapngWriter::add_interface(std::string_view name, std::string_view description,
                                          std::uint32_t snapshot_bytes) {
  std::string body;
  put(body, kEthernet);
  put(body, std::uint16_t{0});
  put(body, snapshot_bytes);
  put_option(body, kInterfaceName, name);
  if (!description.empty()) put_option(body, kInterfaceDescriptionText, description);
  put_number_option(body, kInterfaceTimeResolution, kNanoseconds);
  end_options(body);
  write_block(kInterfaceDescription, body);
  return interfaces_++;
}

void PcapngWriter::write(const PcapngPacket& packet) {
  std::string body;
  put(body, packet.interface_id);
  put(body, static_cast<std::uint32_t>(packet.time_ns >> 32));
  put(body, static_cast<std::uint32_t>(packet.time_ns));
  put(body, static_cast<std::uint32_t>(packet.bytes.size()));
  put(body, std::max(packet.packet_bytes, static_cast<std::uint32_t>(packet.bytes.size())));
  body.append(reinterpret_cast<const char*>(packet.bytes.data()), packet.bytes.size());
  pad_to_word(body);
  if (!packet.comment.empty()) put_option(body, kComment, packet.comment);
  put_number_option(body, kPacketFlags, static_cast<std::uint32_t>(packet.direction));
  put_number_option(body, kPacketId, packet.packet_id);
  if (packet.xdp_action) {
    std::string verdict(1, static_cast<char>(kXdpVerdict));
    put(verdict, std::uint64_t{*packet.xdp_action});
    put_option(body, kPacketVerdict, verdict);
  }
  end_options(body);
  write_block(kEnhancedPacket, body);
}

void PcapngWriter::write_block(std::uint32_t type, std::string_view body) {
  std::string block;
  const auto length = static_cast<std::uint32_t>(body.size() + 3 * sizeof(std::uint32_t));
  put(block, type);
  put(block, length);
  block.append(body);
  put(block, length);
  out_.write(block.data(), static_cast<std::streamsize>(block.size()));
}

}  // namespace petrel::tap
