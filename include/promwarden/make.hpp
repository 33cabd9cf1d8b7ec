/// make — carries changes out, and takes them back. Part of the plan room.
///
/// Owns the journal of what is under way and of what an undo puts back (state directory, journal/). Promises: what a deed does is durable in the journal before it
/// is done, so that a kill at any point leaves something that the next run finishes or takes back; a deed is done only where what is there is what it expects; no
/// name is followed that somebody else than root could have replaced, but to take permission bits from what is that somebody's own. Blocks for as long as services
/// take: for an event loop, run it in a child.
#pragma once

#include <functional>

#include "promwarden/plan.hpp"
#include "promwarden/policy.hpp"
#include "promwarden/state.hpp"

namespace promwarden {

// ---- one deed -------------------------------------------------------------------------------------------------------

/// Where names begin: another process' root, where our own mounts may hide or lock parts of the host.
struct Ground {
    std::string root = "/";
    /// Judges a file before it gets its name; told its temporary path and the name it is to have. None: nobody does.
    std::function<Result<>(Judge, const std::string& temporary, const std::string& name)> judge = {};
};
/// Does it where what is there is what the deed expects: true. Where it is done already: false. Code::stale: something else is there. Code::untrusted: somebody
/// else could have put something in its place.
Result<bool> perform(const Ground& ground, const Change& change);

// ---- the journal ----------------------------------------------------------------------------------------------------

class Journal {
public:
    /// Begins one for a policy (its sha256). Code::conflict where one is open: `unfinished` comes first.
    static Result<Journal> begin(const State& state, std::string policy);
    /// What a run left open that ended before its end; nullopt: nothing.
    static Result<std::optional<Journal>> unfinished(const State& state);

    /// From here on, this may have been done.
    Result<> intend(const Change& change);
    [[nodiscard]] const std::vector<Change>& changes() const { return changes_; }
    [[nodiscard]] const std::string& policy() const { return policy_; }

    /// It is what an undo of the policy accepted last puts back; or of the trial. What that had before stays before.
    Result<> keep(const State& state) const;
    Result<> keep_for_trial(const State& state) const;
    /// A repair: what an undo puts back stays what was there before the first of ours. Texts that it does not know of yet are added to what it goes through.
    Result<> keep_repair(const State& state) const;
    /// It was all taken back, or need not be.
    Result<> drop() const;

private:
    Journal(std::string path, std::string policy) : path_(std::move(path)), policy_(std::move(policy)) {}
    std::string path_, policy_;
    std::vector<Change> changes_;
};

/// What an undo puts back, oldest first: what the trial changed, where there is one, else the policy accepted last; with `all`, what every one did.
Result<std::vector<Change>> changes_to_undo(const State& state, bool all);
/// The trial was confirmed: what it changed is what an undo of the policy accepted last puts back.
Result<> keep_changes_of_trial(const State& state);

// ---- all of it ------------------------------------------------------------------------------------------------------

/// What is asked of others, as functions, so that a test can answer.
struct Services {
    Ground ground;
    /// Called before changes with such an effect are made: how a service is now is what it is compared with afterwards. None: nothing is.
    std::function<Result<>(Effect)> look_before = {};
    /// Has the services take up what was changed, and proves that they did and are well. Told the changes that ask for it.
    std::function<Result<>(Effect, std::span<const Change>)> take_up = {};
};

/// Carries changes out in their order. What each asks of a service is done after the last of those that ask for the same in a row. On an error, everything that the
/// journal names is as it was before, or the error says what is not.
Result<> make(std::span<const Change> changes, Journal& journal, const Services& services);
/// Takes changes back, the last one first. What somebody else changed since is left alone and named in the error; the others are taken back all the same.
Result<> take_back(std::span<const Change> changes, const Services& services);

/// Begins a journal, makes the changes and leaves the journal open for whoever accepts them; on an error it is dropped, all of it taken back.
Result<> do_work(const State& state, const std::string& policy, std::span<const Change> changes, const Services& services);
/// Puts back what an undo puts back, and forgets it.
Result<> undo_changes(const State& state, const Services& services, bool all);
/// What an earlier run left that ended before its end is kept where its policy was accepted, else taken back; so is what a trial changed that is over. True where there
/// was something.
Result<bool> recover_changes(const State& state, const Services& services);

}  // namespace promwarden
