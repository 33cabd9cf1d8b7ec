// plan — what stands between the policy on disk and the host. Root looks for itself; a member of the agent's group asks the agent.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

Or<Plan> plan_here(const Options& options, bool agent_runs, std::string& remark) {
    const auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_look(options));
    auto facts = engine.observe_for_apply(candidate.policy);
    if (agent_runs) facts.links_watched = true;  // as the agent, who would apply this, follows them
    if (!facts.firewall) return std::unexpected(Failure(facts.firewall.error()));
    if (!facts.links) return std::unexpected(Failure(facts.links.error()));
    const auto mode = candidate.policy.mode_of(filter_control);
    auto plan = Engine::plan(candidate.policy, facts);
    std::erase_if(plan.changes, [&](const Change& change) { return candidate.policy.mode_of(change.control) == Mode::off; });
    if (mode == Mode::audit && !plan.empty()) remark = fmt::format("{} is in mode audit: apply leaves this as it is\n", filter_control);
    return plan;
}

}  // namespace

Outcome plan(const Options& options) {
    auto agent = Agent::find(options);
    const bool agent_runs = agent && *agent;
    std::string remark;
    auto plan = is_root() || !agent_runs || options.policy_given ? TRY(plan_here(options, agent_runs, remark))
                                                                 : TRY(plan_in((*agent)->call("Plan", Json::object())));
    if (!options.only.empty())
        std::erase_if(plan.changes, [&](const Change& change) { return std::ranges::find(options.only, change.control) == options.only.end(); });
    TRY(show(options, plan, remark));
    return exit_of(plan, options.fail_on);
}

}  // namespace promwarden::cli
