// SPDX-License-Identifier: MIT
// Capture: one reader of what happens, as lines of petrel/capture/v1.
//
// Each has a labeller, a mask and losses of its own, from when it came. It begins, as soon as the
// next tick does, with a checkpoint: all that the loop knows; and has another one whenever something
// but a tick has changed the loop, so that a replay can follow. Clients are masked before anything
// else is made of an event.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "agent/agent.hpp"
#include "api/line_stream.hpp"
#include "capture/lines.hpp"
#include "telemetry/labeller.hpp"

namespace petrel {

// What a reader asks for.
struct CaptureWish {
  std::string run = "capture";
  bool requests = true;
  bool rows = true;
  bool replay = true;  // events, ticks and the loop's state
};

class Agent::Capture {
 public:
  Capture(const boost::asio::any_io_executor& executor, CaptureWish wish, ClientMask mask,
          LabellerOptions options, const Losses& losses);

  // Nobody reads any more.
  bool abandoned() const { return stream_.use_count() == 1; }
  ClientPrivacy privacy() const { return mask_.privacy(); }
  bool wants_records() const { return wish_.requests; }
  const std::shared_ptr<LineStream>& stream() const { return stream_; }
  void push(const std::string& line) { stream_->push(line); }

  // The loop has changed by other means than a tick, or a new file is to begin.
  void ask_checkpoint() { checkpoint_due_ = true; }

  // In this order, each tick: what it stands on, what it drains, what it decides.
  void begin_tick(Agent& agent, std::uint64_t tick);
  void on_event(std::uint64_t tick, const bpf::event& event);
  void on_record(const bpf::record& record);
  void end_tick(const Agent& agent, TickFacts tick);

 private:
  void tell_losses(const Agent& agent, std::uint64_t now_ns);
  void tell_loss(std::uint64_t now_ns, const char* place, std::uint64_t lost, std::uint64_t& told);

  CaptureWish wish_;
  ClientMask mask_;
  std::shared_ptr<LineStream> stream_;
  Labeller labeller_;
  CaptureNames names_;
  bool checkpoint_due_ = true;
  std::map<std::uint32_t, Decided> last_;  // by backend id: a quiet backend is told of once
  std::uint64_t told_events_ = 0;  // losses, as far as the reader knows of them
  std::uint64_t told_records_ = 0;
  std::uint64_t told_rows_ = 0;
  std::uint64_t told_lines_ = 0;
};

}  // namespace petrel
