/// state — what promwarden must remember across a restart, on disk. Part of the plan room.
///
/// Owns its directory (0750 root). Promises: each step is one rename, so that a reader after a crash finds the state before it or after it; whoever changes
/// anything holds the lock. A file that does not read back as it was written is an error, never an empty value.
#pragma once

#include "promwarden/event.hpp"
#include "promwarden/policy.hpp"

namespace promwarden {

/// A policy with all it was made from: enough to make it again, on a host where neither its files nor its users can be asked.
struct Candidate {
    Sources sources;
    RecordedAccounts accounts;
    Policy policy;
};

/// Reads and checks the policy at a path.
std::expected<Candidate, Diagnostics> load_candidate(const std::string& path, const Candidate* previous = nullptr, ParsedLists* lists = nullptr);

/// A policy that returns to the one before unless somebody confirms it in time. The deadline holds for one boot: after another, nobody can have confirmed.
struct Trial {
    Candidate candidate;
    std::string boot;                     // a mark that no restart of the machine survives
    std::chrono::nanoseconds deadline{};  // of CLOCK_BOOTTIME, which no one can set back
};
/// Time left, zero or less when it is over.
std::chrono::nanoseconds remaining(const Trial& trial);

class State {
public:
    /// Makes the directory where it is missing. Code::untrusted where somebody else could write it.
    static Result<State> open(std::string directory);
    /// For reading only: a directory that does not exist holds nothing.
    static State at(std::string directory) { return State(std::move(directory)); }

    [[nodiscard]] const std::string& directory() const { return directory_; }
    /// Whether it is the host's own. State elsewhere is that of a second instance (a laboratory, a test), which leaves the host's units alone.
    [[nodiscard]] bool usual() const { return directory_ == "/var/lib/promwarden"; }

    /// Excludes other writers until the descriptor is closed; waits up to ten seconds (Code::conflict).
    Result<Fd> lock() const;

    /// The policy in force. nullopt: none was ever accepted, or all were undone.
    Result<std::optional<Candidate>> accepted() const;
    /// Which policy that is, counted from the first that was ever accepted. 0: none.
    Result<unsigned> accepted_number() const;
    /// The ports that the last accepted policy guards, kept apart from it: what is left to protect when the policy is lost. Empty: nothing was accepted.
    Result<std::vector<std::uint16_t>> guarded_ports() const;

    /// Makes it the policy in force; the one before can be returned to (16 are kept). Accepting the same again changes nothing.
    Result<> accept(const Candidate& candidate) const;
    /// Steps back to the policy accepted before, and says which that is.
    Result<std::optional<Candidate>> retract() const;
    /// Back to the beginning.
    Result<> forget() const;

    Result<std::optional<Trial>> trial() const;
    Result<> begin_trial(const Candidate& candidate, std::chrono::seconds within) const;
    Result<> end_trial() const;

    /// Appends a line to the history, which keeps between one and two megabytes.
    Result<> record(const Event& event) const;
    /// Past events, oldest first. Lines that do not read are passed over: half of one is what a power cut leaves.
    Result<std::vector<Event>> history(std::optional<std::chrono::system_clock::time_point> since, std::string_view control, std::size_t most = 10'000) const;

private:
    explicit State(std::string directory) : directory_(std::move(directory)) {}
    [[nodiscard]] std::string path(std::string_view name) const { return directory_ + "/" + std::string(name); }
    Result<std::vector<std::string>> earlier() const;

    std::string directory_;
};

}  // namespace promwarden
