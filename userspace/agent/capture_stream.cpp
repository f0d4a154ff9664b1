// SPDX-License-Identifier: MIT
#include "agent/capture_stream.hpp"

#include "telemetry/csv.hpp"

namespace petrel {

Agent::Capture::Capture(const boost::asio::any_io_executor& executor, std::string run_name,
                        LabellerOptions options)
    : run(std::move(run_name)),
      stream(std::make_shared<LineStream>(executor)),
      labeller(options, [this](const LabelledRow& row) { stream->push(csv_line(run, row)); }) {
  stream->push(csv_header());
}

ApiReply Agent::open_capture(const ApiRequest& request) {
  const auto named = request.query.find("run");
  const std::string run = named == request.query.end() ? "capture" : named->second;
  if (!is_run_name(run)) {
    return {400, "application/json",
            R"({"error":"run: expected letters, digits, '.', '_' or '-'"})", nullptr};
  }
  LabellerOptions options;
  options.retry_window = config_.agent.retry_window;
  captures_.push_back(std::make_unique<Capture>(context_.get_executor(), run, options));
  return {200, "text/csv", {}, captures_.back()->stream};
}

}  // namespace petrel
