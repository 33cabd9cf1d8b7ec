/// agent — the product's line in a loop.
///
/// Owns the process: one thread on sd-event, the socket, the watch over the table, the files and the links. Whatever happens, it does the same: observe, compare,
/// act on the difference, record. Promises: the last accepted policy is in force before anything else is attempted; a policy file that changes is announced, not
/// obeyed; rules stay in place when the agent ends, however it ends.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

struct AgentOptions {
    std::string policy = "/etc/promwarden/policy.toml";
    std::string state = "/var/lib/promwarden";
    std::string socket = "/run/promwarden/io.promwarden";
};

/// Runs until SIGTERM or SIGINT. The error is what kept it from starting.
Result<> run_agent(const AgentOptions& options);

/// How long to wait before undoing another change of somebody who keeps making them: the first ten at once, then 10 ms, doubled each time up to a second, so that the
/// table is never open for longer than that; forgotten after a quiet minute.
class Backoff {
public:
    using Clock = std::chrono::steady_clock;
    /// Counts one more and says how long it has to wait.
    std::chrono::milliseconds next(Clock::time_point now);
    /// Whether somebody is at it.
    [[nodiscard]] bool contested() const { return count_ > free_; }

private:
    static constexpr unsigned free_ = 10;
    unsigned count_ = 0;
    Clock::time_point last_{};
};

}  // namespace promwarden
