// SPDX-License-Identifier: MIT
// Probes of a server on loopback: by connecting, and by asking it.
#include "agent/prober.hpp"

#include <gtest/gtest.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <optional>

namespace petrel {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// Takes connections one after the other and answers each with the same text; none: not at all.
struct Server {
  asio::io_context io;
  tcp::acceptor acceptor{io};
  std::optional<std::string> answer;
  std::string asked;

  explicit Server(const asio::ip::address& address, std::optional<std::string> text)
      : answer(std::move(text)) {
    acceptor.open(address.is_v6() ? tcp::v6() : tcp::v4());
    acceptor.bind({address, 0});
    acceptor.listen();
    asio::co_spawn(io, serve(), asio::detached);
  }

  asio::awaitable<void> serve() {
    std::vector<tcp::socket> kept;
    for (;;) {
      tcp::socket& socket = kept.emplace_back(co_await acceptor.async_accept(asio::use_awaitable));
      std::array<char, 1024> bytes{};
      boost::system::error_code error;
      const std::size_t got = co_await socket.async_read_some(
          asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
      asked.assign(bytes.data(), got);
      if (answer && got > 0) co_await asio::async_write(socket, asio::buffer(*answer), asio::use_awaitable);
    }
  }

  ProbeResult probe(const std::string& path) {
    ProbeTarget target{.address = {}, .port = acceptor.local_endpoint().port(), .path = path};
    if (acceptor.local_endpoint().address().is_v6()) {
      target.address.bytes[15] = 1;
    } else {
      target.address.bytes[10] = target.address.bytes[11] = 0xff;
      target.address.bytes[12] = 127;
      target.address.bytes[15] = 1;
    }
    ProbeResult result = ProbeResult::kUnknown;
    asio::co_spawn(io, probe_backend(target), [&](const std::exception_ptr&, ProbeResult found) {
      result = found;
      io.stop();
    });
    io.restart();
    io.run();
    return result;
  }
};

std::string status(int code) {
  return "HTTP/1.1 " + std::to_string(code) + " X\r\nContent-Length: 0\r\n\r\n";
}

const asio::ip::address kV4 = asio::ip::make_address("127.0.0.1");
const asio::ip::address kV6 = asio::ip::make_address("::1");

TEST(Prober, ConnectingIsEnoughWithoutAPath) {
  for (const auto& address : {kV4, kV6}) {
    Server server(address, std::nullopt);
    EXPECT_EQ(server.probe(""), ProbeResult::kAnswers);
    EXPECT_EQ(server.asked, "");
  }
}

TEST(Prober, AsksForThePath) {
  for (const auto& address : {kV4, kV6}) {
    Server server(address, status(204));
    EXPECT_EQ(server.probe("/health?deep=1"), ProbeResult::kAnswers);
    EXPECT_TRUE(server.asked.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: ")) << server.asked;
  }
}

TEST(Prober, WhatIsNoGoodAnswerIsARefusal) {
  EXPECT_EQ(Server(kV4, status(302)).probe("/"), ProbeResult::kAnswers);
  EXPECT_EQ(Server(kV4, status(404)).probe("/"), ProbeResult::kRefuses);
  EXPECT_EQ(Server(kV4, status(503)).probe("/"), ProbeResult::kRefuses);
  EXPECT_EQ(Server(kV4, "SSH-2.0-OpenSSH_9.2p1\r\n").probe("/"), ProbeResult::kRefuses);
}

TEST(Prober, OneThatAcceptsAndDoesNotAnswerIsSilent) {
  EXPECT_EQ(Server(kV4, std::nullopt).probe("/"), ProbeResult::kSilent);
}

TEST(Prober, APortWhereNobodyListensRefuses) {
  Server server(kV4, status(200));
  ProbeTarget target{.address = {}, .port = server.acceptor.local_endpoint().port(), .path = "/"};
  target.address.bytes[10] = target.address.bytes[11] = 0xff;
  target.address.bytes[12] = 127;
  target.address.bytes[15] = 1;
  server.acceptor.close();
  asio::io_context io;
  ProbeResult result = ProbeResult::kUnknown;
  asio::co_spawn(io, probe_backend(target),
                 [&](const std::exception_ptr&, ProbeResult found) { result = found; });
  io.run();
  EXPECT_EQ(result, ProbeResult::kRefuses);
}

}  // namespace
}  // namespace petrel
