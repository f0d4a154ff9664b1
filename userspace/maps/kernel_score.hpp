// SPDX-License-Identifier: MIT
// KernelScore: what the balancer scores outcomes by: the model, and the views of each tick.
//
// Written in place while programs read: a model into the entry that is not in force, views word by
// word. A score may rest on half a view; the event carries it, so that nothing hangs on that. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "bpf/features.h"
#include "bpf/model.h"
#include "maps/data_path.hpp"
#include "maps/mapped_array.hpp"

namespace petrel {

class KernelScore {
 public:
  static Result<KernelScore> open(const DataPath& path);

  // A generation that the model now in force, of an earlier agent perhaps, does not have.
  std::uint32_t next_generation() const;

  void write_model(const bpf::scoring_model& model);

  // By id; those beyond have the views of a backend and a service that were never seen.
  void write_views(std::span<const bpf::backend_view> backends,
                   std::span<const bpf::service_view> services,
                   const bpf::service_view& unknown_service);

 private:
  MappedArray<bpf::scoring_models> models_;
  MappedArray<bpf::backend_view> backends_;
  MappedArray<bpf::service_view> services_;
};

}  // namespace petrel
