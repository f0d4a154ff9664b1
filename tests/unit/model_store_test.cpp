// SPDX-License-Identifier: MIT
// Which model serves after a restart: promoted, rolled back, or neither.
#include "agent/model_store.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace petrel {
namespace {

namespace fs = std::filesystem;

Model model_of(std::uint32_t version) {
  Model model;
  model.name = "m";
  model.version = version;
  model.bias = -static_cast<double>(version);
  model.training.date = "2026-01-31";
  EXPECT_TRUE(quantize(model));
  return model;
}

class ModelStoreTest : public testing::Test {
 protected:
  ModelStoreTest() {
    std::string pattern = fs::temp_directory_path() / "petrel-store-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    configured_ = directory_ + "/retry.json";
    state_ = directory_ + "/state";
    EXPECT_TRUE(save_model(model_of(1), configured_));
  }
  ~ModelStoreTest() override { fs::remove_all(directory_); }

  ModelStore store() const { return {state_, configured_}; }
  ServingModel serving() const {
    auto loaded = store().load(false);
    EXPECT_TRUE(loaded) << loaded.error().message();
    return loaded ? std::move(*loaded) : ServingModel{};
  }

  std::string directory_, configured_, state_;
};

TEST_F(ModelStoreTest, WithoutAPromotionTheConfiguredModelServes) {
  const ServingModel found = serving();
  EXPECT_TRUE(found.model == model_of(1));
  EXPECT_EQ(found.source, configured_);
  EXPECT_FALSE(found.previous);
  EXPECT_FALSE(fs::exists(state_));  // nothing is written for that
}

TEST_F(ModelStoreTest, APromotedModelOutlivesARestartAndTheConfiguredFileIsNotTouched) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  const ServingModel found = serving();
  EXPECT_TRUE(found.model == model_of(2));
  EXPECT_EQ(found.source, state_ + "/live.json");
  ASSERT_TRUE(found.previous);
  EXPECT_TRUE(*found.previous == model_of(1));
  EXPECT_TRUE(found.warnings.empty());
  EXPECT_TRUE(*load_model(configured_) == model_of(1));
}

TEST_F(ModelStoreTest, ARollbackToTheConfiguredModelLeavesNothing) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  const auto file = store().roll_back(model_of(1));
  ASSERT_TRUE(file);
  EXPECT_EQ(*file, configured_);
  EXPECT_TRUE(fs::is_empty(state_));
  EXPECT_TRUE(serving().model == model_of(1));
}

TEST_F(ModelStoreTest, ARollbackGoesOnePromotionBack) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  ASSERT_TRUE(store().promote(model_of(2), model_of(3)));
  EXPECT_TRUE(serving().model == model_of(3));
  ASSERT_TRUE(store().roll_back(*serving().previous));
  const ServingModel found = serving();
  EXPECT_TRUE(found.model == model_of(2));
  EXPECT_FALSE(found.previous);
}

TEST_F(ModelStoreTest, AnotherConfiguredPathEndsAPromotion) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  configured_ = directory_ + "/other.json";
  ASSERT_TRUE(save_model(model_of(7), configured_));
  const ServingModel found = serving();
  EXPECT_TRUE(found.model == model_of(7));
  ASSERT_EQ(found.warnings.size(), 1U);
  EXPECT_NE(found.warnings[0].find("is not used"), std::string::npos) << found.warnings[0];
}

TEST_F(ModelStoreTest, AnotherModelUnderTheConfiguredPathDoesNotAndIsSaid) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  ASSERT_TRUE(save_model(model_of(9), configured_));  // a package's new version
  const ServingModel found = serving();
  EXPECT_TRUE(found.model == model_of(2));
  ASSERT_EQ(found.warnings.size(), 1U);
  EXPECT_NE(found.warnings[0].find("m v9"), std::string::npos) << found.warnings[0];
}

TEST_F(ModelStoreTest, APromotedModelThatCannotBeReadStopsAReloadButNoStart) {
  ASSERT_TRUE(store().promote(model_of(1), model_of(2)));
  for (const char* file : {"/live.json", "/promotion.json"}) {
    std::ofstream(state_ + file) << "{";
    const auto reload = store().load(false);
    ASSERT_FALSE(reload);
    EXPECT_NE(reload.error().message().find(file), std::string::npos) << reload.error().message();
    const auto start = store().load(true);
    ASSERT_TRUE(start) << start.error().message();
    EXPECT_TRUE(start->model == model_of(1));
    ASSERT_FALSE(start->warnings.empty());
    EXPECT_NE(start->warnings[0].find(file), std::string::npos) << start->warnings[0];
  }
}

TEST_F(ModelStoreTest, AStateDirectoryThatCannotBeMadeIsAnErrorThatNamesIt) {
  std::ofstream(state_) << "a file";
  const auto done = store().promote(model_of(1), model_of(2));
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message().find(state_), std::string::npos) << done.error().message();
  EXPECT_TRUE(serving().model == model_of(1));
}

}  // namespace
}  // namespace petrel
