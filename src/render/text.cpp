// A report for a person: what fails first, with all there is to know; what holds in one line each; a summary.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

enum class Standing : std::uint8_t { fail, unknown, waived, pass, not_applicable };  // in the order of showing

Standing standing(const ControlReport& report) {
    if (report.waived) return Standing::waived;
    switch (report.decision.verdict) {
        case Verdict::fail:
            return Standing::fail;
        case Verdict::unknown:
            return Standing::unknown;
        case Verdict::pass:
            return Standing::pass;
        case Verdict::not_applicable:
            break;
    }
    return Standing::not_applicable;
}

constexpr std::array<std::string_view, 5> words{"FAIL", "unknown", "waived", "pass", "n/a"};
constexpr std::array<Colour, 5> colours{Colour::red, Colour::yellow, Colour::cyan, Colour::green, Colour::dim};

class ReportText {
public:
    ReportText(const Report& report, bool colour) : report_(report), colour_(colour) {
        for (const auto& one : report.controls) width_ = std::max(width_, one.control->id.size());
    }

    [[nodiscard]] std::string text() const {
        std::vector<const ControlReport*> order;
        for (const auto& one : report_.controls) order.push_back(&one);
        std::ranges::stable_sort(order, {}, [](const ControlReport* one) {
            return std::pair(standing(*one), standing(*one) == Standing::fail ? one->control->severity : Severity{});
        });
        std::string text = header();
        bool after_block = true;
        for (const auto* one : order) {
            const bool block = standing(*one) <= Standing::waived;
            text += block || after_block ? "\n" : "";
            text += line(*one) + (block ? details(*one) : "");
            after_block = block;
        }
        return text + '\n' + summary();
    }

private:
    [[nodiscard]] std::string header() const {
        return paint(fmt::format("{}  {}  policy {} {}", printable(report_.host), format_time(report_.time), printable(report_.policy_path),
                                 report_.policy_sha256.substr(0, 12)),
                     Colour::bold, colour_) +
               '\n';
    }

    [[nodiscard]] std::string line(const ControlReport& one) const {
        const auto index = static_cast<std::size_t>(standing(one));
        const auto verdict = paint(fmt::format("{:<8}", words[index]), colours[index], colour_);
        const auto mode = one.mode == Mode::audit ? " (audit)" : "";
        const bool block = standing(one) <= Standing::waived;
        const auto right = block ? std::string(one.control->title) : printable(one.decision.reason);
        return fmt::format("{} {:<8} {:<{}}  {}{}\n", verdict, to_text(one.control->severity), one.control->id, width_, right, mode);
    }

    [[nodiscard]] std::string details(const ControlReport& one) const {
        std::string text = paragraph(printable(one.decision.reason), 4, 110);
        if (one.waiver && one.waived)
            text += paragraph(fmt::format("waived by {}: {}", printable(one.waiver->owner), printable(one.waiver->reason)), 4, 110);
        if (!one.notice.empty()) text += paint(paragraph(printable(one.notice), 4, 110), Colour::yellow, colour_);
        for (const auto& finding : one.decision.findings) text += finding_text(finding);
        return text;
    }

    [[nodiscard]] std::string finding_text(const Finding& finding) const {
        std::string text = "    - " + paint(printable(finding.subject), Colour::bold, colour_) + '\n';
        if (finding.location) text += row("at", place(*finding.location));
        text += row("expected", finding.expected) + row("observed", finding.observed);
        if (!finding.remedy.summary.empty()) text += row("remedy", finding.remedy.summary);
        return text;
    }

    static std::string row(std::string_view name, std::string_view value) {
        return fmt::format("      {:<8}  {}\n", name, printable(value));
    }

    [[nodiscard]] std::string summary() const {
        const auto part = [&](std::size_t count, std::string_view name, Colour colour) {
            const auto text = fmt::format("{} {}", count, name);
            return count == 0 ? text : paint(text, colour, colour_);
        };
        return fmt::format("{}, {}, {}, {}, {}\n", part(report_.count(Verdict::fail), "fail", Colour::red),
                           part(report_.count(Verdict::unknown), "unknown", Colour::yellow), part(report_.waived(), "waived", Colour::cyan),
                           part(report_.count(Verdict::pass), "pass", Colour::green),
                           part(report_.count(Verdict::not_applicable), "not applicable", Colour::dim));
    }

    const Report& report_;
    bool colour_;
    std::size_t width_ = 0;
};

}  // namespace

std::string place(const Location& location) {
    std::string text = location.file;
    if (location.line > 0) text += fmt::format(":{}", location.line);
    if (location.line > 0 && location.column > 0) text += fmt::format(":{}", location.column);
    return location.path.empty() ? text : fmt::format("{} ({})", text, location.path);
}

std::string text(const Report& report, bool colour) { return ReportText(report, colour).text(); }

std::optional<Format> parse_format(std::string_view word) {
    constexpr std::array<std::string_view, 5> names{"text", "json", "sarif", "junit", "openmetrics"};
    const auto found = std::ranges::find(names, word);
    if (found == names.end()) return std::nullopt;
    return static_cast<Format>(found - names.begin());
}

std::string report(const Report& report, Format format, bool colour) {
    switch (format) {
        case Format::json:
            return json(report);
        case Format::sarif:
            return sarif(report);
        case Format::junit:
            return junit(report);
        case Format::openmetrics:
            return openmetrics(report);
        case Format::text:
            break;
    }
    return text(report, colour);
}

}  // namespace promwarden::render
