// SPDX-License-Identifier: MIT
#include "tap/capture_file.hpp"

namespace petrel::tap {
namespace {

// Where it left. XDP_TX sends back whence it came, and a redirect there would be an XDP_TX: the
// interface of the arrival means that the other one was not recorded.
std::uint32_t departure_ifindex(const TappedPacket& packet) {
  const bpf::tap_header& header = packet.departure->header;
  if (header.action == XDP_TX) return header.ifindex;
  const bool recorded = packet.arrival && header.ifindex != packet.arrival->header.ifindex;
  return recorded ? header.ifindex : 0;
}

}  // namespace

void CaptureFile::write(const TappedPacket& packet, const Names& names) {
  if (shows_arrival(packet, options_.sides)) {
    write_side(*packet.arrival, interface_id(packet.arrival->header.ifindex), Direction::kInbound,
               arrival_comment(packet, names), packet);
  }
  if (shows_departure(packet, options_.sides)) {
    write_side(*packet.departure, interface_id(departure_ifindex(packet)), Direction::kOutbound,
               departure_comment(packet, names), packet);
  }
}

void CaptureFile::write_side(const Sample& sample, std::uint32_t interface_id, Direction direction,
                             const std::string& comment, const TappedPacket& packet) {
  std::span<const std::byte> bytes(sample.bytes);
  if (options_.snapshot_bytes != 0 && bytes.size() > options_.snapshot_bytes) {
    bytes = bytes.first(options_.snapshot_bytes);
  }
  PcapngPacket written{
      .interface_id = interface_id,
      .time_ns = sample.header.time_ns + options_.wall_offset_ns,
      .bytes = bytes,
      .packet_bytes = sample.header.packet_bytes,
      .direction = direction,
      .packet_id = static_cast<std::uint64_t>(sample.cpu) << 32 | sample.header.sequence,
      .comment = comment,
  };
  if (packet.departure) written.xdp_action = packet.departure->header.action;
  writer_.write(written);
}

std::uint32_t CaptureFile::interface_id(std::uint32_t ifindex) {
  const auto found = interface_ids_.find(ifindex);
  if (found != interface_ids_.end()) return found->second;
  const bool known = ifindex != 0;
  const std::uint32_t id = writer_.add_interface(
      known ? interface_name(ifindex) : "redirected",
      known ? "" : "another interface: which one was not recorded", options_.snapshot_bytes);
  interface_ids_[ifindex] = id;
  return id;
}

}  // namespace petrel::tap
