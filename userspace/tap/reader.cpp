// SPDX-License-Identifier: MIT
#include "tap/reader.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.hpp"
#include "maps/bpf_error.hpp"

namespace petrel::tap {
namespace {

// All buffers together, and what one CPU's may be: it holds both records of 350 to 5,600 packets of
// 1,500 bytes. The kernel wants a power of two.
constexpr std::size_t kTotalBytes = 64u << 20;
constexpr std::size_t kLeastBytes = 1u << 20;
constexpr std::size_t kMostBytes = 16u << 20;

std::size_t buffer_bytes() {
  const int cpus = libbpf_num_possible_cpus();
  const std::size_t share = kTotalBytes / static_cast<std::size_t>(std::max(cpus, 1));
  return std::bit_floor(std::clamp(share, kLeastBytes, kMostBytes));
}

struct PerfBufferDeleter {
  void operator()(perf_buffer* buffer) const { perf_buffer__free(buffer); }
};

// Layouts of perf_event_open(2), of events with sample_type PERF_SAMPLE_RAW alone.
struct SampleRecord {
  perf_event_header header;
  std::uint32_t data_bytes;
  std::byte data[];
};
struct LostRecord {
  perf_event_header header;
  std::uint64_t id;
  std::uint64_t lost;
};

// perf rounds a record up to 8 bytes, and the padding is whatever the buffer held before. A packet
// that came whole is cut to its length; of one that was cut short up to 7 bytes are given up.
std::size_t certain_bytes(std::size_t data_bytes, std::uint32_t packet_bytes) {
  constexpr std::size_t kMostPadding = 7;
  if (data_bytes >= packet_bytes) return packet_bytes;
  return data_bytes - std::min(data_bytes, kMostPadding);
}

}  // namespace

struct TapReader::State {
  OnSample on_sample;
  UniqueFd map;  // only if opened by name
  std::unique_ptr<perf_buffer, PerfBufferDeleter> buffer;
  std::uint64_t lost = 0;

  void take(int cpu, const SampleRecord& record) {
    if (record.data_bytes < sizeof(bpf::tap_header)) return;
    Sample sample;
    sample.cpu = cpu;
    std::memcpy(&sample.header, record.data, sizeof(sample.header));
    const std::byte* packet = record.data + sizeof(sample.header);
    sample.bytes.assign(packet, packet + certain_bytes(record.data_bytes - sizeof(sample.header),
                                                       sample.header.packet_bytes));
    on_sample(std::move(sample));
  }

  static bpf_perf_event_ret on_event(void* context, int cpu, perf_event_header* event) {
    auto& state = *static_cast<State*>(context);
    if (event->type == PERF_RECORD_SAMPLE) {
      state.take(cpu, *reinterpret_cast<const SampleRecord*>(event));
    } else if (event->type == PERF_RECORD_LOST) {
      state.lost += reinterpret_cast<const LostRecord*>(event)->lost;
    }
    return LIBBPF_PERF_EVENT_CONT;
  }
};

TapReader::TapReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TapReader::TapReader(TapReader&&) noexcept = default;
TapReader& TapReader::operator=(TapReader&&) noexcept = default;
TapReader::~TapReader() = default;

Result<TapReader> TapReader::open(const std::string& pinned_map, OnSample on_sample) {
  UniqueFd map(bpf_obj_get(pinned_map.c_str()));
  if (!map) return bpf_error(errno, "open the tap's map " + pinned_map);
  auto reader = open_fd(map.get(), std::move(on_sample));
  if (reader) reader->state_->map = std::move(map);
  return reader;
}

Result<TapReader> TapReader::open_fd(int map_fd, OnSample on_sample) {
  auto state = std::make_unique<State>();
  state->on_sample = std::move(on_sample);
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  perf_event_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_BPF_OUTPUT;
  attributes.sample_type = PERF_SAMPLE_RAW;
  attributes.sample_period = 1;
  // Not a wake-up for each packet: that would cost the balancer an interrupt.
  attributes.watermark = 1;
  attributes.wakeup_watermark = static_cast<__u32>(buffer_bytes() / 4);
  state->buffer.reset(perf_buffer__new_raw(map_fd, buffer_bytes() / page_bytes, &attributes,
                                           State::on_event, state.get(), nullptr));
  if (!state->buffer) return bpf_error(errno, "open the tap's buffers");
  return TapReader(std::move(state));
}

Result<void> TapReader::poll(std::chrono::milliseconds timeout) {
  const int ready = perf_buffer__poll(state_->buffer.get(), static_cast<int>(timeout.count()));
  if (ready < 0 && ready != -EINTR) return bpf_error(ready, "wait for tapped packets");
  if (const int rc = perf_buffer__consume(state_->buffer.get()); rc < 0) {
    return bpf_error(rc, "read tapped packets");
  }
  return {};
}

std::uint64_t TapReader::lost() const {
  return state_->lost;
}

}  // namespace petrel::tap
