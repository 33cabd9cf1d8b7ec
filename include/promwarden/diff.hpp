/// diff — the difference of two texts. Part of the room base. Pure.
#pragma once

#include <functional>

#include "promwarden/base.hpp"

namespace promwarden {

/// Whether a line must not be shown.
using Hides = std::function<bool(std::string_view line)>;
/// The difference of two texts as `diff -u` writes it, with three lines of context and the path behind "a" and "b"; "" where there is none. What hides something is
/// no context, so that `patch -p1` takes the result all the same; where it is changed itself, only its place is shown.
std::string unified_diff(std::string_view before, std::string_view after, std::string_view path, const Hides& hides = {});

/// A run of lines that differ, in bytes.
struct Difference {
    std::size_t before_at = 0, before_length = 0, after_at = 0, after_length = 0;
};
std::vector<Difference> differences(std::string_view before, std::string_view after);

}  // namespace promwarden
