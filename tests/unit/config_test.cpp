// SPDX-License-Identifier: MIT
// The configuration: what a good file gives, and the exact line and field of what is wrong in
// others.
#include "config/config.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "config/address.hpp"
#include "tests/unit/config_cases.hpp"

namespace petrel {
namespace {

TEST(Config, TheExampleLoads) {
  const ConfigResult result = load_config(PETREL_EXAMPLE_CONFIG);
  ASSERT_TRUE(result) << result.error().text();
  const Config& config = *result;
  EXPECT_EQ(config.agent.interfaces, (std::vector<std::string>{"eth0", "eth1"}));
  ASSERT_EQ(config.services.size(), 4U);
  EXPECT_EQ(config.services[0].name, "web");
  EXPECT_EQ(config.services[0].mode, ServiceMode::kAct);
  EXPECT_EQ(config.services[1].mode, ServiceMode::kShadow);
  EXPECT_EQ(config.services[1].id, 2U);
  EXPECT_EQ(config.services[0].backends[0].zone, "rack-1");
  EXPECT_EQ(config.services[0].backends[1].id, 2U);
  EXPECT_EQ(config.services[1].backends[0].id, 3U);
  EXPECT_EQ(to_string(config.services[1].backends[0].address), "fd00:2:1::2");
}

TEST(Config, TheExampleShowsTheDefaults) {
  const ConfigResult small = load_config_text(kSmall, "small");
  const ConfigResult example = load_config(PETREL_EXAMPLE_CONFIG);
  ASSERT_TRUE(small) << small.error().text();
  ASSERT_TRUE(example);
  const AgentConfig& left = small->agent;
  const AgentConfig& right = example->agent;
  EXPECT_EQ(left.pin_path, right.pin_path);
  EXPECT_EQ(left.socket, right.socket);
  EXPECT_EQ(left.xdp_mode, right.xdp_mode);
  EXPECT_EQ(left.model, right.model);
  EXPECT_EQ(left.state_dir, right.state_dir);
  EXPECT_EQ(left.tick, right.tick);
  EXPECT_EQ(left.mode, right.mode);
  EXPECT_EQ(left.max_connections, right.max_connections);
  EXPECT_EQ(left.max_half_open, right.max_half_open);
  EXPECT_EQ(left.max_clients, right.max_clients);
  EXPECT_EQ(to_string(left.encap_source_v4), to_string(right.encap_source_v4));
  EXPECT_EQ(to_string(left.encap_source_v6), to_string(right.encap_source_v6));
  EXPECT_EQ(left.heartbeat_limit, right.heartbeat_limit);
  EXPECT_EQ(left.retry_window, right.retry_window);
  EXPECT_EQ(left.handshake_timeout, right.handshake_timeout);
  EXPECT_EQ(left.socket_sensor, right.socket_sensor);
  EXPECT_EQ(left.score_in_kernel, right.score_in_kernel);
  EXPECT_EQ(left.cgroup, right.cgroup);
  EXPECT_EQ(left.log_level, right.log_level);
  EXPECT_EQ(left.client_privacy, right.client_privacy);
  EXPECT_EQ(left.client_privacy_key_file, right.client_privacy_key_file);
  EXPECT_EQ(small->control.gain, example->control.gain);
  EXPECT_EQ(small->control.floor, example->control.floor);
  EXPECT_EQ(small->control.panic_share, example->control.panic_share);
  EXPECT_EQ(small->control.growth_cap, example->control.growth_cap);
  EXPECT_EQ(small->control.slow_start_per_s, example->control.slow_start_per_s);
  EXPECT_EQ(small->control.min_samples, example->control.min_samples);

  EXPECT_EQ(small->model_watch, example->model_watch);
  const ServiceConfig& plain = small->services[0];
  const ServiceConfig& shown = example->services[0];
  EXPECT_EQ(plain.protocol, shown.protocol);
  EXPECT_EQ(plain.forward, shown.forward);
  EXPECT_EQ(plain.affinity, shown.affinity);
  EXPECT_EQ(plain.two_choices, shown.two_choices);
  EXPECT_EQ(plain.steer_retries, shown.steer_retries);
  EXPECT_EQ(plain.failover, shown.failover);
  EXPECT_EQ(plain.mask_refusals, shown.mask_refusals);
  EXPECT_EQ(plain.admission, shown.admission);
  EXPECT_EQ(plain.holdout, shown.holdout);
  EXPECT_EQ(plain.max_inflight, shown.max_inflight);
  EXPECT_EQ(plain.on_removal, shown.on_removal);
  EXPECT_EQ(plain.drain_deadline, shown.drain_deadline);
  EXPECT_EQ(plain.budget, shown.budget);
  EXPECT_EQ(plain.backends[0].weight, shown.backends[0].weight);
  EXPECT_EQ(plain.backends[0].max_inflight, shown.backends[0].max_inflight);
  EXPECT_EQ(plain.backends[0].drain, shown.backends[0].drain);
}

// Leaving a key out is only half a proof: the example must show each key that there is.
TEST(Config, TheExampleShowsEveryKey) {
  std::ifstream file(PETREL_EXAMPLE_CONFIG);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const char* key :
       {"max_half_open", "encap_source_v4", "encap_source_v6", "protocol", "forward", "affinity",
        "two_choices", "steer_retries", "failover", "mask_refusals", "max_inflight", "admission", "end_abandoned",
        "hedge", "probe_path", "capacity_guard", "capacity_per_s", "idle_ratio", "holdout", "on_removal",
        "drain_deadline_s", "state_dir", "[model_watch]", "shadow_model", "psi_limit", "ece_limit",
        "drift_action", "window_s", "[service.budget]", "enabled", "ratio", "min_per_s", "burst_s",
        "drain"}) {
    const std::string line = key[0] == '[' ? key : std::string(key) + " = ";
    EXPECT_NE(text.find("\n" + line), std::string::npos) << key;
  }
}

TEST(Config, EveryFieldOfAgentAndControlIsRead) {
  const ConfigResult result = load_config_text(R"([agent]
pin_path = "/p"
socket = "/s"
interfaces = ["a", "b"]
xdp_mode = "generic"
model = "m.json"
state_dir = "/d"
tick_ms = 20
mode = "act"
max_connections = 2048
max_half_open = 8192
max_clients = 4096
encap_source_v4 = "10.99.0.0"
encap_source_v6 = "2001:db8:0:7::"
heartbeat_limit_ms = 2000
retry_window_ms = 300
handshake_timeout_ms = 50
socket_sensor = false
score_in_kernel = true
cgroup = "/c"
log_level = "debug"
client_privacy = "hash"
client_privacy_key_file = "/k"
[control]
gain = 2
floor = 0.01
panic_share = 0.4
growth_cap = 3.5
slow_start_per_s = 0.2
min_samples = 20
[model_watch]
shadow_model = "s.json"
psi_limit = 0.5
ece_limit = 0.1
drift_action = "report"
window_s = 600
[[service]]
name = "s"
address = "10.0.0.1"
port = 80
[[service.backend]]
name = "b"
address = "10.0.0.2"
port = 1
)",
                                               "all");
  ASSERT_TRUE(result) << result.error().text();
  const AgentConfig& agent = result->agent;
  EXPECT_EQ(agent.pin_path, "/p");
  EXPECT_EQ(agent.socket, "/s");
  EXPECT_EQ(agent.xdp_mode, XdpMode::kGeneric);
  EXPECT_EQ(agent.model, "m.json");
  EXPECT_EQ(agent.state_dir, "/d");
  EXPECT_EQ(agent.tick.count(), 20);
  EXPECT_EQ(agent.mode, ServiceMode::kAct);
  EXPECT_EQ(agent.max_connections, 2048U);
  EXPECT_EQ(agent.max_half_open, 8192U);
  EXPECT_EQ(agent.max_clients, 4096U);
  EXPECT_EQ(to_string(agent.encap_source_v4), "10.99.0.0");
  EXPECT_EQ(to_string(agent.encap_source_v6), "2001:db8:0:7::");
  EXPECT_EQ(agent.heartbeat_limit.count(), 2000);
  EXPECT_EQ(agent.retry_window.count(), 300);
  EXPECT_EQ(agent.handshake_timeout.count(), 50);
  EXPECT_FALSE(agent.socket_sensor);
  EXPECT_TRUE(agent.score_in_kernel);
  EXPECT_EQ(agent.cgroup, "/c");
  EXPECT_EQ(agent.log_level, "debug");
  EXPECT_EQ(agent.client_privacy, ClientPrivacy::kHash);
  EXPECT_EQ(agent.client_privacy_key_file, "/k");
  EXPECT_EQ(result->control.gain, 2.0);
  EXPECT_EQ(result->control.floor, 0.01);
  EXPECT_EQ(result->control.panic_share, 0.4);
  EXPECT_EQ(result->control.growth_cap, 3.5);
  EXPECT_EQ(result->control.slow_start_per_s, 0.2);
  EXPECT_EQ(result->control.min_samples, 20U);
  const ModelWatchConfig& watch = result->model_watch;
  EXPECT_EQ(watch.shadow_model, "s.json");
  EXPECT_EQ(watch.psi_limit, 0.5);
  EXPECT_EQ(watch.ece_limit, 0.1);
  EXPECT_EQ(watch.drift_action, DriftAction::kReport);
  EXPECT_EQ(watch.window.count(), 600);
}

