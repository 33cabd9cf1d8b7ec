// Refused logins: the proxy's audit log, followed while the loop goes on. A busy proxy wakes us once a second at most.

#include <fmt/format.h>
#include <sys/inotify.h>
#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;
using Next = nginx::LogFollower::Next;

constexpr auto settles = 1s;       // what is written meanwhile is read together
constexpr auto writer_waits = 2s;  // see LogFollower::Next::later
constexpr auto keeps = 10s;        // between two writes of how far it was read
constexpr std::size_t most_at_once = 1 << 20;
constexpr std::string_view record_name = "proxy-log.json";

std::uint64_t number_at(const Json& json, const char* name) {
    return json.contains(name) && json[name].is_number_unsigned() ? json[name].get<std::uint64_t>() : 0;
}

struct Record {
    std::optional<nginx::LogPosition> position;
    nginx::AuthFailures::Counts counts;
};

/// What an earlier life knew. One that cannot be read is one that knew nothing.
Record read_record(const std::string& path) {
    Record record;
    const auto file = read_trusted_file(path, 4096);
    const auto json = file ? parse_json(file->text) : Result<Json>(Json::object());
    if (!json || !json->is_object()) return record;
    record.counts = {number_at(*json, "given"), number_at(*json, "none"), number_at(*json, "unreadable")};
    if (json->contains("head") && (*json)["head"].is_string())
        record.position =
            nginx::LogPosition{number_at(*json, "device"), number_at(*json, "inode"), number_at(*json, "offset"),
                               std::min<std::uint64_t>(number_at(*json, "head_size"), 4096), (*json)["head"].get<std::string>()};
    return record;
}

Json json_of(const nginx::AuthFailures::Counts& counts, const std::optional<nginx::LogPosition>& position) {
    Json json{{"given", counts.given}, {"none", counts.none}, {"unreadable", counts.unreadable}};
    if (position)
        json.update({{"device", position->device},
                     {"inode", position->inode},
                     {"offset", position->offset},
                     {"head_size", position->head_size},
                     {"head", position->head}});
    return json;
}

}  // namespace

/// Follows the log where the policy has a proxy, and stops where it has none any more.
void Agent::follow_logins() {
    const auto* subject = policy();
    if (subject == nullptr || !subject->access.present) return stop_logins();
    if (log_) return;
    const auto path = nginx::SitePaths().log;
    auto record = read_record(fmt::format("{}/{}", options_.state, record_name));
    log_.emplace(path, std::move(record.position));
    failures_ = nginx::AuthFailures(record.counts);
    kept_ = json_text(json_of(record.counts, log_->position(0)));
    log_inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    sd_event_source* source = nullptr;
    sd_event_add_io(loop_.get(), &source, *log_inotify_, EPOLLIN, call_io<&Agent::on_log_changed>, this);
    sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IDLE);  // never before a change of the table
    log_source_.reset(source);
    read_log();
}

void Agent::stop_logins() {
    if (!log_) return;
    keep_log();
    log_source_.reset();
    log_timer_.reset();
    log_inotify_ = Fd();
    log_.reset();
}

/// Once for the file, which is written often; always for its directory, where names change seldom.
void Agent::watch_log() {
    const auto& path = log_->path();
    ::inotify_add_watch(*log_inotify_, path.substr(0, path.rfind('/')).c_str(),
                        IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR);
    if (log_->fd() >= 0) ::inotify_add_watch(*log_inotify_, fmt::format("/proc/self/fd/{}", log_->fd()).c_str(), IN_MODIFY | IN_ONESHOT);
}

void Agent::on_log_changed() {
    alignas(inotify_event) std::array<char, 4096> buffer{};
    while (::read(*log_inotify_, buffer.data(), buffer.size()) > 0) {
    }
    once<&Agent::read_log>(log_timer_, settles, 100ms);
}

void Agent::read_log() {
    const nginx::LogFollower::Reader reader{[this](std::string_view bytes) { failures_.feed(bytes); }, [this] { failures_.end_file(); }};
    auto next = log_->read(most_at_once, reader);
    watch_log();
    if (next && *next == Next::wait) next = log_->read(most_at_once, reader);  // what was written before it was watched
    const auto problem = next ? std::string() : next.error().text();
    if (!problem.empty() && problem != log_problem_) log_problem(problem);
    log_problem_ = problem;
    if (next && *next == Next::again)
        once<&Agent::read_log>(log_timer_, 0s, 1ms);
    else if (next && *next == Next::later)
        once<&Agent::read_log>(log_timer_, writer_waits, 100ms);
    else if (Clock::now() - log_kept_ > keeps)
        keep_log();
    else
        once<&Agent::keep_log>(log_timer_, keeps, 1s);
}

/// How far it was read and what was counted by then, together: a crash repeats neither without the other.
void Agent::keep_log() {
    const auto text = json_text(json_of(failures_.counts(), log_->position(failures_.pending())));
    if (text == kept_) return;
    log_kept_ = Clock::now();
    if (const auto kept = publish_file(fmt::format("{}/{}", options_.state, record_name), text, 0600); !kept)
        return log_problem(kept.error().text());
    kept_ = text;
}

std::string Agent::login_metrics() const {
    if (!log_) return {};
    const auto& counts = failures_.counts();
    return fmt::format(
        "# TYPE promwarden_proxy_auth_failures counter\n# HELP promwarden_proxy_auth_failures Requests that the proxy refused with 401, by "
        "whether credentials were given; its own questions left out.\n"
        "promwarden_proxy_auth_failures_total{{credentials=\"given\"}} {}\npromwarden_proxy_auth_failures_total{{credentials=\"none\"}} "
        "{}\n"
        "# TYPE promwarden_proxy_log_unreadable_lines counter\n# HELP promwarden_proxy_log_unreadable_lines Lines of the audit log that "
        "are no JSON object with a status.\n"
        "promwarden_proxy_log_unreadable_lines_total {}\n"
        "# TYPE promwarden_proxy_log_readable gauge\n# HELP promwarden_proxy_log_readable 1 where the audit log is there and can be read.\n"
        "promwarden_proxy_log_readable {}\n",
        counts.given, counts.none, counts.unreadable, log_->fd() >= 0 && log_problem_.empty() ? 1 : 0);
}

}  // namespace promwarden
