// Running nginx masters and the files of their configuration.

#include <algorithm>
#include <charconv>
#include <set>

#include <dirent.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/host.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t largest_text = 8 << 20, largest_program = 64 << 20, largest_passwords = 4 << 20, most_matches = 2'000, most_masters = 16;
constexpr std::string_view master_title = "nginx: master process ";

std::vector<std::string> words_of(std::string_view title) {
    std::vector<std::string> words;
    while (!title.empty()) {
        const auto end = std::min(title.find_first_of(std::string_view(" \0", 2)), title.size());
        if (end > 0) words.emplace_back(title.substr(0, end));
        title.remove_prefix(std::min(end + 1, title.size()));
    }
    return words;
}

/// The value of a configure argument that every nginx carries in its program: "--conf-path=".
std::string built_in(const std::string& program, std::string_view name) {
    const auto at = program.find(name);
    if (at == std::string::npos) return {};
    const auto from = at + name.size();
    const auto end = program.find_first_of(std::string_view(" '\0", 3), from);
    return program.substr(from, end == std::string::npos ? 0 : end - from);
}

std::string joined(const std::string& directory, const std::string& path) { return path.starts_with('/') || directory.empty() ? path : fmt::format("{}{}{}", directory, directory.ends_with('/') ? "" : "/", path); }

/// Reads and remembers what was read.
class Recorder final : public nginx::Files {
public:
    explicit Recorder(ProxyServer& server) : server_(server) {}

    Result<std::string> read(const std::string& path) override {
        auto file = TRY(read_file(path, largest_text));
        if (std::ranges::find(server_.texts, path, &ProxyText::path) == server_.texts.end()) server_.texts.push_back({path, std::make_shared<const std::string>(file.text)});
        newest_ = std::max(newest_, file.stamp.modified);
        if (file.stamp.modified == newest_) newest_path_ = path;
        return std::move(file.text);
    }

    Result<std::vector<std::string>> match(const std::string& pattern) override {
        glob_t found{};
        const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
        const Handle<glob_t, ::globfree> held(&found);
        if (status == GLOB_NOMATCH) return std::vector<std::string>();
        if (status != 0) return fail(Code::failed, "list", pattern);
        if (found.gl_pathc > most_matches) return fail(Code::limit, "list", pattern, fmt::format("more than {} files", most_matches));
        std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
        server_.matches[pattern] = paths;
        return paths;
    }

    [[nodiscard]] std::int64_t newest() const { return newest_; }
    [[nodiscard]] const std::string& newest_path() const { return newest_path_; }

private:
    ProxyServer& server_;
    std::int64_t newest_ = 0;
    std::string newest_path_;
};

void password_files(const std::vector<nginx::Directive>& block, const std::string& prefix, std::set<std::string>& paths) {
    for (const auto& each : block) {
        if (each.name == "auth_basic_user_file" && each.word(0).find('$') == std::string_view::npos && !each.words.empty()) paths.insert(joined(prefix, each.words.front().text));
        password_files(each.block, prefix, paths);
    }
}

PasswordFile read_password_file(const std::string& path) {
    PasswordFile made{path, 0, 0, 0, {}, {}};
    const auto file = read_file(path, largest_passwords);
    if (!file) {
        made.problem = file.error();
        return made;
    }
    made.owner = file->owner;
    made.group = file->group;
    made.mode = file->mode & 07777;
    made.lines = nginx::read_passwords(file->text);
    return made;
}

/// When the youngest worker of a master started: what it runs was loaded no later. Nanoseconds since the epoch, as its directory in /proc says.
std::int64_t loaded_at(pid_t master, const std::string& proc) {
    std::int64_t latest = 0;
    const auto children = read_file(fmt::format("{}/{}/task/{}/children", proc, master, master), 1 << 20);
    if (!children) return 0;
    for (const auto& word : words_of(children->text)) {
        struct stat status {};
        if (::stat(fmt::format("{}/{}", proc, word).c_str(), &status) == 0) latest = std::max(latest, std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec);
    }
    return latest;
}

