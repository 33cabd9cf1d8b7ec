// What a policy means for the table, and for the connections that live.
#pragma once

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "promwarden/plan.hpp"

namespace promwarden {

inline constexpr std::string_view filter_control = "network.packet-filter";

std::vector<PortRange> guarded_ports(const Policy& policy);
/// Whether the ruleset would still let a live connection's packets in.
bool survives(const Ruleset& ruleset, const Connection& connection);
std::string to_text(const Connection& connection);
/// What the policy wants the table to be; null: that there is none.
Result<std::optional<Ruleset>> wanted_ruleset(const Policy& policy, const Facts& facts);
/// Adds what differs, and the connections that would be cut. Pure.
void plan_filter(const Policy& policy, const Facts& facts, Plan& plan);

}  // namespace promwarden
