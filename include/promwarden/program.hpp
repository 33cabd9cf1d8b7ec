/// program — programs that are not ours, and the service manager: run, reload, restart, with a bounded time and a bounded answer.
///
/// Promises: a program is run only where nobody but root could have replaced it; it gets nothing of ours but three descriptors, a clean environment and limits; a
/// hung one is ended with its children. Blocks until it is done: for an event loop, run it in a child.
#pragma once

#include "promwarden/base.hpp"

namespace promwarden::program {

/// As another user where `user` says so.
struct Program {
    std::vector<std::string> words;
    std::string input;
    std::string user;  // "": as we are; in a unit: one that is made up
    std::vector<std::string> environment;
    std::string directory = "/";
    std::string keeps;  // in a unit without a user: the name of a directory of its own, below /var/lib/promwarden-issuer
    std::chrono::seconds time{30};
    std::size_t most = 1 << 20;  // bytes of its output
    /// As root, with the capabilities by which a server that is only tested opens its logs and ports.
    bool privileged = false;
    std::vector<std::string> empty;     // directories that are its own while it runs, and empty at its beginning. Where nobody may mount, they stay what they are
    std::vector<std::string> writable;  // in a unit: where it may write besides
};
struct Ended {
    int status = 0;
    std::string output, errors;
};
/// What it said, for an error: its last 400 bytes, without what a terminal would obey.
std::string said(const Ended& ended);

/// In a child of ours.
Result<Ended> run(const Program& program);
/// In a transient unit of the service manager. Code::unsupported where there is none.
Result<Ended> run_in_unit(const Program& program, const std::string& name);
/// In a unit where a service manager runs this machine, else in a child.
Result<Ended> run_somewhere(const Program& program, const std::string& unit);

// ---- the service manager --------------------------------------------------------------------------------------------

/// Whether systemd runs this machine.
bool manager_runs();
/// Both wait until the job is done. Code::unsupported where no manager answers, and where the unit has no way to reload.
Result<> reload_unit(const std::string& unit);
Result<> restart_unit(const std::string& unit);
/// Has it read its unit files again, over its own socket: that works before and without D-Bus.
Result<> reload_units();

}  // namespace promwarden::program
