/// files — the files that a Prometheus server's configuration and unit name, and the storage below them. Part of the room facts: plain values, no I/O.
///
/// A file is described as it was walked to: every directory and link on the way with owner, group, mode and access list, so that who may read, write or replace it
/// is computed from numbers and not guessed. Texts are carried for configuration files only, bounded, and never shown.
#pragma once

#include <span>

#include "promwarden/server.hpp"

namespace promwarden {

// ---- access ---------------------------------------------------------------------------------------------------------

/// One entry of a POSIX access list (acl(5)). The kernel keeps owner, mask and other in the mode as well.
struct AclEntry {
    enum class Tag : std::uint8_t { owner, user, owning_group, group, mask, other } tag = Tag::other;
    std::uint32_t id = 0;     // of a named user or group
    std::uint8_t rights = 0;  // 4 read, 2 write, 1 execute or search
    bool operator==(const AclEntry&) const = default;
};
/// The value of the extended attribute system.posix_acl_access.
Result<std::vector<AclEntry>> parse_acl(std::string_view bytes);

/// One inode.
struct FileStatus {
    enum class Type : std::uint8_t { regular, directory, link, other } type = Type::other;
    uid_t owner = 0;
    gid_t group = 0;
    mode_t mode = 0;  // permission bits, set-id and sticky
    std::vector<AclEntry> acl;
    std::uint64_t size = 0;
    std::int64_t modified = 0;     // seconds since the epoch
    std::uint32_t major = 0, minor = 0;  // the device below it; major 0: none of its own (btrfs, overlay, tmpfs)
    std::uint64_t mount = 0;       // id of its mount in mountinfo
    bool encrypted = false;        // by the file system itself (fscrypt)
};

enum class Right : std::uint8_t { read = 4, write = 2, search = 1 };
/// What the kernel would say (capabilities aside: uid 0 may do everything).
bool may(const Identity& who, const FileStatus& status, Right right);

/// A local account, from passwd and group.
struct LocalAccount {
    std::string name;
    Identity identity;
};

struct AccountTable {
    std::vector<LocalAccount> users;
    std::map<gid_t, std::string> groups;
    [[nodiscard]] std::string user_name(uid_t uid) const;   // "alice", "uid 1234"
    [[nodiscard]] std::string group_name(gid_t gid) const;  // "adm", "gid 1234"
    /// nullopt where no account has it.
    [[nodiscard]] std::optional<Identity> identity_of(uid_t uid) const;
    [[nodiscard]] std::optional<Identity> identity_of(std::string_view name) const;
};
/// From the texts of passwd(5) and group(5). Lines that are not entries are left out.
AccountTable parse_accounts(std::string_view passwd, std::string_view group);

// ---- files ----------------------------------------------------------------------------------------------------------

/// Something on the way to a file, the file itself last.
struct Step {
    std::string path;
    FileStatus status;
    int directory = -1;  // index of the step in which this one is an entry; -1 for the root
};

/// A place in a text; line and column count from 1.
struct TextPlace {
    std::string file;
    std::uint32_t line = 0, column = 0;
    std::string path;  // "scrape_configs[0].basic_auth.password_file"; for flags "--web.config.file"
};

struct NamedFile {
    enum class Use : std::uint8_t {
        configuration,   // prometheus.yml
        scrape_configs,  // of scrape_config_files
        rules,
        targets,         // of file_sd_configs
        web,             // --web.config.file
        secret,          // password_file and its like
        key,
        certificate,
        authority,       // *ca_file
        output,          // a log that Prometheus writes
        storage,         // the database directory
        unit,            // unit file, drop-in, environment file
        served,          // console templates and libraries, user assets: shown to whoever asks
    } use = Use::configuration;
    std::string written;            // as it is named
    std::string path;               // absolute, as the server sees it
    TextPlace named;                // where
    std::string pattern;            // the glob that found it, "" otherwise
    bool trusted = false;           // only root could have written the name: only then may what it stands for be changed
    bool may_be_missing = false;    // a glob without a match, an optional environment file
    std::vector<Step> steps;        // as far as the walk came; the last is the file itself where `problem` is empty
    std::optional<Error> problem;   // why the walk ended early: Code::missing, denied, untrusted (a file system that can hang its reader) …
    std::shared_ptr<const std::string> text;   // of the first five uses
    std::optional<Error> unread;    // why there is no text although there should be one

