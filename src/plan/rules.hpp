// The rule file that the policy's alerts are in.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

Result<RuleFile> read_rule_file();
/// Adds it where a control over alerts fails, and where it is there and says something else.
void plan_rules(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan);

}  // namespace promwarden
