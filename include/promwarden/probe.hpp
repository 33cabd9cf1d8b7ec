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

#include <map>

#include "promwarden/live.hpp"

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
/// An error is one of the worker's: it did not ask.
std::string encode(const Result<Answer>& answer);
Result<Answer> decode_answer(std::string_view message);

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
    /// The answer, or nullopt where it is not there yet.
    Result<std::optional<Answer>> receive();
    /// Both, waiting for a second more than the request's own timeout.
    Result<Answer> ask(const Request& request);

private:
    Client(Fd fd, pid_t worker) : fd_(std::move(fd)), worker_(worker) {}
    void end();
    Fd fd_;
    pid_t worker_ = 0;
};

}  // namespace promwarden::probe
