// The flags of Prometheus from 2.42 on, hidden ones included; and what their values may be.

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "promwarden/flags.hpp"

namespace promwarden::prometheus {

namespace {

using enum FlagType;
using Use = FlagRule::Use;
using Made = FlagRule::Made;

constexpr Version always = 1;

// clang-format off: one row a flag.
constexpr FlagRule rules[] = {
    {"help", boolean},
    {"version", boolean},
    {"write-documentation", boolean, "", 243},
    {"config.file", text, "prometheus.yml", 0, 0, 0, Use::both, "/etc/prometheus/prometheus.yml"},
    {"config.auto-reload", boolean, "false", 312},
    {"config.auto-reload-interval", duration, "30s", 300},
    {"web.listen-address", text, "0.0.0.0:9090", 0, 0, 255},
    {"auto-gomaxprocs", boolean, "true", 300},
    {"auto-gomemlimit", boolean, "true", 300},
    {"auto-gomemlimit.ratio", number, "0.9", 250},
    {"web.config.file", text},
    {"web.read-timeout", duration, "5m"},
    {"web.max-connections", number, "512"},
    {"web.max-notifications-subscribers", number, "16", 300},
    {"web.external-url", text},
    {"web.route-prefix", text},
    {"web.local-assets", text, "", 0, 0, 0, Use::both, "/usr/share/prometheus/web/", Made::debian},
    {"web.user-assets", text},
    {"web.enable-lifecycle", boolean, "false"},
    {"web.enable-admin-api", boolean, "false"},
    {"web.enable-remote-write-receiver", boolean, "false"},
    {"web.remote-write-receiver.accepted-protobuf-messages", text, "", 254, 0, 254},
    {"web.enable-otlp-receiver", boolean, "false", 300},
    {"web.console.templates", text, "consoles", 0, 0, 0, Use::both, "/etc/prometheus/consoles"},
    {"web.console.libraries", text, "console_libraries", 0, 0, 0, Use::both, "/etc/prometheus/console_libraries"},
    {"web.page-title", text, "Prometheus Time Series Collection and Processing Server"},
    {"web.cors.origin", text, ".*"},
    {"storage.tsdb.path", text, "data/", 0, 0, 0, Use::server, "/var/lib/prometheus/metrics2/"},
    {"storage.tsdb.min-block-duration", duration, "2h", 0, 0, 0, Use::server},
    {"storage.tsdb.max-block-duration", duration, "", 0, 0, 0, Use::server},
    {"storage.tsdb.max-block-chunk-segment-size", size, "", 0, 0, 0, Use::server},
    {"storage.tsdb.wal-segment-size", size, "", 0, 0, 0, Use::server},
    {"storage.tsdb.retention", duration, "", 0, 300, 0, Use::server},
    {"storage.tsdb.retention.time", duration, "", 0, 0, 0, Use::server},
    {"storage.tsdb.retention.size", size, "", 0, 0, 0, Use::server},
    {"storage.tsdb.no-lockfile", boolean, "false", 0, 0, 0, Use::server, "", Made::elsewhere},
    {"storage.tsdb.use-lockfile", boolean, "false", 0, 0, 0, Use::server, "", Made::debian},
    {"storage.tsdb.allow-overlapping-blocks", boolean, "true", 0, 300, 0, Use::server},
    {"storage.tsdb.wal-compression", boolean, "true", 0, 0, 0, Use::server},
    {"storage.tsdb.wal-compression-type", text, "snappy", 243, 0, 0, Use::server},
    {"storage.tsdb.head-chunks-write-queue-size", number, "0", 0, 0, 0, Use::server},
    {"storage.tsdb.samples-per-chunk", number, "120", 243, 0, 0, Use::server},
    {"storage.tsdb.block-reload-interval", duration, "1m", 300, 0, 0, Use::server},
    {"storage.tsdb.delay-compact-file.path", text, "", 300, 0, 0, Use::server},
    {"storage.agent.path", text, "data-agent/", 0, 0, 0, Use::agent, "/var/lib/prometheus/data-agent/"},
    {"storage.agent.wal-segment-size", size, "", 0, 0, 0, Use::agent},
    {"storage.agent.wal-compression", boolean, "true", 0, 0, 0, Use::agent},
    {"storage.agent.wal-compression-type", text, "snappy", 243, 0, 0, Use::agent},
    {"storage.agent.wal-truncate-frequency", duration, "", 0, 0, 0, Use::agent},
    {"storage.agent.retention.min-time", duration, "", 0, 0, 0, Use::agent},
    {"storage.agent.retention.max-time", duration, "", 0, 0, 0, Use::agent},
    {"storage.agent.no-lockfile", boolean, "false", 0, 0, 0, Use::agent, "", Made::elsewhere},
    {"storage.agent.use-lockfile", boolean, "false", 0, 0, 0, Use::agent, "", Made::debian},
    {"storage.remote.flush-deadline", duration, "1m"},
    {"storage.remote.read-sample-limit", number, "5e7", 0, 0, 0, Use::server},
    {"storage.remote.read-concurrent-limit", number, "10", 0, 0, 0, Use::server},
    {"storage.remote.read-max-bytes-in-frame", number, "1048576", 0, 0, 0, Use::server},
    {"rules.alert.for-outage-tolerance", duration, "1h", 0, 0, 0, Use::server},
    {"rules.alert.for-grace-period", duration, "10m", 0, 0, 0, Use::server},
    {"rules.alert.resend-delay", duration, "1m", 0, 0, 0, Use::server},
    {"rules.max-concurrent-evals", number, "4", 249, 0, 0, Use::server},
    {"alertmanager.notification-queue-capacity", number, "10000", 0, 0, 0, Use::server},
    {"alertmanager.notification-batch-size", number, "256", 300, 0, 0, Use::server},
    {"alertmanager.drain-notification-queue-on-shutdown", boolean, "true", 254, 0, 0, Use::server},
    {"alertmanager.timeout", text, "", 0, 300, 0, Use::server},
    {"scrape.adjust-timestamps", boolean, "true"},
    {"scrape.timestamp-tolerance", text, "2ms"},
    {"scrape.discovery-reload-interval", duration, "5s"},
    {"scrape.name-escaping-scheme", text, "values", 254, 301},
    {"query.lookback-delta", duration, "5m", 0, 0, 0, Use::server},
    {"query.timeout", duration, "2m", 0, 0, 0, Use::server},
    {"query.max-concurrency", number, "20", 0, 0, 0, Use::server},
    {"query.max-samples", number, "50000000", 0, 0, 0, Use::server},
    {"enable-feature", text, "", 0, 0, always},
    {"agent", boolean, "false", 300},
    {"log.level", level, "info"},
    {"log.format", format, "logfmt"},
};
// clang-format on

bool has(const FlagRule& rule, const Build& build) {
    if (build.debian && rule.made != Made::anywhere && (rule.made == Made::debian) != *build.debian) return false;
    return !build.version || (rule.since <= *build.version && (rule.until == 0 || *build.version < rule.until));
}

/// A number at the front, taken off; nullopt where there is none.
std::optional<std::uint64_t> take_number(std::string_view& text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{}) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

std::string shown(std::string_view value) {
    constexpr std::size_t most = 64;
    std::string text(value.substr(0, most));
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    return text;
}

std::optional<std::string> size_problem(std::string_view value) {
    if (parse_flag_size(value)) return std::nullopt;
    const auto unit = value.substr(std::min(value.size(), value.find_first_not_of("0123456789.")));
    if (unit.size() == value.size()) return fmt::format("units: invalid {}", shown(value));
    return fmt::format("units: unknown unit {} in {}", shown(unit), shown(value));
}

std::optional<std::string> number_problem(std::string_view value) {
    double parsed = 0;
    auto digits = value;
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
    if (error != std::errc{} || end != digits.data() + digits.size()) return fmt::format("strconv.ParseFloat: parsing \"{}\": invalid syntax", shown(value));
    return std::nullopt;
}

std::optional<std::string> word_problem(std::string_view value, std::span<const std::string_view> words, std::string_view what) {
    if (std::ranges::find(words, value) != words.end()) return std::nullopt;
    return fmt::format("unrecognized log {} \"{}\"", what, shown(value));
}

}  // namespace

std::span<const FlagRule> flag_rules() { return rules; }

const FlagRule* find_flag(std::string_view name, const Build& build) {
    const auto found = std::ranges::find_if(rules, [&](const FlagRule& rule) { return rule.name == name && has(rule, build); });
    return found == std::end(rules) ? nullptr : &*found;
}

std::optional<Version> version_of(std::string_view text) {
    if (text.starts_with('v')) text.remove_prefix(1);
    const auto major = take_number(text);
    if (!major || *major > 99 || !text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
    const auto minor = take_number(text);
    if (!minor || *minor > 99) return std::nullopt;
    return static_cast<Version>(*major * 100 + *minor);
}

Build build_of(const Server& server) {
    Build build{version_of(server.version), std::nullopt};
    if (!server.package.empty()) build.debian = server.distribution.starts_with("debian") || server.distribution.starts_with("ubuntu");
    return build;
}

std::optional<std::chrono::milliseconds> parse_flag_duration(std::string_view text) {
    if (text == "0") return std::chrono::milliseconds(0);
    constexpr std::pair<std::string_view, std::uint64_t> units[] = {{"y", 365ULL * 86'400'000}, {"w", 7ULL * 86'400'000}, {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};
    constexpr std::uint64_t most = 300ULL * 365 * 86'400'000;
    std::uint64_t sum = 0;
    std::size_t next = 0;  // units go from large to small, each at most once
    if (text.empty()) return std::nullopt;
    while (!text.empty()) {
        const auto number = take_number(text);
        if (!number) return std::nullopt;
        const auto unit = text.substr(0, text.find_first_of("0123456789"));
        text.remove_prefix(unit.size());
        while (next < std::size(units) && units[next].first != unit) ++next;
        if (next == std::size(units) || *number > most / units[next].second) return std::nullopt;
        sum += *number * units[next++].second;
    }
    if (sum > most) return std::nullopt;
    return std::chrono::milliseconds(sum);
}

std::optional<std::uint64_t> parse_flag_size(std::string_view text) {
    constexpr std::string_view prefixes = "KMGTPE";
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc{} || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    unsigned shift = 0;
    if (!text.empty() && prefixes.contains(text.front())) {
        shift = 10 * static_cast<unsigned>(prefixes.find(text.front()) + 1);
        text.remove_prefix(1);
    }
    if (text != "B" && !(shift != 0 && text == "iB")) return std::nullopt;
    const double bytes = std::ldexp(number, static_cast<int>(shift));
    if (bytes >= 9.2e18) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
}

std::optional<std::string> value_problem(const FlagRule& rule, std::string_view value) {
    constexpr std::string_view levels[] = {"debug", "info", "warn", "error"}, formats[] = {"logfmt", "json"};
    switch (rule.type) {
        case duration:
            if (parse_flag_duration(value)) return std::nullopt;
            return fmt::format("not a valid duration string: \"{}\"", shown(value));
        case size: return size_problem(value);
        case number: return number_problem(value);
        case level: return word_problem(value, levels, "level");
        case format: return word_problem(value, formats, "format");
        case boolean:
        case text: return std::nullopt;
    }
    return std::nullopt;
}

std::string flag_value(const Server& server, std::string_view name) {
    if (auto view = view_of(server, name)) return std::move(view->value);
    const auto build = build_of(server);
    const auto* rule = find_flag(name, build);
    if (rule == nullptr) return {};
    return std::string(build.debian.value_or(false) && !rule->debian_preset.empty() ? rule->debian_preset : rule->preset);
}

std::vector<std::string> flag_values(const CommandLine& line, std::string_view name) {
    std::vector<std::string> values;
    for (const auto& flag : line.flags)
        if (flag.name == name) values.push_back(flag.value);
    return values;
}

bool has_feature(const CommandLine& line, std::string_view feature) {
    for (const auto& flag : line.flags) {
        if (flag.name != "enable-feature") continue;
        std::string_view list = flag.value;
        while (!list.empty()) {
            const auto one = list.substr(0, list.find(','));
            if (one == feature) return true;
            list.remove_prefix(std::min(list.size(), one.size() + 1));
        }
    }
    return false;
}

}  // namespace promwarden::prometheus
