// The agent's parts and what they share.
#pragma once

#include <deque>
#include <set>

#include <systemd/sd-event.h>

#include <nlohmann/json.hpp>

#include "promwarden/agent.hpp"
#include "promwarden/audit_log.hpp"
#include "promwarden/host.hpp"
#include "promwarden/varlink.hpp"

namespace promwarden {

using Clock = std::chrono::steady_clock;
using EventSource = Handle<sd_event_source, sd_event_source_disable_unref>;

/// Tells the journal and, where nobody else listens, standard error.
void log_event(const Event& event);
void log_problem(const std::string& text);


/// How changes of the table are noticed.
enum class Watching : std::uint8_t { nothing, notifications, generation };

class Agent {
public:
    static Result<std::unique_ptr<Agent>> start(const AgentOptions& options);
    Result<> run();

    // ---- api.cpp: what the socket offers
    varlink::Service service();

private:
    Agent(const AgentOptions& options, Engine engine, sd_event* loop) : options_(options), engine_(std::move(engine)), loop_(loop) {}

    // ---- agent.cpp: the loop, the policy
    Result<> begin();
    Result<> load_in_force();
    void protect_without_policy();
    void keep_start_guard();
    Result<> watch_signals();
    Result<> watch_trial();
    void on_trial_over();
    void return_to_accepted();
    void recheck();
    void arm_recheck();
    std::expected<Candidate, Diagnostics> read_disk();
    void compare_disk();
    Result<> watch_disk();
    /// Tells how it went when it is done, which may be at once.
    void take(Candidate candidate, ApplyRequest request, std::function<void(Result<Plan>)> then);
    void finish_taking(Applying applying, Result<> worked, const std::function<void(Result<Plan>)>& then);
    void watch_table_again(bool ownership_changed, bool large);
    void accept_in_force();
    void accept_soon();
    void record(Event event);
    Event event(Event::Kind kind, std::string subject, std::string expected, std::string observed) const;
    [[nodiscard]] const Policy* policy() const;  // the one in force, else the one on disk: what is reported about
    [[nodiscard]] const Policy* policy_in_force() const;
    [[nodiscard]] bool enforcing() const;
    const Report& report();

    // ---- work.cpp: what changes files and services, in a child
    void start_work(std::function<Result<>()> work, std::function<void(Result<>)> done);
    void on_work();
    /// Now, or when the work that is under way has ended.
    void when_idle(std::function<void()> then);
    void recover_work();
    void watch_files(const ApplyFacts& facts);
    void on_files();
    void schedule_repair();
    void repair();
    void leave_to_apply(std::vector<Change>& changes) const;
    [[nodiscard]] Event event_of(Event::Kind kind, const Change& change, std::string observed) const;

    // ---- guard.cpp: the watch over the table
    /// True where it is another than before.
    bool choose_ownership(const Policy* policy);
    Result<> watch_table();
    void watch_by_generation(std::string reason);
    void on_notifications();
    void on_generation_tick();
    void on_links();
    void on_drift(const firewall::Change* change, Clock::time_point since);
    void heal(const firewall::Change* change, Clock::time_point since, Event drift);
    static void describe(Event& drift, const firewall::Change* change);
    Result<> restore(const firewall::Change* change);
    void prepare();

    // ---- certificates.cpp: what is due, in a child
    [[nodiscard]] bool rotates() const;
    Result<> watch_clock();
    void on_clock_set();
    void arm_certificates(std::chrono::seconds at_least);
    void watch_renewals(const CertificateFacts& facts);
    void on_renewal();
    void on_certificates_due();
    void run_next_job();
    void on_rotation_output();
    void finish_job(const Json& answer);
    void on_rotate(varlink::Call call);
    Json certificates();
    std::string certificate_metrics();

    // ---- live.cpp
    void ask_live();
    void on_live();
    void on_live_over();
    void end_live();
    void keep_live(Result<live::Facts> facts);

    // ---- logins.cpp: refused logins, from the proxy's log
    void follow_logins();
    void stop_logins();
    void watch_log();
    void on_log_changed();
    void read_log();
    void keep_log();
    std::string login_metrics() const;

    // ---- status.cpp
    Json status();  // without its report
    std::string metrics();

    // ---- api.cpp
    void on_apply(varlink::Call call);
    void on_reload(varlink::Call call);
    void on_undo(varlink::Call call);
    void on_confirm(varlink::Call call);
    void on_report(varlink::Call call);
    void on_history(varlink::Call call);
    void on_plan(varlink::Call call);

