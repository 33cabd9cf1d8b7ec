#include "varlink_host.hpp"

TEST_CASE("size of a request: 64 KiB are read, one byte more is not") {
    Host host;
    const std::string head = R"({"method":"org.example.test.Echo","parameters":{"text":")", tail = "\"}}";
    const auto of_size = [&](std::size_t size) { return head + std::string(size - head.size() - tail.size(), 'x') + tail; };
    Wire peer(host.path);
    peer.call(of_size(65536));
    host.run();
    const auto replies = peer.replies();
    REQUIRE(replies.size() == 1);
    CHECK(replies[0]["parameters"]["text"].get<std::string>().size() == 65536 - head.size() - tail.size());
    peer.call(of_size(65537));
    host.run();
    CHECK(peer.replies().empty());
    CHECK(peer.closed);
}

TEST_CASE("size of a reply: what exceeds the limit becomes an error") {
    Host host({.reply = 1000});
    CHECK(error_of(host, R"({"method":"org.example.test.Large","parameters":{"bytes":900}})") == "none");
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Large","parameters":{"bytes":1000}})") ==
          R"(org.example.test.TooLarge{"limit":1000})");
    CHECK(error_of(host, R"({"method":"org.example.test.Parts","parameters":{"count":1}})") == "org.example.test.TooLarge");
}

TEST_CASE("a message that was begun must be finished in time") {
    Host host({.message_time = 30ms});
    Wire half(host.path), silent(host.path), http(host.path), second(host.path), waiting(host.path);
    half.send(R"({"method":)");
    http.send("GET /heal");
    second.send(std::string(R"({"method":"org.example.test.Echo"})") + '\0' + "{");
    waiting.call(R"({"method":"org.example.test.Later"})");
    waiting.send("{");
    host.run(60ms);
    for (auto* peer : {&half, &http, &second, &silent, &waiting}) peer->read();
    CHECK(half.closed);
    CHECK(http.closed);
    CHECK(second.closed);
    CHECK_FALSE(second.bytes.empty());
    CHECK_FALSE(silent.closed);
    CHECK_FALSE(waiting.closed);  // it is we who make it wait
    host.held.front().reply(Json::object());
    host.run(60ms);
    waiting.read();
    CHECK(waiting.closed);
}

TEST_CASE("a quiet connection and a quiet subscriber cost no wake-up") {
    Host host({.message_time = 5ms, .stalled_time = 5ms});
    Wire idle(host.path), subscriber(host.path);
    idle.send("{");
    host.run();
    idle.call(R"("method":"org.example.test.Echo"})");
    subscriber.call(R"({"method":"org.example.test.Watch","more":true})");
    host.run();
    host.subscribers.push({{"event", 1}});
    host.run();
    CHECK(idle.replies().size() == 1);
    CHECK(subscriber.replies().size() == 1);
    CHECK(host.run(40ms) == 0);
    CHECK(host.server->connections() == 2);
}

TEST_CASE("a subscriber that falls behind is told how many events it missed, and gets the next ones") {
    Host host;
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Watch","more":true})");
    host.run();
    constexpr int total = 700;
    const std::string padding(2000, 'x');
    for (int i = 0; i < total; ++i) host.subscribers.push({{"event", i}, {"padding", padding}});
    std::vector<Json> seen;
    const auto drain = [&] {
        for (std::size_t before = SIZE_MAX; before != seen.size();) {
            before = seen.size();
            for (auto& reply : peer.replies()) seen.push_back(reply["parameters"]);
            host.run();
        }
    };
    drain();
    REQUIRE(seen.size() > 257);
    REQUIRE(seen.back().contains("dropped"));
    CHECK(seen.back()["dropped"].get<int>() + static_cast<int>(seen.size()) - 1 == total);
    for (std::size_t i = 0; i + 1 < seen.size(); ++i) CHECK(seen[i]["event"] == i);
    host.subscribers.push({{"event", total}});
    drain();
    CHECK(seen.back()["event"] == total);
}

TEST_CASE("an event that is larger than any reply may be counts as dropped") {
    Host host({.reply = 1000});
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Watch","more":true})");
    host.run();
    host.subscribers.push({{"padding", std::string(1000, 'x')}});
    CHECK(peer.replies()[0]["parameters"].dump() == R"({"dropped":1})");
    host.subscribers.push({{"event", 1}});
    CHECK(peer.replies()[0]["parameters"].dump() == R"({"event":1})");
}

TEST_CASE("the queue of a subscriber is bounded in number") {
    Host host({.queued_events = 10});
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Later","more":true})");
    host.run();
    // Later does not stream: pushing is refused, and the one reply still works.
    CHECK_FALSE(host.held.front().push({{"event", 1}}));
    host.held.front().reply(Json::object());
    host.run();
    CHECK(peer.replies().size() == 1);

    peer.call(R"({"method":"org.example.test.Watch","more":true})");
    host.run();
    for (int i = 0; i < 500; ++i) host.subscribers.push({{"event", i}, {"padding", std::string(1000, 'x')}});
    const auto in_kernel = peer.replies().size();  // what fitted into the socket before anything was queued
    host.run();
    const auto rest = peer.replies();
    CHECK(rest.size() == 11);
    CHECK(rest.back()["parameters"]["dropped"] == 500 - static_cast<int>(in_kernel) - 10);
}

