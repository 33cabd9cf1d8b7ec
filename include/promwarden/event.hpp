/// event — one transition: something on the host, or in what we ask of it, changed. Part of the plan room; the agent records them, `watch` and `history` show them.
#pragma once

#include "promwarden/base.hpp"

namespace promwarden {

/// Who made a change. Read when it was noticed: the process may have been gone by then, and its names are whatever it called itself.
struct Actor {
    std::string comm;
    pid_t pid = 0;                  // in the initial pid namespace, 0: not known
    std::string exe;                // "" where it could not be read
    std::optional<uid_t> loginuid;  // unset for services
    bool operator==(const Actor&) const = default;
};

struct Event {
    enum class Kind : std::uint8_t { drift, heal, rotation, policy, apply, undo } kind = Kind::drift;
    std::chrono::system_clock::time_point time;  // kept to the microsecond
    std::string control;                         // "" where it belongs to none
    std::string subject;
    std::string expected, observed;
    std::optional<Actor> by;
    std::optional<std::chrono::microseconds> gap;  // how long the host was not as the policy says
    bool operator==(const Event&) const = default;
};

std::string_view to_text(Event::Kind kind);
Json to_json(const Event& event);  // schema promwarden.event/1; what is not known is left out
Result<Event> read_event(const Json& json);

}  // namespace promwarden
