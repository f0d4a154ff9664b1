// SPDX-License-Identifier: MIT
#include "maps/programs.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <cerrno>
#include <cstdlib>
#include <iterator>

#include "balancer.skel.h"
#include "balancer_old.skel.h"
#include "base/unique_fd.hpp"
#include "sensor.skel.h"
#include "sensor_old.skel.h"

namespace petrel {
namespace {

// *(r10 - 8) = 0; r0 = atomic_fetch_add(r10 - 8, 0)
ProgramSet ask_kernel() {
  constexpr bpf_insn kFetch[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = 10, .src_reg = 0, .off = -8, .imm = 0},
      {.code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = 10, .src_reg = 0, .off = -8,
       .imm = BPF_ADD | BPF_FETCH},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  const UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_XDP, "petrel_fetch", "Dual MIT/GPL", kFetch,
                                       std::size(kFetch), nullptr));
  // What the verifier refuses is EINVAL: want of rights or memory says nothing of the kernel.
  return !program && errno == EINVAL ? ProgramSet::kOld : ProgramSet::kCurrent;
}

bool ask_for_fragments() {
  constexpr bpf_insn kPass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = BPF_F_XDP_HAS_FRAGS);
  return static_cast<bool>(UniqueFd(bpf_prog_load(BPF_PROG_TYPE_XDP, "petrel_frags", "Dual MIT/GPL",
                                                  kPass, std::size(kPass), &options)));
}

// A skeleton whose object is another compile of the same source.
template <class Skeleton>
Skeleton* open(int create(Skeleton*), void destroy(Skeleton*), const void* elf, std::size_t bytes) {
  auto* skeleton = static_cast<Skeleton*>(std::calloc(1, sizeof(Skeleton)));
  if (skeleton == nullptr) return nullptr;
  int rc = create(skeleton);
  if (rc == 0 && elf != nullptr) {
    skeleton->skeleton->data = elf;
    skeleton->skeleton->data_sz = bytes;
  }
  if (rc == 0) rc = bpf_object__open_skeleton(skeleton->skeleton, nullptr);
  if (rc == 0) return skeleton;
  destroy(skeleton);
  errno = -rc;
  return nullptr;
}

}  // namespace

ProgramSet program_set() {
  static const ProgramSet set = ask_kernel();
  return set;
}

bool takes_fragments() {
  static const bool takes = ask_for_fragments();
  return takes;
}

balancer_bpf* open_balancer(ProgramSet set) {
  std::size_t bytes = 0;
  const void* elf = set == ProgramSet::kOld ? balancer_old_bpf__elf_bytes(&bytes) : nullptr;
  balancer_bpf* balancer =
      open(balancer_bpf__create_skeleton, balancer_bpf__destroy, elf, bytes);
  if (balancer == nullptr || set == ProgramSet::kOld) return balancer;
  if (takes_fragments()) {
    bpf_program__set_flags(balancer->progs.petrel_balancer, BPF_F_XDP_HAS_FRAGS);
    balancer->rodata->multi_buffer = true;
  }
  return balancer;
}

sensor_bpf* open_sensor(ProgramSet set) {
  std::size_t bytes = 0;
  const void* elf = set == ProgramSet::kOld ? sensor_old_bpf__elf_bytes(&bytes) : nullptr;
  sensor_bpf* sensor = open(sensor_bpf__create_skeleton, sensor_bpf__destroy, elf, bytes);
  if (sensor == nullptr || set == ProgramSet::kCurrent) return sensor;
  const auto& programs = sensor->progs;
  for (bpf_program* program : {programs.petrel_set_state, programs.petrel_retransmit,
                               programs.petrel_reset_received, programs.petrel_reset_sent}) {
    bpf_program__set_autoload(program, false);
  }
  return sensor;
}

}  // namespace petrel
