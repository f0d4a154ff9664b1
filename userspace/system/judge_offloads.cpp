// SPDX-License-Identifier: MIT
// Offloads: what a network card, or a veth pair, does to packets before XDP sees them or after.
#include "system/judges.hpp"

namespace petrel {
namespace {

bool is_on(const Offloads& offloads, const char* name) {
  const auto found = offloads.find(name);
  return found != offloads.end() && found->second.on;
}

// "" where the driver does not let it be switched.
std::string switch_off(const InterfaceFacts& interface, const char* name) {
  const auto found = interface.offloads.find(name);
  if (found == interface.offloads.end() || found->second.fixed) return {};
  return "ethtool -K " + interface.name + " " + name + " off";
}

// Both merge packets before XDP. Generic mode switches them off by itself; a driver that has
// already taken our program has dealt with them.
void judge_merging(const AgentConfig& agent, const InterfaceFacts& interface, Checks& checks) {
  const bool settled = agent.xdp_mode == XdpMode::kGeneric || interface.xdp.ours;
  constexpr const char* kLro = "rx-lro";
  constexpr const char* kGroHardware = "rx-gro-hw";
  if (is_on(interface.offloads, kLro) && !settled) {
    checks.push_back(fatal("interface.lro", interface.name, "large receive offload is on",
                           "drivers refuse native XDP beside it: the agent does not start",
                           switch_off(interface, kLro)));
  } else {
    checks.push_back(good("interface.lro", interface.name, "large receive offload is off"));
  }
  if (is_on(interface.offloads, kGroHardware) && !settled) {
    checks.push_back(degraded("interface.gro_hw", interface.name, "GRO in hardware is on",
                              "some drivers refuse native XDP beside it, others switch it off",
                              switch_off(interface, kGroHardware)));
  }
}

// A veth hands the tag over beside the frame whatever its own setting: there the sender's counts.
void judge_vlan(const InterfaceFacts& interface, Checks& checks) {
  constexpr const char* kStripping = "rx-vlan-hw-parse";
  if (!is_on(interface.offloads, kStripping)) {
    checks.push_back(good("interface.vlan", interface.name, "VLAN tags stay in the frame"));
  } else {
    checks.push_back(degraded("interface.vlan", interface.name,
                              "VLAN tags are taken out of the frame",
                              "XDP does not see the tag: tagged frames are forwarded without it",
                              switch_off(interface, kStripping)));
  }
}

// A frame redirected into a veth is put on a ring that its far end polls only with GRO or an XDP
// program. Since 6.3 the kernel also asks this end's XdpTarget flag, which it sets when the far end
// is given either: one switched on while that end was down goes unnoticed, and frames are dropped.
// A change of queues sets the flag by this end's state instead, so the far end is asked as well.
void judge_veth_target(const InterfaceFacts& interface, Checks& checks) {
  const bool flagged = !interface.xdp_features || (*interface.xdp_features & kXdpTarget) != 0;
  const PeerFacts* peer = interface.peer ? &*interface.peer : nullptr;
  const bool polls = peer == nullptr || peer->has_xdp || is_on(peer->offloads, "rx-gro");
  const std::string end = peer != nullptr ? "the far end, " + peer->name + "," : "the far end";
  if (flagged && polls) {
    checks.push_back(
        good("interface.veth_target", interface.name, end + " takes redirected frames"));
    return;
  }
  const std::string ethtool =
      peer != nullptr ? peer->enter + "ethtool -K " + peer->name : "ethtool -K PEER";
  checks.push_back(degraded("interface.veth_target", interface.name,
                            end + (polls ? " is not known to take redirected frames"
                                         : " has neither GRO nor an XDP program"),
                            "frames redirected to it are dropped",
                            // Only a change is noticed.
                            (polls ? ethtool + " gro off && " : "") + ethtool + " gro on"));
}

void judge_veth(const InterfaceFacts& interface, Checks& checks) {
  judge_veth_target(interface, checks);
  if (!interface.peer) {
    checks.push_back(good("interface.veth_checksum", interface.name,
                          "the veth's far end is not to be seen from here",
                          "`ethtool -K NAME tx off` there makes it finish its checksums"));
    return;
  }
  const PeerFacts& peer = *interface.peer;
  const std::string ethtool = peer.enter + "ethtool -K " + peer.name + " ";
  if (is_on(peer.offloads, "tx-checksum-ip-generic")) {
    checks.push_back(degraded("interface.veth_checksum", interface.name,
                              "the far end, " + peer.name + ", leaves checksums unfinished",
                              "what is balanced from there arrives with a wrong checksum and is "
                              "dropped",
                              ethtool + "tx off"));
  } else {
    checks.push_back(good("interface.veth_checksum", interface.name,
                          "the far end, " + peer.name + ", finishes its checksums"));
  }
  if (is_on(peer.offloads, "tx-vlan-hw-insert")) {
    checks.push_back(good("interface.vlan", interface.name,
                          "the far end, " + peer.name + ", hands VLAN tags over beside the frame",
                          "where tagged frames come from there, XDP does not see the tag: " +
                              ethtool + "txvlan off"));
  } else {
    checks.push_back(good("interface.vlan", interface.name, "VLAN tags stay in the frame"));
  }
}

}  // namespace

void judge_offloads(const AgentConfig& agent, const InterfaceFacts& interface, Checks& checks) {
  judge_merging(agent, interface, checks);
  if (interface.driver == "veth") {
    judge_veth(interface, checks);
  } else {
    judge_vlan(interface, checks);
  }
}

}  // namespace petrel
