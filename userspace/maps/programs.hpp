// SPDX-License-Identifier: MIT
// The BPF objects, opened: those of this kernel.
//
// Each is compiled twice, from the same source (bpf/drift.bpf.h): for Linux 5.12 and later, and for
// 5.10. Both have the same maps and constants, and so the same skeleton.
#pragma once

struct balancer_bpf;
struct sensor_bpf;

namespace petrel {

enum class ProgramSet {
  kCurrent,
  kOld,  // the kernel has no atomic operations that answer (BPF_FETCH, Linux 5.12)
};

// What this kernel takes; asked once, by a program of five instructions. kCurrent where it cannot be
// asked, for want of rights: what is loaded then says so.
ProgramSet program_set();

// Whether the kernel gives a program packets in several buffers (BPF_F_XDP_HAS_FRAGS, Linux 5.18); the
// balancer of kCurrent takes them then. A tail call is between programs that are alike in that.
bool takes_fragments();

// Opened and not loaded; to be destroyed by balancer_bpf__destroy(). nullptr and errno: it failed.
balancer_bpf* open_balancer(ProgramSet set = program_set());

// The same of the sensor. Of kOld the tracepoints that need a socket's storage (Linux 5.11) are not
// loaded: its sockops tell of what they would, but for resets.
sensor_bpf* open_sensor(ProgramSet set = program_set());

}  // namespace petrel
