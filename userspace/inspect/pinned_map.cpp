// SPDX-License-Identifier: MIT
#include "inspect/pinned_map.hpp"

#include <bpf/bpf.h>

#include "maps/bpf_error.hpp"

namespace petrel::inspect {

Result<PinnedMap> open_pinned_map(const std::string& pin_path, const std::string& name,
                                  std::size_t key_bytes, std::size_t value_bytes,
                                  bool to_be_mapped) {
  const std::string path = pin_path + "/" + name;
  // Of a file opened for reading only, mmap() makes a private mapping, which the kernel's maps
  // refuse (EINVAL). The mapping itself is for reading only.
  const std::uint32_t flags = to_be_mapped ? 0 : BPF_F_RDONLY;
  LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = flags);
  PinnedMap map{UniqueFd(bpf_obj_get_opts(path.c_str(), &options)), 0};
  if (!map.fd && errno == ENOENT) {
    return Error(ExitCode::kUnreachable,
                 "nothing is pinned at " + path +
                     ": is petrel running with this agent.pin_path? (-c CONFIG or --pin-path)");
  }
  if (!map.fd) return bpf_error(-errno, "open the map pinned at " + path);
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  const int rc = bpf_obj_get_info_by_fd(map.fd.get(), &info, &bytes);
  if (rc != 0) return bpf_error(rc, "look at the map pinned at " + path);
  if (info.key_size != key_bytes || info.value_size != value_bytes) {
    return Error(ExitCode::kConflict, "the map pinned at " + path +
                                          " has another layout: it is of another version of "
                                          "petrel: use that one's `petrel`");
  }
  map.entries = info.max_entries;
  return map;
}

}  // namespace petrel::inspect
