/// apply — the product's line, once: observe, evaluate, plan, apply, observe again; and back. Part of the plan room.
///
/// The command runs it once, the agent in a loop; there is no other way to change anything. Owns the nf_tables socket and what it last saw through it. Promises:
/// what was tried and failed is undone before apply returns; nothing is accepted that is not in force; whoever comes first after an unconfirmed trial ends it.
/// Not thread-safe.
#pragma once

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "promwarden/make.hpp"
#include "promwarden/plan.hpp"
#include "promwarden/probe.hpp"
#include "promwarden/rotation.hpp"
#include "promwarden/state.hpp"
#include "promwarden/unit.hpp"

namespace promwarden {

/// What an apply may do besides what the policy says.
struct ApplyRequest {
    bool force = false;                                 // over a stranger on a guarded port, and through the caller's own connection
    std::optional<std::chrono::seconds> confirm_within;
    std::vector<std::string> only;                      // controls; empty: all. Without one that the ruleset enforces, the policy must be in force already
    bool edit_config = false;                           // make changes that are made on request only, to prometheus.yml, too
    bool accept_later = false;                          // the caller will call State::accept itself, at once
    pid_t caller = 0;                                   // whose ancestors' connections must survive; 0: nobody's
};

/// The rule file that we write.
struct RuleFile {
    std::optional<std::string> text;  // nullopt: there is none
    std::optional<gid_t> group;       // who reads it; nullopt: no such group here
};

/// What must be in force at a start, whoever asks.
struct Remembered {
    std::optional<Candidate> candidate;  // the trial that still runs, or the policy accepted last; nullopt: there is none
    bool trial = false;                  // it waits to be confirmed
    bool ended = false;                  // a trial was over, and has been ended
    bool lost = false;                   // a policy was accepted, and cannot be read any more
    std::vector<Error> problems;         // on the way to it
};

/// Where the site that a policy asks for stands in the configuration of this host's nginx, and what is there now.
struct SitePlace {
    std::string file;                     // "/etc/nginx/sites-available/promwarden"
    std::string link;                     // what makes it active: "/etc/nginx/sites-enabled/promwarden"; "": its name does
    std::optional<std::string> text;      // of the file; nullopt: there is none
    std::optional<std::string> target;    // of the link
    std::vector<std::string> missing;     // what the site names and is not there yet: its certificate
    bool rotated = false;                 // somebody else's logrotate rules name its log
    std::optional<std::string> rotation;  // our own rule
    std::optional<AccessChange> log;      // what closes its log, where others can read it
    std::string problem;                  // why it has no place here
};

/// What a plan is made from: what a report is, and what only an apply asks for.
struct ApplyFacts : Facts {
    ApplyFacts() = default;
    ApplyFacts(Facts facts) : Facts(std::move(facts)) {}  // NOLINT(google-explicit-constructor): nothing more was asked for
    Result<std::optional<SitePlace>> site = std::nullopt;  // nullopt: not looked for, or no nginx is installed here
    std::optional<Result<unit::Bare>> bare_unit;           // Prometheus' unit without our drop-ins; nullopt: not asked for, or no service manager here to read it
    std::optional<Result<RuleFile>> rule_file;             // nullopt: not asked for
    bool own_directory = false;                            // /etc/prometheus/promwarden is there
};

/// Whether an observation asks live endpoints where a control needs it: that can take seconds.
enum class Asking : std::uint8_t { yes, no };

/// Where Prometheus and its proxy should answer, and who would, as the kernel has it now.
Result<std::vector<probe::Target>> live_targets(const Policy& policy, const Facts& facts);
/// Asks them all, at most that long. Evidence only where the sockets are the same, with the same holders, before and after.
Result<live::Facts> ask_endpoints(const probe::ClientOptions& options, const Policy& policy, const Facts& facts, std::chrono::milliseconds limit);
/// Puts what was learned where the controls look for it.
void add_live(Facts& facts, Result<live::Facts> live);

/// This host as rotation needs it, with the probe to look whether what was published is served. See rotation::host_world.
rotation::World world_of(const probe::ClientOptions& options, const PrometheusPolicy& policy, bool may_wait);

/// An apply between its beginning and its end: what is left to be done is `work`.
struct Applying {
    Candidate candidate;
    ApplyRequest request;
    Plan plan;
    std::vector<Change> work;
    Fd held;             // the lock of the state
    bool begun = false;  // false: nothing is to be done, or only to be said
};

/// The controls that this policy has kept true by changing files and services.
std::vector<std::string> kept_by_work(const Policy& policy);

/// This host's services, for a policy that outlives them. `confined`: our own mounts may lock parts of the host.
Services host_services(const Policy& policy, const probe::ClientOptions& options, bool confined);

class Engine {
public:
    /// `socket`: an nf_tables socket kept from an earlier life.
    static Result<Engine> open(State state, Fd socket = {});

