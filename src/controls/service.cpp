// Family config, as far as processes and units decide it: would it start, is it confined, does it reach the container engine.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/demands.hpp"
#include "servers.hpp"

namespace promwarden {

namespace {

std::string version_text_of(const Server& server) {
    const auto version = prometheus::version_of(server.version);
    return version ? fmt::format("Prometheus {}", server.version) : std::string("any known Prometheus");
}

// ---- startable ------------------------------------------------------------------------------------------------------

std::string between_quotes(std::string_view text) {
    const auto first = text.find('\''), last = text.rfind('\'');
    return first == last ? std::string() : std::string(text.substr(first + 1, last - first - 1));
}

/// What to do about an error of the command line.
std::string advice(const CommandLine& line, std::string_view problem) {
    const auto named = between_quotes(problem);
    if (named.starts_with("--web.tls-")) return "TLS is configured in a file: take the --web.tls-* flags out and name the file with --web.config.file; its tls_server_config holds cert_file, key_file, client_ca_file and client_auth_type";
    if (problem.starts_with("unexpected true") || problem.starts_with("unexpected false")) {
        for (const auto& flag : line.flags)
            if (flag.written.starts_with("--") && (flag.written.ends_with("=false") || flag.written.ends_with("=true")))
                return fmt::format("a switch takes no value: {}", flag.written.ends_with("=false") ? fmt::format("leave {} out, or write --no-{}", flag.written, flag.name) : fmt::format("write --{}", flag.name));
        return "a switch takes no value: leave it out, or write --no- before its name";
    }
    if (problem.contains("cannot be repeated")) return fmt::format("give --{} once", named);
    if (problem.starts_with("units:")) return "write the unit with its B: 512MB, 10GB";
    if (problem.starts_with("not a valid duration")) return "write it with a unit: 15d, 2m, 30s";
    if (problem.starts_with("unknown long flag")) {
        std::vector<std::string_view> names;
        for (const auto& rule : prometheus::flag_rules()) names.push_back(rule.name);
        const auto name = std::string_view(named).substr(std::min<std::size_t>(2, named.size()));
        if (prometheus::find_flag(name) != nullptr) return fmt::format("this version has no {}: take it out", named);
        if (const auto near = nearest(name, names)) return fmt::format("did you mean --{}? Otherwise take it out", *near);
        return "take it out";
    }
    if (problem.starts_with("failed to open arguments file")) return "make the file, or take the @ argument out";
    if (problem.starts_with("unknown short flag")) return "flags begin with two dashes";
    return "correct the command line";
}

/// Where the flag that a problem names is written.
std::optional<Location> place_of_problem(const Server& server, const CommandLine& line, std::string_view problem) {
    const auto named = between_quotes(problem);
    for (auto flag = line.flags.rbegin(); flag != line.flags.rend(); ++flag)
        if (flag->name == named || fmt::format("--{}", flag->name) == named) return location_of(*flag);
    if (problem.starts_with("unexpected "))
        for (const auto& flag : line.flags)
            if (flag.written.ends_with(fmt::format("={}", problem.substr(11)))) return location_of(flag);
    return server.unit ? place_of_setting(*server.unit, "ExecStart") : std::nullopt;
}

void judge_start(const Server& server, Gathered& gathered) {
    if (!server.configured) {
        if (server.configured.error().code != Code::missing) gathered.undecided.push_back(fmt::format("{}: {}", server.name, server.configured.error().text()));
        return;
    }
    gathered.judged = true;
    const auto& line = *server.configured;
    for (const auto& problem : line.problems)
        gathered.findings.push_back({server.name, fmt::format("a command line that {} accepts", version_text_of(server)), fmt::format("it would not start: {}", problem), place_of_problem(server, line, problem),
                                     Evidence::config, {false, fmt::format("{}; {}", advice(line, problem), then_restart(server))}});
    for (const auto& unread : line.unread) gathered.undecided.push_back(fmt::format("{}: {}", server.name, unread));
}

// ---- sandbox --------------------------------------------------------------------------------------------------------

/// A setting that a confined service has. Debian's own unit has all of them but RestrictSUIDSGID and UMask.
struct Setting {
    std::string_view name, proposed, why;
    std::string_view weak[4] = {};  // values that do not count, besides none
};
constexpr Setting settings[] = {
    {"NoNewPrivileges", "yes", "a program it starts could gain privileges", {"no"}},
    {"ProtectSystem", "full", "it could write what belongs to the system", {"no"}},
    {"ProtectHome", "yes", "it could read home directories", {"no"}},
    {"PrivateTmp", "yes", "it shares /tmp with every other user", {"no"}},
    {"PrivateDevices", "yes", "it sees the host's devices", {"no"}},
    {"ProtectKernelTunables", "yes", "it could change the kernel's settings", {"no"}},
    {"ProtectKernelModules", "yes", "it could load kernel modules", {"no"}},
    {"ProtectControlGroups", "yes", "it could change control groups", {"no"}},
    {"RestrictNamespaces", "yes", "it could make namespaces, where the kernel's less tried parts are", {"no"}},
    {"LockPersonality", "yes", "it could change its execution domain", {"no"}},
    {"RestrictRealtime", "yes", "it could take all processor time", {"no"}},
    {"RestrictSUIDSGID", "yes", "it could make files that give their owner's rights", {"no"}},
    {"MemoryDenyWriteExecute", "yes", "written memory could become code", {"no"}},
    {"SystemCallArchitectures", "native", "system calls of other architectures are open to it", {}},
};

bool is_dynamic(const Unit& unit) {
    const auto dynamic = unit.settings.find("DynamicUser");
    return dynamic != unit.settings.end() && (dynamic->second == "yes" || dynamic->second == "true" || dynamic->second == "1" || dynamic->second == "on");
}

bool counts(const Unit& unit, const Setting& setting) {
    constexpr std::string_view implied[] = {"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "RestrictSUIDSGID"};
    if (is_dynamic(unit) && std::ranges::find(implied, setting.name) != std::end(implied)) return true;
    const auto found = unit.settings.find(std::string(setting.name));
    if (found == unit.settings.end() || found->second.empty()) return false;
    const auto off = found->second == "false" || found->second == "off" || found->second == "0";
    return !off && std::ranges::find(setting.weak, found->second) == std::end(setting.weak);
}

bool is_root(const Unit& unit) { return !is_dynamic(unit) && (unit.user.empty() || unit.user == "root" || unit.user == "0"); }

/// What new files of it may not be: nothing for others, no writing for the group. The service manager's own default is 0022.
constexpr std::string_view umask_proposed = "0027";
bool mask_counts(const Unit& unit) {
    const auto found = unit.settings.find("UMask");
    if (found == unit.settings.end()) return false;
    unsigned mask = 0;
    for (const char c : found->second) mask = c >= '0' && c <= '7' ? mask * 8 + static_cast<unsigned>(c - '0') : mask;
    return (mask & 027U) == 027U;
}

bool closes_capabilities(const Unit& unit) {
    const auto bounding = unit.settings.find("CapabilityBoundingSet");
    return bounding != unit.settings.end() && !bounding->second.starts_with('~');
}

std::string drop_in(const Unit& unit, std::string_view line) { return fmt::format("systemctl edit {}: under [Service] write {}; then systemctl restart {}", unit.name, line, unit.name); }

void judge_sandbox(const Server& server, Gathered& gathered) {
    const auto& unit = *server.unit;
    gathered.judged = true;
    const auto place = place_of_setting(unit, "User");
    if (is_root(unit)) {
        gathered.findings.push_back({server.name, "a user of its own", "the unit runs it as root", place, Evidence::config, {false, drop_in(unit, "User=prometheus")}});
    } else if (server.process && server.process->uid == uid_t{0}) {
        gathered.findings.push_back({server.name, fmt::format("user {}", unit.user), fmt::format("it runs as root (pid {})", server.process->pid), place, Evidence::kernel, {false, fmt::format("systemctl restart {}", unit.name)}});
    }
    for (const auto& setting : settings) {
        if (counts(unit, setting)) continue;
        const auto found = unit.settings.find(std::string(setting.name));
        const auto observed = found == unit.settings.end() || found->second.empty() ? fmt::format("{} is not set: {}", setting.name, setting.why) : fmt::format("{}={}: {}", setting.name, found->second, setting.why);
        gathered.findings.push_back({server.name, fmt::format("{}={}", setting.name, setting.proposed), observed, place_of_setting(unit, std::string(setting.name)), Evidence::config, {false, drop_in(unit, fmt::format("{}={}", setting.name, setting.proposed))}});
    }
    if (!mask_counts(unit))
        gathered.findings.push_back({server.name, fmt::format("UMask={}", umask_proposed), "UMask leaves its new files, the database's too, open to everybody", place_of_setting(unit, "UMask"), Evidence::config, {false, drop_in(unit, fmt::format("UMask={}", umask_proposed))}});
    if (!closes_capabilities(unit))
        gathered.findings.push_back({server.name, "CapabilityBoundingSet= (none)", "it may hold capabilities: its bounding set is not closed", place_of_setting(unit, "CapabilityBoundingSet"), Evidence::config, {false, drop_in(unit, "CapabilityBoundingSet=")}});
    if (const auto ambient = unit.settings.find("AmbientCapabilities"); ambient != unit.settings.end() && !ambient->second.empty() && ambient->second != "CAP_NET_BIND_SERVICE")
        gathered.findings.push_back({server.name, "AmbientCapabilities= (none)", fmt::format("it runs with {}", ambient->second), place_of_setting(unit, "AmbientCapabilities"), Evidence::config, {false, drop_in(unit, "AmbientCapabilities=")}});
}

/// Whether a path that the server needs is where a setting would hide it or keep it from being written.
bool in_the_way(const Unit& unit, const CommandLine& line, std::string_view setting) {
    constexpr std::pair<std::string_view, std::string_view> hidden[] = {{"ProtectHome", "/home/"},      {"ProtectHome", "/root/"},  {"ProtectHome", "/run/user/"},      {"PrivateTmp", "/tmp/"},
                                                                        {"PrivateTmp", "/var/tmp/"},    {"PrivateDevices", "/dev/"}};
    constexpr std::string_view needed[] = {"config.file", "web.config.file", "storage.tsdb.path", "storage.agent.path", "web.console.templates", "web.console.libraries", "web.user-assets"};
    std::vector<std::string> paths{line.words.empty() ? std::string() : line.words.front(), unit.directory + "/"};
    for (const auto& flag : line.flags)
        if (std::ranges::find(needed, flag.name) != std::end(needed)) paths.push_back(flag.value.starts_with('/') ? flag.value : unit.directory + "/" + flag.value);
    if (setting == "ProtectSystem") {
        const auto* storage = line.find("storage.tsdb.path");
        constexpr std::string_view of_system[] = {"/usr/", "/boot/", "/efi/", "/etc/"};
        return storage != nullptr && std::ranges::any_of(of_system, [&](std::string_view directory) { return storage->value.starts_with(directory); });
    }
    return std::ranges::any_of(hidden, [&](const auto& one) { return one.first == setting && std::ranges::any_of(paths, [&](const std::string& path) { return path.starts_with(one.second); }); });
}

/// A port below 1024 needs a capability.
bool listens_low(const CommandLine& line) {
    return std::ranges::any_of(line.flags, [](const Flag& flag) { return flag.name == "web.listen-address" && std::atoi(flag.value.c_str() + flag.value.rfind(':') + 1) < 1024; });
}

// ---- the container engine's socket ----------------------------------------------------------------------------------

bool names_engine(std::string_view text) { return text.contains("docker.sock") || text.contains("podman.sock") || text.contains("containerd.sock"); }

/// Whether a mounted path holds the socket.
bool mounts_engine(std::string_view source) {
    while (source.size() > 1 && source.ends_with('/')) source.remove_suffix(1);
    return names_engine(source) || source == "/" || source == "/run" || source == "/var/run" || source == "/var" || source == "/run/podman";
}

void judge_engine_access(const Server& server, Gathered& gathered) {
    gathered.judged = true;
    const auto found = [&](std::string observed, std::optional<Location> place, Evidence evidence, std::string remedy) {
        gathered.findings.push_back({server.name, "no access to the container engine", std::move(observed), std::move(place), evidence, {false, std::move(remedy)}});
    };
    constexpr std::string_view groups[] = {"docker", "podman"};
    for (const auto group : groups) {
        const bool in_unit = server.unit && (server.unit->group == group || std::ranges::find(server.unit->supplementary_groups, group) != server.unit->supplementary_groups.end());
        if (!in_unit && std::ranges::find(server.group_names, group) == server.group_names.end()) continue;
        found(fmt::format("it is in the group {0}, whose members are root through the engine", group), server.unit ? place_of_setting(*server.unit, in_unit ? "SupplementaryGroups" : "User") : std::nullopt,
              server.process ? Evidence::kernel : Evidence::config, in_unit ? fmt::format("take {} out of the unit's groups; {}", group, then_restart(server)) : fmt::format("gpasswd -d USER {}; {}", group, then_restart(server)));
    }
    if (!server.unit) return;
    for (const auto* key : {"BindPaths", "BindReadOnlyPaths", "ReadWritePaths"})
        if (const auto setting = server.unit->settings.find(key); setting != server.unit->settings.end() && names_engine(setting->second))
            found(fmt::format("{} names the engine's socket", key), place_of_setting(*server.unit, key), Evidence::config, fmt::format("take the socket out of {}; {}", key, then_restart(server)));
    if (server.configured && std::ranges::any_of(server.configured->words, names_engine))
        found("its command line names the engine's socket", place_of_setting(*server.unit, "ExecStart"), Evidence::config, fmt::format("take the socket out of the command line; {}", then_restart(server)));
}

void judge_mounts(const Container& container, Gathered& gathered) {
    gathered.judged = true;
    const auto mount = std::ranges::find_if(container.mounts, mounts_engine);
    if (mount == container.mounts.end() && !container.privileged) return;
    const bool mounted = mount != container.mounts.end();
    gathered.findings.push_back({fmt::format("container {}", container.name), "no access to the container engine", mounted ? fmt::format("{} is mounted into it: the engine's socket is there", *mount) : std::string("it is privileged"),
                                 Location{container.source, 0, 0, mounted ? "Binds" : "Privileged"}, Evidence::config,
                                 {false, mounted ? "take the mount out and make it anew; for discovery, put a proxy between that lets only GET /containers/json through" : "make it anew without --privileged"}});
}

}  // namespace

Decision startable_flags(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    std::string accepted = "the command line is one that Prometheus accepts";
    for (const auto* server : judged_servers(facts)) {
        judge_start(*server, gathered);
        if (server->configured) accepted = fmt::format("the command line is one that {} accepts", version_text_of(*server));
    }
    return std::move(gathered).decide(std::move(accepted), fmt::format("there is no unit {} whose command line could be read", policy.prometheus.unit));
}

std::vector<UnitSetting> missing_settings(const Unit& unit, const CommandLine& line, const std::string& account) {
    std::vector<UnitSetting> missing;
    if (is_root(unit) && !account.empty()) missing.push_back({"User", account});
    for (const auto& setting : settings)
        if (!counts(unit, setting) && !in_the_way(unit, line, setting.name)) missing.push_back({std::string(setting.name), std::string(setting.proposed)});
    if (!mask_counts(unit)) missing.push_back({"UMask", std::string(umask_proposed)});
    const bool as_root = is_root(unit) && account.empty();  // it may need them to read its files
    if (!closes_capabilities(unit) && !listens_low(line) && !as_root) missing.push_back({"CapabilityBoundingSet", ""});
    return missing;
}

Decision decide_service_sandbox(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts))
        if (server->unit) judge_sandbox(*server, gathered);
    return std::move(gathered).decide("the unit confines it", fmt::format("there is no unit {} to look at", policy.prometheus.unit));
}

Decision docker_socket_of_servers(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts))
        if (server->kind == Server::Kind::unit) judge_engine_access(*server, gathered);
    if (facts.containers)
        for (const auto& container : facts.containers->containers)
            if (container.running && is_monitoring(container)) judge_mounts(container, gathered);
    return std::move(gathered).decide("nothing of the monitoring reaches the container engine", no_server(policy));
}

}  // namespace promwarden
