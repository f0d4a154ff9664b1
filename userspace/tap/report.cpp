// SPDX-License-Identifier: MIT
#include "tap/report.hpp"

#include <net/if.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <vector>

#include "tap/summary.hpp"
#include "tap/verdicts.hpp"

namespace petrel::tap {
namespace {

std::string explained(std::uint32_t verdict) {
  return std::string(verdict_name(verdict)) + " (" + std::string(verdict_meaning(verdict)) + ")";
}

// "; service web, backend b1"
std::string placement(const bpf::tap_header& header, const Names& names) {
  std::string text;
  if (header.service_id != 0) text += "; service " + names.service(header.service_id);
  if (header.backend_id != 0) {
    text += (text.empty() ? "; backend " : ", backend ") + names.backend(header.backend_id);
  }
  return text;
}

std::string joined(const std::vector<std::uint32_t>& notes, std::string_view separator,
                   std::string (*text_of)(std::uint32_t)) {
  std::string text;
  for (const std::uint32_t note : notes) {
    if (!text.empty()) text += separator;
    text += text_of(note);
  }
  return text;
}

std::string name_of(std::uint32_t verdict) {
  return std::string(verdict_name(verdict));
}

std::string utc(std::uint64_t ns) {
  const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char day[32];
  std::strftime(day, sizeof(day), "%FT%T", &parts);
  char text[64];
  std::snprintf(text, sizeof(text), "%s.%09lluZ", day,
                static_cast<unsigned long long>(ns % 1'000'000'000));
  return text;
}

std::string described(const Sample& sample) {
  return summarize(sample.bytes) + " " + std::to_string(sample.header.packet_bytes) + " bytes";
}

boost::json::object json_side(const Sample& sample) {
  return {{"packet", summarize(sample.bytes)}, {"bytes", sample.header.packet_bytes}};
}

}  // namespace

bool PacketFilter::takes(const TappedPacket& packet) const {
  const bpf::tap_header& header = packet.known().header;
  if (!services.empty() && !services.contains(header.service_id)) return false;
  if (!backends.empty() && !backends.contains(header.backend_id)) return false;
  if (verdicts.empty()) return true;
  return packet.departure &&
         std::any_of(verdicts.begin(), verdicts.end(), [&](std::uint32_t verdict) {
           return header.verdict == verdict || has_note(header, verdict);
         });
}

std::string arrival_comment(const TappedPacket& packet, const Names& names) {
  if (!packet.departure) return "petrel: what became of it was not recorded";
  const bpf::tap_header& header = packet.departure->header;
  std::string text = "petrel: " + explained(header.verdict) + placement(header, names);
  const auto notes = notes_of(header);
  if (!notes.empty()) text += "; notes: " + joined(notes, ", ", explained);
  return text + "; action: " + std::string(action_name(header.action));
}

std::string departure_comment(const TappedPacket& packet, const Names& names) {
  const bpf::tap_header& header = packet.departure->header;
  std::string text = "petrel: as it left, by " + std::string(action_name(header.action)) + ": " +
                     name_of(header.verdict) + placement(header, names);
  if (!packet.arrival) text += "; as it came it was not recorded";
  return text;
}

std::string text_line(const TappedPacket& packet, const Names& names, Sides sides,
                      std::uint64_t offset_ns) {
  const Sample& first = packet.first();
  std::string text = utc(first.header.time_ns + offset_ns);
  if (shows_arrival(packet, sides)) {
    text += " " + interface_name(packet.arrival->header.ifindex) + " " + described(*packet.arrival);
  }
  text += ": ";
  if (!packet.departure) return text + "what became of it was not recorded";
  const bpf::tap_header& header = packet.departure->header;
  text += name_of(header.verdict) + placement(header, names);
  const auto notes = notes_of(header);
  if (!notes.empty()) text += "; " + joined(notes, ", ", name_of);
  text += "; " + std::string(action_name(header.action));
  if (shows_departure(packet, sides)) text += ": " + described(*packet.departure);
  return text;
}

std::string json_line(const TappedPacket& packet, const Names& names, Sides sides,
                      std::uint64_t offset_ns) {
  const Sample& first = packet.first();
  boost::json::object line{{"schema", "petrel/tapped-packet/v1"},
                           {"time", utc(first.header.time_ns + offset_ns)},
                           {"cpu", first.cpu},
                           {"sequence", first.header.sequence}};
  if (packet.arrival) line["interface"] = interface_name(packet.arrival->header.ifindex);
  if (shows_arrival(packet, sides)) line["in"] = json_side(*packet.arrival);
  if (packet.departure) {
    const bpf::tap_header& header = packet.departure->header;
    line["verdict"] = verdict_name(header.verdict);
    line["meaning"] = verdict_meaning(header.verdict);
    if (header.service_id != 0) line["service"] = names.service(header.service_id);
    if (header.backend_id != 0) line["backend"] = names.backend(header.backend_id);
    boost::json::array notes;
    for (const std::uint32_t note : notes_of(header)) notes.emplace_back(verdict_name(note));
    line["notes"] = std::move(notes);
    line["action"] = action_name(header.action);
  }
  if (shows_departure(packet, sides)) line["out"] = json_side(*packet.departure);
  return boost::json::serialize(line);
}

std::string interface_name(std::uint32_t ifindex) {
  char name[IF_NAMESIZE];
  if (::if_indextoname(ifindex, name) != nullptr) return name;
  return "ifindex " + std::to_string(ifindex);
}

std::uint64_t wall_offset_ns() {
  using namespace std::chrono;
  // steady_clock is CLOCK_MONOTONIC, as bpf_ktime_get_ns().
  const auto wall = duration_cast<nanoseconds>(system_clock::now().time_since_epoch());
  const auto monotonic = duration_cast<nanoseconds>(steady_clock::now().time_since_epoch());
  return static_cast<std::uint64_t>((wall - monotonic).count());
}

}  // namespace petrel::tap
