// One connection of a server: what it has read, what it owes, and what it waits for.
#pragma once

#include <deque>

#include "promwarden/varlink.hpp"
#include "wire.hpp"

namespace promwarden::varlink {

using Source = Handle<sd_event_source, sd_event_source_disable_unref>;
using Text = std::shared_ptr<const std::string>;  // shared, because one event goes to many

/// A time source, made when it is first needed. Fires once.
Result<> arm(sd_event* loop, Source& timer, std::chrono::milliseconds delay, std::int64_t priority, sd_event_time_handler_t handler,
             void* context);

/// At any moment it does one of four things, in this order of preference, and `settle` arranges the event sources for it:
///   send (something is queued), work (a part or a message is ready), wait (a call is out and unanswered), read.
/// So input stays in the kernel while a call is out or a reply unread, and a peer is never owed more than one answer.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(Server& server, Fd fd, Peer peer) : server_(server), fd_(std::move(fd)), peer_(peer) {}
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    Result<> start();
    [[nodiscard]] const Peer& peer() const { return peer_; }
    [[nodiscard]] bool alive() const { return !dead_; }
    /// Whether the process that connected was root and still lives: a descriptor that outlived it proves nothing.
    [[nodiscard]] bool is_root() const;

    // for its one Call
    void answer(std::string text);
    void answer_in_parts(std::function<bool(Json& part)> next, bool more);
    void skip();  // a oneway call is done
    void close();
    bool push(const Text& text);
    [[nodiscard]] std::string checked(std::string text) const;

private:
    enum class Protocol : std::uint8_t { unknown, varlink, http };
    enum class Owes : std::uint8_t { nothing, rest_of_message, reading };  // what the peer owes us, within a time

    static int on_io(sd_event_source*, int fd, std::uint32_t events, void* connection);
    static int on_work(sd_event_source*, void* connection);
    static int on_time(sd_event_source*, std::uint64_t now, void* connection);

    void receive();
    void sniff();
    void flush();
    void enqueue(Text text);
    void work();
    void handle_message();
    void handle_http();
    void next_part();
    void settle();
    void expect(Owes what);
    [[nodiscard]] bool ready();
    [[nodiscard]] std::size_t capacity() const;  // of the inbox: what has not ended within it is too long

    Server& server_;
    Fd fd_;
    Peer peer_;
    Source io_, working_, timer_;
    Inbox inbox_;
    std::deque<Text> outbox_;
    std::size_t sent_ = 0;          // bytes of the first text in outbox_ that have left
    std::size_t queued_bytes_ = 0;  // of outbox_, what has left included
    std::int64_t dropped_ = 0;      // events since the queue was last empty
    std::function<bool(Json& part)> parts_;
    Protocol protocol_ = Protocol::unknown;
    Owes owes_ = Owes::nothing;
    bool more_parts_ = false;
    bool progressed_ = false;  // since the timer was armed
    bool busy_ = false;        // a Call is out
    bool ended_ = false;       // the peer will send no more
    bool closing_ = false;     // close when outbox_ is empty
    bool dead_ = false;
};

}  // namespace promwarden::varlink
