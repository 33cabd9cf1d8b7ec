// A report over files for the person who will correct them: file by file, from top to bottom, each place once.

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

/// One place in a file, and the controls that fail there.
struct Spot {
    const Finding* finding;
    std::vector<const Control*> controls;  // the most severe first
};

auto order_of(const Finding& finding) {
    return finding.location ? std::tuple(finding.location->line, finding.location->column, finding.location->path)
                            : std::tuple(0U, 0U, std::string());
}

/// Two controls that say the same from two sides: a setting is unknown, and therefore Prometheus would not start.
bool same(const Finding& one, const Finding& other) {
    return order_of(one) == order_of(other) && (one.observed.starts_with(other.observed) || other.observed.starts_with(one.observed));
}

class LintText {
public:
    LintText(const Report& report, std::size_t files, bool colour) : report_(report), files_(files), colour_(colour) {
        for (const auto& one : report.controls)
            for (const auto& finding : one.decision.findings) add(*one.control, finding);
        for (auto& [file, spots] : spots_) std::ranges::stable_sort(spots, {}, [](const Spot& spot) { return order_of(*spot.finding); });
    }

    [[nodiscard]] std::string text() const {
        std::string text;
        for (const auto& [file, spots] : spots_) {
            text += paint(printable(file), Colour::bold, colour_) + '\n';
            for (const auto& spot : spots) text += place(spot);
            text += '\n';
        }
        return text + undecided() + summary();
    }

private:
    void add(const Control& control, const Finding& finding) {
        auto& spots = spots_[finding.location ? finding.location->file : finding.subject];
        const auto found = std::ranges::find_if(spots, [&](const Spot& spot) { return same(*spot.finding, finding); });
        if (found == spots.end()) return spots.push_back({&finding, {&control}});
        found->controls.push_back(&control);
        std::ranges::stable_sort(found->controls, {}, &Control::severity);
    }

    [[nodiscard]] std::string place(const Spot& spot) const {
        const auto& finding = *spot.finding;
        const auto severity = spot.controls.front()->severity;
        std::string ids;
        for (const auto* control : spot.controls) ids += (ids.empty() ? "" : ", ") + std::string(control->id);
        const auto at = finding.location && finding.location->line > 0
                            ? fmt::format("{}:{}", finding.location->line, finding.location->column)
                            : std::string("-");
        auto text =
            fmt::format("  {:<8} {} {}", at,
                        paint(fmt::format("{:<8}", to_text(severity)), severity <= Severity::high ? Colour::red : Colour::yellow, colour_),
                        paint(ids, Colour::bold, colour_));
        text += finding.location && !finding.location->path.empty() ? fmt::format("  {}\n", printable(finding.location->path)) : "\n";
        text += row("observed", finding.observed) + row("expected", finding.expected);
        return finding.remedy.summary.empty() ? text : text + row("remedy", finding.remedy.summary);
    }

    [[nodiscard]] std::string row(std::string_view name, std::string_view value) const {
        return fmt::format("           {} {}\n", paint(fmt::format("{:<8}", name), Colour::dim, colour_), printable(value));
    }

    /// What could not be decided, each reason once.
    [[nodiscard]] std::string undecided() const {
        std::vector<std::pair<std::string_view, std::string>> reasons;
        for (const auto& one : report_.controls) {
            // Where something fails, too, the reason ends with what could not be decided.
            constexpr std::string_view mark = "not decided: ";
            std::string_view reason = one.decision.reason;
            if (const auto at = reason.find(mark); one.decision.verdict == Verdict::fail && at != std::string_view::npos)
                reason.remove_prefix(at + mark.size());
            else if (one.decision.verdict != Verdict::unknown)
                continue;
            const auto found = std::ranges::find(reasons, reason, &std::pair<std::string_view, std::string>::first);
            if (found == reasons.end())
                reasons.emplace_back(reason, one.control->id);
            else
                found->second += ", " + std::string(one.control->id);
        }
        std::string text;
        for (const auto& [reason, ids] : reasons)
            text += paint("undecided", Colour::yellow, colour_) + "  " + printable(reason) + '\n' + paragraph(ids, 11, 110);
        return reasons.empty() ? text : text + '\n';
    }

    [[nodiscard]] std::string summary() const {
        std::size_t places = 0;
        for (const auto& [file, spots] : spots_) places += spots.size();
        const auto count = [&](std::size_t number, std::string_view name, Colour colour) {
            const auto words = fmt::format("{} {}", number, name);
            return number == 0 ? words : paint(words, colour, colour_);
        };
        return fmt::format("{} {}, {}: {}, {}, {}, {}\n", files_, files_ == 1 ? "file" : "files",
                           places == 1 ? "1 place to correct" : fmt::format("{} places to correct", places),
                           count(report_.count(Verdict::fail), "controls fail", Colour::red),
                           count(report_.count(Verdict::unknown), "undecided", Colour::yellow),
                           count(report_.count(Verdict::pass), "hold", Colour::green),
                           count(report_.count(Verdict::not_applicable), "not applicable", Colour::dim));
    }

    const Report& report_;
    std::size_t files_;
    bool colour_;
    std::map<std::string, std::vector<Spot>> spots_;
};

}  // namespace

std::string lint_text(const Report& report, std::size_t files, bool colour) { return LintText(report, files, colour).text(); }

}  // namespace promwarden::render
