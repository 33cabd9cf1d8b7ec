#include "native.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/objects.h>

namespace promwarden::tls {

void cleanse(void* bytes, std::size_t size) noexcept { ::OPENSSL_cleanse(bytes, size); }
void free_key(EVP_PKEY* key) { ::EVP_PKEY_free(key); }
void free_certificate(X509* certificate) { ::X509_free(certificate); }
void free_request(X509_REQ* request) { ::X509_REQ_free(request); }

void prepare() {
    static const bool done = [] {
        ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr);
        return true;
    }();
    (void)done;
    ::ERR_clear_error();  // what somebody else left in this thread's queue is not ours
}

std::unexpected<Error> fail_native(std::string action, std::string subject, Code code) {
    const auto number = ::ERR_get_error();
    ::ERR_clear_error();
    const char* reason = number == 0 ? nullptr : ::ERR_reason_error_string(number);
    return fail(code, std::move(action), std::move(subject), reason == nullptr ? "the cryptographic library refuses" : reason);
}

std::string digest_of(std::span<const unsigned char> bytes) { return sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); }

std::string public_key_digest(const EVP_PKEY* key) {
    unsigned char* der = nullptr;
    const int size = ::i2d_PUBKEY(key, &der);
    if (size <= 0) return {};
    auto digest = digest_of({der, static_cast<std::size_t>(size)});
    ::OPENSSL_free(der);
    return digest;
}

std::string kind_of(const EVP_PKEY* key) {
    if (::EVP_PKEY_is_a(key, "ED25519") == 1) return "ed25519";
    const int bits = ::EVP_PKEY_get_bits(key);
    if (::EVP_PKEY_is_a(key, "RSA") == 1) return fmt::format("rsa-{}", bits);
    std::array<char, 64> group{};
    if (::EVP_PKEY_is_a(key, "EC") == 1 && ::EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) == 1) {
        const std::string_view name(group.data());
        if (name == "prime256v1") return "ecdsa-p256";
        if (name == "secp384r1") return "ecdsa-p384";
        return fmt::format("ecdsa-{}", name);
    }
    const char* name = ::EVP_PKEY_get0_type_name(key);
    return name == nullptr ? "unknown" : name;
}

}  // namespace promwarden::tls