    // ---- looking

    /// The facts that these controls need (empty: all). What could not be observed is an error in its place.
    Facts observe(const Policy& policy, std::span<const std::string> only = {}, Asking asking = Asking::yes);
    /// The same of a mounted image or chroot: what lies on its disk, and nothing of this host.
    static Result<Facts> observe_image(const Policy& policy, const std::string& root);
    /// As observe, and what an apply must ask besides: who holds the ports, whose connections would end.
    /// `on_request`: and what changes that are made on request only need.
    ApplyFacts observe_for_apply(const Policy& policy, std::span<const std::string> only = {}, bool on_request = false);
    /// What stands between these facts and the policy, as far as these controls go (empty: all). Pure.
    static Plan plan(const Policy& policy, const ApplyFacts& facts, std::span<const std::string> only = {}, bool on_request = false);
    /// Those changes of a plan that are to be made to files and services: of controls that are enforced, within what this process may do, and what is made on request
    /// only where that was asked for.
    static std::vector<Change> work_of(const Policy& policy, const Plan& plan, bool on_request = false);

    // ---- acting; each takes the lock of the state

    /// Makes it so and accepts it. Code::conflict: refused before anything was tried, for a reason that `force` overrides or another trial that is pending.
    /// Any other error: it was tried, failed, and was undone.
    Result<Plan> apply(const Candidate& candidate, const ApplyRequest& request);
    /// The same in three parts, for whoever must not wait for services: `work` may be done in a child. What `begin_apply` refuses, nothing was tried of.
    Result<Applying> begin_apply(const Candidate& candidate, const ApplyRequest& request);
    Result<> work(const Applying& applying) const;
    Result<Plan> finish_apply(Applying applying, Result<> worked);
    /// Accepts the trial. Code::missing where none is pending.
    Result<> confirm();
    /// Returns to the policy before the one in force, or to none; ends a trial first, if there is one.
    Result<Plan> undo(bool all);
    /// Its parts: what would be put back, files and services, and the rest.
    Result<Plan> plan_undo(bool all) const;
    Result<> undo_work(bool all) const;
    Result<Plan> undo_rest(bool all);
    /// Makes these changes again, that somebody undid under the policy in force: an undo goes on returning to what was there before the first of ours.
    Result<> repair(const Policy& policy, std::span<const Change> changes) const;
    /// Finishes or takes back what an earlier run left of files and services. True where there was something. Blocks as `work` does.
    Result<bool> recover() const;
    /// Ends a trial whose time is over; the policy before it is in force again. Says whether there was one.
    Result<bool> settle();

    // ---- at a start: the early program, the agent, and the server's own start

    /// What was in force when everything stopped. A trial whose time is over is ended; where the disk refuses that, the policy before it is named all the same.
    Remembered remember();
    /// The same for whoever only looks: nothing is ended.
    Remembered recall() const;
    /// Whether the live table guards as that says; the error names the first differences. Interfaces that came or went while nobody followed them are no difference.
    Result<> verify(const Remembered& remembered);
    /// Closes what the lost policy guarded to everything but loopback. True where something had to change.
    Result<bool> close_ports();
    /// Makes the drop-in for the server's start what the policy means (null: none), and has the service manager read it. True where something had to change.
    Result<bool> place_start_guard(const Policy* policy);

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
    /// Our own mounts may hide parts of the host: files are looked at as the first process sees them.
    void set_confined(bool confined) { confined_ = confined; }

    [[nodiscard]] firewall::Kernel& kernel() { return kernel_; }
    [[nodiscard]] const State& state() const { return state_; }
    [[nodiscard]] const std::optional<firewall::Live>& live() const { return live_; }

private:
    Engine(State state, firewall::Kernel kernel) : state_(std::move(state)), kernel_(std::move(kernel)) {}
    Result<> look();
    Result<FirewallFacts> firewall_facts();
    Facts observe_filter();
    void observe_foreign(const Policy& policy, Part needs, Facts& facts);
    static void observe_servers(const Policy& policy, Facts& facts);
    Result<> refuse(const Candidate& candidate, const ApplyRequest& request, const Facts& facts, const Plan& plan);
    Error go_back(const Applying& applying, const Error& error);
    Result<Plan> return_to(const std::optional<Candidate>& candidate);
    Result<Ruleset> closed_ruleset() const;
    [[nodiscard]] bool follows_links() const;  // whether the live table is one that somebody keeps up to date with the links

    State state_;
    probe::ClientOptions probe_;
    firewall::Kernel kernel_;
    std::optional<firewall::Live> live_;  // what the table was, as of its generation
    std::optional<firewall::Ownership> ownership_;  // unset: as the table is
    bool links_watched_ = false;
    bool confined_ = false;
    std::optional<std::vector<Link>> links_;        // kept only while somebody watches them
};

}  // namespace promwarden
