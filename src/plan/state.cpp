#include "promwarden/state.hpp"

#include <algorithm>
#include <ctime>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace promwarden {

namespace {

constexpr std::size_t largest_policy = 256 << 20;
constexpr std::size_t largest_history = 1 << 20;  // of each of two files
constexpr std::size_t most_kept = 16;

/// Which boot this is: a file that no restart survives, a container's included. The kernel's boot_id would not do: a container has its own, and a service of that
/// container with a /proc of its own sees the host's.
const std::string boot_mark = "/run/promwarden/boot";

/// "" where nothing was put on trial since the machine started.
std::string this_boot() {
    const auto file = read_trusted_file(boot_mark, 64);
    return file ? file->text.substr(0, file->text.find('\n')) : "";
}

Result<std::string> mark_boot() {
    if (auto marked = this_boot(); !marked.empty()) return marked;
    const auto random = TRY(read_file("/proc/sys/kernel/random/uuid", 64));
    TRY(make_directory(boot_mark.substr(0, boot_mark.rfind('/')), 0755));
    TRY(publish_file(boot_mark, random.text, 0644));
    return random.text.substr(0, random.text.find('\n'));
}

std::chrono::nanoseconds boot_time() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

std::string packed(const Candidate& candidate) { return pack(candidate.sources, candidate.accounts); }

Result<Candidate> unpacked(std::string_view text, const std::string& path) {
    auto [sources, accounts] = TRY(unpack(text));
    auto policy = parse(sources, accounts);
    if (!policy) return fail(Code::invalid, "read stored policy", path, to_text(policy.error().front(), false));
    return Candidate{std::move(sources), std::move(accounts), *std::move(policy)};
}

Result<std::optional<std::string>> read_if_there(const std::string& path, std::size_t limit) {
    auto file = read_trusted_file(path, limit);
    if (file) return std::move(file->text);
    if (file.error().code == Code::missing) return std::nullopt;
    return std::unexpected(file.error());
}

}  // namespace

std::expected<Candidate, Diagnostics> load_candidate(const std::string& path, const Candidate* previous, ParsedLists* lists) {
    Candidate candidate;
    auto sources = collect(path, previous == nullptr ? nullptr : &previous->sources);
    if (!sources) return std::unexpected(std::move(sources).error());
    const RecordingAccounts accounts(host_accounts());
    auto policy = parse(*sources, accounts, lists);
    if (!policy) return std::unexpected(std::move(policy).error());
    return Candidate{*std::move(sources), accounts.recorded(), *std::move(policy)};
}

std::chrono::nanoseconds remaining(const Trial& trial) {
    return !trial.boot.empty() && trial.boot == this_boot() ? trial.deadline - boot_time() : std::chrono::nanoseconds(0);
}

Result<State> State::open(std::string directory) {
    TRY(make_directory(directory, 0750));
    TRY(list_trusted_directory(directory, ""));  // refuses one that others can write
    TRY(make_directory(directory + "/earlier", 0700));
    return State(std::move(directory));
}

Result<Fd> State::lock() const { return lock_file(path("lock")); }

Result<std::optional<Candidate>> State::accepted() const {
    const auto text = TRY(read_if_there(path("accepted"), largest_policy));
    if (!text) return std::nullopt;
    return TRY(unpacked(*text, path("accepted")));
}

Result<std::vector<std::uint16_t>> State::guarded_ports() const {
    const auto text = TRY(read_if_there(path("guarded-ports"), 1 << 20));
    if (!text) return std::vector<std::uint16_t>{};
    const auto json = TRY(parse_json(*text));
    std::vector<std::uint16_t> ports;
    for (const auto& port : json)
        if (port.is_number_unsigned() && port.get<std::uint64_t>() <= 65535) ports.push_back(port.get<std::uint16_t>());
    return ports;
}

Result<unsigned> State::accepted_number() const {
    if (!TRY(read_if_there(path("accepted"), largest_policy))) return 0U;
    const auto names = TRY(earlier());
    return names.empty() ? 1U : static_cast<unsigned>(std::atoi(names.back().c_str())) + 1;
}

Result<std::vector<std::string>> State::earlier() const { return list_trusted_directory(path("earlier"), ".policy"); }

