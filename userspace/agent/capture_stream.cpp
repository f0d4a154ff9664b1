// SPDX-License-Identifier: MIT
#include "agent/capture_stream.hpp"

#include <algorithm>

#include "telemetry/csv.hpp"

namespace petrel {
namespace {

// The row's table before it; features and all else as the trainer's CSV has them.
std::string row_line(const std::string& run, const LabelledRow& row) {
  return "rows," + csv_line(run, row);
}

}  // namespace

Agent::Capture::Capture(const boost::asio::any_io_executor& executor, CaptureWish wish,
                        ClientMask mask, LabellerOptions options, const Losses& losses)
    : wish_(std::move(wish)),
      mask_(mask),
      stream_(std::make_shared<LineStream>(executor, std::size_t{64} << 20)),
      labeller_(options,
                [this](const LabelledRow& row) { stream_->push(row_line(wish_.run, row)); }),
      told_events_(losses.events_lost()),
      told_records_(losses.records_lost()) {}

void Agent::Capture::begin_tick(Agent& agent, std::uint64_t tick) {
  if (!checkpoint_due_) return;
  checkpoint_due_ = false;
  names_ = CaptureNames(agent.services());
  const std::uint64_t dropped = stream_->dropped_lines();
  stream_->push(checkpoint_line(tick));
  last_.clear();
  if (wish_.replay) {
    StateOut state;
    agent.loop_.save(state);
    for (const std::string& line : state_lines(tick, state)) stream_->push(line);
  }
  // Half a checkpoint is none: the next tick tries again.
  checkpoint_due_ = stream_->dropped_lines() != dropped;
}

void Agent::Capture::on_event(std::uint64_t tick, const bpf::event& event) {
  bpf::event masked = event;
  masked.key.client = mask_.mask(event.key.client);
  if (wish_.replay) stream_->push(event_line(tick, masked, mask_));
  if (wish_.requests && event.type == bpf::EVENT_NO_RETRY) {
    stream_->push(withdrawn_line(masked, mask_));
  }
  if (wish_.rows) labeller_.on_event(masked);
}

void Agent::Capture::on_record(const bpf::record& record) {
  if (!wish_.requests) return;
  bpf::record masked = record;
  masked.key.client = mask_.mask(record.key.client);
  stream_->push(request_line(wish_.run, masked, names_, mask_));
}

void Agent::Capture::end_tick(const Agent& agent, TickFacts tick) {
  if (wish_.replay) {
    for (const ServiceLoop& service : agent.services()) {
      for (const BackendLoop& backend : service.backends()) {
        const BackendTick inputs{backend.probe, backend.waiting_syn.groups(),
                                 backend.waiting.groups()};
        const Decided decided = Decided::of(backend);
        const auto [last, first] = last_.try_emplace(backend.config.id, decided);
        const bool quiet = inputs.probe == ProbeResult::kUnknown && inputs.waiting_syn.empty() &&
                           inputs.waiting.empty();
        if (quiet && !first && last->second == decided) continue;
        last->second = decided;
        ++tick.backends;
        stream_->push(tick_backend_line(tick.tick, service.config().id, backend.config.id, inputs,
                                        decided));
      }
    }
    stream_->push(tick_line(tick));
  }
  if (wish_.rows) labeller_.on_tick(agent.features_.snapshot(), tick.time_ns);
  tell_losses(agent, tick.time_ns);
}

void Agent::Capture::tell_losses(const Agent& agent, std::uint64_t now_ns) {
  const Labeller::Counters& rows = labeller_.counters();
  tell_loss(now_ns, "events", agent.losses_.events_lost(), told_events_);
  if (wish_.requests) {
    tell_loss(now_ns, "requests", agent.losses_.records_lost(), told_records_);
  }
  tell_loss(now_ns, "rows", rows.dropped_full + rows.dropped_no_snapshot, told_rows_);
  const std::uint64_t told = told_lines_;
  tell_loss(now_ns, "stream", stream_->dropped_lines(), told_lines_);
  if (told != told_lines_) ask_checkpoint();  // a replay starts afresh behind the gap
}

// Tells again later where the stream has no room for this one either.
void Agent::Capture::tell_loss(std::uint64_t now_ns, const char* place, std::uint64_t lost,
                               std::uint64_t& told) {
  if (lost <= told) return;
  const std::uint64_t dropped = stream_->dropped_lines();
  stream_->push(loss_line(now_ns, place, lost - told));
  if (stream_->dropped_lines() == dropped) told = lost;
}

}  // namespace petrel
