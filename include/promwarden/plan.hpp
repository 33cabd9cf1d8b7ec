/// plan — what an apply would do, as a value.
///
/// A Plan is made by comparing what should be with what is; it is what a dry run prints and what an apply carries out, so that there is no second path. Pure.
#pragma once

#include "promwarden/base.hpp"

namespace promwarden {

/// One thing that an apply would change.
struct Change {
    enum class Kind : std::uint8_t { firewall, file, unit, web, rules, site } kind = Kind::firewall;
    std::string control;  // the control that asks for it: "network.packet-filter"
    std::string subject;  // "table inet promwarden", "/etc/prometheus/web.yml"
    std::string summary;  // one line for a person
    std::string diff;     // lines that begin with "+", "-" or a space; may be many
    bool operator==(const Change&) const = default;
};

struct Plan {
    std::vector<Change> changes;
    std::vector<std::string> cuts;  // live connections that would end: "203.0.113.5:51234 -> 10.0.0.1:9090"

    [[nodiscard]] bool empty() const { return changes.empty(); }
    bool operator==(const Plan&) const = default;
};

std::string_view to_text(Change::Kind kind);
Json to_json(const Plan& plan);  // schema promwarden.plan/1
/// From to_json's value, as the agent sends it.
Result<Plan> read_plan(const Json& json);

}  // namespace promwarden
