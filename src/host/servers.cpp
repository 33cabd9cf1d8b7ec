// Prometheus servers: the unit's first, then those of containers, then whatever else looks like one.

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "accounts.hpp"
#include "arguments.hpp"
#include "programs.hpp"
#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_servers = 256, most_arguments_file = 256 * 1024;

std::string_view basename_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

/// The path of an executable without the kernel's mark for one that was replaced.
std::string_view undeleted(std::string_view path) {
    constexpr std::string_view deleted = " (deleted)";
    return path.ends_with(deleted) ? path.substr(0, path.size() - deleted.size()) : path;
}

bool is_name(std::string_view name) { return name == "prometheus" || name == "prometheus-server" || name == "prometheus2"; }

/// What a look at a process told, before anything is decided about it.
struct Seen {
    Fd directory;
    Process process;
    Result<std::vector<std::string>> arguments = std::vector<std::string>{};
    std::string container;  // id, from its cgroup
    std::string network, mounts, pids, users;  // namespaces, "" where they could not be read

    /// By kernel's name, by executable: what only the one who started it could choose.
    [[nodiscard]] bool is_prometheus() const { return process.comm == "prometheus" && is_name(basename_of(undeleted(process.exe))); }
    [[nodiscard]] bool looks() const {
        return is_name(process.comm) || is_name(basename_of(undeleted(process.exe))) || (arguments && !arguments->empty() && is_name(basename_of(arguments->front())));
    }
};

/// The id that container engines put into a cgroup's name: 64 hexadecimal digits.
std::string container_id(std::string_view cgroup) {
    constexpr std::size_t length = 64;
    std::size_t run = 0;
    for (std::size_t i = 0; i <= cgroup.size(); ++i) {
        const bool digit = i < cgroup.size() && ((cgroup[i] >= '0' && cgroup[i] <= '9') || (cgroup[i] >= 'a' && cgroup[i] <= 'f'));
        if (digit) ++run;
        else if (run == length) return std::string(cgroup.substr(i - length, length));
        else run = 0;
    }
    return {};
}

struct Namespaces {
    std::string network, mounts, pids, users;
};

Namespaces namespaces_of(int directory) {
    return {read_link(directory, "ns/net").value_or(""), read_link(directory, "ns/mnt").value_or(""), read_link(directory, "ns/pid").value_or(""), read_link(directory, "ns/user").value_or("")};
}

bool differ(const std::string& one, const std::string& other) { return !one.empty() && !other.empty() && one != other; }

Identity identity_of(const std::string& status) {
    const auto effective = [&](std::string_view name) {
        auto text = field(status, name);
        text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
        return text.substr(std::min(text.find('\t'), text.size()));
    };
    Identity identity{number_in<uid_t>(effective("Uid:")).value_or(static_cast<uid_t>(-1)), number_in<gid_t>(effective("Gid:")).value_or(static_cast<gid_t>(-1)), {}};
    auto groups = field(status, "Groups:");
    while (true) {
        groups.remove_prefix(std::min(groups.find_first_not_of(" \t"), groups.size()));
        const auto group = number_in<gid_t>(groups);
        if (!group) return identity;
        identity.groups.push_back(*group);
        groups.remove_prefix(std::min(groups.find(' '), groups.size()));
    }
}

std::optional<std::chrono::system_clock::time_point> start_of(const Fd& directory, const std::string& proc) {
    const auto text = read_text(directory, "stat");
    if (!text || !text->contains(')')) return std::nullopt;
    std::string_view rest = std::string_view(*text).substr(text->rfind(')') + 1);
    constexpr int start_field = 20;  // the 22nd, counted behind the name
    for (int i = 0; i < start_field; ++i) {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        if (i + 1 < start_field) rest.remove_prefix(std::min(rest.find(' '), rest.size()));
    }
    const auto ticks = number_in<std::int64_t>(rest);
    const auto system = read_file(proc + "/stat", 16 * 1024 * 1024);
    if (!ticks || !system) return std::nullopt;
    const auto boot = number_in<std::int64_t>(field(system->text, "btime "));
    if (!boot) return std::nullopt;
    const auto per_second = std::max(1L, ::sysconf(_SC_CLK_TCK));
    return std::chrono::system_clock::time_point(std::chrono::seconds(*boot) + std::chrono::milliseconds(*ticks * 1000 / per_second));
}

