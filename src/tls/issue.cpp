// The profiles of our certificates and requests. Extensions are structures filled with values: a name with a comma in it stays one name.

#include <algorithm>
#include <ctime>
#include <set>

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "native.hpp"

namespace promwarden::tls {

namespace {

constexpr int version_3 = 2;
constexpr std::size_t serial_octets = 20;
constexpr std::size_t key_id_octets = 20;

bool is_address(const std::string& name) { return parse_address(name).has_value(); }

std::unexpected<Error> refused() { return fail_native("make a certificate", ""); }

/// Twenty octets, the first bit clear (a positive number) and the second set (always twenty): 158 random bits.
Result<> set_serial(X509* certificate) {
    std::array<unsigned char, serial_octets> octets{};
    if (::RAND_bytes(octets.data(), static_cast<int>(octets.size())) != 1) return refused();
    octets[0] = static_cast<unsigned char>((octets[0] & 0x3F) | 0x40);
    if (::ASN1_STRING_set(::X509_get_serialNumber(certificate), octets.data(), static_cast<int>(octets.size())) != 1) return refused();
    return {};
}

Result<> add(X509* certificate, int nid, void* value, bool critical) {
    if (::X509_add1_ext_i2d(certificate, nid, value, critical ? 1 : 0, X509V3_ADD_DEFAULT) != 1) return refused();
    return {};
}

void free_constraints(BASIC_CONSTRAINTS* value) { ::BASIC_CONSTRAINTS_free(value); }
void free_bits(ASN1_BIT_STRING* value) { ::ASN1_BIT_STRING_free(value); }
void free_uses(EXTENDED_KEY_USAGE* value) { ::EXTENDED_KEY_USAGE_free(value); }
void free_octets(ASN1_OCTET_STRING* value) { ::ASN1_OCTET_STRING_free(value); }
void free_authority(AUTHORITY_KEYID* value) { ::AUTHORITY_KEYID_free(value); }
void free_limits(NAME_CONSTRAINTS* value) { ::NAME_CONSTRAINTS_free(value); }

Result<> add_basic_constraints(X509* certificate, std::optional<long> path_length) {
    const Handle<BASIC_CONSTRAINTS, free_constraints> value(::BASIC_CONSTRAINTS_new());
    if (!value) return refused();
    value->ca = path_length ? 0xFF : 0;
    if (path_length) {
        value->pathlen = ::ASN1_INTEGER_new();
        if (value->pathlen == nullptr || ::ASN1_INTEGER_set(value->pathlen, *path_length) != 1) return refused();
    }
    return add(certificate, NID_basic_constraints, value.get(), true);
}

enum KeyUsage { digital_signature = 0, key_encipherment = 2, certificate_sign = 5, list_sign = 6 };

Result<> add_key_usage(X509* certificate, std::initializer_list<int> usages) {
    const Handle<ASN1_BIT_STRING, free_bits> value(::ASN1_BIT_STRING_new());
    if (!value) return refused();
    for (const int bit : usages)
        if (::ASN1_BIT_STRING_set_bit(value.get(), bit, 1) != 1) return refused();
    return add(certificate, NID_key_usage, value.get(), true);
}

Result<> add_extended_usage(X509* certificate, std::initializer_list<int> purposes) {
    const Handle<EXTENDED_KEY_USAGE, free_uses> value(::EXTENDED_KEY_USAGE_new());
    if (!value) return refused();
    for (const int purpose : purposes)
        if (sk_ASN1_OBJECT_push(value.get(), ::OBJ_nid2obj(purpose)) <= 0) return refused();
    return add(certificate, NID_ext_key_usage, value.get(), false);
}

/// RFC 7093, method 1: the leftmost 160 bits of SHA-256 of the public key.
Result<std::array<unsigned char, key_id_octets>> key_id(X509* certificate) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (::X509_pubkey_digest(certificate, ::EVP_sha256(), digest.data(), &size) != 1 || size < key_id_octets) return refused();
    std::array<unsigned char, key_id_octets> id{};
    std::copy_n(digest.begin(), id.size(), id.begin());
    return id;
}

Result<> add_key_ids(X509* certificate, X509* issuer) {
    const auto own = TRY(key_id(certificate));
    const Handle<ASN1_OCTET_STRING, free_octets> subject(::ASN1_OCTET_STRING_new());
    if (!subject || ::ASN1_OCTET_STRING_set(subject.get(), own.data(), static_cast<int>(own.size())) != 1) return refused();
    TRY(add(certificate, NID_subject_key_identifier, subject.get(), false));
    if (issuer == nullptr) return {};
    const Handle<AUTHORITY_KEYID, free_authority> authority(::AUTHORITY_KEYID_new());
    const auto id = TRY(key_id(issuer));
    if (!authority || (authority->keyid = ::ASN1_OCTET_STRING_new()) == nullptr ||
        ::ASN1_OCTET_STRING_set(authority->keyid, id.data(), static_cast<int>(id.size())) != 1)
        return refused();
    return add(certificate, NID_authority_key_identifier, authority.get(), false);
}

Result<> push(STACK_OF(GENERAL_SUBTREE)*& list, int type, std::string_view bytes) {
    if (list == nullptr && (list = sk_GENERAL_SUBTREE_new_null()) == nullptr) return refused();
    GENERAL_SUBTREE* subtree = ::GENERAL_SUBTREE_new();
    auto* value = type == GEN_IPADD ? ::ASN1_OCTET_STRING_new() : ::ASN1_IA5STRING_new();
    if (subtree == nullptr || value == nullptr || ::ASN1_STRING_set(value, bytes.data(), static_cast<int>(bytes.size())) != 1) return refused();
    ::GENERAL_NAME_set0_value(subtree->base, type, value);  // takes it
    if (sk_GENERAL_SUBTREE_push(list, subtree) <= 0) return refused();
    return {};
}

/// A kind of name of which none is permitted is excluded as a whole: what no subtree mentions would be unlimited.
Result<> add_name_constraints(X509* certificate, const Constraints& constraints) {
    if (constraints.names.empty()) return {};
    const Handle<NAME_CONSTRAINTS, free_limits> value(::NAME_CONSTRAINTS_new());
    if (!value) return refused();
    bool hosts = false, addresses = false;
    for (const auto& name : constraints.names) {
        const auto address = parse_address(name);
        (address ? addresses : hosts) = true;
        TRY(push(value->permittedSubtrees, address ? GEN_IPADD : GEN_DNS, address ? address_bytes(*address, true) : name));
    }
    for (const auto& domain : constraints.domains) TRY(push(value->permittedSubtrees, GEN_URI, domain));
    if (!hosts) TRY(push(value->excludedSubtrees, GEN_DNS, ""));
    if (!addresses) {
        TRY(push(value->excludedSubtrees, GEN_IPADD, std::string(8, '\0')));
        TRY(push(value->excludedSubtrees, GEN_IPADD, std::string(32, '\0')));
    }
    return add(certificate, NID_name_constraints, value.get(), true);
}

/// A certificate with everything but its extensions and its signature. `issuer` null: its own.
Result<X509Handle> begin(const Key& key, std::string_view common_name, X509* issuer, Validity validity) {
    X509Handle certificate(::X509_new());
    if (!certificate || ::X509_set_version(certificate.get(), version_3) != 1) return refused();
    TRY(set_serial(certificate.get()));
    if (issuer != nullptr) {
        const auto limits = TRY(describe(issuer));
        validity.until = std::min(validity.until, limits.not_after);
        validity.from = std::max(validity.from, limits.not_before);
    }
    if (validity.until <= validity.from) return fail(Code::invalid, "make a certificate", "", "its issuer is not valid for that time");
    std::time_t from = std::chrono::system_clock::to_time_t(validity.from), until = std::chrono::system_clock::to_time_t(validity.until);
    if (::X509_time_adj_ex(X509_getm_notBefore(certificate.get()), 0, 0, &from) == nullptr ||
        ::X509_time_adj_ex(X509_getm_notAfter(certificate.get()), 0, 0, &until) == nullptr || ::X509_set_pubkey(certificate.get(), key.native()) != 1)
        return refused();
    auto* subject = ::X509_get_subject_name(certificate.get());
    const auto entry = [&](const char* type, std::string_view text) {
        return ::X509_NAME_add_entry_by_txt(subject, type, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()), -1, 0) == 1;
    };
    if (!common_name.empty() && (!entry("O", "promwarden") || !entry("CN", common_name))) return refused();
    if (::X509_set_issuer_name(certificate.get(), issuer == nullptr ? subject : ::X509_get_subject_name(issuer)) != 1) return refused();
    return certificate;
}

