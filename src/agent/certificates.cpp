// Certificates: when they are due, and the child that does what is due. Issuers, handshakes and RSA keys take their time, which the loop must not; a child also
// takes every key with it when it ends.

#include <csignal>
#include <filesystem>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view rotation_control = "tls.rotation";
constexpr auto longest_wait = 1h;      // then the rule is asked again
constexpr auto after_trouble = 1min;   // before a run that could not even begin is tried again
constexpr auto tool_settles = 1s;      // it writes more than one file
constexpr std::size_t most_jobs = 8;
constexpr std::size_t longest_answer = 256 << 10;

std::string text_at(const Json& json, const char* name) { return json.is_object() && json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : std::string(); }
bool flag_at(const Json& json, const char* name) { return json.is_object() && json.contains(name) && json[name].is_boolean() && json[name].get<bool>(); }

Json trouble(const Error& error) { return {{"error", error.text()}}; }

/// In the child: all that one job asks for.
Json run_job(const Json& job, const Policy& policy, const std::string& state, const probe::ClientOptions& probe) {
    auto rotator = rotation::Rotator::open(rotation::places_of(policy, state), world_of(probe, policy.prometheus, true), policy);
    if (!rotator) return trouble(rotator.error());
    Json rotations = Json::array();
    for (const auto& one : rotator->recovered()) rotations.push_back(rotation::to_json(one));
    if (flag_at(job, "authority")) {
        const auto step = rotator->roll_over(flag_at(job, "until_overlap"));
        if (!step) return trouble(step.error());
        return {{"step", rotation::to_text(*step)}, {"rotations", std::move(rotations)}, {"notes", rotator->notes()}};
    }
    if (const auto name = text_at(job, "name"); !name.empty()) {
        const auto certificate = std::ranges::find(policy.tls.certificates, name, &CertificatePolicy::name);
        if (certificate == policy.tls.certificates.end()) return {{"error", "the policy names no such certificate"}};
        const auto done = rotator->rotate(*certificate, flag_at(job, "rekey"), flag_at(job, "force"));
        if (!done) return trouble(done.error());
        rotations.push_back(rotation::to_json(*done));
    } else {
        for (const auto& one : rotator->rotate_due()) rotations.push_back(rotation::to_json(one));
    }
    return {{"rotations", std::move(rotations)}, {"notes", rotator->notes()}};
}

std::string observed_of(const Json& rotation) {
    const auto action = text_at(rotation, "action"), note = text_at(rotation, "note");
    if (action == "none") return note;
    const auto& after = rotation["after"];
    return fmt::format("{}: serial {}, expires {}{}{}", action, text_at(after, "serial"), text_at(after, "not_after"), note.empty() ? "" : "; ", note);
}

}  // namespace

bool Agent::rotates() const { return in_force_ && !trial_ && !in_force_->policy.tls.certificates.empty() && in_force_->policy.mode_of(rotation_control) == Mode::enforce; }

/// The realtime clock was set: what is due has changed with it. Waiting itself counts on a clock that nobody can set.
Result<> Agent::watch_clock() {
    if (!clock_) clock_ = Fd(::timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC));
    itimerspec far{};
    far.it_value.tv_sec = std::numeric_limits<std::int32_t>::max() * 2LL;
    if (!clock_ || (::timerfd_settime(*clock_, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, nullptr) != 0 && errno != ECANCELED)) return fail_errno("watch", "the clock");
    if (clock_source_) return {};
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, *clock_, EPOLLIN, call_io<&Agent::on_clock_set>, this);
    clock_source_.reset(source);
    return {};
}

void Agent::on_clock_set() {
    std::uint64_t expirations = 0;
    (void)!::read(*clock_, &expirations, sizeof expirations);
    if (const auto watched = watch_clock(); !watched) log_problem(watched.error().text());
    arm_certificates(0s);
}

void Agent::arm_certificates(std::chrono::seconds at_least) {
    certificates_source_.reset();
    if (!rotates()) return;
    const auto now = std::chrono::system_clock::now();
    const auto& policy = in_force_->policy;
    const auto facts = rotation::observe(policy, rotation::places_of(policy, options_.state), rotation::host_world(false));
    if (!facts) log_problem(facts.error().text());
    if (facts) watch_renewals(*facts);
    const auto when = facts ? rotation::next_run(policy, *facts, now) : now + longest_wait;
    auto wait = when > now + longest_wait ? std::chrono::microseconds(longest_wait) : std::chrono::ceil<std::chrono::microseconds>(when - now);
    wait = std::max(wait, std::chrono::microseconds(at_least));
    once<&Agent::on_certificates_due>(certificates_source_, wait, 1s);
}

