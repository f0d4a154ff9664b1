// SPDX-License-Identifier: MIT
#include "capture/lines.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "capture/csv_text.hpp"
#include "capture/words.hpp"

namespace petrel {
namespace {

void keep_name(std::vector<std::string>& names, std::uint32_t id, const std::string& name) {
  if (names.size() <= id) names.resize(id + 1);
  names[id] = name;
}

std::string name_of(const std::vector<std::string>& names, std::uint32_t id) {
  if (id == 0) return "";
  if (id < names.size() && !names[id].empty()) return names[id];
  return std::to_string(id);
}

std::uint64_t since(std::uint64_t now, std::uint64_t begun) { return now > begun ? now - begun : 0; }

void add_socket(CsvLine& line, const bpf::socket_view& socket) {
  line.number(socket.connect_ns).number(socket.bytes_sent).number(socket.bytes_received);
  line.number(socket.srtt_us).number(socket.rttvar_us);
  line.number(socket.retransmits).number(socket.rtos);
  line.number(socket.resets_sent).number(socket.resets_received);
}

}  // namespace

CaptureNames::CaptureNames(const std::vector<ServiceLoop>& loops) {
  for (const ServiceLoop& loop : loops) {
    keep_name(services, loop.config().id, loop.config().name);
    for (const BackendLoop& backend : loop.backends()) {
      keep_name(backends, backend.config.id, backend.config.name);
    }
  }
}

std::string CaptureNames::service(std::uint32_t id) const { return name_of(services, id); }
std::string CaptureNames::backend(std::uint32_t id) const { return name_of(backends, id); }

std::string meta_line(std::string_view name, std::string_view value) {
  return CsvLine("meta").text(name).text(value).str();
}

std::string loss_line(std::uint64_t time_ns, std::string_view place, std::uint64_t lost) {
  return CsvLine("losses").number(time_ns).text(place).number(lost).str();
}

std::string request_line(std::string_view run, const bpf::record& record, const CaptureNames& names,
                         const ClientMask& mask) {
  const bpf::connection& seen = record.connection;
  const auto flag = [&](std::uint32_t bit) { return (seen.flags & bit) != 0 ? 1 : 0; };
  CsvLine line("requests");
  line.text(run).number(record.time_ns).text(names.service(record.key.service_id));
  line.text(names.backend(seen.backend_id)).text(mask.text(record.key.client));
  line.number(ntohs(record.key.client_port_be)).number(ntohs(record.key.service_port_be));
  line.number(seen.syn_ns).number(seen.synack_ns).number(seen.ack_ns).number(seen.request_ns);
  line.number(seen.response_ns).number(seen.last_byte_ns).number(seen.close_ns);
  line.number(seen.requests).text(capture_method(seen.method)).number(seen.status);
  line.text(capture_failure(seen.failure)).text(capture_closed_by(seen.closed_by));
  line.number(seen.attempt).number(seen.evidence).share(seen.confidence, 255);
  line.text(names.backend(seen.previous_backend_id)).text(capture_failure(seen.previous_failure));
  line.number(flag(bpf::CONNECTION_STEERED)).number(flag(bpf::CONNECTION_OFF_RING));
  line.number(flag(bpf::CONNECTION_FAILED_OVER)).number(flag(bpf::CONNECTION_MASKED));
  line.number(flag(bpf::CONNECTION_MOVED)).number(flag(bpf::CONNECTION_ADOPTED));
  line.number(seen.moves).number(seen.syn_repeats).number(seen.bytes_in).number(seen.bytes_out);
  line.number(since(seen.bytes_in, seen.request_bytes_in));
  line.number(since(seen.bytes_out, seen.request_bytes_out));
  line.number(seen.client_repeats).number(seen.backend_repeats);
  line.number(seen.zero_windows_in).number(seen.zero_windows_out).number(seen.waiting_at_start);
  line.number(flag(bpf::CONNECTION_PIPELINED)).number(flag(bpf::CONNECTION_HTTP));
  line.text(capture_owner(seen.owner));
  for (const bpf::socket_view& socket : seen.sockets) add_socket(line, socket);
  return line.str();
}

std::string withdrawn_line(const bpf::event& event, const ClientMask& mask) {
  CsvLine line("withdrawn");
  line.number(event.time_ns).text(mask.text(event.key.client));
  line.number(ntohs(event.key.client_port_be)).number(ntohs(event.key.service_port_be));
  return line.number(event.syn_ns).number(event.request).number(event.evidence).str();
}

std::string event_line(std::uint64_t tick, const bpf::event& event, const ClientMask& mask) {
  CsvLine line("events");
  line.number(tick).number(event.time_ns).number(event.type).number(event.key.service_id);
  line.number(event.backend_id).text(mask.text(event.key.client));
  line.number(ntohs(event.key.client_port_be)).number(ntohs(event.key.service_port_be));
  line.number(event.syn_ns).number(event.connect_ns).number(event.waited_ns);
  line.number(event.previous_syn_ns).number(event.previous_backend_id);
  line.number(event.previous_request).number(ntohs(event.previous_port_be)).number(event.status);
  line.number(event.request).number(event.repeats).number(event.failure).number(event.attempt);
  line.number(event.closed_by).number(event.syn_repeats).number(event.state);
  line.number(event.waiting_at_start).number(event.method).number(event.evidence);
  line.number(event.confidence).number(event.request_bytes).number(event.srtt_us);
  return line.number(event.rtos).number(event.score_model).number(event.score_q16).str();
}

std::string groups_text(std::span<const WaitingGroup> groups) {
  std::string text;
  for (const WaitingGroup& group : groups) {
    if (!text.empty()) text += ';';
    text += std::to_string(group.age_ns) + ":" + std::to_string(group.count);
  }
  return text;
}

bool parse_groups(std::string_view text, std::vector<WaitingGroup>& groups) {
  groups.clear();
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(';'));
    const char* const end = one.data() + one.size();
    WaitingGroup group;
    const auto age = std::from_chars(one.data(), end, group.age_ns);
    if (age.ec != std::errc{} || age.ptr == end || *age.ptr != ':') return false;
    const auto count = std::from_chars(age.ptr + 1, end, group.count);
    if (count.ec != std::errc{} || count.ptr != end) return false;
    groups.push_back(group);
    text.remove_prefix(std::min(text.size(), one.size() + 1));
  }
  return true;
}

