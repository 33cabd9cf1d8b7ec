// The catalogue and one control of it, explained.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

Colour colour_of(Severity severity) {
    return severity == Severity::critical ? Colour::red : severity == Severity::high ? Colour::yellow : Colour::cyan;
}

std::string section(std::string_view name, std::string_view words, bool colour) {
    return fmt::format("\n{}\n{}", paint(name, Colour::bold, colour), paragraph(words, 2));
}

}  // namespace

std::string text(const Control& control, bool colour) {
    std::string text = fmt::format("{}  {}\n{}\n", paint(control.id, Colour::bold, colour),
                                   paint(to_text(control.severity), colour_of(control.severity), colour), control.title);
    if (control.decide == nullptr) text += "This version does not decide it yet.\n";
    text += section("Why", control.rationale, colour);
    text += section("Verified by", control.verified_by, colour);
    text += section("Enforced by", control.enforced_by, colour);
    return text + section("References", control.references, colour);
}

std::string text(std::span<const Control> catalogue, bool colour) {
    std::size_t width = 0;
    for (const auto& control : catalogue) width = std::max(width, control.id.size());
    std::string text;
    for (const auto& control : catalogue)
        text += fmt::format("{} {:<{}}  {}  {}\n", control.decide == nullptr ? ' ' : '*', control.id, width,
                            paint(fmt::format("{:<8}", to_text(control.severity)), colour_of(control.severity), colour), control.title);
    return text + "\n* decided by this version\n";
}

}  // namespace promwarden::render
