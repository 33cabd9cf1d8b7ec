/// deployment — the controls that a Compose file or a systemd unit decides about the Prometheus that it starts. Part of the room controls. Pure; no secret is ever quoted.
#pragma once

#include "promwarden/lint.hpp"

namespace promwarden {

/// nullopt: the text is not of that kind. Variables count by their defaults; what has none is filled in later, and `unknown`.
std::optional<std::vector<FileDecision>> judge_compose(const std::string& path, std::string_view text, const LintOptions& options);
std::optional<std::vector<FileDecision>> judge_unit(const std::string& path, std::string_view text, const LintOptions& options);

}  // namespace promwarden