/// Other tools put what they renewed where we look at once. Directories, because files are replaced; a link's own, because that is what changes.
void Agent::watch_renewals(const CertificateFacts& facts) {
    std::set<std::string> directories;
    for (const auto& known : facts.certificates) {
        const auto certificate = std::ranges::find(in_force_->policy.tls.certificates, known.name, &CertificatePolicy::name);
        if (certificate == in_force_->policy.tls.certificates.end() || certificate->issuer != "watch") continue;
        for (const auto& file : {known.certificate_file, known.key_file})
            if (!file.empty()) directories.insert(std::filesystem::path(file).parent_path());
    }
    if (directories == renewals_watched_) return;
    renewals_watched_ = directories;
    renewals_source_.reset();
    renewals_ = Fd(directories.empty() ? -1 : ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!renewals_) return;
    for (const auto& directory : directories) ::inotify_add_watch(*renewals_, directory.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB);
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, *renewals_, EPOLLIN, call_io<&Agent::on_renewal>, this);
    renewals_source_.reset(source);
}

void Agent::on_renewal() {
    alignas(inotify_event) std::array<char, 4096> buffer{};
    while (::read(*renewals_, buffer.data(), buffer.size()) > 0) {}
    once<&Agent::on_certificates_due>(certificates_source_, tool_settles, 100ms);
}

/// Whether anything is due is decided where it is done. What an interrupted run left, and the probe's own certificate, are looked after, too.
void Agent::on_certificates_due() {
    if (!rotates()) return;
    const bool waits = jobs_.size() > 1 && !jobs_.back().call;  // the first is under way, and may be past what is new now
    if (!waits) jobs_.push_back({Json::object(), std::nullopt});
    run_next_job();
}

void Agent::run_next_job() {
    if (rotating_ != 0 || jobs_.empty()) return;
    std::array<int, 2> ends{};
    if (!in_force_ || ::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return finish_job(in_force_ ? trouble(fail_errno("make a pipe", "").error()) : Json{{"error", "no policy is in force"}});
    rotation_output_ = Fd(ends[0]);
    const Fd into(ends[1]);
    rotation_said_.clear();
    const pid_t child = ::fork();
    if (child < 0) return finish_job(trouble(fail_errno("start a child", "").error()));
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::fcntl(*into, F_SETFL, 0);
        const auto said = json_text(run_job(jobs_.front().request, in_force_->policy, options_.state, engine_.probe()));
        (void)!::write(*into, said.data(), said.size());
        ::_exit(0);
    }
    rotating_ = child;
    rotating_for_ = in_force_->policy.sha256;
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, *rotation_output_, EPOLLIN, call_io<&Agent::on_rotation_output>, this);
    rotation_source_.reset(source);
}

void Agent::on_rotation_output() {
    std::array<char, 16 << 10> buffer{};
    const auto got = ::read(*rotation_output_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0 && rotation_said_.size() < longest_answer) {
        rotation_said_.append(buffer.data(), static_cast<std::size_t>(got));
        return;
    }
    rotation_source_.reset();
    rotation_output_ = Fd();
    int status = 0;
    while (::waitpid(rotating_, &status, 0) < 0 && errno == EINTR) {}
    auto answer = parse_json(rotation_said_);
    if (answer) finish_job(*answer);
    else finish_job({{"error", WIFSIGNALED(status) ? fmt::format("the child that rotates ended by signal {}", WTERMSIG(status)) : "the child that rotates gave no answer"}});
}

