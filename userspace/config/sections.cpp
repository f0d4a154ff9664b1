// SPDX-License-Identifier: MIT
#include "config/sections.hpp"

#include <algorithm>
#include <bit>
#include <cctype>

#include "config/address.hpp"
#include "config/service_fields.hpp"

namespace petrel {
namespace {

// sockaddr_un.sun_path with its final 0.
constexpr std::size_t kLongestSocketPath = 107;
// IFNAMSIZ with its final 0.
constexpr std::size_t kLongestInterface = 15;
// Fewer ticks than this within the heartbeat's limit, and one late tick switches the agent off.
constexpr std::int64_t kLeastTicksOfHeartbeat = 3;

bool is_absolute(std::string_view path) {
  return path.starts_with('/');
}

bool is_interface(std::string_view name) {
  return !name.empty() && name.size() <= kLongestInterface && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](unsigned char character) {
           return character == '/' || character == ':' || std::isspace(character) != 0;
         });
}

constexpr TextRule kAbsolutePath{"an absolute path", is_absolute};
constexpr TextRule kSocketPath{"an absolute path of at most 107 bytes", [](std::string_view path) {
                                 return is_absolute(path) && path.size() <= kLongestSocketPath;
                               }};
constexpr TextRule kCgroupPath{"an absolute path, or \"\" to find it", [](std::string_view path) {
                                 return path.empty() || is_absolute(path);
                               }};
constexpr TextRule kFileName{"the path of a file",
                             [](std::string_view path) { return !path.empty(); }};
constexpr TextRule kFileNameOrNone{"the path of a file, or \"\" for none",
                                   [](std::string_view) { return true; }};

// The rest of an outer source is the flow's hash, so only what all of them share is looked at:
// receivers drop packets from 0/8, 127/8, multicast and reserved addresses, and from ::/64.
constexpr TextRule kOuterSourceV4{
    "an IPv4 address that packets may come from; its first 16 bits are used",
    [](std::string_view text) {
      const Result<bpf::address> address = parse_address(text);
      if (!address || !is_v4(*address)) return false;
      const std::uint8_t first = address->bytes[12];
      return first != 0 && first != 127 && first < 224;
    }};
constexpr TextRule kOuterSourceV6{
    "an IPv6 address that packets may come from; its first 64 bits are used",
    [](std::string_view text) {
      const Result<bpf::address> address = parse_address(text);
      return address && !is_v4(*address) && is_one_host(*address) &&
             std::any_of(address->bytes, address->bytes + 8,
                         [](std::uint8_t byte) { return byte != 0; });
    }};

void read_outer_source(TableReader& reader, std::string_view key, const TextRule& rule,
                       bpf::address& source) {
  std::string text;
  if (reader.text(key, text, rule)) source = *parse_address(text);
}

// A power of two, so that a hash's low bits name a set of the table.
void read_half_open(TableReader& reader, std::uint32_t& count) {
  const std::int64_t least = 1024;
  const std::int64_t most = 16777216;
  std::uint32_t found = 0;
  if (!reader.whole("max_half_open", least, most, found)) return;
  if (std::has_single_bit(found)) {
    count = found;
  } else {
    reader.problems().add_node(
        *reader.source().get("max_half_open"), reader.field("max_half_open"),
        "a power of two from " + std::to_string(least) + " to " + std::to_string(most));
  }
}

void read_milliseconds(TableReader& reader, std::string_view key, std::int64_t least,
                       std::int64_t most, std::chrono::milliseconds& value) {
  std::int64_t count = 0;
  if (reader.integer(key, least, most, count)) value = std::chrono::milliseconds(count);
}

void read_interfaces(TableReader& reader, bool required, std::vector<std::string>& interfaces) {
  const std::string expected = "an array of at least one interface name";
  const toml::node* node = reader.find(
      "interfaces", required ? Presence::kRequired : Presence::kOptional, expected);
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  if (array == nullptr || (required && array->empty())) {
    reader.problems().add_node(*node, reader.field("interfaces"), expected);
    return;
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    const toml::node& element = *array->get(i);
    const std::string field = reader.field("interfaces") + "[" + std::to_string(i) + "]";
    const auto* name = element.as_string();
    if (name == nullptr || !is_interface(name->get())) {
      reader.problems().add_node(element, field, "an interface name of 1 to 15 characters");
    } else if (std::find(interfaces.begin(), interfaces.end(), name->get()) != interfaces.end()) {
      reader.problems().add_node(element, field, "each interface once");
    } else {
      interfaces.push_back(name->get());
    }
  }
}

void read_log_level(TableReader& reader, std::string& level) {
  // spdlog's names.
  reader.choice<std::string>("log_level",
                             {{"trace", "trace"},
                              {"debug", "debug"},
                              {"info", "info"},
                              {"warn", "warn"},
                              {"error", "error"},
                              {"critical", "critical"},
                              {"off", "off"}},
                             level);
}

void read_privacy(TableReader& reader, AgentConfig& agent) {
  reader.choice<ClientPrivacy>("client_privacy",
                               {{"none", ClientPrivacy::kNone},
                                {"truncate", ClientPrivacy::kTruncate},
                                {"hash", ClientPrivacy::kHash}},
                               agent.client_privacy);
  reader.text("client_privacy_key_file", agent.client_privacy_key_file, kAbsolutePath);
  if (agent.client_privacy != ClientPrivacy::kHash || !agent.client_privacy_key_file.empty()) return;
  if (reader.has("client_privacy_key_file")) return;  // it is wrong: said already
  reader.problems().add_node(*reader.source().get("client_privacy"), reader.field("client_privacy"),
                             "client_privacy_key_file beside it: the hash needs a key");
}

