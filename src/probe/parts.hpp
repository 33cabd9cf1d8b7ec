// What the worker's files share.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

using Clock = std::chrono::steady_clock;

/// A socket that can only reach `to` where that is an address of this host: it is bound to the same address. Not connected yet, non-blocking.
Result<Fd> local_socket(const Endpoint& to);
/// The address as the kernel takes it; its length.
socklen_t fill_address(const Endpoint& to, sockaddr_storage& storage);
/// Waits for `events`; false when the deadline is over.
bool wait(int fd, short events, Clock::time_point deadline);

struct Login {
    std::string user, password;
};
/// The policy's [prometheus.probe]; the password is read anew each time. Refused where others can read or write the file.
Result<Login> read_login(const std::string& policy);

/// A certificate with its key and the rest of its chain.
struct KeyPair {
    Handle<X509, X509_free> certificate;
    Handle<EVP_PKEY, EVP_PKEY_free> key;
    std::vector<Handle<X509, X509_free>> chain;
};
Result<KeyPair> read_identity(const std::string& path);
/// One that no authority signed, made once.
Result<const KeyPair*> foreign_identity();
/// The pair that a request asks for; an empty one for Identity::none.
Result<> use_identity(SSL_CTX* context, const KeyPair& pair);

/// The versions of a request, every cipher of theirs, no verification that would end a handshake.
Result<> prepare(SSL_CTX* context, const Request& request, const WorkerOptions& options);

/// Printable ASCII, at most `limit` bytes: fit for a message.
std::string plain_text(std::string_view bytes, std::size_t limit);
std::string openssl_reason(const char* otherwise);

Result<Answer> ask_http(const Request& request, const WorkerOptions& options);
Result<Answer> shake_hands(const Request& request, const WorkerOptions& options);

}  // namespace promwarden::probe
