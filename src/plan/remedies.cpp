// What a report's findings ask for, as changes. Pure.

#include "remedies.hpp"

#include <algorithm>

#include "edits.hpp"
#include "rules.hpp"
#include "unit.hpp"

namespace promwarden {

namespace {

/// The order in which an apply makes them: who may read a file before what is written into it, what a service reads before the flags that make it read it.
int rank(const Change& change) {
    using enum Change::Kind;
    if (change.judge == Judge::promtool_config) return 5;  // it may name any of the others
    switch (change.kind) {
        case firewall: return 0;
        case file: return 1;
        case web: return 2;
        case unit: return 3;
        case rules: return 4;
        case site: return 6;
    }
    return 7;
}

/// One name can be in the findings of several controls: what all of them take away is taken away at once.
void add_access(std::vector<Change>& changes, const ControlReport& report, const Finding& finding) {
    const auto& access = *finding.remedy.access;
    const auto same = std::ranges::find_if(changes, [&](const Change& change) { return change.subject == finding.subject && std::holds_alternative<SetAccess>(change.deed); });
    if (same == changes.end()) {
        Change change{Change::Kind::file, std::string(report.control->id), finding.subject, finding.observed, "", SetAccess(access)};
        change.diff = diff_of(change.subject, change.deed);
        changes.push_back(std::move(change));
        return;
    }
    auto& deed = std::get<SetAccess>(same->deed);
    deed.after.mode &= access.after.mode;
    if (access.after.owner != access.before.owner) deed.after.owner = access.after.owner;
    if (access.after.group != access.before.group) deed.after.group = access.after.group;
    if (access.after.acl.empty()) deed.after.acl.clear();
    same->diff = diff_of(same->subject, same->deed);
}

}  // namespace

void plan_remedies(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan) {
    for (const auto& one : report.controls) {
        if (one.decision.verdict != Verdict::fail || one.waived) continue;
        for (const auto& finding : one.decision.findings)
            if (finding.remedy.access) add_access(plan.changes, one, finding);
    }
    plan_edits(policy, facts, report, plan);
    plan_unit(policy, facts, report, plan);
    plan_rules(policy, facts, report, plan);
    std::ranges::stable_sort(plan.changes, {}, rank);
}

std::vector<std::string> enforceable(std::span<const std::string> only, bool on_request) {
    constexpr std::string_view means[] = {"chmod", "drop-in", "rule file"};
    std::vector<std::string> ids;
    const auto by_edit = controls_by_edit(on_request);
    for (const auto& control : catalogue()) {
        const bool ours = std::ranges::any_of(means, [&](std::string_view one) { return control.enforced_by.contains(one); }) || std::ranges::find(by_edit, control.id) != by_edit.end();
        if (ours && control.decide != nullptr && (only.empty() || std::ranges::find(only, control.id) != only.end())) ids.emplace_back(control.id);
    }
    return ids;
}

}  // namespace promwarden