void check_heartbeat(const TableReader& reader, const AgentConfig& agent) {
  if (agent.heartbeat_limit >= agent.tick * kLeastTicksOfHeartbeat) return;
  const toml::node* limit = reader.source().get("heartbeat_limit_ms");
  const toml::node* tick = reader.source().get("tick_ms");
  reader.problems().add_node(limit != nullptr ? *limit : *tick, reader.field("heartbeat_limit_ms"),
                             "at least 3 times tick_ms");
}

bool read_mode_of(TableReader& reader, std::string_view key, ServiceMode& mode) {
  return reader.choice<ServiceMode>(key,
                                    {{"shadow", ServiceMode::kShadow},
                                     {"act", ServiceMode::kAct},
                                     {"neutral", ServiceMode::kNeutral}},
                                    mode);
}

}  // namespace

void read_mode(TableReader& reader, ServiceMode& mode) { read_mode_of(reader, "mode", mode); }

void read_modes(TableReader reader, ServiceConfig& service) {
  const ServiceMode otherwise = service.mode;
  const auto read = [&](std::string_view key, std::optional<ServiceMode>& own) {
    ServiceMode mode = otherwise;
    read_mode_of(reader, key, mode);
    own = mode;
    if (mode != ServiceMode::kAct || service.is_balanced()) return;
    own = ServiceMode::kShadow;
    if (!reader.has(key)) return;
    reader.problems().add_node(*reader.source().get(key), reader.field(key),
                               "\"shadow\" or \"neutral\" where the placement is \"" +
                                   std::string(to_string(service.placement)) + "\"");
  };
  std::optional<ServiceMode> weights;
  read("weights", weights);
  read("two_choices", service.modes.two_choices);
  read("steering", service.modes.steering);
  read("budget", service.modes.budget);
  read("admission", service.modes.admission);
  service.mode = *weights;
  reader.report_unknown();
}

AgentConfig read_agent(TableReader reader, bool balances) {
  AgentConfig agent;
  reader.text("pin_path", agent.pin_path, kAbsolutePath);
  reader.text("socket", agent.socket, kSocketPath);
  read_interfaces(reader, balances, agent.interfaces);
  reader.choice<XdpMode>(
      "xdp_mode",
      {{"auto", XdpMode::kAuto}, {"native", XdpMode::kNative}, {"generic", XdpMode::kGeneric}},
      agent.xdp_mode);
  reader.text("model", agent.model, kFileName);
  reader.text("state_dir", agent.state_dir, kAbsolutePath);
  read_milliseconds(reader, "tick_ms", 10, 1000, agent.tick);
  read_mode(reader, agent.mode);
  reader.whole("max_connections", 1024, 16777216, agent.max_connections);
  read_half_open(reader, agent.max_half_open);
  reader.whole("max_clients", 1024, 16777216, agent.max_clients);
  read_outer_source(reader, "encap_source_v4", kOuterSourceV4, agent.encap_source_v4);
  read_outer_source(reader, "encap_source_v6", kOuterSourceV6, agent.encap_source_v6);
  read_milliseconds(reader, "heartbeat_limit_ms", 1000, 60000, agent.heartbeat_limit);
  read_milliseconds(reader, "retry_window_ms", 100, 60000, agent.retry_window);
  read_milliseconds(reader, "handshake_timeout_ms", 10, 10000, agent.handshake_timeout);
  reader.boolean("socket_sensor", agent.socket_sensor);
  reader.boolean("score_in_kernel", agent.score_in_kernel);
  reader.text("cgroup", agent.cgroup, kCgroupPath);
  reader.text("zone", agent.zone, kZoneRule);
  read_log_level(reader, agent.log_level);
  read_privacy(reader, agent);
  reader.report_unknown();
  check_heartbeat(reader, agent);
  return agent;
}

WeightSettings read_control(TableReader reader) {
  WeightSettings control;
  reader.number("gain", 0.1, 20, control.gain);
  reader.number("floor", 0.0001, 0.1, control.floor);
  reader.number("panic_share", 0, 1, control.panic_share);
  reader.number("growth_cap", 1, 100, control.growth_cap);
  reader.number("slow_start_per_s", 0.001, 10, control.slow_start_per_s);
  reader.whole("min_samples", 1, 10000, control.min_samples);
  reader.report_unknown();
  return control;
}

ModelWatchConfig read_model_watch(TableReader reader) {
  ModelWatchConfig watch;
  reader.text("shadow_model", watch.shadow_model, kFileNameOrNone);
  reader.number("psi_limit", 0.01, 100, watch.psi_limit);
  reader.number("ece_limit", 0.01, 1, watch.ece_limit);
  reader.choice<DriftAction>(
      "drift_action", {{"neutral", DriftAction::kNeutral}, {"report", DriftAction::kReport}},
      watch.drift_action);
  std::int64_t window_s = 0;
  if (reader.integer("window_s", 60, 86400, window_s)) watch.window = std::chrono::seconds(window_s);
  reader.report_unknown();
  return watch;
}

DecisionLogSettings read_log(TableReader reader) {
  DecisionLogSettings log;
  reader.boolean("sqlite", log.sqlite);
  reader.boolean("json", log.json);
  reader.whole("sqlite_rows", 1000, 100'000'000, log.sqlite_rows);
  reader.whole("json_mb", 1, 4096, log.json_mb);
  reader.whole("json_files", 1, 100, log.json_files);
  reader.report_unknown();
  return log;
}

}  // namespace petrel
