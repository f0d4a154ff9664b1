// SPDX-License-Identifier: MIT
// ModelWatch: the live model and its shadow against what then happened, over a sliding window.
//
// Labelled rows go in; both models score each of them. The window is 60 parts (an hour's minutes),
// the oldest of which is forgotten whole as the next one begins, so that memory is constant: half a
// megabyte, and 4 bytes for each bin of the live model's references and part. A model counts from
// the part after it came, the live one from its first row on. Pure: time comes in as a number. Not
// thread-safe; a copy may be read on another thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "score/model.hpp"
#include "telemetry/row.hpp"
#include "watch/score_table.hpp"

namespace petrel {

// How far one feature's values at one point lie from where they lay in training.
struct FeatureDrift {
  std::size_t feature = 0;
  Point point = Point::kEnd;
  double psi = 0;     // population stability index: sum of (now - then) * ln(now / then)
  double weight = 0;  // magnitude of the feature's coefficient
};

struct PsiMeasures {
  bool known = false;  // the model has references, and some point has enough rows
  double mean = std::numeric_limits<double>::quiet_NaN();  // weighed by coefficients
  std::vector<FeatureDrift> drifts;  // of all that were judged, the largest psi * weight first
};

struct WatchReport {
  std::size_t parts = 0;  // of the window, with rows
  WatchMeasures all;
  std::array<WatchMeasures, kPointCount> points;
};

class ModelWatch {
 public:
  static constexpr std::size_t kParts = 60;
  static constexpr std::size_t kLeastParts = 5;        // fewer minutes say nothing of other ones
  static constexpr std::uint64_t kLeastPsiRows = 500;  // at a point

  explicit ModelWatch(std::chrono::nanoseconds window);

  // All figures begin anew.
  void watch_live(Model model);
  // Those of the shadow do; none: no longer watched.
  void watch_shadow(std::optional<Model> model);

  // A row whose label is known; rows of one request come one after the other. What the live model makes
  // of it, in Q16; none without a model.
  std::optional<std::uint32_t> add(const LabelledRow& row, std::uint64_t now_ns);
  // Forgets what has left the window, rows or not.
  void advance(std::uint64_t now_ns);

  const std::optional<Model>& live() const { return live_; }
  const std::optional<Model>& shadow() const { return shadow_; }
  std::chrono::nanoseconds window() const { return part_ * kParts; }

  WatchReport live_report() const;
  WatchReport shadow_report() const;
  PsiMeasures psi() const;

  // The parts of the window in which the shadow has been watched, both models on the same rows.
  struct Part {
    std::array<ScoreTable, kPointCount> live;
    std::array<ScoreTable, kPointCount> shadow;
    std::uint64_t number = 0;             // since the clock's zero; 0: none yet
    std::vector<std::uint32_t> features;  // by reference and bin

    bool has_live() const;
    bool has_shadow() const;
  };
  std::vector<const Part*> shadowed_parts() const;

 private:
  Part& part_at(std::uint64_t number) { return parts_[number % kParts]; }
  void clear(Part& part, std::uint64_t number);
  void count_features(Part& part, const LabelledRow& row);
  bool is_in_window(const Part& part) const;

  std::chrono::nanoseconds part_;
  std::vector<Part> parts_;
  std::uint64_t now_ = 0;          // number of the part in hand
  std::uint64_t shadow_from_ = 0;  // number of the first part that is the shadow's
  std::optional<Model> live_;
  std::optional<Model> shadow_;
  bpf::scoring_model live_scoring_{};  // both in the form to score by
  bpf::scoring_model shadow_scoring_{};
  std::vector<std::size_t> first_bin_;  // of each reference in Part::features; last: their sum
  std::array<std::vector<std::size_t>, kPointCount> references_at_;  // by point
  std::uint64_t last_connection_ = 0;
  std::uint32_t last_request_ = 0;
};

}  // namespace petrel
