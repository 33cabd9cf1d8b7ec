// apply — make it so, through the agent when one runs, else by the same line here; then look again.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent.hpp"
#include "certificates.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

constexpr auto agent_time = std::chrono::minutes(10);  // a million networks on a slow machine

struct Applied {
    Plan plan;
    Report report;
    Mode mode = Mode::enforce;
    bool asked_for = true;  // false: --only left the packet filter out
    Json certificates;      // what was done of what was due; null: nothing was
};

/// Whether these controls include one that the ruleset enforces.
bool asks_for_ruleset(std::span<const std::string> only) {
    return only.empty() || std::ranges::any_of(only, [](const std::string& id) { return find_control(id)->enforced_by.contains("ruleset"); });
}

bool of_certificates(const Change& change) { return change.control.starts_with("tls."); }

/// Certificates follow what is accepted: not what is on trial, and not where their control only looks.
bool rotates(const Options& options, const Plan& plan, Mode mode) {
    if (options.confirm_within || mode != Mode::enforce) return false;
    const bool named = options.only.empty() || std::ranges::find(options.only, rotation_control) != options.only.end();
    return named && (!options.only.empty() || std::ranges::any_of(plan.changes, of_certificates));
}

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

Mode mode_in(const Report& report, std::string_view control) {
    const auto found = std::ranges::find_if(report.controls, [&](const ControlReport& one) { return one.control->id == control; });
    return found == report.controls.end() ? Mode::enforce : found->mode;
}

Or<Applied> apply_by_agent(Agent agent, const Options& options) {
    TRY(same_policy(agent, options));
    Applied applied;
    applied.asked_for = asks_for_ruleset(options.only);
    if (applied.asked_for) {
        Json parameters{{"force", options.force}};
        if (options.confirm_within) parameters["confirm_within"] = options.confirm_within->count();
        const auto answer = TRY(agent.call_in_parts("Apply", parameters, agent_time));
        applied.plan = TRY(plan_in(answer));
        applied.report = TRY(report_in(answer));
    } else {
        applied.report = TRY(report_in(agent.call_in_parts("Report", Json::object())));
    }
    applied.mode = mode_in(applied.report, filter_control);
    if (rotates(options, applied.plan, mode_in(applied.report, rotation_control))) {
        applied.certificates = TRY(agent.call("Rotate", Json{{"due", true}}, longest_rotation));
        applied.report = TRY(report_in(agent.call_in_parts("Report", Json::object())));
    }
    if (!options.only.empty())
        std::erase_if(applied.report.controls, [&](const ControlReport& one) { return std::ranges::find(options.only, one.control->id) == options.only.end(); });
    return applied;
}

Or<Applied> apply_here(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_act(options));
    Applied applied;
    applied.mode = candidate.policy.mode_of(filter_control);
    applied.asked_for = asks_for_ruleset(options.only);
    if (applied.asked_for) {
        const ApplyRequest request{options.force, options.confirm_within, false, ::getpid()};
        auto plan = engine.apply(candidate, request);
        if (!plan) return failure(exit_of_apply(plan.error()), plan.error().text());
        applied.plan = *std::move(plan);
        const auto changed = std::ranges::find_if_not(applied.plan.changes, of_certificates);  // those are recorded when they are done
        if (applied.mode == Mode::enforce && changed != applied.plan.changes.end())
            record(engine, Event::Kind::apply, std::string(guarded_table), fmt::format("policy {} {}", candidate.policy.path, candidate.policy.sha256.substr(0, 12)), changed->summary);
        if (options.confirm_within && applied.mode == Mode::enforce) TRY(leave_waiter(options));
    }
    if (rotates(options, applied.plan, candidate.policy.mode_of(rotation_control))) applied.certificates = TRY(rotate_due(options, candidate.policy, engine));
    applied.report = evaluate(candidate.policy, engine.observe(candidate.policy, options.only), options.only);
    return applied;
}

/// What was done, in a few lines; `plan` has the rest.
std::string summary_of(const Applied& applied) {
    const auto rotated = account_of(applied.certificates);
    if (!applied.asked_for && applied.certificates.is_null()) return "Nothing was changed: the controls that --only names are enforced by nothing.\n";
    if (applied.plan.empty() && rotated.empty()) return "Nothing had to change.\n";
    if (applied.mode == Mode::off && rotated.empty()) return fmt::format("Nothing was changed: {} is off.\n", filter_control);
    std::string text;
    for (const auto& change : applied.plan.changes)
        if (!of_certificates(change) && applied.mode == Mode::enforce) text += fmt::format("Changed {}: {}\n", render::printable(change.subject), render::printable(change.summary));
    for (const auto& cut : applied.plan.cuts) text += fmt::format("Cut     {}\n", render::printable(cut));
    return text + rotated;
}

}  // namespace

Outcome apply(const Options& options) {
    TRY(require_root("apply"));
    auto agent = TRY(Agent::find(options));
    const auto applied = agent ? TRY(apply_by_agent(*std::move(agent), options)) : TRY(apply_here(options));
    const bool audit = applied.mode == Mode::audit && applied.asked_for && !applied.plan.empty();
    if (audit) note(fmt::format("{} is in mode audit: nothing was changed", filter_control));
    else if (options.confirm_within && applied.mode == Mode::enforce && applied.asked_for)
        note(fmt::format("what was there before returns in {} unless you say: promwarden confirm", format_duration(*options.confirm_within)));
    return show(options, applied.report, audit ? render::text(applied.plan, in_colour(options)) + account_of(applied.certificates) : summary_of(applied));
}

}  // namespace promwarden::cli
