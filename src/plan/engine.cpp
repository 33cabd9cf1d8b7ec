// The table: looking at it, bringing it to what a policy means, going back. Everything that must work before the network is up.

#include <pwd.h>

#include "promwarden/apply.hpp"
#include "promwarden/host.hpp"
#include "filter.hpp"

namespace promwarden {

namespace {

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

// ---- acting ---------------------------------------------------------------------------------------------------------

Result<bool> Engine::enforce(const Policy* policy) {
    const Policy nothing;
    for (int attempt = 1;; ++attempt) {
        const auto facts = observe_filter();
        if (!facts.firewall) return std::unexpected(facts.firewall.error());
        const auto target = TRY(wanted_ruleset(policy == nullptr ? nothing : *policy, facts));
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

Result<Plan> Engine::return_to(const std::optional<Candidate>& candidate) {
    const Policy nothing;
    const auto& policy = candidate ? candidate->policy : nothing;
    Plan plan;
    auto facts = observe_filter();
    facts.connections = host::read_connections(guarded_ports(policy));
    plan_filter(policy, facts, plan);
    TRY(enforce(candidate ? &candidate->policy : nullptr));
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
