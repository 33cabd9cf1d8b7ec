// The watch over the table: noticing, undoing, saying who it was.

#include <charconv>
#include <climits>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;

constexpr auto generation_period = 100ms;
// While somebody listens, every element that another program loads costs the kernel some eight kilobytes until it is committed.
constexpr std::uint64_t large_foreign_set = 10'000;
constexpr std::string_view filter_control = "network.packet-filter";

std::string table_subject() { return fmt::format("table inet {}", table_name); }

std::string proc_path(pid_t pid, std::string_view name) { return fmt::format("/proc/{}/{}", pid, name); }

std::string proc_text(pid_t pid, std::string_view name) {
    const Fd fd{::open(proc_path(pid, name).c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 64> text{};
    const auto length = fd ? ::read(*fd, text.data(), text.size()) : 0;
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
}

/// Whoever made that change, as far as it must be asked at once: a process that ends loses its executable first, and the table waits.
Actor first_sight(const firewall::Generation& generation) {
    Actor actor{generation.comm, generation.pid, {}, {}};
    std::array<char, PATH_MAX> exe{};
    const auto length = generation.pid <= 0 ? -1 : ::readlink(proc_path(generation.pid, "exe").c_str(), exe.data(), exe.size());
    if (length > 0) actor.exe.assign(exe.data(), static_cast<std::size_t>(length));
    return actor;
}

/// The rest. The kernel numbers processes as its first namespace does; in another one that number may be somebody else, and then nothing is said of it.
void look_again(Actor& actor) {
    if (actor.pid <= 0) return;
    if (proc_text(actor.pid, "comm") != actor.comm + "\n") {
        actor.exe.clear();
        return;
    }
    const auto login = proc_text(actor.pid, "loginuid");
    uid_t uid = 0;
    if (std::from_chars(login.data(), login.data() + login.size(), uid).ec == std::errc{} && uid != static_cast<uid_t>(-1)) actor.loginuid = uid;
}

}  // namespace

std::chrono::milliseconds Backoff::next(Clock::time_point now) {
    if (now - last_ > 1min) count_ = 0;
    last_ = now;
    if (++count_ <= free_) return 0ms;
    const auto doublings = std::min(count_ - free_ - 1, 7U);
    return std::min(std::chrono::milliseconds(10 << doublings), 1000ms);
}

bool Agent::choose_ownership(const Policy* policy) {
    const auto before = std::exchange(ownership_, firewall::Ownership::plain);
    if (policy != nullptr && !policy->firewall.own_table) {
        ownership_reason_ = "the policy says ownership = \"off\"";
    } else if (const auto able = engine_.kernel().can_own(); !able) {
        ownership_reason_ = able.error().text();
    } else if (!*able) {
        ownership_reason_ = "this kernel has no owned tables that persist (6.9 or newer has)";
    } else {
        ownership_ = firewall::Ownership::owned;
        ownership_reason_ = "nobody else can change the table";
        // Kept by the service manager, the socket goes on owning the table while no agent runs.
        int fd = engine_.kernel().fd();
        sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=nf_tables", &fd, 1);
    }
    engine_.set_ownership(ownership_);
    return ownership_ != before;
}

Result<> Agent::watch_table() {
    monitor_source_.reset();
    monitor_.reset();
    tick_source_.reset();
    watching_ = Watching::nothing;
    if (ownership_ == firewall::Ownership::owned) {
        watching_reason_ = "an owned table needs none";
        return {};
    }
    const auto foreign = firewall::read_foreign(engine_.kernel());
    if (foreign && foreign->largest_set >= large_foreign_set) {
        watch_by_generation(fmt::format("another table has a set of {} elements", foreign->largest_set));
        return {};
    }
    monitor_ = TRY(firewall::Monitor::open());
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, monitor_->fd(), EPOLLIN, call_io<&Agent::on_notifications>, this);
    sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT);
    monitor_source_.reset(source);
    watching_ = Watching::notifications;
    watching_reason_ = "the kernel tells of every change";
    return {};
}

void Agent::watch_by_generation(std::string reason) {
    monitor_source_.reset();
    monitor_.reset();
    watching_ = Watching::generation;
    watching_reason_ = std::move(reason);
    once<&Agent::on_generation_tick>(tick_source_, generation_period, 10ms);
}

void Agent::on_notifications() {
    for (;;) {
        const auto noticed = Clock::now();
        const auto change = monitor_->next();
        if (!change) {
            watch_by_generation(change.error().text());
            engine_.distrust();
            on_drift(nullptr, last_good_);
            return;
        }
        if (!*change) return;
        last_good_ = noticed;  // whatever came before this was seen
        if ((*change)->port_id == engine_.kernel().port_id()) continue;
        if (!(*change)->ours) {
            engine_.passed((*change)->generation.id);
            report_.reset();  // other people's rules may lead around ours
            if ((*change)->foreign_elements < large_foreign_set) continue;
            watch_by_generation(fmt::format("another table was given {} elements at once", (*change)->foreign_elements));
            return;
        }
        on_drift(&**change, noticed);
        if (!monitor_) return;
    }
}

