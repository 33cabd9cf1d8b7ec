// apply — make it so, through the agent when one runs, else by the same line here; then look again.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

constexpr auto agent_time = std::chrono::minutes(10);  // a million networks on a slow machine

struct Applied {
    Plan plan;
    Report report;
};

std::string absolute(const std::string& path) {
    const Handle<char, ::free> found{::realpath(path.c_str(), nullptr)};
    return found == nullptr ? path : found.get();
}

/// The agent has its own policy file; asking it to apply another is a mistake.
Or<> same_policy(Agent& agent, const Options& options) {
    if (!options.policy_given) return {};
    const auto answer = TRY(agent.call("Status", Json::object()));
    const auto status = TRY(member(answer, "status"));
    const auto agent_itself = TRY(member(status, "agent"));
    if (!agent_itself.contains("policy_file") || !agent_itself["policy_file"].is_string()) return failure(Exit::undetermined, "the agent does not say which policy it has");
    const auto path = agent_itself["policy_file"].get<std::string>();
    if (absolute(path) == absolute(options.policy)) return {};
    return failure(Exit::usage, fmt::format("the agent that answers at {} has another policy, {}", options.socket, render::printable(path)));
}

Or<Applied> apply_by_agent(Agent agent, const Options& options) {
    TRY(same_policy(agent, options));
    Json parameters{{"force", options.force}};
    if (options.confirm_within) parameters["confirm_within"] = options.confirm_within->count();
    if (!options.only.empty()) parameters["only"] = options.only;
    const auto answer = TRY(agent.call_in_parts("Apply", parameters, agent_time));
    Applied applied{TRY(plan_in(answer)), TRY(report_in(answer))};
    if (!options.only.empty())
        std::erase_if(applied.report.controls, [&](const ControlReport& one) { return std::ranges::find(options.only, one.control->id) == options.only.end(); });
    return applied;
}

Or<Applied> apply_here(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_act(options));
    ApplyRequest request;
    request.force = options.force;
    request.confirm_within = options.confirm_within;
    request.only = options.only;
    request.caller = ::getpid();
    auto plan = engine.apply(candidate, request);
    if (!plan) return failure(exit_of_apply(plan.error()), plan.error().text());
    Applied applied{*std::move(plan), {}};
    for (const auto& change : applied.plan.changes)
        if (candidate.policy.mode_of(change.control) == Mode::enforce)
            record(engine, Event::Kind::apply, change.subject, fmt::format("policy {} {}", candidate.policy.path, candidate.policy.sha256.substr(0, 12)), change.summary, change.control);
    if (options.confirm_within) TRY(leave_waiter(options));
    applied.report = evaluate(candidate.policy, engine.observe(candidate.policy, options.only), options.only);
    return applied;
}

Mode mode_in(const Report& report, const Change& change) {
    const auto found = std::ranges::find_if(report.controls, [&](const ControlReport& one) { return one.control->id == change.control; });
    return found == report.controls.end() ? Mode::enforce : found->mode;
}

/// What was done, in a few lines, and what was only said; `plan` has the rest.
std::string account_of(const Applied& applied, bool colour) {
    if (applied.plan.empty()) return "Nothing had to change.\n";
    std::string text;
    Plan left;
    for (const auto& change : applied.plan.changes) {
        if (mode_in(applied.report, change) == Mode::enforce) text += fmt::format("Changed {}: {}\n", render::printable(change.subject), render::printable(change.summary));
        else left.changes.push_back(change);
    }
    for (const auto& cut : text.empty() ? std::vector<std::string>{} : applied.plan.cuts) text += fmt::format("Cut     {}\n", render::printable(cut));
    if (left.empty()) return text;
    return text + "In mode audit, so left as it is:\n\n" + render::text(left, colour);
}

}  // namespace

Outcome apply(const Options& options) {
    TRY(require_root("apply"));
    auto agent = TRY(Agent::find(options));
    const auto applied = agent ? TRY(apply_by_agent(*std::move(agent), options)) : TRY(apply_here(options));
    const bool changed = std::ranges::any_of(applied.plan.changes, [&](const Change& change) { return mode_in(applied.report, change) == Mode::enforce; });
    if (options.confirm_within && changed) note(fmt::format("what was there before returns in {} unless you say: promwarden confirm", format_duration(*options.confirm_within)));
    return show(options, applied.report, account_of(applied, in_colour(options)));
}

}  // namespace promwarden::cli
