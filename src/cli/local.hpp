// The product's line run by the command itself: for looking always, for acting where no agent runs.
#pragma once

#include "command.hpp"
#include "promwarden/apply.hpp"

namespace promwarden::cli {

inline constexpr std::string_view filter_control = "network.packet-filter";
inline constexpr std::string_view guarded_table = "table inet promwarden";

bool is_root();
/// Code of "only root can do that", unless it is root who asks.
Or<> require_root(std::string_view what);

/// The policy at that path, or everything that is wrong with it, each with its line: whoever runs this command could read the file.
Or<Candidate> load_policy(const std::string& path);

/// For looking: makes nothing. For root it first ends a trial whose time is over.
Or<Engine> open_to_look(const Options& options);
/// For acting: makes the state directory, ends a trial whose time is over.
Or<Engine> open_to_act(const Options& options);

/// Appends to the history what this process did. That it could not is worth a note, not a failure: the deed is done.
void record(const Engine& engine, Event::Kind kind, std::string subject, std::string expected, std::string observed, std::string control = std::string(filter_control));

/// Ends a trial whose time is over, and records that.
Or<bool> settle(Engine& engine);

/// Leaves a process behind that ends the trial when its time is over, if nobody did before.
Or<> leave_waiter(const Options& options);

}  // namespace promwarden::cli
