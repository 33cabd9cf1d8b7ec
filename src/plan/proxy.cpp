#include "proxy.hpp"

#include <algorithm>
#include <csignal>
#include <set>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "promwarden/host.hpp"
#include "promwarden/nginx.hpp"
#include "promwarden/program.hpp"
#include "site.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto longest_reload = 20s;
constexpr auto between_looks = 20ms;
constexpr std::size_t largest_site = 8 << 20;
constexpr std::string_view worker_title = "nginx: worker process";
constexpr std::string_view replaced_mark = " (deleted)";

std::string parent_of(const std::string& path) { return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1)); }
bool is_below(std::string_view path, std::string_view directory) {
    return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

/// Every file that a directive of one of these names has as its first word.
void add_files(const std::vector<nginx::Directive>& block, const std::string& prefix, std::span<const std::string_view> names,
               std::set<std::string>& files) {
    for (const auto& each : block) {
        const auto word = std::string(each.word(0));
        const bool is_file = !word.empty() && word != "off" && word != "stderr" && word.find('$') == std::string::npos &&
                             word.find(':') == std::string::npos;
        if (is_file && std::ranges::find(names, each.name) != names.end()) files.insert(word.starts_with('/') ? word : prefix + "/" + word);
        add_files(each.block, prefix, names, files);
    }
}

// ---- the one that is meant ------------------------------------------------------------------------------------------

/// The nginx that runs with this host's configuration; nullopt: none does.
Result<std::optional<ProxyServer>> running() {
    const Policy none;
    auto all = TRY(host::read_proxy(none)).servers;
    const auto found = std::ranges::find(all, nginx_configuration, &ProxyServer::configuration);
    return found == all.end() ? std::nullopt : std::optional(std::move(*found));
}

/// The file that runs; the one that would start where an upgrade has replaced it.
std::string program_of(const ProxyServer& server) {
    std::string path(4096, '\0');
    const auto length = server.master == 0 ? -1 : ::readlink(fmt::format("/proc/{}/exe", server.master).c_str(), path.data(), path.size());
    path.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
    return path.empty() || path.ends_with(replaced_mark) ? nginx_program : path;
}

// ---- a test ---------------------------------------------------------------------------------------------------------

/// It opens what it would open at a start: logs, its process id, directories for bodies. Those are not the host's here.
Result<program::Ended> test(const ProxyServer& server, const std::string& configuration) {
    auto written = written_directories(server);
    program::Program check;
    check.words = {program_of(server), "-t", "-q", "-c", configuration};
    check.privileged = true;
    check.empty = std::move(written.empty);
    check.writable = std::move(written.needed);
    return program::run_somewhere(check, "promwarden-check-nginx");
}

/// What nginx says against it; "": nothing.
std::string complaint(const program::Ended& ended) {
    return ended.status == 0 ? "" : fmt::format("nginx refuses it: {}", program::said(ended));
}

/// Where two servers have a name at one address, nginx warns and only the first is ever asked.
std::string ignored(const program::Ended& ended, const std::string& site) {
    for (const auto& server : nginx::read("", site).directives)
        for (const auto& setting : server.block)
            for (const auto& name : setting.name == "server_name" ? setting.words : std::vector<nginx::Word>{})
                if (ended.errors.contains(fmt::format("conflicting server name \"{}\"", name.text)))
                    return fmt::format("another site has the name {} there, and nginx would ask only one of them: {}", name.text,
                                       program::said(ended));
    return {};
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
    for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
    return text;
}

/// A file that is gone when this goes.
class Passing {
public:
    explicit Passing(std::string path) : path_(std::move(path)) { ::unlink(path_.c_str()); }
    ~Passing() { ::unlink(path_.c_str()); }
    Passing(const Passing&) = delete;
    Passing& operator=(const Passing&) = delete;

    [[nodiscard]] Result<> write(std::string_view text) const {
        const Fd fd{::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
        if (!fd) return fail_errno("create", path_);
        return write_all(fd, text, path_);
    }

private:
    std::string path_;
};

// ---- a reload -------------------------------------------------------------------------------------------------------

/// Those that take requests, not those that only finish what they began.
std::set<pid_t> workers_of(pid_t master) {
    std::set<pid_t> workers;
    const auto children = read_file(fmt::format("/proc/{0}/task/{0}/children", master), 1 << 20);
    for (std::string_view rest = children ? std::string_view(children->text) : ""; !rest.empty();) {
        const auto word = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(word.size() + 1, rest.size()));
        const auto title = read_file(fmt::format("/proc/{}/cmdline", word), 4096);
        if (title && title->text.starts_with(worker_title) && !title->text.contains("shutting down"))
            workers.insert(static_cast<pid_t>(std::atol(std::string(word).c_str())));
    }
    return workers;
}

Result<> ask_to_reload(pid_t master) {
    const auto process = TRY(host::read_process(master));
    if (program::manager_runs() && process.unit.ends_with(".service")) return program::reload_unit(process.unit);
    if (::kill(master, SIGHUP) != 0) return fail_errno("reload", "nginx");
    return {};
}

/// A master that cannot use what it read (a port is somebody else's) says so in its log only, and keeps its workers; one that can starts others and sends the old ones home.
Result<> wait_until_loaded(pid_t master, const std::set<pid_t>& before) {
    for (const auto until = Clock::now() + longest_reload; Clock::now() < until; std::this_thread::sleep_for(between_looks)) {
        const auto now = workers_of(master);
        if (!now.empty() && std::ranges::none_of(now, [&](pid_t worker) { return before.contains(worker); })) return {};
        if (::kill(master, 0) != 0) return fail(Code::failed, "reload", "nginx", "it ended");
    }
    return fail(Code::failed, "reload", "nginx",
                "it runs on with what it had: no worker was started with the new configuration; its error log says why");
}

}  // namespace

