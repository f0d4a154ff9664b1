// SPDX-License-Identifier: MIT
#include "capture/rows.hpp"

#include <arpa/inet.h>

#include <charconv>
#include <limits>

#include "capture/client_mask.hpp"

namespace petrel {
namespace {

// Fields from left to right; keeps the first thing that was wrong.
class Fields {
 public:
  Fields(const CaptureRows& from, const char* table)
      : from_(from), table_(*find_capture_table(table)) {}

  const std::string& text() { return from_.fields()[at_++]; }

  template <class Number>
  void number(Number& value) {
    const std::string& field = text();
    Number read{};
    const auto parsed = std::from_chars(field.data(), field.data() + field.size(), read);
    if (parsed.ec == std::errc{} && parsed.ptr == field.data() + field.size()) {
      value = read;
    } else {
      fail("an integer from " + std::to_string(std::numeric_limits<Number>::min()) + " to " +
           std::to_string(std::numeric_limits<Number>::max()));
    }
  }
  // In network order.
  void port(std::uint16_t& port_be) {
    std::uint16_t port = 0;
    number(port);
    port_be = htons(port);
  }
  void groups(std::vector<WaitingGroup>& groups) {
    if (!parse_groups(text(), groups)) fail("AGE:COUNT;...");
  }
  // As far as privacy left it: an address, or a hash as 16 digits.
  void client(bpf::address& client) {
    if (!ClientMask::parse(text(), client)) fail("an address, or 16 hexadecimal digits");
  }
  // Of the field that was read last.
  void fail(const std::string& expected) {
    if (error_.kind() != ExitCode::kGood) return;
    error_ = Error(ExitCode::kInput,
                   from_.place() + ": column " + std::to_string(at_) + " (" +
                       table_.columns[at_ - 1].name + "): expected " + expected + ", found \"" +
                       from_.fields()[at_ - 1].substr(0, 40) + "\"");
  }

  Result<void> end() const {
    if (error_.kind() != ExitCode::kGood) return error_;
    return {};
  }

 private:
  const CaptureRows& from_;
  const CaptureTable& table_;
  std::size_t at_ = 0;  // fields taken
  Error error_;
};

}  // namespace

Result<void> read_row(const CaptureRows& from, StateRow& row) {
  Fields fields(from, "state");
  fields.number(row.tick);
  row.name = fields.text();
  row.value = fields.text();
  return fields.end();
}

Result<void> read_row(const CaptureRows& from, EventRow& row) {
  Fields fields(from, "events");
  bpf::event& event = row.event;
  event = {};
  std::uint32_t service_id = 0;
  fields.number(row.tick);
  fields.number(event.time_ns);
  fields.number(event.type);
  fields.number(service_id);
  if (service_id >= MAX_SERVICES) fields.fail("a service's id");
  event.key.service_id = static_cast<std::uint16_t>(service_id);
  fields.number(event.backend_id);
  fields.client(event.key.client);
  fields.port(event.key.client_port_be);
  fields.port(event.key.service_port_be);
  fields.number(event.syn_ns);
  fields.number(event.connect_ns);
  fields.number(event.waited_ns);
  fields.number(event.previous_syn_ns);
  fields.number(event.previous_backend_id);
  fields.number(event.previous_request);
  fields.port(event.previous_port_be);
  fields.number(event.status);
  fields.number(event.request);
  fields.number(event.repeats);
  fields.number(event.failure);
  fields.number(event.attempt);
  fields.number(event.closed_by);
  fields.number(event.syn_repeats);
  fields.number(event.state);
  fields.number(event.waiting_at_start);
  fields.number(event.method);
  fields.number(event.evidence);
  fields.number(event.confidence);
  fields.number(event.request_bytes);
  fields.number(event.srtt_us);
  fields.number(event.rtos);
  fields.number(event.score_model);
  fields.number(event.score_q16);
  return fields.end();
}

Result<void> read_row(const CaptureRows& from, TickFacts& row) {
  Fields fields(from, "ticks");
  fields.number(row.tick);
  fields.number(row.time_ns);
  fields.number(row.elapsed_ns);
  fields.number(row.events);
  fields.number(row.backends);
  fields.number(row.moved_slots);
  fields.number(row.moved_hash);
  return fields.end();
}

Result<void> read_row(const CaptureRows& from, TickBackendRow& row) {
  Fields fields(from, "tick_backends");
  std::uint8_t probe = 0;
  fields.number(row.tick);
  fields.number(row.service_id);
  fields.number(row.backend_id);
  fields.number(probe);
  if (probe > static_cast<std::uint8_t>(ProbeResult::kSilent)) fields.fail("0 to 3");
  row.probe = static_cast<ProbeResult>(probe);
  fields.groups(row.waiting_syn);
  fields.groups(row.waiting);
  fields.number(row.decided.risk_q16);
  fields.number(row.decided.factor_q16);
  fields.number(row.decided.reason);
  fields.number(row.decided.slots);
  return fields.end();
}

}  // namespace petrel
