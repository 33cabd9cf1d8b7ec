#include <array>
#include <thread>

#include <poll.h>
#include <sys/socket.h>

#include "address.hpp"
#include "promwarden/varlink.hpp"
#include "wire.hpp"

namespace promwarden::varlink {

namespace {

using Clock = std::chrono::steady_clock;

/// Waits until the socket is ready, the deadline has come (ETIMEDOUT) or a signal handler has run (EINTR).
Result<> wait(const Fd& fd, short events, std::optional<Clock::time_point> deadline, const sigset_t* signals) {
    pollfd polled{*fd, events, 0};
    timespec left{};
    if (deadline) {
        const auto time = std::max(Clock::duration::zero(), *deadline - Clock::now());
        const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
        left = {seconds.count(), std::chrono::nanoseconds(time - seconds).count()};
    }
    const int count = ::ppoll(&polled, 1, deadline ? &left : nullptr, signals);
    if (count < 0) return fail_errno("wait for answer", "");
    if (count == 0) return std::unexpected(Error{Code::limit, ETIMEDOUT, "wait for answer", "", ""});
    return {};
}

/// As wait, but signals do not count.
Result<> wait_on(const Fd& fd, short events, std::optional<Clock::time_point> deadline) {
    for (;;) {
        auto waited = wait(fd, events, deadline, nullptr);
        if (waited || waited.error().number != EINTR) return waited;
    }
}

CallError varlink_error(std::string_view method, Reply reply) {
    constexpr std::string_view standard = "org.varlink.service.";
    auto code = Code::failed;
    if (reply.error.starts_with(standard)) {
        const auto name = std::string_view(reply.error).substr(standard.size());
        if (name == "PermissionDenied")
            code = Code::denied;
        else if (name == "InvalidParameter" || name == "ExpectedMore")
            code = Code::invalid;
        else
            code = Code::unsupported;
    }
    const auto parameters = json_text(reply.parameters);
    auto detail = reply.parameters.empty() ? reply.error : reply.error + " " + parameters;
    return {{code, 0, "call", std::string(method), std::move(detail)}, std::move(reply.error), parameters};
}

}  // namespace

Result<Client> Client::connect(const std::string& path, std::chrono::milliseconds timeout) {
    const auto address = TRY(unix_address(path));
    const auto deadline = Clock::now() + timeout;
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) return fail_errno("make socket", path);
    while (::connect(*fd, address.generic(), address.size) != 0) {
        if (errno == ECONNREFUSED) return std::unexpected(Error{Code::missing, ECONNREFUSED, "connect to", path, ""});
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return fail_errno("connect to", path);
        // Its queue is full. Nothing announces a free place, so look again.
        if (Clock::now() >= deadline) return std::unexpected(Error{Code::limit, ETIMEDOUT, "connect to", path, ""});
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return Client(std::move(fd));
}

Result<> Client::send(std::string_view text, Deadline deadline) {
    while (!text.empty()) {
        const auto size = ::send(*fd_, text.data(), text.size(), MSG_NOSIGNAL);
        if (size >= 0) {
            text.remove_prefix(static_cast<std::size_t>(size));
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return {};  // a server that refuses us says why before it closes
        } else if (errno == EAGAIN) {
            TRY(wait_on(fd_, POLLOUT, deadline));
        } else if (errno != EINTR) {
            return fail_errno("send call", "");
        }
    }
    return {};
}

/// The next message. With a deadline signals do not count, without one they end the wait.
Result<std::string> Client::receive(Deadline deadline, const sigset_t* waiting) {
    std::size_t scanned = 0;
    for (;;) {
        if (const auto end = inbox_.find('\0', scanned); end != std::string::npos) {
            auto message = inbox_.substr(0, end);
            inbox_.erase(0, end + 1);
            return message;
        }
        scanned = inbox_.size();
        if (scanned > Limits{}.reply) return fail(Code::limit, "read answer", "", "it is too long");
        TRY(deadline ? wait_on(fd_, POLLIN, deadline) : wait(fd_, POLLIN, deadline, waiting));
        std::array<char, 16384> chunk;  // NOLINT: filled by recv
        const auto size = ::recv(*fd_, chunk.data(), chunk.size(), 0);
        if (size == 0) return std::unexpected(Error{Code::failed, ECONNRESET, "read answer", "", "the connection was closed"});
        if (size > 0)
            inbox_.append(chunk.data(), static_cast<std::size_t>(size));
        else if (errno != EAGAIN && errno != EINTR)
            return fail_errno("read answer", "");
    }
}

std::expected<Json, CallError> Client::call(std::string_view method, const Json& parameters, std::chrono::milliseconds timeout) {
    const auto exchange = [&]() -> Result<Reply> {
        if (!fd_) return fail(Code::invalid, "call", std::string(method), "this connection has failed before");
        const auto deadline = Clock::now() + timeout;
        TRY(send(request_text(method, parameters, false), deadline));
        return parse_reply(TRY(receive(deadline, nullptr)));
    };
    auto reply = exchange();
    if (!reply) {
        fd_ = Fd();
        return std::unexpected(CallError{std::move(reply).error(), "", "{}"});
    }
    if (!reply->error.empty()) return std::unexpected(varlink_error(method, *std::move(reply)));
    return std::move(reply->parameters);
}

std::expected<void, CallError> Client::stream(std::string_view method, const Json& parameters,
                                              const std::function<bool(const Json& reply)>& each, const sigset_t* waiting,
                                              std::optional<std::chrono::milliseconds> timeout) {
    const auto deadline = timeout ? Deadline(Clock::now() + *timeout) : std::nullopt;
    const auto ended = [&](Error error) {
        fd_ = Fd();
        return std::unexpected(CallError{std::move(error), "", "{}"});
    };
    if (!fd_) return ended({Code::invalid, 0, "call", std::string(method), "this connection has failed before"});
    if (auto sent = send(request_text(method, parameters, true), Clock::now() + std::chrono::seconds(5)); !sent)
        return ended(std::move(sent).error());
    for (;;) {
        auto message = receive(deadline, waiting);
        if (!message) return ended(std::move(message).error());
        auto reply = parse_reply(*message);
        if (!reply) return ended(std::move(reply).error());
        if (!reply->error.empty()) return std::unexpected(varlink_error(method, *std::move(reply)));
        const bool wanted = each(reply->parameters);
        if (!reply->continues) return {};
        if (wanted) continue;
        fd_ = Fd();  // more replies are under way
        return {};
    }
}

}  // namespace promwarden::varlink
