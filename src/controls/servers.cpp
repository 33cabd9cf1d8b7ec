#include "servers.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace promwarden {

namespace {

/// What may be missing from a command line, if anything is.
const std::string* hidden(const Result<CommandLine>& line) { return line && !line->unread.empty() ? &line->unread.front() : nullptr; }

bool same_value(const Result<CommandLine>& line, std::string_view name, const std::string& value, const std::string& preset) {
    const auto* flag = line ? line->find(name) : nullptr;
    return (flag == nullptr ? preset : flag->value) == value;
}

}  // namespace

Decision Gathered::decide(std::string holds, std::string nothing) && {
    if (!findings.empty()) {
        auto reason = findings.size() == 1 ? findings.front().observed : fmt::format("{} places; the first: {}", findings.size(), findings.front().observed);
        if (!undecided.empty()) reason += fmt::format("; not decided: {}", undecided.front());
        return {Verdict::fail, std::move(reason), std::move(findings)};
    }
    if (!undecided.empty()) return {Verdict::unknown, undecided.size() == 1 ? undecided.front() : fmt::format("{} (and {} more)", undecided.front(), undecided.size() - 1), {}};
    if (!judged) return not_applicable(std::move(nothing));
    for (const auto& note : notes) holds += "; " + note;
    return {Verdict::pass, std::move(holds), {}};
}

std::vector<const Server*> judged_servers(const Facts& facts) {
    std::vector<const Server*> all;
    for (const auto& server : *facts.servers) {
        if (server.kind == Server::Kind::stranger) continue;
        const bool absent = !server.process && !server.configured && server.configured.error().code == Code::missing;
        if (!absent) all.push_back(&server);
    }
    return all;
}

std::string no_server(const Policy& policy) { return fmt::format("no Prometheus runs here, and there is no unit {}", policy.prometheus.unit); }

bool is_monitoring(const Container& container) {
    constexpr std::string_view words[] = {"prometheus", "exporter", "alertmanager", "pushgateway", "grafana", "cadvisor", "promtail", "telegraf", "alloy", "thanos", "victoria", "otel", "oauth2-proxy"};
    return std::ranges::any_of(words, [&](std::string_view word) { return container.image.contains(word) || container.name.contains(word); });
}

std::string place_of(const Server& server, const Flag& flag) {
    if (server.kind == Server::Kind::container) return fmt::format("in the arguments of the {}", server.name);
    if (flag.file.empty()) {
        if (!server.process || !server.unit) return "in the command line that started it";
        const auto* same = server.configured ? server.configured->find(flag.name) : nullptr;
        if (same == nullptr || same->file.empty() || same->value != flag.value) return "in the command line of the process (the unit does not say so)";
        return place_of(server, *same);
    }
    const bool of_unit = server.unit && (flag.file == server.unit->fragment || std::ranges::find(server.unit->drop_ins, flag.file) != server.unit->drop_ins.end());
    return of_unit ? fmt::format("in ExecStart of {}", flag.file) : fmt::format("in {}", flag.file);
}

std::string then_restart(const Server& server) {
    if (server.kind == Server::Kind::container) return "then make the container anew";
    if (!server.unit) return "then start it again";
    const bool in_unit_file = server.configured && std::ranges::any_of(server.configured->flags, [&](const Flag& flag) { return flag.file == server.unit->fragment; });
    return fmt::format("then {}systemctl restart {}", in_unit_file ? "systemctl daemon-reload and " : "", server.unit->name);
}

std::optional<Location> location_of(const Flag& flag) {
    if (flag.file.empty()) return std::nullopt;
    return Location{flag.file, 0, 0, "--" + flag.name};
}

std::optional<Location> place_of_setting(const Unit& unit, const std::string& key) {
    if (const auto found = unit.written.find(key); found != unit.written.end()) return Location{found->second.first, found->second.second, 1, key};
    if (unit.fragment.empty()) return std::nullopt;
    return Location{unit.fragment, 0, 0, key};
}

std::string shown_url(std::string_view text) {
    const auto scheme = text.find("://");
    const auto at = text.find('@');
    if (scheme == std::string_view::npos || at == std::string_view::npos || at < scheme) return std::string(text);
    return fmt::format("{}://…@{}", text.substr(0, scheme), text.substr(at + 1, text.find('?') - at - 1));
}

std::string shown(const Flag& flag) {
    const auto* rule = prometheus::find_flag(flag.name);
    if (rule == nullptr) return fmt::format("--{}", flag.name);
    if (rule->type == prometheus::FlagType::boolean) return fmt::format("--{}{}", flag.value == "false" ? "no-" : "", flag.name);
    return fmt::format("--{}={}", flag.name, flag.name == "web.external-url" ? shown_url(flag.value) : flag.value);
}

std::vector<Witness> witnesses(const Server& server, std::string_view name, Gathered& gathered) {
    std::vector<Witness> all;
    const auto build = prometheus::build_of(server);
    const auto* rule = prometheus::find_flag(name, build);
    if (rule == nullptr) return all;  // a version that has no such flag
    const std::string preset(build.debian.value_or(false) && !rule->debian_preset.empty() ? rule->debian_preset : rule->preset);
    const auto from = [&](const Result<CommandLine>& line, Evidence evidence, std::string_view when) {
        if (!line) {
            if (line.error().code != Code::missing) gathered.undecided.push_back(fmt::format("{}: {}", server.name, line.error().text()));
            return;
        }
        const auto* flag = line->find(name);
        if (flag == nullptr && hidden(line) != nullptr) {
            gathered.undecided.push_back(fmt::format("{}: {}", server.name, *hidden(line)));
            return;
        }
        all.push_back({flag == nullptr ? preset : flag->value, flag != nullptr, evidence, flag, when});
    };
    if (server.live_flags) {
        const auto found = server.live_flags->find(std::string(name));
        all.push_back({found == server.live_flags->end() ? preset : found->second, found != server.live_flags->end(), Evidence::live, nullptr, ""});
    } else if (server.process) {
        from(server.running, Evidence::process, "");
    }
    if (!server.process) from(server.configured, Evidence::config, "");
    else if (all.empty() || !same_value(server.configured, name, all.front().value, preset)) from(server.configured, Evidence::config, "after a restart");
    return all;
}

}  // namespace promwarden
