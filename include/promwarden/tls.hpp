/// tls — keys, certificates, chains, the local authority's signature, the store that holds them, and the rule that says when they are due.
///
/// Owns every call of the cryptographic library but one digest. Promises: a private key is in a Secret or in a Key and nowhere else, both cleansed when they end;
/// no configuration file of the library is ever loaded; extensions are built from values, never from text that a name could leave; nothing is published that
/// strict verification refuses, now, a little from now and at the last second of its validity. Never speaks to a network. Not thread-safe.
#pragma once

#include <functional>
#include <span>

#include "promwarden/certificate.hpp"
#include "promwarden/policy.hpp"

extern "C" {
typedef struct evp_pkey_st EVP_PKEY;
typedef struct x509_st X509;
typedef struct X509_req_st X509_REQ;
}

namespace promwarden {
struct Server;
}

namespace promwarden::tls {

using Time = std::chrono::system_clock::time_point;

// ---- secrets --------------------------------------------------------------------------------------------------------

/// Bytes that are overwritten before their memory is given back.
void cleanse(void* bytes, std::size_t size) noexcept;
template <class T>
struct Cleansing {
    using value_type = T;
    Cleansing() = default;
    template <class U>
    explicit Cleansing(const Cleansing<U>&) {}
    T* allocate(std::size_t count) { return std::allocator<T>().allocate(count); }
    void deallocate(T* pointer, std::size_t count) noexcept {
        cleanse(pointer, count * sizeof(T));
        std::allocator<T>().deallocate(pointer, count);
    }
    bool operator==(const Cleansing&) const = default;
};
/// Never a std::string: a short one lives inside its object and leaves copies behind.
using Secret = std::vector<char, Cleansing<char>>;
inline std::string_view view(const Secret& secret) { return {secret.data(), secret.size()}; }

void free_key(EVP_PKEY* key);
void free_certificate(X509* certificate);
void free_request(X509_REQ* request);

/// A private key.
class Key {
public:
    using Kind = CertificatePolicy::Key;
    /// RSA takes most of a second: not for an event loop.
    static Result<Key> generate(Kind kind);
    /// PEM, PKCS#8 or the older forms, exactly one, without a pass phrase. `what` names it in errors; its contents never do.
    static Result<Key> parse(std::string_view pem, const std::string& what);

    [[nodiscard]] Result<Secret> pem() const;  // PKCS#8, "BEGIN PRIVATE KEY"
    [[nodiscard]] const std::string& public_key() const { return public_key_; }  // as Certificate::public_key
    [[nodiscard]] const std::string& kind() const { return kind_; }              // as Certificate::key
    [[nodiscard]] EVP_PKEY* native() const { return key_.get(); }

private:
    Handle<EVP_PKEY, free_key> key_;
    std::string public_key_, kind_;
};

// ---- certificates and requests --------------------------------------------------------------------------------------

/// Certificates as a file holds them, the leaf first.
class Chain {
public:
    /// PEM. Refused: nothing, anything but certificates (text between them included), half of one, one twice, a malformed one, more than 16, more than 1 MiB.
    static Result<Chain> parse(std::string_view pem, const std::string& what);
    static Chain of(std::vector<Handle<X509, free_certificate>> certificates);

