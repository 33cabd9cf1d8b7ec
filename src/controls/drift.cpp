// Control config.drift: does what runs differ from what is on disk. The process against its unit; the configuration that was loaded against the files.

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "live_common.hpp"
#include "servers.hpp"

namespace promwarden {

namespace {

// ---- the process against its unit -----------------------------------------------------------------------------------

/// Flags by name with all their values, @files expanded. A switch that says its default says nothing.
std::map<std::string, std::vector<std::string>> by_name(const CommandLine& line) {
    std::map<std::string, std::vector<std::string>> flags;
    for (const auto& flag : line.flags) flags[flag.name].push_back(flag.value);
    std::erase_if(flags, [](const auto& one) {
        const auto* rule = prometheus::find_flag(one.first);
        return rule != nullptr && !rule->preset.empty() && one.second == std::vector<std::string>{std::string(rule->preset)};
    });
    return flags;
}

std::string shown_values(const std::string& name, const std::vector<std::string>& values) {
    std::vector<std::string> words;
    for (const auto& value : values) words.push_back(shown(Flag{name, value, {}, {}}));
    return fmt::format("{}", fmt::join(words, " "));
}

void judge_drift(const Server& server, Gathered& gathered) {
    const auto& unit = *server.unit;
    gathered.judged = true;
    const auto found = [&](std::string expected, std::string observed, Evidence evidence, std::string remedy) {
        gathered.findings.push_back({server.name, std::move(expected), std::move(observed), unit.fragment.empty() ? std::nullopt : std::optional(Location{unit.fragment, 0, 0, {}}), evidence, {false, std::move(remedy)}});
    };
    if (unit.needs_reload) found("the unit as its files have it", "the unit's files were changed and systemd has not read them", Evidence::config, "systemctl daemon-reload, then look again");
    if (!server.process) {
        gathered.notes.push_back(fmt::format("{} does not run now", server.name));
        return;
    }
    const auto restart = fmt::format("systemctl restart {}", unit.name);
    if (server.replaced) found("the program that is installed", fmt::format("{} was replaced or removed since it was started (pid {})", server.executable, server.process->pid), Evidence::kernel, restart);
    if (!server.running || !server.configured) {
        for (const auto* line : {&server.running, &server.configured})
            if (!*line && line->error().code != Code::missing) gathered.undecided.push_back(fmt::format("{}: {}", server.name, line->error().text()));
        return;
    }
    if (!server.running->unread.empty() || !server.configured->unread.empty()) {
        const auto& line = server.running->unread.empty() ? *server.configured : *server.running;
        gathered.undecided.push_back(fmt::format("{}: {}", server.name, line.unread.front()));
        return;
    }
    const auto runs = by_name(*server.running), will = by_name(*server.configured);
    for (const auto& [name, values] : runs) {
        const auto same = will.find(name);
        if (same == will.end()) found(fmt::format("--{} as the unit has it: not given", name), fmt::format("it runs with {}", shown_values(name, values)), Evidence::process, restart + ", or put it into the unit");
        else if (same->second != values)
            found(shown_values(name, same->second) + ", as the unit says", fmt::format("it runs with {}", shown_values(name, values)), Evidence::process, restart + ", or correct the unit");
    }
    for (const auto& [name, values] : will)
        if (!runs.contains(name)) found(shown_values(name, values) + ", as the unit says", fmt::format("it runs without --{}", name), Evidence::process, restart);
}

// ---- the configuration that was loaded against the files ------------------------------------------------------------

/// What Prometheus reads when it is told to reload; targets and web.yml it reads again by itself.
bool waits_for_reload(const NamedFile& file) {
    using Use = NamedFile::Use;
    return file.use == Use::configuration || file.use == Use::scrape_configs || file.use == Use::rules;
}

/// Between the time when the running configuration was loaded and the one when the server said so: what changed later, it may have loaded since.
std::vector<Finding> changed_since(std::chrono::system_clock::time_point loaded, std::chrono::system_clock::time_point asked, const ServerFiles& server, const std::string& reload) {
    std::vector<Finding> findings;
    for (const auto& file : server.files) {
        const auto* status = file.status();
        if (status == nullptr || !waits_for_reload(file)) continue;
        const std::chrono::system_clock::time_point modified{std::chrono::seconds(status->modified)};
        if (modified <= loaded || modified > asked) continue;
        auto finding = live_finding(file.path, "the file that was loaded", fmt::format("changed {}, and the running configuration was loaded {}", format_time(modified), format_time(loaded)),
                                    fmt::format("promtool check config, then {}; or put the file back", reload));
        finding.location = Location{file.path, 0, 0, {}};
        findings.push_back(std::move(finding));
    }
    return findings;
}

}  // namespace

Decision drift_of_servers(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts))
        if (server->unit) judge_drift(*server, gathered);
    return std::move(gathered).decide("what runs is what the unit says", fmt::format("there is no unit {} to compare with", policy.prometheus.unit));
}

Decision live_drift(const Policy& policy, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint& endpoint) { return !endpoint.proxy; });
    if (!evidence) return evidence.error();
    const auto& status = evidence->facts.status;
    if (!status || (!status->reloaded && !status->loaded)) return nobody_let_in(evidence->facts);
    const auto reload = fmt::format("systemctl reload {}", policy.prometheus.unit);
    Decision decision{Verdict::pass, "the configuration that runs is the one on disk", {}};
    if (!status->reloaded.value_or(true))
        decision.findings.push_back(live_finding(policy.prometheus.unit, "a configuration that could be loaded", "its last reload failed: it runs an older configuration than the one on disk",
                                                 fmt::format("promtool check config says what is wrong; then {}", reload)));
    if (facts.files && status->loaded)
        for (const auto& server : facts.files->servers)
            if (server.server == policy.prometheus.unit) std::ranges::move(changed_since(*status->loaded, evidence->facts.time, server, reload), std::back_inserter(decision.findings));
    if (decision.findings.empty()) return decision;
    decision.verdict = Verdict::fail;
    decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    return decision;
}

}  // namespace promwarden