void Agent::on_generation_tick() {
    once<&Agent::on_generation_tick>(tick_source_, generation_period, 10ms);
    const auto now = engine_.kernel().generation();
    if (!now) return log_problem(now.error().text());
    if (engine_.live() && engine_.live()->generation == now->id) {
        last_good_ = Clock::now();
        return;
    }
    engine_.distrust();
    on_drift(nullptr, last_good_);
}

void Agent::on_links() {
    const auto changed = links_->changed();
    if (!changed) return log_problem(changed.error().text());
    if (!*changed) return;
    report_.reset();
    engine_.links_changed();
    if (!enforcing() || open_since_) return;
    if (const auto done = engine_.enforce(&in_force_->policy); !done) log_problem(done.error().text());
    else if (*done) prepare();
}

/// What was changed and by whom, in words: not before it is undone.
void Agent::describe(Event& drift, const firewall::Change* change) {
    if (change == nullptr) return;
    drift.observed = fmt::format("{}", fmt::join(firewall::describe(*change), "; "));
    look_again(*drift.by);
}

/// The table was touched, or may have been. Without a change to go by, looking tells whether it was.
void Agent::on_drift(const firewall::Change* change, Clock::time_point since) {
    if (!in_force_) return;
    report_.reset();
    auto drift = event(Event::Kind::drift, table_subject(), "the policy's ruleset", "");
    if (change == nullptr) {
        const std::string only(filter_control);
        const auto plan = Engine::plan(in_force_->policy, engine_.observe(in_force_->policy, {&only, 1}), {&only, 1});
        if (plan.empty()) {
            last_good_ = Clock::now();
            return;
        }
        drift.observed = plan.changes.front().diff.substr(0, 400);
    } else {
        drift.by = first_sight(change->generation);
    }
    if (!enforcing()) {
        describe(drift, change);
        record(drift);
        return;
    }
    if (open_since_) {  // already waiting to be healed: one more reason
        if (change != nullptr) engine_.distrust();
        return;
    }
    const auto wait = backoff_.next(Clock::now());
    if (wait > 0ms) {
        describe(drift, change);
        record(drift);
        engine_.distrust();
        open_since_ = since;
        sd_event_source* source = nullptr;
        sd_event_add_time_relative(
            loop_.get(), &source, CLOCK_BOOTTIME, static_cast<std::uint64_t>(std::chrono::microseconds(wait).count()), 1000,
            [](sd_event_source*, std::uint64_t, void* agent) {
                auto& self = *static_cast<Agent*>(agent);
                const auto opened = *std::exchange(self.open_since_, std::nullopt);
                self.heal(nullptr, opened, self.last_drift_.value_or(Event{}));
                return 0;
            },
            this);
        heal_source_.reset(source);
        return;
    }
    heal(change, since, drift);
}

/// Makes the table right again, first; writes about it, second.
void Agent::heal(const firewall::Change* change, Clock::time_point since, Event drift) {
    const bool recorded = change == nullptr && last_drift_ && last_drift_->time == drift.time;
    auto restored = restore(change);
    if (!restored) {
        engine_.distrust();
        restored = restore(nullptr);  // from a fresh look
    }
    const auto gap = std::chrono::duration_cast<std::chrono::microseconds>(std::max(engine_.kernel().last_commit(), since) - since);
    if (!recorded) {
        describe(drift, change);
        record(drift);
    }
    if (!restored) {
        log_problem(fmt::format("cannot restore the table: {}", restored.error().text()));
        open_since_ = since;
        once<&Agent::recheck>(heal_source_, 1s, 10ms);
        return;
    }
    last_good_ = Clock::now();
    auto healed = event(Event::Kind::heal, table_subject(), "the policy's ruleset", backoff_.contested() ? "restored; somebody keeps changing it" : "restored");
    healed.time -= std::chrono::duration_cast<std::chrono::system_clock::duration>(last_good_ - std::max(engine_.kernel().last_commit(), since));
    healed.by = drift.by;
    healed.gap = gap;
    record(healed);
}

Result<> Agent::restore(const firewall::Change* change) {
    if (change != nullptr && change->table_removed && prepared_) {
        const auto sent = engine_.kernel().send(*prepared_);
        if (sent) return engine_.restored();
        if (sent.error().code != Code::conflict) return sent;  // else somebody made another table of that name at once: compare with that
    }
    if (change != nullptr) engine_.follow(*change);
    // The second time against what the kernel says it has now: announcements may leave something out.
    if (TRY(engine_.enforce(&in_force_->policy))) TRY(engine_.enforce(&in_force_->policy));
    return {};
}

void Agent::prepare() {
    const auto& live = engine_.live();
    prepared_.reset();
    if (ownership_ == firewall::Ownership::plain && enforcing() && live && live->ruleset) prepared_ = engine_.kernel().prepare(*live->ruleset, ownership_, live->counters);
}

}  // namespace promwarden
