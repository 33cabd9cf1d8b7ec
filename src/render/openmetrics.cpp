// A report as OpenMetrics 1.0, which readers of the older text format take as well: what an alert can be written on. Each control has one
// series per verdict, 1 for the one that is, so that no series vanishes on a change.

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

/// A label's value. Quotes and backslashes have an escape of their own; what else could harm was made visible before.
std::string label(std::string_view value) {
    std::string result;
    for (const auto c : printable(value)) {
        if (c == '"' || c == '\\') result += '\\';
        result += c;
    }
    return result;
}

std::string family(std::string_view name, std::string_view type, std::string_view help) {
    return fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

std::string states(const Report& report) {
    std::string text = family("promwarden_control_state", "gauge", "1 for the verdict that the control has, 0 for the others.");
    for (const auto& one : report.controls)
        for (const auto verdict : {Verdict::pass, Verdict::fail, Verdict::unknown, Verdict::not_applicable})
            text +=
                fmt::format("promwarden_control_state{{control=\"{}\",severity=\"{}\",verdict=\"{}\",mode=\"{}\"}} {}\n", one.control->id,
                            to_text(one.control->severity), to_text(verdict), to_text(one.mode), one.decision.verdict == verdict ? 1 : 0);
    return text;
}

std::string per_control(const Report& report) {
    std::string text = family("promwarden_control_waived", "gauge", "1 where a failure is covered by a waiver that holds.");
    for (const auto& one : report.controls)
        text += fmt::format("promwarden_control_waived{{control=\"{}\"}} {}\n", one.control->id, one.waived ? 1 : 0);
    text += family("promwarden_control_findings", "gauge", "What the control found wrong.");
    for (const auto& one : report.controls)
        text += fmt::format("promwarden_control_findings{{control=\"{}\"}} {}\n", one.control->id, one.decision.findings.size());
    return text;
}

std::string seconds(std::chrono::system_clock::time_point time) {
    return fmt::format("{}", std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count());
}

std::string waivers(const Report& report) {
    std::string series;
    for (const auto& one : report.controls)
        if (one.waiver)
            series += fmt::format("promwarden_waiver_expiry_timestamp_seconds{{control=\"{}\",owner=\"{}\"}} {}\n", one.control->id,
                                  label(one.waiver->owner), seconds(one.waiver->expires));
    if (series.empty()) return {};
    return "# HELP promwarden_waiver_expiry_timestamp_seconds When the waiver of a failing control ends.\n# TYPE "
           "promwarden_waiver_expiry_timestamp_seconds gauge\n"
           "# UNIT promwarden_waiver_expiry_timestamp_seconds seconds\n" +
           series;
}

}  // namespace

std::string openmetrics(const Report& report) {
    std::string text = states(report) + per_control(report) + waivers(report);
    text += family("promwarden_controls", "gauge", "Controls by verdict, waived failures apart.");
    for (const auto verdict : {Verdict::pass, Verdict::fail, Verdict::unknown, Verdict::not_applicable})
        text += fmt::format("promwarden_controls{{verdict=\"{}\"}} {}\n", to_text(verdict), report.count(verdict));
    text += fmt::format("promwarden_controls{{verdict=\"waived\"}} {}\n", report.waived());
    // A gauge, not an info: readers of the older text format, node_exporter's textfile collector among them, do not know that type.
    text += family("promwarden_policy_info", "gauge", "The policy that was evaluated.");
    text += fmt::format("promwarden_policy_info{{path=\"{}\",sha256=\"{}\"}} 1\n", label(report.policy_path), label(report.policy_sha256));
    text +=
        "# HELP promwarden_report_timestamp_seconds When the host was observed.\n# TYPE promwarden_report_timestamp_seconds gauge\n"
        "# UNIT promwarden_report_timestamp_seconds seconds\n";
    return text + fmt::format("promwarden_report_timestamp_seconds {}\n# EOF\n", seconds(report.time));
}

}  // namespace promwarden::render
