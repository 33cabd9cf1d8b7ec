// An apply from its plan to its acceptance, and the way back. What changes files and services in between can take a while: whoever must not wait begins an apply,
// has its work done elsewhere, and finishes it.

#include "promwarden/apply.hpp"

#include <algorithm>
#include <ranges>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "certificates.hpp"
#include "filter.hpp"
#include "promwarden/host.hpp"
#include "promwarden/program.hpp"
#include "remedies.hpp"
#include "rules.hpp"
#include "site.hpp"
#include "start_guard.hpp"
#include "unit.hpp"

namespace promwarden {

namespace {

/// Those guarded ports that should be Prometheus' own: where the policy says where it listens, only these.
std::vector<PortRange> prometheus_ports(const Policy& policy) {
    auto ports = guarded_ports(policy);
    const auto& listen = policy.prometheus.listen;
    if (listen.empty()) return ports;
    std::vector<PortRange> own;
    for (const auto& endpoint : listen)
        if (std::ranges::any_of(ports, [&](PortRange range) { return range.first <= endpoint.port && endpoint.port <= range.last; })) own.push_back({endpoint.port, endpoint.port});
    return own;
}

/// In its sandbox the agent may take permissions, not give owners: such a change stays a finding, with the command that makes it.
bool beyond_us(const Change& change) {
    const auto* set = std::get_if<SetAccess>(&change.deed);
    const auto* write = std::get_if<WriteFile>(&change.deed);
    const bool gives = (set != nullptr && (set->before.owner != set->after.owner || set->before.group != set->after.group)) || (write != nullptr && write->directory && write->access.group != 0);
    return gives && ::prctl(PR_CAPBSET_READ, CAP_CHOWN) != 1;
}

/// Whether these controls include one that the ruleset enforces.
bool asks_for_ruleset(std::span<const std::string> only) {
    return only.empty() || std::ranges::any_of(only, [](const std::string& id) { return find_control(id)->enforced_by.contains("ruleset"); });
}

}  // namespace

ApplyFacts Engine::observe_for_apply(const Policy& policy, std::span<const std::string> only, bool on_request) {
    auto acting = enforceable(only, on_request);
    const bool site = asks_for_site(policy, only) || (only.empty() && has_left_site(policy, state_));
    if (site && acting.empty()) acting = {"audit.query-log-file"};  // for the server's version, and who rotates logs
    ApplyFacts facts = acting.empty() ? observe_filter() : observe(policy, acting, Asking::no);
    facts.now = std::chrono::system_clock::now();
    // A second instance leaves what is the host's alone, but for what its own policy names.
    if (facts.files && !state_.usual() && policy.prometheus.config.empty())
        for (auto& server : facts.files->servers)
            for (auto& file : server.files) file.trusted = false;
    if (state_.usual() && !acting.empty() && facts.servers && program::manager_runs() && !facts.servers->empty())
        facts.bare_unit = host::read_bare_unit(policy.prometheus, unit_files(), prometheus::build_of(facts.servers->front()));
    if (state_.usual() && !acting.empty()) facts.rule_file = read_rule_file();
    facts.own_directory = ::access("/etc/prometheus/promwarden", F_OK) == 0;
    if (site) facts.site = read_site(policy, facts);
    if (asks_for_ruleset(only)) {
        facts.connections = host::read_connections(guarded_ports(policy));
        if (state_.usual()) facts.start_guards = read_start_guards();
    }
    if (policy.tls.certificates.empty()) return facts;
    facts.certificates = rotation::observe(policy, rotation::places_of(policy, state_.directory()), rotation::host_world(false));
    if (facts.certificates && facts.certificates->removed) facts.servers = host::read_servers(policy.prometheus.unit, {});
    return facts;
}

Plan Engine::plan(const Policy& policy, const ApplyFacts& facts, std::span<const std::string> only, bool on_request) {
    Plan plan;
    if (asks_for_ruleset(only)) {
        plan_filter(policy, facts, plan);
        if (facts.start_guards && *facts.start_guards) {
            const auto& guards = **facts.start_guards;
            std::ranges::move(changes_between(guards.present, wanted_start_guards(policy, guards.directory)), std::back_inserter(plan.changes));
        }
    }
    if (only.empty() || std::ranges::any_of(only, [](const std::string& id) { return id.starts_with("tls."); })) plan_certificates(policy, facts, plan);
    if (const auto acting = enforceable(only, on_request); !acting.empty()) plan_remedies(policy, facts, evaluate(policy, facts, acting), plan);
    plan_site(policy, facts, only, plan);
    return plan;
}

std::vector<std::string> kept_by_work(const Policy& policy) {
    auto ids = enforceable({}, false);
    if (asks_for_site(policy, {})) ids.emplace_back(site_control);
    std::erase_if(ids, [&](const std::string& id) { return policy.mode_of(id) != Mode::enforce; });
    return ids;
}

std::vector<Change> Engine::work_of(const Policy& policy, const Plan& plan, bool on_request) {
    std::vector<Change> work;
    std::ranges::copy_if(plan.changes, std::back_inserter(work), [&](const Change& change) { return (on_request || !change.on_request) && !std::holds_alternative<std::monostate>(change.deed) && policy.mode_of(change.control) == Mode::enforce && !beyond_us(change); });
    return work;
}

Result<> Engine::refuse(const Candidate& candidate, const ApplyRequest& request, const Facts& facts, const Plan& plan) {
    if (TRY(state_.trial())) return fail(Code::conflict, "apply", "", "a trial is waiting: 'promwarden confirm' keeps it, 'promwarden undo' ends it");
    if (request.force) return {};
    const auto ports = prometheus_ports(candidate.policy);
    if (TRY(state_.guarded_ports()).empty()) {  // the first apply: nobody vouched for this port yet
        auto listeners = TRY(host::read_listeners());
        host::find_holders(listeners, ports);
        for (const auto& holder : host::port_holders(listeners, ports, candidate.policy.prometheus.unit))
            if (holder.stranger())
                return fail(Code::conflict, "apply", "", fmt::format("{} holds a guarded port and is not Prometheus; nothing was changed (--force applies all the same)", holder.text));
    }
    if (request.caller == 0 || plan.cuts.empty()) return {};  // the caller's connection is one of those, or safe
    const auto target = TRY(wanted_ruleset(candidate.policy, facts));
    const auto ancestors = host::ancestors(request.caller);
    const auto own = host::connections_of(ancestors);
    if (!own || !target) return {};
    for (const auto& connection : *own)
        if (!survives(*target, connection))
            return fail(Code::conflict, "apply", "", fmt::format("it would cut your own connection, {}; nothing was changed (--force applies all the same)", to_text(connection)));
    return {};
}

// ---- an apply -------------------------------------------------------------------------------------------------------

Result<Applying> Engine::begin_apply(const Candidate& candidate, const ApplyRequest& request) {
    Applying applying{candidate, request, {}, {}, TRY(state_.lock()), false};
    const auto& policy = candidate.policy;
    const auto facts = observe_for_apply(policy, request.only, request.edit_config);
    if (!facts.firewall) return std::unexpected(facts.firewall.error());
    auto& plan = applying.plan = Engine::plan(policy, facts, request.only, request.edit_config);
    TRY(refuse(candidate, request, facts, plan));
    std::erase_if(plan.changes, [&](const Change& change) { return change.on_request && !request.edit_config; });
    for (const auto& change : plan.changes)
        if (beyond_us(change)) plan.refusals.push_back(fmt::format("{}: the agent's sandbox gives no owners or groups; an apply while the agent is stopped does", change.subject));
    std::erase_if(plan.changes, beyond_us);
    applying.work = work_of(policy, plan, request.edit_config);
    const bool loads = asks_for_ruleset(request.only) && policy.mode_of(filter_control) == Mode::enforce;
    if (!loads && applying.work.empty()) return applying;  // audit: say it, leave it
    if (!asks_for_ruleset(request.only)) {
        const auto accepted = TRY(state_.accepted());
        if (!accepted || accepted->policy.sha256 != policy.sha256) return fail(Code::conflict, "apply", "", "that policy is not in force yet; apply all of it first, without --only");
    }
    applying.begun = true;
    if (request.confirm_within) std::erase_if(plan.changes, [](const Change& change) { return std::holds_alternative<std::monostate>(change.deed) && change.kind != Change::Kind::firewall; });  // the rest follows what is accepted
    // From here the kernel may hold the new ruleset while the disk still names the old one; an error on the way restores the old one.
    auto done = [&]() -> Result<> {
        if (request.confirm_within) TRY(state_.begin_trial(candidate, *request.confirm_within));
        if (loads) TRY(enforce(&policy));
        return {};
    }();
    if (!done) return std::unexpected(go_back(applying, done.error()));
    return applying;
}

Result<Plan> Engine::finish_apply(Applying applying, Result<> worked) {
    if (!applying.begun) return std::move(applying.plan);
    const auto& [candidate, request, plan, work, held, begun] = applying;
    const bool whole = asks_for_ruleset(request.only);
    if (worked) worked = [&]() -> Result<> {
        if (whole && !request.confirm_within) {
            TRY(place_start_guard(&candidate.policy));
            if (!request.accept_later) TRY(state_.accept(candidate));
        }
        const auto journal = TRY(Journal::unfinished(state_));
        if (journal) TRY(request.confirm_within ? journal->keep_for_trial(state_) : journal->keep(state_));
        return {};
    }();
    if (!worked) return std::unexpected(go_back(applying, worked.error()));
    return std::move(applying.plan);
}

/// The ruleset, the start guard and the trial as they were; what the work changed, it has taken back itself, but for what the journal still says.
Error Engine::go_back(const Applying& applying, const Error& error) {
    if (!asks_for_ruleset(applying.request.only)) return error;
    const auto before = state_.accepted();
    const auto* earlier = before && *before ? &(*before)->policy : nullptr;
    auto restored = before ? enforce(earlier) : Result<bool>(std::unexpected(before.error()));
    if (restored) restored = place_start_guard(earlier);
    auto text = fmt::format("{} ({})", error.text(), restored ? "the ruleset is what it was before" : fmt::format("and the ruleset could not be put back: {}", restored.error().text()));
    if (const auto ended = state_.end_trial(); !ended) text += fmt::format("; {}", ended.error().text());
    return {error.code == Code::conflict ? Code::failed : error.code, 0, "", "", std::move(text)};
}

Result<> Engine::work(const Applying& applying) const {
    if (applying.work.empty() || !applying.begun) return {};
    return do_work(state_, applying.candidate.policy.sha256, applying.work, host_services(applying.candidate.policy, probe_, confined_));
}

Result<Plan> Engine::apply(const Candidate& candidate, const ApplyRequest& request) {
    auto applying = TRY(begin_apply(candidate, request));
    auto worked = work(applying);
    return finish_apply(std::move(applying), std::move(worked));
}

Result<> Engine::confirm() {
    const auto held = TRY(state_.lock());
    const auto trial = TRY(state_.trial());
    if (!trial) return fail(Code::missing, "confirm", "", "no trial is waiting to be confirmed");
    if (remaining(*trial) <= std::chrono::nanoseconds(0)) return fail(Code::missing, "confirm", "", "the trial is over; what was there before is in force again");
    TRY(place_start_guard(&trial->candidate.policy));
    TRY(state_.accept(trial->candidate));
    TRY(keep_changes_of_trial(state_));
    return state_.end_trial();
}

// ---- the way back ---------------------------------------------------------------------------------------------------

Result<Plan> Engine::plan_undo(bool all) const {
    Plan plan;
    for (const auto& change : TRY(changes_to_undo(state_, all)) | std::views::reverse) {
        auto back = change;
        back.deed = inverse(change.deed);
        back.diff = diff_of(back.subject, back.deed);
        plan.changes.push_back(std::move(back));
    }
    return plan;
}

Result<> Engine::undo_work(bool all) const {
    const auto held = TRY(state_.lock());
    const auto accepted = TRY(state_.accepted());
    const Policy none;
    return undo_changes(state_, host_services(accepted ? accepted->policy : none, probe_, confined_), all);
}

Result<> Engine::repair(const Policy& policy, std::span<const Change> changes) const {
    const auto held = TRY(state_.lock());
    TRY(do_work(state_, policy.sha256, changes, host_services(policy, probe_, confined_)));
    const auto journal = TRY(Journal::unfinished(state_));
    return journal ? journal->keep_repair(state_) : Result<>{};
}

Result<bool> Engine::recover() const {
    const auto held = TRY(state_.lock());
    const auto accepted = TRY(state_.accepted());
    const Policy none;
    return recover_changes(state_, host_services(accepted ? accepted->policy : none, probe_, confined_));
}

Result<Plan> Engine::undo_rest(bool all) {
    const auto held = TRY(state_.lock());
    if (all) {
        TRY(state_.forget());
        auto plan = TRY(return_to(std::nullopt));
        TRY(place_start_guard(nullptr));
        return plan;
    }
    if (TRY(state_.trial())) {
        auto plan = TRY(return_to(TRY(state_.accepted())));
        TRY(state_.end_trial());
        return plan;
    }
    if (!TRY(state_.accepted())) return fail(Code::missing, "undo", "", "nothing was applied");
    const auto earlier = TRY(state_.retract());
    auto plan = TRY(return_to(earlier));
    TRY(place_start_guard(earlier ? &earlier->policy : nullptr));
    return plan;
}

Result<Plan> Engine::undo(bool all) {
    auto plan = TRY(plan_undo(all));
    const auto worked = undo_work(all);  // what somebody else changed since stays; the rest is put back all the same
    auto rest = TRY(undo_rest(all));
    if (!worked) return std::unexpected(worked.error());
    std::ranges::move(rest.changes, std::back_inserter(plan.changes));
    plan.cuts = std::move(rest.cuts);
    return plan;
}

}  // namespace promwarden
