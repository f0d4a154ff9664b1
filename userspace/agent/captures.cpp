// SPDX-License-Identifier: MIT
// Captures: how one is asked for, what each tick tells all of them, and when records are wanted.
#include <spdlog/spdlog.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "agent/agent.hpp"
#include "agent/capture_stream.hpp"
#include "agent/reply.hpp"
#include "base/clock.hpp"
#include "capture/schema.hpp"
#include "telemetry/csv.hpp"

namespace petrel {
namespace {

std::string asked(const ApiRequest& request, const std::string& key, const std::string& otherwise) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? otherwise : found->second;
}

Result<CaptureWish> wish_of(const ApiRequest& request) {
  CaptureWish wish;
  wish.run = asked(request, "run", wish.run);
  if (!is_run_name(wish.run)) {
    return Error(ExitCode::kUsage, "run: expected letters, digits, '.', '_' or '-', found '" +
                                       wish.run + "'");
  }
  wish.requests = wish.rows = wish.replay = false;
  std::string rest = asked(request, "what", "requests,rows,replay");
  while (!rest.empty()) {
    const std::string what = rest.substr(0, rest.find(','));
    rest.erase(0, what.size() + 1);
    if (what == "requests") {
      wish.requests = true;
    } else if (what == "rows") {
      wish.rows = true;
    } else if (what == "replay") {
      wish.replay = true;
    } else {
      return Error(ExitCode::kUsage, "what: expected requests, rows or replay, found '" + what + "'");
    }
  }
  return wish;
}

// The configuration's, or what is asked for where that keeps less.
Result<ClientPrivacy> privacy_of(const ApiRequest& request, ClientPrivacy configured) {
  const std::string text = asked(request, "privacy", std::string(to_string(configured)));
  for (const ClientPrivacy privacy :
       {ClientPrivacy::kNone, ClientPrivacy::kTruncate, ClientPrivacy::kHash}) {
    if (text != to_string(privacy)) continue;
    if (privacy >= configured) return privacy;
    return Error(ExitCode::kUsage, "privacy: the configuration's client_privacy is " +
                                       std::string(to_string(configured)) +
                                       ", which a capture may only make stricter, found '" + text +
                                       "'");
  }
  return Error(ExitCode::kUsage, "privacy: expected none, truncate or hash, found '" + text + "'");
}

std::int64_t realtime_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// RFC 3339, UTC, to the second.
std::string time_text(std::int64_t realtime) {
  const std::time_t seconds = static_cast<std::time_t>(realtime / 1'000'000'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32] = {};
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string kernel_release() {
  utsname names{};
  return ::uname(&names) == 0 ? names.release : "unknown";
}

}  // namespace

Result<ClientMask> make_mask(ClientPrivacy privacy, const std::string& key_file) {
  if (privacy != ClientPrivacy::kHash) return ClientMask(privacy, {});
  if (key_file.empty()) {
    return Error(ExitCode::kInput, "privacy: hash needs agent.client_privacy_key_file in the "
                                   "configuration");
  }
  auto key = read_key_file(key_file);
  if (!key) return key.error();
  return ClientMask(privacy, *key);
}

ApiReply Agent::open_capture(const ApiRequest& request) {
  auto wish = wish_of(request);
  if (!wish) return refused(400, wish.error());
  auto privacy = privacy_of(request, config_.agent.client_privacy);
  if (!privacy) return refused(400, privacy.error());
  auto mask = make_mask(*privacy, config_.agent.client_privacy_key_file);
  if (!mask) return refused(422, mask.error());
  LabellerOptions options;
  options.retry_window = config_.agent.retry_window;
  const std::string run = wish->run;
  captures_.push_back(
      std::make_unique<Capture>(context_.get_executor(), std::move(*wish), *mask, options,
                                                losses_));
  Capture& capture = *captures_.back();

  const std::int64_t now_ns = realtime_ns();
  const auto behind_ns = now_ns - static_cast<std::int64_t>(monotonic_ns());
  const std::pair<const char*, std::string> facts[] = {
      {"schema", std::string(kCaptureSchema)},
      {"petrel_version", PETREL_VERSION},
      {"kernel", kernel_release()},
      {"run", run},
      {"started", time_text(now_ns)},
      {"realtime_minus_monotonic_ns", std::to_string(behind_ns)},
      {"privacy", std::string(to_string(*privacy))},
      {"model", model_.name + " v" + std::to_string(model_.version)},
      {"model_checksum", model_checksum(model_)},
      {"tick_ms", std::to_string(config_.agent.tick.count())},
      {"retry_window_ms", std::to_string(config_.agent.retry_window.count())},
      {"handshake_timeout_ms", std::to_string(config_.agent.handshake_timeout.count())},
  };
  for (const auto& [name, value] : facts) capture.push(meta_line(name, value));
  follow_recording();
  return {200, "text/csv", {}, capture.stream()};
}

ApiReply Agent::answer_checkpoint() {
  ask_checkpoints();
  return replied({{"schema", "petrel/checkpoint/v1"}, {"captures", captures_.size()}});
}

void Agent::ask_checkpoints() {
  for (const auto& capture : captures_) capture->ask_checkpoint();
}

void Agent::end_loose_readers() {
  const ClientPrivacy least = config_.agent.client_privacy;
  if (least != ClientPrivacy::kNone) end_tap();
  std::erase_if(captures_, [&](const auto& capture) {
    if (capture->privacy() >= least) return false;
    spdlog::warn("a capture ends: client_privacy is {} now", to_string(least));
    capture->stream()->finish();
    return true;
  });
  follow_recording();
}

void Agent::begin_captures() {
  events_in_tick_ = 0;
  for (const auto& capture : captures_) capture->begin_tick(*this, facts_.ticks);
}

// The data path says nothing of a SYN that nobody ever answered or sent again.
void Agent::record_expired(const bpf::half_open& flow) {
  bpf::record record{};
  record.time_ns = monotonic_ns();
  record.key = flow.key;
  bpf::connection& told = record.connection;
  told.backend_id = flow.backend_id;
  told.flags = flow.flags & ~std::uint32_t{bpf::CONNECTION_WAITING_SYN | bpf::HALF_OPEN_BUSY};
  told.state = bpf::CONNECTION_SYN;
  told.syn_ns = flow.syn_ns;
  told.syn_seq = flow.syn_seq;
  told.close_ns = record.time_ns;
  told.closed_by = bpf::CLOSED_BY_TIMEOUT;
  told.failure = bpf::FAILURE_HANDSHAKE_TIMEOUT;
  told.attempt = flow.attempt;
  told.previous_failure = flow.previous_failure;
  told.previous_backend_id = flow.previous_backend_id;
  told.previous_hash = flow.previous_hash;
  told.evidence = flow.evidence;
  told.confidence = flow.confidence;
  told.moves = flow.moves;
  told.syn_repeats = flow.syn_repeats;
  told.owner = bpf::SENSOR_WIRE;
  on_record(record);
}

void Agent::on_record(const bpf::record& record) {
  for (const auto& capture : captures_) capture->on_record(record);
}

void Agent::end_captures(std::uint64_t now_ns, std::chrono::nanoseconds elapsed,
                         const MoveHash& moves) {
  const auto before = captures_.size();
  std::erase_if(captures_, [](const auto& capture) { return capture->abandoned(); });
  if (captures_.size() != before) follow_recording();
  const TickFacts tick{facts_.ticks, now_ns, static_cast<std::uint64_t>(elapsed.count()),
                       events_in_tick_, 0, moves.slots(), moves.hash()};
  for (const auto& capture : captures_) capture->end_tick(*this, tick);
}

void Agent::follow_recording() {
  tables_->set_recording(std::ranges::any_of(
      captures_, [](const auto& capture) { return capture->wants_records(); }));
}

}  // namespace petrel