    template <void (Agent::*Method)()>
    static int call(sd_event_source*, void* agent) {
        (static_cast<Agent*>(agent)->*Method)();
        return 0;
    }
    template <void (Agent::*Method)()>
    static int call_io(sd_event_source*, int, std::uint32_t, void* agent) {
        (static_cast<Agent*>(agent)->*Method)();
        return 0;
    }
    template <void (Agent::*Method)()>
    static int call_time(sd_event_source*, std::uint64_t, void* agent) {
        (static_cast<Agent*>(agent)->*Method)();
        return 0;
    }
    /// A timer that fires once, `after` from now.
    template <void (Agent::*Method)()>
    void once(EventSource& source, std::chrono::microseconds after, std::chrono::microseconds accuracy);

    AgentOptions options_;
    Engine engine_;
    Handle<sd_event, sd_event_unref> loop_;
    Clock::time_point started_ = Clock::now();

    std::optional<Candidate> in_force_;
    std::optional<Candidate> on_disk_;  // the last that could be read
    std::string disk_problem_;          // why the one there now could not; without quotes
    bool disk_differs_ = false;
    ParsedLists lists_;
    bool trial_ = false;
    bool accept_pending_ = false;

    Watching watching_ = Watching::nothing;
    std::string watching_reason_;
    firewall::Ownership ownership_ = firewall::Ownership::plain;
    std::string ownership_reason_;
    std::optional<firewall::Monitor> monitor_;
    std::optional<host::LinkMonitor> links_;
    std::optional<firewall::Kernel::Prepared> prepared_;
    Backoff backoff_;
    std::optional<Clock::time_point> open_since_;  // drift that waits to be healed
    Clock::time_point last_good_ = Clock::now();

    struct Job {
        Json request;
        std::optional<varlink::Call> call;  // nobody: the timer asked
    };
    std::deque<Job> jobs_;  // the first is the one that runs
    pid_t rotating_ = 0;
    std::string rotating_for_;  // the policy that the child has, by its digest
    Fd rotation_output_, clock_;
    std::string rotation_said_;
    std::optional<CertificateFacts> certificate_facts_;  // of the last report

    std::optional<nginx::LogFollower> log_;  // where the policy has a proxy
    nginx::AuthFailures failures_;
    std::string log_problem_, kept_;         // the last one told; what is on disk
    Clock::time_point log_kept_{};
    Fd log_inotify_;
    struct Work {
        pid_t child = 0;
        Fd output;
        std::string said;
        std::function<void(Result<>)> done;
    };
    std::optional<Work> working_;                 // one at a time
    std::deque<std::function<void()>> after_work_;  // what was asked meanwhile
    Fd files_inotify_;
    std::set<std::string> watched_;  // directories
    std::vector<Change> hopeless_;   // what could not be repaired as things are
    Backoff repair_backoff_;
    bool repair_pending_ = false;

    std::optional<probe::Inquiry> inquiry_;            // under way
    std::optional<Result<live::Facts>> live_;          // what the last one learned
    std::optional<Report> report_;
    Clock::time_point reported_{};
    std::optional<Event> last_drift_, last_heal_;

    std::unique_ptr<varlink::Server> server_;
    varlink::Subscribers watchers_;
    Fd inotify_, renewals_;
    std::set<std::string> renewals_watched_;  // directories of other tools
    EventSource monitor_source_, tick_source_, links_source_, trial_source_, recheck_source_, disk_source_, settle_source_, heal_source_, accepting_source_,
        start_guard_source_, work_source_, files_source_, repair_source_, certificates_source_, rotation_source_, clock_source_, renewals_source_, inquiry_source_, inquiry_timer_,
        log_source_, log_timer_;
    std::vector<EventSource> signals_;
};

template <void (Agent::*Method)()>
void Agent::once(EventSource& source, std::chrono::microseconds after, std::chrono::microseconds accuracy) {
    sd_event_source* made = nullptr;
    sd_event_add_time_relative(loop_.get(), &made, CLOCK_BOOTTIME, static_cast<std::uint64_t>(std::max<std::int64_t>(after.count(), 0)),
                               static_cast<std::uint64_t>(accuracy.count()), call_time<Method>, this);
    source.reset(made);
}

}  // namespace promwarden
