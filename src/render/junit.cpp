// A report as JUnit XML, for test dashboards.

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

/// Attribute or element text. XML 1.0 has no form at all for most control characters, so they are made visible first.
std::string escaped(std::string_view text) {
    std::string result;
    for (const auto c : printable(text)) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            case '\'':
                result += "&apos;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

std::string findings_text(const std::vector<Finding>& findings) {
    std::string text;
    for (const auto& finding : findings)
        text += fmt::format("\n{}\n  expected  {}\n  observed  {}\n  remedy    {}\n", escaped(finding.location ? place(*finding.location) : finding.subject),
                            escaped(finding.expected), escaped(finding.observed), escaped(finding.remedy.summary));
    return text;
}

std::string outcome(const ControlReport& one) {
    const auto& [verdict, reason, findings] = one.decision;
    const auto message = escaped(one.notice.empty() ? reason : fmt::format("{}; {}", reason, one.notice));
    if (one.waived) return fmt::format("<skipped message=\"waived by {}: {}\"/>", escaped(one.waiver->owner), escaped(one.waiver->reason));
    switch (verdict) {
        case Verdict::fail:
            return fmt::format("<failure type=\"{}\" message=\"{}\">{}</failure>", to_text(one.control->severity), message,
                               findings_text(findings));
        case Verdict::unknown:
            return fmt::format("<error type=\"unknown\" message=\"{}\"/>", message);
        case Verdict::not_applicable:
            return fmt::format("<skipped message=\"{}\"/>", message);
        case Verdict::pass:
            break;
    }
    return fmt::format("<system-out>{}</system-out>", message);
}

}  // namespace

std::string junit(const Report& report) {
    const auto numbers =
        fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"0\"", report.controls.size(),
                    report.count(Verdict::fail), report.count(Verdict::unknown), report.count(Verdict::not_applicable) + report.waived());
    auto time = format_time(report.time);
    time.pop_back();  // the format knows no zone; it is UTC
    std::string text = fmt::format("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"promwarden\" {}>\n", numbers);
    text += fmt::format("  <testsuite name=\"promwarden\" hostname=\"{}\" timestamp=\"{}\" {}>\n", escaped(report.host), time, numbers);
    text += fmt::format(
        "    <properties>\n      <property name=\"policy\" value=\"{}\"/>\n      <property name=\"policy.sha256\" value=\"{}\"/>\n    "
        "</properties>\n",
        escaped(report.policy_path), escaped(report.policy_sha256));
    for (const auto& one : report.controls) {
        const auto family = one.control->id.substr(0, one.control->id.find('.'));
        text += fmt::format("    <testcase classname=\"promwarden.{}\" name=\"{}\" time=\"0\">\n      {}\n    </testcase>\n", family,
                            one.control->id, outcome(one));
    }
    return text + "  </testsuite>\n</testsuites>\n";
}

}  // namespace promwarden::render
