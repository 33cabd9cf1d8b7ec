// Live parts: which doors of its API the running server has open.

#include <algorithm>

#include <fmt/format.h>

#include "live_common.hpp"

namespace promwarden {

namespace {

using live::Asker;
using live::End;

std::expected<LiveEvidence, Decision> own_endpoints(const Facts& facts) {
    return live_evidence(facts, [](const live::Endpoint& endpoint) { return !endpoint.proxy; });
}

std::string flag_of(const LiveEvidence& evidence, const std::string& name) {
    if (!evidence.facts.status) return {};
    const auto found = evidence.facts.status->flags.find(name);
    return found == evidence.facts.status->flags.end() ? std::string() : found->second;
}

/// What the command line of the running process says of a flag, where that is known; nullopt where nobody looked.
std::optional<std::string> written_flag(const Facts& facts, std::string_view name) {
    if (!facts.servers) return std::nullopt;
    for (const auto& server : *facts.servers) {
        if (server.kind != Server::Kind::unit || !server.process || !server.running) continue;
        std::string value = "false";
        for (const auto& flag : server.running->flags)
            if (flag.name == name) value = flag.value;
        return value;
    }
    return std::nullopt;
}

/// What a server said of a request that does nothing and still tells on from off. 0: nobody was let in that far.
int status_of(const LiveEvidence& evidence, std::string_view path) {
    for (const live::Endpoint& endpoint : evidence.endpoints)
        if (const auto* answer = find_answer(endpoint, Asker::stranger, "POST", path); answer != nullptr && answer->end == End::answered && answer->status != 401) return answer->status;
    return 0;
}

/// One flag that opens a door, and the request that shows whether it is open.
struct Door {
    std::string flag, feature;  // "--web.enable-admin-api", and the older --enable-feature that does the same
    std::string_view path;      // "" where nothing harmless tells
    int open = 400;             // the status of an open door
    std::string name;
};

bool has_feature(const LiveEvidence& evidence, std::string_view feature) {
    return !feature.empty() && ("," + flag_of(evidence, "enable-feature") + ",").contains(fmt::format(",{},", feature));
}

/// The finding of an open door; whether anything was learned about it.
std::pair<std::optional<Finding>, bool> look(const Facts& facts, const LiveEvidence& evidence, const Door& door) {
    const auto flag = flag_of(evidence, door.flag);
    const int status = door.path.empty() ? 0 : status_of(evidence, door.path);
    const bool by_flag = flag == "true" || has_feature(evidence, door.feature), by_answer = status != 0 && status == door.open;
    if (!by_flag && !by_answer) return {std::nullopt, !flag.empty() || status != 0};
    auto observed = by_flag ? fmt::format("the running server says that {} is on", door.name) : fmt::format("POST {} got {}: {} is on", door.path, status, door.name);
    if (const auto written = written_flag(facts, door.flag); written && *written != "true" && !has_feature(evidence, door.feature))
        observed += ", which its command line does not say";
    if (by_answer && flag == "false" && !by_flag) observed += ", although its flags say off";
    return {live_finding("--" + door.flag, "off", std::move(observed), fmt::format("start Prometheus without --{}", door.flag), true, door.flag), true};
}

Decision judge(const Facts& facts, std::span<const Door> doors, const std::string& closed) {
    const auto evidence = own_endpoints(facts);
    if (!evidence) return evidence.error();
    Decision decision{Verdict::pass, closed, {}};
    bool learned = false;
    for (const auto& door : doors) {
        auto [finding, known] = look(facts, *evidence, door);
        learned = learned || known;
        if (!finding) continue;
        decision.verdict = Verdict::fail;
        decision.reason = finding->observed;
        decision.findings.push_back(*std::move(finding));
    }
    return learned ? decision : nobody_let_in(evidence->facts);
}

/// Whether that user of the proxy has any role but admin.
bool is_viewer(const AccessPolicy& access, const std::string& user) {
    return std::ranges::any_of(access.roles, [&](const auto& role) { return role.first != "admin" && std::ranges::find(role.second, "user:" + user) != role.second.end(); });
}

}  // namespace

Decision live_admin_api(const Policy& policy, const Facts& facts) {
    if (policy.prometheus.allow.admin_api) return not_applicable("the policy allows the admin API");
    const std::array<Door, 1> doors{{{"web.enable-admin-api", "", "/api/v1/admin/tsdb/delete_series", 400, "the admin API"}}};
    return judge(facts, doors, "the running server has the admin API off");
}

Decision live_lifecycle(const Policy& policy, const Facts& facts) {
    if (policy.prometheus.allow.lifecycle) return not_applicable("the policy allows the lifecycle API");
    const std::array<Door, 1> doors{{{"web.enable-lifecycle", "", "", 0, "the lifecycle API"}}};  // no request tells without reloading the server
    return judge(facts, doors, "the running server has the lifecycle API off");
}

Decision live_receivers(const Policy& policy, const Facts& facts) {
    std::vector<Door> doors;
    if (!policy.prometheus.allow.remote_write_receiver)
        doors.push_back({"web.enable-remote-write-receiver", "remote-write-receiver", "/api/v1/write", 400, "the remote write receiver"});
    if (!policy.prometheus.allow.otlp_receiver) doors.push_back({"web.enable-otlp-receiver", "otlp-write-receiver", "", 0, "the OTLP receiver"});
    if (doors.empty()) return not_applicable("the policy allows both receivers");
    return judge(facts, doors, "the running server receives nothing");
}

Decision live_cors(const Policy& policy, const Facts& facts) {
    const auto evidence = own_endpoints(facts);
    if (!evidence) return evidence.error();
    const auto flag = flag_of(*evidence, "web.cors.origin");
    const auto& wanted = policy.prometheus.allow.cors_origin;
    const auto expected = wanted.empty() ? std::string("no origin, or one that is named") : wanted;
    constexpr auto remedy = "start Prometheus with --web.cors.origin and the one origin that needs it";
    Decision decision{Verdict::pass, "pages of other sites cannot read what the server answers", {}};
    bool learned = !flag.empty();
    for (const live::Endpoint& endpoint : evidence->endpoints)
        for (const auto& answer : endpoint.answers) {
            learned = learned || (answer.end == End::answered && answer.status == 200 && answer.path.starts_with("/api/v1/"));
            if (answer.allow_origin.empty() || !decision.findings.empty()) continue;
            decision.findings.push_back(live_finding("--web.cors.origin", expected,
                                                     fmt::format("a page of any other site may read {} {} from {}", answer.method, answer.path, to_text(endpoint.asked)), remedy, true, "web.cors.origin"));
        }
    if (decision.findings.empty() && !flag.empty() && (wanted.empty() ? flag == ".*" : flag != wanted))
        decision.findings.push_back(live_finding("--web.cors.origin", expected, flag, remedy, true, "web.cors.origin"));
    if (!learned && decision.findings.empty()) return nobody_let_in(evidence->facts);
    if (decision.findings.empty()) return decision;
    decision.verdict = Verdict::fail;
    decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    return decision;
}

Decision live_profiling(const Policy& policy, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint&) { return true; });
    if (!evidence) return evidence.error();
    Decision decision{Verdict::pass, "profiles are not given to strangers or viewers", {}};
    bool learned = false;
    for (const live::Endpoint& endpoint : evidence->endpoints)
        for (const auto& answer : endpoint.answers) {
            if (!answer.path.starts_with("/debug/pprof/") || answer.end != End::answered) continue;
            learned = true;
            const bool viewer = answer.asker == Asker::user && endpoint.proxy && is_viewer(policy.access, policy.prometheus.probe.user);
            if (answer.status >= 300 || (answer.asker == Asker::user && !viewer) || closed_to_others(policy, facts, endpoint)) continue;
            decision.findings.push_back(live_finding(to_text(endpoint.asked), "403 or 404", fmt::format("{} got {} for {}", viewer ? "a viewer" : to_text(answer.asker), answer.status, answer.path),
                                                     endpoint.proxy ? "deny /debug/ in the proxy" : "ask for a password in web.yml, or keep others from the port"));
        }
    if (!learned) return {Verdict::unknown, "no request for a profile got an answer", {}};
    if (decision.findings.empty()) return decision;
    decision.verdict = Verdict::fail;
    decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    return decision;
}

}  // namespace promwarden
