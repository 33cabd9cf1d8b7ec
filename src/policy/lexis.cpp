#include "lexis.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace promwarden::policy {

namespace {

constexpr int most_brackets = 16;
constexpr int most_dots = 16;

/// Walks TOML's strings and comments to see brackets and dots where they mean something. Where a text is not TOML the walk may misread what follows the first
/// error, which the parser never reaches.
class Nesting {
public:
    explicit Nesting(std::string_view text) : text_(text) {}

    /// The offset at which a limit is passed.
    std::optional<std::size_t> too_deep() {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '"' || c == '\'') {
                skip_string(c);
                continue;
            }
            if (c == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
                continue;
            }
            if (c == '[' || c == '{') ++brackets_;
            if ((c == ']' || c == '}') && brackets_ > 0) --brackets_;
            if (c == '.') ++dots_;
            else if (std::strchr("=,[]{}\n", c) != nullptr) dots_ = 0;
            if (brackets_ > most_brackets || dots_ > most_dots) return at_;
            ++at_;
        }
        return std::nullopt;
    }

private:
    void skip_string(char quote) {
        const std::string triple(3, quote);
        const bool multiline = text_.substr(at_).starts_with(triple);
        at_ += multiline ? 3 : 1;
        for (; at_ < text_.size(); ++at_) {
            if (text_[at_] == '\\' && quote == '"') ++at_;
            else if (!multiline && (text_[at_] == quote || text_[at_] == '\n')) break;
            else if (multiline && text_.substr(at_).starts_with(triple)) break;
        }
        at_ = std::min(at_ + (multiline ? 3 : 1), text_.size());
        for (int extra = 0; multiline && extra < 2 && at_ < text_.size() && text_[at_] == quote; ++extra) ++at_;  // """ may follow one or two quotes
    }

    std::string_view text_;
    std::size_t at_ = 0;
    int brackets_ = 0, dots_ = 0;
};

Unreadable at_offset(std::string_view text, std::size_t offset, std::string message) {
    const auto before = text.substr(0, offset);
    const auto line = static_cast<std::uint32_t>(std::ranges::count(before, '\n')) + 1;
    const auto start = before.rfind('\n') + 1;  // npos + 1 is 0
    const auto column = std::ranges::count_if(before.substr(start), [](char c) { return (c & 0xc0) != 0x80; });
    return {line, static_cast<std::uint32_t>(column) + 1, std::move(message)};
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto first = byte(0);
    const auto tail = [&](std::size_t from, std::size_t until) {
        for (auto i = from; i < until; ++i)
            if ((byte(i) & 0xc0) != 0x80) return false;
        return true;
    };
    if (text.empty()) return 0;
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return tail(1, 2) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool overlong = first == 0xe0 && byte(1) < 0xa0, surrogate = first == 0xed && byte(1) > 0x9f;
        return !overlong && !surrogate && tail(1, 3) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool overlong = first == 0xf0 && byte(1) < 0x90, beyond = first == 0xf4 && byte(1) > 0x8f;
        return !overlong && !beyond && tail(1, 4) ? 4 : 0;
    }
    return 0;
}

std::optional<Unreadable> unreadable(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto length = utf8_length(text.substr(at));
        if (length == 0) return at_offset(text, at, fmt::format("not UTF-8: byte 0x{:02x}", static_cast<unsigned char>(text[at])));
        if (text[at] == '\0') return at_offset(text, at, "a NUL byte: this is not a text file");
        at += length;
    }
    if (const auto offset = Nesting(text).too_deep())
        return at_offset(text, *offset, fmt::format("nested too deeply: at most {} brackets and {} dots in a key", most_brackets, most_dots));
    return std::nullopt;
}

std::size_t offset_of_line(std::string_view text, std::uint32_t line) {
    std::size_t at = 0;
    while (line-- > 1) {
        const auto end = text.find('\n', at);
        if (end == std::string_view::npos) return text.size();
        at = end + 1;
    }
    return at;
}

std::string excerpt(std::string_view line, std::uint32_t& column, std::size_t width) {
    // A very long line is walked only as far as it is shown.
    const auto first = column > width ? column - static_cast<std::uint32_t>(width / 2) : 1;
    std::string shown;
    std::uint32_t character = 1;
    for (std::size_t at = 0; at < line.size() && character < first + width; ++character) {
        const auto length = utf8_length(line.substr(at));
        const auto c = static_cast<unsigned char>(line[at]);
        const bool control = (c < 0x20 && c != '\t') || c == 0x7f || (c == 0xc2 && length == 2 && static_cast<unsigned char>(line[at + 1]) < 0xa0);
        if (character >= first) shown += length == 0 || control ? "?" : std::string(line.substr(at, length));
        at += std::max<std::size_t>(length, 1);
    }
    if (first > 1) column -= first - 1;
    return shown;
}

}  // namespace promwarden::policy