/// Which package the executable is of; where none that can be read, who else may have installed it.
void read_package(Server& server, const std::string& root) {
    server.package = package_of(server.executable, root);
    if (server.package.empty()) server.unread_packages = unread_manager_of(server.executable, root);
}

/// By the program itself where it says so, else by its package.
void read_version(Server& server, const std::string& root) {
    server.update = security_update(server.package, root);
    if (server.version.empty() && !server.package.empty()) server.version = upstream_of(std::string_view(server.package).substr(server.package.find(' ') + 1));
}

class Observer {
public:
    Observer(std::string unit, std::span<const Listener> listeners, std::string proc) : name_(std::move(unit)), listeners_(listeners), proc_(std::move(proc)) {
        const Fd self{::open(fmt::format("{}/self", proc_).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
        if (self) ours_ = namespaces_of(*self);
    }

    std::vector<Server> run() {
        Server subject;
        subject.kind = Server::Kind::unit;
        subject.name = name_;
        read_the_unit(subject);
        look_at_processes();
        std::vector<Server> servers;
        const auto main = main_of(subject);
        if (main == none) {
            rest_of_unit(subject);
        } else {
            if (seen_[main].process.unit != name_) {  // stands alone: no manager would start it again
                subject.unit.reset();
                subject.configured = fail(Code::missing, "read unit", name_, "no service manager runs here");
            }
            fill(subject, seen_[main]);
        }
        servers.push_back(std::move(subject));
        for (std::size_t i = 0; i < seen_.size() && servers.size() < most_servers; ++i)
            if (i != main && seen_[i].process.unit != name_ && seen_[i].looks()) servers.push_back(other(seen_[i]));
        std::ranges::stable_sort(servers, {}, &Server::kind);
        return servers;
    }

private:
    static constexpr std::size_t none = SIZE_MAX;

    void read_the_unit(Server& subject) {
        auto unit = has_manager() ? ask_manager(name_) : Result<Unit>(fail(Code::unsupported, "ask", "systemd", "it does not run here"));
        managed_ = unit.has_value() || (has_manager() && unit.error().code == Code::missing);
        if (unit) {
            auto paths = unit->drop_ins;
            if (!unit->fragment.empty()) paths.insert(paths.begin(), unit->fragment);
            assignments_ = read_these_files(paths, "");
            unit::locate(*unit, assignments_);
        } else if (!managed_) {
            if (auto files = read_unit_files(name_, "")) {
                assignments_ = *std::move(files);
                unit = unit::merge(name_, assignments_);
            } else unit = std::unexpected(files.error());
        }
        if (unit) subject.unit = *std::move(unit);
        else subject.configured = std::unexpected(unit.error());
        if (subject.unit) account_ = account_of(*subject.unit, "");
        if (!account_) return;
        subject.identity = *account_;
        subject.group_names = names_of(account_->groups, "");
    }

    /// Every process that is in the unit or looks like a Prometheus.
    void look_at_processes() {
        for (const auto pid : all_processes(proc_)) {
            auto directory = open_process(pid, proc_);
            if (!directory) continue;
            auto comm = read_text(*directory, "comm").value_or("");
            if (comm.ends_with('\n')) comm.pop_back();
            const auto arguments = arguments_of(*directory, pid);
            if (arguments && arguments->empty()) continue;  // a thread of the kernel, or gone
            const auto exe = read_link(**directory, "exe").value_or("");
            const auto cgroup = read_text(*directory, "cgroup").value_or("");
            const bool looks = is_name(comm) || is_name(basename_of(undeleted(exe))) || (arguments && is_name(basename_of(arguments->front())));
            if (!looks && !cgroup.contains(name_)) continue;
            const auto status = read_text(*directory, "status");
            if (!status) continue;
            Seen seen{*std::move(directory), {}, arguments, container_id(cgroup), {}, {}, {}, {}};
            seen.process = describe(pid, seen.directory, *status, proc_);
            const auto spaces = namespaces_of(*seen.directory);
            seen.network = spaces.network, seen.mounts = spaces.mounts, seen.pids = spaces.pids, seen.users = spaces.users;
            seen_.push_back(std::move(seen));
        }
        std::ranges::sort(seen_, {}, [](const Seen& seen) { return seen.process.pid; });
    }

    /// The process of the unit: in its control group, under its user. Of several the manager's main process, else one that is a Prometheus, else the first.
    std::size_t main_of(const Server& subject) const {
        std::size_t best = none;
        int best_rank = 0;
        for (std::size_t i = 0; i < seen_.size(); ++i) {
            const auto& seen = seen_[i];
            int rank = 0;
            if (seen.process.unit == name_ && seen.container.empty() && (!account_ || seen.process.uid == account_->uid)) {
                const bool main = subject.unit && seen.process.pid == subject.unit->main_pid;
                rank = 2 + (main ? 1 : 0) + (seen.is_prometheus() ? 2 : 0);
            } else if (stands_alone(seen)) rank = 1;
            if (rank > best_rank) best = i, best_rank = rank;
        }
        return best;
    }

    /// Where no service manager runs there are no control groups to go by: then it is a Prometheus by name and executable, in our network, that root or the unit's user
    /// started. Nobody else can be either.
    [[nodiscard]] bool stands_alone(const Seen& seen) const {
        if (managed_ || !seen.process.unit.empty() || !seen.is_prometheus() || is_container(seen) || differ(seen.network, ours_.network)) return false;
        return seen.process.uid == uid_t{0} || (account_ && seen.process.uid == account_->uid);
    }

    /// Namespaces of others, made by somebody who could: a user namespace is what everybody can make.
    [[nodiscard]] bool is_container(const Seen& seen) const {
        if (!seen.container.empty()) return true;
        const bool away = differ(seen.pids, ours_.pids) || (differ(seen.network, ours_.network) && differ(seen.mounts, ours_.mounts));
        return away && !differ(seen.users, ours_.users);
    }

    Server other(const Seen& seen) const {
        Server server;
        const bool container = is_container(seen);
        server.kind = container ? Server::Kind::container : stands_alone(seen) ? Server::Kind::unit : Server::Kind::stranger;
        if (!seen.container.empty()) server.name = fmt::format("container {}", seen.container.substr(0, 12));
        else if (container) server.name = fmt::format("namespaces of pid {}", seen.process.pid);
        else server.name = fmt::format("pid {}{}", seen.process.pid, seen.process.unit.empty() ? "" : fmt::format(" ({})", seen.process.unit));
        server.configured = fail(Code::missing, "read unit of", server.name, "it is not the policy's unit");
        fill(server, seen);
        return server;
    }

    void fill(Server& server, const Seen& seen) const {
        const auto status = read_text(seen.directory, "status").value_or("");
        const bool believed = server.kind != Server::Kind::stranger;
        server.process = seen.process;
        server.identity = identity_of(status);
        if (believed) server.group_names = names_of(server.identity.groups, "");
        server.started = start_of(seen.directory, proc_);
        server.own_network = differ(seen.network, ours_.network);
        server.replaced = seen.process.exe.ends_with(" (deleted)");
        server.executable = undeleted(seen.process.exe);
        if (believed && differ(seen.mounts, ours_.mounts)) server.root = fmt::format("{}/{}/root", proc_, seen.process.pid);
        if (believed) server.directory = read_link(*seen.directory, "cwd").value_or("");
        pids_of(server, seen);
        read_sockets(server, seen);
        if (server.kind == Server::Kind::unit) read_program(server, seen);
        if (server.kind == Server::Kind::container) server.version = version_of_process(seen);
        read_arguments(server, seen);
        read_configured(server);
    }

    void rest_of_unit(Server& subject) const {
        if (!subject.unit) return;
        if (!subject.unit->exec_start.empty()) subject.executable = unit::command_line(std::span(subject.unit->exec_start).first(1), {}, {}).front().text;
        subject.directory = subject.unit->directory;
        subject.distribution = distribution_of("");
        read_package(subject, "");
        if (const auto program = open_regular(subject.executable)) subject.version = version_in(*program);
        read_version(subject, "");
        read_configured(subject);
    }

    void pids_of(Server& server, const Seen& of) const {
        for (const auto& seen : seen_) {
            const bool same_unit = server.kind == Server::Kind::unit && of.process.unit == name_ && seen.process.unit == name_ && seen.process.uid == of.process.uid;
            const bool same_container = !of.container.empty() && seen.container == of.container;
            if (same_unit || same_container || seen.process.pid == of.process.pid) server.pids.push_back(seen.process.pid);
        }
    }

    void read_sockets(Server& server, const Seen& seen) const {
        std::set<std::uint32_t> inodes;
        for (const auto pid : server.pids)
            if (auto own = sockets_of(pid, proc_)) inodes.merge(*own);
        if (server.own_network) {
            server.listeners = listeners_there(seen.directory, inodes);
        } else {
            for (const auto& listener : listeners_)
                if (inodes.contains(listener.inode)) server.listeners.push_back(listener);
        }
        for (auto& listener : server.listeners) listener.holders = {seen.process};
        std::erase_if(server.listeners, [&](const Listener& listener) { return listener.protocol != Protocol::tcp || (server.kind == Server::Kind::unit && listener.uid != server.identity.uid); });
    }

    void read_program(Server& server, const Seen& seen) const {
        server.distribution = distribution_of("");
        if (is_file_here(server.executable, seen)) read_package(server, "");
        server.version = version_of_process(seen);
        auto program = open_regular(fmt::format("{}/{}/exe", proc_, seen.process.pid));
        if (!program && !server.replaced && is_program_path(server.executable)) program = open_regular(server.executable);  // where we may not look into the process
        if (program) server.go = go_version_in(*program);
        read_version(server, "");
    }

    static bool is_program_path(const std::string& path) { return path.starts_with("/usr/") || path.starts_with("/bin/") || path.starts_with("/opt/"); }

    /// Whether a path where packages put programs is, in our mount namespace, the very file that the process runs.
    [[nodiscard]] bool is_file_here(const std::string& path, const Seen& seen) const {
        if (!is_program_path(path)) return false;
        struct stat ours {}, theirs {};
        return ::stat(path.c_str(), &ours) == 0 && ::stat(fmt::format("{}/{}/exe", proc_, seen.process.pid).c_str(), &theirs) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
    }

    /// The kernel's link to the program's file: no path is followed, in a container neither.
    [[nodiscard]] std::string version_of_process(const Seen& seen) const {
        const auto program = open_regular(fmt::format("{}/{}/exe", proc_, seen.process.pid));
        return program ? version_in(*program) : std::string();
    }

    void read_arguments(Server& server, const Seen& seen) const {
        if (!seen.arguments) {
            server.running = std::unexpected(seen.arguments.error());
            return;
        }
        if (seen.arguments->empty()) return;
        std::vector<prometheus::Argument> arguments;
        for (const auto& word : std::span(*seen.arguments).subspan(1)) arguments.push_back({word, {}});
        const auto read = [&](const std::string& path) -> Result<std::string> {
            if (server.kind == Server::Kind::stranger) return fail(Code::untrusted, "open", path, "named by a process that is not the unit's");
            if (server.kind == Server::Kind::container) return fail(Code::untrusted, "open", path, "inside a container");
            return read_for(seen.directory, server.identity, path, most_arguments_file);
        };
        server.running = prometheus::read_command_line(seen.arguments->front(), arguments, prometheus::build_of(server), read);
    }

    void read_configured(Server& server) const {
        if (server.unit) server.configured = configured_line(*server.unit, assignments_, prometheus::build_of(server), "");
    }

    std::string name_;
    std::span<const Listener> listeners_;
    std::string proc_;
    Namespaces ours_;
    bool managed_ = false;
    std::vector<unit::Assignment> assignments_;
    std::optional<Identity> account_;
    std::vector<Seen> seen_;
};

}  // namespace

Result<std::vector<Server>> read_servers(const std::string& unit, std::span<const Listener> listeners, const std::string& proc) {
    if (::access((proc + "/self").c_str(), F_OK) != 0) return fail_errno("open", proc);
    return Observer(unit, listeners, proc).run();
}

Server read_server_below(const std::string& unit, const std::string& root) {
    Server server;
    server.kind = Server::Kind::unit;
    server.name = unit;
    const auto assignments = read_unit_files(unit, root);
    if (!assignments) {
        server.configured = std::unexpected(assignments.error());
        return server;
    }
    server.unit = unit::merge(unit, *assignments);
    server.directory = server.unit->directory;
    if (const auto account = account_of(*server.unit, root)) {
        server.identity = *account;
        server.group_names = names_of(account->groups, root);
    }
    server.distribution = distribution_of(root);
    if (!server.unit->exec_start.empty()) {
        server.executable = unit::command_line(std::span(server.unit->exec_start).first(1), {}, {}).front().text;
        read_package(server, root);
    }
    if (const auto program = open_below(root, server.executable)) server.version = version_in(*program);
    read_version(server, root);
    server.configured = configured_line(*server.unit, *assignments, prometheus::build_of(server), root);
    return server;
}

}  // namespace promwarden::host
