// The loop: what is loaded first, what wakes it, how a policy is taken.

#include "agent.hpp"

#include <csignal>
#include <filesystem>

#include <fmt/format.h>
#include <grp.h>
#include <nlohmann/json.hpp>
#include <sys/inotify.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

namespace promwarden {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view filter_control = "network.packet-filter";
constexpr auto disk_settles = 200ms;     // an editor writes more than once
constexpr auto live_settles = 2s;        // servers start, too; an apply has other things to do
constexpr auto report_age = 1s;          // at most one observation a second for readers
constexpr std::size_t large_load = 1000; // elements; above it nobody listens while they are loaded

std::string policy_subject(const std::string& path) { return "policy " + path; }

/// A socket of nf_tables that the service manager kept for us.
Fd kept_socket() {
    char** names = nullptr;
    const int count = sd_listen_fds_with_names(1, &names);
    Fd kept;
    for (int i = 0; i < count; ++i) {
        Fd fd(SD_LISTEN_FDS_START + i);
        if (std::string_view(names[i]) == "nf_tables" && !kept) kept = std::move(fd);
        ::free(names[i]);
    }
    ::free(names);
    return kept;
}

/// From the file that sysusers writes: NSS could wait for a directory server, and loads libraries to do so.
std::optional<gid_t> readers() {
    const Handle<FILE, ::fclose> file{::fopen("/etc/group", "re")};
    while (const auto* entry = file ? ::fgetgrent(file.get()) : nullptr)
        if (entry->gr_name == std::string_view("promwarden")) return entry->gr_gid;
    return std::nullopt;
}

std::size_t source_count(const Policy& policy) {
    std::size_t total = 0;
    for (const auto& group : policy.firewall.sources) total += count(group.networks);
    return total;
}

}  // namespace

Result<std::unique_ptr<Agent>> Agent::start(const AgentOptions& options) {
    auto state = TRY(State::open(options.state));
    auto engine = TRY(Engine::open(std::move(state), kept_socket()));
    sd_event* loop = nullptr;
    if (const int error = sd_event_new(&loop); error < 0) return fail_errno("start the event loop", "", -error);
    std::unique_ptr<Agent> agent(new Agent(options, std::move(engine), loop));
    agent->engine_.set_probe({fmt::format("{}/probe", options.socket.substr(0, options.socket.rfind('/'))), options.policy, {}});
    TRY(agent->begin());
    return agent;
}

Result<> Agent::run() {
    sd_event_set_watchdog(loop_.get(), 1);
    sd_notify(0, "READY=1\nSTATUS=serving");
    if (const int error = sd_event_loop(loop_.get()); error < 0) return fail_errno("run the event loop", "", -error);
    sd_notify(0, "STOPPING=1");
    stop_logins();
    return {};
}

Result<> Agent::begin() {
    engine_.set_confined(true);
    TRY(load_in_force());
    // The table is right from here on; everything below only keeps it so and talks about it.
    TRY(watch_signals());
    TRY(watch_table());
    links_ = TRY(host::LinkMonitor::open());
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, links_->fd(), EPOLLIN, call_io<&Agent::on_links>, this);
    links_source_.reset(source);
    TRY(watch_trial());
    TRY(watch_disk());
    TRY(watch_clock());
    compare_disk();
    follow_logins();
    arm_recheck();
    once<&Agent::ask_live>(inquiry_timer_, live_settles, 100ms);
    server_ = TRY(varlink::Server::start(loop_.get(), TRY(varlink::listen(options_.socket, readers())), service()));
    if (rotates()) once<&Agent::on_certificates_due>(certificates_source_, 1s, 100ms);  // whatever an earlier life left unfinished
    recover_work();
    return {};
}

