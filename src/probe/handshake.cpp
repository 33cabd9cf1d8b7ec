// TLS handshakes, and the one request behind them without which TLS 1.3 does not tell whether the client was let in.

#include <array>
#include <charconv>

#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include "parts.hpp"

namespace promwarden::probe {

namespace {

using Context = Handle<SSL_CTX, SSL_CTX_free>;
using Stream = Handle<SSL, SSL_free>;
using Session = Handle<SSL_SESSION, SSL_SESSION_free>;

constexpr std::size_t longest_line = 4 << 10;

/// What happens during one connection; OpenSSL's callbacks write into it.
struct Witness {
    int alert = 0;
    Session session;
};

Witness& witness_of(const SSL* stream) { return *static_cast<Witness*>(SSL_get_app_data(stream)); }

void on_event(const SSL* stream, int where, int value) {
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value >> 8) == SSL3_AL_FATAL) witness_of(stream).alert = value & 0xff;
}

int on_session(SSL* stream, SSL_SESSION* session) {
    witness_of(stream).session.reset(session);  // a reference of ours now
    return 1;
}

Result<> trust(SSL_CTX* context, const std::string& authorities) {
    if (authorities.empty()) {
        ::SSL_CTX_set_default_verify_paths(context);
        return {};
    }
    const Handle<BIO, BIO_free> source(::BIO_new_mem_buf(authorities.data(), static_cast<int>(authorities.size())));
    auto* store = ::SSL_CTX_get_cert_store(context);
    int count = 0;
    while (true) {
        const Handle<X509, X509_free> authority(::PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr));
        if (!authority) break;
        ::X509_STORE_add_cert(store, authority.get());
        ++count;
    }
    ::ERR_clear_error();
    return count > 0 ? Result<>{} : fail(Code::invalid, "read", "authorities", "no certificate is in there");
}

std::optional<live::TlsVersion> version_of(const SSL* stream) {
    switch (::SSL_version(stream)) {
        case TLS1_VERSION: return live::TlsVersion::tls_1_0;
        case TLS1_1_VERSION: return live::TlsVersion::tls_1_1;
        case TLS1_2_VERSION: return live::TlsVersion::tls_1_2;
        case TLS1_3_VERSION: return live::TlsVersion::tls_1_3;
        default: return std::nullopt;
    }
}

std::vector<std::string> chain_of(const SSL* stream) {
    std::vector<std::string> chain;
    const auto* certificates = ::SSL_get_peer_cert_chain(stream);
    for (int i = 0; certificates != nullptr && i < sk_X509_num(certificates) && chain.size() < longest_chain; ++i) {
        std::string der(static_cast<std::size_t>(std::max(::i2d_X509(sk_X509_value(certificates, i), nullptr), 0)), '\0');
        auto* out = reinterpret_cast<unsigned char*>(der.data());
        ::i2d_X509(sk_X509_value(certificates, i), &out);
        chain.push_back(std::move(der));
    }
    return chain;
}

/// One connection: to the handshake's end, and as far behind it as the answer to one request.
class Connection {
public:
    Connection(const Request& request, Clock::time_point deadline) : request_(request), deadline_(deadline) {}

    Result<Answer> run(SSL_CTX* context, SSL_SESSION* resumed) {
        fd_ = TRY(local_socket(request_.to));
        if (const auto end = connect(); end != live::End::answered) return std::move(answer_);
        stream_.reset(::SSL_new(context));
        if (!stream_) return fail(Code::failed, "start", "a TLS connection", openssl_reason("out of memory"));
        SSL_set_app_data(stream_.get(), &witness);
        ::SSL_set_fd(stream_.get(), *fd_);
        name_peer();
        if (resumed != nullptr) ::SSL_set_session(stream_.get(), resumed);
        const bool shaken = step([&] { return ::SSL_connect(stream_.get()); }) > 0;
        if (shaken) describe();
        if (shaken) converse();
        answer_.alert = witness.alert;
        if (answer_.alert != 0) answer_.end = live::End::handshake, answer_.detail = fmt::format("alert {}: {}", answer_.alert, ::SSL_alert_desc_string_long(answer_.alert));
        return std::move(answer_);
    }

    Witness witness;

private:
    live::End connect() {
        sockaddr_storage storage;
        const auto length = fill_address(request_.to, storage);
        int error = ::connect(*fd_, reinterpret_cast<const sockaddr*>(&storage), length) == 0 ? 0 : errno;
        if (error == EINPROGRESS) {
            if (!wait(*fd_, POLLOUT, deadline_)) return set(live::End::timeout, "no connection");
            socklen_t size = sizeof error;
            ::getsockopt(*fd_, SOL_SOCKET, SO_ERROR, &error, &size);
        }
        if (error == 0) return live::End::answered;
        return set(error == ECONNREFUSED ? live::End::refused : error == ETIMEDOUT ? live::End::timeout : live::End::failed, fail_errno("connect", "", error).error().text());
    }

