// The functions that decide controls, one per row of the catalogue that has one. Pure: values in, a value out.
#pragma once

#include "promwarden/controls.hpp"

namespace promwarden {

// network.cpp
Decision decide_packet_filter(const Policy& policy, const Facts& facts);
Decision decide_container_path(const Policy& policy, const Facts& facts);
Decision decide_bypass(const Policy& policy, const Facts& facts);

// access.cpp
Decision decide_local_users(const Policy& policy, const Facts& facts);

// tls.cpp
Decision decide_tls_files(const Policy& policy, const Facts& facts);
Decision decide_tls_rotation(const Policy& policy, const Facts& facts);

/// The decision of a control whose facts are missing.
Decision unknown(const Error& error);
Decision not_applicable(std::string reason);

/// Compares what our live table does at one hook with what the policy means: the chains there, the chains they lead to, and the sets they look into. Without a
/// hook, the whole table. `passed` is the reason given when nothing differs.
Decision compare_ruleset(const Policy& policy, const Facts& facts, std::optional<Hook::Point> hook, std::string passed);

}  // namespace promwarden