/// The last accepted policy, or the trial that is still running, or, where that is lost, its ports closed.
Result<> Agent::load_in_force() {
    auto remembered = engine_.remember();
    for (const auto& problem : remembered.problems) log_problem(problem.text());
    if (remembered.ended)
        record(event(Event::Kind::undo, policy_subject(options_.policy), "confirmed in time", "the trial was not confirmed; the policy before it is in force"));
    if (remembered.lost) protect_without_policy();
    if (!remembered.candidate) return {};
    in_force_ = std::move(remembered.candidate);
    trial_ = remembered.trial;
    engine_.set_links_watched(true);
    choose_ownership(policy_in_force());
    if (!enforcing()) return {};
    if (const auto done = engine_.enforce(&in_force_->policy); !done) {
        log_problem(fmt::format("cannot load the policy in force: {}", done.error().text()));
        once<&Agent::recheck>(heal_source_, 1s, 10ms);
    } else if (*done) {
        record(event(Event::Kind::apply, policy_subject(in_force_->policy.path), "in force", "loaded at start"));
    }
    prepare();
    once<&Agent::keep_start_guard>(start_guard_source_, 0s, 1ms);  // not now: whoever waits for us waits for the network, too
    return {};
}

void Agent::protect_without_policy() {
    const auto done = engine_.close_ports();
    auto told = event(Event::Kind::policy, policy_subject(options_.policy), "the accepted policy", "it is lost; its ports are closed to everything but loopback until the next apply");
    if (!done) told.observed = fmt::format("it is lost, and its ports could not be closed: {}", done.error().text());
    record(told);
}

/// The server's own start goes on asking for the guard, whoever removed that.
void Agent::keep_start_guard() {
    if (!enforcing() || trial_) return;
    const auto done = engine_.place_start_guard(&in_force_->policy);
    if (!done) log_problem(done.error().text());
    if (done && *done) record(event(Event::Kind::apply, fmt::format("unit {}", in_force_->policy.prometheus.unit), "starts only behind the guard", "its drop-in was written again"));
}

// ---- what wakes it --------------------------------------------------------------------------------------------------

Result<> Agent::watch_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        sd_event_source* source = nullptr;
        const int error = sd_event_add_signal(
            loop_.get(), &source, number,
            [](sd_event_source* from, const signalfd_siginfo* info, void* agent) {
                if (info->ssi_signo != SIGHUP) return sd_event_exit(sd_event_source_get_event(from), 0);
                auto& self = *static_cast<Agent*>(agent);
                auto candidate = self.read_disk();
                if (!candidate) {
                    log_problem(to_text(candidate.error().front(), false) + "; the policy in force stays");
                    return 0;
                }
                ApplyRequest request;
                request.only = {std::string(filter_control)};  // the table at once; files a moment later
                self.take(*std::move(candidate), request, [](const Result<Plan>& taken) {
                    if (!taken) log_problem(taken.error().text() + "; the policy in force stays");
                });
                return 0;
            },
            this);
        if (error < 0) return fail_errno("watch signals", "", -error);
        signals_.emplace_back(source);
    }
    return {};
}

Result<> Agent::watch_trial() {
    const auto trial = TRY(engine_.state().trial());
    trial_source_.reset();
    trial_ = trial.has_value();
    if (trial) once<&Agent::on_trial_over>(trial_source_, std::chrono::ceil<std::chrono::microseconds>(remaining(*trial)), 1ms);
    return {};
}

void Agent::on_trial_over() {
    const auto ended = engine_.settle();
    // What did not end is asked again: the loop's clock stands still while it works, so that a timer may be early.
    const auto watched = ended ? watch_trial() : Result<>(std::unexpected(ended.error()));
    if (!watched) {
        log_problem(fmt::format("cannot end the trial: {}", watched.error().text()));
        once<&Agent::on_trial_over>(trial_source_, 1s, 10ms);
        return;
    }
    if (trial_) return;
    return_to_accepted();
    if (!*ended) return recheck();  // a command was faster, and we may have defended the trial against it
    recover_work();  // what the trial had changed of files and services
    record(event(Event::Kind::undo, policy_subject(options_.policy), "confirmed in time", "the trial was not confirmed; the policy before it is in force"));
    compare_disk();
}

/// The engine went back to what was accepted before; so do we.
void Agent::return_to_accepted() {
    if (auto accepted = engine_.state().accepted(); accepted) in_force_ = std::move(*accepted);
    if (choose_ownership(policy_in_force())) {
        if (const auto done = enforcing() ? engine_.enforce(&in_force_->policy) : Result<bool>(false); !done) log_problem(done.error().text());
        if (const auto watched = watch_table(); !watched) log_problem(watched.error().text());
    }
    prepare();
    report_.reset();
    arm_certificates(0s);
}

