// SPDX-License-Identifier: MIT
// The tap's parts: pairing, filters, text, names, and the lease at an agent's API.
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <thread>

#include "api/server.hpp"
#include "config/address.hpp"
#include "tap/client_prefix.hpp"
#include "tap/lease.hpp"
#include "tap/pairing.hpp"
#include "tap/report.hpp"
#include "tap/summary.hpp"
#include "tap/verdicts.hpp"
#include "tests/unit/tap_samples.hpp"

namespace petrel::tap {
namespace {

using namespace std::chrono_literals;

// --- pairing -------------------------------------------------------------------------------------

TEST(Pairing, JoinsByCpuAndSequence) {
  Pairing pairing;
  pairing.add(arrival(1, 0));
  pairing.add(arrival(1, 3));
  pairing.add(departure(1, 3));
  pairing.add(departure(1, 0));
  const auto packets = pairing.take();
  ASSERT_EQ(packets.size(), 2u);
  for (const auto& packet : packets) {
    ASSERT_TRUE(packet.arrival && packet.departure);
    EXPECT_EQ(packet.arrival->cpu, packet.departure->cpu);
  }
  EXPECT_EQ(pairing.halves(), 0u);
}

TEST(Pairing, ArrivalWaitsForItsDepartureBetweenReads) {
  Pairing pairing;
  pairing.add(arrival(1));
  EXPECT_TRUE(pairing.take().empty());
  pairing.add(departure(1));
  EXPECT_EQ(pairing.take().size(), 1u);
}

TEST(Pairing, LostHalvesAreHandedOnAndCounted) {
  Pairing pairing;
  pairing.add(arrival(1));
  pairing.add(arrival(2));    // the departure of 1 was lost
  pairing.add(departure(3));  // so were that of 2, and the arrival of 3
  const auto packets = pairing.take();
  EXPECT_EQ(packets.size(), 3u);
  EXPECT_EQ(pairing.halves(), 3u);
  pairing.add(arrival(4));
  EXPECT_EQ(pairing.take_all().size(), 1u);
  EXPECT_TRUE(pairing.take_all().empty());
}

TEST(Pairing, HandsOnTheOldestFirst) {
  Pairing pairing;
  Sample late = departure(1, 0);
  late.header.time_ns = 900;
  Sample early = departure(1, 1);
  early.header.time_ns = 100;
  pairing.add(late);
  pairing.add(early);
  const auto packets = pairing.take();
  EXPECT_EQ(packets.at(0).first().header.time_ns, 100u);
}

// --- filters and text ----------------------------------------------------------------------------

TEST(PacketFilter, TakesByServiceBackendVerdictAndNote) {
  const TappedPacket packet = forwarded();
  EXPECT_TRUE(PacketFilter{}.takes(packet));
  EXPECT_TRUE((PacketFilter{{1}, {1}, {bpf::VERDICT_FORWARDED}}.takes(packet)));
  EXPECT_TRUE((PacketFilter{{}, {}, {bpf::VERDICT_OFF_RING}}.takes(packet)));
  EXPECT_TRUE((PacketFilter{{}, {}, {bpf::VERDICT_DROPPED, bpf::VERDICT_OFF_RING}}.takes(packet)));
  EXPECT_FALSE((PacketFilter{{2}, {}, {}}.takes(packet)));
  EXPECT_FALSE((PacketFilter{{}, {2}, {}}.takes(packet)));
  EXPECT_FALSE((PacketFilter{{}, {}, {bpf::VERDICT_STEERED}}.takes(packet)));
}

TEST(PacketFilter, VerdictIsNotGuessedOfAPacketThatNobodySawLeave) {
  const TappedPacket half{arrival(), {}};
  EXPECT_FALSE((PacketFilter{{}, {}, {bpf::VERDICT_FORWARDED}}.takes(half)));
  EXPECT_TRUE(PacketFilter{}.takes(half));
}

TEST(Verdicts, NamesAndNumbersGoBothWays) {
  const auto names = verdict_names();
  ASSERT_EQ(names.size(), static_cast<std::size_t>(bpf::VERDICTS));
  for (std::uint32_t verdict = 0; verdict < names.size(); ++verdict) {
    EXPECT_EQ(verdict_by_name(names[verdict]), verdict);
  }
  EXPECT_FALSE(verdict_by_name("eaten"));
  EXPECT_EQ(verdict_name(bpf::VERDICTS), "unknown");
}

TEST(Verdicts, EachNoteHasItsBit) {
  for (std::uint32_t note = bpf::FIRST_NOTE; note < bpf::VERDICTS; ++note) {
    bpf::tap_header header{};
    header.notes = 1u << (note - bpf::FIRST_NOTE);
    EXPECT_EQ(notes_of(header), std::vector<std::uint32_t>{note});
  }
}

TEST(Report, TextLineTellsBothSidesAndTheReason) {
  const std::string line = text_line(forwarded(), some_names(), Sides::kBoth, 0);
  EXPECT_EQ(line.substr(0, 30), "1970-01-01T00:00:05.000000123Z");
  EXPECT_NE(line.find("10.0.0.7:51812 > 10.9.9.9:80 TCP [S] 54 bytes: forwarded; service web, "
                      "backend b1; off_ring; redirect: 10.0.0.7:51812 > 10.1.0.2:8080 TCP [S]"),
            std::string::npos)
      << line;
}

TEST(Report, BackendThatCameLaterIsShownByItsId) {
  TappedPacket packet = forwarded();
  packet.departure->header.backend_id = 77;
  EXPECT_NE(arrival_comment(packet, some_names()).find("backend #77"), std::string::npos);
}

TEST(Report, JsonLineHasItsSchema) {
  const std::string line = json_line(forwarded(), some_names(), Sides::kIn, 0);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_NE(line.find(R"("schema":"petrel/tapped-packet/v1")"), std::string::npos);
  EXPECT_NE(line.find(R"("notes":["off_ring"])"), std::string::npos);
  EXPECT_EQ(line.find(R"("out")"), std::string::npos);
}

TEST(Summary, SaysAsMuchAsIsThere) {
  auto frame = syn_to_vip();
  EXPECT_EQ(summarize(frame), "10.0.0.7:51812 > 10.9.9.9:80 TCP [S]");
  for (std::size_t length = 0; length < frame.size(); ++length) {
    EXPECT_FALSE(summarize({frame.data(), length}).empty());
  }
  EXPECT_EQ(summarize({frame.data(), 40}), "10.0.0.7 > 10.9.9.9 TCP, cut short");
  frame[20] = std::byte{0};
  frame[21] = std::byte{2};
  EXPECT_EQ(summarize(frame), "10.0.0.7 > 10.9.9.9 fragment at 16");
}

TEST(Summary, ShowsWhatIsInsideEncapsulationAndVlans) {
  const auto inner = syn_to_vip();
  auto frame = bytes_of({2,    0, 0, 0, 1, 2,  2, 0,  0, 0, 1, 1, 0x81, 0, 0, 42, 0x86, 0xdd,  //
                         0x60, 0, 0, 0, 0, 40, 4, 64,                                          //
                         1,    0, 0, 0, 0, 0,  0, 0,  0, 0, 0, 0, 0,    0, 0, 7,               //
                         0xfd, 0, 0, 0, 0, 0,  0, 0,  0, 0, 0, 0, 0,    0, 0, 2});
  frame.insert(frame.end(), inner.begin() + 14, inner.end());
  EXPECT_EQ(summarize(frame), "vlan 42 100::7 > fd00::2 (10.0.0.7:51812 > 10.9.9.9:80 TCP [S])");
}

TEST(ClientPrefix, IsAnAddressOrAPrefix) {
  EXPECT_EQ(parse_client_prefix("10.0.0.0/8")->bits, 104u);
  EXPECT_EQ(parse_client_prefix("10.0.0.7")->bits, 128u);
  EXPECT_EQ(parse_client_prefix("2001:db8::/32")->bits, 32u);
  EXPECT_EQ(parse_client_prefix("::/0")->bits, 0u);
  for (const char* wrong : {"10.0.0.7/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
                            "fd00::/129", "ten", ""}) {
    EXPECT_FALSE(parse_client_prefix(wrong)) << wrong;
  }
}

// --- names and the lease -------------------------------------------------------------------------

constexpr const char* kGreeting =
    R"({"schema":"petrel/tap/v1","pin_path":"/sys/fs/bpf/petrel",)"
    R"("services":[{"id":1,"name":"web"}],"backends":[{"id":4,"name":"b1","service":"web"}]})";

TEST(Names, AreReadFromTheAgentsFirstLine) {
  const auto names = Names::parse(kGreeting);
  ASSERT_TRUE(names) << names.error().message();
  EXPECT_EQ(names->pin_path, "/sys/fs/bpf/petrel");
  EXPECT_EQ(names->service(1), "web");
  EXPECT_EQ(names->backend(4), "b1");
  EXPECT_EQ(names->backend(5), "#5");
}

TEST(Names, OtherAnswersAreRefused) {
  EXPECT_FALSE(Names::parse("hello"));
  EXPECT_FALSE(Names::parse("[]"));
  EXPECT_FALSE(Names::parse(R"({"schema":"petrel/tap/v1"})"));
  const auto other = Names::parse(R"({"schema":"petrel/tap/v9"})");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind(), ExitCode::kConflict);
}

TEST(Names, BackendIsFoundInItsServiceOrInAll) {
  const Names names = some_names();
  EXPECT_EQ(*names.backend_ids("b1", ""), (std::set<std::uint32_t>{1, 3}));
  EXPECT_EQ(*names.backend_ids("b1", "dns"), (std::set<std::uint32_t>{3}));
  const auto unknown = names.service_ids("mail");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message(), "no service is called mail: there is web, dns");
}

