// watch — transitions as they happen, a line each, until interrupted.

#include <csignal>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "output.hpp"

namespace promwarden::cli {

namespace {

volatile std::sig_atomic_t interrupted = 0;
void on_signal(int) { interrupted = 1; }

/// Blocks the signals that end a watch, except while it waits; then they cannot be missed.
sigset_t signals_while_waiting() {
    sigset_t ending, before;
    ::sigemptyset(&ending);
    struct sigaction action {};
    action.sa_handler = on_signal;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        ::sigaddset(&ending, signal);
        ::sigaction(signal, &action, nullptr);
    }
    ::sigprocmask(SIG_BLOCK, &ending, &before);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigdelset(&before, signal);
    return before;
}

std::string line_of(const Json& reply, const Options& options) {
    const bool json = options.format == render::Format::json;
    if (reply.is_object() && reply.contains("dropped") && reply["dropped"].is_number_unsigned())
        return json ? json_text(reply) + "\n" : fmt::format("({} transitions came too fast and were left out; 'promwarden history' has them)\n", reply["dropped"].get<std::uint64_t>());
    const auto* value = reply.is_object() && reply.contains("event") ? &reply["event"] : &reply;
    const auto event = read_event(*value);
    if (!event) return {};
    return json ? render::json(*event) : render::text(*event, in_colour(options));
}

}  // namespace

Outcome watch(const Options& options) {
    auto agent = TRY(Agent::require(options));
    const auto waiting = signals_while_waiting();
    Or<> written;
    const auto ended = agent.stream("Watch", Json::object(), [&](const Json& reply) {
        const auto line = line_of(reply, options);
        if (line.empty()) note("the agent sent something that is no event");
        else written = write_line(line);
        return written.has_value() && interrupted == 0;
    }, &waiting);
    TRY(std::move(written));
    if (interrupted != 0) return Exit::holds;
    if (!ended && !ended.error().name.empty()) return std::unexpected(failure_of("Watch", ended.error()));
    return failure(Exit::no_agent, "the agent has ended");
}

}  // namespace promwarden::cli