void Agent::arm_recheck() {
    const auto* now = policy();
    once<&Agent::recheck>(recheck_source_, now == nullptr ? 300s : now->recheck, 1s);
}

/// A full look. The generation tells whether anything in nf_tables moved at all since the last one.
void Agent::recheck() {
    arm_recheck();
    open_since_.reset();
    report_.reset();
    compare_disk();
    if (enforcing()) {
        const auto done = engine_.enforce(&in_force_->policy);
        if (!done) log_problem(done.error().text());
        if (done && *done) record(event(Event::Kind::heal, fmt::format("table inet {}", table_name), "the policy's ruleset", "restored by a full check"));
        keep_start_guard();
    }
    if (watching_ == Watching::generation)
        if (const auto watched = watch_table(); !watched) log_problem(watched.error().text());
    follow_logins();
    if (log_) read_log();  // a directory that was not there may be by now
    report();
    ask_live();
    if (rotating_ == 0) arm_certificates(0s);
    schedule_repair();
}

// ---- the policy on disk ---------------------------------------------------------------------------------------------

std::expected<Candidate, Diagnostics> Agent::read_disk() {
    const auto* previous = on_disk_ ? &*on_disk_ : in_force_ ? &*in_force_ : nullptr;
    return load_candidate(options_.policy, previous, &lists_);
}

Result<> Agent::watch_disk() {
    inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_) return fail_errno("watch", options_.policy);
    const auto directory = std::filesystem::path(options_.policy).parent_path();
    constexpr std::uint32_t changes = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB;
    for (const auto& path : {directory, directory / "policy.d"}) ::inotify_add_watch(*inotify_, path.c_str(), changes);  // one that is missing is looked at by recheck
    sd_event_source* source = nullptr;
    sd_event_add_io(
        loop_.get(), &source, *inotify_, EPOLLIN,
        [](sd_event_source*, int fd, std::uint32_t, void* agent) {
            alignas(inotify_event) std::array<char, 4096> buffer{};
            while (::read(fd, buffer.data(), buffer.size()) > 0) {}
            auto& self = *static_cast<Agent*>(agent);
            self.once<&Agent::compare_disk>(self.settle_source_, disk_settles, 50ms);
            return 0;
        },
        this);
    disk_source_.reset(source);
    return {};
}

/// Says so, once, when the file stops or starts being what is in force. Never obeys it.
void Agent::compare_disk() {
    auto candidate = read_disk();
    const auto problem = candidate ? std::string() : to_text(candidate.error().front(), false);
    if (candidate) on_disk_ = *std::move(candidate);
    const bool differs = in_force_ && (!problem.empty() || !on_disk_->sources.same_text(in_force_->sources));
    if (!problem.empty() && problem != disk_problem_) {
        record(event(Event::Kind::policy, policy_subject(options_.policy), "a valid policy", problem));
    } else if (differs && !disk_differs_) {
        record(event(Event::Kind::policy, policy_subject(options_.policy), "the policy in force", "the policy on disk differs from the policy in force"));
    }
    disk_problem_ = problem;
    disk_differs_ = differs;
}

/// The one way in which a policy comes into force while the agent runs.
void Agent::take(Candidate candidate, ApplyRequest request, std::function<void(Result<Plan>)> then) {
    if (working_) return when_idle([this, candidate = std::move(candidate), request, then] { take(candidate, request, then); });
    const auto now = source_count(candidate.policy), before = in_force_ ? source_count(in_force_->policy) : 0;
    const bool large = (now > before ? now - before : before - now) > large_load;
    if (large && monitor_) {
        monitor_source_.reset();
        monitor_.reset();
    }
    engine_.set_links_watched(true);
    const bool ownership_changed = choose_ownership(&candidate.policy);
    auto applying = engine_.begin_apply(candidate, request);
    if (!applying) {
        choose_ownership(policy_in_force());  // refused, or undone
        watch_table_again(ownership_changed, large);
        report_.reset();
        return then(std::unexpected(applying.error()));
    }
    in_force_ = std::move(candidate);  // the kernel has it
    on_disk_ = in_force_;
    watch_table_again(ownership_changed, large);
    if (!applying->begun || applying->work.empty()) return finish_taking(*std::move(applying), {}, then);
    const auto shared = std::make_shared<Applying>(*std::move(applying));
    start_work([this, shared] { return engine_.work(*shared); }, [this, shared, then](Result<> worked) { finish_taking(std::move(*shared), std::move(worked), then); });
}

