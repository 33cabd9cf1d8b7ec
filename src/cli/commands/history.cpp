// history — past transitions, one line each.

#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "output.hpp"

namespace promwarden::cli {

Outcome history(const Options& options) {
    auto agent = TRY(Agent::require(options));
    Json parameters = Json::object();
    if (options.since) parameters["since"] = format_time(std::chrono::system_clock::now() - *options.since);
    if (!options.control.empty()) parameters["control"] = options.control;
    std::string text;
    std::optional<Failure> problem;
    const auto ended = agent.stream("History", parameters, [&](const Json& part) {
        if (!part.contains("events") || !part["events"].is_array()) problem = Failure(Exit::undetermined, "the agent's answer has no events");
        else
            for (const auto& json : part["events"]) {
                const auto event = read_event(json);
                if (!event) problem = Failure(event.error());
                else text += options.format == render::Format::json ? render::json(*event) : render::text(*event, in_colour(options));
            }
        return !problem;
    });
    if (problem) return std::unexpected(*std::move(problem));
    if (!ended) return std::unexpected(failure_of("History", ended.error()));
    TRY(write_result(options, text));
    return Exit::holds;
}

}  // namespace promwarden::cli
