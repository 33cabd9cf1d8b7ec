// Plans as JSON (promwarden.plan/1), and back.

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "promwarden/plan.hpp"

namespace promwarden {

namespace {

constexpr std::string_view schema = "promwarden.plan/1";
constexpr std::array<std::string_view, 6> kinds{"firewall", "file", "unit", "web", "rules", "site"};

std::unexpected<Error> unreadable(std::string detail) { return fail(Code::invalid, "read plan", "", std::move(detail)); }

Result<std::string> text_at(const Json& object, const char* key) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_string())
        return unreadable("\"" + std::string(key) + "\" is missing or no text");
    return object[key].get<std::string>();
}

Result<Change> read_change(const Json& json) {
    Change change;
    const auto kind = TRY(text_at(json, "kind"));
    const auto found = std::ranges::find(kinds, kind);
    if (found == kinds.end()) return unreadable("unknown kind of change \"" + kind + "\"");
    change.kind = static_cast<Change::Kind>(found - kinds.begin());
    change.control = TRY(text_at(json, "control"));
    change.subject = TRY(text_at(json, "subject"));
    change.summary = TRY(text_at(json, "summary"));
    change.diff = TRY(text_at(json, "diff"));
    change.on_request = json.contains("on_request") && json["on_request"].is_boolean() && json["on_request"].get<bool>();
    return change;
}

}  // namespace

std::string_view to_text(Change::Kind kind) { return kinds[static_cast<std::size_t>(kind)]; }

Json to_json(const Plan& plan) {
    Json json{{"schema", schema}, {"changes", Json::array()}, {"cuts", Json::array()}};
    for (const auto& change : plan.changes) {
        json["changes"].push_back({{"control", change.control},
                                   {"kind", to_text(change.kind)},
                                   {"subject", change.subject},
                                   {"summary", change.summary},
                                   {"diff", change.diff}});
        if (change.on_request) json["changes"].back()["on_request"] = true;
    }
    for (const auto& cut : plan.cuts) json["cuts"].push_back(cut);
    for (const auto& refusal : plan.refusals) json["refusals"].push_back(refusal);
    return json;
}

Result<Plan> read_plan(const Json& json) {
    if (TRY(text_at(json, "schema")) != schema) return unreadable("the schema is not " + std::string(schema));
    Plan plan;
    for (const auto* key : {"changes", "cuts"})
        if (!json.contains(key) || !json[key].is_array()) return unreadable("\"" + std::string(key) + "\" is missing or no list");
    for (const auto& change : json["changes"]) plan.changes.push_back(TRY(read_change(change)));
    for (const auto& cut : json["cuts"]) {
        if (!cut.is_string()) return unreadable("a cut connection is no text");
        plan.cuts.push_back(cut.get<std::string>());
    }
    if (json.contains("refusals"))
        for (const auto& refusal : json["refusals"])
            if (refusal.is_string()) plan.refusals.push_back(refusal.get<std::string>());
    return plan;
}

}  // namespace promwarden