    [[nodiscard]] const FileStatus* status() const { return problem || steps.empty() ? nullptr : &steps.back().status; }
};

/// Whether that user can reach what the file's name stands for: search on every directory on the way.
bool reaches(const Identity& who, const NamedFile& file);
bool can_read(const Identity& who, const NamedFile& file);
/// Write its contents, or change its mode because it is theirs.
bool can_write(const Identity& who, const NamedFile& file);
/// Make the name stand for another file: write into a directory on the way, where no sticky bit prevents it, or own one.
bool can_replace(const Identity& who, const NamedFile& file);
/// Make a file that is missing: write into the directory where the walk ended.
bool can_create(const Identity& who, const NamedFile& file);

/// Somebody who could do something to a file: everyone, or a user, or the members of a group that no local account is in.
struct Somebody {
    enum class Kind : std::uint8_t { everyone, user, group } kind = Kind::everyone;
    std::uint32_t id = 0;
    bool operator==(const Somebody&) const = default;
};
using Ability = bool (*)(const Identity&, const NamedFile&);
/// Everybody but root of whom that is true; `everyone` alone where it is true of any user. Local accounts count with all their groups.
std::vector<Somebody> who_can(Ability ability, const NamedFile& file, const AccountTable& accounts);
/// "everyone", "user alice", "users alice, bob and 3 more", "group adm".
std::string to_text(std::span<const Somebody> who, const AccountTable& accounts);

/// What one server's configuration names.
struct ServerFiles {
    std::string server;    // Server::name
    std::string version;   // Server::version
    Identity identity;     // as whom it opens them
    std::vector<NamedFile> files;  // the configuration first, if there is one
    std::vector<std::string> left_out;  // what a limit kept from being looked at
    std::optional<Error> problem;  // why its configuration is not known
};

/// A file that a [[file]] rule of the policy is about.
struct RuledFile {
    std::size_t rule = 0;  // index in Policy::files
    NamedFile file;
};

/// One block of a logrotate configuration.
struct LogRotation {
    std::vector<std::string> patterns;
    TextPlace place;
    bool reopens = false;  // copytruncate, or a postrotate script that signals or reloads something
};

struct FileFacts {
    std::vector<ServerFiles> servers;
    std::vector<RuledFile> ruled;
    std::vector<LogRotation> rotations;
    AccountTable accounts;
};

// ---- storage --------------------------------------------------------------------------------------------------------

/// A device that holds the bytes, and what encrypts them on the way down to it.
struct StorageLeaf {
    std::string device;     // "sda2"
    std::string sealed_by;  // "dm-0 (CRYPT-LUKS2)"; "": nothing
};

struct StoragePath {
    std::string path;
    std::string server;
    std::string file_system;        // "ext4"
    std::string source;             // "/dev/mapper/data"
    std::string sealed_by;          // the file system itself: "fscrypt", "gocryptfs"; "": nothing
    std::vector<StorageLeaf> leaves;
    std::optional<Error> problem;   // why it cannot be told: on another host, a stack that is not understood
};

struct SwapArea {
    std::string name;               // "/dev/dm-1", "/swapfile"
    std::vector<StorageLeaf> leaves;
    bool volatile_memory = false;   // compressed memory (zram): nothing is written to a disk
    std::optional<Error> problem;
};

struct StorageFacts {
    std::vector<StoragePath> paths;
    std::vector<SwapArea> swaps;
    bool null_cipher = false;  // somebody uses the kernel's cipher that encrypts nothing: a volume of dm-crypt may be made with it
};

}  // namespace promwarden
