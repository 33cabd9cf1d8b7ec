// Edits of what people write: web.yml, and on request prometheus.yml.
#pragma once

#include "promwarden/apply.hpp"
#include "promwarden/plan.hpp"

namespace promwarden {

/// The controls whose findings such an edit can put right; with those of prometheus.yml, or without.
std::span<const std::string_view> controls_by_edit(bool on_request);

/// Adds what the report's failing controls ask for in the files of the policy's server, and the listing of a rule file that the plan has. Pure.
void plan_edits(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan);

}  // namespace promwarden
