// SPDX-License-Identifier: MIT
// The judging of `petrel check --system`: each case spoils one of a good host's facts.
#include <gtest/gtest.h>
#include <linux/capability.h>

#include <algorithm>
#include <boost/json.hpp>
#include <functional>

#include "system/table.hpp"
#include "tests/unit/system_host.hpp"

namespace petrel {
namespace {

using test::good_host;
using test::Host;
using test::make_veth;

// The checks that are not good.
std::vector<Check> bad(const std::vector<Check>& checks) {
  std::vector<Check> found;
  std::copy_if(checks.begin(), checks.end(), std::back_inserter(found),
               [](const Check& check) { return check.state != CheckState::kGood; });
  return found;
}

struct Case {
  const char* what;
  std::function<void(Host&)> spoil;
  const char* id;
  CheckState state;
  const char* subject;
  const char* command;
};

constexpr CheckState kDegraded = CheckState::kDegraded;
constexpr CheckState kFatal = CheckState::kFatal;

const Case kHostCases[] = {
    {"kernel before 5.10",
     [](Host& it) {
       it.host().kernel = {5, 9};
     },
     "kernel.version", kFatal, "", ""},
    {"no atomic operations that answer", [](Host& it) { it.host().atomics = false; },
     "kernel.atomics", kDegraded, "", ""},
    {"kernel before 5.18", [](Host& it) { it.host().kernel = {5, 17}; }, "kernel.live_frames", kDegraded,
     "", ""},
    {"no BTF", [](Host& it) { it.host().btf = false; }, "kernel.btf", kFatal, "", ""},
    {"CAP_SYS_ADMIN does not stand in for CAP_NET_ADMIN",
     [](Host& it) { it.host().capabilities = 1ULL << CAP_SYS_ADMIN; }, "process.capabilities",
     kFatal, "", "setcap cap_net_admin,cap_bpf,cap_perfmon+ep /usr/sbin/petrel"},
    {"no CAP_BPF", [](Host& it) { it.host().capabilities = 1ULL << CAP_NET_ADMIN; },
     "process.capabilities", kFatal, "",
     "setcap cap_net_admin,cap_bpf,cap_perfmon+ep /usr/sbin/petrel"},
    {"no XDP programs", [](Host& it) { it.host().program_types[0].works = false; }, "bpf.programs",
     kFatal, "", ""},
    {"no tracing", [](Host& it) { it.host().program_types[1].works = false; }, "bpf.programs",
     kDegraded, "", ""},
    {"no ring buffers", [](Host& it) { it.host().map_types[1].works = false; }, "bpf.maps", kFatal,
     "", ""},
    {"no JIT", [](Host& it) { it.host().jit = false; }, "bpf.jit", kDegraded, "",
     "sysctl -w net.core.bpf_jit_enable=1"},
    {"no bpffs", [](Host& it) { it.host().pin_path_on_bpffs = false; }, "bpf.bpffs", kFatal, "",
     "mount -t bpf bpf /sys/fs/bpf"},
    {"no bpffs at another place",
     [](Host& it) {
       it.host().pin_path_on_bpffs = false;
       it.config.agent.pin_path = "/run/bpf/petrel";
     },
     "bpf.bpffs", kFatal, "", "mkdir -p /run/bpf && mount -t bpf bpf /run/bpf"},
    {"no cgroup v2", [](Host& it) { it.host().cgroup2 = ""; }, "cgroup.v2", kDegraded, "",
     "mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2"},
    {"no IPv4 forwarding", [](Host& it) { it.host().forwarding_v4 = false; }, "net.ip_forward",
     kDegraded, "", "sysctl -w net.ipv4.ip_forward=1"},
    {"no IPv6 forwarding, and a service that needs it",
     [](Host& it) {
       it.config.services[0].address = *parse_address("fd00::1");
       it.host().forwarding_v6 = false;
     },
     "net.ipv6_forwarding", kDegraded, "", "sysctl -w net.ipv6.conf.all.forwarding=1"},
};

const Case kInterfaceCases[] = {
    {"no such interface", [](Host& it) { it.interface(0).ifindex = 0; }, "interface.exists", kFatal,
     "eth0", ""},
    {"down", [](Host& it) { it.interface(0).up = false; }, "interface.up", kDegraded, "eth0",
     "ip link set dev eth0 up"},
    {"native XDP asked for, not to be had",
     [](Host& it) {
       it.interface(0).xdp_features = 0;
       it.config.agent.xdp_mode = XdpMode::kNative;
     },
     "interface.xdp_mode", kFatal, "eth0",
     R"(sed -i -E 's/^( *xdp_mode *= *).*/\1"auto"/' /etc/petrel/petrel.toml)"},
    {"no native XDP", [](Host& it) { it.interface(0).xdp_features = 0; }, "interface.xdp_mode",
     kDegraded, "eth0", ""},
    {"takes no redirected frames though attached",
     [](Host& it) {
       it.interface(1).xdp_features = 1;
       it.interface(1).xdp = {.attached = XdpAttached::kNative, .ours = true};
     },
     "interface.xdp_target", kDegraded, "eth1", ""},
    {"LRO", [](Host& it) { it.interface(1).offloads["rx-lro"].on = true; }, "interface.lro", kFatal,
     "eth1", "ethtool -K eth1 rx-lro off"},
    {"LRO that cannot be switched off",
     [](Host& it) { it.interface(1).offloads["rx-lro"] = {.on = true, .fixed = true}; },
     "interface.lro", kFatal, "eth1", ""},
    {"GRO in hardware", [](Host& it) { it.interface(1).offloads["rx-gro-hw"].on = true; },
     "interface.gro_hw", kDegraded, "eth1", "ethtool -K eth1 rx-gro-hw off"},
    {"VLAN stripping", [](Host& it) { it.interface(0).offloads["rx-vlan-hw-parse"].on = true; },
     "interface.vlan", kDegraded, "eth0", "ethtool -K eth0 rx-vlan-hw-parse off"},
    {"MTU above a page",
     [](Host& it) {
       it.interface(0).mtu_bytes = it.interface(1).mtu_bytes = 3499;
       it.interface(0).xdp_features = test::kEveryXdpFeature & ~test::kSeveralBuffers;
     },
     "interface.mtu", kDegraded, "eth0", "ip link set dev eth0 mtu 3498"},
    {"unequal MTU", [](Host& it) { it.interface(0).mtu_bytes = 3000; }, "interface.mtu_equal",
     kDegraded, "eth0", "ip link set dev eth0 mtu 1500"},
    {"loose reverse path, and no way to the VIP", [](Host& it) { it.interface(1).rp_filter = 2; },
     "interface.rp_filter", kDegraded, "eth1",
     "sysctl -w net.ipv4.conf.all.rp_filter=0 && sysctl -w net.ipv4.conf.eth1.rp_filter=0"},
    {"strict reverse path, the VIP our own",
     [](Host& it) {
       it.vip().kind = RouteKind::kLocal;
       it.interface(1).accept_local = true;
       it.interface(1).rp_filter = 1;
     },
     "interface.rp_filter", kDegraded, "eth1", "sysctl -w net.ipv4.conf.eth1.rp_filter=2"},
    {"strict reverse path of a VLAN, the VIP our own",
     [](Host& it) {
       it.vip().kind = RouteKind::kLocal;
       it.interface(1).accept_local = true;
       it.config.agent.interfaces[1] = it.interface(1).name = it.backend().interface = "eth1.7";
       it.interface(1).rp_filter = 1;
     },
     "interface.rp_filter", kDegraded, "eth1.7", "sysctl -w net/ipv4/conf/eth1.7/rp_filter=2"},
    {"forwarding off here alone", [](Host& it) { it.interface(0).forwarding_v4 = false; },
     "interface.forwarding", kDegraded, "eth0", "sysctl -w net.ipv4.conf.eth0.forwarding=1"},
    {"replies from an address of our own",
     [](Host& it) {
       it.vip().kind = RouteKind::kLocal;
       it.interface(1).rp_filter = 2;
     },
     "interface.accept_local", kDegraded, "eth1", "sysctl -w net.ipv4.conf.eth1.accept_local=1"},
    {"veth with unfinished checksums",
     [](Host& it) {
       make_veth(it);
       it.interface(1).peer->offloads["tx-checksum-ip-generic"].on = true;
     },
     "interface.veth_checksum", kDegraded, "eth1",
     "nsenter --net=/run/netns/b1 ethtool -K veth1 tx off"},
    {"veth whose far end polls nothing",
     [](Host& it) {
       make_veth(it);
       it.interface(1).peer->offloads["rx-gro"].on = false;
     },
     "interface.veth_target", kDegraded, "eth1",
     "nsenter --net=/run/netns/b1 ethtool -K veth1 gro on"},
    {"veth whose far end polls unnoticed",
     [](Host& it) {
       make_veth(it);
       it.interface(1).xdp_features = 3;
     },
     "interface.veth_target", kDegraded, "eth1",
     "nsenter --net=/run/netns/b1 ethtool -K veth1 gro off && "
     "nsenter --net=/run/netns/b1 ethtool -K veth1 gro on"},
    {"veth with too few queues",
     [](Host& it) {
       make_veth(it);
       it.interface(1).receive_queues = 1;
       it.interface(1).xdp_features = 4;
     },
     "interface.xdp_mode", kFatal, "eth1", "nsenter --net=/run/netns/b1 ethtool -L veth1 tx 1"},
};

const Case kServiceCases[] = {
    {"VIP routed on",
     [](Host& it) {
       it.vip() = {.kind = RouteKind::kUnicast,
                   .interface = "eth0",
                   .has_gateway = true,
                   .next_hop = *parse_address("10.1.0.254")};
     },
     "service.vip", kDegraded, "web", "ip address add 10.0.0.1/32 dev lo"},
    {"VIP on the link, nobody's",
     [](Host& it) { it.vip() = {.kind = RouteKind::kUnicast, .interface = "eth0"}; }, "service.vip",
     kDegraded, "web", "ip address add 10.0.0.1/32 dev lo"},
    {"backend without a route", [](Host& it) { it.backend().kind = RouteKind::kNone; },
     "backend.route", kDegraded, "web/b1", "ip route replace 10.2.1.2/32 via GATEWAY"},
    {"backend on this host", [](Host& it) { it.backend().kind = RouteKind::kLocal; },
     "backend.route", kDegraded, "web/b1", ""},
    {"backend behind an interface that is not ours",
     [](Host& it) { it.backend().interface = "eth9"; }, "backend.route", kDegraded, "web/b1", ""},
    {"unknown neighbour", [](Host& it) { it.backend().neighbour_known = false; },
     "backend.neighbour", kDegraded, "web/b1", "ip neighbour replace 10.2.1.2 dev eth1 use"},
    {"dsr without room for the outer header",
     [](Host& it) { it.config.services[0].forward = Forward::kDsr; }, "service.encap_mtu",
     kDegraded, "web", "ip link set dev eth1 mtu 1520"},
    {"dsr to IPv6 without room",
     [](Host& it) {
       it.config.services[0].forward = Forward::kDsr;
       it.config.services[0].backends[0].address = *parse_address("fd00::2");
     },
     "service.encap_mtu", kDegraded, "web", "ip link set dev eth1 mtu 1540"},
};

void expect_found(const Case& expected) {
  Host it = good_host();
  expected.spoil(it);
  const std::vector<Check> checks = it.judged();
  const std::vector<Check> found = bad(checks);
  SCOPED_TRACE(std::string(expected.what) + "\n" + check_table(checks, false));
  const auto match = std::find_if(found.begin(), found.end(),
                                  [&](const Check& check) { return check.id == expected.id; });
  ASSERT_NE(match, found.end());
  EXPECT_EQ(match->state, expected.state);
  EXPECT_EQ(match->subject, expected.subject);
  EXPECT_EQ(match->command, expected.command);
  EXPECT_FALSE(match->found.empty());
  EXPECT_FALSE(match->consequence.empty());
  for (const Check& check : found) EXPECT_EQ(check.id, expected.id) << "spoils more than itself";
}

TEST(SystemCheckTest, AGoodHostIsGoodThroughout) {
  const std::vector<Check> checks = good_host().judged();
  EXPECT_TRUE(bad(checks).empty()) << check_table(checks, false);
  EXPECT_EQ(exit_code(checks), ExitCode::kGood);
}

TEST(SystemCheckTest, EachFaultOfTheHostIsFoundAndNoOther) {
  for (const Case& expected : kHostCases) expect_found(expected);
}

TEST(SystemCheckTest, EachFaultOfAnInterfaceIsFoundAndNoOther) {
  for (const Case& expected : kInterfaceCases) expect_found(expected);
}

TEST(SystemCheckTest, EachFaultOfAServiceIsFoundAndNoOther) {
  for (const Case& expected : kServiceCases) expect_found(expected);
}

TEST(SystemCheckTest, WhatDoesNotApplyIsNotAskedFor) {
  Host it = good_host();
  make_veth(it);
  it.host().capabilities = 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_NET_ADMIN;
  it.host().forwarding_v6 = false;  // no IPv6 service
  it.host().memlock_bytes = 65536;  // not charged since 5.11
  it.host().cgroup2 = "";           // no sensor that would use it
  it.host().program_types[2].works = false;
  it.config.agent.socket_sensor = false;
  it.interface(0).rp_filter = 1;                           // no backend is there
  it.interface(0).xdp_features.reset();                    // before 6.3
  it.interface(1).offloads["rx-vlan-hw-parse"].on = true;  // a veth's own does nothing
  EXPECT_TRUE(bad(it.judged()).empty()) << check_table(it.judged(), false);
}

TEST(SystemCheckTest, LongPacketsAreGoodWhereTheDriverHasSeveralBuffersForOne) {
  Host it = good_host();
  it.interface(0).mtu_bytes = it.interface(1).mtu_bytes = 9000;
  EXPECT_TRUE(bad(it.judged()).empty()) << check_table(it.judged(), false);
}

TEST(SystemCheckTest, LockedMemoryCountsOnlyBefore511) {
  Host it = good_host();
  it.host().kernel = {5, 10};
  it.host().memlock_bytes = 65536;
  const std::vector<Check> found = bad(it.judged());
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[1].id, "process.memlock");
  EXPECT_EQ(found[1].command, "ulimit -l unlimited");
}

TEST(SystemCheckTest, GenericModeIsDegradedAndSettlesTheOffloads) {
  Host it = good_host();
  it.config.agent.xdp_mode = XdpMode::kGeneric;
  it.interface(0).offloads["rx-lro"].on = true;  // the kernel switches it off itself
  it.interface(0).mtu_bytes = it.interface(1).mtu_bytes = 9000;
  for (const Check& check : bad(it.judged())) {
    EXPECT_EQ(check.id, "interface.xdp_mode");
    EXPECT_EQ(check.state, kDegraded);
  }
}

TEST(SystemCheckTest, OurOwnProgramIsGoodAndSettlesWhatTheDriverTook) {
  Host it = good_host();
  it.interface(0).xdp = {.attached = XdpAttached::kNative, .program_id = 7, .ours = true};
  it.interface(0).offloads["rx-lro"].on = true;
  it.interface(0).mtu_bytes = it.interface(1).mtu_bytes = 3498;
  EXPECT_TRUE(bad(it.judged()).empty()) << check_table(it.judged(), false);
}

TEST(SystemCheckTest, AnothersProgramIsAConflictWithItsName) {
  Host it = good_host();
  it.interface(0).xdp = {.attached = XdpAttached::kGeneric,
                         .program_id = 7,
                         .program_name = "xdp_dispatcher",
                         .owner = "root",
                         .age = std::chrono::minutes(5)};
  const auto checks = it.judged();
  const auto found = bad(checks);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].id, "interface.xdp_program");
  EXPECT_EQ(found[0].found,
            "another program, id 7, generic: \"xdp_dispatcher\", loaded by root 5 min ago");
  EXPECT_EQ(found[0].command, "ip link set dev eth0 xdpgeneric off");
  EXPECT_EQ(exit_code(checks), ExitCode::kConflict);

  it.interface(0).xdp.attached = XdpAttached::kNative;
  it.interface(0).xdp.link_id = 12;
  EXPECT_EQ(bad(it.judged())[0].command, "bpftool link detach id 12");
}

