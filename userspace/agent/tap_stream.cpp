// SPDX-License-Identifier: MIT
// The tap's switch: a tapping copy of the balancer is in force for as long as one client listens.
//
// The packets do not come this way: they lie in `taps`, which has room for one reader, so there is one
// tap at a time.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "agent/agent.hpp"
#include "agent/offload.hpp"
#include "agent/reply.hpp"
#include "api/line_stream.hpp"
#include "tap/client_prefix.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

Result<bpf::tap_wish> wish_of(const ApiRequest& request) {
  bpf::tap_wish wish{};
  if (const auto client = request.query.find("client"); client != request.query.end()) {
    auto prefix = tap::parse_client_prefix(client->second);
    if (!prefix) return prefix.error().within("client");
    wish.client = prefix->address;
    wish.client_prefix_bits = prefix->bits;
  }
  if (const auto sample = request.query.find("sample"); sample != request.query.end()) {
    const std::string& text = sample->second;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), wish.sample);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
      return Error(ExitCode::kUsage, "sample: expected a number, found '" + text + "'");
    }
  }
  return wish;
}

// What the client needs to read `taps` and to name what is in it.
std::string first_line(const Agent& agent) {
  json::array services, backends;
  for (const ServiceLoop& service : agent.services()) {
    services.push_back({{"id", service.config().id}, {"name", service.config().name}});
    for (const BackendLoop& backend : service.backends()) {
      backends.push_back({{"id", backend.config.id},
                          {"name", backend.config.name},
                          {"service", service.config().name}});
    }
  }
  return json::serialize(json::object{{"schema", "petrel/tap/v1"},
                                      {"pin_path", agent.config().agent.pin_path},
                                      {"services", std::move(services)},
                                      {"backends", std::move(backends)}});
}

}  // namespace

asio::awaitable<ApiReply> Agent::open_tap(ApiRequest request) {
  if (config_.agent.client_privacy != ClientPrivacy::kNone) {
    const std::string privacy(to_string(config_.agent.client_privacy));
    co_return refused(403, Error(ExitCode::kConflict,
                                 "a tap copies raw packets, addresses and payload, and "
                                 "agent.client_privacy is " + privacy +
                                     ": set it to none and reload, or use `petrel capture`"));
  }
  auto wish = wish_of(request);
  if (!wish) co_return refused(400, wish.error());
  if (tap_) {
    co_return refused(409, Error(ExitCode::kConflict, "another `petrel tap` is running"));
  }
  if (replacing_) {
    co_return refused(409, Error(ExitCode::kConflict, "a reload, or another tap, is just "
                                                      "beginning: try again"));
  }
  replacing_ = true;
  auto loaded = co_await run_beside(loader_, [&path = path_] { return path.load_tap(); });
  replacing_ = false;
  if (!loaded) co_return refused(500, loaded.error());
  if (stopping_) co_return refused(503, Error(ExitCode::kUnreachable, "the agent is stopping"));
  if (auto written = tables_->write_tap_filter(*wish); !written) {
    co_return refused(500, written.error());
  }
  if (auto started = path_.start_tap(std::move(*loaded)); !started) {
    co_return refused(500, started.error());
  }
  spdlog::info("tap on");
  tap_ = std::make_shared<LineStream>(context_.get_executor());
  tap_->push(first_line(*this));
  co_return ApiReply{200, "application/x-ndjson", {}, tap_};
}

// Each tick. An empty line is all that the client gets after the first: a client that has vanished is
// told by it.
void Agent::check_tap() {
  if (!tap_) return;
  if (tap_.use_count() == 1) {
    end_tap();
  } else {
    tap_->push("");
  }
}

void Agent::end_tap() {
  if (!tap_) return;
  tap_->finish();
  tap_.reset();
  path_.stop_tap();
  spdlog::info("tap off");
}

}  // namespace petrel
