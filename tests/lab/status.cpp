// SPDX-License-Identifier: MIT
#include "tests/lab/status.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace petrel::test {
namespace json = boost::json;

Facts::Facts(const std::string& json) {
  json::error_code error;
  value_ = json::parse(json, error);
  if (error) throw std::runtime_error("no JSON: '" + json.substr(0, 200) + "'");
}

const json::value& Facts::at(const std::string& pointer) const {
  json::error_code error;
  const json::value* found = value_.find_pointer(pointer, error);
  if (found == nullptr) throw std::runtime_error("there is no " + pointer);
  return *found;
}

double Facts::number(const std::string& pointer) const { return at(pointer).to_number<double>(); }

std::string Facts::text(const std::string& pointer) const {
  return std::string(at(pointer).as_string().c_str());
}

bool Facts::flag(const std::string& pointer) const { return at(pointer).as_bool(); }

namespace {

std::string service_pointer(int service) { return "/services/" + std::to_string(service) + "/"; }

std::string backend_pointer(int service, int number) {
  return service_pointer(service) + "backends/" + std::to_string(number - 1) + "/";
}

}  // namespace

double Status::service(const std::string& field, int service) const {
  return number(service_pointer(service) + field);
}

double Status::backend(int number, const std::string& field, int service) const {
  return Facts::number(backend_pointer(service, number) + field);
}

std::string Status::backend_text(int number, const std::string& field, int service) const {
  return text(backend_pointer(service, number) + field);
}

double Status::sum(const std::string& field, int service) const {
  double sum = 0;
  const auto& backends = at(service_pointer(service) + "backends").as_array();
  for (std::size_t i = 1; i <= backends.size(); ++i) {
    sum += backend(static_cast<int>(i), field, service);
  }
  return sum;
}

double Status::least_factor() const {
  double least = 1;
  for (const json::value& service : at("/services").as_array()) {
    for (const json::value& backend : service.at("backends").as_array()) {
      least = std::min(least, backend.at("factor").to_number<double>());
    }
  }
  return least;
}

std::string Status::weights() const {
  std::ostringstream out;
  for (const json::value& service : at("/services").as_array()) {
    for (const json::value& backend : service.at("backends").as_array()) {
      out << backend.at("name").as_string().c_str() << ": factor " << backend.at("factor") << " ("
          << backend.at("reason").as_string().c_str() << "), risk " << backend.at("risk")
          << ", probe " << backend.at("probe").as_string().c_str() << "; ";
    }
  }
  return out.str();
}

double Summary::ended(const std::string& outcome) const {
  const auto& counts = at("/by_outcome").as_object();
  return counts.contains(outcome) ? counts.at(outcome).to_number<double>() : 0;
}

std::string Summary::outcomes() const { return json::serialize(at("/by_outcome")); }

std::vector<LoggedAttempt> read_attempts(const std::string& log_path) {
  std::ifstream file(log_path);
  if (!file) throw std::runtime_error("no log " + log_path);
  std::vector<LoggedAttempt> attempts;
  for (std::string line; std::getline(file, line);) {
    const json::value parsed = json::parse(line);
    const json::object& fields = parsed.as_object();
    if (!fields.contains("attempt")) continue;  // the end of a request
    LoggedAttempt attempt;
    attempt.connection = std::string(fields.at("client").as_string()) + " port " +
                         std::to_string(fields.at("port").to_number<std::uint16_t>());
    attempt.start_ns = fields.at("start_ns").to_number<std::int64_t>();
    attempt.end_ns = fields.at("end_ns").to_number<std::int64_t>();
    if (!fields.at("connect_us").is_null()) {
      attempt.connect_us = fields.at("connect_us").to_number<double>();
    }
    attempt.outcome = fields.at("outcome").as_string().c_str();
    if (fields.at("backend").is_string()) {
      attempt.backend = fields.at("backend").as_string().c_str();
    }
    attempts.push_back(std::move(attempt));
  }
  return attempts;
}

}  // namespace petrel::test
