// undo — back to the policy before, or to none.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

Or<Plan> undo_here(const Options& options) {
    auto engine = TRY(open_to_act(options));
    auto plan = engine.undo(options.all);
    if (!plan && plan.error().code == Code::missing) return failure(Exit::usage, plan.error().text());
    if (!plan) return std::unexpected(Failure(plan.error()));
    for (const auto& change : plan->changes)
        record(engine, Event::Kind::undo, change.subject, options.all ? "what was there before the first apply" : "what was there before the last apply", change.summary, change.control);
    return *std::move(plan);
}

}  // namespace

Outcome undo(const Options& options) {
    TRY(require_root("undo"));
    auto agent = TRY(Agent::find(options));
    const auto plan = agent ? TRY(plan_in(agent->call("Undo", Json{{"all", options.all}}, std::chrono::minutes(10)))) : TRY(undo_here(options));
    if (options.format == render::Format::json) {
        TRY(show(options, plan));
        return Exit::holds;
    }
    std::string text = plan.empty() ? "Nothing had to change.\n" : "";
    for (const auto& change : plan.changes) text += fmt::format("Undone {}: {}\n", render::printable(change.subject), render::printable(change.summary));
    TRY(write_result(options, text));
    return Exit::holds;
}

}  // namespace promwarden::cli
