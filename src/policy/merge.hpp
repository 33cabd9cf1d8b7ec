#pragma once

#include "notes.hpp"

namespace promwarden::policy {

/// The main file and its drop-ins as one tree. Tables of the same name become one, arrays of tables are joined, any other key that is set twice is an error that
/// names both places. nullopt where a file is not TOML: what the others lack might be in it.
std::optional<Value> merged(const Sources& sources, Notes& notes);

}  // namespace promwarden::policy
