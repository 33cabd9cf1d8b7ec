// Reports as JSON (promwarden.report/1), and back.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "promwarden/controls.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view schema = "promwarden.report/1";
constexpr std::array<std::string_view, 4> severities{"critical", "high", "medium", "low"};
constexpr std::array<std::string_view, 4> verdicts{"pass", "fail", "unknown", "not-applicable"};
constexpr std::array<std::string_view, 4> evidences{"config", "process", "kernel", "live"};
constexpr std::array<std::string_view, 3> modes{"enforce", "audit", "off"};

bool is_midnight(std::chrono::system_clock::time_point time) { return time.time_since_epoch() % std::chrono::days(1) == 0s; }

/// A waiver until a date ends with that day, and is shown by its last second.
std::string expiry_text(const Waiver& waiver) { return format_time(is_midnight(waiver.expires) ? waiver.expires - 1s : waiver.expires); }

Json to_json(const Waiver& waiver) { return {{"reason", waiver.reason}, {"owner", waiver.owner}, {"expires", expiry_text(waiver)}}; }

Json to_json(const Location& location) {
    Json json{{"file", location.file}};
    if (location.line > 0) json["line"] = location.line;
    if (location.column > 0) json["column"] = location.column;
    if (!location.path.empty()) json["path"] = location.path;
    return json;
}

Json to_json(const Finding& finding) {
    Json json{{"subject", finding.subject}, {"expected", finding.expected}, {"observed", finding.observed}};
    if (finding.location) json["location"] = to_json(*finding.location);
    json["evidence"] = to_text(finding.evidence);
    json["remedy"] = {{"kind", finding.remedy.automatic ? "automatic" : "manual"}, {"summary", finding.remedy.summary}};
    return json;
}

Json to_json(const ControlReport& report) {
    Json json{{"id", report.control->id},
              {"title", report.control->title},
              {"severity", to_text(report.control->severity)},
              {"verdict", to_text(report.decision.verdict)},
              {"mode", to_text(report.mode)}};
    json["reason"] = report.notice.empty() ? report.decision.reason : fmt::format("{}; {}", report.decision.reason, report.notice);
    if (report.waiver) json["waiver"] = to_json(*report.waiver);
    json["findings"] = Json::array();
    for (const auto& finding : report.decision.findings) json["findings"].push_back(to_json(finding));
    return json;
}

// ---- and back ----

std::unexpected<Error> unreadable(std::string detail) { return fail(Code::invalid, "read report", "", std::move(detail)); }

Result<std::string> text_at(const Json& object, const char* key) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_string())
        return unreadable(fmt::format("\"{}\" is missing or no text", key));
    return object[key].get<std::string>();
}

Result<Json> list_at(const Json& object, const char* key) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_array())
        return unreadable(fmt::format("\"{}\" is missing or no list", key));
    return object[key];
}

std::uint32_t number_at(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint32_t>() : 0;
}

template <class Enum, std::size_t n>
Result<Enum> word_at(const Json& object, const char* key, const std::array<std::string_view, n>& words) {
    const auto word = TRY(text_at(object, key));
    const auto found = std::ranges::find(words, word);
    if (found == words.end()) return unreadable(fmt::format("\"{}\" has the unknown value \"{}\"", key, word));
    return static_cast<Enum>(found - words.begin());
}

Result<Waiver> read_waiver(const Json& json, std::string_view control) {
    Waiver waiver;
    waiver.control = control;
    waiver.reason = TRY(text_at(json, "reason"));
    waiver.owner = TRY(text_at(json, "owner"));
    const auto expires = TRY(text_at(json, "expires"));
    waiver.expires = TRY(parse_time(expires));
    if (is_midnight(waiver.expires + 1s)) waiver.expires += 1s;
    return waiver;
}

Result<Finding> read_finding(const Json& json) {
    Finding finding;
    finding.subject = TRY(text_at(json, "subject"));
    finding.expected = TRY(text_at(json, "expected"));
    finding.observed = TRY(text_at(json, "observed"));
    finding.evidence = TRY(word_at<Evidence>(json, "evidence", evidences));
    if (!json.contains("remedy")) return unreadable("\"remedy\" is missing");
    finding.remedy.automatic = TRY(text_at(json["remedy"], "kind")) == "automatic";
    finding.remedy.summary = TRY(text_at(json["remedy"], "summary"));
    if (const auto at = json.find("location"); at != json.end()) {
        Location location{TRY(text_at(*at, "file")), number_at(*at, "line"), number_at(*at, "column"), {}};
        if (at->contains("path")) location.path = TRY(text_at(*at, "path"));
        finding.location = std::move(location);
    }
    return finding;
}

Result<ControlReport> read_control(const Json& json, std::chrono::system_clock::time_point now) {
    ControlReport report;
    const auto id = TRY(text_at(json, "id"));
    report.control = find_control(id);
    if (report.control == nullptr) return unreadable(fmt::format("this version does not know control \"{}\"", id));
    report.mode = TRY(word_at<Mode>(json, "mode", modes));
    report.decision.verdict = TRY(word_at<Verdict>(json, "verdict", verdicts));
    report.decision.reason = TRY(text_at(json, "reason"));
    const auto findings = TRY(list_at(json, "findings"));
    for (const auto& finding : findings) report.decision.findings.push_back(TRY(read_finding(finding)));
    if (json.contains("waiver")) report.waiver = TRY(read_waiver(json["waiver"], id));
    report.waived = report.waiver && report.decision.verdict == Verdict::fail && now < report.waiver->expires;
    return report;
}

}  // namespace

std::string_view to_text(Severity severity) { return severities[static_cast<std::size_t>(severity)]; }
std::string_view to_text(Verdict verdict) { return verdicts[static_cast<std::size_t>(verdict)]; }
std::string_view to_text(Evidence evidence) { return evidences[static_cast<std::size_t>(evidence)]; }
std::string_view to_text(Mode mode) { return modes[static_cast<std::size_t>(mode)]; }

Json to_json(const Report& report) {
    Json json{{"schema", schema}, {"host", report.host}, {"time", format_time(report.time)}};
    json["policy"] = {{"path", report.policy_path}, {"sha256", report.policy_sha256}};
    for (const auto verdict : {Verdict::pass, Verdict::fail, Verdict::unknown, Verdict::not_applicable})
        json["summary"][to_text(verdict)] = report.count(verdict);
    json["summary"]["waived"] = report.waived();
    json["controls"] = Json::array();
    for (const auto& control : report.controls) json["controls"].push_back(to_json(control));
    return json;
}

Json to_json(const Control& control) {
    return {{"id", control.id},
            {"title", control.title},
            {"severity", to_text(control.severity)},
            {"enforced_by", control.enforced_by},
            {"rationale", control.rationale},
            {"verified_by", control.verified_by},
            {"references", control.references},
            {"decided", control.decide != nullptr}};
}

Result<Report> read_report(const Json& json) {
    if (TRY(text_at(json, "schema")) != schema) return unreadable(fmt::format("the schema is not {}", schema));
    Report report;
    report.host = TRY(text_at(json, "host"));
    const auto time = TRY(text_at(json, "time"));
    report.time = TRY(parse_time(time));
    if (!json.contains("policy")) return unreadable("\"policy\" is missing");
    report.policy_path = TRY(text_at(json["policy"], "path"));
    report.policy_sha256 = TRY(text_at(json["policy"], "sha256"));
    const auto controls = TRY(list_at(json, "controls"));
    for (const auto& control : controls) report.controls.push_back(TRY(read_control(control, report.time)));
    return report;
}

}  // namespace promwarden
