// What the text renderers share: colours, and lines that fit.
#pragma once

#include "promwarden/render.hpp"

namespace promwarden::render {

enum class Colour : std::uint8_t { red, yellow, green, cyan, bold, dim };

/// The words in a colour, or as they are.
std::string paint(std::string_view words, Colour colour, bool wanted);

/// A paragraph of words broken into lines of at most `width` columns, each after `indent` spaces.
std::string paragraph(std::string_view words, std::size_t indent, std::size_t width = 96);

/// JSON over several lines, in ASCII: safe on a terminal.
std::string pretty(const Json& json);

}  // namespace promwarden::render
