// What the text renderers share: lines that fit.
#pragma once

#include "promwarden/render.hpp"

namespace promwarden::render {

/// A paragraph of words broken into lines of at most `width` columns, each after `indent` spaces.
std::string paragraph(std::string_view words, std::size_t indent, std::size_t width = 96);

}  // namespace promwarden::render
