/// proxy — the reverse proxy as it runs: the texts of its configuration and what its password files hold. Part of the room facts: plain values, no I/O.
///
/// Texts are what is on disk; the proxy may still run an older state. Hashes and passwords are not kept: only how each was made.
#pragma once

#include <map>

#include "promwarden/base.hpp"

#include <sys/types.h>

namespace promwarden {

struct ProxyText {
    std::string path;
    std::shared_ptr<const std::string> text;
};

/// How one line of a password file was made.
struct PasswordLine {
    std::uint32_t line = 0;
    std::string user;
    enum class Scheme : std::uint8_t { plain, des, md5, apr1, sha1, salted_sha1, sha256, sha512, bcrypt, yescrypt, other } scheme = Scheme::other;
    unsigned cost = 0;  // of bcrypt
};

struct PasswordFile {
    std::string path;
    uid_t owner = 0;
    gid_t group = 0;
    mode_t mode = 0;
    std::vector<PasswordLine> lines;
    std::optional<Error> problem;  // why it could not be read
};

/// One running nginx.
struct ProxyServer {
    pid_t master = 0;
    std::string configuration, prefix;  // nginx.conf, and its directory
    std::vector<ProxyText> texts;
    std::map<std::string, std::vector<std::string>> matches;  // of include patterns
    std::vector<PasswordFile> passwords;
    std::optional<Error> problem;  // why its configuration is not known
    std::string newer;             // a file that was written after the configuration was last loaded; "" for none
};

/// The settings of the identity proxy, as text.
struct IdentityProxy {
    std::string path;
    std::shared_ptr<const std::string> text;
    std::optional<Error> problem;
};

struct ProxyFacts {
    std::vector<ProxyServer> servers;
    std::optional<IdentityProxy> identity;  // that the policy names
};

}  // namespace promwarden