class LeaseTest : public testing::Test {
 protected:
  LeaseTest() {
    char pattern[] = "/tmp/petrel-lease-XXXXXX";
    directory_ = mkdtemp(pattern);
    path_ = directory_ + "/petrel.sock";
  }
  ~LeaseTest() override {
    context_.stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  // An agent that grants a tap, or refuses it.
  void serve(unsigned status) {
    auto opened =
        ApiServer::open(context_.get_executor(), path_,
                        [this, status](ApiRequest request) -> boost::asio::awaitable<ApiReply> {
                          co_return answer(request, status);
                        });
    ASSERT_TRUE(opened) << opened.error().message();
    server_ = std::move(*opened);
    boost::asio::co_spawn(context_, server_->serve(), boost::asio::detached);
    thread_ = std::thread([this] { context_.run(); });
  }
  ApiReply answer(const ApiRequest& request, unsigned status) {
    target_ = request.path + "?client=" + request.query.at("client");
    if (status != 200) {
      return {status, "application/json", R"({"error":"no","exit_code":7})", nullptr};
    }
    stream_ = std::make_shared<LineStream>(context_.get_executor());
    stream_->push(kGreeting);
    return {200, "application/json", {}, stream_};
  }

  std::string directory_;
  std::string path_;
  std::string target_;
  boost::asio::io_context context_;
  std::shared_ptr<LineStream> stream_;
  std::unique_ptr<ApiServer> server_;
  std::thread thread_;
};

TEST_F(LeaseTest, IsHeldUntilTheAgentEndsIt) {
  serve(200);
  auto lease = Lease::take(path_, "/v1/tap?sample=1&client=10.0.0.0/8", 5s);
  ASSERT_TRUE(lease) << lease.error().message();
  EXPECT_EQ((*lease)->names().service(1), "web");
  EXPECT_EQ(target_, "/v1/tap?client=10.0.0.0/8");
  EXPECT_FALSE((*lease)->ended());
  boost::asio::post(context_, [this] { stream_->finish(); });
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!(*lease)->ended() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE((*lease)->ended());
}

TEST_F(LeaseTest, EndsTheConnectionWhenItIsLetGo) {
  serve(200);
  auto lease = Lease::take(path_, "/v1/tap?client=", 5s);
  ASSERT_TRUE(lease) << lease.error().message();
  const std::weak_ptr<LineStream> held = stream_;
  boost::asio::post(context_, [this] { stream_.reset(); });
  lease->reset();
  // The server notices at its next write.
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!held.expired() && std::chrono::steady_clock::now() < deadline) {
    boost::asio::post(context_, [held] {
      if (const auto stream = held.lock()) stream->push("");
    });
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE(held.expired());
}

TEST_F(LeaseTest, RefusalComesWithTheAgentsReason) {
  serve(409);
  const auto lease = Lease::take(path_, "/v1/tap?client=x", 5s);
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().message(), "no");
  EXPECT_EQ(lease.error().kind(), ExitCode::kConflict);
}

TEST_F(LeaseTest, NoAgentIsSaidSo) {
  const auto lease = Lease::take(path_, "/v1/tap", 5s);
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().kind(), ExitCode::kUnreachable);
}

}  // namespace
}  // namespace petrel::tap
