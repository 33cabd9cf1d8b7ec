// What each control over flags asks of a command line. The controls themselves say what is wrong with one; here it is put right.

#include "promwarden/demands.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "servers.hpp"

namespace promwarden {

namespace {

using prometheus::Build;

const Flag* find(const Flags& flags, std::string_view name) {
    const auto found = std::ranges::find(flags, name, &Flag::name);
    return found == flags.end() ? nullptr : &*found;
}

void remove(Flags& flags, std::string_view name) {
    std::erase_if(flags, [&](const Flag& flag) { return flag.name == name; });
}

/// Where the first of that name stands, else at the end.
void set(Flags& flags, std::string_view name, std::span<const std::string> values) {
    const auto first = std::ranges::find(flags, name, &Flag::name) - flags.begin();
    remove(flags, name);
    Flags wanted;
    for (const auto& value : values) wanted.push_back({std::string(name), value, {}, {}});
    flags.insert(flags.begin() + first, wanted.begin(), wanted.end());
}

void switch_off(Flags& flags, std::string_view name, bool allowed) {
    if (const auto* flag = find(flags, name); flag != nullptr && flag->value == "true" && !allowed) remove(flags, name);
}

/// Out of every list of --enable-feature.
void disable(Flags& flags, std::string_view feature) {
    for (auto& flag : flags) {
        if (flag.name != "enable-feature") continue;
        std::vector<std::string> left;
        for (std::string_view rest = flag.value; !rest.empty();) {
            const auto one = rest.substr(0, rest.find(','));
            if (one != feature && !one.empty()) left.emplace_back(one);
            rest.remove_prefix(std::min(rest.size(), one.size() + 1));
        }
        flag.value = fmt::format("{}", fmt::join(left, ","));
    }
    std::erase_if(flags, [](const Flag& flag) { return flag.name == "enable-feature" && flag.value.empty(); });
}

// ---- one for each control -------------------------------------------------------------------------------------------

/// Before 2.55 there can be one address only. A policy that names none has it on loopback, at the port that it had.
void listen(const Policy& policy, const Build& build, Flags& flags) {
    constexpr std::string_view name = "web.listen-address";
    std::vector<std::string> values, wanted;
    for (const auto& flag : flags)
        if (flag.name == name) values.push_back(flag.value);
    if (values.empty()) values.emplace_back(prometheus::find_flag(name)->preset);
    if (std::ranges::all_of(values, [&](const std::string& value) { return listens_as_allowed(policy, value) == true; })) return;
    const bool several = build.version && *build.version >= prometheus::find_flag(name)->repeatable;
    for (const auto& endpoint : policy.prometheus.listen)
        if (wanted.empty() || several) wanted.push_back(to_text(endpoint));
    if (wanted.empty()) wanted.push_back("127.0.0.1" + values.front().substr(std::min(values.front().rfind(':'), values.front().size())));
    set(flags, name, wanted);
}

void admin(const Policy& policy, const Build& /*build*/, Flags& flags) {
    switch_off(flags, "web.enable-admin-api", policy.prometheus.allow.admin_api);
}

void lifecycle(const Policy& policy, const Build& /*build*/, Flags& flags) {
    switch_off(flags, "web.enable-lifecycle", policy.prometheus.allow.lifecycle);
}

void receivers(const Policy& policy, const Build& /*build*/, Flags& flags) {
    const auto& allow = policy.prometheus.allow;
    switch_off(flags, "web.enable-remote-write-receiver", allow.remote_write_receiver);
    switch_off(flags, "web.enable-otlp-receiver", allow.otlp_receiver);
    if (!allow.remote_write_receiver) disable(flags, "remote-write-receiver");
    if (!allow.otlp_receiver) disable(flags, "otlp-write-receiver");
}

void cors(const Policy& policy, const Build& /*build*/, Flags& flags) {
    constexpr std::string_view name = "web.cors.origin";
    const auto& allowed = policy.prometheus.allow.cors_origin;
    const auto* flag = find(flags, name);
    const auto value = flag == nullptr ? std::string(prometheus::find_flag(name)->preset) : flag->value;
    if (allowed.empty() ? lets_strangers_in(value) == false : value == allowed) return;
    const std::string wanted = allowed.empty() ? "^$" : allowed;
    set(flags, name, {&wanted, 1});
}

/// Back to the default.
void limits(const Policy& /*policy*/, const Build& build, Flags& flags) {
    std::erase_if(flags, [&](const Flag& flag) { return looser_than_default(flag, build).has_value(); });
}

void retention(const Policy& policy, const Build& /*build*/, Flags& flags) {
    for (const auto& [name, value] : retention_wanted(policy, flags)) set(flags, name, {&value, 1});
}

void log_level(const Policy& /*policy*/, const Build& /*build*/, Flags& flags) {
    if (const auto* flag = find(flags, "log.level"); flag != nullptr && flag->value == "debug") remove(flags, flag->name);
}

void web_config(const Policy& policy, const Build& /*build*/, Flags& flags) {
    const auto& wanted = policy.prometheus.web_config;
    if (!wanted.empty() && find(flags, "web.config.file") == nullptr) set(flags, "web.config.file", {&wanted, 1});
}

constexpr FlagDemand demands[] = {
    {"network.listen-address", listen}, {"tls.server", web_config, true}, {"api.admin", admin},
    {"api.lifecycle", lifecycle},       {"api.receivers", receivers},     {"api.cors", cors},
    {"api.query-limits", limits},       {"data.retention", retention},    {"audit.query-log", log_level},
};

}  // namespace

std::span<const FlagDemand> flag_demands() { return demands; }

std::vector<std::string> words_of(const std::string& program, const Flags& flags) {
    std::vector<std::string> words{program};
    for (const auto& flag : flags) {
        const auto* rule = prometheus::find_flag(flag.name);
        if (rule == nullptr)
            words.push_back(flag.written);  // of a version that is newer than what we know
        else if (rule->type == prometheus::FlagType::boolean)
            words.push_back(fmt::format("--{}{}", flag.value == "true" ? "" : "no-", flag.name));
        else
            words.push_back(fmt::format("--{}={}", flag.name, flag.value));
    }
    return words;
}

}  // namespace promwarden
