/// render — the product's values in the forms that people and other programs read. One file per format. Pure: a value in, text out, always with a newline at its end.
///
/// Whatever was observed on the host may have been chosen by an enemy: text never carries a control character to the terminal, and every other format escapes by
/// its own rules. Whether there is a terminal, and whether it may be coloured, is the caller's to decide.
#pragma once

#include "promwarden/controls.hpp"
#include "promwarden/event.hpp"
#include "promwarden/plan.hpp"

namespace promwarden::render {

enum class Format : std::uint8_t { text, json, sarif, junit, openmetrics };
std::optional<Format> parse_format(std::string_view word);

std::string report(const Report& report, Format format, bool colour = false);

std::string text(const Report& report, bool colour = false);  // failures first
std::string lint_text(const Report& report, std::size_t files, bool colour = false);  // file by file, from top to bottom, each place once
std::string json(const Report& report);                       // promwarden.report/1
std::string sarif(const Report& report);  // SARIF 2.1.0: failures as results, waived ones suppressed, what is unknown as a notification
std::string junit(const Report& report);  // a failing control is a failure, an unknown one an error, a waived or inapplicable one skipped
std::string openmetrics(const Report& report);  // OpenMetrics 1.0

std::string text(const Plan& plan, bool colour = false);
std::string json(const Plan& plan);

std::string text(const Event& event, bool colour = false);  // one line
std::string json(const Event& event);                       // one line

std::string text(const Control& control, bool colour = false);  // explain CONTROL
std::string json(const Control& control);
std::string text(std::span<const Control> catalogue, bool colour = false);  // explain: one line each
std::string json(std::span<const Control> catalogue);

/// The text with everything made visible that a terminal would act on or hide: control characters, marks that change the direction of writing, and bytes that are
/// not UTF-8. One line.
std::string printable(std::string_view text);

// ---- what other texts for people are made of

enum class Colour : std::uint8_t { red, yellow, green, cyan, bold, dim };

/// The words in a colour, or as they are.
std::string paint(std::string_view words, Colour colour, bool wanted);

/// "prometheus.yml:7:5 (scrape_configs[0].bearer_token)", as far as it is known.
std::string place(const Location& location);

/// A paragraph of words broken into lines of at most `width` columns, each after `indent` spaces.
std::string paragraph(std::string_view words, std::size_t indent, std::size_t width = 96);

/// JSON over several lines, in ASCII: safe on a terminal.
std::string pretty(const Json& json);

}  // namespace promwarden::render
