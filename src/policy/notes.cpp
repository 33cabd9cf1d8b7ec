#include "notes.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "lexis.hpp"

namespace promwarden {

namespace policy {

namespace {
constexpr std::size_t most_shown = 20;
constexpr std::size_t most_kept = 10'000;  // a file of nothing but errors must not cost more than itself
constexpr std::size_t longest_message = 400;
}  // namespace

void Notes::add(Place at, std::string message, std::string hint, std::optional<Place> also) {
    if (found_.size() < most_kept) found_.push_back({at, std::move(message), std::move(hint), also});
}

Where Notes::where(Place at) const {
    return {at.file < sources_.files.size() ? sources_.files[at.file].path : std::string{}, at.line, at.column};
}

Diagnostic Notes::finish(const Found& found) const {
    std::uint32_t start = 1;
    Diagnostic diagnostic{where(found.at), excerpt(found.message, start, longest_message), excerpt(found.hint, start, longest_message), {}, 0, {}};
    if (found.also) diagnostic.also = where(*found.also);
    const bool has_text = found.at.file < sources_.files.size() && sources_.files[found.at.file].text;
    if (!has_text || found.at.line == 0) return diagnostic;
    const std::string_view text = *sources_.files[found.at.file].text;
    auto line = text.substr(offset_of_line(text, found.at.line));
    line = line.substr(0, line.find('\n'));
    if (line.ends_with('\r')) line.remove_suffix(1);
    diagnostic.caret = std::max(found.at.column, 1U);
    diagnostic.quote = excerpt(line, diagnostic.caret);
    return diagnostic;
}

Diagnostics Notes::take() {
    std::ranges::stable_sort(found_, {}, &Found::at);
    Diagnostics diagnostics;
    for (const auto& found : found_)
        if (diagnostics.size() < most_shown) diagnostics.push_back(finish(found));
    found_.clear();
    return diagnostics;
}

}  // namespace policy

namespace {

std::string place_text(const Where& where) {
    if (where.line == 0) return where.file;
    return fmt::format("{}:{}:{}", where.file, where.line, where.column);
}

}  // namespace

std::string to_text(const Diagnostic& diagnostic, bool with_quote) {
    std::string text = fmt::format("{}: {}", place_text(diagnostic.where), diagnostic.message);
    if (!diagnostic.also.file.empty()) text += fmt::format(" (the other one is at {})", place_text(diagnostic.also));
    if (with_quote && diagnostic.caret > 0) {
        const auto& quote = diagnostic.quote;
        std::string caret;
        for (std::size_t at = 0, column = diagnostic.caret; column > 1; --column) {
            if (at >= quote.size()) {
                caret += ' ';
                continue;
            }
            caret += quote[at] == '\t' ? '\t' : ' ';
            at += std::max<std::size_t>(policy::utf8_length(std::string_view(quote).substr(at)), 1);
        }
        text += fmt::format("\n    {}\n    {}^", quote, caret);
    }
    if (!diagnostic.hint.empty()) text += "\n  " + diagnostic.hint;
    return text;
}

}  // namespace promwarden
