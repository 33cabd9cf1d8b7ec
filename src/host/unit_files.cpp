// Unit files where systemd looks for them, and what a unit's command line becomes with its environment.

#include <algorithm>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "accounts.hpp"
#include "promwarden/host.hpp"
#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_text = 1024 * 1024;
constexpr std::size_t most_drop_ins = 256;
// systemd's own order: what an administrator wrote wins.
constexpr std::string_view directories[] = {"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"};

/// Inside a mounted image: links are followed as if it were the root, never out of it.
Result<Fd> open_inside(const std::string& root, const std::string& path, std::uint64_t flags) {
    const Fd top{::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!top) return fail_errno("open", root);
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    Fd fd{static_cast<int>(::syscall(SYS_openat2, *top, path.c_str(), &how, sizeof how))};
    if (!fd) return fail_errno("open", root + path);
    return fd;
}

std::vector<std::string> names_below(const std::string& root, const std::string& directory) {
    if (root.empty()) return list_trusted_directory(directory, ".conf").value_or(std::vector<std::string>{});
    std::vector<std::string> names;
    auto fd = open_inside(root, directory, O_RDONLY | O_DIRECTORY);
    if (!fd) return names;
    const Handle<DIR, ::closedir> stream{::fdopendir(**fd)};
    if (!stream) return names;
    (void)fd->release();  // the stream owns it now
    while (const auto* entry = ::readdir(stream.get()))
        if (const std::string_view name = entry->d_name; name.ends_with(".conf") && !name.starts_with('.') && names.size() < most_drop_ins) names.emplace_back(name);
    std::ranges::sort(names);
    return names;
}

bool is_mask(const std::string& root, const std::string& path) {
    std::array<char, 16> target{};
    const auto length = ::readlink((root + path).c_str(), target.data(), target.size());
    return length == 9 && std::string_view(target.data(), 9) == "/dev/null";
}

/// "prometheus@.service" for "prometheus@eu.service", "" for what is no instance.
std::string template_of(const std::string& name) {
    const auto at = name.find('@'), dot = name.rfind('.');
    if (at == std::string::npos || dot == std::string::npos || at + 1 >= dot) return {};
    return name.substr(0, at + 1) + name.substr(dot);
}

/// The names of the directories whose drop-ins concern a unit, the most particular first: its own, its template's, "a-b-.service.d", "a-.service.d", "service.d".
std::vector<std::string> drop_in_directories(const std::string& name) {
    std::vector<std::string> all{name + ".d"};
    if (const auto general = template_of(name); !general.empty()) all.push_back(general + ".d");
    const auto dot = name.rfind('.');
    const auto suffix = name.substr(std::min(dot, name.size()));
    auto stem = name.substr(0, dot);
    for (auto dash = stem.rfind('-'); dash != std::string::npos && dash > 0; dash = stem.rfind('-', dash - 1)) all.push_back(stem.substr(0, dash + 1) + suffix + ".d");
    if (suffix.size() > 1) all.push_back(suffix.substr(1) + ".d");
    return all;
}

/// By file name, each once: the place that comes first in systemd's order wins, and a mask silences it.
std::vector<std::string> drop_ins_of(const std::string& name, const std::string& root) {
    std::map<std::string, std::string> chosen;
    for (const auto& below : drop_in_directories(name))
        for (const auto directory : directories)
            for (const auto& file : names_below(root, fmt::format("{}/{}", directory, below))) chosen.try_emplace(file, fmt::format("{}/{}/{}", directory, below, file));
    std::vector<std::string> paths;
    for (auto& [file, path] : chosen)
        if (!is_mask(root, path)) paths.push_back(std::move(path));
    return paths;
}

Result<unit::Assignment> fragment_of(const std::string& name, const std::string& root, std::vector<unit::Assignment>& assignments) {
    for (const auto& file : {name, template_of(name)}) {
        if (file.empty()) continue;
        for (const auto directory : directories) {
            const auto path = fmt::format("{}/{}", directory, file);
            if (is_mask(root, path)) return fail(Code::missing, "read unit", name, fmt::format("it is masked by {}", path));
            const auto text = read_below(root, path, most_text);
            if (!text && text.error().code == Code::missing) continue;
            if (!text) return std::unexpected(text.error());
            assignments = unit::read_assignments(path, *text);
            return unit::Assignment{{}, {}, {}, path, 0};
        }
    }
    return fail(Code::missing, "read unit", name, "there is no such unit");
}

/// Where the command of a service is written.
std::string command_file(const Unit& unit, std::span<const unit::Assignment> assignments) {
    const auto* command = unit::find(assignments, "Service", "ExecStart");
    return command == nullptr ? unit.fragment : command->file;
}

/// The files of the environment, read; what is wrong with them goes where it belongs.
void read_environment_files(const Unit& unit, const std::string& root, unit::Environment& environment, CommandLine& line) {
    for (const auto& [path, optional] : unit.environment_files) {
        if (path.contains('*') || path.contains('?') || path.contains('[')) {
            line.unread.push_back(fmt::format("EnvironmentFile {}: a pattern", path));
            continue;
        }
        const auto text = read_below(root, path, most_text);
        if (text) unit::read_environment(environment, path, *text);
        else if (text.error().code != Code::missing) line.unread.push_back(text.error().text());
        else if (!optional) line.problems.push_back(fmt::format("EnvironmentFile={} does not exist: the unit does not start", path));
    }
}

