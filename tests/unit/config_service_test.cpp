// SPDX-License-Identifier: MIT
// [[service]] and [[service.backend]]: each field for itself.
#include <netinet/in.h>

#include "config/address.hpp"
#include "tests/unit/config_cases.hpp"

namespace petrel {
namespace {

std::string budget_line(const std::string& line) {
  return with("[[service.backend]]", "[service.budget]\n" + line + "\n[[service.backend]]");
}

TEST(ConfigService, EveryFieldIsRead) {
  const ConfigResult result = load_config_text(R"([agent]
interfaces = ["a"]
[[service]]
name = "s"
address = "::ffff:10.0.0.1"
port = 65535
protocol = "tcp"
forward = "nat"
affinity = "client"
mode = "neutral"
two_choices = false
steer_retries = false
failover = false
mask_refusals = false
max_inflight = 5000
admission = false
end_abandoned = false
hedge = false
capacity_guard = false
probe_path = "/up?deep=1"
holdout = 0.5
on_removal = "move"
drain_deadline_s = 0
[service.budget]
enabled = false
ratio = 0.5
min_per_s = 0
idle_ratio = 0.75
burst_s = 2.5
[[service.backend]]
name = "fifteen.chars-x"
address = "10.0.0.2"
port = 1
weight = 65535
zone = "z"
max_inflight = 40
capacity_per_s = 12.5
drain = true
)",
                                               "all");
  ASSERT_TRUE(result) << result.error().text();
  const ServiceConfig& service = result->services[0];
  EXPECT_EQ(to_string(service.address), "10.0.0.1") << "a mapped address is IPv4";
  EXPECT_EQ(service.port, 65535);
  EXPECT_EQ(service.last_port, 65535);
  EXPECT_EQ(service.protocol, IPPROTO_TCP);
  EXPECT_EQ(service.forward, Forward::kNat);
  EXPECT_EQ(service.affinity, Affinity::kClient);
  EXPECT_EQ(service.mode, ServiceMode::kNeutral);
  EXPECT_FALSE(service.two_choices);
  EXPECT_FALSE(service.steer_retries);
  EXPECT_FALSE(service.failover);
  EXPECT_FALSE(service.mask_refusals);
  EXPECT_EQ(service.max_inflight, 5000U);
  EXPECT_FALSE(service.admission);
  EXPECT_FALSE(service.end_abandoned);
  EXPECT_FALSE(service.hedge);
  EXPECT_FALSE(service.capacity_guard);
  EXPECT_EQ(service.probe_path, "/up?deep=1");
  EXPECT_EQ(service.backends[0].capacity_per_s, 12.5);
  EXPECT_EQ(service.holdout, 0.5);
  EXPECT_EQ(service.on_removal, RemovalPolicy::kMove);
  EXPECT_EQ(service.drain_deadline.count(), 0);
  EXPECT_EQ(service.budget, (BudgetConfig{false, 0.5, 0, 0.75, 2.5}));
  EXPECT_EQ(service.backends[0].name, "fifteen.chars-x");
  EXPECT_EQ(service.backends[0].weight, 65535U);
  EXPECT_EQ(service.backends[0].port, 1);
  EXPECT_EQ(service.backends[0].zone, "z");
  EXPECT_EQ(service.backends[0].max_inflight, 40U);
  EXPECT_TRUE(service.backends[0].drain);
}

TEST(ConfigService, ActuatorsHaveModesOfTheirOwnElseTheServices) {
  const auto read = [](const std::string& lines) {
    const ConfigResult result =
        load_config_text(with("port = 80\n", "port = 80\nmode = \"act\"\n" + lines), "modes");
    EXPECT_TRUE(result) << result.error().text();
    return result->services[0];
  };
  const ServiceConfig plain = read("");
  EXPECT_TRUE(plain.acts(plain.modes.budget));
  const ServiceConfig own = read("[service.modes]\nweights = \"shadow\"\nbudget = \"neutral\"\n");
  EXPECT_EQ(own.mode, ServiceMode::kShadow);
  EXPECT_FALSE(own.acts(own.modes.budget));
  EXPECT_TRUE(own.acts(own.modes.two_choices));
  EXPECT_TRUE(own.acts(own.modes.steering));
  EXPECT_TRUE(own.acts(own.modes.admission));
  Config config;
  config.services.push_back(own);
  config.set_mode(ServiceMode::kNeutral);
  EXPECT_FALSE(config.services[0].acts(config.services[0].modes.two_choices));
}

TEST(ConfigService, ModesOfActuatorsAreChecked) {
  const auto bad = problems_of(with("port = 80\n", "port = 80\n[service.modes]\nbudget = \"on\"\n"));
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].field, "service[0].modes.budget");
  EXPECT_EQ(bad[0].line, 9u);
  EXPECT_EQ(problems_of(with("port = 80\n", "port = 80\n[service.modes]\nx = 1\n")).size(), 1u);
}

