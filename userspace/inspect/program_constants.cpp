// SPDX-License-Identifier: MIT
#include "inspect/program_constants.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "base/unique_fd.hpp"
#include "maps/attachment.hpp"
#include "maps/bpf_error.hpp"

namespace petrel::inspect {
namespace {

struct FreeBtf {
  void operator()(btf* types) const { btf__free(types); }
};

Error none(const std::string& pin_path) {
  return Error(ExitCode::kUnreachable, "no XDP link is pinned under " + links_path(pin_path));
}

Result<std::uint32_t> program_behind(const std::string& pin_path) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(links_path(pin_path), error)) {
    LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = BPF_F_RDONLY);
    UniqueFd link(bpf_obj_get_opts(entry.path().c_str(), &options));
    // Kernels open links for reading and writing only.
    if (!link) link.reset(bpf_obj_get(entry.path().c_str()));
    bpf_link_info info{};
    std::uint32_t bytes = sizeof(info);
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &bytes) != 0) continue;
    if (info.type == BPF_LINK_TYPE_XDP && info.prog_id != 0) return info.prog_id;
  }
  return none(pin_path);
}

// Where a variable lies in its section, and how long it is.
struct Variable {
  std::uint32_t offset;
  std::uint32_t bytes;
};

class ReadOnlyData {
 public:
  ReadOnlyData(std::unique_ptr<btf, FreeBtf> types, std::uint32_t section,
               std::vector<std::byte> bytes)
      : types_(std::move(types)), section_(section), bytes_(std::move(bytes)) {}

  // Leaves `value` as it is where the program has no such variable, or one of another size.
  template <class T>
  void read(std::string_view name, T& value) const {
    const Variable variable = find(name);
    if (variable.bytes != sizeof(T) || variable.offset + sizeof(T) > bytes_.size()) return;
    std::memcpy(&value, bytes_.data() + variable.offset, sizeof(T));
  }

 private:
  Variable find(std::string_view name) const {
    const btf_type* section = btf__type_by_id(types_.get(), section_);
    const btf_var_secinfo* variable = btf_var_secinfos(section);
    for (std::uint16_t i = 0; i < btf_vlen(section); ++i, ++variable) {
      const btf_type* type = btf__type_by_id(types_.get(), variable->type);
      if (name == btf__name_by_offset(types_.get(), type->name_off)) {
        return {variable->offset, variable->size};
      }
    }
    return {0, 0};
  }

  std::unique_ptr<btf, FreeBtf> types_;
  std::uint32_t section_;
  std::vector<std::byte> bytes_;
};

// nullopt-like: an error says which map it is not.
Result<ReadOnlyData> read_data(std::uint32_t map_id) {
  const UniqueFd map(bpf_map_get_fd_by_id(map_id));
  if (!map) return bpf_error(-errno, "open a map of the program");
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  if (const int rc = bpf_obj_get_info_by_fd(map.get(), &info, &bytes); rc != 0) {
    return bpf_error(rc, "look at a map of the program");
  }
  // The kernel cuts names: "balancer.rodata". Its value is the section, as BTF describes it.
  std::unique_ptr<btf, FreeBtf> types(
      info.btf_id == 0 ? nullptr : btf__load_from_kernel_by_id(info.btf_id));
  if (!types || !std::string_view(info.name).ends_with(".rodata")) {
    return Error(ExitCode::kRuntime, "not the program's constants");
  }
  std::vector<std::byte> value(info.value_size);
  const std::uint32_t zero = 0;
  if (const int rc = bpf_map_lookup_elem(map.get(), &zero, value.data()); rc != 0) {
    return bpf_error(rc, "read the program's constants");
  }
  return ReadOnlyData(std::move(types), info.btf_value_type_id, std::move(value));
}

}  // namespace

Result<ProgramConstants> read_program_constants(const std::string& pin_path) {
  const auto id = program_behind(pin_path);
  if (!id) return id.error();
  const UniqueFd program(bpf_prog_get_fd_by_id(*id));
  if (!program) return bpf_error(-errno, "open the attached program");
  std::vector<std::uint32_t> maps(64);
  bpf_prog_info info{};
  info.nr_map_ids = static_cast<std::uint32_t>(maps.size());
  info.map_ids = reinterpret_cast<std::uintptr_t>(maps.data());
  std::uint32_t bytes = sizeof(info);
  if (const int rc = bpf_obj_get_info_by_fd(program.get(), &info, &bytes); rc != 0) {
    return bpf_error(rc, "look at the attached program");
  }
  maps.resize(std::min<std::size_t>(maps.size(), info.nr_map_ids));
  for (const std::uint32_t map : maps) {
    const auto data = read_data(map);
    if (!data) continue;
    ProgramConstants constants;
    data->read("retry_window_ns", constants.retry_window_ns);
    data->read("handshake_timeout_ns", constants.handshake_timeout_ns);
    data->read("failover_after_ns", constants.failover_after_ns);
    data->read("half_open_secret", constants.half_open_secret);
    data->read("half_open_mask", constants.half_open_mask);
    data->read("pending_mask", constants.pending_mask);
    data->read("wire_sensor", constants.wire_sensor);
    return constants;
  }
  return Error(ExitCode::kRuntime, "the attached program tells nothing of its constants");
}

}  // namespace petrel::inspect
