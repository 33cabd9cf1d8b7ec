/// probe — asks live endpoints of this host, over HTTP(S) and by TLS handshakes, from a process that can do nothing else.
///
/// Two sides. The *worker* (program promwarden-probe) is unprivileged and without capabilities; it meets whatever listens out there, however hostile. The *client*
/// is for the agent and the command: it sends one small message per question and takes the answer as data from a stranger, because a worker that met a hostile
/// server may not be ours any more.
///
/// Promises of the worker: it asks only what is on `questions()`, which has no side effect on any Prometheus from 2.42 on; only addresses of this host, without
/// ever resolving a name; at most one question at a time, each within its deadline; it keeps at most 64 KiB of an answer. A message holds no path of a file and
/// no command. Credentials are the policy's and read by the worker itself: they are in no message.
/// Who may ask: over a listening socket (mode 0600) only uid 0, by SO_PEERCRED, too; over an inherited socket whoever made it.
///
/// HTTP is libcurl's, limited to http and https; handshakes are OpenSSL's own, because what libcurl hides is what is asked for there: the alert a server sent, its
/// chain byte by byte, a refusal that comes after the handshake, a resumed session.
#pragma once

#include <deque>
#include <map>
#include <set>

#include "promwarden/policy.hpp"

namespace promwarden::probe {

// ---- what may be asked ----------------------------------------------------------------------------------------------

/// A request without side effect. The body of the answer is handed on only where it is `kept`: none of those holds a secret.
struct Question {
    std::string_view method, path;
    bool kept = false;
};
std::span<const Question> questions();
const Question* find_question(std::string_view method, std::string_view path);

enum class Credential : std::uint8_t { none, wrong, own };  // own: the policy's [prometheus.probe]
enum class Identity : std::uint8_t { none, foreign, own };  // a client certificate; foreign: one that no authority signed

constexpr std::chrono::milliseconds longest_timeout{10'000};
constexpr std::size_t longest_request = 64 << 10;   // bytes of a message to the worker
constexpr std::size_t longest_answer = 160 << 10;   // and of one from it
constexpr std::size_t longest_body = 64 << 10;
constexpr std::size_t longest_chain = 16;           // certificates

/// One question to one endpoint. Plain HTTP/1.1 or, with `tls`, HTTPS; or a handshake alone.
struct Request {
    enum class Kind : std::uint8_t { http, handshake } kind = Kind::http;
    Endpoint to;
    bool tls = false;
    std::string server_name;  // for SNI and Host; "": the address
    std::string method = "GET", path = "/-/healthy";  // of questions()
    std::string prefix;       // before the path: "" or "/prometheus"
    bool foreign_origin = false;  // as a web page of another site would ask
    bool http2 = false;           // where the server offers it
    Credential credential = Credential::none;
    Identity identity = Identity::none;
    live::TlsVersion lowest = live::TlsVersion::tls_1_0, highest = live::TlsVersion::tls_1_3;
    std::string authorities;      // PEM, for a handshake: the chain is verified against these, or, where empty, the system's
    bool resume = false;          // a handshake, twice: the second resumes the session of the first
    std::chrono::milliseconds timeout{3000};
    bool operator==(const Request&) const = default;
};

/// What came of it. Everything in here was chosen by the peer, within the limits above.
struct Answer {
    live::End end = live::End::failed;
    std::string detail;  // for a person: why there was no answer
    int status = 0;      // of HTTP; 0: none came
    std::map<std::string, std::string> headers;  // lower case; location, www-authenticate, server, content-type, access-control-allow-origin
    std::string body;        // of a question whose answer is kept
    bool truncated = false;  // the body was longer
    std::string sha256;      // of as much of the body as was read

    // of a handshake
    std::optional<live::TlsVersion> version;
    std::string cipher;
    int alert = 0;                   // that the peer sent
    std::vector<std::string> chain;  // DER, the leaf first
    std::string verified;            // "" where the chain and the name hold; else why not
    std::optional<bool> resumed;
    bool operator==(const Answer&) const = default;
};

// ---- messages -------------------------------------------------------------------------------------------------------

std::string encode(const Request& request);
/// Refuses what is not on `questions()`, and every value out of its range.
Result<Request> decode_request(std::string_view message);
/// The inner error is the worker's, which did not ask; the outer one says that this is no message of a worker.
std::string encode(const Result<Answer>& answer);
Result<Result<Answer>> decode_answer(std::string_view message);

// ---- the worker -----------------------------------------------------------------------------------------------------

struct WorkerOptions {
    std::string policy = "/etc/promwarden/policy.toml";        // for [prometheus.probe]
    std::string identity = "/etc/promwarden/probe/client.pem";  // its certificate and key, in one file
    std::chrono::seconds idle{60};                              // without a client, a listening worker ends
};

/// Serves a SOCK_SEQPACKET socket until it is idle (listening) or closed (connected).
Result<> serve(Fd socket, bool listening, const WorkerOptions& options);

/// Refuses to go on as root or with any capability; gives up everything that can be given up.
Result<> confine();

// ---- the client -----------------------------------------------------------------------------------------------------

struct ClientOptions {
    std::string socket = "/run/promwarden/probe";  // of promwarden-probe.socket; "": always start a worker
    std::string policy = "/etc/promwarden/policy.toml";
    std::string program;  // of the worker that is started where nobody listens; "": beside this program, or the installed one
};

/// A connection to a worker. One question at a time. Not thread-safe.
class Client {
public:
    /// Connects; where there is no such socket it starts a worker of its own, as user promwarden-probe (nobody, where that does not exist; the caller, where the
    /// caller is not root) with no privilege, no descriptor but its socket, and no environment.
    static Result<Client> open(const ClientOptions& options);
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();  // ends the worker that it started

    /// For an event loop: readable when the answer is there.
    [[nodiscard]] int fd() const { return *fd_; }
    Result<> send(const Request& request);
    /// The answer, or why the worker did not ask; nullopt where neither is there yet. The outer error is the worker's end.
    Result<std::optional<Result<Answer>>> receive();
    /// Both, waiting for a second more than the request's own timeout.
    Result<Answer> ask(const Request& request);

private:
    Client(Fd fd, pid_t worker) : fd_(std::move(fd)), worker_(worker) {}
    void end();
    Fd fd_;
    pid_t worker_ = 0;
};

// ---- whom to ask ----------------------------------------------------------------------------------------------------

/// An address and port of this host where Prometheus, or its proxy, should answer.
struct Target {
    Endpoint asked;     // where to ask: loopback for a wildcard
    Endpoint listener;  // as it is bound
    bool proxy = false;
    std::string server_name;             // "" for Prometheus itself
    std::set<std::uint32_t> inodes;      // of the sockets that take the connection
    std::string holder;                  // "" where all of them belong to whom they should; else who has them
    bool hidden = false;                 // who has them cannot be seen from here
    bool operator==(const Target&) const = default;
};

/// Pure. `listeners` with their holders, those on other ports included or not; `vouched` are processes outside of every unit whose program only root can change
/// and is the right one: on a machine without systemd nothing better can be known. A socket belongs to Prometheus where every process that holds it is in the
/// policy's unit and has the uid of the socket (or, outside of every unit, where it is a socket of the unit's server in `servers`); to the proxy where every one is in the proxy's unit. The ports are those of `prometheus.listen`, or of the service
/// called prometheus, or 9090, and those of `servers`; and those of `access.listen`.
std::vector<Target> find_targets(const Policy& policy, std::span<const Listener> listeners, std::span<const Server> servers, const std::set<pid_t>& vouched);
/// The ports whose holders find_targets wants to know.
std::vector<PortRange> target_ports(const Policy& policy, std::span<const Server> servers);

// ---- the inquiry ----------------------------------------------------------------------------------------------------

/// Which questions follow from which answers. Pure: what is not asked of this object does not happen.
class Survey {
public:
    /// `has_user`: the policy names one for the probe.
    Survey(std::vector<Target> targets, bool has_user);

    /// What to ask now; null when there is nothing left.
    [[nodiscard]] const Request* next() const;
    /// The answer to that, or why the worker did not ask.
    void take(const Result<Answer>& answer);
    /// What was learned. Answers of a target that is not in `after` as it was before are thrown away: whoever gave them may not have been who held the socket.
    [[nodiscard]] live::Facts finish(std::span<const Target> after, std::chrono::system_clock::time_point now) const;

private:
    enum class Purpose : std::uint8_t { speaks_tls, speaks_plain, question, handshake };
    struct Step {
        std::size_t target = 0;
        Purpose purpose = Purpose::question;
        live::Asker asker = live::Asker::stranger;
        Request request;
    };
    void add(std::size_t target, Purpose purpose, live::Asker asker, Request request);
    Request to(std::size_t target) const;
    void take(const Step& step, const Answer& answer);
    void take_tls(std::size_t target, const Answer& answer);
    void take_plain(std::size_t target, const Answer& answer);
    void take_question(const Step& step, const Answer& answer);
    void take_handshake(const Step& step, const Answer& answer);
    void go_deeper(std::size_t target);
    void ask_as_user(std::size_t target);
    void ask_handshakes(std::size_t target);
    void read_status(const Request& request, const Answer& answer);
    void give_up(std::size_t target);
    void drop_user(std::size_t target, const Error& error);

    std::vector<Target> targets_;
    std::set<std::size_t> certified_;  // those that let nobody in without a client certificate
    std::deque<Step> steps_;
    live::Facts facts_;
};

/// A survey with a worker: for an event loop, or to be waited for.
class Inquiry {
public:
    static Result<Inquiry> begin(const ClientOptions& options, std::vector<Target> targets, bool has_user);
    [[nodiscard]] int fd() const { return client_.fd(); }
    /// Takes what is there and asks the next. True when everything was asked. The error is the worker's end.
    Result<bool> proceed();
    /// Proceeds until it is done. What was not asked within `limit` stays unknown.
    Result<> wait(std::chrono::milliseconds limit);
    [[nodiscard]] const Survey& survey() const { return survey_; }

private:
    Inquiry(Client client, Survey survey) : client_(std::move(client)), survey_(std::move(survey)) {}
    Result<bool> ask();
    Client client_;
    Survey survey_;
};

}  // namespace promwarden::probe
