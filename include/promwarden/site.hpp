/// site — the controls that a reverse proxy's configuration decides. Part of the room controls: (configuration, policy) → decisions, by asking the configuration what it
/// does with requests, spelling by spelling and role by role, and not by matching its text. Pure.
///
/// Only what leads to Prometheus is judged: an upstream on one of the given addresses, on port 9090, or called prometheus. What a fragment leaves to the files around
/// it is `unknown`. No value of a header and no password is ever quoted.
#pragma once

#include "promwarden/lint.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden {

struct SiteOptions {
    const Policy* policy = nullptr;
    std::vector<std::string> backends;       // "127.0.0.1:9090": where Prometheus is known to listen
    std::optional<std::uint16_t> version;    // of the running Prometheus
    std::vector<std::string> only;           // control ids; empty: all
};

/// One decision for every control that a proxy's configuration has a part in, in the catalogue's order.
std::vector<FileDecision> judge_site(const nginx::Configuration& configuration, const SiteOptions& options = {});

/// Whether a text is about a route to Prometheus at all.
bool leads_to_prometheus(const nginx::Configuration& configuration, std::string_view authority, const SiteOptions& options = {});

/// A request as one who has a role would send it: for `why-request` and for the controls. The role "none" is a stranger.
nginx::Request request_of_role(const Policy* policy, std::string_view role);

}  // namespace promwarden
