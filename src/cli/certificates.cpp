#include "certificates.hpp"

#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace promwarden::cli {

std::string text_at(const Json& json, const char* name) {
    const auto found = json.is_object() ? json.find(name) : json.end();
    return json.is_object() && found != json.end() && found->is_string() ? render::printable(found->get<std::string>()) : std::string();
}

const Json& member_at(const Json& json, const char* name) {
    static const Json nothing;
    return json.is_object() && json.contains(name) ? json[name] : nothing;
}

std::string sentence(const Json& outcome) {
    const auto action = text_at(outcome, "action"), note = text_at(outcome, "note");
    const auto& after = member_at(outcome, "after");
    const auto& served = member_at(outcome, "served");
    auto text = action == "none" ? text_at(outcome, "name")
                                 : fmt::format("{}: {}, serial {}, expires {}", text_at(outcome, "name"), action, text_at(after, "serial"),
                                               text_at(after, "not_after"));
    if (served.is_boolean()) text += served.get<bool>() ? ", seen served" : ", not seen served";
    return text + (note.empty() ? "\n" : fmt::format(": {}\n", note));
}

std::string account_of(const Json& answer) {
    std::string text;
    for (const auto& one : member_at(answer, "rotations")) text += sentence(one);
    for (const auto& one : member_at(answer, "notes"))
        if (one.is_string()) text += render::printable(one.get<std::string>()) + "\n";
    return text;
}

rotation::World world_for(const Options& options, const Policy& policy) {
    const auto socket = options.policy_given ? std::string() : fmt::format("{}/probe", options.socket.substr(0, options.socket.rfind('/')));
    return world_of({socket, std::filesystem::absolute(options.policy).string(), {}}, policy.prometheus, true);
}

Or<Json> rotate_due(const Options& options, const Policy& policy, const Engine& engine) {
    auto rotator = TRY(rotation::Rotator::open(rotation::places_of(policy, options.state), world_for(options, policy), policy));
    Json rotations = Json::array();
    for (const auto& one : rotator.recovered()) rotations.push_back(rotation::to_json(one));
    for (const auto& one : rotator.rotate_due()) rotations.push_back(rotation::to_json(one));
    for (const auto& one : rotations)
        record(engine, Event::Kind::rotation, "certificate " + text_at(one, "name"), "renewed in time", sentence(one));
    return Json{{"rotations", std::move(rotations)}, {"notes", rotator.notes()}};
}

}  // namespace promwarden::cli