/// What stands in a command and would mean something else after it was put in. The specifiers of the unit's own name are known to our reader.
std::string why_fixed(std::span<const unit::Assignment> assignments, const Unit& unit) {
    for (const auto* key : {"ExecStart", "Environment"}) {
        const auto* one = unit::find(assignments, "Service", key);
        for (auto at = one == nullptr ? std::string::npos : one->value.find('%'); at != std::string::npos; at = one->value.find('%', at + 2))
            if (at + 1 >= one->value.size() || !std::string_view("%nNpPiI").contains(one->value[at + 1])) return fmt::format("{} has the specifier {}", key, one->value.substr(at, 2));
    }
    const std::string_view program = unit.exec_start.empty() ? std::string_view{} : std::string_view(unit.exec_start.front());
    if (program.substr(0, program.find('/')).contains('@')) return "ExecStart gives the program another name";
    return {};
}

/// The package's account, where the database is its own already: under another, the service could not open it.
std::string account_for(const PrometheusPolicy& policy, const unit::Bare& bare, const prometheus::Build& build) {
    constexpr std::string_view storage = "storage.tsdb.path";
    const auto* flag = bare.line ? bare.line->find(storage) : nullptr;
    const auto* rule = prometheus::find_flag(storage, build);
    auto path = !policy.storage.empty() ? policy.storage : flag != nullptr ? flag->value : std::string(build.debian.value_or(false) ? rule->debian_preset : rule->preset);
    if (!path.starts_with('/')) path = fmt::format("{}/{}", bare.unit.directory, path);
    Unit unit;
    unit.user = "prometheus";
    const auto account = account_of(unit, "");
    struct stat status {};
    return account && ::stat(path.c_str(), &status) == 0 && status.st_uid == account->uid ? unit.user : std::string();
}

}  // namespace

Result<unit::Bare> read_bare_unit(const PrometheusPolicy& policy, std::span<const std::string_view> without, const prometheus::Build& build) {
    const auto& name = policy.unit;
    unit::Bare bare;
    bare.directory = fmt::format("{}/{}.d", directories[0], name);
    auto assignments = TRY(read_unit_files(name, ""));
    for (const auto file : without) {
        const auto path = fmt::format("{}/{}", bare.directory, file);
        std::erase_if(assignments, [&](const unit::Assignment& one) { return one.file == path; });
        auto text = read_below("", path, most_text);
        if (text) bare.ours.emplace(file, *std::move(text));
        else if (text.error().code != Code::missing) return std::unexpected(text.error());
    }
    bare.unit = unit::merge(name, assignments);
    bare.line = configured_line(bare.unit, assignments, build, "");
    bare.fixed = why_fixed(assignments, bare.unit);
    bare.account = account_for(policy, bare, build);
    bare.web_config = !policy.web_config.empty() && open_regular(policy.web_config).has_value();
    return bare;
}

Result<std::string> read_below(const std::string& root, const std::string& path, std::size_t limit) {
    if (root.empty()) {
        auto file = TRY(read_trusted_file(path, limit));
        return std::move(file.text);
    }
    const auto named = TRY(open_inside(root, path, O_PATH));
    auto file = TRY(read_file(fmt::format("/proc/self/fd/{}", *named), limit));
    return std::move(file.text);
}

Handle<DIR, ::closedir> list_below(const std::string& root, const std::string& path) {
    if (root.empty()) return Handle<DIR, ::closedir>{::opendir(path.c_str())};
    auto directory = open_inside(root, path, O_RDONLY | O_DIRECTORY);
    return Handle<DIR, ::closedir>{directory ? ::fdopendir(directory->release()) : nullptr};  // which owns the descriptor from here on
}

Result<Fd> open_below(const std::string& root, const std::string& path) {
    if (root.empty()) return open_regular(path);
    const auto named = TRY(open_inside(root, path, O_PATH));
    return open_regular(fmt::format("/proc/self/fd/{}", *named));
}

std::vector<unit::Assignment> read_these_files(std::span<const std::string> paths, const std::string& root) {
    std::vector<unit::Assignment> all;
    for (const auto& path : paths)
        if (const auto text = read_below(root, path, most_text)) std::ranges::move(unit::read_assignments(path, *text), std::back_inserter(all));
    return all;
}

Result<std::vector<unit::Assignment>> read_unit_files(const std::string& name, const std::string& root) {
    std::vector<unit::Assignment> assignments;
    const auto fragment = TRY(fragment_of(name, root, assignments));
    if (assignments.empty()) assignments.push_back(fragment);  // an empty file is a unit, too
    const auto drop_ins = drop_ins_of(name, root);
    std::ranges::move(read_these_files(drop_ins, root), std::back_inserter(assignments));
    return assignments;
}

Result<CommandLine> configured_line(const Unit& unit, std::span<const unit::Assignment> assignments, const prometheus::Build& build, const std::string& root) {
    if (unit.exec_start.empty()) return fail(Code::missing, "read unit", unit.name, "it has no ExecStart");
    unit::Environment environment;
    CommandLine wrong;
    const auto* in_unit = unit::find(assignments, "Service", "Environment");
    unit::add_environment(environment, unit.environment, in_unit == nullptr ? unit.fragment : in_unit->file);
    read_environment_files(unit, root, environment, wrong);
    auto arguments = unit::command_line(unit.exec_start, environment, command_file(unit, assignments));
    auto program = std::move(arguments.front().text);
    const auto directory = unit.directory.empty() || unit.directory == "~" ? std::string() : unit.directory;
    const auto read = [&](const std::string& path) -> Result<std::string> { return read_below(root, path.starts_with('/') ? path : directory + "/" + path, most_text); };
    auto line = prometheus::read_command_line(std::move(program), std::span(arguments).subspan(1), build, read);
    line.problems.insert(line.problems.begin(), std::make_move_iterator(wrong.problems.begin()), std::make_move_iterator(wrong.problems.end()));
    std::ranges::move(wrong.unread, std::back_inserter(line.unread));
    return line;
}

}  // namespace promwarden::host
