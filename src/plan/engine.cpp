#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pwd.h>

#include "promwarden/apply.hpp"
#include "certificates.hpp"
#include "promwarden/host.hpp"
#include "start_guard.hpp"

namespace promwarden {

namespace {

constexpr std::string_view filter_control = "network.packet-filter";
constexpr std::string_view probe_account = "promwarden-probe";
constexpr int most_attempts = 10;

/// From the file that sysusers writes: NSS could wait for a directory server, and loads libraries to do so.
std::optional<uid_t> probe_user() {
    static const auto user = []() -> std::optional<uid_t> {
        const Handle<FILE, ::fclose> file{::fopen("/etc/passwd", "re")};
        while (const auto* entry = file ? ::fgetpwent(file.get()) : nullptr)
            if (entry->pw_name == probe_account) return entry->pw_uid;
        return std::nullopt;
    }();
    return user;
}

std::vector<PortRange> guarded_ports(const Policy& policy) {
    std::vector<PortRange> ports;
    for (const auto& service : policy.firewall.services) std::ranges::copy(service.ports, std::back_inserter(ports));
    return ports;
}

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

/// Whether the ruleset would still let a live connection's packets in.
bool survives(const Ruleset& ruleset, const Connection& connection) {
    const auto& remote = connection.remote.address;
    const bool loopback = remote == connection.local.address || (remote.family == Family::ip4 ? remote.bytes[0] == 127 : remote == parse_address("::1"));
    return firewall::trace(ruleset, {remote, connection.local.address, connection.local.port, Protocol::tcp, loopback, std::nullopt}).passes;
}

std::string to_text(const Connection& connection) { return fmt::format("{} -> {}", promwarden::to_text(connection.remote), promwarden::to_text(connection.local)); }

/// What the policy wants the table to be; null: that there is none.
Result<std::optional<Ruleset>> wanted(const Policy& policy, const Facts& facts) {
    if (policy.firewall.services.empty()) return std::optional<Ruleset>{};
    return TRY(desired_ruleset(policy, facts));
}

void plan_filter(const Policy& policy, const Facts& facts, Plan& plan) {
    const auto target = wanted(policy, facts);
    if (!facts.firewall || !target) return;
    const auto& live = facts.firewall->live;
    const auto difference = firewall::difference(live ? &*live : nullptr, *target ? &**target : nullptr);
    if (difference.empty()) return;
    std::uint64_t added = 0, removed = 0;
    for (const auto& edit : difference.edits) (edit.kind == firewall::Edit::Kind::add ? added : removed) += edit.count;
    plan.changes.push_back({Change::Kind::firewall, std::string(filter_control), fmt::format("table inet {}", table_name),
                            fmt::format("{} to add, {} to remove", added, removed), firewall::to_text(difference)});
    if (facts.connections && *target)
        for (const auto& connection : *facts.connections)
            if (!survives(**target, connection)) plan.cuts.push_back(to_text(connection));
}

}  // namespace

Result<Engine> Engine::open(State state, Fd socket) { return Engine(std::move(state), TRY(firewall::Kernel::open(std::move(socket)))); }

// ---- looking --------------------------------------------------------------------------------------------------------

Result<> Engine::look() {
    if (live_ && TRY(kernel_.generation()).id == live_->generation) return {};
    live_ = TRY(kernel_.read(firewall::Elements::all));
    return {};
}

Result<FirewallFacts> Engine::firewall_facts() {
    TRY(look());
    return FirewallFacts{live_->ruleset, live_->generation, live_->owner != 0 && live_->owner == kernel_.port_id(), live_->counters};
}

/// What the table and its policy depend on, and nothing else: this is on the way from a drift to its undoing.
Facts Engine::observe_filter() {
    Facts facts;
    facts.probe_user = probe_user();
    facts.firewall = firewall_facts();
    if (!links_ || !links_watched_) {
        auto links = host::read_links();
        if (links) links_ = *std::move(links);
        else facts.links = std::unexpected(links.error());
    }
    if (facts.links) facts.links = *links_;
    facts.links_watched = links_watched_;
    return facts;
}

Facts Engine::observe_for_apply(const Policy& policy) {
    auto facts = observe_filter();
    facts.now = std::chrono::system_clock::now();
    facts.connections = host::read_connections(guarded_ports(policy));
    if (state_.usual()) facts.start_guards = read_start_guards();
    if (policy.tls.certificates.empty()) return facts;
    facts.certificates = rotation::observe(policy, rotation::places_of(policy, state_.directory()), rotation::host_world(false));
    if (facts.certificates && facts.certificates->removed) facts.servers = host::read_servers(policy.prometheus.unit, {});
    return facts;
}

Plan Engine::plan(const Policy& policy, const Facts& facts) {
    Plan plan;
    plan_filter(policy, facts, plan);
    plan_certificates(policy, facts, plan);
    if (facts.start_guards && *facts.start_guards) {
        const auto& guards = **facts.start_guards;
        std::ranges::move(changes_between(guards.present, wanted_start_guards(policy, guards.directory)), std::back_inserter(plan.changes));
    }
    return plan;
}

// ---- acting ---------------------------------------------------------------------------------------------------------

Result<bool> Engine::enforce(const Policy* policy) {
    const Policy nothing;
    for (int attempt = 1;; ++attempt) {
        const auto facts = observe_filter();
        if (!facts.firewall) return std::unexpected(facts.firewall.error());
        const auto target = TRY(wanted(policy == nullptr ? nothing : *policy, facts));
        const auto ownership = ownership_.value_or(live_->ruleset ? firewall::ownership_of(*live_) : firewall::Ownership::plain);
        const auto before = live_->generation;
        auto after = target ? kernel_.commit(*live_, *target, ownership) : kernel_.remove(*live_);
        if (after) {
            live_ = *std::move(after);
            return live_->generation != before;
        }
        live_.reset();
        if (after.error().code != Code::stale || attempt == most_attempts) return std::unexpected(after.error());
    }
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
    const auto target = TRY(wanted(candidate.policy, facts));
    const auto ancestors = host::ancestors(request.caller);
    const auto own = host::connections_of(ancestors);
    if (!own || !target) return {};
    for (const auto& connection : *own)
        if (!survives(*target, connection))
            return fail(Code::conflict, "apply", "", fmt::format("it would cut your own connection, {}; nothing was changed (--force applies all the same)", to_text(connection)));
    return {};
}

Result<Plan> Engine::apply(const Candidate& candidate, const ApplyRequest& request) {
    const auto held = TRY(state_.lock());
    const auto facts = observe_for_apply(candidate.policy);
    if (!facts.firewall) return std::unexpected(facts.firewall.error());
    auto plan = Engine::plan(candidate.policy, facts);
    TRY(refuse(candidate, request, facts, plan));
    if (request.confirm_within) std::erase_if(plan.changes, [](const Change& change) { return change.kind != Change::Kind::firewall; });  // the rest follows what is accepted
    if (candidate.policy.mode_of(filter_control) != Mode::enforce) return plan;  // audit: say it, leave it
    if (request.confirm_within) TRY(state_.begin_trial(candidate, *request.confirm_within));
    // From here the kernel may hold the new ruleset while the disk still names the old one; an error on the way restores the old one.
    auto done = [&]() -> Result<> {
        TRY(enforce(&candidate.policy));
        if (!request.confirm_within) TRY(place_start_guard(&candidate.policy));
        return request.confirm_within || request.accept_later ? Result<>{} : state_.accept(candidate);
    }();
    if (done) return plan;
    auto error = std::move(done).error();
    const auto before = state_.accepted();
    const auto* earlier = before && *before ? &(*before)->policy : nullptr;
    auto restored = before ? enforce(earlier) : Result<bool>(std::unexpected(before.error()));
    if (restored) restored = place_start_guard(earlier);
    if (const auto ended = state_.end_trial(); !ended) error.detail += fmt::format("; {}", ended.error().text());
    error.detail += restored ? " (what was there before is in force again)" : fmt::format(" (and it could not be undone: {})", restored.error().text());
    if (error.code == Code::conflict) error.code = Code::failed;
    return std::unexpected(std::move(error));
}

Result<> Engine::confirm() {
    const auto held = TRY(state_.lock());
    const auto trial = TRY(state_.trial());
    if (!trial) return fail(Code::missing, "confirm", "", "no trial is waiting to be confirmed");
    if (remaining(*trial) <= std::chrono::nanoseconds(0)) return fail(Code::missing, "confirm", "", "the trial is over; what was there before is in force again");
    TRY(place_start_guard(&trial->candidate.policy));
    TRY(state_.accept(trial->candidate));
    return state_.end_trial();
}

Result<Plan> Engine::return_to(const std::optional<Candidate>& candidate) {
    const Policy nothing;
    const auto& policy = candidate ? candidate->policy : nothing;
    auto facts = observe_for_apply(policy);
    facts.certificates = CertificateFacts{};  // what was issued stays: it is no part of what a return takes back
    auto plan = Engine::plan(policy, facts);
    TRY(enforce(candidate ? &candidate->policy : nullptr));
    return plan;
}

Result<Plan> Engine::undo(bool all) {
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

Result<bool> Engine::settle() {
    const auto trial = TRY(state_.trial());
    if (!trial || remaining(*trial) > std::chrono::nanoseconds(0)) return false;
    const auto held = TRY(state_.lock());
    const auto still = TRY(state_.trial());  // it may have been confirmed while we waited for the lock
    if (!still || remaining(*still) > std::chrono::nanoseconds(0)) return false;
    TRY(return_to(TRY(state_.accepted())));
    TRY(state_.end_trial());
    return true;
}

void Engine::follow(const firewall::Change& change) {
    if (live_ && !firewall::follow(*live_, change)) live_.reset();
}

Result<> Engine::restored() {
    auto now = TRY(kernel_.read(firewall::Elements::none));
    if (!live_ || !live_->ruleset || !now.ruleset) {
        live_.reset();
        return {};
    }
    for (auto& set : now.ruleset->sets)
        if (const auto* old = live_->ruleset->set(set.name); old != nullptr) set.elements = old->elements;
    live_ = std::move(now);
    return {};
}

void Engine::passed(std::uint32_t generation) {
    if (live_ && generation == live_->generation + 1) live_->generation = generation;
}

}  // namespace promwarden
