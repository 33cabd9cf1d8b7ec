// What changes files and services. It is done in a child: a service may take minutes to stop and to start, and the table cannot wait for that.

#include <algorithm>
#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;

constexpr auto files_settle = 50ms;  // a program that writes a file does more than one thing to it
constexpr std::size_t most_watched = 512;
constexpr std::uint32_t events_of_files = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR;

/// What came of it, as the child says it: "" or an error's text, its code before.
std::string said(const Result<>& done) { return done ? "done" : fmt::format("{} {}", static_cast<int>(done.error().code), done.error().text()); }

Result<> heard(std::string_view text) {
    if (text == "done") return {};
    const auto space = text.find(' ');
    const int code = space == std::string_view::npos ? -1 : std::atoi(std::string(text.substr(0, space)).c_str());
    if (code < 0 || code > static_cast<int>(Code::failed)) return fail(Code::failed, "", "", "the child that makes changes gave no answer");
    return fail(static_cast<Code>(code), "", "", std::string(text.substr(space + 1)));
}

}  // namespace

void Agent::start_work(std::function<Result<>()> work, std::function<void(Result<>)> done) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return done(fail_errno("make a pipe", ""));
    Fd from(ends[0]), into(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return done(fail_errno("start a child", ""));
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        const auto text = said(work());
        (void)!::write(*into, text.data(), text.size());
        ::_exit(0);
    }
    working_ = Work{child, std::move(from), {}, std::move(done)};
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, *working_->output, EPOLLIN, call_io<&Agent::on_work>, this);
    work_source_.reset(source);
}

void Agent::on_work() {
    std::array<char, 4096> buffer{};
    const auto got = ::read(*working_->output, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) return;
    if (got > 0) {
        working_->said.append(buffer.data(), static_cast<std::size_t>(got));
        return;
    }
    work_source_.reset();
    auto ended = *std::exchange(working_, std::nullopt);
    while (::waitpid(ended.child, nullptr, 0) < 0 && errno == EINTR) {}
    report_.reset();
    ended.done(heard(ended.said));
    while (!working_ && !after_work_.empty()) {
        const auto next = std::move(after_work_.front());
        after_work_.pop_front();
        next();
    }
    schedule_repair();
}

void Agent::when_idle(std::function<void()> then) {
    if (working_) after_work_.push_back(std::move(then));  // as many as there are connections
    else then();
}

/// What an earlier life began and did not end is put in order before anything else is changed.
void Agent::recover_work() {
    when_idle([this] {
        start_work(
            [this]() -> Result<> {
                TRY(engine_.recover());
                return {};
            },
            [](const Result<>& done) {
                if (!done) log_problem(fmt::format("what an earlier run left could not be put in order: {}", done.error().text()));
            });
    });
}

// ---- files that controls depend on ----------------------------------------------------------------------------------

/// Follows the directories of every file that a control looked at. Writing into a database is not news; that its directory was opened is.
void Agent::watch_files(const ApplyFacts& facts) {
    if (!files_inotify_) {
        files_inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
        sd_event_source* source = nullptr;
        sd_event_add_io(loop_.get(), &source, *files_inotify_, EPOLLIN, call_io<&Agent::on_files>, this);
        files_source_.reset(source);
    }
    host::Places places;
    places.seen_from = 1;
    const auto root = host::host_root(places);
    const auto watch = [&](const std::string& directory) {
        if (directory.size() <= 1 || watched_.size() >= most_watched || watched_.contains(directory)) return;
        if (::inotify_add_watch(*files_inotify_, (root + directory).c_str(), events_of_files) >= 0) watched_.insert(directory);
    };
    const auto parent = [](const std::string& path) { return path.substr(0, path.rfind('/')); };
    if (facts.site && *facts.site)
        for (const auto& path : {(*facts.site)->file, (*facts.site)->link}) watch(parent(path));
    const auto watch_file = [&](const NamedFile& file) {
        for (const auto& step : file.steps)
            if (file.trusted && step.directory >= 0) watch(file.steps[static_cast<std::size_t>(step.directory)].path);  // else somebody else chose the name
    };
    if (facts.files) {
        for (const auto& server : facts.files->servers) std::ranges::for_each(server.files, watch_file);
        for (const auto& ruled : facts.files->ruled) watch_file(ruled.file);
    }
    if (!facts.bare_unit || !*facts.bare_unit) return;
    const auto& bare = **facts.bare_unit;
    for (const auto& directory : {bare.directory, parent(bare.directory), parent(bare.unit.fragment)}) watch(directory);
    for (const auto& [file, optional] : bare.unit.environment_files) watch(parent(file));
}

void Agent::on_files() {
    alignas(inotify_event) std::array<char, 16 << 10> buffer{};
    bool news = false;
    for (ssize_t got = 0; (got = ::read(*files_inotify_, buffer.data(), buffer.size())) > 0;) {
        for (ssize_t at = 0; at < got;) {
            const auto* one = reinterpret_cast<const inotify_event*>(buffer.data() + at);
            at += static_cast<ssize_t>(sizeof(inotify_event) + one->len);
            if ((one->mask & IN_IGNORED) != 0) watched_.clear();  // a directory went away: look again at which there are
            const std::string_view name = one->len > 0 ? one->name : "";
            news |= !(name.starts_with('.') && name.contains(".promwarden"));
        }
    }
    if (!news) return;
    report_.reset();
    schedule_repair();
}

void Agent::schedule_repair() {
    if (repair_pending_) return;
    repair_pending_ = true;
    once<&Agent::repair>(repair_source_, files_settle, 10ms);
}

/// A site that no apply has installed is not a repair's to install: an undo would not know of it. So it is with one that waits for its certificate.
void Agent::leave_to_apply(std::vector<Change>& changes) const {
    const auto made = changes_to_undo(engine_.state(), true);
    std::erase_if(changes, [&](const Change& change) {
        return change.kind == Change::Kind::site && (!made || std::ranges::find(*made, change.subject, &Change::subject) == made->end());
    });
}

/// Looks whether what an apply made is still so, and makes it so again. What could not be made so is not tried again until something is different.
void Agent::repair() {
    repair_pending_ = false;
    if (!in_force_ || working_ || trial_) return;
    const auto& policy = in_force_->policy;
    const auto controls = kept_by_work(policy);
    if (controls.empty()) return;
    const auto facts = engine_.observe_for_apply(policy, controls);
    watch_files(facts);
    const auto plan = Engine::plan(policy, facts, controls);
    auto changes = Engine::work_of(policy, plan);
    leave_to_apply(changes);
    for (auto& change : changes)
        if (change.effect == Effect::restart) change.effect = Effect::units;  // a restart is an administrator's to ask for: the next start has it
    if (changes.empty() || changes == hopeless_) return;
    const auto wait = repair_backoff_.next(Clock::now());
    if (wait > 0ms) {
        repair_pending_ = true;
        return once<&Agent::repair>(repair_source_, wait, 10ms);
    }
    for (const auto& change : changes) record(event_of(Event::Kind::drift, change, change.summary));
    start_work([this, changes] { return engine_.repair(in_force_->policy, changes); },
               [this, changes](const Result<>& done) {
                   if (!done) {
                       hopeless_ = changes;
                       return log_problem(done.error().text());
                   }
                   for (const auto& change : changes) record(event_of(Event::Kind::heal, change, "restored"));
               });
}

Event Agent::event_of(Event::Kind kind, const Change& change, std::string observed) const {
    auto told = event(kind, change.subject, change.diff.substr(0, 400), std::move(observed));
    told.control = change.control;
    return told;
}

}  // namespace promwarden
