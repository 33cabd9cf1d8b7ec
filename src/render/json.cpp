// Everything as JSON: reports, plans and the catalogue over several lines, events in one.

#include <nlohmann/json.hpp>

#include "promwarden/render.hpp"

namespace promwarden::render {

std::string pretty(const Json& json) { return json.dump(2, ' ', true, Json::error_handler_t::replace) + '\n'; }

std::string json(const Report& report) { return pretty(to_json(report)); }
std::string json(const Plan& plan) { return pretty(to_json(plan)); }
std::string json(const Event& event) { return to_json(event).dump(-1, ' ', true, Json::error_handler_t::replace) + '\n'; }
std::string json(const Control& control) { return pretty(to_json(control)); }

std::string json(std::span<const Control> catalogue) {
    auto list = Json::array();
    for (const auto& control : catalogue) list.push_back(to_json(control));
    return pretty(list);
}

}  // namespace promwarden::render
