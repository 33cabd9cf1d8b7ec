// The difference of two texts, line by line, as diff -u writes it.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/diff.hpp"

namespace promwarden {

namespace {

using Lines = std::vector<std::string_view>;  // each with its line end, where it has one

constexpr std::size_t context = 3;
constexpr std::ptrdiff_t most_edits = 2'000;  // above it, everything between the first and the last difference is one

Lines lines_of(std::string_view text) {
    Lines lines;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
        lines.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return lines;
}

struct Step {
    char sign = ' ';            // ' ', '-', '+'
    std::size_t before = 0, after = 0;  // index of its line, or of the next one on the side where it is not
};

/// The shortest way from one list to the other (E. W. Myers, An O(ND) Difference Algorithm, 1986).
std::vector<Step> way(const Lines& before, const Lines& after) {
    const auto n = static_cast<std::ptrdiff_t>(before.size()), m = static_cast<std::ptrdiff_t>(after.size());
    const auto most = std::min(n + m, most_edits);
    std::vector<std::vector<std::ptrdiff_t>> trace;
    std::vector<std::ptrdiff_t> reach(static_cast<std::size_t>(2 * most + 3), 0);
    const auto at = [&](std::vector<std::ptrdiff_t>& list, std::ptrdiff_t k) -> std::ptrdiff_t& { return list[static_cast<std::size_t>(k + most + 1)]; };
    const auto down = [&](std::vector<std::ptrdiff_t>& list, std::ptrdiff_t d, std::ptrdiff_t k) { return k == -d || (k != d && at(list, k - 1) < at(list, k + 1)); };
    std::ptrdiff_t edits = -1;
    for (std::ptrdiff_t d = 0; d <= most && edits < 0; ++d) {
        trace.push_back(reach);
        for (std::ptrdiff_t k = -d; k <= d; k += 2) {
            auto x = down(reach, d, k) ? at(reach, k + 1) : at(reach, k - 1) + 1;
            while (x < n && x - k < m && before[static_cast<std::size_t>(x)] == after[static_cast<std::size_t>(x - k)]) ++x;
            at(reach, k) = x;
            if (x >= n && x - k >= m) edits = d;
        }
    }
    std::vector<Step> steps;
    auto x = n, y = m;
    const auto step = [&](char sign) { steps.push_back({sign, static_cast<std::size_t>(x), static_cast<std::size_t>(y)}); };
    if (edits < 0) {
        while (y > 0) --y, step('+');
        while (x > 0) --x, step('-');
    }
    for (auto d = edits; d >= 0; --d) {
        auto& list = trace[static_cast<std::size_t>(d)];
        const auto k = x - y, from = down(list, d, k) ? k + 1 : k - 1;
        const auto start = d == 0 ? 0 : at(list, from), start_y = d == 0 ? 0 : start - from;
        while (x > start && y > start_y) --x, --y, step(' ');
        if (d == 0) break;
        if (x > start) --x, step('-');
        else --y, step('+');
    }
    std::ranges::reverse(steps);
    return steps;
}

/// A line as it is shown; one that hides something keeps only its place.
std::string shown(char sign, std::string_view line, bool hidden) {
    if (hidden) return fmt::format("{}{}<hidden>\n", sign, line.substr(0, std::min(line.find_first_not_of(" \t-"), line.size())));
    return fmt::format("{}{}{}", sign, line, line.ends_with('\n') ? "" : "\n\\ No newline at end of file\n");
}

std::string range_of(std::size_t first, std::size_t count) { return count == 1 ? fmt::format("{}", first + 1) : fmt::format("{},{}", count == 0 ? first : first + 1, count); }

}  // namespace

std::string unified_diff(std::string_view before, std::string_view after, std::string_view path, const Hides& hides) {
    if (before == after) return {};
    const auto old_lines = lines_of(before), new_lines = lines_of(after);
    const auto steps = way(old_lines, new_lines);
    const auto line = [&](const Step& step) { return step.sign == '+' ? new_lines[step.after] : old_lines[step.before]; };
    const auto hidden = [&](const Step& step) { return hides && hides(line(step)); };
    const auto is_context = [&](std::size_t i) { return steps[i].sign == ' ' && !hidden(steps[i]); };
    std::string text = fmt::format("--- {}{}\n+++ {}{}\n", before.empty() ? "/dev/null" : "a", before.empty() ? "" : path, after.empty() ? "/dev/null" : "b", after.empty() ? "" : path);
    for (std::size_t i = 0; i < steps.size();) {
        if (steps[i].sign == ' ') {
            ++i;
            continue;
        }
        auto first = i, end = i;
        while (first > 0 && i - first < context && is_context(first - 1)) --first;
        // A hunk goes on while the next change is so near that their contexts would touch.
        for (std::size_t quiet = 0; end < steps.size() && quiet <= 2 * context; ++end) {
            if (steps[end].sign == ' ' && hidden(steps[end])) break;
            quiet = steps[end].sign == ' ' ? quiet + 1 : 0;
        }
        std::size_t tail = 0;
        while (end - tail > i && steps[end - tail - 1].sign == ' ') ++tail;
        end -= tail - std::min(tail, context);
        std::size_t minus = 0, plus = 0;
        std::string body;
        for (auto at = first; at < end; ++at) {
            minus += steps[at].sign != '+';
            plus += steps[at].sign != '-';
            body += shown(steps[at].sign, line(steps[at]), hidden(steps[at]));
        }
        text += fmt::format("@@ -{} +{} @@\n{}", range_of(steps[first].before, minus), range_of(steps[first].after, plus), body);
        i = end;
    }
    return text;
}

std::vector<Difference> differences(std::string_view before, std::string_view after) {
    const auto old_lines = lines_of(before), new_lines = lines_of(after);
    std::vector<Difference> all;
    std::size_t old_at = 0, new_at = 0;
    bool within = false;
    for (const auto& step : way(old_lines, new_lines)) {
        const auto gone = step.sign == '+' ? 0 : old_lines[step.before].size(), come = step.sign == '-' ? 0 : new_lines[step.after].size();
        if (step.sign != ' ') {
            if (!within) all.push_back({old_at, 0, new_at, 0});
            all.back().before_length += gone;
            all.back().after_length += come;
        }
        within = step.sign != ' ';
        old_at += gone;
        new_at += come;
    }
    return all;
}

}  // namespace promwarden
