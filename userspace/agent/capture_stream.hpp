// SPDX-License-Identifier: MIT
// Capture: one reader of labelled rows. Each has a labeller of its own, from when it came.
#pragma once

#include <memory>
#include <string>

#include "agent/agent.hpp"
#include "api/line_stream.hpp"
#include "telemetry/labeller.hpp"

namespace petrel {

struct Agent::Capture {
  Capture(const boost::asio::any_io_executor& executor, std::string run_name,
          LabellerOptions options);

  // Nobody reads any more.
  bool abandoned() const { return stream.use_count() == 1; }

  std::string run;
  std::shared_ptr<LineStream> stream;
  Labeller labeller;
};

}  // namespace petrel
