#include "varlink_host.hpp"

TEST_CASE("HTTP: what is there, what is not, what is wrong") {
    Host host;
    const auto status = [&](std::string_view request) {
        const auto answer = ask(host, request);
        return answer.substr(0, answer.find("\r\n"));
    };
    CHECK(ask(host, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nCache-Control: no-store\r\nConnection: "
          "close\r\n\r\nok\n");
    CHECK(ask(host, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
              .ends_with("Content-Length: 3\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"));
    CHECK(status("GET /healthz?x=1 HTTP/1.0\r\n\r\n") == "HTTP/1.1 200 OK");
    CHECK(status("GET /healthz HTTP/1.0\n\n") == "HTTP/1.1 200 OK");
    CHECK(status("GET /metrics HTTP/1.0\r\n\r\n") == "HTTP/1.1 503 Service Unavailable");
    CHECK(status("GET /healthz/ HTTP/1.0\r\n\r\n") == "HTTP/1.1 404 Not Found");
    CHECK(ask(host, "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").find("405 Method Not Allowed\r\n") == 9);
    CHECK(ask(host, "DELETE /none HTTP/1.0\r\n\r\n").find("\r\nAllow: GET, HEAD\r\n") != std::string::npos);
    for (const auto* wrong : {"GET /healthz\r\n\r\n", "GET  /healthz HTTP/1.0\r\n\r\n", "GET healthz HTTP/1.0\r\n\r\n",
                              "GET http://x/healthz HTTP/1.0\r\n\r\n", "GET /a b HTTP/1.0\r\n\r\n", "GET /\x01 HTTP/1.0\r\n\r\n",
                              "GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
                              "GET /healthz HTTP/1.0\r\nno colon\r\n\r\n", "GET /healthz HTTP/1.0\r\n : x\r\n\r\n",
                              "GET /healthz HTTP/1.0\r\na: \x01\r\n\r\n", "\x16\x03\x01", " ", "[]", "get / HTTP/1.0\r\n\r\n"})
        CHECK_MESSAGE(status(wrong) == "HTTP/1.1 400 Bad Request", wrong);
    CHECK(status("GET /healthz HTTP/2.0\r\n\r\n") == "HTTP/1.1 505 HTTP Version Not Supported");
    CHECK(status("GET /large HTTP/1.0\r\n\r\n") == "HTTP/1.1 500 Internal Server Error");
    CHECK(status("GET /trip HTTP/1.0\r\n\r\n") == "HTTP/1.1 500 Internal Server Error");
    const std::string padding(8192 - 36, 'x');
    CHECK(status("GET /healthz HTTP/1.0\r\npadding: " + padding + "\r\n\r\n") == "HTTP/1.1 200 OK");
    CHECK(status("GET /healthz HTTP/1.0\r\npadding: x" + padding + "\r\n\r\n") == "HTTP/1.1 431 Request Header Fields Too Large");
    CHECK(host.server->connections() == 0);
}

TEST_CASE("listen: mode, group, stale sockets and everything else that may have the name") {
    const TemporaryDirectory directory;
    const auto path = directory / "socket";
    struct stat status {};
    {
        const auto fd = listen(path, std::nullopt);
        REQUIRE(fd);
        REQUIRE(::lstat(path.c_str(), &status) == 0);
        CHECK(status.st_mode == (S_IFSOCK | 0600));
        CHECK(listen(path, std::nullopt).error().code == Code::conflict);
    }
    REQUIRE(listen(path, ::getegid()));  // the one before was stale
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    CHECK(status.st_mode == (S_IFSOCK | 0660));
    if (::geteuid() == 0) {
        REQUIRE(listen(path, 4));
        REQUIRE(::lstat(path.c_str(), &status) == 0);
        CHECK(status.st_gid == 4);
    }
    REQUIRE(publish_file(directory / "file", "text", 0600));
    CHECK(listen(directory / "file", std::nullopt).error().code == Code::conflict);
    std::filesystem::create_symlink("nowhere", directory / "link");
    CHECK(listen(directory / "link", std::nullopt).error().code == Code::conflict);
    std::filesystem::create_directory_symlink(directory.path, directory / "same");
    CHECK(listen(directory / "same/socket", std::nullopt).error().number == ELOOP);
    CHECK(listen(directory / "none/socket", std::nullopt).error().code == Code::missing);
    CHECK(listen("socket", std::nullopt).error().code == Code::invalid);
    CHECK(listen(directory / std::string(120, 'x'), std::nullopt).error().code == Code::invalid);
}

TEST_CASE("start: only a listening Unix stream socket will do") {
    Host host;
    Fd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), deaf(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        datagram(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    for (auto* fd : {&tcp, &deaf, &datagram}) CHECK(Server::start(host.loop.get(), std::move(*fd), {}).error().code == Code::invalid);
    CHECK_FALSE(Server::start(host.loop.get(), Fd(), {}));
}

TEST_CASE("client: nobody there, no permission") {
    const TemporaryDirectory directory;
    CHECK(Client::connect(directory / "none").error().code == Code::missing);
    REQUIRE(listen(directory / "deaf", std::nullopt));
    CHECK(Client::connect(directory / "deaf").error().code == Code::missing);
    CHECK(Client::connect(std::string(200, 'x')).error().code == Code::invalid);
    if (::geteuid() != 0) return;  // root is refused nothing
    const auto fd = listen(directory / "closed", std::nullopt);
    Host host;
    CHECK(as_user(host, 65534, [&] { return Client::connect(directory / "closed").error().code == Code::denied ? 0 : 1; }) == 0);
}

TEST_CASE("client: answers, errors, deadlines") {
    Host host({.reply = 400'000});
    host.run_with([&] {
        auto client = Client::connect(host.path);
        REQUIRE(client);
        const auto echo = client->call("org.example.test.Echo", {{"text", "hello"}});
        REQUIRE(echo);
        CHECK(echo->dump() == R"({"text":"hello"})");
        const auto large = client->call("org.example.test.Large", {{"bytes", 300'000}});
        REQUIRE(large);
        CHECK((*large)["text"].get<std::string>().size() == 300'000);
        const auto too_large = client->call("org.example.test.Large", {{"bytes", 400'000}});
        REQUIRE_FALSE(too_large);
        CHECK(too_large.error().name == "org.example.test.TooLarge");
        CHECK(too_large.error().parameters == R"({"limit":400000})");
        CHECK(too_large.error().error.text() == R"(call org.example.test.Large: org.example.test.TooLarge {"limit":400000})");
        CHECK(client->call("org.example.test.Nothing", Json::object()).error().error.code == Code::unsupported);
        CHECK(client->call("org.example.test.Echo", {{"x", 1}}).error().error.code == Code::invalid);
        const auto late = client->call("org.example.test.Later", Json::object(), 20ms);
        REQUIRE_FALSE(late);
        CHECK(late.error().name.empty());
        CHECK(late.error().error.number == ETIMEDOUT);
        CHECK(client->call("org.example.test.Echo", Json::object()).error().error.code == Code::invalid);  // nobody knows what would come
        auto other = Client::connect(host.path);
        CHECK(other->call("org.example.test.Forget", Json::object()).error().error.number == ECONNRESET);
        return 0;
    });
}

TEST_CASE("client: a server that refuses the connection says why") {
    Host host({.connections = 0});
    host.run_with([&] {
        auto client = Client::connect(host.path);
        CHECK(client->call("org.example.test.Echo", Json::object()).error().name == "org.example.test.TooMany");
        return 0;
    });
}

TEST_CASE("client: streams end when they end, when the caller says so, and on a signal") {
    Host host;
    host.run_with([&] {
        auto client = Client::connect(host.path);
        int parts = 0;
        CHECK(client->stream("org.example.test.Parts", {{"count", 5}}, [&](const Json&) { return ++parts > 0; }));
        CHECK(parts == 5);
        CHECK(client->call("org.example.test.Echo", Json::object()));  // the stream has ended, the connection goes on
        CHECK(client->stream("org.example.test.Parts", {{"count", 5}}, [&](const Json&) { return false; }));
        CHECK_FALSE(client->call("org.example.test.Echo", Json::object()));
        auto other = Client::connect(host.path);
        CHECK(other->stream("org.example.test.Nothing", Json::object(), [](const Json&) { return true; }).error().name ==
              "org.varlink.service.MethodNotFound");
        CHECK(other->stream("org.example.test.Forget", Json::object(), [](const Json&) { return true; }).error().error.number ==
              ECONNRESET);
        return 0;
    });
    // A signal that came before the wait must not be missed: it is blocked until then.
    const auto interrupted = [&] {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ::sigaction(SIGUSR1, &action, nullptr);
        sigset_t blocked, during;
        ::sigemptyset(&blocked);
        ::sigaddset(&blocked, SIGUSR1);
        ::sigprocmask(SIG_BLOCK, &blocked, &during);
        ::kill(::getpid(), SIGUSR1);
        auto client = Client::connect(host.path);
        const auto ended = client->stream(
            "org.example.test.Watch", Json::object(), [](const Json&) { return true; }, &during);
        return !ended && ended.error().error.number == EINTR ? 0 : 1;
    };
    CHECK(as_user(host, ::geteuid(), interrupted) == 0);
}
