// SPDX-License-Identifier: MIT
// ModelStore: which model serves, over restarts: the configured one, or one that was promoted over
// it.
//
// A promoted model lies in agent.state_dir, for the configured file may be a package's: live.json,
// the one before it as previous.json, and promotion.json, which names the configured path that it
// stands over. Another path in the configuration ends a promotion; another content under the same
// path does not, and is said. Files are replaced whole, promotion.json last.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"

namespace petrel {

struct ServingModel {
  Model model;
  std::string source;             // its file; "": untrained
  std::optional<Model> previous;  // which a rollback puts back
  std::vector<std::string> warnings;
};

class ModelStore {
 public:
  ModelStore(std::string state_dir, std::string configured_path)
      : state_dir_(std::move(state_dir)), configured_path_(std::move(configured_path)) {}

  // A promoted model that cannot be read is an error; with `fall_back` a warning, and the
  // configured one serves: a start must not hang on a file that nobody wrote by hand.
  Result<ServingModel> load(bool fall_back) const;

  // `next` serves from now on, `live` is what a rollback puts back. Returns the file of `next`.
  Result<std::string> promote(const Model& live, const Model& next) const;
  // `previous` serves again. Returns its file: the configured one where that is the same model.
  Result<std::string> roll_back(const Model& previous) const;

 private:
  std::string path(const char* file) const { return state_dir_ + "/" + file; }
  Result<std::optional<ServingModel>> load_promoted() const;
  Result<void> write_promotion() const;
  Result<void> forget() const;

  std::string state_dir_;
  std::string configured_path_;
};

}  // namespace petrel
