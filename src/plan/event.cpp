// Events as JSON (promwarden.event/1), and back.

#include <algorithm>
#include <array>
#include <limits>

#include <nlohmann/json.hpp>

#include "promwarden/event.hpp"

namespace promwarden {

namespace {

constexpr std::string_view schema = "promwarden.event/1";
constexpr std::array<std::string_view, 6> kinds{"drift", "heal", "rotation", "policy", "apply", "undo"};

std::unexpected<Error> unreadable(std::string detail) { return fail(Code::invalid, "read event", "", std::move(detail)); }

Result<std::string> text_at(const Json& object, const char* key) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_string())
        return unreadable("\"" + std::string(key) + "\" is missing or no text");
    return object[key].get<std::string>();
}

template <class Number>
Result<Number> number_at(const Json& object, const char* key) {
    const auto found = object.find(key);
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<Number>::max());
    const bool whole =
        found != object.end() && (found->is_number_unsigned() || (found->is_number_integer() && found->get<std::int64_t>() >= 0));
    if (!whole || found->get<std::uint64_t>() > most) return unreadable("\"" + std::string(key) + "\" is missing or no number in range");
    return found->get<Number>();
}

Result<Actor> read_actor(const Json& json) {
    Actor actor;
    actor.comm = TRY(text_at(json, "comm"));
    actor.pid = TRY(number_at<pid_t>(json, "pid"));
    actor.exe = TRY(text_at(json, "exe"));
    if (json.contains("loginuid")) actor.loginuid = TRY(number_at<uid_t>(json, "loginuid"));
    return actor;
}

}  // namespace

std::string_view to_text(Event::Kind kind) { return kinds[static_cast<std::size_t>(kind)]; }

Json to_json(const Event& event) {
    Json json{{"schema", schema},
              {"time", format_time(event.time, true)},
              {"kind", to_text(event.kind)},
              {"control", event.control},
              {"subject", event.subject},
              {"expected", event.expected},
              {"observed", event.observed}};
    if (event.by) {
        json["by"] = {{"comm", event.by->comm}, {"pid", event.by->pid}, {"exe", event.by->exe}};
        if (event.by->loginuid) json["by"]["loginuid"] = *event.by->loginuid;
    }
    if (event.gap) json["gap_us"] = event.gap->count();
    return json;
}

Result<Event> read_event(const Json& json) {
    if (TRY(text_at(json, "schema")) != schema) return unreadable("the schema is not " + std::string(schema));
    Event event;
    const auto kind = TRY(text_at(json, "kind"));
    const auto found = std::ranges::find(kinds, kind);
    if (found == kinds.end()) return unreadable("unknown kind of event \"" + kind + "\"");
    event.kind = static_cast<Event::Kind>(found - kinds.begin());
    const auto time = TRY(text_at(json, "time"));
    event.time = TRY(parse_time(time));
    event.control = TRY(text_at(json, "control"));
    event.subject = TRY(text_at(json, "subject"));
    event.expected = TRY(text_at(json, "expected"));
    event.observed = TRY(text_at(json, "observed"));
    if (json.contains("by")) event.by = TRY(read_actor(json["by"]));
    if (json.contains("gap_us")) event.gap = std::chrono::microseconds(TRY(number_at<std::int64_t>(json, "gap_us")));
    return event;
}

}  // namespace promwarden
