/// server — Prometheus servers as they run, and as their units would start them again. Part of the room facts: plain values, no I/O.
///
/// Whom to believe: a Server of kind `unit` is the process in the control group of the policy's unit; its socket owner and its unit are facts of the kernel and of
/// the service manager. What any process says of itself (argv, working directory, @files) is a hint, and never a path that this product changes.
#pragma once

#include <map>

#include "promwarden/process.hpp"

namespace promwarden {

/// As whom a service opens files.
struct Identity {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    bool operator==(const Identity&) const = default;
};

/// One flag as kingpin reads it: "--no-web.enable-admin-api" is {"web.enable-admin-api", "false"}.
struct Flag {
    std::string name, value;
    std::string file;  // the @file it came from, "" for the command line itself
    bool operator==(const Flag&) const = default;
};

struct CommandLine {
    std::vector<std::string> words;     // as they were given, the program first
    std::vector<Flag> flags;            // in order, @files expanded
    std::vector<std::string> problems;  // why a server would not start with it: "unknown long flag '--web.tls-cert'"
};

/// A unit as the service manager has it loaded: what would run after a restart.
struct Unit {
    std::string name;           // "prometheus.service"
    std::string active;         // ActiveState
    pid_t main_pid = 0;
    std::string fragment;       // the unit file
    std::vector<std::string> drop_ins;
    std::string user, group;
    std::vector<std::pair<std::string, bool>> environment_files;  // path, and whether it may be missing
    std::vector<std::string> environment;
    std::vector<std::string> exec_start;                 // words, before variables are put in
    std::map<std::string, std::string> settings;         // sandbox properties by name: "ProtectSystem" → "full"
    bool needs_reload = false;                           // the files changed since they were read
};

struct Server {
    enum class Kind : std::uint8_t { unit, container, stranger } kind = Kind::stranger;
    std::string name;                      // "prometheus.service", "container 4f3c2a1b", "pid 4711"
    std::optional<Process> process;        // nullopt: it does not run
    Identity identity;                     // of the process, or of the unit where none runs
    std::string root;                      // what "/" is for it: "" for the host's, "/proc/4711/root" for another mount namespace
    std::string directory;                 // working directory, inside its root
    std::optional<Unit> unit;
    Result<CommandLine> running = CommandLine{};     // of the process
    Result<CommandLine> configured = CommandLine{};  // of the unit
    std::optional<std::map<std::string, std::string>> live_flags;  // /api/v1/status/flags, where the socket is proved to be its own
    std::vector<Listener> listeners;
    std::string version;                   // "2.42.0", of the executable that runs or would run; "" where it could not be told
    std::string package;                   // "prometheus 2.42.0+ds-5+b5", "" where no package owns the executable
};

}  // namespace promwarden
