// SPDX-License-Identifier: MIT
#include "tests/bench/driver.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "bpf/features.h"
#include "bpf/model.h"

// The skeleton names them without a namespace.
using petrel::bpf::backend_view;
using petrel::bpf::observation;
using petrel::bpf::scoring_model;
using petrel::bpf::service_view;

#include "bench.skel.h"
#include "maps/programs.hpp"
#include "tests/bench/world.hpp"

namespace petrel::bench {
namespace {

constexpr int kLoopback = 1;  // of a new network namespace

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));
}

// As in bench.bpf.c.
struct FlowKey {
  std::array<std::uint8_t, 4> source, destination;
  std::array<std::uint8_t, 4> ports;
  std::uint32_t protocol;
};

std::uint32_t time_of(int program_fd, const std::vector<std::uint8_t>& packet,
                      std::uint32_t packets, int& action) {
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<std::uint32_t>(packet.size());
  options.repeat = static_cast<int>(packets);
  require(bpf_prog_test_run_opts(program_fd, &options) == 0, "run a stream of packets");
  action = static_cast<int>(options.retval);
  return options.duration;
}

}  // namespace

Driver::Driver() {
  require(unshare(CLONE_NEWNET) == 0, "enter a network namespace (needs root)");
  skeleton_ = bench_bpf__open();
  require(skeleton_ != nullptr, "open the benchmark's driver");
  bpf_program* each = nullptr;
  bpf_object__for_each_program(each, skeleton_->obj) {
    // It goes on to the balancer: see takes_fragments().
    if (takes_fragments()) bpf_program__set_flags(each, BPF_F_XDP_HAS_FRAGS);
  }
  require(bench_bpf__load(skeleton_) == 0, "load the benchmark's driver (needs root)");
  const int attached = bpf_xdp_attach(kLoopback, bpf_program__fd(skeleton_->progs.bench_driver),
                                      XDP_FLAGS_SKB_MODE, nullptr);
  errno = -attached;
  require(attached == 0, "attach the benchmark's driver to loopback");
  for (const bpf_program* program : {skeleton_->progs.bench_empty, skeleton_->progs.bench_grow_head,
                                     skeleton_->progs.bench_cut_tail, skeleton_->progs.bench_lru,
                                     skeleton_->progs.bench_score, skeleton_->progs.bench_features}) {
    add_target(bpf_program__fd(program));  // in the order of Reference
  }
}

Driver::~Driver() { bench_bpf__destroy(skeleton_); }

std::uint32_t Driver::add_target(int program_fd) {
  const std::uint32_t target = targets_++;
  require(bpf_map_update_elem(bpf_map__fd(skeleton_->maps.targets), &target, &program_fd,
                              BPF_ANY) == 0,
          "add a program to the driver's targets");
  return target;
}

void Driver::fill_reference_flows(std::uint32_t flows) {
  const std::array<std::uint64_t, 4> value{};
  for (std::uint32_t flow = 0; flow < flows; ++flow) {
    const auto packet = syn_packet(flow_source(flow));
    FlowKey key{};
    const auto at = [&](std::size_t offset) {
      return packet.begin() + static_cast<std::ptrdiff_t>(offset);
    };
    std::copy_n(at(26), 4, key.source.begin());
    std::copy_n(at(30), 4, key.destination.begin());
    std::copy_n(at(34), 4, key.ports.begin());
    key.protocol = 6;
    require(bpf_map_update_elem(bpf_map__fd(skeleton_->maps.reference_flows), &key, value.data(),
                                BPF_ANY) == 0,
            "fill the reference table");
  }
}

void Driver::fill_scoring() {
  bpf::scoring_model& model = skeleton_->bss->scored_by;
  model.shift = 36;
  for (int i = 0; i < bpf::FEATURES; ++i) {
    bpf::scoring_group& group = model.groups[i / SCORING_GROUP];
    group.factor[i % SCORING_GROUP] = (i % 3 - 1) * (std::int64_t{1} << 36) / 5;
    group.span_q16[i % SCORING_GROUP] = 10 * Q16_ONE;
    const bool is_zero = i / SCORING_GROUP % 2 != 0;
    skeleton_->bss->scored_features_q16[i] = is_zero ? 0 : (i + 1) * Q16_ONE / 5;
  }
  for (int knot = 0; knot < CALIBRATION_KNOTS; ++knot) {
    model.knots_q16[knot] = CALIBRATION_FIRST_Q16 + (knot << CALIBRATION_STEP_SHIFT);
  }
  bpf::service_view& service = skeleton_->bss->scored_service;
  service.usual_response_log2_q16 = 24 * Q16_ONE;  // 17 ms
  service.usual_connect_log2_q16 = 19 * Q16_ONE;
  service.usual_srtt_log2_q16 = 9 * Q16_ONE;
  service.response_spread_q16 = Q16_ONE / 2;
  bpf::observation& seen = skeleton_->bss->scored;
  seen = {};
  seen.elapsed_ns = 90'000'000;
  seen.connect_ns = 700'000;
  seen.request_bytes = 5000;
  seen.srtt_us = 400;
  seen.repeats = 2;
  seen.point = bpf::POINT_ANSWER;
  seen.failure = bpf::FAILURE_SERVER_ERROR;
  seen.attempt = 2;
  seen.method = bpf::METHOD_POST;
}

std::uint32_t Driver::run(bench_stream& stream, const std::vector<std::uint8_t>& packet,
                          std::uint32_t packets, int& action) {
  stream.packet_bytes = static_cast<std::uint32_t>(packet.size());
  std::copy_n(packet.begin(), BENCH_HEADER_BYTES, stream.header);
  skeleton_->bss->stream = stream;
  const std::uint32_t took =
      time_of(bpf_program__fd(skeleton_->progs.bench_driver), packet, packets, action);
  stream = skeleton_->bss->stream;
  return took;
}

std::uint32_t Driver::run_empty(std::uint32_t packets) {
  int action = -1;
  return time_of(bpf_program__fd(skeleton_->progs.bench_empty), syn_packet(flow_source(0)), packets,
                 action);
}

}  // namespace petrel::bench
