// What certificates and chains say. Everything here comes from files that others may have written: sizes are bounded, bytes that are not text do not pass as text.

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "native.hpp"

namespace promwarden {

namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return result;
}

bool matches_host(std::string_view pattern, std::string_view host) {
    if (pattern == host) return true;
    if (!pattern.starts_with("*.")) return false;
    const auto dot = host.find('.');
    return dot != std::string_view::npos && dot > 0 && pattern.substr(1) == host.substr(dot);
}

}  // namespace

bool is_for(const Certificate& certificate, std::string_view name) {
    const auto address = parse_address(name);
    const auto wanted = address ? to_text(*address) : lower(name);
    return std::ranges::any_of(certificate.names, [&](const AlternativeName& one) {
        if (address) return one.kind == AlternativeName::Kind::address && one.text == wanted;
        return one.kind == AlternativeName::Kind::dns && matches_host(lower(one.text), wanted);
    });
}

namespace tls {

namespace {

constexpr std::size_t largest_chain = 1 << 20;
constexpr std::size_t longest_chain = 16;
constexpr int most_names = 1000;

/// The bytes of a string of the library, where they are printable ASCII: a NUL or a control character inside must not look like another name.
std::optional<std::string> plain_text(const ASN1_STRING* string) {
    const auto* bytes = ::ASN1_STRING_get0_data(string);
    std::string text(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(::ASN1_STRING_length(string)));
    if (!std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; })) return std::nullopt;
    return text;
}

AlternativeName name_of(const GENERAL_NAME* name) {
    using Kind = AlternativeName::Kind;
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(::GENERAL_NAME_get0_value(name, &type));
    if (type == GEN_DNS || type == GEN_URI) {
        if (auto text = plain_text(value)) return {type == GEN_DNS ? Kind::dns : Kind::uri, *std::move(text)};
        return {Kind::other, "a name with bytes that no name has"};
    }
    if (type == GEN_IPADD) {
        const auto size = static_cast<std::size_t>(::ASN1_STRING_length(value));
        if (size != 4 && size != 16) return {Kind::other, "an address of a wrong length"};
        Address address{size == 4 ? Family::ip4 : Family::ip6, {}};
        std::memcpy(address.bytes.data(), ::ASN1_STRING_get0_data(value), size);
        return {Kind::address, to_text(address)};
    }
    return {Kind::other, type == GEN_EMAIL ? "a mail address" : type == GEN_DIRNAME ? "a directory name" : "a name of another kind"};
}

std::string one_line(const X509_NAME* name) {
    const Bio bio(::BIO_new(::BIO_s_mem()));
    if (!bio || ::X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_UTF8_CONVERT) < 0) return {};
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<std::size_t>(std::min<long>(size, 500))};
}

Result<Time> time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (::ASN1_TIME_to_tm(time, &parts) != 1) return fail(Code::invalid, "read certificate", "", "its validity is no time");
    const std::chrono::sys_days day{std::chrono::year(parts.tm_year + 1900) / (parts.tm_mon + 1) / parts.tm_mday};
    if (parts.tm_year > 10'000) return fail(Code::invalid, "read certificate", "", "its validity is no time");
    // Beyond what this clock can count, "for ever" is as good: 9999-12-31 is RFC 5280's own way to say so.
    constexpr std::chrono::sys_days last{std::chrono::year(2200) / 1 / 1};
    return std::min(day, last) + std::chrono::hours(parts.tm_hour) + std::chrono::minutes(parts.tm_min) + std::chrono::seconds(parts.tm_sec);
}

std::string hexadecimal(const ASN1_INTEGER* number) {
    std::string text;
    const auto* bytes = ::ASN1_STRING_get0_data(number);
    for (int i = 0; i < std::min(::ASN1_STRING_length(number), 64); ++i) text += fmt::format("{:02x}", bytes[i]);
    return text;
}

}  // namespace

