#include "connection.hpp"

#include <algorithm>
#include <array>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "promwarden/http.hpp"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5, include/uapi/asm-generic/socket.h
#endif

namespace promwarden::varlink {

namespace {
constexpr std::size_t piece = 16 << 10;
}

Result<> arm(sd_event* loop, Source& timer, std::chrono::milliseconds delay, std::int64_t priority, sd_event_time_handler_t handler,
             void* context) {
    // From now, not from the beginning of this turn of the loop: a method may have taken its time since. (steady_clock is CLOCK_MONOTONIC.)
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch());
    const auto length = std::chrono::microseconds(delay);
    const auto when = static_cast<std::uint64_t>((now + length).count());
    if (timer != nullptr) {
        int status = sd_event_source_set_time(timer.get(), when);
        if (status >= 0) status = sd_event_source_set_enabled(timer.get(), SD_EVENT_ONESHOT);
        return status < 0 ? Result<>(fail_errno("arm timer", "", -status)) : Result<>{};
    }
    sd_event_source* source = nullptr;
    const auto slack = std::clamp<std::int64_t>(length.count() / 10, 1, 250'000);  // may fire with somebody else's timer
    if (const int status = sd_event_add_time(loop, &source, CLOCK_MONOTONIC, when, static_cast<std::uint64_t>(slack), handler, context);
        status < 0)
        return fail_errno("add timer", "", -status);
    timer.reset(source);
    sd_event_source_set_priority(source, priority);
    return {};
}

Result<> Connection::start() {
    sd_event_source* source = nullptr;
    if (const int status = sd_event_add_io(server_.loop_.get(), &source, *fd_, EPOLLIN, on_io, this); status < 0)
        return fail_errno("watch connection", "", -status);
    io_.reset(source);
    if (const int status = sd_event_add_defer(server_.loop_.get(), &source, on_work, this); status < 0)
        return fail_errno("watch connection", "", -status);
    working_.reset(source);
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    for (auto* const each : {io_.get(), working_.get()}) sd_event_source_set_priority(each, server_.priority_);
    return {};
}

bool Connection::is_root() const {
    if (peer_.uid != 0) return false;
    int number = -1;
    socklen_t size = sizeof number;
    if (::getsockopt(*fd_, SOL_SOCKET, SO_PEERPIDFD, &number, &size) != 0)
        return errno == ENOPROTOOPT;  // before Linux 6.5 the credentials must do
    const Fd process{number};
    pollfd exited{*process, POLLIN, 0};
    return ::poll(&exited, 1, 0) == 0;
}

// ---- events ---------------------------------------------------------------------------------------------------------

int Connection::on_io(sd_event_source*, int, std::uint32_t events, void* connection) {
    const auto self = static_cast<Connection*>(connection)->shared_from_this();
    if ((events & EPOLLOUT) != 0) self->flush();
    if ((events & EPOLLIN) != 0) self->receive();
    // The peer has closed both ways. What it sent before is still worth handling, an answer is not worth waiting for.
    else if ((events & (EPOLLHUP | EPOLLERR)) != 0 && !self->ready())
        self->dead_ = true;
    if (!self->dead_) self->work();
    self->settle();
    return 0;
}

int Connection::on_work(sd_event_source*, void* connection) {
    const auto self = static_cast<Connection*>(connection)->shared_from_this();
    self->work();
    self->settle();
    return 0;
}

int Connection::on_time(sd_event_source*, std::uint64_t, void* connection) {
    const auto self = static_cast<Connection*>(connection)->shared_from_this();
    bool kept = false;
    if (self->owes_ == Owes::reading) {
        // epoll calls a socket writable when three quarters of its buffer are free; a slow reader may have made room without that.
        self->flush();
        kept = self->progressed_;
    } else {
        // What has arrived while the loop was busy elsewhere was in time.
        self->receive();
        kept = self->closing_ || self->ready();
    }
    if (kept)
        self->work();
    else
        self->dead_ = true;
    self->settle();
    return 0;
}

bool Connection::ready() {
    if (dead_ || closing_ || !outbox_.empty()) return false;
    if (parts_) return true;
    if (busy_) return false;
    return protocol_ == Protocol::http ? http_head_end(inbox_.rest()).has_value() : inbox_.message().has_value();
}

/// Exactly one thing per turn of the loop.
void Connection::work() {
    if (!ready()) return;
    if (parts_)
        next_part();
    else if (protocol_ == Protocol::http)
        handle_http();
    else
        handle_message();
}

void Connection::settle() {
    if (io_ == nullptr) return;  // removed before, by something that work() called
    if (outbox_.empty() && (closing_ || (ended_ && !busy_ && !ready()))) dead_ = true;
    if (dead_) {
        io_.reset();
        working_.reset();
        timer_.reset();
        return server_.remove(*this);
    }
    const bool sending = !outbox_.empty(), working = ready();
    const bool reading = !sending && !working && !busy_ && !ended_;
    sd_event_source_set_enabled(working_.get(), working ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
    // Without a bit the kernel still tells of a peer that has gone.
    sd_event_source_set_io_events(io_.get(), (sending ? EPOLLOUT : 0U) | (reading ? EPOLLIN : 0U));
    expect(sending ? Owes::reading : reading && !inbox_.empty() ? Owes::rest_of_message : Owes::nothing);
}

void Connection::expect(Owes what) {
    if (what == owes_ && !progressed_) return;
    owes_ = what;
    progressed_ = false;
    if (what == Owes::nothing) {
        if (timer_ != nullptr) sd_event_source_set_enabled(timer_.get(), SD_EVENT_OFF);
        return;
    }
    const auto time = what == Owes::reading ? server_.limits_.stalled_time : server_.limits_.message_time;
    if (!arm(server_.loop_.get(), timer_, time, server_.priority_, on_time, this)) close();
}

void Connection::close() {
    if (dead_) return;
    dead_ = true;
    settle();
}

// ---- input ----------------------------------------------------------------------------------------------------------

std::size_t Connection::capacity() const {
    const auto message = server_.limits_.request + 1, head = server_.limits_.http_head;
    return protocol_ == Protocol::varlink ? message : protocol_ == Protocol::http ? head : std::min(message, head);
}

void Connection::receive() {
    std::array<char, 8192> chunk;  // NOLINT: filled by recv
    const auto size = ::recv(*fd_, chunk.data(), std::min(chunk.size(), capacity() - inbox_.rest().size()), MSG_DONTWAIT);
    if (size < 0) {
        if (errno != EAGAIN && errno != EINTR) dead_ = true;
        return;
    }
    if (size == 0) {
        ended_ = true;
        return;
    }
    inbox_.append({chunk.data(), static_cast<std::size_t>(size)});
    if (protocol_ == Protocol::unknown) sniff();
    if (closing_ || inbox_.rest().size() < capacity() || ready()) return;
    if (protocol_ == Protocol::varlink)
        dead_ = true;
    else
        answer(http_refusal(431));
}

void Connection::sniff() {
    const char first = inbox_.rest().front();
    protocol_ = first == '{' ? Protocol::varlink : Protocol::http;
    if (protocol_ == Protocol::http && (first < 'A' || first > 'Z')) answer(http_refusal(400));  // neither: do not wait for its end
}

void Connection::handle_message() {
    const auto message = *inbox_.message();
    auto request = parse_request(message, server_.limits_.depth, server_.limits_.members);
    inbox_.take(message);
    progressed_ = true;
    if (!request) {
        dead_ = true;
        return;
    }
    busy_ = true;
    server_.dispatch(*this,
                     Call(shared_from_this(), std::move(request->method), std::move(request->parameters), request->more, request->oneway),
                     request->upgrade);
}

void Connection::handle_http() {
    const std::string head(inbox_.rest().substr(0, *http_head_end(inbox_.rest())));
    inbox_.clear();
    try {
        answer(http_response(head, server_.service_.resources, server_.limits_.reply));
    } catch (const std::exception&) {
        answer(http_refusal(500));
    }
}

// ---- output ---------------------------------------------------------------------------------------------------------

void Connection::enqueue(Text text) {
    queued_bytes_ += text->size();
    outbox_.push_back(std::move(text));
}

void Connection::flush() {
    while (!dead_) {
        if (outbox_.empty()) {
            if (dropped_ == 0) return;
            enqueue(std::make_shared<const std::string>(reply_text({{"dropped", std::exchange(dropped_, 0)}}, true)));
        }
        const auto& front = *outbox_.front();
        // In small pieces, because the kernel frees a piece when all of it was read: so a slow reader makes progress that can be seen.
        const auto size = ::send(*fd_, front.data() + sent_, std::min(front.size() - sent_, piece), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) {
            if (errno != EAGAIN) dead_ = true;
            return;
        }
        progressed_ = true;
        sent_ += static_cast<std::size_t>(size);
        if (sent_ < front.size()) continue;
        queued_bytes_ -= front.size();
        sent_ = 0;
        outbox_.pop_front();
        if (outbox_.empty()) std::deque<Text>().swap(outbox_);
    }
}

std::string Connection::checked(std::string text) const {
    if (text.size() <= server_.limits_.reply) return text;
    return error_text(server_.service_.too_large, {{"limit", server_.limits_.reply}});
}

void Connection::answer(std::string text) {
    busy_ = false;
    closing_ = protocol_ == Protocol::http;
    if (dropped_ > 0) enqueue(std::make_shared<const std::string>(reply_text({{"dropped", std::exchange(dropped_, 0)}}, true)));
    enqueue(std::make_shared<const std::string>(std::move(text)));
    flush();
    settle();
}

void Connection::answer_in_parts(std::function<bool(Json& part)> next, bool more) {
    parts_ = std::move(next);
    more_parts_ = more;
    settle();
}

void Connection::next_part() {
    Json part = Json::object();
    bool follows = false;
    try {
        follows = parts_(part) && more_parts_;
    } catch (const std::exception&) {
        dead_ = true;
        return;
    }
    auto text = reply_text(part, follows);
    if (!follows || text.size() > server_.limits_.reply) {
        parts_ = nullptr;
        return answer(checked(std::move(text)));
    }
    enqueue(std::make_shared<const std::string>(std::move(text)));
    flush();
}

bool Connection::push(const Text& text) {
    if (dead_) return false;
    const auto& limits = server_.limits_;
    const bool full = outbox_.size() >= limits.queued_events || (queued_bytes_ + text->size() > limits.reply && !outbox_.empty()) ||
                      text->size() > limits.reply;
    const bool idle = outbox_.empty();
    if (dropped_ > 0 || full)
        ++dropped_;
    else
        enqueue(text);
    if (idle) {
        flush();
        settle();
    }
    return !dead_;
}

void Connection::skip() {
    busy_ = false;
    settle();
}

}  // namespace promwarden::varlink
