// Sockets that reach only this host, and what a TLS client of ours accepts: everything, because what a server offers is what is asked.

#include <array>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include "parts.hpp"

namespace promwarden::probe {

namespace {

constexpr long most_certificates = 64 << 10;  // bytes of a server's chain

constexpr std::array<int, 4> protocol_versions{TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};

}  // namespace

socklen_t fill_address(const Endpoint& to, sockaddr_storage& storage) {
    storage = {};
    if (to.address.family == Family::ip4) {
        auto& address = reinterpret_cast<sockaddr_in&>(storage);
        address.sin_family = AF_INET;
        address.sin_port = htons(to.port);
        std::memcpy(&address.sin_addr, to.address.bytes.data(), sizeof address.sin_addr);
        return sizeof address;
    }
    auto& address = reinterpret_cast<sockaddr_in6&>(storage);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(to.port);
    std::memcpy(&address.sin6_addr, to.address.bytes.data(), sizeof address.sin6_addr);
    return sizeof address;
}

Result<Fd> local_socket(const Endpoint& to) {
    sockaddr_storage storage;
    const auto length = fill_address({to.address, 0}, storage);
    Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!fd) return fail_errno("open a socket to", to_text(to));
    const int yes = 1;
    ::setsockopt(*fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (::bind(*fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0) return fd;
    if (errno == EADDRNOTAVAIL) return fail(Code::denied, "ask", to_text(to), "this is not an address of this host");
    return fail_errno("bind to", to_text(to.address));
}

bool wait(int fd, short events, Clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        if (left.count() <= 0) return false;
        pollfd one{fd, events, 0};
        const int ready = ::poll(&one, 1, static_cast<int>(left.count()));
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return false;
    }
}

std::string plain_text(std::string_view bytes, std::size_t limit) {
    std::string text(bytes.substr(0, limit));
    for (auto& c : text)
        if (c < 0x20 || c == 0x7f || static_cast<unsigned char>(c) >= 0x80) c = '?';
    return text;
}

std::string openssl_reason(const char* otherwise) {
    const auto error = ::ERR_get_error();
    ::ERR_clear_error();
    const auto* reason = error == 0 ? nullptr : ::ERR_reason_error_string(error);
    return reason == nullptr ? otherwise : reason;
}

Result<> prepare(SSL_CTX* context, const Request& request, const WorkerOptions& options) {
    ::SSL_CTX_set_security_level(context, 0);
    ::SSL_CTX_set_min_proto_version(context, protocol_versions[static_cast<std::size_t>(request.lowest)]);
    ::SSL_CTX_set_max_proto_version(context, protocol_versions[static_cast<std::size_t>(request.highest)]);
    ::SSL_CTX_set_max_cert_list(context, most_certificates);
    ::SSL_CTX_set_verify_depth(context, 8);
    if (::SSL_CTX_set_cipher_list(context, "ALL:!aNULL:@SECLEVEL=0") != 1) return fail(Code::unsupported, "set", "TLS ciphers", openssl_reason(""));
    if (request.identity == Identity::foreign) return use_identity(context, *TRY(foreign_identity()));
    if (request.identity == Identity::own) return use_identity(context, TRY(read_identity(options.identity)));
    return {};
}

}  // namespace promwarden::probe
