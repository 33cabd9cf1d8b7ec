#include "passage.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "promwarden/render.hpp"

namespace promwarden::cli {

namespace {

using render::paint;
using render::printable;

std::string row(std::string_view name, std::string_view value) { return fmt::format("  {:<7} {}\n", name, printable(value)); }

std::string_view protocol_name(Protocol protocol) { return protocol == Protocol::tcp ? "tcp" : "udp"; }

std::string ports_text(PortRange ports) { return ports.first == ports.last ? fmt::format("{}", ports.first) : fmt::format("{}-{}", ports.first, ports.last); }

const ForeignDrop* certain_drop(const Passage& passage) {
    const auto found = std::ranges::find_if(passage.foreign, &ForeignDrop::certain);
    return found == passage.foreign.end() ? nullptr : &*found;
}

std::string_view outcome(const Passage& passage) {
    if (!passage.trace.passes) return passage.trace.rejected ? "rejected" : "dropped";
    return certain_drop(passage) == nullptr ? "passes" : "dropped by another table";
}

std::string where_text(const Where& where) { return where.line == 0 ? where.file : fmt::format("{}:{}:{}", where.file, where.line, where.column); }

std::string policy_row(const Passage& passage) {
    if (!passage.where) return "";
    const auto reason = !passage.group.empty()          ? fmt::format("group {}", passage.group)
                        : passage.local_users.empty()   ? fmt::format("no group that service {} allows has this source", passage.service)
                                                        : fmt::format("local_users of service {}", passage.service);
    return row("policy", fmt::format("{} ({})", where_text(*passage.where), reason));
}

std::string rules_of(const Passage& passage) {
    std::string text;
    for (const auto& step : passage.trace.steps)
        text += row(text.empty() ? "rule" : "", fmt::format("{}: {}{}{}", step.chain, step.rule, step.note.empty() ? "" : "   # ", step.note));
    return text;
}

std::string text_of(const Passages& all, const Passage& passage, bool colour) {
    const auto colour_of = passage.passes() ? render::Colour::green : render::Colour::red;
    auto text = fmt::format("{} to port {}/{}{}: {}\n", all.loopback ? "Over loopback" : to_text(all.source), ports_text(passage.ports), protocol_name(passage.protocol),
                            passage.service.empty() ? "" : fmt::format(" (service {})", printable(passage.service)), paint(outcome(passage), colour_of, colour));
    if (all.table && !all.loopback && !passage.trace.guarded) text += row("", "no rule of the live table looks at this port");
    if (all.loopback && passage.local_users.empty()) text += row("", "every user of this host may: no local_users are in the way");
    if (!passage.local_users.empty()) text += row("users", fmt::format("{} may, everybody else is refused", fmt::join(passage.local_users, ", ")));
    if (!passage.trace.hook.empty()) text += row("hook", passage.trace.hook);
    text += rules_of(passage);
    if (passage.trace.network) text += row("set", fmt::format("{} has {}", passage.trace.set, to_text(*passage.trace.network)));
    else if (passage.trace.guarded && !passage.trace.passes) text += row("set", "none of those above has this source");
    text += policy_row(passage);
    for (const auto& drop : passage.foreign)
        text += row("beside", fmt::format("{} {} it{}", drop.chain, drop.certain ? "drops" : "may drop", drop.before ? ", before promwarden's rules see it" : ""));
    return text;
}

Json json_of(const Passage& passage) {
    Json json{{"service", passage.service},
              {"ports", ports_text(passage.ports)},
              {"protocol", protocol_name(passage.protocol)},
              {"passes", passage.passes()},
              {"outcome", outcome(passage)},
              {"hook", passage.trace.hook},
              {"rules", Json::array()}};
    for (const auto& step : passage.trace.steps) json["rules"].push_back({{"chain", step.chain}, {"rule", step.rule}, {"note", step.note}});
    json["set"] = passage.trace.network ? Json{{"name", passage.trace.set}, {"network", to_text(*passage.trace.network)}} : Json();
    json["policy"] = passage.where ? Json{{"file", passage.where->file}, {"line", passage.where->line}, {"column", passage.where->column}, {"group", passage.group}} : Json();
    json["local_users"] = passage.local_users;
    json["other_tables"] = Json::array();
    for (const auto& drop : passage.foreign) json["other_tables"].push_back({{"chain", drop.chain}, {"drops", drop.certain ? "yes" : "maybe"}, {"before", drop.before}});
    return json;
}

/// What must be known before the answers are believed.
std::string warnings(const Passages& all) {
    std::string text;
    if (!all.table) text += "There is no table inet promwarden: nothing is guarded.\n";
    else if (all.dormant) text += "The table inet promwarden is dormant: nothing is guarded.\n";
    if (all.policy_path.empty()) text += "No policy is known: what should be there cannot be said.\n";
    else if (!all.in_force) text += fmt::format("No policy was applied yet; ports and lines are those of {}.\n", printable(all.policy_path));
    else if (all.differences > 0)
        text += fmt::format("The live table is not the policy's: it differs in {} place{}. What follows is what is live.\n", all.differences, all.differences == 1 ? "" : "s");
    return text;
}

}  // namespace

bool Passage::passes() const { return trace.passes && certain_drop(*this) == nullptr; }

bool Passages::pass() const { return std::ranges::all_of(ports, &Passage::passes); }

std::string_view group_of_set(std::string_view set) {
    constexpr std::string_view prefix = "guard_";
    if (!set.starts_with(prefix)) return {};
    set.remove_prefix(prefix.size());
    for (int part = 0; part < 2; ++part) {
        const auto end = set.rfind('_');
        if (end == std::string_view::npos) return {};
        set = set.substr(0, end);
    }
    return set;
}

std::string text(const Passages& passages, bool colour) {
    auto text = warnings(passages);
    for (const auto& passage : passages.ports) text += (text.empty() ? "" : "\n") + text_of(passages, passage, colour);
    return text;
}

std::string json(const Passages& passages) {
    Json json{{"schema", "promwarden.why/1"},
              {"source", to_text(passages.source)},
              {"loopback", passages.loopback},
              {"table", !passages.table ? "absent" : passages.dormant ? "dormant" : "live"},
              {"policy", {{"path", passages.policy_path}, {"in_force", passages.in_force}, {"differences", passages.differences}}},
              {"ports", Json::array()}};
    for (const auto& passage : passages.ports) json["ports"].push_back(json_of(passage));
    return render::pretty(json);
}

}  // namespace promwarden::cli
