/// unit — the reader of systemd's unit files and environment files as text. Part of the room prometheus.
///
/// What systemd would make of them: continuation lines, quoting, resets by an empty assignment, drop-ins over the fragment, $NAME and ${NAME} in a command line.
/// For hosts without a running systemd, for mounted images, and to say in which file and line something is written; and a command line written so that systemd reads
/// the same words again. Pure; environment files are read by the caller.
/// Not done: specifiers other than those of the unit's own name, generators, templates' default instances.
#pragma once

#include <map>
#include <span>

#include "promwarden/flags.hpp"

namespace promwarden::unit {

/// One line "Key=value" of a unit file, continuation lines joined.
struct Assignment {
    std::string section, key, value;
    std::string file;
    std::uint32_t line = 0;
};
/// Limits: 1 MiB of text, 10,000 assignments; what is beyond is left out.
std::vector<Assignment> read_assignments(const std::string& file, std::string_view text);

/// The last assignment of that key, resets considered; null: none.
const Assignment* find(std::span<const Assignment> assignments, std::string_view section, std::string_view key);

/// The unit that a fragment and its drop-ins make, in the order given. A template's instance is taken from its name.
Unit merge(const std::string& name, std::span<const Assignment> assignments);

/// Fills `written`: where each key of [Service] was set last.
void locate(Unit& unit, std::span<const Assignment> assignments);

/// Words as systemd splits them: white space, '…' and "…", backslash escapes. Nullopt where a quote is not closed.
std::optional<std::vector<std::string>> split_words(std::string_view text);

struct Variable {
    std::string value, file;  // the file that sets it, "" for the unit itself
};
using Environment = std::map<std::string, Variable>;
/// Adds what an environment file sets. Limit: 1 MiB.
void read_environment(Environment& environment, const std::string& file, std::string_view text);
/// Adds "NAME=value" as Environment= has them.
void add_environment(Environment& environment, std::span<const std::string> assignments, const std::string& file);

/// The command line that the unit would run: variables put in as systemd does ($NAME alone is split into words, ${NAME} is put into the word), program first.
/// `file` is where the command itself is written.
std::vector<prometheus::Argument> command_line(std::span<const std::string> words, const Environment& environment, const std::string& file);

/// One word as it has to stand in ExecStart= for systemd to read it as it is: quotes, escapes, specifiers and variables are none.
std::string quoted(std::string_view word);

/// A unit as its files make it without some of its drop-ins: those that this product writes.
struct Bare {
    Unit unit;
    Result<CommandLine> line;                  // what it would run
    std::string fixed;                         // why its command line cannot be written anew: "ExecStart has a specifier, %h"; "" where it can
    std::string directory;                     // where the drop-ins left out are, or would be
    std::map<std::string, std::string> ours;   // those that are there: file name → text
    std::string account;                       // as whom the service could run where the unit names nobody: who owns its database; "" for nobody
    bool web_config = false;                   // the web.yml that the policy names is there
};

}  // namespace promwarden::unit