/// Says what was done, to whoever asked and to everybody, and goes on with the next.
void Agent::finish_job(const Json& answer) {
    rotating_ = 0;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    report_.reset();
    const auto error = text_at(answer, "error");
    if (answer.contains("rotations"))
        for (const auto& one : answer["rotations"]) {
            auto told = event(Event::Kind::rotation, "certificate " + text_at(one, "name"), "renewed in time", observed_of(one));
            told.control = rotation_control;
            record(std::move(told));
        }
    if (answer.contains("notes"))
        for (const auto& note : answer["notes"]) record(event(Event::Kind::rotation, "the local authority", "nobody of the old one is let in", note.get<std::string>()));
    if (const auto step = text_at(answer, "step"); !step.empty()) record(event(Event::Kind::rotation, "the local authority", "changed", step));
    if (!error.empty() && job.call) record(event(Event::Kind::rotation, job.request.contains("name") ? "certificate " + text_at(job.request, "name") : "the local authority", "rotated", error));
    if (!error.empty() && !job.call) log_problem(error);
    if (job.call && error.empty()) job.call->reply(answer);
    if (job.call && !error.empty()) job.call->error("io.promwarden.Failed", {{"text", error}});
    arm_certificates(error.empty() ? 1s : after_trouble);
    run_next_job();
}

void Agent::on_rotate(varlink::Call call) {
    const auto& given = call.parameters();
    Json job = Json::object();
    for (const auto* name : {"rekey", "force", "due", "authority", "until_overlap"}) {
        if (!given.contains(name) || given[name].is_null()) continue;
        if (!given[name].is_boolean()) return call.invalid_parameter(name);
        job[name] = given[name];
    }
    const bool named = given.contains("name") && given["name"].is_string();
    if (named + flag_at(job, "due") + flag_at(job, "authority") != 1 || (given.contains("name") && !given["name"].is_string() && !given["name"].is_null())) return call.invalid_parameter("name");
    if (!in_force_) return call.error("io.promwarden.NoPolicy", {{"text", "no policy is in force: 'promwarden apply' comes first"}});
    if (named) {
        job["name"] = given["name"];
        const auto& certificates = in_force_->policy.tls.certificates;
        if (std::ranges::find(certificates, text_at(job, "name"), &CertificatePolicy::name) == certificates.end()) return call.invalid_parameter("name");
    }
    if (flag_at(job, "due")) {  // the timer may have asked for the same just before
        const auto asked = std::ranges::find_if(jobs_, [&](const Job& one) { return !one.call && (&one != &jobs_.front() || rotating_ == 0 || rotating_for_ == in_force_->policy.sha256); });
        if (asked != jobs_.end()) {
            asked->call = std::move(call);
            return;
        }
    }
    if (jobs_.size() >= most_jobs) return call.error("io.promwarden.Refused", {{"text", "too much is waiting already"}});
    jobs_.push_back({std::move(job), std::move(call)});
    run_next_job();
}

Json Agent::certificates() {
    report();
    Json list = Json::array();
    if (const auto* now = policy(); now != nullptr && certificate_facts_)
        for (const auto& one : certificate_facts_->certificates) list.push_back(rotation::to_json(one, *now, *certificate_facts_, std::chrono::system_clock::now()));
    return list;
}

std::string Agent::certificate_metrics() {
    const auto* now = policy();
    if (now == nullptr || !certificate_facts_ || certificate_facts_->certificates.empty()) return {};
    std::string expiry = "# TYPE promwarden_certificate_not_after_seconds gauge\n# UNIT promwarden_certificate_not_after_seconds seconds\n# HELP promwarden_certificate_not_after_seconds When a certificate expires.\n";
    std::string attempts = "# TYPE promwarden_certificate_failed_attempts gauge\n# HELP promwarden_certificate_failed_attempts Attempts to renew it that failed, in a row.\n";
    std::string problems = "# TYPE promwarden_certificate_problems gauge\n# HELP promwarden_certificate_problems What is wrong with what is published, counted.\n";
    for (const auto& one : certificate_facts_->certificates) {
        if (one.leaf)
            expiry += fmt::format("promwarden_certificate_not_after_seconds{{name=\"{}\"}} {}\n", one.name,
                                  std::chrono::duration_cast<std::chrono::seconds>(one.leaf->not_after.time_since_epoch()).count());
        attempts += fmt::format("promwarden_certificate_failed_attempts{{name=\"{}\"}} {}\n", one.name, one.record.attempts);
        problems += fmt::format("promwarden_certificate_problems{{name=\"{}\"}} {}\n", one.name, one.problems.size());
    }
    return expiry + attempts + problems;
}

}  // namespace promwarden
