// The cryptographic library's objects, owned, and its errors as ours.
#pragma once

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "promwarden/tls.hpp"

namespace promwarden::tls {

inline void free_bio(BIO* bio) { ::BIO_free_all(bio); }
inline void free_name(X509_NAME* name) { ::X509_NAME_free(name); }
inline void free_general_names(GENERAL_NAMES* names) { ::GENERAL_NAMES_free(names); }
inline void free_general_name(GENERAL_NAME* name) { ::GENERAL_NAME_free(name); }
inline void free_extensions(STACK_OF(X509_EXTENSION)* all) { ::sk_X509_EXTENSION_pop_free(all, ::X509_EXTENSION_free); }

using Bio = Handle<BIO, free_bio>;
using X509Handle = Handle<X509, free_certificate>;
using Names = Handle<GENERAL_NAMES, free_general_names>;
using GeneralName = Handle<GENERAL_NAME, free_general_name>;

/// To be called before any use: no configuration file of the library decides anything here, and nothing runs at exit.
void prepare();

/// The oldest error in the library's queue, which is emptied. Its text comes from the library's own tables, never from data.
std::unexpected<Error> fail_native(std::string action, std::string subject, Code code = Code::failed);

/// SHA-256, lower-case hexadecimal.
std::string digest_of(std::span<const unsigned char> bytes);
std::string public_key_digest(const EVP_PKEY* key);
std::string kind_of(const EVP_PKEY* key);

/// Reads what a certificate says. Code::invalid where it cannot be represented.
Result<Certificate> describe(X509* certificate);

/// The names as a library's list.
Result<Names> general_names(const Subject& subject);
/// An address as the four or sixteen bytes of an iPAddress, with a mask behind them where `masked`.
std::string address_bytes(const Address& address, bool masked);

}  // namespace promwarden::tls
