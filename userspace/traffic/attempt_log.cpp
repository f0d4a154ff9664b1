// SPDX-License-Identifier: MIT
#include "traffic/attempt_log.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>

namespace petrel::traffic {

namespace json = boost::json;

namespace {

json::string_view view(std::string_view text) {
  return {text.data(), text.size()};
}

template <class T>
json::value value_or_null(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

}  // namespace

Result<> AttemptLog::open(const std::string& path) {
  path_ = path;
  errno = 0;
  file_.open(path, std::ios::out | std::ios::trunc);
  if (!file_) return Error::from_errno(errno, "open log " + path);
  return {};
}

void AttemptLog::write(const Attempt& attempt) {
  if (!file_.is_open()) return;
  json::object line;
  line.reserve(19);
  line["request"] = attempt.request;
  line["attempt"] = attempt.number;
  line["kind"] = view(to_text(attempt.kind));
  line["target"] = view(attempt.target);
  line["path"] = view(attempt.path);
  line["method"] = attempt.post_bytes ? "POST" : "GET";
  line["body_bytes"] = attempt.post_bytes.value_or(0);
  line["client"] = attempt.client;
  line["port"] = attempt.port;
  line["intended_ns"] = attempt.intended_ns;
  line["start_ns"] = attempt.start_ns;
  line["connect_us"] = value_or_null(attempt.connect_us);
  line["response_us"] = value_or_null(attempt.response_us);
  line["outcome"] = view(to_text(attempt.outcome));
  line["status"] = value_or_null(attempt.status);
  line["backend"] = value_or_null(attempt.backend);
  line["reused"] = attempt.reused;
  line["end_ns"] = attempt.end_ns;
  if (attempt.error) line["error"] = *attempt.error;
  file_ << json::serialize(line) << '\n';
}

void AttemptLog::write_done(std::uint64_t request, bool served, int attempts,
                            std::int64_t latency_us) {
  if (!file_.is_open()) return;
  json::object line;
  line["request_done"] = request;
  line["served"] = served;
  line["attempts"] = attempts;
  line["latency_us"] = latency_us;
  file_ << json::serialize(line) << '\n';
}

Result<> AttemptLog::close() {
  if (!file_.is_open()) return {};
  errno = 0;
  file_.close();
  if (!file_) return Error::from_errno(errno != 0 ? errno : EIO, "write log " + path_);
  return {};
}

}  // namespace petrel::traffic
