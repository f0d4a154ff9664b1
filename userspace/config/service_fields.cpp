// SPDX-License-Identifier: MIT
#include "config/service_fields.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "config/address.hpp"

namespace petrel {
namespace {

constexpr std::size_t kLongestServiceName = 63;
constexpr std::size_t kLongestBackendName = 15;  // struct weight.backend with its final 0
// Far beyond what a host can have open, and far from the end of struct inflight's numbers.
constexpr std::int64_t kMostInflight = 1'000'000'000;
constexpr std::int64_t kLongestDrainS = 86400;

bool is_name(std::string_view name, std::size_t longest) {
  return !name.empty() && name.size() <= longest &&
         std::all_of(name.begin(), name.end(), [](unsigned char character) {
           return std::isalnum(character) != 0 || character == '_' || character == '.' ||
                  character == '-';
         });
}

constexpr TextRule kServiceName{
    "a name of 1 to 63 characters of A-Z a-z 0-9 _ . -",
    [](std::string_view name) { return is_name(name, kLongestServiceName); }};
constexpr TextRule kBackendName{
    "a name of 1 to 15 characters of A-Z a-z 0-9 _ . -",
    [](std::string_view name) { return is_name(name, kLongestBackendName); }};
constexpr TextRule kProbePath{
    "\"\", or the path of a GET: \"/\" and printable ASCII without spaces, at most 255 characters",
    [](std::string_view path) {
      return path.empty() || (path.front() == '/' && path.size() <= 255 &&
                              std::ranges::all_of(path, [](unsigned char character) {
                                return character > ' ' && character < 127;
                              }));
    }};
constexpr TextRule kAddress{"the IPv4 or IPv6 address of one host", [](std::string_view text) {
                              const Result<bpf::address> address = parse_address(text);
                              return address.has_value() && is_one_host(*address);
                            }};

struct PortSpan {
  std::uint16_t first;
  std::uint16_t last;
};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, port);
  if (failure != std::errc() || stopped != end || port == 0) return std::nullopt;
  return port;
}

// 80, "8000-8099" or "all". A range of one port is refused: it is a service of one port, whose
// backends name theirs.
std::optional<PortSpan> parse_ports(const toml::node& node) {
  if (const auto* integer = node.as_integer()) {
    if (integer->get() < 1 || integer->get() > 65535) return std::nullopt;
    const auto port = static_cast<std::uint16_t>(integer->get());
    return PortSpan{port, port};
  }
  const auto* text = node.as_string();
  if (text == nullptr) return std::nullopt;
  if (text->get() == "all") return PortSpan{0, 65535};
  const std::string_view range = text->get();
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::optional<std::uint16_t> first = parse_port(range.substr(0, dash));
  const std::optional<std::uint16_t> last = parse_port(range.substr(dash + 1));
  if (!first || !last || *first >= *last) return std::nullopt;
  return PortSpan{*first, *last};
}

bool read_address(TableReader& reader, bpf::address& address) {
  std::string text;
  if (!reader.text("address", text, kAddress, Presence::kRequired)) return false;
  address = *parse_address(text);
  return true;
}

bool read_ports(TableReader& reader, ServiceConfig& service) {
  const std::string expected = "a port from 1 to 65535, a range like \"8000-8099\", or \"all\"";
  const toml::node* node = reader.find("port", Presence::kRequired, expected);
  if (node == nullptr) return false;
  const std::optional<PortSpan> ports = parse_ports(*node);
  if (!ports) {
    reader.problems().add_node(*node, reader.field("port"), expected);
    return false;
  }
  service.port = ports->first;
  service.last_port = ports->last;
  return true;
}

void read_budget(TableReader reader, BudgetConfig& budget) {
  reader.boolean("enabled", budget.enabled);
  reader.number("ratio", 0, 10, budget.ratio);
  reader.number("min_per_s", 0, 1e6, budget.min_per_s);
  reader.number("idle_ratio", 0, 10, budget.idle_ratio);
  reader.number("burst_s", 0.1, 60, budget.burst_s);
  reader.report_unknown();
}

// Absent, or one of its choices.
template <class T>
bool read_choice(TableReader& reader, std::string_view key, Choices<T> choices, T& value) {
  return reader.choice<T>(key, choices, value) || !reader.has(key);
}

// nat: its own. dsr: encapsulation does not translate ports, so it is the service's. A range: the
// one asked for. Where the service is unclear, any will do: there is a problem already.
bool read_backend_port(TableReader& reader, const ServiceConfig& service, const ServiceSound& sound,
                       std::uint16_t& port) {
  const std::string field = reader.field("port");
  if (sound.ports && service.is_range()) {
    const toml::node* node = reader.find("port", Presence::kOptional, "");
    if (node == nullptr) return true;
    reader.problems().add_node(*node, field,
                               "no port: a backend of several gets the one asked for");
    return false;
  }
  const bool nat = sound.forward && service.forward == Forward::kNat;
  const Presence presence = nat && sound.one_port ? Presence::kRequired : Presence::kOptional;
  const bool given = reader.whole("port", 1, 65535, port, presence);
  if (!sound.ports || !sound.forward) return false;
  if (nat) return given;
  if (given && port != service.port) {
    reader.problems().add_node(*reader.source().get("port"), field,
                               "nothing, or the service's port " + std::to_string(service.port) +
                                   ": dsr does not translate ports");
  }
  port = service.port;
  return true;
}

