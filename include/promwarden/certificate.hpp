/// certificate — X.509 certificates as values, and what is known of those that the policy names. Part of the room facts: plain values, no I/O, no clock.
#pragma once

#include <map>

#include "promwarden/address.hpp"

namespace promwarden {

/// One subject alternative name (RFC 5280, 4.2.1.6), as text fit for a person.
struct AlternativeName {
    enum class Kind : std::uint8_t { dns, address, uri, other } kind = Kind::dns;
    std::string text;
    bool operator==(const AlternativeName&) const = default;
};

/// What a certificate says. Names match by subjectAltName only (RFC 9525): the subject is for people.
struct Certificate {
    std::vector<AlternativeName> names;
    std::string subject, issuer;  // one line, RFC 2253; "" for an empty one
    std::string serial;           // lower-case hexadecimal
    std::chrono::system_clock::time_point not_before, not_after;
    std::string fingerprint;      // SHA-256 of the certificate, lower-case hexadecimal
    std::string public_key;       // SHA-256 of its SubjectPublicKeyInfo: equal for a certificate and the key that fits it
    std::string key;              // "ecdsa-p256", "ed25519", "rsa-3072", or as the library calls it
    bool authority = false;       // basicConstraints CA:TRUE
    bool server = false, client = false;  // its extendedKeyUsage admits that use; true for both where it has none
    bool operator==(const Certificate&) const = default;
};

/// Whether it is for that host name or address: whole-label wildcards, no common names.
bool is_for(const Certificate& certificate, std::string_view name);

/// What is remembered about a managed certificate between attempts.
struct RenewalRecord {
    unsigned attempts = 0;  // failed ones, in a row
    std::string last_error;
    std::chrono::system_clock::time_point last_attempt{}, next_try{};
    std::chrono::system_clock::time_point key_made{}, rotated{};
    /// A window that the issuer suggests (RFC 9773), and the moment in it that was drawn.
    struct Window {
        std::chrono::system_clock::time_point from, until, selected;
        bool operator==(const Window&) const = default;
    };
    std::optional<Window> window;
    std::string seen;  // fingerprint of the one of another tool that its service was last made to read
    bool operator==(const RenewalRecord&) const = default;
};

/// A certificate of the policy as it is on this host.
struct ManagedCertificate {
    std::string name;                         // of its [[tls.certificate]]
    std::string certificate_file, key_file;   // "" where nothing is published yet
    std::optional<Certificate> leaf;          // what is published
    std::vector<std::string> problems;        // why what is published must not be used: "the key does not fit the certificate"
    RenewalRecord record;
    std::vector<Endpoint> endpoints;          // where it should be served, as policy and configuration say; loopback for wildcards
    /// What live handshakes saw: nullopt where nobody looked, or nothing is served with it.
    struct Served {
        std::string fingerprint;  // of the leaf; "" where no handshake succeeded
        std::string reason;       // why not
        std::string where;        // "127.0.0.1:9090"
    };
    std::optional<Served> served;
};

struct CertificateFacts {
    std::vector<ManagedCertificate> certificates;
    bool clock_synchronised = true;  // by the kernel's word (adjtimex)
    std::string machine;             // seed of jitter: the machine's id
    std::string rollover;            // the step of a change of the local authority that is under way, "" where none is
    /// Since when clients of an earlier local authority are believed no more. Nullopt: never, or the server has forgotten their sessions since.
    std::optional<std::chrono::system_clock::time_point> removed;
    bool probe_due = false;          // the probe's own certificate is missing or runs out
};

}  // namespace promwarden
