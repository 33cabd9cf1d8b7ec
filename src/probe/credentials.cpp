// Who the worker can be: the policy's user, the holder of its own client certificate, or somebody whom no authority knows.

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include "parts.hpp"
#include "promwarden/policy.hpp"

namespace promwarden::probe {

namespace {

constexpr std::size_t longest_password = 1024;
constexpr std::size_t longest_identity = 64 << 10;

/// A file of ours that nobody may have changed and that is not for everybody's eyes.
Result<std::string> read_closed(const std::string& path, std::size_t limit) {
    auto file = TRY(read_trusted_file(path, limit));
    if ((file.mode & S_IROTH) != 0) return fail(Code::untrusted, "read", path, "every user can read it");
    return std::move(file.text);
}

std::unexpected<Error> failed(std::string action, const std::string& subject) { return fail(Code::failed, std::move(action), subject, openssl_reason("OpenSSL gave no reason")); }

Handle<BIO, BIO_free> text_source(const std::string& text) { return Handle<BIO, BIO_free>(::BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

Result<KeyPair> make_foreign() {
    KeyPair pair;
    pair.key.reset(::EVP_EC_gen("P-256"));
    pair.certificate.reset(::X509_new());
    auto* certificate = pair.certificate.get();
    if (!pair.key || certificate == nullptr) return failed("make", "a key");
    ::X509_set_version(certificate, X509_VERSION_3);
    ::ASN1_INTEGER_set(::X509_get_serialNumber(certificate), 1);
    ::X509_gmtime_adj(::X509_getm_notBefore(certificate), -3600);
    ::X509_gmtime_adj(::X509_getm_notAfter(certificate), 30L * 24 * 3600);
    auto* name = ::X509_get_subject_name(certificate);
    constexpr std::string_view words = "nobody known to this server";
    ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(words.data()), static_cast<int>(words.size()), -1, 0);
    ::X509_set_issuer_name(certificate, name);
    ::X509_set_pubkey(certificate, pair.key.get());
    if (::X509_sign(certificate, pair.key.get(), ::EVP_sha256()) == 0) return failed("sign", "a certificate");
    return pair;
}

}  // namespace

Result<Login> read_login(const std::string& policy) {
    const auto named = TRY(read_probe(policy));
    if (named.user.empty() || named.password_file.empty()) return fail(Code::missing, "read", "prometheus.probe", "the policy names no user and password_file for the probe");
    auto text = TRY(read_closed(named.password_file, longest_password));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (text.empty()) return fail(Code::invalid, "read", named.password_file, "it is empty");
    return Login{named.user, std::move(text)};
}

Result<KeyPair> read_identity(const std::string& path) {
    const auto text = TRY(read_closed(path, longest_identity));
    KeyPair pair;
    const auto certificates = text_source(text), keys = text_source(text);
    pair.certificate.reset(::PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr));
    pair.key.reset(::PEM_read_bio_PrivateKey(keys.get(), nullptr, nullptr, nullptr));
    if (!pair.certificate || !pair.key) return failed("read", path);
    while (auto* next = ::PEM_read_bio_X509(certificates.get(), nullptr, nullptr, nullptr)) pair.chain.emplace_back(next);
    ::ERR_clear_error();  // "no start line" is how the end looks
    if (::X509_check_private_key(pair.certificate.get(), pair.key.get()) != 1) return fail(Code::invalid, "read", path, "the key is not the certificate's");
    return pair;
}

Result<const KeyPair*> foreign_identity() {
    static const auto made = make_foreign();
    if (!made) return std::unexpected(made.error());
    return &*made;
}

Result<> use_identity(SSL_CTX* context, const KeyPair& pair) {
    if (::SSL_CTX_use_certificate(context, pair.certificate.get()) != 1 || ::SSL_CTX_use_PrivateKey(context, pair.key.get()) != 1) return failed("use", "a client certificate");
    for (const auto& certificate : pair.chain)
        if (::SSL_CTX_add1_chain_cert(context, certificate.get()) != 1) return failed("use", "a client certificate");
    return {};
}

}  // namespace promwarden::probe
