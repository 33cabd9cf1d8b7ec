// A server with one method of each kind, over real Unix sockets. Its loop runs in the test's thread; raw peers are driven between its
// turns, blocking clients run in another thread or process.
#pragma once

#include <cstring>
#include <deque>
#include <filesystem>
#include <future>
#include <thread>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "promwarden/varlink.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace promwarden::varlink;
using namespace std::chrono_literals;

inline constexpr std::string_view description = R"(interface org.example.test
type Entry (text: string, count: int)
method Echo(text: ?string) -> (text: ?string)
method Secret() -> ()
method Later() -> (answer: int)
method Forget() -> ()
method Trip() -> ()
method Large(bytes: int) -> (text: string)
method Watch() -> (event: ?int, dropped: ?int)
method Parts(count: int) -> (part: int)
method Planned() -> ()
error TooLarge (limit: int)
)";

/// A server with one method of each kind.
struct Host {
    TemporaryDirectory directory;
    std::string path = directory / "socket";
    Handle<sd_event, sd_event_unref> loop;
    Subscribers subscribers;
    std::deque<Call> held;
    int parts_made = 0;
    int secrets = 0;
    std::unique_ptr<Server> server;

    explicit Host(Limits limits = {}) {
        sd_event* created = nullptr;
        REQUIRE(sd_event_new(&created) >= 0);
        loop.reset(created);
        auto listening = listen(path, std::nullopt);
        REQUIRE(listening);
        ::chmod(path.c_str(), 0666);
        auto started = Server::start(created, *std::move(listening), service(), limits);
        REQUIRE(started);
        server = *std::move(started);
    }

    Interface interface() {
        const auto parts = [this](Call call) {
            const auto count = call.parameters().value("count", 0);
            call.reply_in_parts([this, count, part = 0](Json& into) mutable {
                into = {{"part", part}, {"padding", std::string(10'000, 'x')}};
                ++parts_made;
                return ++part < count;
            });
        };
        return {"org.example.test",
                description,
                {{"Echo", Access::anyone, Streaming::never, {"text"}, [](Call call) { call.reply(call.parameters()); }},
                 {"Secret",
                  Access::root,
                  Streaming::never,
                  {},
                  [this](Call call) {
                      ++secrets;
                      call.reply(Json::object());
                  }},
                 {"Later", Access::anyone, Streaming::never, {}, [this](Call call) { held.push_back(std::move(call)); }},
                 {"Forget", Access::anyone, Streaming::never, {}, [](Call) {}},
                 {"Trip",
                  Access::anyone,
                  Streaming::never,
                  {},
                  [](Call call) {
                      call.reply({{"x", call.parameters().at("absent")}});
                  }},
                 {"Large",
                  Access::anyone,
                  Streaming::never,
                  {"bytes"},
                  [](Call call) {
                      call.reply({{"text", std::string(call.parameters().value("bytes", 0U), 'x')}});
                  }},
                 {"Watch", Access::anyone, Streaming::required, {}, [this](Call call) { subscribers.add(std::move(call)); }},
                 {"Parts", Access::anyone, Streaming::allowed, {"count"}, parts},
                 {"Planned", Access::anyone, Streaming::never, {}, {}}}};
    }

    Service service() {
        Service service{
            "Example", "test", "1", "https://example.org/", {interface()}, {}, "org.example.test.TooLarge", "org.example.test.TooMany"};
        service.resources = {{"/healthz", [] { return Page{.body = "ok\n"}; }},
                             {"/metrics",
                              [] {
                                  return Page{503, "application/openmetrics-text", "# EOF\n"};
                              }},
                             {"/large", [] { return Page{.body = std::string((1 << 20) + 1, 'x')}; }},
                             {"/trip", []() -> Page { throw std::runtime_error("trip"); }}};
        return service;
    }

    /// Runs the loop until it has been quiet for that long; the number of turns it took.
    int run(std::chrono::milliseconds quiet = 0ms) {
        int turns = 0;
        while (sd_event_run(loop.get(), static_cast<std::uint64_t>(std::chrono::microseconds(quiet).count())) > 0) ++turns;
        return turns;
    }

    /// Runs the loop until a blocking client in another thread is done.
    template <class Function>
    auto run_with(Function&& function) {
        auto result = std::async(std::launch::async, std::forward<Function>(function));
        while (result.wait_for(0s) != std::future_status::ready) (void)sd_event_run(loop.get(), 500);
        return result.get();
    }
};

/// A peer that sends what it likes.
struct Wire {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::string bytes;
    bool closed = false;

    explicit Wire(const std::string& path) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        if (::connect(*fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) closed = true;
    }
    void send(std::string_view text) const { (void)::send(*fd, text.data(), text.size(), MSG_NOSIGNAL); }
    void call(std::string_view json) const { send(std::string(json) + '\0'); }
    void read() {
        char chunk[65536];
        for (;;) {
            const auto size = ::recv(*fd, chunk, sizeof chunk, MSG_DONTWAIT);
            if (size > 0)
                bytes.append(chunk, static_cast<std::size_t>(size));
            else if (size == 0 || errno != EAGAIN)
                closed = true;
            if (size <= 0) return;
        }
    }
    /// The replies so far.
    std::vector<Json> replies() {
        read();
        std::vector<Json> result;
        for (std::size_t end = 0; (end = bytes.find('\0')) != std::string::npos; bytes.erase(0, end + 1))
            result.push_back(Json::parse(bytes.substr(0, end)));
        return result;
    }
};

/// What comes back for these bytes.
inline std::string ask(Host& host, std::string_view bytes) {
    Wire peer(host.path);
    peer.send(bytes);
    host.run();
    peer.read();
    return peer.bytes;
}

inline std::string error_of(Host& host, const std::string& json) {
    const auto answer = ask(host, json + '\0');
    return answer.empty() ? "closed" : Json::parse(answer.substr(0, answer.size() - 1)).value("error", "none");
}

inline std::string error_and_parameters(Host& host, const std::string& json) {
    const auto answer = ask(host, json + '\0');
    const auto reply = Json::parse(answer.substr(0, answer.size() - 1));
    return reply.value("error", "none") + reply["parameters"].dump();
}

/// Runs the function in a child process as another user; its exit status.
template <class Function>
int as_user(Host& host, uid_t user, Function&& function) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(user) != 0 || ::setuid(user) != 0) ::_exit(99);
        ::_exit(function());
    }
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) (void)sd_event_run(host.loop.get(), 1000);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A message that carries one descriptor.
struct Parcel {
    char byte = 0;
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    msghdr message{};
    Parcel() {
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
    }
};

inline bool pass(const Fd& over, const Fd& fd) {
    Parcel parcel;
    auto* header = CMSG_FIRSTHDR(&parcel.message);
    header->cmsg_len = CMSG_LEN(sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    const int number = *fd;
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
    return ::sendmsg(*over, &parcel.message, 0) == 1;
}

inline Fd receive(const Fd& over) {
    Parcel parcel;
    if (::recvmsg(*over, &parcel.message, MSG_CMSG_CLOEXEC) != 1) return {};
    int number = -1;
    std::memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&parcel.message)), sizeof number);
    return Fd(number);
}