TEST(ConfigLog, ItsFieldsAreReadAndChecked) {
  const ConfigResult result = load_config_text(
      kSmall + "[log]\nsqlite = false\njson = false\nsqlite_rows = 1000\njson_mb = 1\njson_files = 1\n",
      "log");
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(result->log, (DecisionLogSettings{false, false, 1000, 1, 1}));
  EXPECT_EQ(problems_of(kSmall + "[log]\nsqlite_rows = 999\njson_mb = 0\njson_files = 101\nx = 1\n").size(),
            4u);
}

TEST(ConfigService, LimitsAreWithinTheRange) {
  for (const char* line : {"max_inflight = 0", "max_inflight = 1000000000",
                           "drain_deadline_s = 86400", "protocol = \"udp\""}) {
    EXPECT_TRUE(problems_of(service_line(line)).empty()) << line;
  }
  const ConfigResult day = load_config_text(service_line("drain_deadline_s = 86400"), "day");
  ASSERT_TRUE(day);
  EXPECT_EQ(day->services[0].drain_deadline.count(), 86400000);
}

// {as written, first, last}
struct GoodPort {
  const char* text;
  std::uint16_t first;
  std::uint16_t last;
};

TEST(ConfigService, PortsAreOneARangeOrAll) {
  for (const GoodPort& good : std::vector<GoodPort>{{"1", 1, 1},
                                                    {"65535", 65535, 65535},
                                                    {"\"8000-8099\"", 8000, 8099},
                                                    {"\"1-65535\"", 1, 65535},
                                                    {"\"all\"", 0, 65535}}) {
    std::string text = with("port = 80\n", std::string("port = ") + good.text + "\n");
    const bool range = good.first != good.last;
    if (range) text.erase(text.find("port = 8080\n"));
    const ConfigResult result = load_config_text(text, "ports");
    ASSERT_TRUE(result) << result.error().text();
    const ServiceConfig& service = result->services[0];
    EXPECT_EQ(service.port, good.first);
    EXPECT_EQ(service.last_port, good.last);
    EXPECT_EQ(service.is_range(), range);
    EXPECT_EQ(service.backends[0].port, range ? 0 : 8080);
  }
}

TEST(ConfigService, WordsOfTheFileAreThoseOfTheProgram) {
  EXPECT_EQ(to_string(Forward::kNat), "nat");
  EXPECT_EQ(to_string(Forward::kDsr), "dsr");
  EXPECT_EQ(to_string(Affinity::kFlow), "flow");
  EXPECT_EQ(to_string(Affinity::kClient), "client");
  EXPECT_EQ(to_string(RemovalPolicy::kReset), "reset");
  EXPECT_EQ(to_string(RemovalPolicy::kMove), "move");
}

TEST(ConfigService, NumbersAreShownInFull) {
  const auto problems = problems_of(budget_line("min_per_s = 1000000.5"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].expected, "a number from 0 to 1000000");
  EXPECT_EQ(problems[0].found, "1000000.5");
}

TEST(ConfigService, ATableIsNamedByItsHeader) {
  const auto problems = problems_of(service_line("budget = 5"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].expected, "a table [service.budget]");
}