Result<Certificate> describe(X509* certificate) {
    Certificate value;
    value.subject = one_line(::X509_get_subject_name(certificate));
    value.issuer = one_line(::X509_get_issuer_name(certificate));
    value.serial = hexadecimal(::X509_get0_serialNumber(certificate));
    value.not_before = TRY(time_of(::X509_get0_notBefore(certificate)));
    value.not_after = TRY(time_of(::X509_get0_notAfter(certificate)));
    unsigned char* der = nullptr;
    const int size = ::i2d_X509(certificate, &der);
    if (size <= 0) return fail_native("read certificate", "", Code::invalid);
    value.fingerprint = digest_of({der, static_cast<std::size_t>(size)});
    ::OPENSSL_free(der);
    const EVP_PKEY* key = ::X509_get0_pubkey(certificate);
    if (key == nullptr) return fail_native("read certificate", value.subject, Code::invalid);
    value.public_key = public_key_digest(key);
    value.key = kind_of(key);
    const auto flags = ::X509_get_extension_flags(certificate);
    if ((flags & EXFLAG_INVALID) != 0) return fail(Code::invalid, "read certificate", value.subject, "one of its extensions is malformed");
    value.authority = (flags & EXFLAG_CA) != 0;
    const auto uses = ::X509_get_extended_key_usage(certificate);  // all bits where it has none
    value.server = (uses & XKU_SSL_SERVER) != 0;
    value.client = (uses & XKU_SSL_CLIENT) != 0;
    int critical = 0;
    const Names names(static_cast<GENERAL_NAMES*>(::X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr)));
    if (!names && critical != -1) return fail(Code::invalid, "read certificate", value.subject, "its subjectAltName is malformed or there twice");
    const int count = names ? sk_GENERAL_NAME_num(names.get()) : 0;
    if (count > most_names) return fail(Code::limit, "read certificate", value.subject, fmt::format("more than {} names", most_names));
    for (int i = 0; i < count; ++i) value.names.push_back(name_of(sk_GENERAL_NAME_value(names.get(), i)));
    ::ERR_clear_error();
    return value;
}

namespace {

/// PEM blocks one behind the other, and nothing else but line ends.
Result<std::vector<std::string_view>> blocks_of(std::string_view pem, const std::string& what) {
    constexpr std::string_view begin = "-----BEGIN CERTIFICATE-----", end = "-----END CERTIFICATE-----";
    const auto refuse = [&](std::string why) { return fail(Code::invalid, "read certificates", what, std::move(why)); };
    std::vector<std::string_view> blocks;
    for (;;) {
        while (!pem.empty() && (pem.front() == '\n' || pem.front() == '\r' || pem.front() == ' ' || pem.front() == '\t')) pem.remove_prefix(1);
        if (pem.empty()) break;
        if (!pem.starts_with(begin)) return refuse(pem.find("PRIVATE KEY-----") != std::string_view::npos ? "there is a private key in it" : "there is something in it that is no certificate");
        const auto last = pem.find(end);
        if (last == std::string_view::npos) return refuse("its last certificate is cut off");
        if (pem.find(begin, begin.size()) < last) return refuse("a certificate in it is cut off");
        blocks.push_back(pem.substr(0, last + end.size()));
        pem.remove_prefix(last + end.size());
        if (blocks.size() > longest_chain) return refuse(fmt::format("there are more than {} certificates in it", longest_chain));
    }
    if (blocks.empty()) return refuse("there is no certificate in it");
    return blocks;
}

}  // namespace

Result<Chain> Chain::parse(std::string_view pem, const std::string& what) {
    prepare();
    if (pem.size() > largest_chain) return fail(Code::limit, "read certificates", what, fmt::format("longer than {} KiB", largest_chain >> 10));
    Chain chain;
    for (const auto block : TRY(blocks_of(pem, what))) {
        const Bio bio(::BIO_new_mem_buf(block.data(), static_cast<int>(block.size())));
        X509Handle one(bio ? ::PEM_read_bio_X509(bio.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr) : nullptr);
        if (!one) return fail_native("read certificates", what, Code::invalid);
        auto value = describe(one.get());
        if (!value) return fail(value.error().code, "read certificates", what, value.error().detail);
        if (std::ranges::find(chain.values_, value->fingerprint, &Certificate::fingerprint) != chain.values_.end())
            return fail(Code::invalid, "read certificates", what, "a certificate is in it twice");
        chain.handles_.push_back(std::move(one));
        chain.values_.push_back(*std::move(value));
    }
    return chain;
}

Chain Chain::of(std::vector<Handle<X509, free_certificate>> certificates) {
    Chain chain;
    for (auto& one : certificates) {
        auto value = describe(one.get());
        if (!value) continue;
        chain.values_.push_back(*std::move(value));
        chain.handles_.push_back(std::move(one));
    }
    return chain;
}

std::string Chain::pem() const {
    std::string text;
    for (const auto& one : handles_) {
        const Bio bio(::BIO_new(::BIO_s_mem()));
        char* bytes = nullptr;
        if (!bio || ::PEM_write_bio_X509(bio.get(), one.get()) != 1) return {};
        const long size = BIO_get_mem_data(bio.get(), &bytes);
        text.append(bytes, static_cast<std::size_t>(size));
    }
    return text;
}

Result<Chain> Chain::followed_by(const Chain& other) const { return parse(pem() + other.pem(), values_.front().subject); }

}  // namespace tls

}  // namespace promwarden
