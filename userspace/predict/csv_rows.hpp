// SPDX-License-Identifier: MIT
// CsvRows: a CSV of requests, a line at a time, to the same with probabilities.
//
// A header that has every feature of the model is that of a capture's rows: features are Q16
// integers, all other columns are carried along unread. Else each column is a quantity,
// "feature:NAME" (a feature in its unit), or one that the caller wants carried along; an empty
// field is not given. Fields are as in RFC 4180, but none spans lines. No row allocates once its
// plan is known.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "predict/predictor.hpp"

namespace petrel {

struct CsvOptions {
  std::vector<std::string> carried = {};  // columns that are not read
  bool alone = false;                     // without the line that was read
};

class CsvRows {
 public:
  // The problem's field is a column.
  static std::optional<InputProblem> open(std::string_view header, const CsvOptions& options,
                                          CsvRows& rows);
  CsvRows() = default;

  // Without newline, as all lines here.
  std::string header() const;
  bool has_features() const { return has_features_; }  // a capture's rows
  // Quantities of the header that no feature of the model is computed of.
  std::uint64_t unused() const { return given_columns_ & ~used_quantities(); }

  // Appends the line with "probability,outside" (names with ';' between), and a newline.
  std::optional<InputProblem> append(Predictor& predictor, std::string_view line, std::string& out);

  // What one line says.
  std::optional<InputProblem> read(std::string_view line, Request& request);

 private:
  enum class Kind : std::uint8_t { kCarried, kQuantity, kFeature, kFeatureQ16 };
  struct Column {
    std::string name;
    Kind kind = Kind::kCarried;
    std::size_t index = 0;
  };

  std::optional<InputProblem> classify(const CsvOptions& options);
  std::optional<InputProblem> read_field(const Column& column, std::string_view field,
                                         Request& request) const;

  std::vector<Column> columns_;
  std::string header_;
  bool has_features_ = false;
  bool alone_ = false;
  std::uint64_t given_columns_ = 0;
  Request request_;
  std::string unquoted_;
};

}  // namespace petrel
