// SPDX-License-Identifier: MIT
#include "agent/model_store.hpp"

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace petrel {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::string_view kSchema = "petrel/promotion/v1";
constexpr const char* kLive = "live.json";
constexpr const char* kPrevious = "previous.json";
constexpr const char* kPromotion = "promotion.json";

std::string name_of(const Model& model) {
  return model.name + " v" + std::to_string(model.version) + " (" + model_checksum(model) + ")";
}

// What promotion.json says.
struct Promotion {
  std::string over;           // the configured path
  std::string over_checksum;  // of the model there, then; "": it could not be read
};

Result<Promotion> parse_promotion(const std::string& text, const std::string& path) {
  boost::system::error_code code;
  const json::value value = json::parse(text, code);
  const json::object* object = code ? nullptr : value.if_object();
  const auto field = [&](const char* name) -> const json::string* {
    const json::value* found = object == nullptr ? nullptr : object->if_contains(name);
    return found == nullptr ? nullptr : found->if_string();
  };
  const json::string* schema = field("schema");
  const json::string* over = field("over");
  const json::string* checksum = field("over_checksum");
  if (schema == nullptr || *schema != kSchema || over == nullptr || checksum == nullptr) {
    return Error(ExitCode::kInput, path + ": expected " + std::string(kSchema) +
                                       " with over and over_checksum, found something else");
  }
  return Promotion{over->c_str(), checksum->c_str()};
}

Result<void> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove " + path);
  }
  return {};
}

}  // namespace

Result<ServingModel> ModelStore::load(bool fall_back) const {
  std::vector<std::string> warnings;
  auto promoted = load_promoted();
  if (!promoted) {
    if (!fall_back) return promoted.error();
    warnings.push_back(promoted.error().message() + ": the configured model serves instead");
  } else if (*promoted) {
    return std::move(**promoted);
  }
  auto model = load_model(configured_path_);
  if (!model) return model.error();
  if (promoted && fs::exists(path(kPromotion))) {
    warnings.push_back("the promoted model in " + state_dir_ +
                       " is not used: agent.model is another file now");
  }
  return ServingModel{std::move(*model), configured_path_, std::nullopt, std::move(warnings)};
}

Result<std::optional<ServingModel>> ModelStore::load_promoted() const {
  if (!fs::exists(path(kPromotion))) return std::optional<ServingModel>{};
  auto text = read_model_text(path(kPromotion));
  if (!text) return text.error();
  auto promotion = parse_promotion(*text, path(kPromotion));
  if (!promotion) return promotion.error();
  if (promotion->over != configured_path_) return std::optional<ServingModel>{};
  auto model = load_model(path(kLive));
  if (!model) return model.error().within("promoted model");
  ServingModel serving{std::move(*model), path(kLive), std::nullopt, {}};
  if (auto previous = load_model(path(kPrevious))) {
    serving.previous = std::move(*previous);
  } else if (fs::exists(path(kPrevious))) {
    serving.warnings.push_back(previous.error().within("no rollback").message());
  }
  const auto configured = load_model(configured_path_);
  if (configured && model_checksum(*configured) != promotion->over_checksum) {
    serving.warnings.push_back(configured_path_ + " holds another model, " + name_of(*configured) +
                               ", than when " + name_of(serving.model) +
                               " was promoted over it, which goes on serving");
  }
  return std::optional<ServingModel>(std::move(serving));
}

Result<std::string> ModelStore::promote(const Model& live, const Model& next) const {
  std::error_code code;
  fs::create_directories(state_dir_, code);
  if (code) return Error::from_errno(code.value(), "create " + state_dir_);
  if (auto saved = save_model(live, path(kPrevious)); !saved) return saved.error();
  if (auto saved = save_model(next, path(kLive)); !saved) return saved.error();
  if (auto written = write_promotion(); !written) return written.error();
  return path(kLive);
}

Result<std::string> ModelStore::roll_back(const Model& previous) const {
  const auto configured = load_model(configured_path_);
  if (configured && *configured == previous) {
    if (auto forgotten = forget(); !forgotten) return forgotten.error();
    return configured_path_;
  }
  if (auto saved = save_model(previous, path(kLive)); !saved) return saved.error();
  if (auto removed = remove_file(path(kPrevious)); !removed) return removed.error();
  return path(kLive);
}

Result<void> ModelStore::write_promotion() const {
  const auto configured = load_model(configured_path_);
  const json::object promotion{
      {"schema", kSchema},
      {"over", configured_path_},
      {"over_checksum", configured ? model_checksum(*configured) : std::string()}};
  const std::string temporary = path(kPromotion) + ".tmp";
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << json::serialize(promotion) << '\n';
  file.close();
  if (!file) return Error::from_errno(errno, "write " + temporary);
  if (std::rename(temporary.c_str(), path(kPromotion).c_str()) != 0) {
    return Error::from_errno(errno, "rename " + temporary);
  }
  return {};
}

// The record first: without it the models are nobody's.
Result<void> ModelStore::forget() const {
  for (const char* file : {kPromotion, kLive, kPrevious}) {
    if (auto removed = remove_file(path(file)); !removed) return removed;
  }
  return {};
}

}  // namespace petrel
