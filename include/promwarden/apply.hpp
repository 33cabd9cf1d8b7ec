/// apply — the product's line, once: observe, evaluate, plan, apply, observe again; and back. Part of the plan room.
///
/// The command runs it once, the agent in a loop; there is no other way to change anything. Owns the nf_tables socket and what it last saw through it. Promises:
/// what was tried and failed is undone before apply returns; nothing is accepted that is not in force; whoever comes first after an unconfirmed trial ends it.
/// Not thread-safe.
#pragma once

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "promwarden/plan.hpp"
#include "promwarden/probe.hpp"
#include "promwarden/state.hpp"

namespace promwarden {

/// What an apply may do besides what the policy says.
struct ApplyRequest {
    bool force = false;                                 // over a stranger on a guarded port, and through the caller's own connection
    std::optional<std::chrono::seconds> confirm_within;
    bool accept_later = false;                          // the caller will call State::accept itself, at once
    pid_t caller = 0;                                   // whose ancestors' connections must survive; 0: nobody's
};

/// Whether an observation asks live endpoints where a control needs it: that can take seconds.
enum class Asking : std::uint8_t { yes, no };

/// Where Prometheus and its proxy should answer, and who would, as the kernel has it now.
Result<std::vector<probe::Target>> live_targets(const Policy& policy, const Facts& facts);
/// Asks them all, at most that long. Evidence only where the sockets are the same, with the same holders, before and after.
Result<live::Facts> ask_endpoints(const probe::ClientOptions& options, const Policy& policy, const Facts& facts, std::chrono::milliseconds limit);
/// Puts what was learned where the controls look for it.
void add_live(Facts& facts, Result<live::Facts> live);

class Engine {
public:
    /// `socket`: an nf_tables socket kept from an earlier life.
    static Result<Engine> open(State state, Fd socket = {});

    // ---- looking

    /// The facts that these controls need (empty: all). What could not be observed is an error in its place.
    Facts observe(const Policy& policy, std::span<const std::string> only = {}, Asking asking = Asking::yes);
    /// As observe, and what an apply must ask besides: who holds the ports, whose connections would end.
    Facts observe_for_apply(const Policy& policy);
    /// What stands between these facts and the policy. Pure.
    static Plan plan(const Policy& policy, const Facts& facts);

    // ---- acting; each takes the lock of the state

    /// Makes it so and accepts it. Code::conflict: refused before anything was tried, for a reason that `force` overrides or another trial that is pending.
    /// Any other error: it was tried, failed, and was undone.
    Result<Plan> apply(const Candidate& candidate, const ApplyRequest& request);
    /// Accepts the trial. Code::missing where none is pending.
    Result<> confirm();
    /// Returns to the policy before the one in force, or to none; ends a trial first, if there is one.
    Result<Plan> undo(bool all);
    /// Ends a trial whose time is over; the policy before it is in force again. Says whether there was one.
    Result<bool> settle();

    // ---- for the agent, which stays

    /// Brings the table to what a policy means (null: no table), against whatever the kernel holds now. True where something had to change.
    Result<bool> enforce(const Policy* policy);
    /// Forgets what was seen, so that the next look reads everything.
    void distrust() { live_.reset(); }
    /// Brings what is remembered up to date with a change that was announced, without asking the kernel where that will do.
    void follow(const firewall::Change& change);
    /// The prepared table was loaded: it holds what was last seen.
    Result<> restored();
    /// A generation that somebody else made without touching our table.
    void passed(std::uint32_t generation);
    /// How to reach the probe's worker.
    void set_probe(probe::ClientOptions options) { probe_ = std::move(options); }
    [[nodiscard]] const probe::ClientOptions& probe() const { return probe_; }
    void set_ownership(firewall::Ownership ownership) { ownership_ = ownership; }
    /// Somebody follows the links and will say when they changed; until then they need not be asked again.
    void set_links_watched(bool watched) { links_watched_ = watched; }
    void links_changed() { links_.reset(); }

    [[nodiscard]] firewall::Kernel& kernel() { return kernel_; }
    [[nodiscard]] const State& state() const { return state_; }
    [[nodiscard]] const std::optional<firewall::Live>& live() const { return live_; }

private:
    Engine(State state, firewall::Kernel kernel) : state_(std::move(state)), kernel_(std::move(kernel)) {}
    Result<> look();
    Result<FirewallFacts> firewall_facts();
    Facts observe_filter();
    Result<> refuse(const Candidate& candidate, const ApplyRequest& request, const Facts& facts, const Plan& plan);
    Result<Plan> return_to(const std::optional<Candidate>& candidate);

    State state_;
    probe::ClientOptions probe_;
    firewall::Kernel kernel_;
    std::optional<firewall::Live> live_;  // what the table was, as of its generation
    std::optional<firewall::Ownership> ownership_;  // unset: as the table is
    bool links_watched_ = false;
    std::optional<std::vector<Link>> links_;        // kept only while somebody watches them
};

}  // namespace promwarden
