// Who holds a guarded port.

#include <algorithm>

#include <dirent.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "sockets.hpp"

namespace promwarden::host {

namespace {

std::string_view basename_of(std::string_view path) {
    constexpr std::string_view deleted = " (deleted)";  // the package was upgraded while it ran
    if (path.ends_with(deleted)) path.remove_suffix(deleted.size());
    return path.substr(path.rfind('/') + 1);
}

/// The proxies by which container engines publish a port. They are the engine's, run by root or by the user whose containers they serve.
bool publishes(const Process& process) {
    constexpr std::array<std::string_view, 5> proxies{"docker-proxy", "rootlessport", "slirp4netns", "pasta", "conmon"};
    return std::ranges::find(proxies, basename_of(process.exe)) != proxies.end();
}

bool in_container_scope(const Process& process) {
    constexpr std::array<std::string_view, 5> prefixes{"docker-", "libpod-", "cri-containerd-", "crio-", "machine-"};
    return process.unit.ends_with(".scope") && std::ranges::any_of(prefixes, [&](std::string_view prefix) { return process.unit.starts_with(prefix); });
}

std::string pid_namespace(const std::string& proc, const std::string& pid) {
    std::array<char, 64> target{};
    const auto length = ::readlink(fmt::format("{}/{}/ns/pid", proc, pid).c_str(), target.data(), target.size());
    return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

bool in_other_pid_namespace(const Process& process, const std::string& proc) {
    const auto theirs = pid_namespace(proc, std::to_string(process.pid));
    return !theirs.empty() && theirs != pid_namespace(proc, "self");
}

bool names_port(std::string_view text, std::uint16_t port) {
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        if (!line.starts_with("ListenStream=")) continue;
        while (line.ends_with(' ') || line.ends_with('\r')) line.remove_suffix(1);
        const auto number = line.substr(line.find_last_of("=:") + 1);
        if (number == std::to_string(port)) return true;
    }
    return false;
}

std::vector<std::string> names_in(const std::string& path, std::string_view suffix) {
    std::vector<std::string> names;
    const Handle<DIR, closedir> directory{::opendir(path.c_str())};
    if (!directory) return names;
    while (const auto* entry = ::readdir(directory.get()))
        if (std::string_view(entry->d_name).ends_with(suffix)) names.emplace_back(entry->d_name);
    std::ranges::sort(names);
    return names;
}

/// The socket units whose files name the port, drop-ins included. For people: systemd itself is not asked.
std::set<std::string> socket_units(std::uint16_t port, const std::string& root) {
    constexpr std::size_t limit = 64 * 1024;
    std::set<std::string> units;
    for (const auto* below : {"/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/lib/systemd/system", "/lib/systemd/system"}) {
        const auto directory = root + below;
        const auto look = [&](const std::string& path, const std::string& unit) {
            if (const auto file = read_file(path, limit); file && names_port(file->text, port)) units.insert(unit);
        };
        for (const auto& unit : names_in(directory, ".socket")) look(directory + "/" + unit, unit);
        for (const auto& drop_ins : names_in(directory, ".socket.d"))
            for (const auto& name : names_in(directory + "/" + drop_ins, ".conf"))
                look(directory + "/" + drop_ins + "/" + name, drop_ins.substr(0, drop_ins.size() - 2));
    }
    return units;
}

struct Judged {
    PortHolder::Kind kind;
    std::string text;
};

Judged judge(const Process& process, std::string_view unit, std::uint16_t port, const std::string& root, const std::string& proc) {
    using enum PortHolder::Kind;
    const auto who = fmt::format("{} (pid {}{}{})", process.comm, process.pid, process.unit.empty() ? "" : ", ", process.unit);
    if (process.pid == 1 && process.comm == "systemd") {
        const auto units = socket_units(port, root);
        return {stranger, units.empty() ? "systemd (pid 1), for a socket unit" : fmt::format("systemd (pid 1), for {}", fmt::join(units, " or "))};
    }
    if (publishes(process)) return {container, who + ", which publishes a container's port"};
    const bool named = process.comm == "prometheus" && basename_of(process.exe) == "prometheus";
    if (named && process.unit == unit) return {prometheus, who};
    if (in_container_scope(process) || in_other_pid_namespace(process, proc)) return {container, who + ", in a container"};
    if (named && process.unit.empty()) return {prometheus, who};
    if (named) return {stranger, fmt::format("{}, not the one of {}", who, unit)};
    return {stranger, process.comm == "prometheus" ? fmt::format("{}, which runs {}", who, process.exe.empty() ? "what we may not see" : process.exe) : who};
}

/// Of several holders the policy's Prometheus names the socket, if it is among them: systemd keeps a copy of the sockets it hands on.
PortHolder judge_listener(const Listener& listener, std::string_view unit, const std::string& root, const std::string& proc) {
    using enum PortHolder::Kind;
    PortHolder result{unseen, listener, "a process that cannot be seen from here"};
    for (const auto& process : listener.holders) {
        auto judged = judge(process, unit, listener.endpoint.port, root, proc);
        const bool first = &process == &listener.holders.front();
        const bool better = result.kind != prometheus && (judged.kind == prometheus || (result.kind == container && judged.kind == stranger));
        if (!first && !better) continue;
        result.kind = judged.kind;
        result.text = std::move(judged.text);
    }
    result.text = to_text(listener.endpoint) + ": " + result.text;
    return result;
}

}  // namespace

std::vector<PortHolder> port_holders(std::span<const Listener> listeners, std::span<const PortRange> ports, std::string_view unit, const std::string& root,
                                     const std::string& proc) {
    std::vector<PortHolder> holders;
    for (const auto& listener : listeners)
        if (listener.protocol == Protocol::tcp && in_ranges(listener.endpoint.port, ports)) holders.push_back(judge_listener(listener, unit, root, proc));
    return holders;
}

}  // namespace promwarden::host
