// A plan for a person: each change with its lines, then the connections it would cut.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

std::string diff_line(std::string_view line, bool colour) {
    const auto shown = "    " + printable(line);
    if (line.starts_with('+')) return paint(shown, Colour::green, colour) + '\n';
    if (line.starts_with('-')) return paint(shown, Colour::red, colour) + '\n';
    return shown + '\n';
}

std::string diff_text(std::string_view diff, bool colour) {
    std::string text;
    while (!diff.empty()) {
        const auto end = std::min(diff.find('\n'), diff.size());
        text += diff_line(diff.substr(0, end), colour);
        diff.remove_prefix(std::min(end + 1, diff.size()));
    }
    return text;
}

std::string counted(std::size_t count, std::string_view what) { return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s"); }

}  // namespace

std::string text(const Plan& plan, bool colour) {
    std::string text;
    for (const auto& change : plan.changes) {
        text += fmt::format("{}  {}  {}\n", paint(printable(change.subject), Colour::bold, colour), to_text(change.kind),
                            paint(printable(change.control), Colour::dim, colour));
        if (!change.summary.empty()) text += "  " + printable(change.summary) + '\n';
        text += diff_text(change.diff, colour) + '\n';
    }
    if (!plan.cuts.empty()) text += "Live connections that would be cut:\n";
    for (const auto& cut : plan.cuts) text += paint("    " + printable(cut), Colour::yellow, colour) + '\n';
    if (!plan.cuts.empty()) text += '\n';
    if (!plan.refusals.empty()) text += "Asked for, and not done:\n";
    for (const auto& refusal : plan.refusals) text += "    " + printable(refusal) + '\n';
    if (!plan.refusals.empty()) text += '\n';
    if (plan.empty()) return text + "Nothing to change.\n";
    return text + fmt::format("{}, {} cut\n", counted(plan.changes.size(), "change"), counted(plan.cuts.size(), "connection"));
}

}  // namespace promwarden::render