INSTANTIATE_TEST_SUITE_P(
    Services, BadConfig,
    testing::Values(
        BadCase{"no_name", with("name = \"web\"\n", ""), 4, "service[0].name", "nothing"},
        BadCase{"name_with_space", with("\"web\"", "\"w b\""), 5, "service[0].name", "\"w b\""},
        BadCase{"no_address", with("address = \"10.1.100.1\"\n", ""), 4, "service[0].address",
                "nothing"},
        BadCase{"address", with("10.1.100.1", "10.1.100"), 6, "service[0].address", "\"10.1.100\""},
        BadCase{"unspecified", with("10.1.100.1", "0.0.0.0"), 6, "service[0].address",
                "\"0.0.0.0\""},
        BadCase{"unspecified_v6", with("10.1.100.1", "::"), 6, "service[0].address", "\"::\""},
        BadCase{"multicast", with("10.1.100.1", "224.0.0.1"), 6, "service[0].address",
                "\"224.0.0.1\""},
        BadCase{"multicast_v6", with("10.1.100.1", "ff02::1"), 6, "service[0].address",
                "\"ff02::1\""},
        BadCase{"scoped", with("10.1.100.1", "fe80::1%lo"), 6, "service[0].address",
                "\"fe80::1%lo\""},
        BadCase{"port_zero", with("port = 80\n", "port = 0\n"), 7, "service[0].port", "0"},
        BadCase{"port_text", with("port = 80\n", "port = \"80\"\n"), 7, "service[0].port",
                "\"80\""},
        BadCase{"port_large", with("port = 80\n", "port = 65536\n"), 7, "service[0].port", "65536"},
        BadCase{"port_flag", with("port = 80\n", "port = true\n"), 7, "service[0].port", "true"},
        BadCase{"port_fraction", with("port = 80\n", "port = 80.0\n"), 7, "service[0].port", "80"},
        BadCase{"port_all_shouted", with("port = 80\n", "port = \"ALL\"\n"), 7, "service[0].port",
                "\"ALL\""},
        BadCase{"range_backwards", with("port = 80\n", "port = \"90-80\"\n"), 7, "service[0].port",
                "\"90-80\""},
        BadCase{"range_of_one", with("port = 80\n", "port = \"80-80\"\n"), 7, "service[0].port",
                "\"80-80\""},
        BadCase{"range_from_zero", with("port = 80\n", "port = \"0-80\"\n"), 7, "service[0].port",
                "\"0-80\""},
        BadCase{"range_too_far", with("port = 80\n", "port = \"80-65536\"\n"), 7, "service[0].port",
                "\"80-65536\""},
        BadCase{"range_open", with("port = 80\n", "port = \"80-\"\n"), 7, "service[0].port",
                "\"80-\""},
        BadCase{"range_with_space", with("port = 80\n", "port = \"80 - 90\"\n"), 7,
                "service[0].port", "\"80 - 90\""},
        BadCase{"range_with_sign", with("port = 80\n", "port = \"80--90\"\n"), 7, "service[0].port",
                "\"80--90\""},
        BadCase{"no_port", with("port = 80\n", ""), 4, "service[0].port", "nothing"},
        BadCase{"protocol", service_line("protocol = \"sctp\""), 5, "service[0].protocol",
                "\"sctp\""},
        BadCase{"protocol_number", service_line("protocol = 17"), 5, "service[0].protocol", "17"},
        BadCase{"forward", service_line("forward = \"tunnel\""), 5, "service[0].forward",
                "\"tunnel\""},
        BadCase{"forward_flag", service_line("forward = true"), 5, "service[0].forward", "true"},
        BadCase{"affinity", service_line("affinity = \"cookie\""), 5, "service[0].affinity",
                "\"cookie\""},
        BadCase{"affinity_number", service_line("affinity = 3"), 5, "service[0].affinity", "3"},
        BadCase{"failover", service_line("failover = 1"), 5, "service[0].failover", "1"},
        BadCase{"holdout", service_line("holdout = 0.51"), 5, "service[0].holdout", "0.51"},
        BadCase{"admission", service_line("admission = 1"), 5, "service[0].admission", "1"},
        BadCase{"mask_refusals", service_line("mask_refusals = \"no\""), 5,
                "service[0].mask_refusals", "\"no\""},
        BadCase{"inflight_negative", service_line("max_inflight = -1"), 5,
                "service[0].max_inflight", "-1"},
        BadCase{"inflight_large", service_line("max_inflight = 1000000001"), 5,
                "service[0].max_inflight", "1000000001"},
        BadCase{"inflight_text", service_line("max_inflight = \"9\""), 5, "service[0].max_inflight",
                "\"9\""},
        BadCase{"on_removal", service_line("on_removal = \"drop\""), 5, "service[0].on_removal",
                "\"drop\""},
        BadCase{"on_removal_flag", service_line("on_removal = false"), 5, "service[0].on_removal",
                "false"},
        BadCase{"deadline_negative", service_line("drain_deadline_s = -1"), 5,
                "service[0].drain_deadline_s", "-1"},
        BadCase{"deadline_large", service_line("drain_deadline_s = 86401"), 5,
                "service[0].drain_deadline_s", "86401"},
        BadCase{"deadline_text", service_line("drain_deadline_s = \"1m\""), 5,
                "service[0].drain_deadline_s", "\"1m\""},
        BadCase{"mode", service_line("mode = \"on\""), 5, "service[0].mode", "\"on\""},
        BadCase{"two_choices", service_line("two_choices = \"yes\""), 5, "service[0].two_choices",
                "\"yes\""},
        BadCase{"no_backends", kSmall.substr(0, kSmall.find("[[service.backend]]")), 4,
                "service[0].backend", "nothing"},
        BadCase{"single_table", "[agent]\ninterfaces = [\"eth0\"]\n[service]\nname = \"web\"\n", 3,
                "service", "a table"},
        BadCase{"no_services", "[agent]\ninterfaces = [\"eth0\"]\n", 1, "service", "nothing"},
        BadCase{"not_tables", "service = [1]\n[agent]\ninterfaces = [\"eth0\"]\n", 1, "service[0]",
                "1"},
        BadCase{"same_name",
                kSmall + "[[service]]\nname = \"web\"\naddress = \"10.1.100.2\"\nport = 80\n" +
                    backend("b1", "10.2.1.3", "1"),
                14, "service[1].name", "web, which service[0].name has already"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Budget, BadConfig,
    testing::Values(
        BadCase{"no_table", service_line("budget = 5"), 5, "service[0].budget", "5"},
        BadCase{"enabled", budget_line("enabled = 1"), 10, "service[0].budget.enabled", "1"},
        BadCase{"ratio_negative", budget_line("ratio = -0.1"), 10, "service[0].budget.ratio",
                "-0.1"},
        BadCase{"ratio_large", budget_line("ratio = 10.1"), 10, "service[0].budget.ratio", "10.1"},
        BadCase{"ratio_nan", budget_line("ratio = nan"), 10, "service[0].budget.ratio", "nan"},
        BadCase{"ratio_text", budget_line("ratio = \"20%\""), 10, "service[0].budget.ratio",
                "\"20%\""},
        BadCase{"least_negative", budget_line("min_per_s = -1"), 10, "service[0].budget.min_per_s",
                "-1"},
        BadCase{"least_large", budget_line("min_per_s = 1000001"), 10,
                "service[0].budget.min_per_s", "1"},
        BadCase{"least_flag", budget_line("min_per_s = true"), 10, "service[0].budget.min_per_s",
                "true"},
        BadCase{"idle_ratio_large", budget_line("idle_ratio = 10.5"), 10,
                "service[0].budget.idle_ratio", "10.5"},
        BadCase{"burst_short", budget_line("burst_s = 0.05"), 10, "service[0].budget.burst_s",
                "0.05"},
        BadCase{"burst_long", budget_line("burst_s = 61"), 10, "service[0].budget.burst_s", "61"},
        BadCase{"burst_text", budget_line("burst_s = \"1\""), 10, "service[0].budget.burst_s",
                "\"1\""},
        BadCase{"key", budget_line("burst = 1"), 10, "service[0].budget.burst", "\"burst\"; did"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Backends, BadConfig,
    testing::Values(
        BadCase{"no_name", with("name = \"b1\"\n", ""), 9, "service[0].backend[0].name", "nothing"},
        BadCase{"long_name", with("\"b1\"", "\"sixteen-chars-xx\""), 10,
                "service[0].backend[0].name", "\"sixteen"},
        BadCase{"no_port", with("port = 8080\n", ""), 9, "service[0].backend[0].port", "nothing"},
        BadCase{"weight_zero", backend_line("weight = 0"), 13, "service[0].backend[0].weight", "0"},
        BadCase{"weight_large", backend_line("weight = 65536"), 13, "service[0].backend[0].weight",
                "65536"},
        BadCase{"zone", backend_line("zone = \"a b\""), 13, "service[0].backend[0].zone",
                "\"a b\""},
        BadCase{"same_name", kSmall + backend("b1", "10.2.1.3", "8080"), 14,
                "service[0].backend[1].name", "b1, which service[0].backend[0].name has already"},
        BadCase{"inflight_negative", backend_line("max_inflight = -5"), 13,
                "service[0].backend[0].max_inflight", "-5"},
        BadCase{"inflight_flag", backend_line("max_inflight = true"), 13,
                "service[0].backend[0].max_inflight", "true"},
        BadCase{"drain", backend_line("drain = \"yes\""), 13, "service[0].backend[0].drain",
                "\"yes\""},
        BadCase{"drain_number", backend_line("drain = 1"), 13, "service[0].backend[0].drain", "1"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace petrel