Result<Chain> sign(X509Handle certificate, const Key& key) {
    const auto* digest = key.kind() == "ed25519" ? nullptr : ::EVP_sha256();  // Ed25519 has its own
    if (::X509_sign(certificate.get(), key.native(), digest) <= 0) return refused();
    std::vector<X509Handle> one;
    one.push_back(std::move(certificate));
    auto chain = Chain::of(std::move(one));
    if (chain.certificates().empty()) return fail(Code::failed, "make a certificate", "", "it does not read back");
    return chain;
}

std::string trust_domain(const std::string& host) {
    const auto dot = host.find('.');
    return dot == std::string::npos ? host : host.substr(dot + 1);
}

}  // namespace

std::string address_bytes(const Address& address, bool masked) {
    const auto packed = address.packed();
    std::string bytes(reinterpret_cast<const char*>(packed.data()), packed.size());
    if (masked) bytes.append(packed.size(), '\xff');
    return bytes;
}

Result<Names> general_names(const Subject& subject) {
    Names names(sk_GENERAL_NAME_new_null());
    if (!names) return refused();
    const auto push = [&](int type, std::string_view bytes) -> Result<> {
        GeneralName name(::GENERAL_NAME_new());
        auto* value = type == GEN_IPADD ? ::ASN1_OCTET_STRING_new() : ::ASN1_IA5STRING_new();
        if (!name || value == nullptr || ::ASN1_STRING_set(value, bytes.data(), static_cast<int>(bytes.size())) != 1) return refused();
        ::GENERAL_NAME_set0_value(name.get(), type, value);  // takes it
        if (sk_GENERAL_NAME_push(names.get(), name.get()) <= 0) return refused();
        (void)name.release();  // the list owns it now
        return {};
    };
    for (const auto& name : subject.names) {
        const auto address = parse_address(name);
        TRY(push(address ? GEN_IPADD : GEN_DNS, address ? address_bytes(*address, false) : name));
    }
    for (const auto& uri : subject.uris) TRY(push(GEN_URI, uri));
    return names;
}

