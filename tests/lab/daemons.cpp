// SPDX-License-Identifier: MIT
#include "tests/lab/daemons.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

namespace petrel::test {
namespace fs = std::filesystem;

namespace {

std::string backend_name(int number) { return "b" + std::to_string(number); }

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string succeed(const std::vector<std::string>& argv) {
  const Finished finished = run(argv);
  if (finished.exit_code != 0) throw std::runtime_error(argv[0] + ": " + finished.err);
  return finished.out;
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = fs::temp_directory_path() / "petrel-lab-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void write_random_file(const std::string& path, std::size_t bytes) {
  std::mt19937_64 random(std::random_device{}());
  std::string text(bytes, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("write " + path);
}

bool same_contents(const std::string& left, const std::string& right) {
  return contents(left) == contents(right);
}

std::string sha256_of(const std::string& path) {
  return succeed({"sha256sum", path}).substr(0, 64);
}

void start_file_servers(Lab& lab, int port, const std::string& file) {
  for (int i = 1; i <= lab.backends(); ++i) {
    lab.start(backend_name(i), {"python3", "-ISu", PETREL_FILE_SERVER, std::to_string(port),
                                backend_name(i), file});
  }
  for (int i = 1; i <= lab.backends(); ++i) lab.await_listener(backend_name(i), port);
}

void start_dns_servers(Lab& lab, int port) {
  for (int i = 1; i <= lab.backends(); ++i) {
    // Nothing of the host's own: no file, no upstream server, no pid file, no change of user.
    lab.start(backend_name(i),
              {"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
               "--no-hosts", "--no-poll", "--pid-file=", "--user=root", "--log-facility=-",
               "--port=" + std::to_string(port),
               "--txt-record=" + std::string(kDnsName) + "," + backend_name(i)});
  }
  for (int i = 1; i <= lab.backends(); ++i) lab.await_listener(backend_name(i), port, "udp");
}

void start_iperf_servers(Lab& lab, int port) {
  for (int i = 1; i <= lab.backends(); ++i) {
    lab.start(backend_name(i), {"iperf3", "--server", "--port", std::to_string(port)});
  }
  for (int i = 1; i <= lab.backends(); ++i) lab.await_listener(backend_name(i), port);
}

// --- ssh -----------------------------------------------------------------------------------------

Sshd::Sshd(Lab& lab, int port) : lab_(lab), port_(port) {
  const auto make_key = [&](const std::string& file) {
    succeed({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", directory_.path(file)});
  };
  make_key("client_key");
  for (int i = 1; i <= lab.backends(); ++i) {
    const std::string name = backend_name(i);
    make_key(name + "_key");
    std::ofstream(directory_.path(name + ".conf"))
        << "Port " << port << "\nHostKey " << directory_.path(name + "_key")
        << "\nAuthorizedKeysFile " << directory_.path("client_key.pub")
        << "\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
           "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
           "PrintLastLog no\nUseDNS no\nMaxStartups 100\n";
    // sshd wants /run/sshd, which hosts without an ssh service of their own do not have.
    lab.start(name, {"unshare", "--mount", "--propagation", "private", "--", "sh", "-ec",
                     "mount -t tmpfs -o mode=0755 tmpfs /run; mkdir -m 0755 /run/sshd;"
                     "exec /usr/sbin/sshd -D -e -f \"$0\"",
                     directory_.path(name + ".conf")});
  }
  write_known_hosts();
  for (int i = 1; i <= lab.backends(); ++i) lab.await_listener(backend_name(i), port);
}

// Whichever backend answers for the VIP, its key is one of those.
void Sshd::write_known_hosts() const {
  std::ofstream file(directory_.path("known_hosts"));
  for (int i = 1; i <= lab_.backends(); ++i) {
    file << "* " << contents(directory_.path(backend_name(i) + "_key.pub"));
  }
}

std::string Sshd::client_line(Family family, const std::string& command) const {
  std::string line = "ssh -F none -i " + directory_.path("client_key") + " -p " +
                     std::to_string(port_);
  for (const char* option : {"IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=yes",
                             "GlobalKnownHostsFile=none", "UpdateHostKeys=no", "ConnectTimeout=5",
                             "LogLevel=ERROR"}) {
    line += std::string(" -o ") + option;
  }
  return line + " -o UserKnownHostsFile=" + directory_.path("known_hosts") + " root@" +
         lab_.vip(family) + " '" + command + "'";
}

}  // namespace petrel::test
