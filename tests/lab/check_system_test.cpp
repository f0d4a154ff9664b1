// SPDX-License-Identifier: MIT
// `petrel check --system` in a network namespace of the test's own, which its commands mend.
//
//   to-client ── client-end      Both ends in one namespace.
//   to-b1 ────── eth0            eth0 and the backend, 10.77.2.2, in another. The VIP, 10.77.100.1,
//                                is nobody's address.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "base/unique_fd.hpp"
#include "tests/lab/process.hpp"

namespace petrel::test {
namespace {

namespace json = boost::json;

constexpr int kGood = 0;
constexpr int kWarnings = 4;
constexpr int kMissing = 5;
constexpr int kConflict = 7;

struct Found {
  std::string state;
  std::string found;
  std::string command;
};

struct Report {
  int exit_code;
  json::value body;

  // Of the first check with this id and subject; empty if there is none.
  Found of(const std::string& id, const std::string& subject = "") const {
    const auto text = [](const json::value& value) {
      return value.is_null() ? std::string() : std::string(value.as_string());
    };
    for (const json::value& check : body.at("checks").as_array()) {
      if (text(check.at("id")) != id || text(check.at("subject")) != subject) continue;
      return {text(check.at("state")), text(check.at("found")), text(check.at("command"))};
    }
    return {};
  }

  // "id subject" of all that is not good.
  std::set<std::string> bad() const {
    std::set<std::string> found;
    for (const json::value& check : body.at("checks").as_array()) {
      if (check.at("state").as_string() == "good") continue;
      const json::value& subject = check.at("subject");
      found.insert(std::string(check.at("id").as_string()) +
                   (subject.is_null() ? "" : " " + std::string(subject.as_string())));
    }
    return found;
  }
};

std::string shell(const std::string& script) {
  const Finished done = run({"sh", "-ec", script});
  EXPECT_EQ(done.exit_code, 0) << script << "\n" << done.err;
  return done.out;
}

class CheckSystemTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    // The test's process itself moves: what it starts follows, and nothing is left behind.
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs network namespaces";
    char pattern[] = "/tmp/petrel-check-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    pin_path_ = "/sys/fs/bpf/" + std::filesystem::path(directory_).filename().string();
    backend_ = std::make_unique<Process>(
        "backend", std::vector<std::string>{"sh", "-c", "echo $$; exec unshare --net sleep 100"});
    await_backend_namespace();
    raise();
  }

