// SPDX-License-Identifier: MIT
#include "tests/lab/lab_config.hpp"

namespace petrel::test {
namespace {

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

std::string port_line(int port) {
  return port == 0 ? "" : "port = " + std::to_string(port) + "\n";
}

std::string service_text(const Facts& lab, const LabOptions& options, const ServiceSetup& service) {
  const Family backends = options.over_v6 ? Family::kV6 : service.family;
  std::string text = "[[service]]\nname = " + quoted(service.name) +
                     "\naddress = " + quoted(vip_address(lab, service.family)) + "\n" +
                     port_line(service.port) + (options.dsr ? "forward = \"dsr\"\n" : "") +
                     service.lines + "\n";
  for (int i = 1; i <= options.backends; ++i) {
    text += "[[service.backend]]\nname = " + quoted("b" + std::to_string(i)) +
            "\naddress = " + quoted(node_address(lab, i, backends)) + "\n" +
            port_line(options.dsr ? 0 : service.backend_port);
  }
  return text;
}

std::string interface_list(const LabOptions& options, const AgentSetup& setup) {
  std::string list = quoted("to-client");
  for (int i = 1; i <= options.backends && !setup.client_side_only; ++i) {
    list += ", " + quoted("to-b" + std::to_string(i));
  }
  for (const std::string& more : setup.interfaces) list += ", " + quoted(more);
  return list;
}

}  // namespace

std::string node_address(const Facts& lab, int number, Family family) {
  return lab.text("/nodes/" + std::to_string(number) +
                  (family == Family::kV4 ? "/address4" : "/address6"));
}

std::string vip_address(const Facts& lab, Family family) {
  return lab.text(family == Family::kV4 ? "/vip4" : "/vip6");
}

std::string config_text(const Facts& lab, const LabOptions& options, const AgentSetup& setup,
                        const std::string& socket, const std::string& default_model) {
  std::string text = "[agent]\npin_path = " + quoted(lab.text("/pin_path")) +
                     "\nsocket = " + quoted(socket) +
                     (setup.balances ? "\ninterfaces = [" + interface_list(options, setup) + "]" : "") +
                     "\nstate_dir = " + quoted(socket + ".state") + "\nmodel = " +
                     quoted(setup.model.empty() ? default_model : setup.model) +
                     "\nmode = " + quoted(setup.mode) + "\n" + setup.agent_lines +
                     "\n[control]\n" + setup.control_lines + "\n";
  for (const Family family : options.families) {
    text += service_text(lab, options,
                         {.name = family == Family::kV4 ? "web" : "web6",
                          .port = kServicePort,
                          .backend_port = kBackendPort,
                          .family = family,
                          .lines = setup.service_lines});
  }
  for (const ServiceSetup& service : setup.services) text += service_text(lab, options, service);
  return text;
}

}  // namespace petrel::test