void Agent::finish_taking(Applying applying, Result<> worked, const std::function<void(Result<Plan>)>& then) {
    const bool trial = applying.request.confirm_within.has_value(), later = applying.request.accept_later && !trial;
    auto plan = engine_.finish_apply(std::move(applying), std::move(worked));
    hopeless_.clear();
    report_.reset();
    if (plan) {
        accept_pending_ = later;
        if (trial)  // before anybody is told: its end is ours to see, whatever comes between
            if (const auto watched = watch_trial(); !watched) log_problem(watched.error().text());
        accept_soon();
    } else {
        return_to_accepted();
        recover_work();
    }
    then(std::move(plan));
}

void Agent::watch_table_again(bool ownership_changed, bool large) {
    if (ownership_changed || ((large || !monitor_) && watching_ != Watching::generation))
        if (const auto watched = watch_table(); !watched) log_problem(watched.error().text());
}

/// What can wait until the answer is on its way.
void Agent::accept_in_force() {
    if (std::exchange(accept_pending_, false))
        if (const auto accepted = engine_.state().accept(*in_force_); !accepted)
            record(event(Event::Kind::policy, policy_subject(in_force_->policy.path), "kept on disk", accepted.error().text()));
    prepare();
    record(event(Event::Kind::apply, policy_subject(in_force_->policy.path), "in force", trial_ ? "on trial until it is confirmed" : "in force"));
    compare_disk();
    follow_logins();
    arm_recheck();
    arm_certificates(0s);
    if (!repair_pending_) once<&Agent::repair>(repair_source_, live_settles, 100ms);
    end_live();
    once<&Agent::ask_live>(inquiry_timer_, live_settles, 100ms);
}

void Agent::accept_soon() {
    sd_event_source* source = nullptr;
    sd_event_add_defer(loop_.get(), &source, call<&Agent::accept_in_force>, this);
    sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IDLE);  // after the answer was written
    sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    accepting_source_.reset(source);
}

// ---- what everybody needs -------------------------------------------------------------------------------------------

const Policy* Agent::policy() const { return in_force_ ? &in_force_->policy : on_disk_ ? &on_disk_->policy : nullptr; }

const Policy* Agent::policy_in_force() const { return in_force_ ? &in_force_->policy : nullptr; }

bool Agent::enforcing() const { return in_force_ && in_force_->policy.mode_of(filter_control) == Mode::enforce; }

Event Agent::event(Event::Kind kind, std::string subject, std::string expected, std::string observed) const {
    Event event;
    event.kind = kind;
    event.time = std::chrono::system_clock::now();
    if (kind == Event::Kind::drift || kind == Event::Kind::heal) event.control = filter_control;
    event.subject = std::move(subject);
    event.expected = std::move(expected);
    event.observed = std::move(observed);
    return event;
}

void Agent::record(Event event) {
    log_event(event);
    if (const auto kept = engine_.state().record(event); !kept) log_problem(kept.error().text());
    watchers_.push({{"event", to_json(event)}});
    if (event.kind == Event::Kind::drift) last_drift_ = event;
    if (event.kind == Event::Kind::heal) last_heal_ = event;
}

const Report& Agent::report() {
    if (report_ && Clock::now() - reported_ < report_age) return *report_;
    static const Policy nothing;
    const auto& subject = policy() == nullptr ? nothing : *policy();
    auto facts = engine_.observe(subject, {}, Asking::no);
    if (live_) add_live(facts, *live_);
    report_ = evaluate(subject, facts);
    certificate_facts_ = facts.certificates ? std::optional(*facts.certificates) : std::nullopt;
    reported_ = Clock::now();
    return *report_;
}

Result<> run_agent(const AgentOptions& options) { return TRY(Agent::start(options))->run(); }

}  // namespace promwarden
