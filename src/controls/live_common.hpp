// What the files of live parts share.
#pragma once

#include <expected>
#include <functional>

#include "families.hpp"
#include "promwarden/firewall.hpp"
#include "live.hpp"

namespace promwarden {

using Endpoints = std::vector<std::reference_wrapper<const live::Endpoint>>;

/// Answers to go by: those of sockets that belong to whom they should. Or the decision where there are none: nobody was asked, or nobody listens, or somebody else
/// does, which fails.
struct LiveEvidence {
    const live::Facts& facts;
    Endpoints endpoints;
};
std::expected<LiveEvidence, Decision> live_evidence(const Facts& facts, const std::function<bool(const live::Endpoint&)>& concerned);

/// Where the running flags are not known: a part does not apply then. Says why the policy's user did not help.
Decision nobody_let_in(const live::Facts& facts);

/// Whether the live ruleset keeps every local user that the policy does not name from this endpoint.
bool closed_to_others(const Policy& policy, const Facts& facts, const live::Endpoint& endpoint);
/// Whether the answer is anything but a refusal: a status that only what is behind the authentication gives.
bool let_in(const live::Endpoint& endpoint, const live::Answer& answer);
const live::Answer* find_answer(const live::Endpoint& endpoint, live::Asker asker, std::string_view method, std::string_view path);
Finding live_finding(std::string subject, std::string expected, std::string observed, std::string remedy, bool automatic = false, std::string about = {});

}  // namespace promwarden
