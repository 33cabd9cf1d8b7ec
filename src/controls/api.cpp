// Family api: what the HTTP API of a server lets others do, by its flags.

#include <algorithm>

#include <fmt/format.h>

#include "servers.hpp"

namespace promwarden {

namespace {

using prometheus::FlagType;

/// "--web.enable-admin-api is on", with who says so.
std::string seen(const Server& server, const Witness& witness, std::string_view what) {
    if (witness.evidence == Evidence::live) return fmt::format("{}, as the server itself says", what);
    if (witness.evidence == Evidence::config) return fmt::format("{}{}", what, server.process ? " after a restart: the unit says so" : " when it starts");
    return fmt::format("{} (pid {})", what, server.process ? server.process->pid : 0);
}

/// What live answers are about, too: the flag that the unit's server has now.
std::string about_flag(const Server& server, const Witness& witness, std::string_view name) {
    return server.kind == Server::Kind::unit && witness.when.empty() ? std::string(name) : std::string();
}

/// The flag as it is written, and where: by the witness itself, or by the process or unit behind a live answer.
const Flag* written(const Server& server, const Witness& witness, std::string_view name) {
    if (witness.flag != nullptr) return witness.flag;
    for (const auto* line : {&server.running, &server.configured})
        if (*line)
            if (const auto* flag = (*line)->find(name)) return flag;
    return nullptr;
}

Remedy take_out(const Server& server, const Flag* flag, std::string_view what) {
    if (flag == nullptr) return {false, fmt::format("take {} out of the command line, {}", what, then_restart(server))};
    return {false, fmt::format("take {} out: it is {}; {}", what, place_of(server, *flag), then_restart(server))};
}

/// Fails where a switch is on, now or after a restart.
void judge_switch(const Server& server, std::string_view name, Gathered& gathered) {
    const auto flag = fmt::format("--{}", name);
    for (const auto& witness : witnesses(server, name, gathered)) {
        if (witness.value != "true") continue;
        const auto* where = written(server, witness, name);
        gathered.findings.push_back({server.name, fmt::format("{} not given", flag), seen(server, witness, flag + " is on"), where == nullptr ? std::nullopt : location_of(*where), witness.evidence,
                                     take_out(server, where, flag), about_flag(server, witness, name)});
    }
}

/// Fails where a feature is in the list of --enable-feature.
void judge_feature(const Server& server, std::string_view feature, Gathered& gathered) {
    const auto has = [&](const CommandLine& line) { return prometheus::has_feature(line, feature); };
    const auto report = [&](Evidence evidence, const CommandLine* line) {
        const Flag* where = nullptr;
        if (line != nullptr)
            for (const auto& flag : line->flags)
                if (flag.name == "enable-feature" && flag.value.contains(feature)) where = &flag;
        const Witness witness{.value = {}, .given = true, .evidence = evidence, .flag = where, .when = server.process && evidence == Evidence::config ? "after a restart" : ""};
        gathered.findings.push_back({server.name, fmt::format("feature {} not enabled", feature), seen(server, witness, fmt::format("--enable-feature={} is on", feature)),
                                     where == nullptr ? std::nullopt : location_of(*where), evidence, take_out(server, where, fmt::format("{} of --enable-feature", feature)),
                                     about_flag(server, witness, fmt::format("web.enable-{}", feature == "otlp-write-receiver" ? "otlp-receiver" : feature))});
    };
    const auto live = server.live_flags ? server.live_flags->find("enable-feature") : decltype(server.live_flags->find("")){};
    const bool runs = server.running && server.process && has(*server.running);
    if (server.live_flags) {
        CommandLine answer;
        if (live != server.live_flags->end()) answer.flags.push_back({"enable-feature", live->second, {}, {}});
        if (has(answer)) report(Evidence::live, server.running ? &*server.running : nullptr);
    } else if (runs) report(Evidence::process, &*server.running);
    if (!runs && server.configured && has(*server.configured)) report(Evidence::config, &*server.configured);
}

struct Switch {
    std::string_view flag;
    bool allowed;
};

Decision decide_switch(const Policy& policy, const Facts& facts, Switch one, std::string holds) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        gathered.judged = true;
        if (!one.allowed) judge_switch(*server, one.flag, gathered);
    }
    if (one.allowed && gathered.judged) return {Verdict::pass, fmt::format("the policy allows --{}", one.flag), {}};
    return std::move(gathered).decide(std::move(holds), no_server(policy));
}

// ---- limits ---------------------------------------------------------------------------------------------------------

struct Limit {
    std::string_view flag;
    bool zero_is_none;  // 0 switches the limit off
};
constexpr Limit limits[] = {
    {"query.timeout", false},       {"query.max-concurrency", false},        {"query.max-samples", false},
    {"web.read-timeout", true},     {"web.max-connections", false},          {"storage.remote.read-sample-limit", true},
    {"storage.remote.read-concurrent-limit", true}, {"web.max-notifications-subscribers", false},
};

/// A limit as a number to compare: milliseconds, or a count.
std::optional<double> amount(FlagType type, const std::string& value) {
    if (type == FlagType::duration) {
        const auto duration = prometheus::parse_flag_duration(value);
        return duration ? std::optional(static_cast<double>(duration->count())) : std::nullopt;
    }
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    return end == value.c_str() || *end != 0 ? std::nullopt : std::optional(number);
}

