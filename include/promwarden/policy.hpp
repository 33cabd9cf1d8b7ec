/// policy — TOML text → Policy.
///
/// Owns the policy's format: one schema table (src/policy/schema.cpp) names every key with its type, range, default and help; everything that is said about a
/// key comes from there. Reading happens in two steps so that the second is pure: `collect` reads the files, `parse` turns their text into a value.
/// Promises: a Policy is valid as a whole, its users and groups are numbers, its lists are in it. Never writes; never asks the host about anything but accounts.
#pragma once

#include <map>

#include "promwarden/facts.hpp"

namespace promwarden {

// ---- the value ------------------------------------------------------------------------------------------------------

/// A place in a file; line and column count from 1, 0 means "the file as a whole".
struct Where {
    std::string file;
    std::uint32_t line = 0;
    std::uint32_t column = 0;
    bool operator==(const Where&) const = default;
};

enum class Mode : std::uint8_t { enforce, audit, off };

struct Account {
    std::string name;
    std::uint32_t id = 0;
    bool operator==(const Account&) const = default;
};

struct PortRange {
    std::uint16_t first = 0;
    std::uint16_t last = 0;
    bool operator==(const PortRange&) const = default;
};

struct SourceGroup {
    std::string name;
    Where where;
    Networks networks;               // all of them
    Networks written;                // those that stand in the policy itself
    std::vector<std::string> lists;  // paths of the lists that the others come from
    bool operator==(const SourceGroup& other) const { return name == other.name && networks == other.networks; }
};

enum class Deny : std::uint8_t { drop, reject };

struct Rate {
    std::uint32_t count = 0;
    std::chrono::seconds unit{60};
    bool operator==(const Rate&) const = default;
};

struct Service {
    std::string name;
    Where where;
    std::vector<PortRange> ports;
    Protocol protocol = Protocol::tcp;
    std::vector<std::string> allow;  // names of source groups
    Deny deny = Deny::drop;
    std::optional<Rate> log;
    std::optional<std::vector<Account>> local_users;  // absent: anyone over loopback
    bool operator==(const Service& other) const;      // `where` aside
};

struct FirewallPolicy {
    bool own_table = true;            // ownership = "auto"
    bool sibling_containers = false;  // "allow"
    std::vector<std::uint16_t> open_ports;
    std::uint16_t nflog_group = 0;
    std::vector<SourceGroup> sources;
    std::vector<Service> services;
    bool operator==(const FirewallPolicy&) const = default;
};

struct PrometheusPolicy {
    std::string unit = "prometheus.service";
    std::vector<Endpoint> listen;
    bool restart_when_needed = false;
    std::string config, web_config, storage;  // "": found from the running process
    struct Allow {
        bool admin_api = false, lifecycle = false, remote_write_receiver = false, otlp_receiver = false;
        std::string cors_origin;
    } allow;
    struct Probe {
        std::string user, password_file;
    } probe;
};

struct FileRule {
    Where where;
    std::string path;  // or a glob
    std::optional<Account> owner;
    std::optional<std::string> group_name;  // kept when the group does not exist, which makes the rule not-applicable
    std::optional<Account> group;
    std::optional<std::uint32_t> mode;      // at most these bits
};

/// A weekly time span in UTC: "Sun 02:00-04:00". `days` has bit 0 for Monday.
struct MaintenanceWindow {
    std::uint8_t days = 0x7f;
    std::chrono::minutes from{0}, until{0};
    std::string text;
};

struct CertificatePolicy {
    std::string name;
    Where where;
    bool server = true;
    std::vector<std::string> names;
    std::string issuer = "local";
    enum class Key : std::uint8_t { ecdsa_p256, ed25519, rsa_3072 } key = Key::ecdsa_p256;
    std::chrono::seconds lifetime{0}, rekey{0};
    enum class Install : std::uint8_t { files, prometheus_web, nginx } install = Install::files;
};

struct TlsPolicy {
    std::string min_version = "1.2";
    bool require_client_certificate = false;
    bool name_constraints = true;
    std::vector<MaintenanceWindow> maintenance;
    std::vector<CertificatePolicy> certificates;
    struct Issuer {
        std::string name;
        std::vector<std::string> command;
    };
    std::vector<Issuer> issuers;
};

struct AccessPolicy {
    bool present = false;
    std::string proxy = "nginx", auth = "basic", server_name, certificate, auth_url;
    std::vector<std::string> listen;
    std::map<std::string, std::vector<std::string>> roles;  // role → "user:NAME" and "group:NAME"
    std::map<std::string, std::string> endpoints;           // path → role
    struct IdentityProvider {
        std::string kind, config;
        bool mfa_required = false;
        std::string mfa_claim;
        std::optional<std::chrono::system_clock::time_point> mfa_attested_until;
    };
    std::optional<IdentityProvider> identity_provider;
};

struct Waiver {
    Where where;
    std::string control, subject, reason, owner;
    std::chrono::system_clock::time_point expires;  // the first moment at which it no longer holds
};

struct Policy {
    std::string path;    // of the main file
    std::string sha256;  // of the main file and its drop-ins, in the order of reading
    Mode mode = Mode::enforce;
    std::chrono::seconds recheck{300};
    std::map<std::string, Mode> controls;  // overrides by control id
    PrometheusPolicy prometheus;
    FirewallPolicy firewall;
    std::vector<FileRule> files;
    TlsPolicy tls;
    AccessPolicy access;
    struct Data {
        bool encryption_required = false;
        std::optional<std::chrono::seconds> retention_time;
        std::optional<std::uint64_t> retention_size;  // bytes
    } data;
    std::vector<std::string> redact_labels;
    std::string query_log;
    struct Alerts {
        std::uint32_t query_rate = 100;    // requests per second
        std::uint32_t auth_failures = 10;  // per five minutes
    } alerts;
    std::vector<Waiver> waivers;

