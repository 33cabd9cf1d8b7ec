// What happens to packets from one source to guarded ports: the answer of `why`, as a value and as text. Pure.
#pragma once

#include "foreign.hpp"

namespace promwarden::cli {

/// To one port, or to a range whose ports are all treated alike.
struct Passage {
    std::string service;  // "" where the policy guards no such port
    PortRange ports;
    Protocol protocol = Protocol::tcp;
    firewall::Trace trace;
    std::string group;           // whose network admitted it
    std::optional<Where> where;  // the policy's line that says so
    std::vector<std::string> local_users;  // over loopback, where not everybody is admitted: who is
    std::vector<ForeignDrop> foreign;

    [[nodiscard]] bool passes() const;
};

struct Passages {
    Address source;
    bool loopback = false;
    std::string policy_path;        // "" where no policy is known
    bool in_force = false;          // that policy was applied, it is not just on disk
    bool table = false, dormant = false;
    std::uint64_t differences = 0;  // places in which the live table is not the policy's
    std::vector<Passage> ports;

    [[nodiscard]] bool pass() const;  // all of them
};

/// "guard_office_ip4_24" → "office".
std::string_view group_of_set(std::string_view set);

std::string text(const Passages& passages, bool colour);
std::string json(const Passages& passages);  // promwarden.why/1

}  // namespace promwarden::cli
