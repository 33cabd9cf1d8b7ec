/// deployment — the controls that a Compose file or a systemd unit decides about the Prometheus that it starts. Part of the room controls. Pure; no secret is ever quoted.
#pragma once

#include "promwarden/lint.hpp"

namespace promwarden {

/// nullopt: the text is not of that kind. Variables count by what `.env` or their defaults say; what neither fills is filled in later, and `unknown`.
/// `beside`: the files that compose_neighbours names, as far as they are there; they are not judged by themselves.
std::optional<std::vector<FileDecision>> judge_compose(const InputFile& file, std::span<const InputFile> beside,
                                                       const LintOptions& options);
std::optional<std::vector<FileDecision>> judge_unit(const InputFile& file, const LintOptions& options);

/// Paths of the files in the same directory that have a word in what a Compose file says: ".env", what it extends, what it overrides. Empty for any other file.
std::vector<std::string> compose_neighbours(const InputFile& file);

/// As `lint` of lint.hpp, with the texts of the neighbours of all files.
Report lint(std::span<const InputFile> files, std::span<const InputFile> beside, const LintOptions& options,
            std::chrono::system_clock::time_point now);

}  // namespace promwarden
