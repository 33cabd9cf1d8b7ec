// Certificates, as commands do them where no agent runs, and as people read what was done.
#pragma once

#include "command.hpp"
#include "local.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden::cli {

inline constexpr auto longest_rotation = std::chrono::minutes(15);
inline constexpr std::string_view rotation_control = "tls.rotation";

/// A text in an answer, fit for a terminal; "" where it is none.
std::string text_at(const Json& json, const char* name);
const Json& member_at(const Json& json, const char* name);
/// An outcome of rotation (rotation::to_json) as a line.
std::string sentence(const Json& outcome);
/// An answer of the agent's Rotate, or of rotate_due.
std::string account_of(const Json& answer);

/// This host, with a worker of the probe to look.
rotation::World world_for(const Options& options, const Policy& policy);
/// Everything that is due, and recorded in the history. The answer is like that of the agent's Rotate.
Or<Json> rotate_due(const Options& options, const Policy& policy, const Engine& engine);

}  // namespace promwarden::cli