// nat rewrites addresses, and does not translate between families; dsr puts either family into
// IPv6, but only IPv4 into IPv4.
void check_family(const TableReader& reader, const BackendConfig& backend,
                  const ServiceConfig& service) {
  const bool wanted_v4 = is_v4(service.address);
  if (is_v4(backend.address) == wanted_v4) return;
  if (service.forward == Forward::kDsr && wanted_v4) return;
  const std::string family = wanted_v4 ? "an IPv4 address" : "an IPv6 address";
  reader.problems().add_node(*reader.source().get("address"), reader.field("address"),
                             service.forward == Forward::kDsr
                                 ? family + ": dsr puts no IPv6 into IPv4"
                                 : family + ", as the service's is");
}

// Sockets tell of TCP, and of backends by the address that they have for them.
void check_sockets(const TableReader& reader, const ServiceConfig& service,
                   const ServiceSound& sound) {
  const std::string where = " where the placement is \"" + std::string(to_string(service.placement)) + "\"";
  if (sound.protocol && service.protocol != IPPROTO_TCP) {
    reader.problems().add_node(*reader.source().get("protocol"), reader.field("protocol"),
                               "\"tcp\"" + where);
  }
  if (sound.forward && service.forward != Forward::kNat) {
    reader.problems().add_node(*reader.source().get("forward"), reader.field("forward"),
                               "nothing, or \"nat\"," + where);
  }
}

}  // namespace

bool is_zone(std::string_view zone) {
  return zone.empty() || is_name(zone, kLongestServiceName);
}

ServiceSound read_service_fields(TableReader& reader, ServiceConfig& service) {
  ServiceSound sound;
  reader.text("name", service.name, kServiceName, Presence::kRequired);
  sound.address = read_address(reader, service.address);
  sound.ports = read_ports(reader, service);
  sound.one_port = reader.source().get("port") != nullptr && reader.source()["port"].is_integer();
  sound.protocol = read_choice<std::uint8_t>(
      reader, "protocol", {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}}, service.protocol);
  sound.forward = read_choice<Forward>(
      reader, "forward", {{"nat", Forward::kNat}, {"dsr", Forward::kDsr}}, service.forward);
  reader.choice<Placement>("placement",
                           {{"balancer", Placement::kBalancer},
                            {"client", Placement::kClient},
                            {"backend", Placement::kBackend}},
                           service.placement);
  if (!service.is_balanced()) check_sockets(reader, service, sound);
  reader.choice<Affinity>("affinity", {{"flow", Affinity::kFlow}, {"client", Affinity::kClient}},
                          service.affinity);
  reader.boolean("two_choices", service.two_choices);
  reader.boolean("steer_retries", service.steer_retries);
  reader.boolean("failover", service.failover);
  reader.boolean("mask_refusals", service.mask_refusals);
  reader.whole("max_inflight", 0, kMostInflight, service.max_inflight);
  reader.boolean("admission", service.admission);
  reader.boolean("end_abandoned", service.end_abandoned);
  reader.boolean("hedge", service.hedge);
  reader.boolean("capacity_guard", service.capacity_guard);
  reader.text("probe_path", service.probe_path, kProbePath);
  reader.number("holdout", 0, 0.5, service.holdout);
  reader.choice<RemovalPolicy>("on_removal",
                               {{"reset", RemovalPolicy::kReset}, {"move", RemovalPolicy::kMove}},
                               service.on_removal);
  std::int64_t deadline_s = 0;
  if (reader.integer("drain_deadline_s", 0, kLongestDrainS, deadline_s)) {
    service.drain_deadline = std::chrono::seconds(deadline_s);
  }
  if (const toml::table* budget = reader.table("budget", Presence::kOptional)) {
    read_budget(TableReader(*budget, reader.field("budget"), reader.problems()), service.budget);
  }
  return sound;
}

bool read_backend_fields(TableReader& reader, const ServiceConfig& service,
                         const ServiceSound& sound, BackendConfig& backend) {
  reader.text("name", backend.name, kBackendName, Presence::kRequired);
  const bool has_address = read_address(reader, backend.address);
  const bool has_port = read_backend_port(reader, service, sound, backend.port);
  if (has_address && sound.address && sound.forward) check_family(reader, backend, service);
  reader.whole("weight", 1, 65535, backend.weight);
  reader.text("zone", backend.zone, kZoneRule);
  reader.whole("max_inflight", 0, kMostInflight, backend.max_inflight);
  reader.number("capacity_per_s", 0, 1e9, backend.capacity_per_s);
  reader.boolean("drain", backend.drain);
  return has_address && has_port;
}

}  // namespace petrel
