// A report as SARIF 2.1.0 (OASIS). Failures are results; a waived one is a result with a suppression; what could not be determined is a notification of the run.

#include <algorithm>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

std::string_view level(Severity severity) {
    return severity <= Severity::high ? "error" : severity == Severity::medium ? "warning" : "note";
}

/// Code hosts sort by this number, on the scale of CVSS.
std::string_view score(Severity severity) {
    switch (severity) {
        case Severity::critical:
            return "9.5";
        case Severity::high:
            return "8.0";
        case Severity::medium:
            return "5.0";
        case Severity::low:
            break;
    }
    return "2.0";
}

Json message(std::string_view words) { return {{"text", words}}; }

Json rule(const Control& control) {
    return {
        {"id", control.id},
        {"shortDescription", message(control.title)},
        {"fullDescription", message(control.rationale)},
        {"help", message(fmt::format("Verified by: {}\nEnforced by: {}\nReferences: {}", control.verified_by, control.enforced_by,
                                     control.references))},
        {"defaultConfiguration", {{"level", level(control.severity)}}},
        {"properties", {{"severity", to_text(control.severity)}, {"security-severity", score(control.severity)}, {"tags", {"security"}}}}};
}

/// A path as a URI reference (RFC 3986): an absolute one with the scheme file.
std::string uri(std::string_view path) {
    std::string text = path.starts_with('/') ? "file://" : "";
    for (const auto c : path) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("/-._~").contains(c);
        text += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return text;
}

Json location(const Finding& finding) {
    Json json = Json::object();
    std::string name = finding.subject;
    if (finding.location) {
        json["physicalLocation"]["artifactLocation"]["uri"] = uri(finding.location->file);
        if (finding.location->line > 0) json["physicalLocation"]["region"]["startLine"] = finding.location->line;
        if (finding.location->line > 0 && finding.location->column > 0)
            json["physicalLocation"]["region"]["startColumn"] = finding.location->column;
        name = finding.location->path;
    }
    if (!name.empty()) json["logicalLocations"] = Json::array({Json{{"fullyQualifiedName", name}, {"kind", "resource"}}});
    return json;
}

/// The same for the same thing wrong in the same place, whatever was observed there.
std::string fingerprint(const Control& control, const Finding& finding) {
    return sha256(fmt::format("{}\n{}\n{}", control.id, finding.subject, finding.location ? finding.location->path : finding.expected));
}

Json result(const ControlReport& one, std::size_t rule_index, const Finding& finding) {
    Json json{{"ruleId", one.control->id}, {"ruleIndex", rule_index}, {"kind", "fail"}, {"level", level(one.control->severity)}};
    json["message"] = message(fmt::format("{}: expected {}; observed {}. Remedy: {}", finding.subject, finding.expected, finding.observed,
                                          finding.remedy.summary));
    json["locations"] = Json::array({location(finding)});
    json["partialFingerprints"]["controlAndSubject/v1"] = fingerprint(*one.control, finding);
    json["suppressions"] = Json::array();  // present in every result of a run, or in none
    if (one.waived)
        json["suppressions"].push_back({{"kind", "external"},
                                        {"status", "accepted"},
                                        {"justification", fmt::format("{} ({})", one.waiver->reason, one.waiver->owner)}});
    json["properties"] = {{"evidence", to_text(finding.evidence)}, {"mode", to_text(one.mode)}};
    return json;
}

Json notification(const ControlReport& one, std::size_t rule_index) {
    return {{"level", "warning"},
            {"message", message(one.decision.reason)},
            {"associatedRule", {{"id", one.control->id}, {"index", rule_index}}}};
}

}  // namespace

std::string sarif(const Report& report) {
    Json rules = Json::array(), results = Json::array(), notifications = Json::array();
    for (std::size_t i = 0; i < report.controls.size(); ++i) {
        const auto& one = report.controls[i];
        rules.push_back(rule(*one.control));
        if (one.decision.verdict == Verdict::unknown) notifications.push_back(notification(one, i));
        if (one.decision.verdict != Verdict::fail) continue;
        for (const auto& finding : one.decision.findings) results.push_back(result(one, i, finding));
        if (one.decision.findings.empty())
            results.push_back(result(one, i, {one.decision.reason, std::string(one.control->title), one.decision.reason, {}, {}, {}}));
    }
    const Json invocation{
        {"executionSuccessful", true}, {"endTimeUtc", format_time(report.time)}, {"toolExecutionNotifications", notifications}};
    Json run;
    run["tool"]["driver"] = {{"name", "promwarden"}, {"semanticVersion", PROMWARDEN_VERSION}, {"rules", rules}};
    run["invocations"] = Json::array({invocation});
    run["results"] = results;
    run["properties"] = {{"host", report.host}, {"policy", report.policy_path}, {"policySha256", report.policy_sha256}};
    Json log{{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"}, {"version", "2.1.0"}};
    log["runs"] = Json::array({run});
    return pretty(log);
}

}  // namespace promwarden::render
