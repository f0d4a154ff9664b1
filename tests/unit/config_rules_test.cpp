// SPDX-License-Identifier: MIT
// What must hold between services and backends: each rule as what breaks it and what does not.
#include "config/address.hpp"
#include "tests/unit/config_cases.hpp"

namespace petrel {
namespace {

constexpr const char* kDsr = "forward = \"dsr\"\n";
constexpr const char* kUdp = "protocol = \"udp\"\n";

// `port` as TOML; `more`: further lines of the service, then its backends.
std::string service(const std::string& name, const std::string& address, const std::string& port,
                    const std::string& more) {
  return "[[service]]\nname = \"" + name + "\"\naddress = \"" + address + "\"\nport = " + port +
         "\n" + more;
}

std::string portless(const std::string& name, const std::string& address) {
  return "[[service.backend]]\nname = \"" + name + "\"\naddress = \"" + address + "\"\n";
}

// A service of a range whose one backend nobody else has.
std::string range(const std::string& name, const std::string& address, const std::string& ports,
                  const std::string& more = "") {
  static int host = 0;
  host = host % 200 + 1;
  return service(name, address, "\"" + ports + "\"",
                 more + portless("b", "10.3.0." + std::to_string(host)));
}

std::string whole_file(const std::string& services) {
  return "[agent]\ninterfaces = [\"eth0\"]\n" + services;
}

struct RuleCase {
  const char* name;
  std::string services;
  const char* field = "";  // "": nothing is wrong
  const char* expected = "";
  const char* found = "";
};

void PrintTo(const RuleCase& rule, std::ostream* out) {
  *out << rule.name;
}

class ConfigRule : public testing::TestWithParam<RuleCase> {};

TEST_P(ConfigRule, HoldsOrIsOneProblem) {
  const RuleCase& rule = GetParam();
  const auto problems = problems_of(whole_file(rule.services));
  const bool good = *rule.field == '\0';
  ASSERT_EQ(problems.size(), good ? 0U : 1U) << ConfigProblems{problems}.text();
  if (good) return;
  EXPECT_EQ(problems[0].field, rule.field);
  EXPECT_EQ(problems[0].expected, rule.expected);
  EXPECT_EQ(problems[0].found, rule.found);
  EXPECT_GT(problems[0].line, 2U);
}

const std::string kWeb = service("web", "10.1.0.1", "80", backend("b1", "10.2.0.1", "8080"));
const std::string kB2 = backend("b1", "10.2.0.2", "8080");

INSTANTIATE_TEST_SUITE_P(
    Ports, ConfigRule,
    testing::Values(
        RuleCase{"two_ports_of_an_address", kWeb + service("x", "10.1.0.1", "81", kB2)},
        RuleCase{"two_protocols_of_a_port", kWeb + service("x", "10.1.0.1", "80", kUdp + kB2)},
        RuleCase{"two_addresses_of_a_port", kWeb + service("x", "10.1.0.2", "80", kB2)},
        RuleCase{"same_endpoint", kWeb + service("x", "::ffff:10.1.0.1", "80", kB2),
                 "service[1].address", "an address and port that no other service has",
                 "10.1.0.1:80, which service[0].address has already"},
        RuleCase{"port_within_a_later_range", kWeb + range("x", "10.1.0.1", "79-81")},
        RuleCase{"port_within_an_earlier_range", range("x", "10.1.0.1", "79-81") + kWeb},
        RuleCase{"port_that_ends_a_range", kWeb + range("x", "10.1.0.1", "79-80")},
        RuleCase{"port_beside_all", range("x", "10.1.0.1", "all") + kWeb},
        RuleCase{"port_that_begins_a_later_range", kWeb + range("x", "10.1.0.1", "80-90"),
                 "service[1].port", "a first port that no other service of the address has",
                 "10.1.0.1:80-90, which meets 10.1.0.1:80 of service[0].port"},
        RuleCase{"port_that_begins_an_earlier_range", range("x", "10.1.0.1", "80-90") + kWeb,
                 "service[1].port", "a first port that no other service of the address has",
                 "10.1.0.1:80, which meets 10.1.0.1:80-90 of service[0].port"},
        RuleCase{"port_that_begins_a_range_of_udp", kWeb + range("x", "10.1.0.1", "80-90", kUdp)},
        RuleCase{"ranges_side_by_side",
                 range("x", "10.1.0.1", "80-90") + range("y", "10.1.0.1", "91-99")},
        RuleCase{"ranges_that_share_a_port",
                 range("x", "10.1.0.1", "80-90") + range("y", "10.1.0.1", "90-99"),
                 "service[1].port", "ports that no other range of the address has",
                 "10.1.0.1:90-99, which meets 10.1.0.1:80-90 of service[0].port"},
        RuleCase{"range_within_all",
                 range("y", "10.1.0.1", "80-90") + range("z", "10.1.0.1", "all"), "service[1].port",
                 "ports that no other range of the address has",
                 "10.1.0.1:all, which meets 10.1.0.1:80-90 of service[0].port"},
        RuleCase{"ranges_of_two_protocols",
                 range("x", "10.1.0.1", "all") + range("y", "10.1.0.1", "all", kUdp)},
        RuleCase{"ranges_of_two_addresses",
                 range("x", "10.1.0.1", "all") + range("y", "10.1.0.2", "all")}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    BackendPort, ConfigRule,
    testing::Values(
        RuleCase{"nat_needs_one", service("x", "10.1.0.1", "80", portless("b1", "10.2.0.1")),
                 "service[0].backend[0].port", "an integer from 1 to 65535", "nothing"},
        RuleCase{"dsr_needs_none",
                 service("x", "10.1.0.1", "80", kDsr + portless("b1", "10.2.0.1"))},
        RuleCase{"dsr_may_name_the_services",
                 service("x", "10.1.0.1", "80", kDsr + backend("b1", "10.2.0.1", "80"))},
        RuleCase{"dsr_translates_none",
                 service("x", "10.1.0.1", "80", kDsr + backend("b1", "10.2.0.1", "8080")),
                 "service[0].backend[0].port",
                 "nothing, or the service's port 80: dsr does not translate ports", "8080"},
        RuleCase{"range_has_none",
                 service("x", "10.1.0.1", "\"80-90\"", backend("b1", "10.2.0.1", "80")),
                 "service[0].backend[0].port",
                 "no port: a backend of several gets the one asked for", "80"},
        RuleCase{"range_of_dsr_has_none",
                 service("x", "10.1.0.1", "\"all\"", kDsr + backend("b1", "10.2.0.1", "80")),
                 "service[0].backend[0].port",
                 "no port: a backend of several gets the one asked for", "80"},
        RuleCase{"unclear_of_an_unclear_service",
                 service("x", "10.1.0.1", "\"80 to 90\"", portless("b1", "10.2.0.1")),
                 "service[0].port",
                 "a port from 1 to 65535, a range like \"8000-8099\", or \"all\"", "\"80 to 90\""},
        RuleCase{"unclear_of_unclear_forwarding",
                 service("x", "10.1.0.1", "80", "forward = \"rst\"\n" + portless("b1", "fd00::2")),
                 "service[0].forward", "\"nat\" or \"dsr\"", "\"rst\""}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Family, ConfigRule,
    testing::Values(
        RuleCase{"nat_v6", service("x", "fd00::1", "80", backend("b1", "fd00:2::1", "80"))},
        RuleCase{"nat_v4_to_v6", service("x", "10.1.0.1", "80", backend("b1", "fd00:2::1", "80")),
                 "service[0].backend[0].address", "an IPv4 address, as the service's is",
                 "\"fd00:2::1\""},
        RuleCase{"nat_v6_to_v4", service("x", "fd00::1", "80", backend("b1", "10.2.0.1", "80")),
                 "service[0].backend[0].address", "an IPv6 address, as the service's is",
                 "\"10.2.0.1\""},
        RuleCase{"dsr_v4_to_both",
                 service("x", "10.1.0.1", "80",
                         kDsr + portless("b1", "10.2.0.1") + portless("b2", "fd00:2::1"))},
        RuleCase{"dsr_v6", service("x", "fd00::1", "80", kDsr + portless("b1", "fd00:2::1"))},
        RuleCase{"dsr_v6_to_v4", service("x", "fd00::1", "80", kDsr + portless("b1", "10.2.0.1")),
                 "service[0].backend[0].address", "an IPv6 address: dsr puts no IPv6 into IPv4",
                 "\"10.2.0.1\""}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    SharedBackends, ConfigRule,
    testing::Values(
        RuleCase{"nat_twice_in_a_service", kWeb + backend("b2", "10.2.0.1", "8080"),
                 "service[0].backend[1].address",
                 "an address and port that no other nat backend of the protocol has",
                 "10.2.0.1:8080, which service[0].backend[0].address has already"},
        RuleCase{"nat_in_two_services",
                 kWeb + service("x", "10.1.0.2", "80", backend("b1", "10.2.0.1", "8080")),
                 "service[1].backend[0].address",
                 "an address and port that no other nat backend of the protocol has",
                 "10.2.0.1:8080, which service[0].backend[0].address has already"},
        RuleCase{"nat_at_two_ports",
                 kWeb + service("x", "10.1.0.2", "80", backend("b1", "10.2.0.1", "8081"))},
        RuleCase{"nat_of_two_protocols",
                 kWeb + service("x", "10.1.0.2", "80", kUdp + backend("b1", "10.2.0.1", "8080"))},
        RuleCase{"nat_any_port_beside_one",
                 kWeb + service("x", "10.1.0.2", "\"all\"", portless("b1", "10.2.0.1"))},
        RuleCase{"nat_any_port_twice",
                 service("x", "10.1.0.1", "\"1-9\"", portless("b1", "10.2.0.1")) +
                     service("y", "10.1.0.2", "\"all\"", portless("b1", "10.2.0.1")),
                 "service[1].backend[0].address",
                 "an address and port that no other nat backend of the protocol has",
                 "10.2.0.1 at any port, which service[0].backend[0].address has already"},
        RuleCase{"nat_any_port_of_two_protocols",
                 service("x", "10.1.0.1", "\"1-9\"", portless("b1", "10.2.0.1")) +
                     service("y", "10.1.0.2", "\"all\"", kUdp + portless("b1", "10.2.0.1"))},
        RuleCase{"dsr_in_two_services",
                 service("x", "10.1.0.1", "80", kDsr + portless("b1", "10.2.0.1")) +
                     service("y", "10.1.0.2", "80", kDsr + portless("b1", "10.2.0.1"))},
        RuleCase{"dsr_beside_nat",
                 kWeb + service("y", "10.1.0.1", "443", kDsr + portless("b1", "10.2.0.1"))},
        RuleCase{"dsr_twice_in_a_service",
                 service("x", "10.1.0.1", "80",
                         kDsr + portless("b1", "10.2.0.1") + portless("b2", "10.2.0.1")),
                 "service[0].backend[1].address",
                 "an address that no other backend of the service has",
                 "10.2.0.1, which service[0].backend[0].address has already"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Loops, ConfigRule,
    testing::Values(
        RuleCase{"nat_to_a_later_service", kWeb + service("x", "10.2.0.1", "8080", kB2),
                 "service[0].backend[0].address", "an endpoint that is no service's",
                 "10.2.0.1:8080, which is service[1].address"},
        RuleCase{"nat_to_another_port_of_a_vip", kWeb + service("x", "10.2.0.1", "8081", kB2)},
        RuleCase{"nat_to_another_protocol_of_a_vip",
                 kWeb + service("x", "10.2.0.1", "8080", kUdp + kB2)},
        RuleCase{"nat_into_a_range", kWeb + range("x", "10.2.0.1", "8000-8099"),
                 "service[0].backend[0].address", "an endpoint that is no service's",
                 "10.2.0.1:8080, which is service[1].address"},
        RuleCase{"nat_beside_a_range", kWeb + range("x", "10.2.0.1", "8081-8099")},
        RuleCase{"range_to_itself",
                 service("x", "10.1.0.1", "\"80-90\"", portless("b1", "10.1.0.1")),
                 "service[0].backend[0].address", "an endpoint that is no service's",
                 "10.1.0.1:80-90, which is service[0].address"},
        RuleCase{"range_to_a_vip_elsewhere",
                 kWeb + service("x", "10.1.0.2", "\"81-90\"", portless("b1", "10.1.0.1"))},
        RuleCase{"dsr_to_itself", service("x", "10.1.0.1", "80", kDsr + portless("b1", "10.1.0.1")),
                 "service[0].backend[0].address", "an address that is no service's",
                 "10.1.0.1, which is service[0].address"},
        RuleCase{"dsr_to_any_port_of_a_vip",
                 kWeb + service("x", "10.1.0.2", "81", kDsr + portless("b1", "10.1.0.1")),
                 "service[1].backend[0].address", "an address that is no service's",
                 "10.1.0.1, which is service[0].address"}),
    [](const auto& test) { return test.param.name; });

TEST(ConfigRules, ADsrBackendHasItsServicesPort) {
  const ConfigResult result = load_config_text(
      whole_file(service("x", "10.1.0.1", "80", kDsr + portless("b1", "10.2.0.1")) +
                 service("y", "10.1.0.1", "\"8000-8099\"", kDsr + portless("b1", "10.2.0.1"))),
      "dsr");
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(result->services[0].backends[0].port, 80);
  EXPECT_EQ(result->services[1].backends[0].port, 0);
}

TEST(ConfigRules, AnAddressHasRoomForSoManyRanges) {
  const auto ranges = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const int first = 1000 + i * 10;
      text +=
          range("s" + std::to_string(i), "10.1.0.1",
                std::to_string(first) + "-" + std::to_string(first + 9), i % 2 == 0 ? kUdp : "");
    }
    return whole_file(text + kWeb + range("other", "10.1.0.2", "all"));
  };
  EXPECT_TRUE(problems_of(ranges(VIP_RANGES)).empty());
  const auto problems = problems_of(ranges(VIP_RANGES + 2));
  ASSERT_EQ(problems.size(), 1U) << "said once: " << ConfigProblems{problems}.text();
  EXPECT_EQ(problems[0].field, "service[16].port");
  EXPECT_EQ(problems[0].expected, "at most 16 services of several ports at one address");
}

}  // namespace
}  // namespace petrel