Written written_directories(const ProxyServer& server) {
    constexpr std::string_view writes[] = {"access_log",
                                           "error_log",
                                           "pid",
                                           "lock_file",
                                           "client_body_temp_path",
                                           "proxy_temp_path",
                                           "fastcgi_temp_path",
                                           "uwsgi_temp_path",
                                           "scgi_temp_path",
                                           "proxy_cache_path",
                                           "fastcgi_cache_path"};
    constexpr std::string_view reads[] = {
        "ssl_certificate",   "ssl_certificate_key",   "ssl_client_certificate",    "ssl_trusted_certificate",       "ssl_dhparam",
        "ssl_password_file", "proxy_ssl_certificate", "proxy_ssl_certificate_key", "proxy_ssl_trusted_certificate", "load_module"};
    const auto tree = nginx::read(server);
    std::set<std::string> files{"/var/log/nginx/error.log", "/run/nginx.pid", "/var/lib/nginx/body", nginx::SitePaths().log}, needed;
    add_files(tree.directives, server.prefix, writes, files);
    add_files(tree.directives, server.prefix, reads, needed);
    for (const auto& text : server.texts) needed.insert(text.path);
    std::set<std::string> directories;
    for (const auto& file : files) directories.insert(parent_of(file));
    Written written;
    for (const auto& directory : directories) {  // sorted: one that is inside of another comes after it
        if (directory == "/" || is_below(directory, "/dev") || ::access(directory.c_str(), F_OK) != 0) continue;
        auto& list = std::ranges::any_of(needed, [&](const std::string& path) { return is_below(path, directory); }) ? written.needed
                                                                                                                     : written.empty;
        if (std::ranges::none_of(list, [&](const std::string& above) { return is_below(directory, above); })) list.push_back(directory);
    }
    return written;
}

Result<> try_in_proxy(const Ground& ground, const std::string& temporary, const std::string& name) {
    const auto server = TRY(running()).value_or(host::read_proxy_files(nginx_configuration));
    if (server.problem) return std::unexpected(*server.problem);
    const auto text = nginx::text_with(server, active_name(name), temporary);
    if (!text) return fail(Code::invalid, "check", name, fmt::format("{} includes nothing of that name", server.configuration));
    TRY(trusted_stamp(server.configuration));  // nobody but root writes beside it
    // Beside it, because relative names in it are found from its directory. No include has names that begin with a dot.
    const auto trial = parent_of(server.configuration) + "/.nginx.conf.promwarden";
    const auto root = ground.root == "/" ? std::string() : ground.root;
    const Passing file(root + trial);
    TRY(file.write(*text));
    const auto ended = TRY(test(server, trial));
    auto said = complaint(ended);
    if (said.empty()) said = ignored(ended, TRY(read_file(root + temporary, largest_site)).text);
    if (said.empty()) return {};
    return fail(Code::invalid, "check", name, replace_all(replace_all(said, temporary, name), trial, server.configuration));
}

Result<> reload_proxy() {
    const auto server = TRY(running());
    if (!server) return {};
    if (const auto said = complaint(TRY(test(*server, server->configuration))); !said.empty())
        return fail(Code::invalid, "check", "nginx's configuration", said);
    const auto before = workers_of(server->master);
    TRY(ask_to_reload(server->master));
    return wait_until_loaded(server->master, before);
}

}  // namespace promwarden
