// The drop-in that lets the server start only behind the guard.
#pragma once

#include "promwarden/facts.hpp"
#include "promwarden/plan.hpp"
#include "promwarden/policy.hpp"

namespace promwarden {

using DropIns = std::map<std::string, std::string>;  // path → text

/// What a policy wants the service manager to read from a directory. A policy that guards nothing wants none. Pure.
DropIns wanted_start_guards(const Policy& policy, const std::string& directory);

/// What is there. nullopt where systemd does not run this machine.
Result<std::optional<StartGuards>> read_start_guards();

/// One change for each file that differs. Pure.
std::vector<Change> changes_between(const DropIns& from, const DropIns& to);

/// Writes and removes what differs, then has the service manager read its units again. True where something did.
Result<bool> write_start_guards(const DropIns& from, const DropIns& to);

}  // namespace promwarden