Subject subject_of(const CertificatePolicy& policy) {
    Subject subject{policy.server ? Use::server : Use::client, policy.names, {}};
    const auto host = std::ranges::find_if_not(policy.names, is_address);
    if (!policy.server && host != policy.names.end()) subject.uris.push_back(fmt::format("spiffe://{}/prometheus/{}/{}", trust_domain(*host), *host, policy.name));
    return subject;
}

Constraints constraints_of(const TlsPolicy& policy) {
    Constraints constraints;
    if (!policy.name_constraints) return constraints;
    std::set<std::string> names, domains;
    for (const auto& certificate : policy.certificates) {
        if (certificate.issuer != "local") continue;
        names.insert(certificate.names.begin(), certificate.names.end());
        for (const auto& name : certificate.names)
            if (!is_address(name)) domains.insert(trust_domain(name));
    }
    if (names.empty()) return constraints;
    names.insert(std::string(probe_name));
    domains.insert(trust_domain(std::string(probe_name)));
    constraints.names.assign(names.begin(), names.end());
    constraints.domains.assign(domains.begin(), domains.end());
    return constraints;
}

Result<std::string> make_request(const Key& key, const Subject& subject) {
    prepare();
    const Handle<X509_REQ, free_request> request(::X509_REQ_new());
    if (!request || ::X509_REQ_set_version(request.get(), 0) != 1 || ::X509_REQ_set_pubkey(request.get(), key.native()) != 1) return refused();
    const auto names = TRY(general_names(subject));
    STACK_OF(X509_EXTENSION)* all = nullptr;
    const bool added = ::X509V3_add1_i2d(&all, NID_subject_alt_name, names.get(), 1, X509V3_ADD_DEFAULT) == 1;
    const Handle<STACK_OF(X509_EXTENSION), free_extensions> extensions(all);
    if (!added || ::X509_REQ_add_extensions(request.get(), extensions.get()) != 1) return refused();
    if (::X509_REQ_sign(request.get(), key.native(), key.kind() == "ed25519" ? nullptr : ::EVP_sha256()) <= 0) return refused();
    const Bio bio(::BIO_new(::BIO_s_mem()));
    if (!bio || ::PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) return refused();
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return std::string(bytes, static_cast<std::size_t>(size));
}

Result<Chain> make_root(const Key& key, std::string_view common_name, Validity validity) {
    prepare();
    auto certificate = TRY(begin(key, common_name, nullptr, validity));
    TRY(add_basic_constraints(certificate.get(), 1));
    TRY(add_key_usage(certificate.get(), {certificate_sign, list_sign}));
    TRY(add_key_ids(certificate.get(), nullptr));
    return sign(std::move(certificate), key);
}

Result<Chain> make_issuing(const Key& key, std::string_view common_name, const Chain& root, const Key& root_key, const Constraints& constraints, Validity validity) {
    prepare();
    auto certificate = TRY(begin(key, common_name, root.native(0), validity));
    TRY(add_basic_constraints(certificate.get(), 0));
    TRY(add_key_usage(certificate.get(), {certificate_sign, list_sign}));
    TRY(add_extended_usage(certificate.get(), {NID_server_auth, NID_client_auth}));
    TRY(add_key_ids(certificate.get(), root.native(0)));
    TRY(add_name_constraints(certificate.get(), constraints));
    return sign(std::move(certificate), root_key);
}

Result<Chain> make_leaf(const Key& key, const Subject& subject, const Chain& issuer, const Key& issuer_key, Validity validity) {
    prepare();
    auto certificate = TRY(begin(key, "", issuer.native(0), validity));
    TRY(add_basic_constraints(certificate.get(), std::nullopt));
    if (key.kind().starts_with("rsa") && subject.use == Use::server) TRY(add_key_usage(certificate.get(), {digital_signature, key_encipherment}));
    else TRY(add_key_usage(certificate.get(), {digital_signature}));
    TRY(add_extended_usage(certificate.get(), {subject.use == Use::server ? NID_server_auth : NID_client_auth}));
    TRY(add_key_ids(certificate.get(), issuer.native(0)));
    const auto names = TRY(general_names(subject));
    TRY(add(certificate.get(), NID_subject_alt_name, names.get(), true));
    return sign(std::move(certificate), issuer_key);
}

}  // namespace promwarden::tls
