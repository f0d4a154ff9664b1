// SPDX-License-Identifier: MIT
#include "tests/lab/connection_table.hpp"

#include <bpf/bpf.h>

#include <stdexcept>

#include "base/unique_fd.hpp"

namespace petrel::test {

std::vector<bpf::connection> read_connections(const std::string& pin_path) {
  const std::string pin = pin_path + "/connections";
  const UniqueFd map(bpf_obj_get(pin.c_str()));
  if (!map) throw std::runtime_error("open " + pin);
  std::vector<bpf::connection> connections;
  bpf::connection_key key{};
  bpf::connection value{};
  for (int rc = bpf_map_get_next_key(map.get(), nullptr, &key); rc == 0;
       rc = bpf_map_get_next_key(map.get(), &key, &key)) {
    if (bpf_map_lookup_elem(map.get(), &key, &value) == 0) connections.push_back(value);
  }
  return connections;
}

}  // namespace petrel::test
