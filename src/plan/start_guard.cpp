#include "start_guard.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "filter.hpp"
#include "promwarden/program.hpp"

namespace promwarden {

namespace {

constexpr std::string_view file_name = "promwarden-guard.conf";
constexpr const char* lasting = "/etc/systemd/system";
constexpr const char* passing = "/run/systemd/system";  // until the next boot, at which the agent writes it again; exists only where systemd runs
constexpr std::size_t largest = 64 << 10;

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

Result<> read_below(const std::string& directory, DropIns& found) {
    for (const auto& unit : TRY(list_trusted_directory(directory, ".d"))) {
        const auto path = fmt::format("{}/{}/{}", directory, unit, file_name);
        auto file = read_trusted_file(path, largest);
        if (file) found.emplace(path, std::move(file->text));
        else if (file.error().code != Code::missing) return std::unexpected(file.error());
    }
    return {};
}

/// Readable by all, as its neighbours are, whatever our umask is.
Result<> make_open_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0) return errno == EEXIST ? Result<>{} : fail_errno("make directory", path);
    const Fd made{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!made || ::fchmod(*made, 0755) != 0) return fail_errno("set mode of", path);
    return {};
}

}  // namespace

DropIns wanted_start_guards(const Policy& policy, const std::string& directory) {
    if (policy.firewall.services.empty() || policy.mode_of(filter_control) != Mode::enforce) return {};
    // No Requires=: it would stop the server whenever a unit of ours is restarted. After= also has the server stopped before the rules of others are flushed at
    // a shutdown. The check runs as root, whoever the server is.
    auto text = fmt::format(
        "# Written by promwarden; 'promwarden undo --all' removes it. The server starts only while the packet filter is in place.\n"
        "[Unit]\n"
        "After=promwarden-early.service promwardend.service\n"
        "[Service]\n"
        "ExecStartPre=+{} --check\n",
        PROMWARDEN_EARLY);
    return {{fmt::format("{}/{}.d/{}", directory, policy.prometheus.unit, file_name), std::move(text)}};
}

Result<std::optional<StartGuards>> read_start_guards() {
    if (::access(passing, F_OK) != 0) return std::nullopt;
    StartGuards guards;
    struct statvfs system {};
    const bool writable = ::statvfs(lasting, &system) == 0 && (system.f_flag & ST_RDONLY) == 0;
    guards.directory = writable ? lasting : passing;
    TRY(read_below(lasting, guards.present));
    TRY(read_below(passing, guards.present));
    return guards;
}

std::vector<Change> changes_between(const DropIns& from, const DropIns& to) {
    std::vector<Change> changes;
    const auto lines = [](char sign, const std::string& text) {
        std::string marked;
        for (std::size_t at = 0; at < text.size();) {
            const auto end = std::min(text.find('\n', at), text.size());
            marked += fmt::format("{} {}\n", sign, std::string_view(text).substr(at, end - at));
            at = end + 1;
        }
        return marked;
    };
    for (const auto& [path, text] : from)
        if (!to.contains(path)) changes.push_back({Change::Kind::unit, std::string(filter_control), path, "the server starts without asking for the guard", lines('-', text)});
    for (const auto& [path, text] : to) {
        const auto old = from.find(path);
        if (old != from.end() && old->second == text) continue;
        changes.push_back({Change::Kind::unit, std::string(filter_control), path, "the server starts only behind the guard",
                           (old == from.end() ? "" : lines('-', old->second)) + lines('+', text)});
    }
    return changes;
}

Result<bool> write_start_guards(const DropIns& from, const DropIns& to) {
    const auto changes = changes_between(from, to);
    if (changes.empty()) return false;
    for (const auto& change : changes) {
        const auto directory = parent_of(change.subject);
        if (const auto wanted = to.find(change.subject); wanted != to.end()) {
            TRY(make_open_directory(directory));
            TRY(list_trusted_directory(directory, ""));  // refuses one that others can write
            TRY(publish_file(change.subject, wanted->second, 0644));
        } else {
            TRY(remove_file(change.subject));
            ::rmdir(directory.c_str());  // stays where somebody else has a file in it
        }
    }
    TRY(program::reload_units());
    return true;
}

}  // namespace promwarden
