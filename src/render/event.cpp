// An event as one line.

#include <fmt/format.h>

#include "promwarden/render.hpp"

namespace promwarden::render {

namespace {

Colour colour_of(Event::Kind kind) {
    switch (kind) {
        case Event::Kind::drift:
            return Colour::red;
        case Event::Kind::heal:
        case Event::Kind::rotation:
            return Colour::green;
        case Event::Kind::undo:
            return Colour::yellow;
        case Event::Kind::policy:
        case Event::Kind::apply:
            break;
    }
    return Colour::cyan;
}

std::string actor_text(const Actor& actor) {
    std::string text = fmt::format("by {}", actor.comm.empty() ? "a process" : printable(actor.comm));
    if (actor.pid != 0) text += fmt::format(" pid {}", actor.pid);
    if (!actor.exe.empty()) text += fmt::format(" ({})", printable(actor.exe));
    if (actor.loginuid) text += fmt::format(" of login uid {}", *actor.loginuid);
    return text;
}

std::string gap_text(std::chrono::microseconds gap) {
    if (gap.count() < 10'000) return fmt::format("gap {} us", gap.count());
    if (gap.count() < 10'000'000) return fmt::format("gap {} ms", gap.count() / 1000);
    return fmt::format("gap {}", format_duration(std::chrono::floor<std::chrono::seconds>(gap)));
}

}  // namespace

std::string text(const Event& event, bool colour) {
    std::string line = paint(format_time(event.time, true), Colour::dim, colour) + "  " +
                       paint(fmt::format("{:<8}", to_text(event.kind)), colour_of(event.kind), colour);
    if (!event.control.empty()) line += "  " + printable(event.control);
    if (!event.subject.empty()) line += "  " + printable(event.subject);
    if (!event.expected.empty()) line += "; expected " + printable(event.expected);
    if (!event.observed.empty()) line += "; observed " + printable(event.observed);
    if (event.by) line += "; " + actor_text(*event.by);
    if (event.gap) line += "; " + gap_text(*event.gap);
    return line + '\n';
}

}  // namespace promwarden::render
