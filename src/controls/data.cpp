// Family data: how long data are kept, by flags.

#include <fmt/format.h>

#include "servers.hpp"

namespace promwarden {

namespace {

constexpr std::string_view time_flag = "storage.tsdb.retention.time", size_flag = "storage.tsdb.retention.size", old_flag = "storage.tsdb.retention";
constexpr auto default_retention = std::chrono::hours(15 * 24);

std::string days(std::chrono::milliseconds span) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(span);
    return format_duration(seconds);
}

std::string bytes_text(std::uint64_t bytes) {
    constexpr std::string_view units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    std::size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
    return fmt::format("{}{}", bytes, units[unit]);
}

/// What the flags of one line mean together; a value that does not parse is config.startable's.
struct Retention {
    std::optional<std::chrono::milliseconds> time;  // nullopt: without end
    std::optional<std::uint64_t> size;              // nullopt: without bound
    const Flag *time_flag = nullptr, *size_flag = nullptr;
};

Retention retention_of(const CommandLine& line) {
    Retention retention;
    retention.time_flag = line.find(time_flag) != nullptr ? line.find(time_flag) : line.find(old_flag);
    retention.size_flag = line.find(size_flag);
    if (retention.size_flag != nullptr)
        if (const auto size = prometheus::parse_flag_size(retention.size_flag->value); size && *size > 0) retention.size = size;
    if (retention.time_flag != nullptr)
        if (const auto time = prometheus::parse_flag_duration(retention.time_flag->value); time && time->count() > 0) retention.time = time;
    if (!retention.time && !retention.size) retention.time = default_retention;
    return retention;
}

CommandLine line_of(const std::map<std::string, std::string>& live) {
    CommandLine line;
    for (const auto name : {time_flag, size_flag, old_flag})
        if (const auto found = live.find(std::string(name)); found != live.end() && !found->second.empty() && found->second != "0s" && found->second != "0B")
            line.flags.push_back({std::string(name), found->second, {}, {}});
    return line;
}

void judge_line(const Policy& policy, const Server& server, const CommandLine& line, Evidence evidence, Gathered& gathered) {
    const auto retention = retention_of(line);
    const auto tense = evidence == Evidence::config && server.process ? "after a restart it would keep" : "it keeps";
    const auto add = [&](const Flag* flag, std::string expected, std::string observed, const std::string& wanted) {
        const auto remedy = flag == nullptr ? fmt::format("add {}; {}", wanted, then_restart(server)) : fmt::format("replace {}, {}, by {}; {}", shown(*flag), place_of(server, *flag), wanted, then_restart(server));
        gathered.findings.push_back({server.name, std::move(expected), std::move(observed), flag == nullptr ? std::nullopt : location_of(*flag), evidence, {false, remedy}});
    };
    if (const auto most = policy.data.retention_time; most && (!retention.time || *retention.time > *most))
        add(retention.time_flag, fmt::format("at most {}", days(*most)),
            retention.time ? fmt::format("{} data for {}{}", tense, days(*retention.time), retention.time_flag == nullptr ? ", the default" : "") : fmt::format("{} data without end in time", tense),
            fmt::format("--{}={}", time_flag, days(*most)));
    if (const auto most = policy.data.retention_size; most && (!retention.size || *retention.size > *most))
        add(retention.size_flag, fmt::format("at most {}", bytes_text(*most)),
            retention.size ? fmt::format("{} up to {} of data", tense, bytes_text(*retention.size)) : fmt::format("{} any amount of data: no size is set", tense), fmt::format("--{}={}", size_flag, bytes_text(*most)));
}

bool in_agent_mode(const CommandLine& line) {
    const auto* agent = line.find("agent");
    return prometheus::has_feature(line, "agent") || (agent != nullptr && agent->value == "true");
}

void judge(const Policy& policy, const Server& server, Gathered& gathered) {
    const auto& now = server.process ? server.running : server.configured;
    if (now && in_agent_mode(*now)) return;  // nothing is kept
    gathered.judged = true;
    std::vector<Witness> told;
    for (const auto name : {time_flag, size_flag}) (void)witnesses(server, name, gathered);
    if (server.live_flags) judge_line(policy, server, line_of(*server.live_flags), Evidence::live, gathered);
    else if (now && now->unread.empty()) judge_line(policy, server, *now, server.process ? Evidence::process : Evidence::config, gathered);
    if (!server.process || !server.configured || !server.configured->unread.empty() || !gathered.findings.empty()) return;
    judge_line(policy, server, *server.configured, Evidence::config, gathered);
}

}  // namespace

std::map<std::string, std::string> retention_wanted(const Policy& policy, const std::vector<Flag>& flags) {
    std::map<std::string, std::string> wanted;
    CommandLine line;
    line.flags = flags;
    if (in_agent_mode(line)) return wanted;
    const auto retention = retention_of(line);
    const auto& [most_time, most_size] = std::pair(policy.data.retention_time, policy.data.retention_size);
    const bool old = retention.time_flag != nullptr && retention.time_flag->name == old_flag;
    if (most_time && (!retention.time || *retention.time > *most_time)) wanted[std::string(old ? old_flag : time_flag)] = days(*most_time);
    if (most_size && (!retention.size || *retention.size > *most_size)) wanted[std::string(size_flag)] = bytes_text(*most_size);
    return wanted;
}

Decision retention_of_flags(const Policy& policy, const Facts& facts) {
    if (!policy.data.retention_time && !policy.data.retention_size) return not_applicable("the policy sets no data.retention");
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) judge(policy, *server, gathered);
    return std::move(gathered).decide("data are kept no longer than the policy says", no_server(policy));
}

}  // namespace promwarden
