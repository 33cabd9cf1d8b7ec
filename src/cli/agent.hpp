// The agent, as the command sees it through the socket.
#pragma once

#include "command.hpp"
#include "promwarden/varlink.hpp"

namespace promwarden::cli {

class Agent {
public:
    /// nullopt: nobody answers at that socket. A socket that may not be opened is Exit::denied.
    static Or<std::optional<Agent>> find(const Options& options);
    /// As find, for what only the agent can do.
    static Or<Agent> require(const Options& options);

    /// `method` without the interface: "Status".
    Or<Json> call(std::string_view method, const Json& parameters, std::chrono::seconds timeout = std::chrono::seconds(30));
    /// The same for an answer with a report, which may be longer than one message.
    Or<Json> call_in_parts(std::string_view method, const Json& parameters, std::chrono::seconds timeout = std::chrono::seconds(30));
    std::expected<void, varlink::CallError> stream(std::string_view method, const Json& parameters, const std::function<bool(const Json&)>& each,
                                                   const sigset_t* waiting = nullptr);

private:
    explicit Agent(varlink::Client client) : client_(std::move(client)) {}
    varlink::Client client_;
};

/// What an error of the agent means for the command: its own words, made printable.
Failure failure_of(std::string_view method, const varlink::CallError& error);

/// A member of an answer; an answer without it is not one.
Or<Json> member(const Json& answer, const char* name);
/// The plan, the report, in an answer that came.
Or<Plan> plan_in(const Or<Json>& answer);
Or<Report> report_in(const Or<Json>& answer);

}  // namespace promwarden::cli
