#pragma once

#include <span>

#include "promwarden/policy.hpp"

namespace promwarden::policy {

std::span<const std::string_view> control_ids();

}  // namespace promwarden::policy
