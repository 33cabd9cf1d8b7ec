// plan — what stands between the policy on disk and the host. Root looks for itself; a member of the agent's group asks the agent.

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

/// `audited` gets the controls whose changes an apply only prints.
Or<Plan> plan_here(const Options& options, bool agent_runs, std::set<std::string>& audited) {
    const auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_look(options));
    auto facts = engine.observe_for_apply(candidate.policy, options.only, true);
    if (agent_runs) facts.links_watched = true;  // as the agent, who would apply this, follows them
    if (!facts.firewall) return std::unexpected(Failure(facts.firewall.error()));
    if (!facts.links) return std::unexpected(Failure(facts.links.error()));
    auto plan = Engine::plan(candidate.policy, facts, options.only, true);
    std::erase_if(plan.changes, [&](const Change& change) { return candidate.policy.mode_of(change.control) == Mode::off; });
    for (const auto& change : plan.changes)
        if (candidate.policy.mode_of(change.control) == Mode::audit) audited.insert(change.control);
    return plan;
}

}  // namespace

Outcome plan(const Options& options) {
    auto agent = Agent::find(options);
    const bool agent_runs = agent && *agent;
    std::set<std::string> audited;
    auto plan = is_root() || !agent_runs || options.policy_given ? TRY(plan_here(options, agent_runs, audited))
                                                                 : TRY(plan_in((*agent)->call("Plan", Json::object())));
    if (!options.only.empty())
        std::erase_if(plan.changes, [&](const Change& change) { return std::ranges::find(options.only, change.control) == options.only.end(); });
    auto notes = audited.empty() ? "" : fmt::format("In mode audit, so an apply leaves this as it is: {}\n", fmt::join(audited, ", "));
    const auto kept = [&](const Change& change) { return change.on_request && !options.edit_config; };
    if (std::ranges::any_of(plan.changes, kept)) notes += "What is written into prometheus.yml, 'promwarden apply --edit-config' writes, or 'patch -p1 -d /' with the lines above.\n";
    TRY(show(options, plan, notes));
    std::erase_if(plan.changes, [&](const Change& change) { return audited.contains(change.control) || kept(change); });
    return exit_of(plan, options.fail_on);
}

}  // namespace promwarden::cli