    [[nodiscard]] std::string pem() const;
    [[nodiscard]] const Certificate& leaf() const { return values_.front(); }
    [[nodiscard]] const std::vector<Certificate>& certificates() const { return values_; }
    [[nodiscard]] X509* native(std::size_t index) const { return handles_[index].get(); }
    /// Joined behind this one.
    [[nodiscard]] Result<Chain> followed_by(const Chain& other) const;

private:
    std::vector<Handle<X509, free_certificate>> handles_;
    std::vector<Certificate> values_;
};

enum class Use : std::uint8_t { server, client };

/// What a leaf is for. Names are host names and addresses; `uris` identities of clients (SPIFFE).
struct Subject {
    Use use = Use::server;
    std::vector<std::string> names;
    std::vector<std::string> uris;
};
/// As the policy says it: a client gets spiffe://DOMAIN/prometheus/HOST/NAME besides, DOMAIN and HOST from its first host name.
Subject subject_of(const CertificatePolicy& policy);

/// A certificate signing request (PKCS#10) in PEM: an empty subject, the names as a critical subjectAltName, signed with the key.
Result<std::string> make_request(const Key& key, const Subject& subject);

/// What the names under an authority are limited to. Empty: no limit.
struct Constraints {
    std::vector<std::string> names;    // host names with everything below them, addresses
    std::vector<std::string> domains;  // of URIs, exactly
    bool operator==(const Constraints&) const = default;
};
/// The name of the probe's own client certificate.
inline constexpr std::string_view probe_name = "probe.promwarden.internal";
/// Of everything that the local authority signs for this policy, promwarden's own probe included; empty where the policy switches constraints off.
Constraints constraints_of(const TlsPolicy& policy);

/// The profiles. Validity is clamped to the issuer's.
struct Validity {
    Time from, until;
};
Result<Chain> make_root(const Key& key, std::string_view common_name, Validity validity);
Result<Chain> make_issuing(const Key& key, std::string_view common_name, const Chain& root, const Key& root_key, const Constraints& constraints, Validity validity);
/// The leaf alone.
Result<Chain> make_leaf(const Key& key, const Subject& subject, const Chain& issuer, const Key& issuer_key, Validity validity);

/// What a chain must hold up to.
struct Expectation {
    Use use = Use::server;
    std::vector<std::string> names;  // each must be one of the leaf's
    const Chain* anchors = nullptr;  // roots; null: the chain's own last certificate is believed, for an issuer whose root we do not know
    std::vector<Time> moments;       // at each of which it must verify
};
/// RFC 5280 strictly, as `openssl verify -x509_strict` does, with the purpose, the names and security level 2.
Result<> verify(const Chain& chain, const Expectation& expectation);
/// Now, at the last second, and five minutes from now where it lives that long.
std::vector<Time> moments_of(const Certificate& leaf, Time now);

// ---- when -----------------------------------------------------------------------------------------------------------

enum class Action : std::uint8_t { none, renew, rekey };
struct Renewal {
    Action action = Action::none;
    Time due;             // when it should be renewed, by rule or by its issuer's wish
    Time when;            // when it will be: in a maintenance window, after a backoff; far away where nothing will be done
    bool emergency = false;
    std::string reason;   // one sentence for a person
};
/// Pure. `built`: a clock that shows less than this is wrong.
Renewal next_renewal(const CertificatePolicy& policy, std::span<const MaintenanceWindow> windows, const std::optional<Certificate>& leaf, const RenewalRecord& record,
                     const std::string& machine, Time now, bool synchronised);
/// The record after an attempt that failed: 1, 2, 5, 10, 30 minutes, then an hour and on, at most six hours or a tenth of what remains.
RenewalRecord after_failure(RenewalRecord record, const std::string& error, const std::optional<Certificate>& leaf, Time now);
/// Whether `next` may take the place of `now_there`: valid now, for every name, and not shorter than what is left; the reason where it may not.
std::optional<std::string> worse(const std::optional<Certificate>& now_there, const Certificate& next, const CertificatePolicy& policy, Time now, bool forced);
/// The moment in a suggested window, drawn once (RFC 9773, 4.2); nullopt where the window is none.
std::optional<RenewalRecord::Window> choose_window(Time from, Time until, const std::string& seed);
/// The first moment at or after `from` in one of the windows; `from` itself where there are none.
Time next_in_windows(std::span<const MaintenanceWindow> windows, Time from);

/// Whether a server that this Go built ("1.19.8") asks again who a client is when it resumes a session, after the authorities it believes have changed. From 1.21 on
/// it took the answer of the first handshake, until 1.24.13 and 1.25.7 (CVE-2025-68121). "" is not known, hence no.
bool verifies_resumed(std::string_view go);
/// The unit's server, where it was started before that moment and may still resume sessions of clients that are believed no more since then; else null.
const Server* may_resume(std::span<const Server> servers, Time removed);

Json to_json(const RenewalRecord& record);
Result<RenewalRecord> read_record(std::string_view text);

// ---- the store ------------------------------------------------------------------------------------------------------

/// Generations of one pair: directories 1, 2, 3 … each with key.pem and cert.pem. A generation appears complete and durable, or not at all; its key never changes,
/// its certificate only by one rename. No key is ever readable by others, not for an instant: modes are set before there is a name. The group is that of the
/// directory, by its set-group-ID bit, so that nothing has to be given away.
class Store {
public:
    /// The directory must be one that only root can write; it is made, with its missing parent, where it is not there. Removes what an interrupted run left.
    static Result<Store> open(const std::string& directory, mode_t directory_mode, mode_t key_mode);
    /// For reading, while another may be writing: nothing is made, nothing removed. Code::missing where it is not there.
    static Result<Store> look(const std::string& directory);

    /// A new generation, in the order of numbers. Read back and compared before it has its name.
    [[nodiscard]] Result<unsigned> add(std::string_view key_pem, std::string_view chain_pem) const;
    /// The certificate of a generation by one rename; the one before stays beside it as previous.pem.
    [[nodiscard]] Result<> replace_certificate(unsigned generation, std::string_view chain_pem) const;
    [[nodiscard]] Result<std::vector<unsigned>> generations() const;
    [[nodiscard]] Result<Secret> key(unsigned generation) const;
    [[nodiscard]] Result<std::string> certificate(unsigned generation, const char* name = "cert.pem") const;
    /// When it was made.
    [[nodiscard]] Result<Time> made(unsigned generation) const;
    [[nodiscard]] Result<> remove(unsigned generation) const;
    [[nodiscard]] std::string directory(unsigned generation) const { return directory_ + "/" + std::to_string(generation); }
    [[nodiscard]] const std::string& directory() const { return directory_; }

private:
    Store(std::string directory, Fd fd, mode_t directory_mode, mode_t key_mode)
        : directory_(std::move(directory)), fd_(std::move(fd)), directory_mode_(directory_mode), key_mode_(key_mode) {}
    [[nodiscard]] Result<> sweep() const;

    std::string directory_;
    Fd fd_;
    mode_t directory_mode_, key_mode_;
};

/// Replaces the file by a new one, as publish_file does, but born in `nursery`, a directory of the same file system whose group it gets where that has the
/// set-group-ID bit; `group`: another one. Group and mode are set before it has a name.
Result<> publish_through(const std::string& nursery, const std::string& path, std::string_view contents, mode_t mode, std::optional<gid_t> group = {});
/// Points a symbolic link at `target` by one rename.
Result<> publish_link(const std::string& path, const std::string& target);

}  // namespace promwarden::tls
