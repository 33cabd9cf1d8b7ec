// Where a command's words go. Results to standard output or a file, everything else to standard error.
#pragma once

#include "command.hpp"

namespace promwarden::cli {

/// Whether what goes to this place may be coloured.
bool in_colour(const Options& options);

/// The result, at once and complete; a file is replaced in one step. A reader that went away is an error like a full disk.
Or<> write_result(const Options& options, std::string_view text);

/// One more line for whoever follows, at once.
Or<> write_line(std::string_view line);

/// A line to standard error, "promwarden: …".
void note(std::string_view text);

/// The report in the form that was asked for, after `before` where that is text for people.
Outcome show(const Options& options, const Report& report, std::string_view before = {});

/// The plan in the form that was asked for.
Or<> show(const Options& options, const Plan& plan, std::string_view after = {});

}  // namespace promwarden::cli
