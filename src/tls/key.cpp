// Private keys: made, read, written. No value of one ever reaches an error.

#include <algorithm>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "native.hpp"

namespace promwarden::tls {

namespace {

constexpr std::size_t largest_key = 64 << 10;

/// Instead of the library's own, which asks at the terminal.
int no_pass_phrase(char*, int, int, void*) { return 0; }

}  // namespace

Result<Key> Key::generate(Kind kind) {
    prepare();
    Key key;
    switch (kind) {
        case Kind::ecdsa_p256: key.key_.reset(EVP_EC_gen("P-256")); break;
        case Kind::ed25519: key.key_.reset(::EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")); break;
        case Kind::rsa_3072: key.key_.reset(EVP_RSA_gen(3072)); break;
    }
    if (!key.key_) return fail_native("make a key", "");
    key.public_key_ = public_key_digest(key.native());
    key.kind_ = kind_of(key.native());
    return key;
}

Result<Key> Key::parse(std::string_view pem, const std::string& what) {
    prepare();
    if (pem.size() > largest_key) return fail(Code::limit, "read key", what, "it is far longer than any key");
    if (pem.find("-----BEGIN ENCRYPTED PRIVATE KEY-----") != std::string_view::npos || pem.find("Proc-Type: 4,ENCRYPTED") != std::string_view::npos)
        return fail(Code::invalid, "read key", what, "it is protected by a pass phrase");
    const Bio bio(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    if (!bio) return fail_native("read key", what);
    Key key;
    key.key_.reset(::PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr));
    if (!key.key_) return fail_native("read key", what, Code::invalid);
    const Handle<EVP_PKEY, free_key> second(::PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr));
    ::ERR_clear_error();
    if (second) return fail(Code::invalid, "read key", what, "there is more than one key in it");
    key.public_key_ = public_key_digest(key.native());
    key.kind_ = kind_of(key.native());
    if (key.public_key_.empty()) return fail(Code::invalid, "read key", what, "it has no public half");
    return key;
}

Result<Secret> Key::pem() const {
    prepare();
    const Bio bio(::BIO_new(::BIO_s_secmem()));
    if (!bio || ::PEM_write_bio_PKCS8PrivateKey(bio.get(), native(), nullptr, nullptr, 0, nullptr, nullptr) != 1) return fail_native("write key", "");
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    Secret secret(bytes, bytes + size);
    cleanse(bytes, static_cast<std::size_t>(size));
    return secret;
}

}  // namespace promwarden::tls
