/// server — Prometheus servers as they run, and as their units would start them again; containers and what they publish. Part of the room facts: plain values, no I/O.
///
/// Whom to believe: a Server of kind `unit` is the process in the control group of the policy's unit, under the unit's user; its socket owner and its unit are facts
/// of the kernel and of the service manager. What any process says of itself (argv, working directory, @files) is a hint, and never a path that this product changes.
#pragma once

#include <chrono>
#include <map>

#include "promwarden/process.hpp"

namespace promwarden {

/// As whom a service opens files.
struct Identity {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  // supplementary ones
    bool operator==(const Identity&) const = default;
};

/// One flag as kingpin reads it: "--no-web.enable-admin-api" is {"web.enable-admin-api", "false"}.
struct Flag {
    std::string name, value;
    std::string file;     // where it is written, as far as that is known: an @file, an environment file, a unit file; "" for a process' command line
    std::string written;  // the word as it stands there: "--web.listen-address=:9090", of the first word where the value is another. May hold a secret
    bool operator==(const Flag&) const = default;
};

struct CommandLine {
    std::vector<std::string> words;     // as they were given, the program first
    std::vector<Flag> flags;            // in order, @files expanded
    std::vector<std::string> problems;  // why a server would not start with it: "unknown long flag '--web.tls-cert'"
    std::vector<std::string> unread;    // what stands in it and could not be looked at: "@args: open /etc/args: Permission denied". It may say more than `flags`

    /// The last value of that flag; null where it is not given.
    [[nodiscard]] const Flag* find(std::string_view name) const;
};

/// A unit as the service manager has it loaded: what would run after a restart.
struct Unit {
    enum class Source : std::uint8_t { manager, files } source = Source::manager;  // whom we asked: systemd, or its files where it does not run
    std::string name;           // "prometheus.service"
    std::string active;         // ActiveState; "" from files
    pid_t main_pid = 0;
    std::string fragment;       // the unit file
    std::vector<std::string> drop_ins;
    std::string user, group;    // "" where it names none, which is root
    std::vector<std::string> supplementary_groups;
    std::vector<std::pair<std::string, bool>> environment_files;  // path, and whether it may be missing
    std::vector<std::string> environment;                // "NAME=value"; may hold secrets
    std::vector<std::string> exec_start;                 // words, before variables are put in
    std::string directory;                               // WorkingDirectory, "" for "/"
    std::map<std::string, std::string> settings;         // sandbox properties by name, as unit files write them: "ProtectSystem" → "full", "PrivateTmp" → "yes"
    std::map<std::string, std::pair<std::string, std::uint32_t>> written;  // file and line that set a key of [Service] last, as far as its files could be read
    bool needs_reload = false;                           // the files changed since they were read
};

struct Server {
    enum class Kind : std::uint8_t { unit, container, stranger } kind = Kind::stranger;
    std::string name;                      // "prometheus.service", "container 4f3c2a1b", "pid 4711"
    std::optional<Process> process;        // nullopt: it does not run
    std::vector<pid_t> pids;               // of everything in the control group of a unit or container, as far as seen
    std::optional<std::chrono::system_clock::time_point> started;
    Identity identity;                     // of the process, or of the unit where none runs
    std::string root;                      // what "/" is for it: "" for the host's, "/proc/4711/root" for another mount namespace. Never for a stranger
    std::string directory;                 // working directory, inside its root; of a unit's process the process may choose it
    std::optional<Unit> unit;
    Result<CommandLine> running = CommandLine{};     // of the process
    Result<CommandLine> configured = CommandLine{};  // of the unit, environment put in; Code::missing where there is no such unit
    std::optional<std::map<std::string, std::string>> live_flags;  // /api/v1/status/flags, where the socket is proved to be its own
    std::vector<Listener> listeners;       // its own, in its own network namespace
    bool own_network = false;              // that is not the host's
    std::string executable;                // path, inside its root, of the program that runs or would run
    bool replaced = false;                 // the file was replaced or removed since the process started
    std::string version;                   // "2.42.0", of the executable that runs or would run; "" where it could not be told
    std::string go;                        // "1.19.8", what built that executable; "" where it could not be told
    std::string package;                   // "prometheus 2.42.0+ds-5+b5", "" where no package owns the executable
    std::string unread_packages;           // "rpm": a package manager whose database nobody here reads may have installed the executable; "" otherwise
    std::string distribution;              // "debian 12", of the root that the package belongs to
    std::string update;                    // a newer version of the package that the distribution's security archive was seen to have, "" where none was
    std::vector<std::string> group_names;  // of the identity's groups
};

/// What a flag is, by the best witness: the server's own answer, its process, or its unit where no process runs.
struct FlagView {
    std::string value;
    enum class Source : std::uint8_t { live, process, unit } source = Source::process;
    const Flag* flag = nullptr;  // where it is written, inside the server; null for a live answer
};
/// Nullopt where the flag is not given, or where nothing is known; prometheus::flag_value knows the defaults.
std::optional<FlagView> view_of(const Server& server, std::string_view name);

// ---- containers -----------------------------------------------------------------------------------------------------

/// A way from a port of this host into a container.
struct Publication {
    enum class Seen : std::uint8_t { configuration, proxy, rule } seen = Seen::configuration;
    Endpoint host;                          // 0.0.0.0 and :: for all addresses; port 0: chosen when it starts
    std::uint16_t container_port = 0;
    Protocol protocol = Protocol::tcp;
    std::optional<Address> container_address;
    std::string container;                  // its name, "" where that is not known
    std::string source;                     // "/var/lib/docker/containers/…/hostconfig.json", "docker-proxy (pid 812)", "table ip nat chain DOCKER"
};

/// A container as its engine keeps it on disk.
struct Container {
    std::string id, name, image, engine;    // engine: "docker", "podman"
    bool running = false;
    bool host_network = false;
    bool privileged = false;
    pid_t pid = 0;                          // of its first process, where it runs
    std::vector<std::string> arguments;     // may hold secrets
    std::vector<std::string> environment;   // "NAME=value"; may hold secrets
    std::vector<std::string> mounts;        // sources on the host
    std::string source;                     // the file that says so
};

struct ContainerFacts {
    std::vector<Container> containers;
    std::vector<Publication> publications;
    std::vector<std::string> unread;        // what could not be looked at: "open …: Permission denied"
};

}  // namespace promwarden