/// The files of its configuration, and which of them was written last, when.
std::pair<std::int64_t, std::string> read_configuration(ProxyServer& server) {
    server.prefix = server.configuration.substr(0, server.configuration.rfind('/'));
    Recorder files(server);
    const auto text = files.read(server.configuration);
    if (!text) {
        server.problem = text.error();
        return {};
    }
    const auto tree = nginx::read(server.configuration, *text, server.prefix, &files);
    std::set<std::string> paths;
    password_files(tree.directives, server.prefix, paths);
    for (const auto& path : paths) server.passwords.push_back(read_password_file(path));
    return {files.newest(), files.newest_path()};
}

ProxyServer read_server(pid_t pid, std::string_view title, const std::string& proc) {
    ProxyServer server;
    server.master = pid;
    std::string configuration, prefix;
    const auto words = words_of(title.substr(master_title.size()));
    for (std::size_t i = 1; i < words.size(); ++i)
        for (auto& [mark, value] : std::initializer_list<std::pair<std::string_view, std::string*>>{{"-c", &configuration}, {"-p", &prefix}})
            if (words[i] == mark && i + 1 < words.size()) *value = words[i + 1];
            else if (words[i].starts_with(mark) && words[i].size() > 2) *value = words[i].substr(2);
    const auto program = read_file(fmt::format("{}/{}/exe", proc, pid), largest_program);
    if (prefix.empty() && program) prefix = built_in(program->text, "--prefix=");
    if (configuration.empty() && program) configuration = built_in(program->text, "--conf-path=");
    server.configuration = joined(prefix, configuration.empty() ? "/etc/nginx/nginx.conf" : configuration);
    const auto [newest, newest_path] = read_configuration(server);
    if (const auto loaded = loaded_at(pid, proc); loaded > 0 && newest > loaded) server.newer = newest_path;
    return server;
}

/// Whether a process is in the same namespace of that kind as we are. Who may not look compares nothing.
bool same_namespace(pid_t pid, std::string_view kind, const std::string& proc) {
    struct stat own {}, its {};
    if (::stat(fmt::format("{}/self/ns/{}", proc, kind).c_str(), &own) != 0 || ::stat(fmt::format("{}/{}/ns/{}", proc, pid, kind).c_str(), &its) != 0) return true;
    return own.st_ino == its.st_ino;
}

/// Whether a process is an nginx master that root started, outside of containers and chroots, in our network. Mount namespaces are not compared: a unit's sandbox,
/// the agent's own included, makes one and leaves /etc what it is.
bool is_master(pid_t pid, const std::string& title, const std::string& proc) {
    struct stat directory {};
    if (!title.starts_with(master_title) || ::stat(fmt::format("{}/{}", proc, pid).c_str(), &directory) != 0 || directory.st_uid != 0) return false;
    char root[8]{};
    const auto length = ::readlink(fmt::format("{}/{}/root", proc, pid).c_str(), root, sizeof root);
    if (length > 0 && std::string_view(root, static_cast<std::size_t>(length)) != "/") return false;
    return same_namespace(pid, "pid", proc) && same_namespace(pid, "net", proc);
}

}  // namespace

Result<ProxyFacts> read_proxy(const Policy& policy, const std::string& proc) {
    ProxyFacts facts;
    const Handle<DIR, ::closedir> directory(::opendir(proc.c_str()));
    if (!directory) return fail_errno("open", proc);
    while (const dirent* entry = ::readdir(directory.get())) {
        pid_t pid = 0;
        const std::string_view name = entry->d_name;
        if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size() || pid <= 0) continue;
        const auto title = read_file(fmt::format("{}/{}/cmdline", proc, pid), 64 << 10);
        if (!title || !is_master(pid, title->text, proc) || facts.servers.size() >= most_masters) continue;
        facts.servers.push_back(read_server(pid, title->text, proc));
    }
    std::ranges::sort(facts.servers, {}, &ProxyServer::master);
    if (policy.access.identity_provider && !policy.access.identity_provider->config.empty()) {
        IdentityProxy identity{policy.access.identity_provider->config, nullptr, {}};
        if (auto file = read_file(identity.path, 1 << 20)) identity.text = std::make_shared<const std::string>(std::move(file->text));
        else identity.problem = file.error();
        facts.identity = std::move(identity);
    }
    return facts;
}

ProxyServer read_proxy_files(const std::string& configuration) {
    ProxyServer server;
    server.configuration = configuration;
    read_configuration(server);
    return server;
}

}  // namespace promwarden::host
