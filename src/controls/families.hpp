// The functions that decide controls, one per row of the catalogue that has one. Pure: values in, a value out.
#pragma once

#include "promwarden/controls.hpp"

namespace promwarden {

// network.cpp
Decision decide_packet_filter(const Policy& policy, const Facts& facts);
Decision decide_container_path(const Policy& policy, const Facts& facts);
Decision decide_bypass(const Policy& policy, const Facts& facts);

// listening.cpp, exposure.cpp
Decision decide_listen_address(const Policy& policy, const Facts& facts);
Decision decide_published_ports(const Policy& policy, const Facts& facts);
Decision decide_companion_ports(const Policy& policy, const Facts& facts);

// api.cpp
Decision decide_admin(const Policy& policy, const Facts& facts);
Decision decide_lifecycle(const Policy& policy, const Facts& facts);
Decision decide_receivers(const Policy& policy, const Facts& facts);
Decision decide_cors(const Policy& policy, const Facts& facts);
Decision decide_query_limits(const Policy& policy, const Facts& facts);

// service.cpp, data.cpp: what processes and units say. Where files have a word in the same control, `combined` joins both.
Decision startable_flags(const Policy& policy, const Facts& facts);
Decision drift_of_servers(const Policy& policy, const Facts& facts);
Decision docker_socket_of_servers(const Policy& policy, const Facts& facts);
Decision retention_of_flags(const Policy& policy, const Facts& facts);
Decision decide_service_sandbox(const Policy& policy, const Facts& facts);

// process_secrets.cpp, version.cpp
Decision decide_process_secrets(const Policy& policy, const Facts& facts);
Decision decide_vulnerable(const Policy& policy, const Facts& facts);

// access.cpp
Decision decide_local_users(const Policy& policy, const Facts& facts);

/// The decision of a control whose facts are missing.
Decision unknown(const Error& error);
Decision not_applicable(std::string reason);
/// Two halves of one control: it fails where either does, is unknown where either is, and applies where either does.
Decision combined(Decision one, Decision other);

/// Compares what our live table does at one hook with what the policy means: the chains there, the chains they lead to, and the sets they look into. Without a
/// hook, the whole table. `passed` is the reason given when nothing differs.
Decision compare_ruleset(const Policy& policy, const Facts& facts, std::optional<Hook::Point> hook, std::string passed);

}  // namespace promwarden
