// The journal: what is under way, and what an undo puts back. One line for each change; a line is complete and durable before the change is made.
//
//   journal/open       the run that is under way, its policy in the first line
//   journal/trial      what the policy on trial changed
//   journal/NUMBER     what was changed under the accepted policy of that number

#include <algorithm>
#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "promwarden/make.hpp"

namespace promwarden {

namespace {

constexpr std::size_t largest_journal = 256 << 20;
constexpr std::array<std::string_view, 5> judges{"nobody", "promtool-config", "promtool-web-config", "promtool-rules", "nginx"};
constexpr std::array<std::string_view, 5> effects{"none", "units", "reload", "restart", "proxy"};
constexpr std::array<std::string_view, 6> kinds{"firewall", "file", "unit", "web", "rules", "site"};

std::string directory_of(const State& state) { return state.directory() + "/journal"; }
std::string open_file(const State& state) { return directory_of(state) + "/open"; }
std::string trial_file(const State& state) { return directory_of(state) + "/trial"; }
Result<std::string> accepted_file(const State& state) { return fmt::format("{}/{:08}", directory_of(state), TRY(state.accepted_number())); }

std::unexpected<Error> damaged(const std::string& path) { return fail(Code::invalid, "read journal", path, "it is damaged"); }

Json line_of(const Change& change) {
    return {{"control", change.control}, {"kind", to_text(change.kind)}, {"subject", change.subject},       {"summary", change.summary},
            {"deed", to_json(change.deed)}, {"judge", judges[static_cast<std::size_t>(change.judge)]}, {"effect", to_text(change.effect)}};
}

template <class Value, std::size_t N>
std::optional<Value> value_in(const Json& json, const char* key, const std::array<std::string_view, N>& names) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_string()) return std::nullopt;
    const auto found = std::ranges::find(names, json[key].get<std::string>());
    return found == names.end() ? std::nullopt : std::optional(static_cast<Value>(found - names.begin()));
}

Result<Change> read_line(std::string_view line, const std::string& path) {
    const auto json = TRY(parse_json(line));
    const auto text = [&](const char* key) { return json.is_object() && json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string(); };
    const auto kind = value_in<Change::Kind>(json, "kind", kinds);
    const auto judge = value_in<Judge>(json, "judge", judges);
    const auto effect = value_in<Effect>(json, "effect", effects);
    if (!kind || !judge || !effect || !json.contains("deed")) return damaged(path);
    return Change{*kind, text("control"), text("subject"), text("summary"), "", TRY(read_deed(json["deed"])), *judge, *effect, false};
}

/// Complete lines only: half of one was not durable, so its change was not made.
template <class Take>
Result<> each_line(const std::string& path, Take take) {
    const auto file = read_trusted_file(path, largest_journal);
    if (!file) return file.error().code == Code::missing ? Result<>{} : std::unexpected(file.error());
    std::string_view rest = file->text;
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
        TRY(take(rest.substr(0, end)));
        rest.remove_prefix(end + 1);
    }
    return {};
}

Result<std::vector<Change>> read_changes(const std::string& path) {
    std::vector<Change> changes;
    TRY(each_line(path, [&](std::string_view line) -> Result<> {
        changes.push_back(TRY(read_line(line, path)));
        return {};
    }));
    return changes;
}

/// Adds to what is there. Of one name, what was there first is what an undo returns to: what came between is not kept.
Result<> append(const std::string& path, std::span<const Change> changes) {
    if (changes.empty()) return {};
    auto all = TRY(read_changes(path));
    all.insert(all.end(), changes.begin(), changes.end());
    std::string text;
    for (const auto& change : all) text += json_text(line_of(change)) + "\n";
    return publish_file(path, text, 0600);
}

}  // namespace

Result<Journal> Journal::begin(const State& state, std::string policy) {
    TRY(make_directory(directory_of(state), 0700));
    const auto path = open_file(state);
    if (::access(path.c_str(), F_OK) == 0) return fail(Code::conflict, "begin", path, "what an earlier run left is not finished");
    TRY(publish_file(path, json_text({{"policy", policy}}) + "\n", 0600));
    return Journal(path, std::move(policy));
}