    live::End set(live::End end, std::string detail) {
        answer_.end = end;
        answer_.detail = plain_text(detail, 200);
        return end;
    }

    void name_peer() {
        auto* parameters = ::SSL_get0_param(stream_.get());
        ::X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
        const auto address = to_text(request_.to.address);
        if (request_.server_name.empty() || parse_address(request_.server_name)) {
            ::X509_VERIFY_PARAM_set1_ip_asc(parameters, (request_.server_name.empty() ? address : request_.server_name).c_str());
        } else {
            ::SSL_set1_host(stream_.get(), request_.server_name.c_str());
            ::SSL_ctrl(stream_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, request_.server_name.data());
        }
    }

    /// Runs an operation of OpenSSL until it is done, fails, or the time is over; says in the answer why it was not done.
    template <class Operation>
    int step(Operation operation) {
        for (;;) {
            ::ERR_clear_error();
            errno = 0;
            const int done = operation();
            if (done > 0) return done;
            const int number = errno;
            switch (::SSL_get_error(stream_.get(), done)) {
                case SSL_ERROR_WANT_READ:
                    if (wait(*fd_, POLLIN, deadline_)) continue;
                    set(live::End::timeout, "the peer kept silent");
                    return -1;
                case SSL_ERROR_WANT_WRITE:
                    if (wait(*fd_, POLLOUT, deadline_)) continue;
                    set(live::End::timeout, "the peer does not read");
                    return -1;
                case SSL_ERROR_ZERO_RETURN: set(live::End::closed, "the peer closed the connection"); return 0;
                case SSL_ERROR_SYSCALL: set(live::End::closed, number == 0 ? "the peer closed the connection" : fail_errno("read", "", number).error().text()); return 0;
                default: return fault();
            }
        }
    }

    int fault() {
        const auto error = ::ERR_peek_error();
        const bool closed = ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
        const bool large = ERR_GET_REASON(error) == SSL_R_EXCESSIVE_MESSAGE_SIZE;
        set(closed ? live::End::closed : large ? live::End::limit : live::End::handshake, openssl_reason("no reason was given"));
        return 0;
    }

    void describe() {
        answer_.version = version_of(stream_.get());
        answer_.cipher = ::SSL_get_cipher_name(stream_.get());
        answer_.chain = chain_of(stream_.get());
        answer_.resumed = ::SSL_session_reused(stream_.get()) == 1;
        const auto verified = ::SSL_get_verify_result(stream_.get());
        if (verified != X509_V_OK) answer_.verified = ::X509_verify_cert_error_string(verified);
    }

    void converse() {
        const auto host = request_.server_name.empty() ? to_text(request_.to) : request_.server_name;
        const auto text = fmt::format("GET {}/-/healthy HTTP/1.1\r\nHost: {}\r\nUser-Agent: promwarden-probe\r\nConnection: close\r\n\r\n", request_.prefix, host);
        if (step([&] { return ::SSL_write(stream_.get(), text.data(), static_cast<int>(text.size())); }) <= 0) return;
        std::string line;
        std::array<char, 1024> part{};
        while (!line.contains('\n')) {
            if (line.size() > longest_line) return void(set(live::End::garbage, "a first line without end"));
            const int length = step([&] { return ::SSL_read(stream_.get(), part.data(), static_cast<int>(part.size())); });
            if (length <= 0) return;
            line.append(part.data(), static_cast<std::size_t>(length));
        }
        constexpr std::string_view start = "HTTP/1.";
        int status = 0;
        if (line.starts_with(start) && line.size() > 12) std::from_chars(line.data() + 9, line.data() + 12, status);
        if (status < 100) return void(set(live::End::garbage, "no answer of HTTP"));
        answer_.status = status;
        answer_.end = live::End::answered;
        answer_.detail.clear();
    }

    Request request_;
    Clock::time_point deadline_;
    Fd fd_;
    Stream stream_;
    Answer answer_;
};

}  // namespace

Result<Answer> shake_hands(const Request& request, const WorkerOptions& options) {
    const Context context(::SSL_CTX_new(::TLS_client_method()));
    if (!context) return fail(Code::failed, "start", "TLS", openssl_reason("out of memory"));
    TRY(prepare(context.get(), request, options));
    TRY(trust(context.get(), request.authorities));
    ::SSL_CTX_set_info_callback(context.get(), on_event);
    ::SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    ::SSL_CTX_sess_set_new_cb(context.get(), on_session);
    const auto deadline = Clock::now() + request.timeout;
    Connection first(request, deadline);
    auto answer = TRY(first.run(context.get(), nullptr));
    if (!request.resume || !first.witness.session) return answer;
    Connection second(request, deadline);
    return second.run(context.get(), first.witness.session.get());
}

}  // namespace promwarden::probe
