/// rules — the alerting rules that a policy implies, as one file for Prometheus. Part of the room prometheus. Pure.
///
/// Each alert can fire: its metric exists, with the labels that it asks for. Three are those that hardening guides name, in a form that works; the others read what
/// the agent counts (promwarden-metrics).
#pragma once

#include "promwarden/policy.hpp"

namespace promwarden::prometheus {

/// Where the file is installed.
constexpr std::string_view rule_file = "/etc/prometheus/promwarden/rules.yml";

std::string render_rules(const Policy& policy);

}  // namespace promwarden::prometheus
