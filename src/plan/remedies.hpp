// From findings to changes. One file for each family of changes.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

/// The controls that an apply can do something about besides loading rules, among these (none named: all); with what it does on request only, or without.
std::vector<std::string> enforceable(std::span<const std::string> only, bool on_request);

/// Adds what the report's failing controls ask for. Pure.
void plan_remedies(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan);

}  // namespace promwarden
