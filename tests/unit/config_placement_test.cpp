// SPDX-License-Identifier: MIT
// A service's placement, and what goes with it.
#include "tests/unit/config_cases.hpp"

namespace petrel {
namespace {

std::string placed(const std::string& placement, const std::string& lines = "") {
  return service_line("placement = \"" + placement + "\"\n" + lines);
}

std::string without_interfaces(std::string text) {
  const std::string line = "interfaces = [\"eth0\"]\n";
  return text.erase(text.find(line), line.size());
}

std::vector<std::string> fields_of(const std::string& text) {
  std::vector<std::string> fields;
  for (const ConfigProblem& problem : problems_of(text)) fields.push_back(problem.field);
  return fields;
}

using Fields = std::vector<std::string>;

TEST(ConfigPlacement, TheBalancerIsTheDefault) {
  EXPECT_EQ(load_config_text(kSmall, "small")->services[0].placement, Placement::kBalancer);
  EXPECT_FALSE(load_config_text(kSmall, "small")->has_sockets());
  const ConfigResult client = load_config_text(placed("client"), "client");
  ASSERT_TRUE(client) << client.error().text();
  EXPECT_EQ(client->services[0].placement, Placement::kClient);
  EXPECT_TRUE(client->has_sockets());
  EXPECT_EQ(load_config_text(placed("backend"), "b")->services[0].placement, Placement::kBackend);
  EXPECT_EQ(fields_of(placed("proxy")), Fields{"service[0].placement"});
}

TEST(ConfigPlacement, InterfacesAreNeededAtTheBalancerOnly) {
  EXPECT_EQ(fields_of(without_interfaces(kSmall)), Fields{"agent.interfaces"});
  EXPECT_EQ(fields_of(without_interfaces(placed("balancer"))), Fields{"agent.interfaces"});
  EXPECT_EQ(fields_of(without_interfaces(placed("client"))), Fields{});
  EXPECT_EQ(fields_of(without_interfaces(placed("backend"))), Fields{});
}

TEST(ConfigPlacement, NothingActsWhereNothingPasses) {
  EXPECT_EQ(fields_of(placed("client", "mode = \"act\"\n")), Fields{"service[0].mode"});
  EXPECT_EQ(fields_of(placed("balancer", "mode = \"act\"\n")), Fields{});
  EXPECT_EQ(fields_of(placed("client", "mode = \"neutral\"\n")), Fields{});
  const std::string text =
      placed("client").replace(placed("client").find("[agent]\n"), 8, "[agent]\nmode = \"act\"\n");
  ConfigResult inherited = load_config_text(text, "inherited");
  ASSERT_TRUE(inherited) << inherited.error().text();
  EXPECT_EQ(inherited->services[0].mode, ServiceMode::kShadow);
  inherited->set_mode(ServiceMode::kAct);
  EXPECT_EQ(inherited->services[0].mode, ServiceMode::kShadow);
  inherited->set_mode(ServiceMode::kNeutral);
  EXPECT_EQ(inherited->services[0].mode, ServiceMode::kNeutral);
}

TEST(ConfigPlacement, SocketsTellOfTcpByTheAddressThatTheyHave) {
  EXPECT_EQ(fields_of(placed("client", "protocol = \"udp\"\n")), Fields{"service[0].protocol"});
  EXPECT_EQ(fields_of(with("port = 8080\n", "") + "[[service]]\nname = \"x\"\naddress = \"10.1.100.2\"\n"
                      "port = 80\nplacement = \"client\"\nforward = \"dsr\"\n" +
                      backend("b1", "10.2.1.2", "80")).back(),
            "service[1].forward");
}

// A VIP that is balanced elsewhere stands for its backends; at the balancer it would be a circle.
TEST(ConfigPlacement, AVipMayBeTheBackendWhereNothingIsSent) {
  const std::string vip = backend("vip", "10.1.100.1", "80");
  EXPECT_EQ(fields_of(kSmall + vip), Fields{"service[0].backend[1].address"});
  EXPECT_EQ(fields_of(placed("client") + vip), Fields{});
}

TEST(ConfigPlacement, SocketsAreNeededWhereTheyTell) {
  const std::string off = "[agent]\nsocket_sensor = false\n";
  const std::string text = placed("client");
  EXPECT_EQ(fields_of(std::string(text).replace(text.find("[agent]\n"), 8, off)),
            Fields{"agent.socket_sensor"});
  EXPECT_EQ(fields_of(agent_line("socket_sensor = false")), Fields{});
}

}  // namespace
}  // namespace petrel