TEST_CASE("a reader that stalls is dropped, one that is slow is not") {
    Host host({.stalled_time = 60ms});
    const auto wait = [&](std::chrono::milliseconds time) {
        std::this_thread::sleep_for(time);
        host.run();
    };
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Large","parameters":{"bytes":600000}})");
    host.run();
    std::string chunk(20'000, '\0');
    for (int i = 0; i < 3; ++i) {  // less than three quarters of the socket's buffer in all: epoll says nothing of the room it makes
        CHECK(::recv(*peer.fd, chunk.data(), chunk.size(), MSG_WAITALL) == 20'000);
        wait(20ms);
    }
    wait(25ms);
    CHECK(host.server->connections() == 1);
    for (int i = 0; i < 100 && host.server->connections() > 0; ++i) wait(10ms);
    CHECK(host.server->connections() == 0);
}

TEST_CASE("an answer in parts is whole, and is made as it is read") {
    Host host;
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Parts","parameters":{"count":60},"more":true})");
    peer.call(R"({"method":"org.example.test.Echo"})");
    host.run();
    CHECK(host.parts_made < 40);
    std::vector<Json> seen;
    for (std::size_t before = SIZE_MAX; before != seen.size();) {
        before = seen.size();
        for (auto& reply : peer.replies()) seen.push_back(reply);
        host.run();
    }
    REQUIRE(seen.size() == 61);
    for (std::size_t i = 0; i < 60; ++i) {
        CHECK(seen[i]["parameters"]["part"] == i);
        CHECK(seen[i].value("continues", false) == (i < 59));
    }
    CHECK(error_of(host, R"({"method":"org.example.test.Parts","parameters":{"count":9}})") == "none");
    peer.call(R"({"method":"org.example.test.Parts","parameters":{"count":60},"more":true})");
    host.run();
    peer.fd = Fd();
    host.run();
    CHECK(host.server->connections() == 0);
}

TEST_CASE("limits of connections") {
    Host host({.connections = 5, .per_uid = 3, .reserved_for_root = 2});
    std::deque<Wire> mine;
    for (int i = 0; i < 3; ++i) mine.emplace_back(host.path);
    host.run();
    for (auto& peer : mine) {
        peer.read();
        CHECK_FALSE(peer.closed);
    }
    Wire refused(host.path);
    host.run();
    CHECK(refused.replies()[0]["error"] == "org.example.test.TooMany");
    CHECK(refused.closed);
    CHECK(host.server->connections() == 3);
    mine.pop_back();
    host.run();
    Wire admitted(host.path);
    host.run();
    admitted.read();
    CHECK_FALSE(admitted.closed);
}

TEST_CASE("places kept for root") {
    if (::geteuid() != 0) return;  // only root can become others
    Host host({.connections = 5, .per_uid = 4, .reserved_for_root = 2});
    // Others get three of five places, also when each is below its own limit.
    const auto admitted = [&] {
        std::deque<Wire> peers;
        int good = 0;
        for (int i = 0; i < 5; ++i) {
            peers.emplace_back(host.path);
            peers.back().call(R"({"method":"org.example.test.Echo"})");
            pollfd readable{*peers.back().fd, POLLIN, 0};
            ::poll(&readable, 1, 1000);
            const auto replies = peers.back().replies();
            good += !replies.empty() && !replies[0].contains("error");
        }
        return good;
    };
    CHECK(as_user(host, 65534, admitted) == 3);
    host.run();
    std::deque<Wire> mine;
    for (int i = 0; i < 4; ++i) mine.emplace_back(host.path);
    host.run();
    CHECK(host.server->connections() == 4);
    CHECK(as_user(host, 65534, admitted) == 1);
}

TEST_CASE("without a descriptor to accept with the loop does not spin, and goes on when one is free") {
    Host host;
    Wire first(host.path), waiting(host.path);
    (void)sd_event_run(host.loop.get(), 0);  // takes the first
    REQUIRE(host.server->connections() == 1);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const Fd probe(::dup(0));
    const rlimit used{static_cast<rlim_t>(*probe), before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &used) == 0);
    const int turns = host.run(20ms);
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(turns < 5);
    CHECK(host.server->connections() == 1);
    first.fd = Fd();
    waiting.call(R"({"method":"org.example.test.Echo"})");
    host.run();
    CHECK(waiting.replies().size() == 1);
}

TEST_CASE("a message that arrived while the loop was busy was in time") {
    Host host({.message_time = 10ms});
    Wire peer(host.path);
    peer.send("{");
    host.run();
    peer.call(R"("method":"org.example.test.Echo"})");
    std::this_thread::sleep_for(20ms);
    host.run();
    CHECK(peer.replies().size() == 1);
    CHECK_FALSE(peer.closed);
}
