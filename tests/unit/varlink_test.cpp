#include "varlink_host.hpp"

TEST_CASE("introspection") {
    Host host;
    Wire peer(host.path);
    peer.call(R"({"method":"org.varlink.service.GetInfo"})");
    peer.call(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.example.test"}})");
    peer.call(R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.varlink.service"}})");
    host.run();
    const auto replies = peer.replies();
    REQUIRE(replies.size() == 3);
    CHECK(
        replies[0].dump() ==
        R"({"parameters":{"vendor":"Example","product":"test","version":"1","url":"https://example.org/","interfaces":["org.varlink.service","org.example.test"]}})");
    CHECK(replies[1]["parameters"]["description"] == description);
    CHECK(replies[2]["parameters"]["description"].get<std::string>().find("method GetInfo()") != std::string::npos);
    CHECK(disagreements(host.interface()).empty());
}

TEST_CASE("a table and its description: what disagrees is named") {
    const Interface wrong{
        "org.example.other", "interface org.example.test\nmethod Gone() -> ()\n", {{"New", Access::anyone, Streaming::never, {}, {}}}};
    CHECK(disagreements(wrong) == std::vector<std::string>{"the description is not of interface org.example.other", "not described: New",
                                                           "not in the table: Gone"});
}

TEST_CASE("errors of the standard interface") {
    Host host;
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Nothing"})") ==
          R"(org.varlink.service.MethodNotFound{"method":"org.example.test.Nothing"})");
    CHECK(error_and_parameters(host, R"({"method":"org.example.none.Echo"})") ==
          R"(org.varlink.service.InterfaceNotFound{"interface":"org.example.none"})");
    CHECK(error_and_parameters(host, R"({"method":"Echo"})") == R"(org.varlink.service.InterfaceNotFound{"interface":""})");
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Planned"})") ==
          R"(org.varlink.service.MethodNotImplemented{"method":"org.example.test.Planned"})");
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Watch"})") == "org.varlink.service.ExpectedMore{}");
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Echo","parameters":{"path":"/"}})") ==
          R"(org.varlink.service.InvalidParameter{"parameter":"path"})");
    CHECK(error_and_parameters(host, R"({"method":"org.example.test.Echo","upgrade":true})") ==
          R"(org.varlink.service.InvalidParameter{"parameter":"upgrade"})");
    CHECK(error_and_parameters(host, R"({"method":"org.varlink.service.GetInterfaceDescription"})") ==
          R"(org.varlink.service.InvalidParameter{"parameter":"interface"})");
    CHECK(error_of(host, R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"x.y"}})") ==
          "org.varlink.service.InterfaceNotFound");
    CHECK(error_of(host, R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":7}})") ==
          "org.varlink.service.InvalidParameter");
}

TEST_CASE("a malformed message closes its connection, and no other") {
    Host host;
    Wire bystander(host.path);
    host.run();
    const std::string echo = R"({"method":"org.example.test.Echo")";
    for (const auto& message : std::vector<std::string>{
             "{}", "{", R"({"method":7})", R"({"method":""})", echo + R"(,"method":"x.y"})", echo + R"(,"extra":1})",
             echo + R"(,"more":1})", echo + R"(,"oneway":"yes"})", echo + R"(,"parameters":[]})", echo + R"(,"parameters":"x"})",
             echo + R"(,"more":true,"oneway":true})", echo + R"(,"parameters":{"text":1,"text":2}})",
             echo + ",\"parameters\":{\"text\":\"\xff\"}}",
             echo + R"(,"parameters":{"text":)" + std::string(15, '[') + std::string(15, ']') + "}}",
             echo + R"(,"parameters":{"text":18446744073709551615}})", echo + R"(,"parameters":{"text":1e999}})", echo + "} x"})
        CHECK_MESSAGE(error_of(host, message) == "closed", message);
    CHECK(host.server->connections() == 1);

    std::string many = echo + R"(,"parameters":{"a")" + ":0";
    for (int i = 0; i < 256; ++i) many += ",\"" + std::to_string(i) + "\":0";
    CHECK(error_of(host, many + "}}") == "closed");

    // The same, just inside the limits, is answered.
    CHECK(error_of(host, echo + R"(,"parameters":{"text":)" + std::string(14, '[') + std::string(14, ']') + "}}") == "none");
    CHECK(error_of(host, echo + R"(,"parameters":null,"more":false,"oneway":null})") == "none");

    // Only what follows a first good message must be an object, too.
    Wire peer(host.path);
    peer.call(echo + "}");
    peer.call("[]");
    peer.call(echo + "}");
    host.run();
    CHECK(peer.replies().size() == 1);
    CHECK(peer.closed);
    bystander.call(echo + "}");
    host.run();
    CHECK(bystander.replies().size() == 1);
}

TEST_CASE("pipelined calls are answered in order, also in pieces, also behind a deferred one") {
    Host host;
    Wire peer(host.path);
    std::string calls;
    for (int i = 0; i < 200; ++i) calls += R"({"method":"org.example.test.Echo","parameters":{"text":)" + std::to_string(i) + "}}" + '\0';
    peer.send(calls);
    host.run();
    const auto replies = peer.replies();
    REQUIRE(replies.size() == 200);
    for (int i = 0; i < 200; ++i) CHECK(replies[static_cast<std::size_t>(i)]["parameters"]["text"] == i);

    const std::string later = R"({"method":"org.example.test.Later"})", echo = R"({"method":"org.example.test.Echo"})";
    for (const char c : later + '\0' + echo + '\0' + R"({"meth)") {
        peer.send({&c, 1});
        host.run();
    }
    CHECK(peer.replies().empty());
    REQUIRE(host.held.size() == 1);
    CHECK(host.held.front().alive());
    host.held.front().reply({{"answer", 42}});
    CHECK_FALSE(host.held.front().alive());
    host.held.front().reply({{"answer", 43}});  // answered once, that is that
    host.run();
    const auto late = peer.replies();
    REQUIRE(late.size() == 2);
    CHECK(late[0]["parameters"]["answer"] == 42);
    CHECK(late[1]["parameters"].empty());
    peer.call(R"(od":"org.example.test.Echo"})");
    host.run();
    CHECK(peer.replies().size() == 1);
}

