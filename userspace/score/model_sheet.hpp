// SPDX-License-Identifier: MIT
// ModelSheet: a model file as it stands, whatever its features, to be shown and compared.
//
// A model of another version of petrel may have other features: this program cannot score by it
// (parse_model says so), and yet say what is in it.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "score/model.hpp"

namespace petrel {

struct ModelSheet {
  std::string source;              // the file
  boost::json::object document;    // the fields below are known to be there, and of these types
  std::string checksum;            // as the file has it
  std::string found_checksum;      // of the rest of the file
  std::vector<std::string> names;  // of its features
  std::optional<InputProblem> unusable;  // why this program cannot score by it; none: it can
};

// Refuses what is no model: name, version, bias, features with a name and numbers, training,
// checksum.
Result<ModelSheet> read_model_sheet(const std::string& path, InputProblem* problem = nullptr);
Result<ModelSheet> parse_model_sheet(std::string_view text, const std::string& source,
                                     InputProblem* problem = nullptr);

struct FieldChange {
  std::string feature;  // empty: of the model itself, or of its training
  std::string field;
  boost::json::value before;
  boost::json::value after;
};

struct ModelDiff {
  std::vector<std::string> added;  // features
  std::vector<std::string> removed;
  std::vector<FieldChange> facts;    // of the model and its training
  std::vector<FieldChange> changed;  // of features that both have
  bool reordered = false;            // the features that both have stand in another order

  bool empty() const {
    return added.empty() && removed.empty() && facts.empty() && changed.empty() && !reordered;
  }
};

ModelDiff compare(const ModelSheet& before, const ModelSheet& after);

}  // namespace petrel
