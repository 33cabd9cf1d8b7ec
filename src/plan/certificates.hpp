// Internal to the plan room.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

/// Adds what is due of the policy's certificates, and what a change of the local authority left to do.
void plan_certificates(const Policy& policy, const Facts& facts, Plan& plan);

}  // namespace promwarden
