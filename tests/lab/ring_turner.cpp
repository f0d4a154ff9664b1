// SPDX-License-Identifier: MIT
#include "tests/lab/ring_turner.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <stdexcept>

#include "base/error.hpp"

namespace petrel::test {
namespace {

constexpr std::chrono::milliseconds kInterval{100};

UniqueFd open_pin(const std::string& path) {
  UniqueFd fd(::bpf_obj_get(path.c_str()));
  if (!fd) throw std::runtime_error("open " + path + ": " + errno_name(errno));
  return fd;
}

std::uint32_t slot_of(int ring, std::uint32_t index) {
  std::uint32_t backend_id = 0;
  if (::bpf_map_lookup_elem(ring, &index, &backend_id) != 0) {
    throw std::runtime_error("read a ring's slot: " + errno_name(errno));
  }
  return backend_id;
}

}  // namespace

RingTurner::RingTurner(const std::string& pin_path) : ring_(open_pin(pin_path + "/ring")) {
  const UniqueFd services = open_pin(pin_path + "/services");
  bpf::service_key key{};
  for (void* last = nullptr; ::bpf_map_get_next_key(services.get(), last, &key) == 0; last = &key) {
    bpf::service service{};
    if (::bpf_map_lookup_elem(services.get(), &key, &service) == 0) services_.push_back(service);
  }
  next_.resize(MAX_BACKENDS);
  for (const bpf::service& service : services_) {
    // All backends have slots in the neutral ring, whatever has become of their weights.
    std::map<std::uint32_t, std::uint32_t> ids;
    for (std::uint32_t slot = 0; slot < service.slots; ++slot) {
      ids[slot_of(ring_.get(), service.neutral_offset + slot)] = 0;
    }
    for (auto it = ids.begin(); it != ids.end(); ++it) {
      const auto after = std::next(it) == ids.end() ? ids.begin() : std::next(it);
      next_.at(it->first) = after->first;
    }
  }
  thread_ = std::thread([this] {
    while (!stopping_) {
      turn();
      std::this_thread::sleep_for(kInterval);
    }
  });
}

void RingTurner::stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void RingTurner::turn() {
  for (const bpf::service& service : services_) turn(service);
  ++turns_;
}

void RingTurner::turn(const bpf::service& service) {
  for (std::uint32_t slot = 0; slot < service.slots; ++slot) {
    const std::uint32_t index = service.ring_offset + slot;
    std::uint32_t now = 0;
    if (::bpf_map_lookup_elem(ring_.get(), &index, &now) != 0 || now >= next_.size()) continue;
    ::bpf_map_update_elem(ring_.get(), &index, &next_[now], BPF_ANY);
  }
}

}  // namespace petrel::test