std::string watch_line(const std::string& line) {
  return with("[[service]]", "[model_watch]\n" + line + "\n[[service]]");
}

TEST_P(BadConfig, IsOneProblemAtItsPlace) {
  const BadCase& bad = GetParam();
  const auto problems = problems_of(bad.text);
  ASSERT_EQ(problems.size(), 1U) << ConfigProblems{problems}.text();
  EXPECT_EQ(problems[0].file, "test.toml");
  EXPECT_EQ(problems[0].line, bad.line);
  EXPECT_GE(problems[0].column, 1U);
  EXPECT_EQ(problems[0].field, bad.field);
  EXPECT_TRUE(problems[0].found.starts_with(bad.found)) << problems[0].found;
  EXPECT_FALSE(problems[0].expected.empty());
}

INSTANTIATE_TEST_SUITE_P(
    ModelWatch, BadConfig,
    testing::Values(
        BadCase{"state_dir", agent_line("state_dir = \"here\""), 2, "agent.state_dir", "\"here\""},
        BadCase{"shadow_number", watch_line("shadow_model = 1"), 5, "model_watch.shadow_model", "1"},
        BadCase{"psi_limit", watch_line("psi_limit = 0"), 5, "model_watch.psi_limit", "0"},
        BadCase{"ece_limit", watch_line("ece_limit = 1.5"), 5, "model_watch.ece_limit", "1.5"},
        BadCase{"drift_action", watch_line("drift_action = \"stop\""), 5,
                "model_watch.drift_action", "\"stop\""},
        BadCase{"window", watch_line("window_s = 59"), 5, "model_watch.window_s", "59"},
        BadCase{"unknown", watch_line("window = 60"), 5, "model_watch.window", ""}),
    [](const auto& bad) { return std::string(bad.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Agent, BadConfig,
    testing::Values(
        BadCase{"relative_pin_path", agent_line("pin_path = \"petrel\""), 2, "agent.pin_path",
                "\"petrel\""},
        BadCase{"relative_socket", agent_line("socket = \"s\""), 2, "agent.socket", "\"s\""},
        BadCase{"long_socket", agent_line("socket = \"/" + std::string(107, 's') + "\""), 2,
                "agent.socket", "\"/s"},
        BadCase{"no_interfaces", with("interfaces = [\"eth0\"]\n", ""), 1, "agent.interfaces",
                "nothing"},
        BadCase{"empty_interfaces", with("[\"eth0\"]", "[]"), 2, "agent.interfaces",
                "an empty array"},
        BadCase{"interface_as_text", with("[\"eth0\"]", "\"eth0\""), 2, "agent.interfaces",
                "\"eth0\""},
        BadCase{"twice_an_interface", with("[\"eth0\"]", "[\"eth0\",\n\"eth0\"]"), 3,
                "agent.interfaces[1]", "\"eth0\""},
        BadCase{"long_interface", with("eth0", "abcdefghijklmnop"), 2, "agent.interfaces[0]",
                "\"abc"},
        BadCase{"interface_number", with("\"eth0\"", "\"eth0\", 7"), 2, "agent.interfaces[1]", "7"},
        BadCase{"xdp_mode", agent_line("xdp_mode = \"nativ\""), 2, "agent.xdp_mode", "\"nativ\""},
        BadCase{"mode", agent_line("mode = true"), 2, "agent.mode", "true"},
        BadCase{"empty_model", agent_line("model = \"\""), 2, "agent.model", "\"\""},
        BadCase{"short_tick", agent_line("tick_ms = 9"), 2, "agent.tick_ms", "9"},
        BadCase{"long_tick", agent_line("tick_ms = 1001"), 2, "agent.tick_ms", "1001"},
        BadCase{"fraction_of_tick", agent_line("tick_ms = 10.5"), 2, "agent.tick_ms", "10.5"},
        BadCase{"few_connections", agent_line("max_connections = 1023"), 2, "agent.max_connections",
                "1023"},
        BadCase{"many_connections", agent_line("max_connections = 16777217"), 2,
                "agent.max_connections", "16777217"},
        BadCase{"few_half_open", agent_line("max_half_open = 512"), 2, "agent.max_half_open",
                "512"},
        BadCase{"many_half_open", agent_line("max_half_open = 33554432"), 2, "agent.max_half_open",
                "33554432"},
        BadCase{"half_open_no_power", agent_line("max_half_open = 65535"), 2, "agent.max_half_open",
                "65535"},
        BadCase{"half_open_text", agent_line("max_half_open = \"65536\""), 2, "agent.max_half_open",
                "\"65536\""},
        BadCase{"encap_v4_number", agent_line("encap_source_v4 = 172"), 2, "agent.encap_source_v4",
                "172"},
        BadCase{"encap_v4_is_v6", agent_line("encap_source_v4 = \"100::\""), 2,
                "agent.encap_source_v4", "\"100::\""},
        BadCase{"encap_v4_loopback", agent_line("encap_source_v4 = \"127.0.0.0\""), 2,
                "agent.encap_source_v4", "\"127.0.0.0\""},
        BadCase{"encap_v4_multicast", agent_line("encap_source_v4 = \"224.1.0.0\""), 2,
                "agent.encap_source_v4", "\"224.1.0.0\""},
        BadCase{"encap_v4_prefix", agent_line("encap_source_v4 = \"172.16.0.0/16\""), 2,
                "agent.encap_source_v4", "\"172.16.0.0/16\""},
        BadCase{"encap_v6_is_v4", agent_line("encap_source_v6 = \"172.16.0.0\""), 2,
                "agent.encap_source_v6", "\"172.16.0.0\""},
        BadCase{"encap_v6_loopback", agent_line("encap_source_v6 = \"::1\""), 2,
                "agent.encap_source_v6", "\"::1\""},
        BadCase{"encap_v6_multicast", agent_line("encap_source_v6 = \"ff02::1\""), 2,
                "agent.encap_source_v6", "\"ff02::1\""},
        BadCase{"encap_v6_flag", agent_line("encap_source_v6 = false"), 2, "agent.encap_source_v6",
                "false"},
        BadCase{"negative_clients", agent_line("max_clients = -1"), 2, "agent.max_clients", "-1"},
        BadCase{"heartbeat", agent_line("heartbeat_limit_ms = 999"), 2, "agent.heartbeat_limit_ms",
                "999"},
        BadCase{"heartbeat_of_few_ticks", agent_line("tick_ms = 500\nheartbeat_limit_ms = 1000"), 3,
                "agent.heartbeat_limit_ms", "1000"},
        BadCase{"retry_window", agent_line("retry_window_ms = 60001"), 2, "agent.retry_window_ms",
                "60001"},
        BadCase{"handshake", agent_line("handshake_timeout_ms = 5"), 2,
                "agent.handshake_timeout_ms", "5"},
        BadCase{"sensor", agent_line("socket_sensor = 1"), 2, "agent.socket_sensor", "1"},
        BadCase{"cgroup", agent_line("cgroup = \"here\""), 2, "agent.cgroup", "\"here\""},
        BadCase{"log_level", agent_line("log_level = \"loud\""), 2, "agent.log_level", "\"loud\""},
        BadCase{"privacy", agent_line("client_privacy = \"some\""), 2, "agent.client_privacy",
                "\"some\""},
        BadCase{"hash_without_key", agent_line("client_privacy = \"hash\""), 2,
                "agent.client_privacy", "\"hash\""},
        BadCase{"relative_key",
                agent_line("client_privacy = \"hash\"\nclient_privacy_key_file = \"k\""), 3,
                "agent.client_privacy_key_file", "\"k\""},
        BadCase{"date", agent_line("tick_ms = 2024-01-01"), 2, "agent.tick_ms", "a date or time"},
        BadCase{"table_for_text", agent_line("model = {}"), 2, "agent.model", "a table"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Control, BadConfig,
    testing::Values(
        BadCase{"gain", control_line("gain = 0"), 5, "control.gain", "0"},
        BadCase{"gain_nan", control_line("gain = nan"), 5, "control.gain", "nan"},
        BadCase{"floor", control_line("floor = 0.5"), 5, "control.floor", "0.5"},
        BadCase{"panic", control_line("panic_share = 1.1"), 5, "control.panic_share", "1.1"},
        BadCase{"cap", control_line("growth_cap = 0.9"), 5, "control.growth_cap", "0.9"},
        BadCase{"slow", control_line("slow_start_per_s = \"x\""), 5, "control.slow_start_per_s",
                "\"x\""},
        BadCase{"samples", control_line("min_samples = 0"), 5, "control.min_samples", "0"},
        BadCase{"no_table", "control = 5\n" + kSmall, 1, "control", "5"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Keys, BadConfig,
    testing::Values(BadCase{"agent", agent_line("interface = [\"eth0\"]"), 2, "agent.interface",
                            "\"interface\"; did you mean \"interfaces\"?"},
                    BadCase{"tick", agent_line("tickms = 5"), 2, "agent.tickms",
                            "\"tickms\"; did you mean \"tick_ms\"?"},
                    BadCase{"far_off", agent_line("colour = 5"), 2, "agent.colour", "\"colour\""},
                    BadCase{"root", with("[[service]]", "[controls]\n[[service]]"), 4, "controls",
                            "\"controls\"; did you mean \"control\"?"},
                    BadCase{"service", service_line("two_choice = true"), 5,
                            "service[0].two_choice",
                            "\"two_choice\"; did you mean \"two_choices\"?"},
                    BadCase{"backend", backend_line("wieght = 5"), 13,
                            "service[0].backend[0].wieght", "\"wieght\"; did you mean \"weight\"?"},
                    BadCase{"control", control_line("gian = 5"), 5, "control.gian",
                            "\"gian\"; did you mean \"gain\"?"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Syntax, BadConfig,
    testing::Values(BadCase{"unclosed_text", with("\"web\"", "\"web"), 5, "", ""},
                    BadCase{"no_value", agent_line("tick_ms ="), 2, "", ""},
                    BadCase{"twice_a_key", agent_line("tick_ms = 50\ntick_ms = 50"), 3, "", ""}),
    [](const auto& test) { return test.param.name; });

TEST(Config, EverythingWrongIsReportedAtOnce) {
  const auto problems = problems_of(R"([agent]
interfaces = []
tick_ms = 5
colour = "red"
[control]
gain = 100
[[service]]
name = "web"
address = "10.1.100.1"
port = 99999
[[service.backend]]
name = "far too long a name"
address = "fd00::1"
port = 80
[[service.backend]]
name = "b2"
address = "nowhere"
weight = 0
[[service]]
name = "web"
)");
  std::vector<std::pair<std::uint32_t, std::string>> places;
  for (const ConfigProblem& problem : problems) places.emplace_back(problem.line, problem.field);
  const std::vector<std::pair<std::uint32_t, std::string>> expected{
      {2, "agent.interfaces"},
      {3, "agent.tick_ms"},
      {4, "agent.colour"},
      {6, "control.gain"},
      {10, "service[0].port"},
      {12, "service[0].backend[0].name"},
      {13, "service[0].backend[0].address"},
      {15, "service[0].backend[1].port"},
      {17, "service[0].backend[1].address"},
      {18, "service[0].backend[1].weight"},
      {19, "service[1].address"},
      {19, "service[1].port"},
      {19, "service[1].backend"},
      {20, "service[1].name"},
  };
  EXPECT_EQ(places, expected) << ConfigProblems{problems}.text();
}

TEST(Config, AProblemReadsAsALine) {
  const auto problems = problems_of(agent_line("tick_ms = 5"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].text(),
            "test.toml:2:11: agent.tick_ms: expected an integer from 10 to 1000, found 5");
  const Error error = ConfigProblems{problems}.error();
  EXPECT_EQ(error.kind(), ExitCode::kInput);
  EXPECT_EQ(error.message(), problems[0].text());
}

TEST(Config, AnEmptyFileSaysWhatItLacks) {
  const auto problems = problems_of("");
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].field, "agent");
  EXPECT_EQ(problems[1].field, "service");
}

TEST(Config, UnreadableFilesSayWhy) {
  const ConfigResult absent = load_config("/nowhere/petrel.toml");
  ASSERT_FALSE(absent);
  ASSERT_EQ(absent.error().list.size(), 1U);
  EXPECT_EQ(absent.error().list[0].line, 0U);
  EXPECT_EQ(absent.error().text(), "/nowhere/petrel.toml: expected a readable file, found ENOENT");
  const ConfigResult folder = load_config("/");
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().list[0].found, "EISDIR");
}

TEST(Config, LimitsOfTheMapsHold) {
  const auto many = [](int services, int backends_each) {
    std::string text = "[agent]\ninterfaces = [\"eth0\"]\n";
    int host = 0;
    for (int i = 0; i < services; ++i) {
      text += "[[service]]\nname = \"s" + std::to_string(i) +
              "\"\naddress = \"10.1.0.1\"\nport = " + std::to_string(i + 1) + "\n";
      for (int j = 0; j < backends_each; ++j, ++host) {
        text += backend("b" + std::to_string(j),
                        "10.2." + std::to_string(host / 250) + "." + std::to_string(host % 250 + 1),
                        "80");
      }
    }
    return text;
  };
  EXPECT_EQ(problems_of(many(512, 1)).size(), 0U);
  const auto services = problems_of(many(513, 1));
  ASSERT_EQ(services.size(), 1U);
  EXPECT_EQ(services[0].field, "service");
  EXPECT_EQ(problems_of(many(4, 1024)).size(), 0U);  // 4096
  const auto backends = problems_of(many(17, 241));  // 4097
  ASSERT_EQ(backends.size(), 1U);
  EXPECT_EQ(backends[0].field, "service.backend");
}

}  // namespace
}  // namespace petrel
