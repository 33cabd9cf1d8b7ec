/// varlink — the Varlink protocol (varlink.org): one JSON object and a NUL per message, over a Unix stream socket. A server on an sd-event
/// loop, a blocking client.
///
/// Knows nothing of this product: interfaces, error names and HTTP resources are given to it as data. Owns its connections and their
/// buffers; buffers grow on demand and are freed when empty, timers are armed only while a peer owes something, so a quiet peer costs no
/// wake-up. Every size and time that a peer controls has a limit. Never blocks, never logs. Not thread-safe: a server, its calls and its
/// subscribers belong to the thread of its loop.
#pragma once

#include <functional>
#include <initializer_list>

#include <signal.h>
#include <systemd/sd-event.h>

#include "promwarden/base.hpp"

namespace promwarden::varlink {

class Connection;  // of the server; src/varlink/connection.hpp
class Server;

// ---- what a server offers -------------------------------------------------------------------------------------------

/// Who connected, by SO_PEERCRED: the process as it was when it connected. A pid of 0 lies outside our pid namespace.
struct Peer {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

enum class Access : std::uint8_t { anyone, root };
enum class Streaming : std::uint8_t {
    never,    // one reply; `more` changes nothing
    allowed,  // several replies to a caller who said `more`
    required  // a caller who did not say `more` gets org.varlink.service.ExpectedMore
};

/// One call, to be answered once. Answer it at once, or move it away and answer later: until then the connection's next message waits,
/// other connections do not. A call that is destroyed unanswered closes its connection. When the peer has left, answers go nowhere. A call
/// for the sake of nobody is not cancelled: what was begun goes on, and bounding it is the method's business.
class Call {
public:
    Call(Call&& other) noexcept;
    Call& operator=(Call&& other) noexcept;
    ~Call();

    [[nodiscard]] const std::string& method() const { return method_; }    // "io.example.Status"
    [[nodiscard]] const Json& parameters() const { return *parameters_; }  // an object
    [[nodiscard]] const Peer& peer() const { return peer_; }
    [[nodiscard]] bool more() const { return more_; }  // the caller takes several replies
    [[nodiscard]] bool alive() const;                  // somebody still waits for the answer

    /// The answer, an object. One that exceeds Limits::reply is replaced by the error Service::too_large.
    void reply(const Json& parameters);
    void error(std::string_view name, const Json& parameters);
    void error(std::string_view name);
    void invalid_parameter(std::string_view parameter);

    /// One reply of many to a caller who said `more`. Never blocks: what does not fit into the queue (Limits::queued_events) is counted,
    /// and when the queue has drained one event {"dropped": count} tells. False when nobody listens any more.
    bool push(const Json& event);

    /// An answer in parts, none of which is lost: `next` fills in one part and returns whether another follows. It is asked again when the
    /// part before has left, so a reader that is slow costs one part of memory. A caller who did not say `more` gets the first part only.
    void reply_in_parts(std::function<bool(Json& part)> next);

private:
    friend class Connection;
    friend class Server;
    friend class Subscribers;
    Call(std::shared_ptr<Connection> connection, std::string method, Json parameters, bool more, bool oneway);
    std::shared_ptr<Connection> take();
    void abandon();
    bool push_text(const std::shared_ptr<const std::string>& text);

