/// flags — Prometheus' command line as Prometheus reads it: which flags a version has, what kingpin makes of the arguments, and why it would not start with them.
/// Part of the room prometheus.
///
/// Pure: @files are read by a function of the caller's. Nothing that was not a known flag is ever quoted but its name: an argument may be a secret, and an @file
/// may be any file.
#pragma once

#include <functional>

#include "promwarden/prometheus.hpp"
#include "promwarden/server.hpp"

namespace promwarden::prometheus {

enum class FlagType : std::uint8_t { boolean, text, duration, size, number, level, format };

struct FlagRule {
    std::string_view name;
    FlagType type = FlagType::text;
    std::string_view preset = {};         // its default; "" for none
    Version since = 0;                    // 0: before 2.42
    Version until = 0;                    // the first version that no longer knows it; 0: still there
    Version repeatable = 0;               // since when; 0: never
    enum class Use : std::uint8_t { both, server, agent } use = Use::both;
    std::string_view debian_preset = {};  // where Debian's package has another default
    enum class Made : std::uint8_t { anywhere, debian, elsewhere } made = Made::anywhere;  // Debian's package renames some
};
constexpr Version newest_version = 314;   // what came later is not in the table

/// Which Prometheus reads the command line. What is not known is judged by all versions and packages together.
struct Build {
    std::optional<Version> version;
    std::optional<bool> debian;
};
Build build_of(const Server& server);

std::span<const FlagRule> flag_rules();
/// Null: that build has no such flag.
const FlagRule* find_flag(std::string_view name, const Build& build = {});

/// "2.42.0+ds-5" is 242; nullopt where it does not begin with two numbers.
std::optional<Version> version_of(std::string_view text);

/// One argument, and the file in which it is written, "" where that is nowhere.
struct Argument {
    std::string text, file;
};

/// The text of an arguments file, by the path that stands behind the "@".
using ReadArguments = std::function<Result<std::string>(const std::string& path)>;

/// The arguments behind the program's name, as kingpin reads them. `problems` begins with the error that Prometheus itself would print; after it the reader goes on,
/// so that `flags` holds all that was meant. An @file that cannot be read is in `unread`, and a problem too where it does not exist. Limits: 4,096 arguments,
/// 32 files, 16 deep, 1 MiB.
CommandLine read_command_line(std::string program, std::span<const Argument> arguments, const Build& build, const ReadArguments& read);

/// Whether a value is one that the flag takes; else the text of Prometheus' error.
std::optional<std::string> value_problem(const FlagRule& rule, std::string_view value);

/// Prometheus' durations ("1d12h", "15d", "500ms", "0") and sizes ("512MB", of 1024): what retention is given in.
std::optional<std::chrono::milliseconds> parse_flag_duration(std::string_view text);
std::optional<std::uint64_t> parse_flag_size(std::string_view text);

/// What a flag of this server is: what was given, by the best witness, or the default of its version and package; "" where there is none.
std::string flag_value(const Server& server, std::string_view name);
/// The values of one that may be given several times.
std::vector<std::string> flag_values(const CommandLine& line, std::string_view name);
/// Whether a feature is in any --enable-feature of the line.
bool has_feature(const CommandLine& line, std::string_view feature);

}  // namespace promwarden::prometheus
