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
    Json certificates;  // what was done of what was due; null: nothing was
};

/// What the rotation does, after all else.
bool of_certificates(const Change& change) { return change.control == rotation_control || change.control == "tls.client-auth"; }

/// A site that cannot be yet: its summary says why.
bool waits(const Change& change) { return change.kind == Change::Kind::site && change.diff.empty(); }

/// What an apply is asked for once more after certificates were made: the control of a site that waited for its own.
std::optional<std::string> second_wish(const Applied& applied) {
    const auto waiting = std::ranges::find_if(applied.plan.changes, waits);
    return waiting == applied.plan.changes.end() || applied.certificates.is_null() ? std::nullopt : std::optional(waiting->control);
}

void take_in(Applied& applied, Plan second) {
    std::erase_if(applied.plan.changes, waits);
    std::ranges::move(second.changes, std::back_inserter(applied.plan.changes));
}

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
    Json parameters{{"force", options.force}};
    if (options.edit_config) parameters["edit_config"] = true;
    if (options.confirm_within) parameters["confirm_within"] = options.confirm_within->count();
    if (!options.only.empty()) parameters["only"] = options.only;
    const auto answer = TRY(agent.call_in_parts("Apply", parameters, agent_time));
    Applied applied{TRY(plan_in(answer)), TRY(report_in(answer)), {}};
    if (rotates(options, applied.plan, mode_in(applied.report, rotation_control))) {
        applied.certificates = TRY(agent.call("Rotate", Json{{"due", true}}, longest_rotation));
        if (const auto wish = second_wish(applied)) take_in(applied, TRY(plan_in(agent.call_in_parts("Apply", Json{{"force", options.force}, {"only", {*wish}}}, agent_time))));
        applied.report = TRY(report_in(agent.call_in_parts("Report", Json::object())));
    }
    if (!options.only.empty())
        std::erase_if(applied.report.controls, [&](const ControlReport& one) { return std::ranges::find(options.only, one.control->id) == options.only.end(); });
    return applied;
}

/// Certificates are recorded when they are done.
void record_changes(const Engine& engine, const Policy& policy, const Plan& plan) {
    for (const auto& change : plan.changes)
        if (!of_certificates(change) && !waits(change) && policy.mode_of(change.control) == Mode::enforce)
            record(engine, Event::Kind::apply, change.subject, fmt::format("policy {} {}", policy.path, policy.sha256.substr(0, 12)), change.summary, change.control);
}

Or<Applied> apply_here(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_act(options));
    ApplyRequest request;
    request.force = options.force;
    request.edit_config = options.edit_config;
    request.confirm_within = options.confirm_within;
    request.only = options.only;
    request.caller = ::getpid();
    auto plan = engine.apply(candidate, request);
    if (!plan) return failure(exit_of_apply(plan.error()), plan.error().text());
    Applied applied{*std::move(plan), {}, {}};
    record_changes(engine, candidate.policy, applied.plan);
    if (options.confirm_within) TRY(leave_waiter(options));
    if (rotates(options, applied.plan, candidate.policy.mode_of(rotation_control))) applied.certificates = TRY(rotate_due(options, candidate.policy, engine));
    if (const auto wish = second_wish(applied)) {
        request.only = {*wish};
        auto second = engine.apply(candidate, request);
        if (!second) return failure(exit_of_apply(second.error()), second.error().text());
        record_changes(engine, candidate.policy, *second);
        take_in(applied, *std::move(second));
    }
    applied.report = evaluate(candidate.policy, engine.observe(candidate.policy, options.only), options.only);
    return applied;
}

/// What was done, in a few lines, and what was only said; `plan` has the rest.
std::string summary_of(const Applied& applied, bool colour) {
    const auto rotated = account_of(applied.certificates);
    std::string text = applied.plan.empty() && rotated.empty() ? "Nothing had to change.\n" : "";
    Plan left;
    for (const auto& change : applied.plan.changes) {
        if (mode_in(applied.report, change.control) != Mode::enforce) left.changes.push_back(change);
        else if (waits(change)) text += fmt::format("Waiting {}: {}\n", render::printable(change.subject), render::printable(change.summary));
        else if (!of_certificates(change)) text += fmt::format("Changed {}: {}\n", render::printable(change.subject), render::printable(change.summary));
    }
    for (const auto& cut : text.empty() ? std::vector<std::string>{} : applied.plan.cuts) text += fmt::format("Cut     {}\n", render::printable(cut));
    for (const auto& refusal : applied.plan.refusals) text += fmt::format("Left    {}\n", render::printable(refusal));
    text += rotated;
    return left.empty() ? text : text + "In mode audit, so left as it is:\n\n" + render::text(left, colour);
}

}  // namespace

Outcome apply(const Options& options) {
    TRY(require_root("apply"));
    auto agent = TRY(Agent::find(options));
    const auto applied = agent ? TRY(apply_by_agent(*std::move(agent), options)) : TRY(apply_here(options));
    const bool changed = std::ranges::any_of(applied.plan.changes, [&](const Change& change) { return mode_in(applied.report, change.control) == Mode::enforce; });
    if (options.confirm_within && changed) note(fmt::format("what was there before returns in {} unless you say: promwarden confirm", format_duration(*options.confirm_within)));
    return show(options, applied.report, summary_of(applied, in_colour(options)));
}

}  // namespace promwarden::cli