Result<> State::accept(const Candidate& candidate) const {
    const auto text = packed(candidate);
    const auto before = TRY(read_if_there(path("accepted"), largest_policy));
    if (before == text) return {};
    auto names = TRY(earlier());
    if (before) {
        // Its number is one more than the last; what falls off the end is gone for good.
        const auto number = TRY(accepted_number());
        TRY(publish_file(path(fmt::format("earlier/{:08}.policy", number)), *before, 0600));
        while (names.size() >= most_kept) {
            TRY(remove_file(path("earlier/" + names.front())));
            names.erase(names.begin());
        }
    }
    // The ports first: were we cut off here, they would be closed rather than forgotten. A policy that only observes guards none.
    Json ports = Json::array();
    const bool enforced = candidate.policy.mode_of("network.packet-filter") == Mode::enforce;
    for (const auto& service : enforced ? candidate.policy.firewall.services : std::vector<Service>{})
        for (const auto range : service.ports)
            for (int port = range.first; port <= range.last && ports.size() < 4096; ++port) ports.push_back(port);
    const auto marker = json_text(ports) + "\n";
    if (TRY(read_if_there(path("guarded-ports"), 1 << 20)) != marker) TRY(publish_file(path("guarded-ports"), marker, 0600));
    return publish_file(path("accepted"), text, 0600);
}

Result<std::optional<Candidate>> State::retract() const {
    const auto names = TRY(earlier());
    if (names.empty()) {
        TRY(forget());
        return std::nullopt;
    }
    const auto name = path("earlier/" + names.back());
    const auto text = TRY(read_if_there(name, largest_policy));
    if (!text) return fail(Code::missing, "read stored policy", name);
    auto candidate = TRY(unpacked(*text, name));
    TRY(publish_file(path("accepted"), *text, 0600));
    TRY(remove_file(name));
    return candidate;
}

Result<> State::forget() const {
    TRY(end_trial());
    TRY(remove_file(path("guarded-ports")));
    TRY(remove_file(path("accepted")));
    for (const auto& name : TRY(earlier())) TRY(remove_file(path("earlier/" + name)));
    return {};
}

Result<std::optional<Trial>> State::trial() const {
    const auto text = TRY(read_if_there(path("trial"), largest_policy));
    if (!text) return std::nullopt;
    const auto end = text->find('\n');
    const auto header = TRY(parse_json(std::string_view(*text).substr(0, end)));
    if (end == std::string::npos || !header.is_object() || !header.contains("boot") || !header["boot"].is_string() || !header.contains("deadline") ||
        !header["deadline"].is_number_integer())
        return fail(Code::invalid, "read trial", path("trial"), "it is damaged");
    return Trial{TRY(unpacked(std::string_view(*text).substr(end + 1), path("trial"))), header["boot"].get<std::string>(),
                 std::chrono::nanoseconds(header["deadline"].get<std::int64_t>())};
}

Result<> State::begin_trial(const Candidate& candidate, std::chrono::seconds within) const {
    const Json header{{"boot", TRY(mark_boot())}, {"deadline", (boot_time() + within).count()}};
    return publish_file(path("trial"), json_text(header) + "\n" + packed(candidate), 0600);
}

Result<> State::end_trial() const { return remove_file(path("trial")); }

Result<> State::record(const Event& event) const {
    const auto name = path("history");
    const Fd fd{::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640)};
    if (!fd) return fail_errno("open", name);
    const auto line = json_text(to_json(event)) + "\n";
    if (::write(*fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return fail_errno("write", name);
    struct stat status {};
    if (::fstat(*fd, &status) == 0 && static_cast<std::size_t>(status.st_size) > largest_history && ::rename(name.c_str(), path("history.1").c_str()) != 0)
        return fail_errno("rename", name);
    return {};
}

Result<std::vector<Event>> State::history(std::optional<std::chrono::system_clock::time_point> since, std::string_view control, std::size_t most) const {
    std::vector<Event> events;
    for (const auto* name : {"history.1", "history"}) {
        const auto text = TRY(read_if_there(path(name), 2 * largest_history));
        std::string_view rest = text ? std::string_view(*text) : std::string_view();
        while (!rest.empty()) {
            const auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(rest.size(), line.size() + 1));
            const auto json = parse_json(line);
            const auto event = json ? read_event(*json) : std::unexpected(json.error());
            if (event && (!since || event->time >= *since) && (control.empty() || event->control == control)) events.push_back(*event);
        }
    }
    if (events.size() > most) events.erase(events.begin(), events.end() - static_cast<std::ptrdiff_t>(most));
    return events;
}

}  // namespace promwarden
