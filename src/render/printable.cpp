// Making text safe to show.

#include <array>

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

struct CodePoint {
    char32_t value = 0;
    std::size_t length = 0;  // in bytes; 0: not UTF-8
};

/// The code point at the beginning of `text`. Overlong forms, surrogates and what is beyond Unicode are not UTF-8 (RFC 3629).
CodePoint decode(std::string_view text) {
    const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    const auto first = byte(0);
    if (first < 0x80) return {first, 1};
    const std::size_t length = first >= 0xf0 && first < 0xf8   ? 4
                               : first >= 0xe0 && first < 0xf0 ? 3
                               : first >= 0xc0 && first < 0xe0 ? 2
                                                               : 0;
    if (length == 0 || length > text.size()) return {};
    char32_t value = first & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {};
        value = value << 6 | (byte(i) & 0x3fU);
    }
    constexpr std::array<char32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
    if (value < least[length] || (value >= 0xd800 && value < 0xe000) || value > 0x10ffff) return {};
    return {value, length};
}

bool is_control(char32_t value) { return value < 0x20 || (value >= 0x7f && value < 0xa0); }

/// Direction marks, separators of lines, characters without width.
bool misleads(char32_t value) {
    return (value >= 0x200b && value <= 0x200f) || (value >= 0x2028 && value <= 0x202e) || (value >= 0x2060 && value <= 0x206f) ||
           value == 0x61c || value == 0xfeff || (value >= 0xe0000 && value <= 0xe0fff);
}

}  // namespace

std::string printable(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const auto [value, length] = decode(text);
        if (length == 0)
            result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
        else if (value == '\n')
            result += "\\n";
        else if (value == '\t')
            result += "\\t";
        else if (is_control(value))
            result += fmt::format("\\x{:02x}", static_cast<std::uint32_t>(value));
        else if (misleads(value))
            result += fmt::format("\\u{{{:x}}}", static_cast<std::uint32_t>(value));
        else
            result += text.substr(0, length);
        text.remove_prefix(length == 0 ? 1 : length);
    }
    return result;
}

std::string paint(std::string_view words, Colour colour, bool wanted) {
    constexpr std::array<std::string_view, 6> codes{"1;31", "33", "32", "36", "1", "2"};
    return wanted ? fmt::format("\x1b[{}m{}\x1b[0m", codes[static_cast<std::size_t>(colour)], words) : std::string(words);
}

std::string paragraph(std::string_view words, std::size_t indent, std::size_t width) {
    std::string result, line;
    const auto finish = [&] { result += std::string(indent, ' ') + line + '\n', line.clear(); };
    while (!words.empty()) {
        const auto space = words.find(' ');
        const auto word = words.substr(0, space);
        if (!line.empty() && indent + line.size() + 1 + word.size() > width) finish();
        if (!line.empty()) line += ' ';
        line += word;
        words = space == std::string_view::npos ? std::string_view{} : words.substr(space + 1);
    }
    if (!line.empty()) finish();
    return result;
}

}  // namespace promwarden::render
