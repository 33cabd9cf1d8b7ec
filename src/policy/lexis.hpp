// Characters and lines: what can be said about a text before it is parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace promwarden::policy {

struct Unreadable {
    std::uint32_t line = 0, column = 0;
    std::string message;
};

/// The first thing that keeps a text from being given to the parser: a byte that is not UTF-8, a NUL, brackets or dotted keys nested so deeply that a recursive
/// parser would run out of stack.
std::optional<Unreadable> unreadable(std::string_view text);

/// The length of the UTF-8 sequence at the start of `text`, 0 where it is not one.
std::size_t utf8_length(std::string_view text);

/// The offset at which a line (from 1) starts; the end of the text where there are fewer.
std::size_t offset_of_line(std::string_view text, std::uint32_t line);

/// A line for a person's eyes: at most `width` characters around a column (from 1, in characters), control characters and broken UTF-8 replaced by '?'.
/// `column` moves with what was cut on the left.
std::string excerpt(std::string_view line, std::uint32_t& column, std::size_t width = 160);

}  // namespace promwarden::policy
