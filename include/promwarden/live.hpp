/// live — what endpoints answered when they were asked. Part of the room facts: plain values, no I/O.
///
/// An answer is evidence about Prometheus only where the socket that gave it is proved to be its own, before and after: `holder` says whose it was otherwise.
/// All texts in here were chosen by whoever answered.
#pragma once

#include <map>
#include <span>

#include "promwarden/process.hpp"

namespace promwarden::live {

/// How a request ended.
enum class End : std::uint8_t {
    answered,     // with a status of HTTP, or a handshake that let the client in
    refused,      // nobody listens, or the packet filter rejects
    handshake,    // no TLS: the peer sent an alert, or does not speak it
    closed,       // the peer closed the connection without an answer
    timeout,
    limit,        // it sent more than anybody needs
    garbage,      // it does not speak HTTP
    failed,       // anything else
};
std::string_view to_text(End end);

enum class TlsVersion : std::uint8_t { tls_1_0, tls_1_1, tls_1_2, tls_1_3 };
std::string_view to_text(TlsVersion version);  // "1.2"

enum class Asker : std::uint8_t { stranger, wrong_password, user };  // user: the policy's [prometheus.probe]
std::string_view to_text(Asker asker);

struct Answer {
    Asker asker = Asker::stranger;
    std::string method, path;
    bool tls = false;
    End end = End::failed;
    int status = 0;
    std::string location;      // where it redirects to
    std::string allow_origin;  // what a web page of another site was told
    std::string detail;
};

struct Handshake {
    enum class Certificate : std::uint8_t { none, foreign, own } certificate = Certificate::none;  // that the client showed
    TlsVersion version = TlsVersion::tls_1_3;  // the only one that was offered
    End end = End::failed;  // answered: the peer sent something back over the connection, or kept it open
    int status = 0;         // of the answer to GET /-/healthy: nginx refuses a certificate with 400
    int alert = 0;
    std::string cipher, detail;
};

/// A place where somebody listens who is, or should be, Prometheus or its proxy.
struct Endpoint {
    promwarden::Endpoint asked;     // a wildcard listener is asked at loopback
    promwarden::Endpoint listener;  // as it is bound
    bool proxy = false;             // else Prometheus itself
    std::string holder;             // somebody else holds it, or who does is not known: "nc (pid 4711) of user-1000.slice". Then nothing was asked
    bool hidden = false;            // who holds it cannot be seen from here: it may be Prometheus
    std::optional<bool> plain;      // it answers plain HTTP with something else than "speak TLS". Unset: it did not say
    std::optional<bool> tls;
    std::vector<Answer> answers;
    std::vector<Handshake> handshakes;
    std::vector<std::string> chain;  // served, DER, the leaf first
    std::string verified;            // why the chain does not verify, "" where it does
};

/// Of Prometheus itself, from whichever of its endpoints let the probe in.
struct Status {
    std::map<std::string, std::string> flags;  // /api/v1/status/flags
    std::string version;                       // /api/v1/status/buildinfo
    std::optional<bool> reloaded;              // whether the last reload of its configuration succeeded
    std::string retention;                     // storageRetention of /api/v1/status/runtimeinfo
    std::optional<std::chrono::system_clock::time_point> loaded{};  // when it loaded the configuration that it runs; whole seconds, rounded down
};

struct Facts {
    std::chrono::system_clock::time_point time;
    std::vector<Endpoint> endpoints;
    std::optional<Status> status;     // nullopt: nobody let the probe in
    std::string credential_problem;   // why the policy's user could not be tried, "" where it could or none is named
    bool has_user = false;            // the policy names one
};

}  // namespace promwarden::live
