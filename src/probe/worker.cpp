// The worker's loop: one message, one question, one answer.

#include <algorithm>
#include <array>
#include <csignal>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "parts.hpp"

namespace promwarden::probe {

namespace {

constexpr std::size_t most_clients = 8;

/// Only root may ask over a socket that has a name.
bool may_ask(int fd) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && size == sizeof peer && peer.uid == 0;
}

Result<Answer> answer_to(std::string_view message, const WorkerOptions& options) {
    const auto request = TRY(decode_request(message));
    return request.kind == Request::Kind::http ? ask_http(request, options) : shake_hands(request, options);
}

/// False when the client is gone or breaks the rules.
bool serve_one(int fd, const WorkerOptions& options, std::string& buffer) {
    // Descriptors that come along are closed by the kernel: there is no room for them in this call.
    const auto length = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0) return errno == EAGAIN || errno == EINTR;
    if (length == 0) return false;
    const bool whole = static_cast<std::size_t>(length) <= buffer.size();
    const auto answer = whole ? answer_to({buffer.data(), static_cast<std::size_t>(length)}, options) : fail(Code::limit, "read", "a probe message", "too long");
    auto text = encode(answer);
    if (text.size() > longest_answer) text = encode(fail(Code::limit, "answer", "", "the answer is too long"));
    return ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

class Clients {
public:
    Clients(Fd socket, bool listening) {
        if (listening) listening_ = std::move(socket);
        else clients_.push_back(std::move(socket));
    }

    Result<> run(const WorkerOptions& options) {
        std::string buffer(longest_request, '\0');
        while (listening_ || !clients_.empty()) {
            auto polled = watched();
            const bool idle = listening_ && clients_.empty();
            const int ready = ::poll(polled.data(), polled.size(), idle ? static_cast<int>(std::chrono::milliseconds(options.idle).count()) : -1);
            if (ready < 0 && errno != EINTR) return fail_errno("wait for", "clients");
            if (ready == 0) return {};  // the socket unit starts us again when somebody asks
            for (std::size_t i = 0; ready > 0 && i < clients_.size(); ++i)
                if (polled[i].revents != 0 && !serve_one(*clients_[i], options, buffer)) clients_[i] = Fd();
            if (ready > 0 && polled.back().fd >= 0 && polled.size() > clients_.size() && polled.back().revents != 0) accept_one();
            std::erase_if(clients_, [](const Fd& fd) { return !fd; });
        }
        return {};
    }

private:
    [[nodiscard]] std::vector<pollfd> watched() const {
        std::vector<pollfd> polled;
        for (const auto& client : clients_) polled.push_back({*client, POLLIN, 0});
        if (listening_ && clients_.size() < most_clients) polled.push_back({*listening_, POLLIN, 0});
        return polled;
    }

    void accept_one() {
        Fd client(::accept4(*listening_, nullptr, nullptr, SOCK_CLOEXEC));
        if (client && may_ask(*client)) clients_.push_back(std::move(client));
    }

    Fd listening_;
    std::vector<Fd> clients_;
};

}  // namespace

Result<> serve(Fd socket, bool listening, const WorkerOptions& options) {
    ::signal(SIGPIPE, SIG_IGN);
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(*socket, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return fail_errno("look at", "the socket");
    if (type != SOCK_SEQPACKET) return fail(Code::invalid, "serve", "the socket", "it is not one of sequential packets");
    return Clients(std::move(socket), listening).run(options);
}

}  // namespace promwarden::probe
