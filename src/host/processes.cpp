// Processes by /proc: each through one descriptor of its directory, so that a number that is used again is never mistaken for the process looked at.

#include <algorithm>
#include <charconv>
#include <climits>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "processes.hpp"
#include "sockets.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_ancestors = 128;

using Directory = Handle<DIR, closedir>;

}  // namespace

Result<Fd> open_process(pid_t pid, const std::string& proc) {
    const auto path = fmt::format("{}/{}", proc, pid);
    Fd fd{::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    return fd;
}

std::optional<std::string> read_text(const Fd& directory, const char* name, std::size_t limit) {
    const Fd fd{::openat(*directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (!fd) return std::nullopt;
    std::string text;
    std::array<char, 4096> part{};
    while (text.size() < limit) {
        const auto length = ::read(*fd, part.data(), part.size());
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) return std::nullopt;
        if (length == 0) return text;
        text.append(part.data(), static_cast<std::size_t>(length));
    }
    return text;
}

std::optional<std::string> read_link(int directory, const char* name) {
    std::array<char, PATH_MAX> target{};
    const auto length = ::readlinkat(directory, name, target.data(), target.size());
    if (length < 0) return std::nullopt;
    return std::string(target.data(), static_cast<std::size_t>(length));
}

std::string_view field(std::string_view status, std::string_view name) {
    while (!status.empty()) {
        const auto line = status.substr(0, status.find('\n'));
        if (line.starts_with(name)) return line.substr(name.size());
        status.remove_prefix(std::min(status.size(), line.size() + 1));
    }
    return {};
}

std::string printable(std::string text) {
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return text;
}

namespace {

/// The path of a process in one hierarchy of a /proc/PID/cgroup file, lines "ID:CONTROLLERS:PATH".
std::string_view cgroup_path(std::string_view lines, std::string_view controllers) {
    while (!lines.empty()) {
        const auto line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(lines.size(), line.size() + 1));
        const auto colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        const auto rest = line.substr(colon + 1);
        if (rest.starts_with(controllers) && rest.substr(controllers.size()).starts_with(':')) return rest.substr(controllers.size() + 1);
    }
    return {};
}

/// The part of the tree that systemd manages starts where its own scope hangs: not at the root where we share a container's view.
std::string_view managed_root(std::string_view first_process) {
    for (const std::string_view own : {"/init.scope", "/system.slice", "/system"})
        if (first_process.ends_with(own)) return first_process.substr(0, first_process.size() - own.size());
    return first_process == "/" ? std::string_view{} : first_process;
}

/// The unit in a cgroup path: the first component that is no slice, if it is a unit at all.
std::string unit_in(std::string_view path, std::string_view root) {
    if (!path.starts_with(root)) return {};
    path.remove_prefix(root.size());
    while (path.starts_with('/')) {
        path.remove_prefix(1);
        auto part = path.substr(0, path.find('/'));
        path.remove_prefix(part.size());
        if (part.ends_with(".slice")) continue;
        if (part.starts_with('_')) part.remove_prefix(1);  // how systemd keeps a name from meaning something to the kernel
        const bool unit = part.ends_with(".service") || part.ends_with(".scope") || part.ends_with(".socket") || part.ends_with(".mount");
        return unit && part.front() != '.' ? std::string(part) : std::string();
    }
    return {};
}

std::string unit_of(std::string_view cgroup, const std::string& proc) {
    std::string first;
    if (const auto directory = open_process(1, proc)) first = read_text(*directory, "cgroup").value_or("");
    for (const std::string_view controllers : {"name=systemd", ""})
        if (auto unit = unit_in(cgroup_path(cgroup, controllers), managed_root(cgroup_path(first, controllers))); !unit.empty()) return unit;
    return {};
}

}  // namespace

Process describe(pid_t pid, const Fd& directory, const std::string& status, const std::string& proc) {
    Process process;
    process.pid = pid;
    auto comm = read_text(directory, "comm").value_or("");
    if (comm.ends_with('\n')) comm.pop_back();
    process.comm = printable(std::move(comm));
    process.exe = printable(read_link(*directory, "exe").value_or(""));
    const auto uids = field(status, "Uid:");  // real, effective, saved, file system
    if (const auto effective = uids.find('\t', 1); effective != std::string_view::npos) process.uid = number_in<uid_t>(uids.substr(effective));
    constexpr auto unset = static_cast<uid_t>(-1);
    process.loginuid = number_in<uid_t>(read_text(directory, "loginuid").value_or(""));
    if (process.loginuid == unset) process.loginuid.reset();
    process.unit = printable(unit_of(read_text(directory, "cgroup").value_or(""), proc));
    return process;
}

namespace {

std::optional<std::uint32_t> socket_inode(const std::string& target) {
    constexpr std::string_view prefix = "socket:[";
    if (!target.starts_with(prefix)) return std::nullopt;
    return number_in<std::uint32_t>(std::string_view(target).substr(prefix.size()));
}

}  // namespace

Result<std::set<std::uint32_t>> sockets_of(pid_t pid, const std::string& proc) {
    const auto path = fmt::format("{}/{}/fd", proc, pid);
    const Directory directory{::opendir(path.c_str())};
    if (!directory) return fail_errno("open", path);
    std::set<std::uint32_t> inodes;
    while (const auto* entry = ::readdir(directory.get()))
        if (const auto target = read_link(::dirfd(directory.get()), entry->d_name))
            if (const auto inode = socket_inode(*target)) inodes.insert(*inode);
    return inodes;
}

std::vector<pid_t> all_processes(const std::string& proc) {
    std::vector<pid_t> pids;
    const Directory directory{::opendir(proc.c_str())};
    if (!directory) return pids;
    while (const auto* entry = ::readdir(directory.get()))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            if (const auto pid = number_in<pid_t>(entry->d_name)) pids.push_back(*pid);
    return pids;
}

Result<Process> read_process(pid_t pid, const std::string& proc) {
    const auto directory = TRY(open_process(pid, proc));
    const auto status = read_text(directory, "status");
    if (!status) return fail(Code::missing, "read", fmt::format("process {}", pid), "it is gone");
    return describe(pid, directory, *status, proc);
}

std::vector<pid_t> ancestors(pid_t pid, const std::string& proc) {
    std::vector<pid_t> chain;
    while (pid > 0 && chain.size() < most_ancestors) {
        const auto directory = open_process(pid, proc);
        const auto status = directory ? read_text(*directory, "status") : std::nullopt;
        if (!status) return chain;
        chain.push_back(pid);
        pid = number_in<pid_t>(field(*status, "PPid:")).value_or(0);
    }
    return chain;
}

std::map<std::uint32_t, std::vector<Process>> holders_of(const std::set<std::uint32_t>& inodes, const std::string& proc) {
    std::map<std::uint32_t, std::vector<Process>> holders;
    if (inodes.empty()) return holders;
    for (const auto pid : all_processes(proc)) {
        const auto sockets = sockets_of(pid, proc);
        if (!sockets) continue;
        std::optional<Process> process;  // read once, and only for those that hold one
        for (const auto inode : *sockets) {
            if (!inodes.contains(inode)) continue;
            if (!process)
                if (auto read = read_process(pid, proc)) process = std::move(*read);
            if (process) holders[inode].push_back(*process);
        }
    }
    return holders;
}

void find_holders(std::span<Listener> listeners, std::span<const PortRange> ports, const std::string& proc) {
    std::set<std::uint32_t> inodes;
    for (const auto& listener : listeners)
        if (listener.inode != 0 && in_ranges(listener.endpoint.port, ports)) inodes.insert(listener.inode);
    const auto holders = holders_of(inodes, proc);
    for (auto& listener : listeners)
        if (const auto found = holders.find(listener.inode); found != holders.end()) listener.holders = found->second;
}

Result<std::vector<Connection>> connections_of(std::span<const pid_t> pids, const std::string& proc) {
    std::set<std::uint32_t> inodes;
    for (const auto pid : pids) {
        auto sockets = sockets_of(pid, proc);
        if (!sockets && sockets.error().code == Code::missing) continue;
        if (!sockets) return std::unexpected(std::move(sockets).error());
        inodes.merge(*sockets);
    }
    if (inodes.empty()) return std::vector<Connection>{};
    return established({}, [&](const Connection& connection) { return inodes.contains(connection.inode); });
}

}  // namespace promwarden::host
