// Relabelling rules that Prometheus refuses: an unknown action, a regular expression that does not compile, settings that an action needs or does not take.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

constexpr std::string_view actions[] = {"replace",  "keep",      "drop",      "keepequal", "dropequal", "hashmod",
                                        "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"};
/// Those of VictoriaMetrics, whose agent reads the same files.
constexpr std::string_view foreign_actions[] = {"keep_if_equal", "drop_if_equal", "keep_if_contains", "drop_if_contains", "keep_metrics",
                                                "drop_metrics",  "replace_all",   "labelmap_all",     "graphite"};

bool is_one_of(std::string_view name, std::span<const std::string_view> names) { return std::ranges::find(names, name) != names.end(); }

void needs(const Walk& walk, const Node& rule, const Path& path, std::string_view action, std::string_view key) {
    if (!given(rule, key))
        refuse(walk, walk.place(path, rule.at), fmt::format("action {} without {}", action, key),
               fmt::format("add `{}: …` to this rule", key));
}

void takes_only(const Walk& walk, const Node& rule, const Path& path, std::string_view action,
                std::initializer_list<std::string_view> known) {
    constexpr std::string_view all[] = {"source_labels", "separator", "regex", "modulus", "target_label", "replacement"};
    for (const auto& entry : rule.entries) {
        if (!is_one_of(entry.key, all) || std::ranges::find(known, entry.key) != known.end() || !given(rule, entry.key)) continue;
        const Path at = path / entry.key;
        refuse(walk, walk.place(at, entry.at), fmt::format("action {} does not take {}", action, entry.key),
               fmt::format("remove line {}", in_file(walk.document, entry.at).line));
    }
}

void by_action(const Walk& walk, const Node& rule, const Path& path, std::string_view action) {
    if (action == "labeldrop" || action == "labelkeep") return takes_only(walk, rule, path, action, {"regex"});
    if (action == "keepequal" || action == "dropequal") {
        takes_only(walk, rule, path, action, {"source_labels", "target_label"});
        return needs(walk, rule, path, action, "target_label");
    }
    if (action == "replace" || action == "hashmod" || action == "lowercase" || action == "uppercase")
        needs(walk, rule, path, action, "target_label");
    if (action != "hashmod") return;
    needs(walk, rule, path, action, "modulus");
    const auto* modulus = rule.entry("modulus");
    const Path at = path / "modulus";
    if (modulus != nullptr && modulus->value->scalar() == "0") refuse(walk, walk.place(at, modulus->at), "a modulus of zero", "write into how many parts to divide");
}

}  // namespace

void relabel_rules(const Walk& walk, const Node& rule, const Path& path) {
    const auto* action = rule.entry("action");
    const auto name = action == nullptr || action->value->null() ? std::string("replace") : lower(action->value->scalar());
    const bool literal = action == nullptr || action->value->null() || name.empty() || written(*action->value) == Written::literal;
    if (action != nullptr && literal && is_one_of(name, foreign_actions)) {
        const Path at = path / "action";
        return walk.verdicts.undecided(Id::startable, walk.place(at, action->at),
                                       "an action of VictoriaMetrics, which Prometheus does not know");
    }
    if (literal && !is_one_of(name, actions)) {
        const Path at = path / "action";
        const auto near = nearest(name, {std::begin(actions), std::end(actions)});
        return refuse(walk, walk.place(at, action->at), "an unknown relabelling action",
                      near ? line_with(walk.place(at, action->at), fmt::format("action: {}", *near))
                           : "use one of the actions that Prometheus knows");
    }
    if (const auto* regex = rule.entry("regex");
        regex != nullptr && written(*regex->value) == Written::literal && !walk.verdicts.compiles(regex->value->scalar())) {
        const Path at = path / "regex";
        refuse(walk, walk.place(at, regex->at), "a regular expression that does not compile",
               fmt::format("line {}: write it in RE2 syntax", in_file(walk.document, regex->at).line));
    }
    const bool whole = literal && !walk.document.templated && !walk.document.repaired && rule.entry("if") == nullptr;
    if (whole) by_action(walk, rule, path, name);
}

}  // namespace promwarden::files