  void TearDown() override {
    std::error_code code;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, code);
    if (!pin_path_.empty()) std::filesystem::remove_all(pin_path_, code);
  }

  // All that the checks ask for, so that a test spoils what it is about.
  void raise() {
    const std::string enter = "nsenter --net=" + backend_namespace_ + " ";
    shell(
        "ip link set lo up\n"
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0\n"
        "sysctl -qw net.ipv4.conf.default.rp_filter=0\n"
        "ip link add to-client numrxqueues 1 numtxqueues 1 type veth"
        "  peer name client-end numrxqueues 1 numtxqueues 1\n"
        "ip link add to-b1 numrxqueues 1 numtxqueues 1 type veth"
        "  peer name eth0 numrxqueues 1 numtxqueues 1 netns " +
        backend_namespace_ +
        "\n"
        "ip address add 10.77.1.1/24 dev to-client\n"
        "ip address add 10.77.2.1/24 dev to-b1\n"
        "ip link set to-client up\nip link set client-end up\nip link set to-b1 up\n" +
        enter + "ip address add 10.77.2.2/24 dev eth0\n" + enter + "ip link set eth0 up\n" + enter +
        "ethtool -K eth0 tx off gro on >/dev/null\n"
        "ethtool -K client-end tx off gro on >/dev/null\n"
        "ip neighbour replace 10.77.2.2 dev to-b1 use\n");
    write_config("");
    await_good();
  }

  void write_config(const std::string& agent_lines) {
    std::ofstream(config_path()) << "[agent]\npin_path = \"" << pin_path_ << "\"\n"
                                 << "interfaces = [\"to-client\", \"to-b1\"]\n"
                                 << "socket_sensor = false\n"
                                 << agent_lines
                                 << "\n[[service]]\nname = \"web\"\naddress = \"10.77.100.1\"\n"
                                 << "port = 80\n[[service.backend]]\nname = \"b1\"\n"
                                 << "address = \"10.77.2.2\"\nport = 8080\n";
  }

  std::string config_path() const { return directory_ + "/petrel.toml"; }

  Report check() const {
    const Finished done = run({PETREL_BINARY, "check", "--system", "--json", "-c", config_path()});
    if (done.out.empty()) throw std::runtime_error("petrel check --system: " + done.err);
    return {done.exit_code, json::parse(done.out)};
  }

  // Spoils a good host, and has the named command make it good again.
  void expect_mended(const std::string& spoil, const std::string& id, const std::string& subject,
                     const std::string& state = "degraded") {
    SCOPED_TRACE(spoil);
    shell(spoil);
    const Report spoilt = check();
    EXPECT_EQ(spoilt.of(id, subject).state, state);
    EXPECT_EQ(spoilt.bad(), std::set<std::string>{id + (subject.empty() ? "" : " " + subject)});
    shell(spoilt.of(id, subject).command);
    await_good();
  }

  // The kernel asks for a neighbour's address in its own time.
  void await_good() const {
    Report report = check();
    for (int i = 0; i < 40 && report.exit_code != kGood; ++i) {
      ::usleep(50'000);
      report = check();
    }
    EXPECT_EQ(report.bad(), std::set<std::string>{});
    EXPECT_EQ(report.exit_code, kGood);
  }

  std::string directory_;
  std::string pin_path_;
  std::string backend_namespace_;
  std::unique_ptr<Process> backend_;

 private:
  void await_backend_namespace() {
    const auto here = std::filesystem::read_symlink("/proc/self/ns/net");
    for (int i = 0; i < 100; ++i, ::usleep(20'000)) {
      std::string pid = backend_->out();
      if (pid.empty() || pid.back() != '\n') continue;
      pid.pop_back();
      backend_namespace_ = "/proc/" + pid + "/ns/net";
      if (std::filesystem::read_symlink(backend_namespace_) != here) return;
    }
    throw std::runtime_error("the backend's namespace did not come up");
  }
};

UniqueFd foreign_program() {
  const bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  return UniqueFd(
      bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_else", "MIT", pass, std::size(pass), nullptr));
}

int attach(int program_fd, const char* interface, std::uint32_t flags) {
  return bpf_xdp_attach(static_cast<int>(::if_nametoindex(interface)), program_fd, flags, nullptr);
}

TEST_F(CheckSystemTest, ACleanNamespaceIsGood) {
  const Report report = check();
  EXPECT_EQ(report.bad(), std::set<std::string>{});
  EXPECT_EQ(report.exit_code, kGood);
  EXPECT_EQ(report.of("interface.xdp_mode", "to-b1").found, "driver veth: native");
  EXPECT_EQ(report.of("interface.xdp_program", "to-b1").found, "none attached");
  EXPECT_EQ(report.of("service.backends", "web").found,
            "1 of 1 backends: route and neighbour known");
  EXPECT_EQ(report.of("bpf.programs").found, "xdp, tracing, sock_ops");
}

TEST_F(CheckSystemTest, TheNamedCommandsMend) {
  const std::string enter = "nsenter --net=" + backend_namespace_ + " ";
  expect_mended("sysctl -qw net.ipv4.ip_forward=0", "net.ip_forward", "");
  expect_mended("sysctl -qw net.ipv4.conf.to-b1.forwarding=0", "interface.forwarding", "to-b1");
  expect_mended("sysctl -qw net.ipv4.conf.to-b1.rp_filter=1", "interface.rp_filter", "to-b1");
  expect_mended("sysctl -qw net.ipv4.conf.all.rp_filter=2", "interface.rp_filter", "to-b1");
  expect_mended("ip neighbour del 10.77.2.2 dev to-b1", "backend.neighbour", "web/b1");
  expect_mended("ip link set dev to-client mtu 2000", "interface.mtu_equal", "to-client");
  expect_mended("ip link set dev client-end down; ip link set dev to-client down", "interface.up",
                "to-client");
  expect_mended(enter + "ethtool -K eth0 tx on >/dev/null", "interface.veth_checksum", "to-b1");
  expect_mended(enter + "ethtool -K eth0 gro off >/dev/null", "interface.veth_target", "to-b1");
  expect_mended("ip address add 10.77.100.1/32 dev lo", "interface.accept_local", "to-b1");
  expect_mended("sysctl -qw net.ipv4.conf.to-b1.rp_filter=1", "interface.rp_filter", "to-b1");
}

TEST_F(CheckSystemTest, AVipThatIsTakenForANeighbourIsNamed) {
  expect_mended(
      "ip route add 10.77.100.0/24 dev to-client; sysctl -qw "
      "net.ipv4.conf.all.accept_local=1",
      "service.vip", "web");
}

// The kernel refuses native XDP on a veth with fewer receive queues than its far end sends on: the
// check and the kernel have to agree, before and after.
TEST_F(CheckSystemTest, AVethWithTooFewQueuesIsFatalAsTheKernelHasIt) {
  shell(
      "ip link del to-client\n"
      "ip link add to-client numrxqueues 1 numtxqueues 1 type veth"
      "  peer name client-end numrxqueues 2 numtxqueues 2\n"
      "ip link set to-client up; ip link set client-end up\n"
      "ethtool -K client-end tx off gro on >/dev/null");
  const UniqueFd program = foreign_program();
  const Report spoilt = check();
  EXPECT_EQ(spoilt.of("interface.xdp_mode", "to-client").state, "fatal");
  EXPECT_EQ(spoilt.exit_code, kMissing);
  libbpf_set_print(nullptr);  // it would show the kernel's refusal
  EXPECT_LT(attach(program.get(), "to-client", 0), 0);
  shell(spoilt.of("interface.xdp_mode", "to-client").command);
  const Report mended = check();
  EXPECT_EQ(mended.of("interface.xdp_mode", "to-client").state, "good");
  EXPECT_EQ(attach(program.get(), "to-client", 0), 0);
}

TEST_F(CheckSystemTest, AnotherProgramIsAConflictWithItsName) {
  const UniqueFd program = foreign_program();
  ASSERT_TRUE(program);
  for (const std::uint32_t mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    ASSERT_EQ(attach(program.get(), "to-client", mode), 0);
    const Report report = check();
    EXPECT_EQ(report.exit_code, kConflict);
    const Found found = report.of("interface.xdp_program", "to-client");
    EXPECT_EQ(found.state, "fatal");
    EXPECT_NE(found.found.find("\"somebody_else\", loaded by root"), std::string::npos)
        << found.found;
    shell(found.command);
    EXPECT_EQ(check().exit_code, kGood);
  }
}

TEST_F(CheckSystemTest, AnotherProgramsLinkIsEndedByItsNumber) {
  const UniqueFd program = foreign_program();
  const UniqueFd link(bpf_link_create(
      program.get(), static_cast<int>(::if_nametoindex("to-client")), BPF_XDP, nullptr));
  ASSERT_TRUE(link);
  const Found found = check().of("interface.xdp_program", "to-client");
  EXPECT_TRUE(found.command.starts_with("bpftool link detach id ")) << found.command;
  shell(found.command);
  EXPECT_EQ(check().exit_code, kGood);
}

TEST_F(CheckSystemTest, TheProgramOfOurPinnedLinkIsOurs) {
  const UniqueFd program = foreign_program();
  const UniqueFd link(bpf_link_create(
      program.get(), static_cast<int>(::if_nametoindex("to-client")), BPF_XDP, nullptr));
  std::filesystem::create_directories(pin_path_ + "/links");
  ASSERT_EQ(bpf_obj_pin(link.get(), (pin_path_ + "/links/xdp_to-client").c_str()), 0);
  const Report report = check();
  EXPECT_EQ(report.exit_code, kGood);
  EXPECT_TRUE(report.of("interface.xdp_program", "to-client").found.starts_with("petrel's own"));
}

TEST_F(CheckSystemTest, AMissingInterfaceIsFatalAndChangesNothing) {
  shell("ip link set dev to-client name elsewhere");
  const Report report = check();
  EXPECT_EQ(report.exit_code, kMissing);
  EXPECT_EQ(report.bad(), std::set<std::string>{"interface.exists to-client"});
  EXPECT_FALSE(std::filesystem::exists(pin_path_));
}

TEST_F(CheckSystemTest, GenericModeIsDegradedAndItsCommandEditsTheConfiguration) {
  write_config("xdp_mode = \"generic\"\n");
  const Report report = check();
  EXPECT_EQ(report.exit_code, kWarnings);
  shell(report.of("interface.xdp_mode", "to-b1").command);
  EXPECT_EQ(check().exit_code, kGood);
}

// In a mount namespace of its own, where the place of bpffs is covered.
TEST_F(CheckSystemTest, WithoutBpffsTheMountIsNamed) {
  if (::unshare(CLONE_NEWNS) != 0) GTEST_SKIP() << "needs mount namespaces";
  ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(::mount("tmpfs", "/sys/fs/bpf", "tmpfs", 0, nullptr), 0);
  const Report report = check();
  EXPECT_EQ(report.exit_code, kMissing);
  shell(report.of("bpf.bpffs").command);
  EXPECT_EQ(check().exit_code, kGood);
  ::umount2("/sys/fs/bpf", MNT_DETACH);
  ::umount2("/sys/fs/bpf", MNT_DETACH);
}

TEST_F(CheckSystemTest, WithoutCapabilitiesTheyAreNamed) {
  const Finished done = run({"setpriv", "--bounding-set=-all", "--inh-caps=-all", PETREL_BINARY,
                             "check", "--system", "-c", config_path()});
  EXPECT_EQ(done.exit_code, kMissing) << done.err;
  EXPECT_NE(done.out.find("without CAP_NET_ADMIN CAP_BPF CAP_PERFMON"), std::string::npos)
      << done.out;
  EXPECT_EQ(done.out.find('\033'), std::string::npos);
}

}  // namespace
}  // namespace petrel::test
