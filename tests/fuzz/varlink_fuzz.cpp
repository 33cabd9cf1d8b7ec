// Whatever a peer sends: every reply is a well-formed message or one HTTP response, and a connection ends when its peer does.

#include <cstdlib>

#include <sys/socket.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "../../src/varlink/wire.hpp"
#include "promwarden/varlink.hpp"

using namespace promwarden;
using namespace promwarden::varlink;

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

struct Target {
    Handle<sd_event, sd_event_unref> loop;
    Subscribers subscribers;
    std::unique_ptr<Server> server;

    Target() {
        sd_event* created = nullptr;
        require(sd_event_new(&created) >= 0);
        loop.reset(created);
        // An unnamed listener: connections are handed over by `adopt`.
        Fd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr any{AF_UNIX, {}};
        require(::bind(*listening, &any, sizeof(sa_family_t)) == 0 && ::listen(*listening, 1) == 0);
        const auto echo = [](Call call) { call.reply(call.parameters()); };
        const auto parts = [](Call call) {
            call.reply_in_parts([n = 0](Json& part) mutable {
                part["n"] = n;
                return ++n < 3;
            });
        };
        const auto watch = [this](Call call) {
            subscribers.add(std::move(call));
            subscribers.push({{"event", 1}});
        };
        Service service{"v", "p", "1", "u", {}, {{"/a", [] { return Page{.body = "a"}; }}}, "x.TooLarge", "x.TooMany"};
        service.interfaces = {{"a.b",
                               "interface a.b\n",
                               {{"Echo", Access::anyone, Streaming::never, {"text"}, echo},
                                {"Forget", Access::anyone, Streaming::never, {}, [](Call) {}},
                                {"Parts", Access::anyone, Streaming::allowed, {}, parts},
                                {"Planned", Access::anyone, Streaming::never, {}, {}},
                                {"Watch", Access::anyone, Streaming::required, {}, watch}}}};
        auto started = Server::start(created, std::move(listening), std::move(service));
        require(started.has_value());
        server = *std::move(started);
    }

    void run() const {
        while (sd_event_run(loop.get(), 0) > 0) {
        }
    }
};

std::string converse(const Target& target, std::string_view bytes) {
    int pair[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const Fd mine(pair[0]);
    require(target.server->adopt(Fd(pair[1])).has_value());
    std::string received;
    char chunk[65536];
    while (!bytes.empty()) {
        const auto size = ::send(*mine, bytes.data(), std::min<std::size_t>(bytes.size(), 40'000), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size > 0) bytes.remove_prefix(static_cast<std::size_t>(size));
        target.run();
        const auto got = ::recv(*mine, chunk, sizeof chunk, MSG_DONTWAIT);
        if (got > 0) received.append(chunk, static_cast<std::size_t>(got));
        if (size <= 0 && got <= 0) break;  // it has closed, or waits for us
    }
    ::shutdown(*mine, SHUT_WR);
    for (ssize_t got = 1; got > 0;) {
        target.run();
        got = ::recv(*mine, chunk, sizeof chunk, MSG_DONTWAIT);
        if (got > 0) received.append(chunk, static_cast<std::size_t>(got));
    }
    return received;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Target target;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const auto received = converse(target, bytes);
    target.run();
    require(target.server->connections() == 0 && target.subscribers.size() == 0);
    if (received.empty()) return 0;
    if (!bytes.starts_with('{')) {
        require(received.starts_with("HTTP/1.1 ") && received.find("\r\n\r\n") != std::string::npos);
        return 0;
    }
    Inbox inbox;
    inbox.append(received);
    while (const auto message = inbox.message()) {
        require(parse_reply(*message).has_value());
        inbox.take(*message);
    }
    require(inbox.empty());
    return 0;
}
