// What the agent says about itself.

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent.hpp"
#include "promwarden/render.hpp"

namespace promwarden {

namespace {

constexpr std::array<std::string_view, 3> watching_names{"nothing", "notifications", "generation"};

std::uint64_t packets(const std::vector<CounterValue>& counters, const std::string& name) {
    for (const auto& counter : counters)
        if (counter.name == name) return counter.packets;
    return 0;
}

}  // namespace

Json Agent::status() {
    const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_).count();
    Json agent{{"version", PROMWARDEN_VERSION}, {"pid", ::getpid()}, {"uptime_s", uptime}, {"policy_file", options_.policy}};
    agent["mode"] = policy() == nullptr ? "observe" : !in_force_ ? "observe" : to_text(in_force_->policy.mode);
    agent["watching"] = {{"by", watching_names[static_cast<std::size_t>(watching_)]}, {"reason", watching_reason_}};

    Json policy_json{{"in_force", nullptr}, {"on_disk_differs", disk_differs_}};
    if (in_force_) policy_json["in_force"] = {{"path", in_force_->policy.path}, {"sha256", in_force_->policy.sha256}, {"trial", trial_}};
    if (!disk_problem_.empty()) policy_json["on_disk_problem"] = disk_problem_;

    Json firewall{{"state", "absent"}, {"reason", in_force_ ? "no table is loaded" : "no policy was applied yet"}, {"services", Json::array()}};
    const auto& live = engine_.live();
    if (live && live->ruleset) {
        firewall["state"] = live->owner != 0 && live->owner == engine_.kernel().port_id() ? "owned" : "plain";
        firewall["reason"] = ownership_reason_;
        firewall["contested"] = backoff_.contested();
    }
    if (const auto counters = engine_.kernel().counters(); counters && in_force_ && live && live->ruleset)
        for (const auto& service : in_force_->policy.firewall.services)
            firewall["services"].push_back({{"name", service.name},
                                            {"allowed", packets(*counters, fmt::format("guard_{}_allowed", service.name))},
                                            {"denied", packets(*counters, fmt::format("guard_{}_denied", service.name))}});

    Json status{{"schema", "promwarden.status/1"}, {"agent", agent}, {"policy", policy_json}, {"firewall", firewall}, {"certificates", certificates()}};
    if (last_drift_) status["last_drift"] = to_json(*last_drift_);
    if (last_heal_) status["last_heal"] = to_json(*last_heal_);
    return status;
}

std::string Agent::metrics() {
    auto text = render::openmetrics(report());
    if (text.ends_with("# EOF\n")) text.resize(text.size() - 6);
    const auto counters = engine_.kernel().counters();
    text += "# TYPE promwarden_firewall_packets counter\n# HELP promwarden_firewall_packets Packets for a guarded port, by verdict.\n";
    if (counters && in_force_)
        for (const auto& service : in_force_->policy.firewall.services)
            for (const auto* verdict : {"allowed", "denied"})
                text += fmt::format("promwarden_firewall_packets_total{{service=\"{}\",verdict=\"{}\"}} {}\n", service.name, verdict,
                                    packets(*counters, fmt::format("guard_{}_{}", service.name, verdict)));
    return text + certificate_metrics() + login_metrics() + "# EOF\n";
}

}  // namespace promwarden
