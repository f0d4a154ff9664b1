// SPDX-License-Identifier: MIT
// The agent's API over a real Unix socket: answers, refusals, streams, the lock.
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <thread>

#include "api/client.hpp"
#include "api/server.hpp"

namespace petrel {
namespace {

namespace asio = boost::asio;

class ApiTest : public testing::Test {
 protected:
  ApiTest() {
    char pattern[] = "/tmp/petrel-api-XXXXXX";
    directory_ = mkdtemp(pattern);
    path_ = directory_ + "/petrel.sock";
  }
  ~ApiTest() override { std::filesystem::remove_all(directory_); }

  // Answered by a plain function.
  void serve(std::function<ApiReply(const ApiRequest&)> answer) {
    auto opened = ApiServer::open(
        context_.get_executor(), path_,
        [answer](ApiRequest request) -> asio::awaitable<ApiReply> { co_return answer(request); });
    ASSERT_TRUE(opened) << opened.error().message();
    server_ = std::move(*opened);
    asio::co_spawn(context_, server_->serve(), asio::detached);
    thread_ = std::thread([this] { context_.run(); });
  }
  void TearDown() override {
    context_.stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
  }

  std::string directory_;
  std::string path_;
  asio::io_context context_;
  std::unique_ptr<ApiServer> server_;
  std::thread thread_;
};

TEST_F(ApiTest, AnswersWithTheHandlersBody) {
  serve([](const ApiRequest& request) {
    return ApiReply{200, "application/json", request.path + " " + request.query.at("backend"), {}};
  });
  const auto body = api_get(path_, "/v1/explain?service=web&backend=b%31");
  ASSERT_TRUE(body) << body.error().message();
  EXPECT_EQ(*body, "/v1/explain b1");
  EXPECT_EQ(std::filesystem::status(path_).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
}

TEST_F(ApiTest, GivesTheAgentsReasonForARefusal) {
  serve([](const ApiRequest&) {
    return ApiReply{404, "application/json", R"({"error":"no backend is called b9"})", {}};
  });
  const auto body = api_get(path_, "/v1/explain?backend=b9");
  ASSERT_FALSE(body);
  EXPECT_EQ(body.error().message(), "no backend is called b9");
  EXPECT_EQ(body.error().kind(), ExitCode::kRuntime);
}

TEST_F(ApiTest, TellsAPostFromAGet) {
  serve([](const ApiRequest& request) {
    return ApiReply{200, "text/plain", request.is_post ? "post" : "get", {}};
  });
  EXPECT_EQ(*api_post(path_, "/v1/reload"), "post");
  EXPECT_EQ(*api_get(path_, "/v1/reload"), "get");
}

TEST_F(ApiTest, ARefusalHasTheExitCodeThatTheAgentGivesIt) {
  serve([](const ApiRequest&) {
    return ApiReply{422, "application/json", R"({"error":"f:3: x","exit_code":3})", {}};
  });
  const auto posted = api_post(path_, "/v1/reload");
  ASSERT_FALSE(posted);
  EXPECT_EQ(posted.error().kind(), ExitCode::kInput);
  const auto streamed = api_stream(
      path_, "/v1/tap", [](std::string_view) {}, [] { return true; });
  ASSERT_FALSE(streamed);
  EXPECT_EQ(streamed.error().message(), "f:3: x");
  EXPECT_EQ(streamed.error().kind(), ExitCode::kInput);
}

TEST(PercentEncode, IsUndoneByTheServer) {
  const std::string text = "a b&c=%d/\xc3\xa9";
  EXPECT_EQ(parse_target("/v1/x?y=" + percent_encode(text)).query.at("y"), text);
}

TEST_F(ApiTest, SaysWhenNoAgentIsThere) {
  const auto body = api_get(path_, "/v1/status");
  ASSERT_FALSE(body);
  EXPECT_EQ(body.error().kind(), ExitCode::kUnreachable);
  EXPECT_NE(body.error().message().find("ENOENT"), std::string::npos);
}

TEST_F(ApiTest, StreamsLinesUntilTheyEnd) {
  serve([this](const ApiRequest&) {
    auto stream = std::make_shared<LineStream>(context_.get_executor());
    stream->push("one");
    stream->push("two");
    stream->finish();
    return ApiReply{200, "text/csv", {}, stream};
  });
  std::string all;
  const auto done = api_stream(
      path_, "/v1/capture", [&](std::string_view piece) { all += piece; }, [] { return true; });
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(all, "one\ntwo\n");
}

TEST_F(ApiTest, AdmitsOneAgentToASocket) {
  serve([](const ApiRequest&) { return ApiReply{}; });
  asio::io_context other;
  const auto second = ApiServer::open(other.get_executor(), path_, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ExitCode::kConflict);
  EXPECT_TRUE(api_get(path_, "/")) << "the first agent's socket was taken away";
}

TEST(LineStream, DropsAndCountsWhatASlowReaderLeaves) {
  asio::io_context context;
  LineStream stream(context.get_executor(), 10);
  stream.push("12345678");
  stream.push("x");
  EXPECT_EQ(stream.dropped_lines(), 1u);
}

TEST(ParseTarget, SplitsAndDecodes) {
  const ApiRequest request = parse_target("/v1/a?x=1%202&y=&z&w=%zz");
  EXPECT_EQ(request.path, "/v1/a");
  EXPECT_EQ(request.query.at("x"), "1 2");
  EXPECT_EQ(request.query.at("y"), "");
  EXPECT_EQ(request.query.at("w"), "%zz");
  EXPECT_EQ(request.query.count("z"), 0u);
}

}  // namespace
}  // namespace petrel