    /// The mode in which a control runs: its own, or the agent's; never stricter than the agent's.
    [[nodiscard]] Mode mode_of(std::string_view control) const;
};

/// Whether this is the id of a control, and may stand in [controls] and [[waiver]].
bool is_control(std::string_view id);

// ---- diagnostics ----------------------------------------------------------------------------------------------------

/// One thing wrong with a policy. `quote` is the offending line (160 characters around the place, fit for a terminal) and is shown only to a caller who may
/// read the file.
struct Diagnostic {
    Where where;
    std::string message;
    std::string hint;         // "did you mean …?"
    std::string quote;
    std::uint32_t caret = 0;  // column in `quote`, from 1
    Where also;               // the other place, of a key that is set twice
};
using Diagnostics = std::vector<Diagnostic>;

/// "file:line:column: message", then the line with a caret, then the hint.
std::string to_text(const Diagnostic& diagnostic, bool with_quote);

// ---- reading --------------------------------------------------------------------------------------------------------

struct SourceFile {
    enum class Kind : std::uint8_t { policy, list } kind = Kind::policy;
    std::string path;
    FileStamp stamp;
    std::shared_ptr<const std::string> text;
};

/// Every text that a policy is made of: the main file, its drop-ins in order of name, the lists they name.
struct Sources {
    std::vector<SourceFile> files;
    /// The same texts, whatever the stamps say.
    [[nodiscard]] bool same_text(const Sources& other) const;
};

/// Reads the policy, `policy.d/*.toml` beside it, and every "@list". Files whose stamp is that of `previous` are not read again.
/// Limits: 4 MiB a policy file, 64 MiB a list, 64 drop-ins, 32 lists.
std::expected<Sources, Diagnostics> collect(const std::string& path, const Sources* previous = nullptr);

/// Where names of users and groups become numbers. A name that does not exist is nullopt.
class Accounts {
public:
    virtual ~Accounts() = default;
    [[nodiscard]] virtual std::optional<uid_t> user(const std::string& name) const = 0;
    [[nodiscard]] virtual std::optional<gid_t> group(const std::string& name) const = 0;
};
/// The host's, by NSS.
const Accounts& host_accounts();
/// Those recorded in a value: a stored policy must not change with the account database, nor wait for it at boot.
class RecordedAccounts final : public Accounts {
public:
    std::map<std::string, uid_t> users;
    std::map<std::string, gid_t> groups;
    [[nodiscard]] std::optional<uid_t> user(const std::string& name) const override;
    [[nodiscard]] std::optional<gid_t> group(const std::string& name) const override;
};
/// Looks names up in another Accounts and remembers every answer.
class RecordingAccounts final : public Accounts {
public:
    explicit RecordingAccounts(const Accounts& from) : from_(from) {}
    [[nodiscard]] std::optional<uid_t> user(const std::string& name) const override;
    [[nodiscard]] std::optional<gid_t> group(const std::string& name) const override;
    [[nodiscard]] const RecordedAccounts& recorded() const { return recorded_; }

private:
    const Accounts& from_;
    mutable RecordedAccounts recorded_;
};

/// A list file as it was last parsed. Kept so that a change of a few lines costs a few lines.
struct ParsedList {
    std::shared_ptr<const std::string> text;
    bool repeats = false;  // some network is in it more than once
    Networks networks;
};
using ParsedLists = std::map<std::string, ParsedList>;  // by path

/// Pure: texts and accounts to a valid policy, or everything that is wrong (at most 20 diagnostics). `lists`, where given, holds what the last call parsed and is
/// brought up to date.
std::expected<Policy, Diagnostics> parse(const Sources& sources, const Accounts& accounts, ParsedLists* lists = nullptr);

/// Where a network of a group is written: the line in the policy or in its list. Searches the texts; for `why`, not for packets.
std::optional<Where> locate(const Sources& sources, std::string_view group, const Cidr& cidr);

/// The [prometheus.probe] of the policy at a path and its drop-ins, and nothing else of it: for the probe, which reads no list and knows no account. Empty where
/// the policy names none.
Result<PrometheusPolicy::Probe> read_probe(const std::string& path);

/// The effective policy as TOML, defaults included, each key with its help as a comment. Parses to an equal policy.
std::string show(const Policy& policy);

/// Sources and the accounts they were resolved with as one text, and back: how an accepted policy is stored.
std::string pack(const Sources& sources, const RecordedAccounts& accounts);
Result<std::pair<Sources, RecordedAccounts>> unpack(std::string_view text);

}  // namespace promwarden
