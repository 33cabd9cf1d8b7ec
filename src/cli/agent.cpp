#include "agent.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace promwarden::cli {

namespace {

std::string full_name(std::string_view method) { return fmt::format("io.promwarden.{}", method); }

/// Several lines, each made printable.
std::string printable_lines(std::string_view text) {
    std::string result;
    for (;;) {
        const auto end = text.find('\n');
        result += render::printable(text.substr(0, end));
        if (end == std::string_view::npos) return result;
        result += '\n';
        text.remove_prefix(end + 1);
    }
}

}  // namespace

Failure failure_of(std::string_view method, const varlink::CallError& error) {
    const auto exit = exit_of_call(method, error.error, error.name);
    const auto parameters = parse_json(error.parameters);
    if (parameters && parameters->is_object() && parameters->contains("text") && (*parameters)["text"].is_string())
        return {exit, printable_lines((*parameters)["text"].get<std::string>())};
    if (exit == Exit::denied) return {exit, "only root can do that"};
    return {exit, fmt::format("the agent: {}", render::printable(error.error.text()))};
}

Or<std::optional<Agent>> Agent::find(const Options& options) {
    auto client = varlink::Client::connect(options.socket);
    if (client) return Agent(*std::move(client));
    if (client.error().code == Code::missing) return std::nullopt;
    auto text = client.error().text();
    if (client.error().code == Code::denied) text += " (the agent answers root and members of the group promwarden)";
    return failure(exit_of(client.error()), std::move(text));
}

Or<Agent> Agent::require(const Options& options) {
    auto agent = TRY(find(options));
    if (agent) return *std::move(agent);
    return failure(Exit::no_agent, fmt::format("no agent answers at {}", options.socket));
}

Or<Json> Agent::call(std::string_view method, const Json& parameters, std::chrono::seconds timeout) {
    auto answer = client_.call(full_name(method), parameters, timeout);
    if (answer) return *std::move(answer);
    return std::unexpected(failure_of(method, answer.error()));
}

namespace {

/// The list of controls in an answer: of its report, or of the report in its status. Null where there is none.
Json* controls_in(Json& answer) {
    auto* at = &answer;
    for (const auto* name : {"status", "report", "controls"}) {
        const auto found = at->is_object() ? at->find(name) : at->end();
        if (found != at->end()) at = &*found;
    }
    return at->is_array() ? at : nullptr;
}

}  // namespace

Or<Json> Agent::call_in_parts(std::string_view method, const Json& parameters, std::chrono::seconds timeout) {
    constexpr std::size_t most_parts = 64;
    Json whole;
    std::size_t parts = 0;
    const auto take = [&](const Json& reply) {
        if (parts++ == 0) {
            whole = reply;
            return true;
        }
        Json part = reply;
        auto* all = controls_in(whole);
        auto* more = controls_in(part);
        if (all != nullptr && more != nullptr)
            for (auto& control : *more) all->push_back(std::move(control));
        return parts < most_parts;
    };
    if (const auto ended = client_.stream(full_name(method), parameters, take, nullptr, timeout); !ended) return std::unexpected(failure_of(method, ended.error()));
    return whole;
}

std::expected<void, varlink::CallError> Agent::stream(std::string_view method, const Json& parameters, const std::function<bool(const Json&)>& each,
                                                      const sigset_t* waiting) {
    return client_.stream(full_name(method), parameters, each, waiting);
}

Or<Json> member(const Json& answer, const char* name) {
    if (answer.is_object() && answer.contains(name) && answer[name].is_object()) return answer[name];
    return failure(Exit::undetermined, fmt::format("the agent's answer has no {}", name));
}

Or<Plan> plan_in(const Or<Json>& answer) {
    if (!answer) return std::unexpected(answer.error());
    const auto plan = TRY(member(*answer, "plan"));
    return TRY(read_plan(plan));
}

Or<Report> report_in(const Or<Json>& answer) {
    if (!answer) return std::unexpected(answer.error());
    const auto report = TRY(member(*answer, "report"));
    return TRY(read_report(report));
}

}  // namespace promwarden::cli