TEST(SystemCheckTest, WhatIsMissingGoesBeforeAConflict) {
  Host it = good_host();
  it.interface(0).xdp = {.attached = XdpAttached::kNative, .program_id = 7};
  EXPECT_EQ(exit_code(it.judged()), ExitCode::kConflict);
  it.host().forwarding_v4 = false;  // degraded: the conflict stays
  EXPECT_EQ(exit_code(it.judged()), ExitCode::kConflict);
  it.host().btf = false;
  EXPECT_EQ(exit_code(it.judged()), ExitCode::kMissing);
}

TEST(SystemCheckTest, DegradedAloneIsAWarning) {
  Host it = good_host();
  it.host().forwarding_v4 = false;
  EXPECT_EQ(exit_code(it.judged()), ExitCode::kWarnings);
}

TEST(SystemCheckTest, BackendsBehindOneGatewayAreNamedOnce) {
  Host it = good_host();
  it.config.services[0].backends.push_back(it.config.services[0].backends[0]);
  it.backend().neighbour_known = false;
  it.backend().has_gateway = true;
  it.backend().next_hop = *parse_address("10.2.0.1");
  it.facts.services[0].backends.push_back(it.backend());
  const auto found = bad(it.judged());
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].command, "ip neighbour replace 10.2.0.1 dev eth1 use");
}