Result<std::optional<Journal>> Journal::unfinished(const State& state) {
    const auto path = open_file(state);
    if (::access(path.c_str(), F_OK) != 0) return std::nullopt;
    Journal journal(path, "");
    bool first = true;
    TRY(each_line(path, [&](std::string_view line) -> Result<> {
        if (std::exchange(first, false)) {
            const auto header = TRY(parse_json(line));
            if (!header.is_object() || !header.contains("policy") || !header["policy"].is_string()) return damaged(path);
            journal.policy_ = header["policy"].get<std::string>();
            return {};
        }
        journal.changes_.push_back(TRY(read_line(line, path)));
        return {};
    }));
    return journal;
}

Result<> Journal::intend(const Change& change) {
    const Fd fd{::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)};
    if (!fd) return fail_errno("open", path_);
    TRY(write_all(fd, json_text(line_of(change)) + "\n", path_));
    if (::fsync(*fd) != 0) return fail_errno("sync", path_);
    changes_.push_back(change);
    return {};
}

Result<> Journal::keep(const State& state) const {
    TRY(append(TRY(accepted_file(state)), changes_));
    return drop();
}

Result<> Journal::keep_for_trial(const State& state) const {
    TRY(append(trial_file(state), changes_));
    return drop();
}

Result<> Journal::keep_repair(const State& state) const {
    const auto file = TRY(accepted_file(state));
    const auto known = TRY(read_changes(file));
    std::vector<Change> added;
    for (auto change : changes_) {
        auto* write = std::get_if<WriteFile>(&change.deed);
        if (write == nullptr) continue;
        const auto last = std::find_if(known.rbegin(), known.rend(), [&](const Change& one) { return one.subject == change.subject && std::holds_alternative<WriteFile>(one.deed); });
        if (last != known.rend()) write->before = std::get<WriteFile>(last->deed).after;  // whoever changed it meanwhile is not who an undo returns to
        if (write->before != write->after) added.push_back(std::move(change));
    }
    TRY(append(file, added));
    return drop();
}

Result<> Journal::drop() const { return remove_file(path_); }

Result<> keep_changes_of_trial(const State& state) {
    TRY(append(TRY(accepted_file(state)), TRY(read_changes(trial_file(state)))));
    return remove_file(trial_file(state));
}

namespace {

/// The journals that an undo puts back, oldest first.
Result<std::vector<std::string>> journals_to_undo(const State& state, bool all) {
    std::vector<std::string> paths;
    const bool trial = ::access(trial_file(state).c_str(), F_OK) == 0;
    if (all)
        for (const auto& name : TRY(list_trusted_directory(directory_of(state), "")))
            if (name.find_first_not_of("0123456789") == std::string::npos) paths.push_back(fmt::format("{}/{}", directory_of(state), name));
    if (trial) paths.push_back(trial_file(state));
    else if (!all) paths.push_back(TRY(accepted_file(state)));
    return paths;
}

}  // namespace

Result<std::vector<Change>> changes_to_undo(const State& state, bool all) {
    std::vector<Change> changes;
    for (const auto& path : TRY(journals_to_undo(state, all))) std::ranges::move(TRY(read_changes(path)), std::back_inserter(changes));
    return changes;
}

Result<> undo_changes(const State& state, const Services& services, bool all) {
    const auto paths = TRY(journals_to_undo(state, all));
    const auto changes = TRY(changes_to_undo(state, all));
    const auto back = take_back(changes, services);
    for (const auto& path : paths) TRY(remove_file(path));
    return back;
}

Result<bool> recover_changes(const State& state, const Services& services) {
    const auto journal = TRY(Journal::unfinished(state));
    if (journal) {
        const auto accepted = TRY(state.accepted());
        if (accepted && accepted->policy.sha256 == journal->policy()) {
            TRY(journal->keep(state));
        } else {
            const auto back = take_back(journal->changes(), services);
            TRY(journal->drop());
            if (!back) return std::unexpected(back.error());
        }
    }
    const bool over = ::access(trial_file(state).c_str(), F_OK) == 0 && !TRY(state.trial());
    if (over) TRY(undo_changes(state, services, false));
    return journal.has_value() || over;
}

Result<> do_work(const State& state, const std::string& policy, std::span<const Change> changes, const Services& services) {
    auto journal = TRY(Journal::begin(state, policy));
    auto made = make(changes, journal, services);
    if (!made) TRY(journal.drop());
    return made;
}

}  // namespace promwarden