void judge_limit(const Server& server, const Limit& limit, Gathered& gathered) {
    const auto build = prometheus::build_of(server);
    if (prometheus::find_flag(limit.flag, build) == nullptr) return;
    for (const auto& witness : witnesses(server, limit.flag, gathered)) {
        const auto loose = looser_than_default({std::string(limit.flag), witness.value, {}, {}}, build);
        if (!loose) continue;
        const auto* where = written(server, witness, limit.flag);
        const auto observed = seen(server, witness, fmt::format("--{}={}{}", limit.flag, witness.value, loose->none ? ", which is no limit" : ""));
        gathered.findings.push_back({server.name, fmt::format("--{} at most {}, the default", limit.flag, loose->most), observed, where == nullptr ? std::nullopt : location_of(*where), witness.evidence,
                                     {false, fmt::format("replace it by --{}={}, or leave it out{}; {}", limit.flag, loose->most, where == nullptr ? "" : ": it is " + place_of(server, *where), then_restart(server))}});
    }
}

// ---- origins --------------------------------------------------------------------------------------------------------

void judge_origin(const Policy& policy, const Server& server, Gathered& gathered) {
    constexpr std::string_view flag = "web.cors.origin";
    const auto& allowed = policy.prometheus.allow.cors_origin;
    const auto proposal = allowed.empty() ? std::string("^$") : allowed;
    for (const auto& witness : witnesses(server, flag, gathered)) {
        if (!allowed.empty() && witness.value == allowed) continue;
        const auto open = lets_strangers_in(witness.value);
        if (!open) {
            gathered.undecided.push_back(fmt::format("{}: the pattern of --{} does not compile, so it does not start", server.name, flag));
            continue;
        }
        if (!*open && allowed.empty()) continue;
        const auto* where = written(server, witness, flag);
        const auto expected = allowed.empty() ? std::string("a pattern that names the origins that may read the API") : fmt::format("--{}={}", flag, allowed);
        const auto what = fmt::format("--{}={}{}{}", flag, witness.value, where == nullptr && !witness.given ? ", the default," : "", *open ? " lets every site read the API through a browser" : "");
        const auto place = where == nullptr ? std::string("add") : fmt::format("replace it, {}, by", place_of(server, *where));
        gathered.findings.push_back({server.name, expected, seen(server, witness, what), where == nullptr ? std::nullopt : location_of(*where), witness.evidence,
                                     {false, fmt::format("{} --{}={}{}; {}", place, flag, proposal, allowed.empty() ? " (no origin), or by the pattern of yours" : "", then_restart(server))},
                                     about_flag(server, witness, flag)});
    }
}

}  // namespace

std::optional<bool> lets_strangers_in(const std::string& pattern) {
    constexpr std::string_view strangers[] = {"https://stranger.invalid", "http://stranger.invalid", "http://stranger.invalid:8080", "null"};
    const auto matched = prometheus::matches(pattern, strangers);
    if (!matched) return std::nullopt;
    return std::ranges::find(*matched, true) != matched->end();
}

std::optional<LooseLimit> looser_than_default(const Flag& flag, const prometheus::Build& build) {
    const auto limit = std::ranges::find(limits, flag.name, &Limit::flag);
    const auto* rule = limit == std::end(limits) ? nullptr : prometheus::find_flag(flag.name, build);
    if (rule == nullptr) return std::nullopt;
    const auto value = amount(rule->type, flag.value), most = amount(rule->type, std::string(rule->preset));
    if (!value || !most) return std::nullopt;  // it does not start with that: config.startable
    const bool none = limit->zero_is_none && *value == 0;
    return none || *value > *most ? std::optional(LooseLimit{rule->preset, none}) : std::nullopt;
}

Decision decide_admin(const Policy& policy, const Facts& facts) {
    return decide_switch(policy, facts, {"web.enable-admin-api", policy.prometheus.allow.admin_api}, "the admin API is off");
}

Decision decide_lifecycle(const Policy& policy, const Facts& facts) {
    return decide_switch(policy, facts, {"web.enable-lifecycle", policy.prometheus.allow.lifecycle}, "reload and quit over HTTP are off");
}

Decision decide_receivers(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    const auto& allow = policy.prometheus.allow;
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        gathered.judged = true;
        const auto version = prometheus::version_of(server->version);
        const bool features = !version || *version < 300;  // 3.0 made flags of them
        if (!allow.remote_write_receiver) judge_switch(*server, "web.enable-remote-write-receiver", gathered);
        if (!allow.remote_write_receiver && features) judge_feature(*server, "remote-write-receiver", gathered);
        if (!allow.otlp_receiver) judge_switch(*server, "web.enable-otlp-receiver", gathered);
        if (!allow.otlp_receiver && features) judge_feature(*server, "otlp-write-receiver", gathered);
    }
    if (allow.remote_write_receiver) gathered.notes.emplace_back("the policy allows the remote-write receiver");
    if (allow.otlp_receiver) gathered.notes.emplace_back("the policy allows the OTLP receiver");
    return std::move(gathered).decide("no write receiver is on that the policy does not allow", no_server(policy));
}

Decision decide_cors(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        gathered.judged = true;
        judge_origin(policy, *server, gathered);
    }
    return std::move(gathered).decide("pages of strangers cannot read the API through a browser", no_server(policy));
}

Decision decide_query_limits(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        gathered.judged = true;
        for (const auto& limit : limits) judge_limit(*server, limit, gathered);
    }
    std::ranges::sort(gathered.undecided);
    const auto repeated = std::ranges::unique(gathered.undecided);
    gathered.undecided.erase(repeated.begin(), repeated.end());
    return std::move(gathered).decide("no limit is looser than its default", no_server(policy));
}

}  // namespace promwarden