TEST_CASE("a call that is forgotten, or trips over its parameters, closes its connection") {
    Host host;
    CHECK(error_of(host, R"({"method":"org.example.test.Forget"})") == "closed");
    CHECK(error_of(host, R"({"method":"org.example.test.Trip"})") == "closed");
    CHECK(host.server->connections() == 0);
}

TEST_CASE("oneway: done, not answered") {
    Host host;
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Secret","oneway":true})");
    peer.call(R"({"method":"org.example.test.Nothing","oneway":true})");
    peer.call(R"({"method":"org.example.test.Forget","oneway":true})");
    peer.call(R"({"method":"org.example.test.Later","oneway":true})");
    peer.call(R"({"method":"org.example.test.Echo"})");
    host.run();
    CHECK(host.secrets == (::geteuid() == 0 ? 1 : 0));
    CHECK(peer.replies().empty());  // Later is not done
    REQUIRE(host.held.size() == 1);
    host.held.clear();
    host.run();
    CHECK(peer.replies().size() == 1);
    CHECK_FALSE(peer.closed);
}

TEST_CASE("calls of a peer that closes at once are still handled") {
    Host host;
    {
        const Wire peer(host.path);
        for (int i = 0; i < 3; ++i) peer.call(R"({"method":"org.example.test.Secret","oneway":true})");
    }
    host.run();
    CHECK(host.secrets == (::geteuid() == 0 ? 3 : 0));
    CHECK(host.server->connections() == 0);
}

TEST_CASE("a peer that only stops sending gets its answers, one that leaves takes its calls with it") {
    Host host;
    Wire half(host.path);
    half.call(R"({"method":"org.example.test.Later"})");
    half.call(R"({"method":"org.example.test.Echo"})");
    ::shutdown(*half.fd, SHUT_WR);
    CHECK(host.run() < 20);
    REQUIRE(host.held.size() == 1);
    CHECK(host.held.front().alive());
    host.held.front().reply(Json::object());
    host.run();
    CHECK(half.replies().size() == 2);
    CHECK(half.closed);
    host.held.clear();

    {
        const Wire gone(host.path);
        gone.call(R"({"method":"org.example.test.Later"})");
        gone.call(R"({"method":"org.example.test.Watch","more":true})");
        host.run();
    }
    host.run();
    REQUIRE(host.held.size() == 1);
    CHECK_FALSE(host.held.front().alive());
    host.held.front().reply(Json::object());
    CHECK(host.server->connections() == 0);
}

TEST_CASE("calls outlive their server") {
    Host host;
    Wire peer(host.path);
    peer.call(R"({"method":"org.example.test.Later"})");
    host.run();
    REQUIRE(host.held.size() == 1);
    host.server.reset();
    CHECK_FALSE(host.held.front().alive());
    host.held.front().reply(Json::object());
    CHECK(peer.replies().empty());
    CHECK(peer.closed);
}

TEST_CASE("subscribers: events arrive, the dead are forgotten") {
    Host host;
    Wire one(host.path), two(host.path);
    for (auto* peer : {&one, &two}) peer->call(R"({"method":"org.example.test.Watch","more":true})");
    host.run();
    host.subscribers.push({{"event", 1}});
    CHECK(one.replies()[0].dump() == R"({"parameters":{"event":1},"continues":true})");
    CHECK(two.replies().size() == 1);
    CHECK(host.subscribers.size() == 2);
    two.fd = Fd();
    host.run();
    CHECK(host.subscribers.size() == 1);
    host.subscribers.push({{"event", 2}});
    CHECK(one.replies().size() == 1);
    ::shutdown(*one.fd, SHUT_WR);
    CHECK(host.run() < 20);
    host.subscribers.push({{"event", 3}});
    CHECK(one.replies().size() == 1);
}

TEST_CASE("access: root's methods are root's, while the process that connected lives") {
    if (::geteuid() != 0) return;  // only root can become others
    Host host;
    const auto code_of_secret = [&] {
        auto client = Client::connect(host.path);
        const auto answer = client->call("org.example.test.Secret", Json::object());
        return answer                                                                                                       ? 0
               : answer.error().name == "org.varlink.service.PermissionDenied" && answer.error().error.code == Code::denied ? 1
                                                                                                                            : 2;
    };
    CHECK(as_user(host, 0, code_of_secret) == 0);
    CHECK(host.secrets == 1);
    CHECK(as_user(host, 65534, code_of_secret) == 1);
    CHECK(as_user(host, 65534, [&] { return Client::connect(host.path)->call("org.example.test.Echo", Json::object()) ? 0 : 1; }) == 0);

    // The one who connected is gone; whoever holds its descriptor is not root by that.
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const Fd left(pair[0]), right(pair[1]);
    int number = -1;
    socklen_t size = sizeof number;
    const bool kernel_tells = ::getsockopt(*left, SOL_SOCKET, 77, &number, &size) == 0;  // SO_PEERPIDFD
    const Fd process(number);
    as_user(host, 0, [&] { return pass(right, Wire(host.path).fd) ? 0 : 1; });
    Wire peer("");
    peer.fd = receive(left);
    peer.call(R"({"method":"org.example.test.Secret"})");
    host.run();
    CHECK(peer.replies()[0].contains("error") == kernel_tells);
}
