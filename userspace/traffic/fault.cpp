// SPDX-License-Identifier: MIT
#include "traffic/fault.hpp"

#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <iomanip>
#include <sstream>
#include <string>
#include <utility>

namespace petrel::traffic {

namespace json = boost::json;

namespace {

constexpr std::array<std::pair<FaultKind, std::string_view>, 7> kNames = {{
    {FaultKind::kNone, "none"},
    {FaultKind::kHang, "hang"},
    {FaultKind::kRefuse, "refuse"},
    {FaultKind::kReset, "reset"},
    {FaultKind::kBlackhole, "blackhole"},
    {FaultKind::kSlow, "slow"},
    {FaultKind::kErrors, "errors"},
}};

// 0.5 and 1000000: Boost.JSON would write 5E-1 and 1E6.
std::string plain(double number) {
  std::ostringstream out;
  out << std::setprecision(10) << number;
  return out.str();
}

// A number member within [least, most], or what stands in `otherwise` when there is none.
Result<double> number(const json::object& object, std::string_view name, double least, double most,
                      double otherwise) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return otherwise;
  boost::system::error_code ec;
  const auto found = value->is_number() ? value->to_number<double>(ec) : least - 1;
  // Written so that NaN is outside as well.
  if (ec || !(found >= least && found <= most)) {
    return Error(ExitCode::kUsage,
                 std::string(name) + ": expected a number from " + plain(least) + " to " +
                     plain(most) + ", found " +
                     (ec || !value->is_number() ? json::serialize(*value) : plain(found)));
  }
  return found;
}

}  // namespace

Result<FaultKind> parse_fault_kind(std::string_view name) {
  std::string expected;
  for (const auto& [kind, known] : kNames) {
    if (known == name) return kind;
    expected += (expected.empty() ? "" : ", ") + std::string(known);
  }
  return Error(ExitCode::kUsage,
               "expected one of " + expected + "; found '" + std::string(name) + "'");
}

std::string_view to_text(FaultKind kind) {
  for (const auto& [known, name] : kNames) {
    if (known == kind) return name;
  }
  return "none";
}

json::object to_json(const Fault& fault) {
  json::object object;
  object["kind"] = json::string_view(to_text(fault.kind).data(), to_text(fault.kind).size());
  if (fault.kind == FaultKind::kSlow) object["factor"] = fault.factor;
  if (fault.kind == FaultKind::kErrors) {
    object["rate"] = fault.rate;
    object["status"] = fault.status;
    object["quick"] = fault.quick;
  }
  return object;
}

Result<Fault> parse_fault(const json::object& object) {
  const json::value* name = object.if_contains("kind");
  if (name == nullptr || !name->is_string()) {
    return Error(ExitCode::kUsage, "kind: expected the name of a fault, found none");
  }
  Fault fault;
  const auto kind = parse_fault_kind(std::string_view(name->get_string()));
  if (!kind) return kind.error().within("kind");
  fault.kind = *kind;

  const auto factor = number(object, "factor", 0.001, 1e6, fault.factor);
  if (!factor) return factor.error();
  const auto rate = number(object, "rate", 0, 1, fault.rate);
  if (!rate) return rate.error();
  const auto status = number(object, "status", 400, 599, fault.status);
  if (!status) return status.error();
  fault.factor = *factor;
  fault.rate = *rate;
  fault.status = static_cast<unsigned>(*status);
  if (const json::value* quick = object.if_contains("quick")) {
    if (!quick->is_bool()) {
      return Error(ExitCode::kUsage,
                   "quick: expected true or false, found " + json::serialize(*quick));
    }
    fault.quick = quick->get_bool();
  }
  return fault;
}

}  // namespace petrel::traffic