    std::weak_ptr<Connection> connection_;
    std::string method_;
    std::unique_ptr<Json> parameters_;
    Peer peer_;
    bool more_ = false, oneway_ = false;
};

/// Calls that stay open to be told what happens. Those whose peer has left are forgotten at the next `add` or `push`.
class Subscribers {
public:
    void add(Call call);
    void push(const Json& event);
    [[nodiscard]] std::size_t size() const;  // of those still there

private:
    void forget_dead();
    std::vector<Call> calls_;
};

struct Method {
    std::string_view name;  // "Status"
    Access access;          // enforced before `invoke`
    Streaming streaming;
    std::vector<std::string_view> parameters;  // a call with any other is refused with InvalidParameter
    std::function<void(Call call)> invoke;     // none: org.varlink.service.MethodNotImplemented
};

struct Interface {
    std::string_view name;         // "io.example"
    std::string_view description;  // the IDL that introspection returns
    std::vector<Method> methods;
};
/// Where a table and its description disagree: a method in one and not in the other, a wrong name. Empty when they agree.
std::vector<std::string> disagreements(const Interface& interface);

/// What a plain `GET /path` on the socket gets. Whoever could open the socket may ask.
struct Page {
    int status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};
struct Resource {
    std::string_view path;  // "/metrics"
    std::function<Page()> read;
};

struct Service {
    std::string vendor, product, version, url;
    std::vector<Interface> interfaces;  // org.varlink.service is added
    std::vector<Resource> resources;
    std::string too_large;  // error name, for a reply over the limit: (limit: int)
    std::string too_many;   // error name, for a connection over the limit; sent before it is closed
};

struct Limits {
    std::size_t request = 64 << 10;   // bytes of a message, its NUL aside
    std::size_t http_head = 8 << 10;  // bytes of a request line and its headers
    std::size_t reply = 1 << 20;      // bytes of a message or page; also of the queued events of one subscriber
    int depth = 16;                   // of a message, its own braces included
    std::size_t members = 256;        // keys of one object
    std::size_t connections = 32, per_uid = 8, reserved_for_root = 4;
    std::size_t queued_events = 256;                                    // per subscriber
    std::chrono::milliseconds message_time = std::chrono::seconds(5);   // to finish a message that was begun
    std::chrono::milliseconds stalled_time = std::chrono::seconds(30);  // without progress, for a peer that does not read what it asked for
};

// ---- the server -----------------------------------------------------------------------------------------------------

/// A listening socket at an absolute path: 0660 with that group, 0600 without one. A socket that nobody answers on is replaced, one that
/// lives is Code::conflict, as is anything else of that name. The directory must exist, and no component of its path may be a symbolic
/// link. Nobody can connect before mode and group are right. Two processes that call this at the same moment must exclude each other by
/// other means.
Result<Fd> listen(const std::string& path, std::optional<gid_t> group);

/// Speaks Varlink to a peer whose first byte is '{' and HTTP/1 (GET and HEAD, one request per connection) to any other. A message that is
/// not a well-formed call (JSON of limited depth, UTF-8, no key twice, no unknown field, `method` a string, flags booleans) closes its
/// connection. One message is handled per turn of the loop, so a peer that sends many does not keep others waiting. Not to be destroyed by
/// one of its own methods.
class Server {
public:
    /// `listening` is a Unix stream socket (one of `listen`, or inherited from a socket unit). `priority` is that of its sd-event sources.
    static Result<std::unique_ptr<Server>> start(sd_event* loop, Fd listening, Service service, Limits limits = {},
                                                 std::int64_t priority = SD_EVENT_PRIORITY_NORMAL);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Serves a socket that is connected already, under the same limits.
    Result<> adopt(Fd connected);
    [[nodiscard]] std::size_t connections() const { return connections_.size(); }

private:
    friend class Connection;
    friend class Call;
    using Source = Handle<sd_event_source, sd_event_source_disable_unref>;

    Server(sd_event* loop, Service service, Limits limits, std::int64_t priority);
    [[nodiscard]] Interface introspection();
    static int on_accept(sd_event_source*, int fd, std::uint32_t events, void* server);
    static int on_resume(sd_event_source*, std::uint64_t now, void* server);
    Result<> accept_one();
    [[nodiscard]] bool admits(uid_t uid) const;
    void dispatch(Connection& connection, Call call, bool upgrade);
    void remove(const Connection& connection);

    Handle<sd_event, sd_event_unref> loop_;
    Service service_;
    Limits limits_;
    std::int64_t priority_;
    Fd listening_;
    Source accepting_, resuming_;
    std::vector<std::shared_ptr<Connection>> connections_;
};

// ---- the client -----------------------------------------------------------------------------------------------------

/// Why a call has no answer. `name` and `parameters` (an object as text) are the Varlink error's; `name` is empty when the peer did not
/// answer at all. `error.code`: denied, invalid and unsupported for the errors of org.varlink.service, limit with ETIMEDOUT for a deadline,
/// failed otherwise.
struct CallError {
    Error error;
    std::string name;
    std::string parameters = "{}";
};

class Client {
public:
    /// Code::missing when nobody serves that path (no such file, or nobody answers), Code::denied without permission.
    static Result<Client> connect(const std::string& path, std::chrono::milliseconds timeout = std::chrono::seconds(5));

    /// One call, one reply, `timeout` for both. Parameters are an object.
    std::expected<Json, CallError> call(std::string_view method, const Json& parameters,
                                        std::chrono::milliseconds timeout = std::chrono::seconds(30));

    /// A call with `more`: `each` gets every reply and returns whether to go on. Ends without error after the last reply or when `each`
    /// says so; a signal handler that ran ends it with EINTR. `waiting` is the signal mask while waiting: signals that are blocked
    /// otherwise arrive there and cannot be missed. With a `timeout`, for all replies together, signals do not count.
    std::expected<void, CallError> stream(std::string_view method, const Json& parameters,
                                          const std::function<bool(const Json& reply)>& each, const sigset_t* waiting = nullptr,
                                          std::optional<std::chrono::milliseconds> timeout = {});

private:
    using Deadline = std::optional<std::chrono::steady_clock::time_point>;
    explicit Client(Fd fd) : fd_(std::move(fd)) {}
    Result<> send(std::string_view text, Deadline deadline);
    Result<std::string> receive(Deadline deadline, const sigset_t* waiting);

    Fd fd_;  // closed after a failure: what would arrive next is no longer known
    std::string inbox_;
};

}  // namespace promwarden::varlink
