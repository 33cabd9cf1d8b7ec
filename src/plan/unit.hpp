// The drop-ins that give Prometheus' unit the policy's flags and confine it.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

/// Their file names, below the unit's directory in /etc/systemd/system.
std::span<const std::string_view> unit_files();

/// Adds what the report's controls ask of the unit. Where no service manager runs, or Prometheus is not the unit's, it adds nothing: the controls' findings say what to do.
void plan_unit(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan);

}  // namespace promwarden