TEST(SystemCheckTest, DsrWithRoomForTheOuterHeaderIsGood) {
  Host it = good_host();
  it.config.services[0].forward = Forward::kDsr;
  it.interface(1).mtu_bytes = 1520;
  it.backend().mtu_bytes = 1520;
  EXPECT_TRUE(bad(it.judged()).empty()) << check_table(it.judged(), false);
}

TEST(SystemCheckTest, AHostWithOneInterfaceIsReachedOverPathsOf1500) {
  Host it = good_host();
  it.config.services[0].forward = Forward::kDsr;
  it.config.agent.interfaces = {"eth1"};
  it.facts.interfaces.erase(it.facts.interfaces.begin());
  it.interface(0).mtu_bytes = it.backend().mtu_bytes = 1540;
  EXPECT_TRUE(bad(it.judged()).empty()) << check_table(it.judged(), false);
}

// --- what is printed -----------------------------------------------------------------------------

TEST(SystemTableTest, TheWorstComesFirstWithItsCommand) {
  Host it = good_host();
  it.host().btf = false;
  it.host().forwarding_v4 = false;
  const std::string table = check_table(it.judged(), false);
  const auto fatal = table.find("FATAL\n  kernel.btf");
  const auto degraded = table.find("DEGRADED\n  net.ip_forward");
  const auto good = table.find("GOOD\n  kernel.version");
  ASSERT_NE(good, std::string::npos) << table;
  EXPECT_LT(fatal, degraded);
  EXPECT_LT(degraded, good);
  EXPECT_NE(table.find("      $ sysctl -w net.ipv4.ip_forward=1\n"), std::string::npos);
  EXPECT_EQ(table.find('\033'), std::string::npos);
  EXPECT_NE(check_table(it.judged(), true).find("\033[31mFATAL\033[0m"), std::string::npos);
}

TEST(SystemTableTest, JsonHoldsTheSame) {
  Host it = good_host();
  it.host().forwarding_v4 = false;
  const boost::json::value parsed = boost::json::parse(check_json(it.judged()));
  EXPECT_EQ(parsed.at("schema").as_string(), "petrel/check-system/v1");
  EXPECT_EQ(parsed.at("fatal").as_int64() + parsed.at("degraded").to_number<int>(), 1);
  EXPECT_EQ(parsed.at("exit_code").to_number<int>(), 4);
  for (const auto& item : parsed.at("checks").as_array()) {
    if (item.at("state").as_string() == "good") continue;
    EXPECT_EQ(item.at("id").as_string(), "net.ip_forward");
    EXPECT_TRUE(item.at("subject").is_null());
    EXPECT_EQ(item.at("command").as_string(), "sysctl -w net.ipv4.ip_forward=1");
  }
}

}  // namespace
}  // namespace petrel