void MoveHash::add(std::uint32_t service_id, std::span<const RingChange> changes) {
  for (const RingChange& change : changes) {
    for (const std::uint32_t word : {service_id, change.slot, change.backend_id}) {
      for (int shift = 0; shift < 32; shift += 8) {
        hash_ = (hash_ ^ ((word >> shift) & 0xff)) * 0x100000001b3ULL;
      }
    }
  }
  slots_ += changes.size();
}

std::string tick_line(const TickFacts& tick) {
  CsvLine line("ticks");
  line.number(tick.tick).number(tick.time_ns).number(tick.elapsed_ns).number(tick.events);
  line.number(tick.backends);
  return line.number(tick.moved_slots).number(tick.moved_hash).str();
}

Decided Decided::of(const BackendLoop& backend) {
  return {backend.reading.risk_q16, backend.decision.factor_q16,
          static_cast<std::uint32_t>(backend.decision.reason), backend.slots};
}

std::string tick_backend_line(std::uint64_t tick, std::uint32_t service_id,
                              std::uint32_t backend_id, const BackendTick& inputs,
                              const Decided& decided) {
  CsvLine line("tick_backends");
  line.number(tick).number(service_id).number(backend_id);
  line.number(static_cast<unsigned>(inputs.probe));
  line.text(groups_text(inputs.waiting_syn)).text(groups_text(inputs.waiting));
  line.number(decided.risk_q16).number(decided.factor_q16).number(decided.reason);
  return line.number(decided.slots).str();
}

std::string state_line(std::uint64_t tick, std::string_view name, std::string_view value) {
  return CsvLine("state").number(tick).text(name).text(value).str();
}

std::vector<std::string> state_lines(std::uint64_t tick, const StateOut& state) {
  std::vector<std::string> lines;
  for (const auto& [name, value] : state.lines()) lines.push_back(state_line(tick, name, value));
  lines.push_back(state_line(tick, kStateEnd, std::to_string(lines.size())));
  return lines;
}

std::string checkpoint_line(std::uint64_t tick) { return CsvLine("checkpoint").number(tick).str(); }

}  // namespace petrel
