// status — what the agent knows: itself, the policy, the packet filter, the last drift and heal, then every control.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

using render::printable;

/// Members of what a peer sent: "" or 0 where they are missing or of another type.
const Json& object_at(const Json& json, const char* key) {
    static const Json nothing = Json::object();
    return json.is_object() && json.contains(key) && json[key].is_object() ? json[key] : nothing;
}
std::string text_at(const Json& json, const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string() ? printable(json[key].get<std::string>()) : "";
}
std::uint64_t number_at(const Json& json, const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_number_unsigned() ? json[key].get<std::uint64_t>() : 0;
}
bool true_at(const Json& json, const char* key) { return json.is_object() && json.contains(key) && json[key] == true; }

std::string in_parentheses(const std::string& words) { return words.empty() ? "" : fmt::format(" ({})", words); }

std::string agent_lines(const Json& agent) {
    constexpr std::uint64_t a_century = 100ULL * 366 * 86400;
    const auto uptime = std::chrono::seconds(std::min(number_at(agent, "uptime_s"), a_century));
    auto text = fmt::format("agent     {}, pid {}, up {}, mode {}\n", text_at(agent, "version"), number_at(agent, "pid"), format_duration(uptime), text_at(agent, "mode"));
    const auto& watching = object_at(agent, "watching");
    if (!watching.empty()) text += fmt::format("          watches by {}{}\n", text_at(watching, "by"), in_parentheses(text_at(watching, "reason")));
    return text;
}

std::string policy_lines(const Json& policy) {
    const auto& in_force = object_at(policy, "in_force");
    std::string text = "policy    none is in force: nothing was applied yet\n";
    if (!in_force.empty())
        text = fmt::format("policy    {} {}{}\n", text_at(in_force, "path"), text_at(in_force, "sha256").substr(0, 12), true_at(in_force, "trial") ? ", on trial until it is confirmed" : "");
    if (true_at(policy, "on_disk_differs")) text += "          the policy on disk differs from the policy in force\n";
    if (const auto problem = text_at(policy, "on_disk_problem"); !problem.empty()) text += fmt::format("          the policy on disk is not valid: {}\n", problem);
    return text;
}

std::string firewall_lines(const Json& firewall) {
    auto text = fmt::format("firewall  {}{}{}\n", text_at(firewall, "state"), in_parentheses(text_at(firewall, "reason")),
                            true_at(firewall, "contested") ? "; somebody keeps changing the table" : "");
    if (!firewall.contains("services") || !firewall["services"].is_array()) return text;
    for (const auto& service : firewall["services"])
        text += fmt::format("          {}: {} packets allowed, {} denied\n", text_at(service, "name"), number_at(service, "allowed"), number_at(service, "denied"));
    return text;
}

std::string last_lines(const Json& status, bool colour) {
    std::string text;
    for (const auto* key : {"last_drift", "last_heal"}) {
        const auto& json = object_at(status, key);
        const auto event = json.empty() ? std::unexpected(Error{}) : read_event(json);
        if (event) text += fmt::format("{:<10}{}", key + std::string_view("last_").size(), render::text(*event, colour));
    }
    return text;
}

std::string head_of(const Json& status, bool colour) {
    return agent_lines(object_at(status, "agent")) + policy_lines(object_at(status, "policy")) + firewall_lines(object_at(status, "firewall")) + last_lines(status, colour);
}

}  // namespace

Outcome status(const Options& options) {
    auto agent = TRY(Agent::find(options));
    if (!agent) {
        note(fmt::format("no agent answers at {}; this is a check", options.socket));
        return check(options);
    }
    const auto answer = TRY(agent->call_in_parts("Status", Json::object()));
    auto status = TRY(member(answer, "status"));
    auto report = TRY(report_in(status));
    if (!options.only.empty()) {
        std::erase_if(report.controls, [&](const ControlReport& one) { return std::ranges::find(options.only, one.control->id) == options.only.end(); });
        status["report"] = to_json(report);
    }
    if (options.format != render::Format::json) return show(options, report, head_of(status, in_colour(options)));
    TRY(write_result(options, render::pretty(status)));
    return exit_of(report, options.fail_on);
}

}  // namespace promwarden::cli
