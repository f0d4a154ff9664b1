// SPDX-License-Identifier: MIT
#include "maps/endpoint_table.hpp"

#include <atomic>

#include "bpf/hash.h"
#include "config/address.hpp"

namespace petrel {
namespace {

bool same_endpoint(const bpf::endpoint& a, const bpf::endpoint& b) {
  return a.port_be == b.port_be && a.protocol == b.protocol && same_address(a.address, b.address);
}

}  // namespace

Result<EndpointTable> EndpointTable::open(int map_fd) {
  auto slots = MappedArray<bpf::endpoint>::open(map_fd, ENDPOINT_SLOTS);
  if (!slots) return slots.error().within("endpoints");
  EndpointTable table;
  table.slots_ = std::move(*slots);
  return table;
}

void EndpointTable::put(const bpf::service_key& key, const bpf::service& service) {
  bpf::endpoint entry{};
  entry.address = key.vip;
  entry.port_be = key.port_be;
  entry.protocol = key.protocol;
  entry.kind = bpf::ENDPOINT_SERVICE;
  entry.service = service;
  put(entry);
}

void EndpointTable::put(const bpf::backend_key& key, std::uint32_t backend_id) {
  bpf::endpoint entry{};
  entry.address = key.address;
  entry.port_be = key.port_be;
  entry.protocol = key.protocol;
  entry.kind = bpf::ENDPOINT_BACKEND;
  entry.backend_id = backend_id;
  put(entry);
}

void EndpointTable::put(bpf::endpoint entry) {
  bpf::endpoint& slot =
      slots_[bpf::hash_endpoint(&entry.address, entry.port_be, entry.protocol)];
  if (slot.kind != bpf::ENDPOINT_FREE && !same_endpoint(slot, entry)) return;
  const std::uint8_t kind = entry.kind;
  entry.kind = bpf::ENDPOINT_FREE;
  std::atomic_ref(slot.kind).store(bpf::ENDPOINT_FREE, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  slot = entry;
  std::atomic_ref(slot.kind).store(kind, std::memory_order_release);
}

void EndpointTable::erase_if(const std::function<bool(const bpf::endpoint&)>& gone) {
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    bpf::endpoint& slot = slots_[i];
    if (slot.kind == bpf::ENDPOINT_FREE || !gone(slot)) continue;
    std::atomic_ref(slot.kind).store(bpf::ENDPOINT_FREE, std::memory_order_release);
  }
}

}  // namespace petrel
