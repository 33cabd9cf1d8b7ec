// What changes ask of others on this host: programs that judge a file, services that take a change up, and the proof that they did and are well.

#include <algorithm>
#include <csignal>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/syscall.h>
#include <unistd.h>

#include "promwarden/apply.hpp"
#include "promwarden/host.hpp"
#include "promwarden/make.hpp"
#include "promwarden/program.hpp"
#include "promwarden/unit.hpp"
#include "proxy.hpp"
#include "site.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* promtool = "/usr/bin/promtool";
constexpr std::size_t largest_text = 64 << 20;
constexpr auto between_looks = 200ms;
constexpr auto longest_start = 90s;  // replaying a write-ahead log takes its time
constexpr auto longest_reload = 20s;

// ---- files ----------------------------------------------------------------------------------------------------------

/// What our own reader says: that is there on every host.
Result<> read_as(const std::string& temporary, const std::string& name, prometheus::FileKind kind) {
    const auto file = TRY(read_file(temporary, largest_text));
    const auto document = prometheus::read_document(name, file.text, kind);
    if (document.problem) return fail(Code::invalid, "check", name, fmt::format("line {}: {}", document.problem->at.line, document.problem->message));
    return {};
}

/// What it quotes of the file may be a secret: "cannot unmarshal !!str `hunter2` into int".
std::string without_quotes(std::string text) {
    for (auto from = text.find('`'); from != std::string::npos; from = text.find('`', from + 1)) {
        const auto end = std::min(text.find('`', from + 1), text.size());
        text.replace(from, end - from + (end < text.size() ? 1 : 0), "<hidden>");
    }
    return text;
}

Result<> judge_file(Judge judge, const std::string& temporary, const std::string& name) {
    using prometheus::FileKind;
    const auto [what, kind] = judge == Judge::promtool_config ? std::pair("config", FileKind::prometheus) : judge == Judge::promtool_web_config ? std::pair("web-config", FileKind::web) : std::pair("rules", FileKind::rules);
    TRY(read_as(temporary, name, kind));
    if (::access(promtool, X_OK) != 0) return {};
    program::Program check;
    check.words = {promtool, "check", what, temporary};
    check.user = "prometheus";  // who must be able to read what it names
    const auto ended = TRY(program::run_somewhere(check, "promwarden-check"));
    if (ended.status != 0) return fail(Code::invalid, "check", name, fmt::format("promtool refuses it: {}", without_quotes(program::said(ended))));
    return {};
}

// ---- the server's word ----------------------------------------------------------------------------------------------

/// Asks Prometheus itself, and nobody who only answers in its place.
class Server {
public:
    Server(const Policy& policy, const probe::ClientOptions& options) : policy_(policy), options_(options) {}

    /// Whether it answers requests; nullopt: nobody is there yet.
    Result<std::optional<bool>> ready() {
        const auto answer = TRY(ask("/-/ready"));
        if (!answer || answer->status == 0) return std::nullopt;
        return answer->status != 503;  // 401 and 403 are its word, too
    }

    struct Loaded {
        bool succeeded = false;
        std::chrono::system_clock::time_point time;
    };
    /// Its last reload; nullopt: it does not tell us.
    Result<std::optional<Loaded>> loaded() {
        const auto answer = TRY(ask("/api/v1/status/runtimeinfo"));
        if (!answer || answer->status != 200) return std::nullopt;
        const auto json = parse_json(answer->body);
        if (!json || !json->is_object() || !json->contains("data")) return std::nullopt;
        const auto& data = (*json)["data"];
        if (!data.is_object() || !data.contains("reloadConfigSuccess") || !data["reloadConfigSuccess"].is_boolean() || !data.contains("lastConfigTime") || !data["lastConfigTime"].is_string()) return std::nullopt;
        const auto time = parse_time(data["lastConfigTime"].get<std::string>());
        if (!time) return std::nullopt;
        return Loaded{data["reloadConfigSuccess"].get<bool>(), *time};
    }

    /// Its flags as it says them; nullopt: it does not tell us.
    Result<std::optional<std::map<std::string, std::string>>> flags() {
        const auto answer = TRY(ask("/api/v1/status/flags"));
        if (!answer || answer->status != 200) return std::nullopt;
        const auto json = parse_json(answer->body);
        if (!json || !json->is_object() || !json->contains("data") || !(*json)["data"].is_object()) return std::nullopt;
        std::map<std::string, std::string> flags;
        for (const auto& [name, value] : (*json)["data"].items())
            if (value.is_string()) flags[name] = value.get<std::string>();
        return flags;
    }
    /// The unit and its process, as of the last question.
    [[nodiscard]] const std::optional<promwarden::Server>& seen() const { return seen_; }

private:
    Result<std::optional<probe::Answer>> ask(std::string path) {
        Facts facts;
        constexpr PortRange all[] = {{1, 65535}};
        auto listeners = TRY(host::read_listeners());
        host::find_holders(listeners, all);
        facts.servers = host::read_servers(policy_.prometheus.unit, listeners);
        seen_ = facts.servers && !facts.servers->empty() ? std::optional(facts.servers->front()) : std::nullopt;
        for (const auto& target : TRY(live_targets(policy_, facts))) {
            if (target.proxy || !target.holder.empty()) continue;
            for (const bool tls : {true, false}) {
                probe::Request request;
                request.to = target.asked;
                request.tls = tls;
                request.path = path;
                request.credential = policy_.prometheus.probe.user.empty() ? probe::Credential::none : probe::Credential::own;
                request.identity = tls ? probe::Identity::own : probe::Identity::none;
                auto client = TRY(probe::Client::open(options_));
                auto answer = client.ask(request);
                if (!answer && tls) {  // it has no certificate of its own
                    request.identity = probe::Identity::none;
                    answer = client.ask(request);
                }
                const bool wrong_scheme = answer && !tls && answer->status == 400 && path == "/-/ready";
                if (answer && answer->status != 0 && !wrong_scheme) return *std::move(answer);
            }
        }
        return std::nullopt;
    }

    const Policy& policy_;
    const probe::ClientOptions& options_;
    std::optional<promwarden::Server> seen_;
};

/// Whether the process that the restart began goes on: one that ends at once would be started again and again.
Result<> goes_on(const std::optional<promwarden::Server>& server, pid_t& first) {
    if (!server || !server->unit) return {};
    const auto& unit = *server->unit;
    if (unit.active != "active" || (first != 0 && unit.main_pid != first)) return fail(Code::failed, "start", unit.name, fmt::format("it ended right after its start; 'journalctl -u {}' says why", unit.name));
    first = unit.main_pid;
    return {};
}

Result<> wait_until_ready(const Policy& policy, Server& server, Clock::duration patience) {
    pid_t first = 0;
    for (const auto until = Clock::now() + patience; Clock::now() < until; std::this_thread::sleep_for(between_looks)) {
        const auto ready = TRY(server.ready());
        TRY(goes_on(server.seen(), first));
        if (ready && *ready) return {};
    }
    return fail(Code::failed, "wait for", policy.prometheus.unit, fmt::format("it does not answer after {}", format_duration(std::chrono::duration_cast<std::chrono::seconds>(patience))));
}

// ---- what runs is what was written ----------------------------------------------------------------------------------

/// Prometheus shows durations and sizes in its own spelling, and lists in brackets.
bool same_value(const prometheus::FlagRule& rule, const std::string& shown, const std::string& written) {
    using enum prometheus::FlagType;
    if (shown == written || (rule.repeatable != 0 && shown.contains(written))) return true;
    if (rule.type == duration) return prometheus::parse_flag_duration(shown) == prometheus::parse_flag_duration(written);
    if (rule.type == size) return prometheus::parse_flag_size(shown) == prometheus::parse_flag_size(written);
    return rule.type == number && std::strtod(shown.c_str(), nullptr) == std::strtod(written.c_str(), nullptr);
}

/// By its own word where it gives us one, else by its process.
Result<> verify_flags(Server& server) {
    const auto live = TRY(server.flags());
    const auto& seen = server.seen();
    if (!seen || !seen->configured || !seen->running) return {};
    const auto& words = seen->configured->words;
    if (!live && !std::ranges::equal(words, seen->running->words)) return fail(Code::failed, "verify", seen->name, "its process does not run with the flags of its unit");
    for (const auto& flag : seen->configured->flags) {
        const auto* rule = prometheus::find_flag(flag.name);
        const auto shown = live && rule != nullptr ? live->find(flag.name) : decltype(live->find("")){};
        if (live && rule != nullptr && shown != live->end() && !same_value(*rule, shown->second, flag.value))
            return fail(Code::failed, "verify", seen->name, fmt::format("it runs with another --{} than its unit says", flag.name));
    }
    return {};
}

/// The service manager has the settings of a drop-in, and the kernel those that a process shows.
Result<> verify_settings(const promwarden::Server& server, const std::string& text) {
    for (const auto& one : unit::read_assignments("", text)) {
        const auto found = server.unit->settings.find(one.key);
        const bool other = one.key == "User" ? server.unit->user != one.value : found != server.unit->settings.end() && found->second != one.value;
        if (one.section == "Service" && other) return fail(Code::failed, "verify", server.name, fmt::format("the service manager does not have {}={}: another drop-in says otherwise", one.key, one.value));
    }
    const auto status = TRY(read_file(fmt::format("/proc/{}/status", server.unit->main_pid), 64 << 10));
    const auto set = server.unit->settings.find("NoNewPrivileges");
    if (set != server.unit->settings.end() && set->second == "yes" && !status.text.contains("NoNewPrivs:\t1")) return fail(Code::failed, "verify", server.name, "its process may gain privileges all the same");
    return {};
}

Result<> verify_unit(Server& server, std::span<const Change> changes) {
    TRY(verify_flags(server));
    for (const auto& change : changes) {
        const auto* write = std::get_if<WriteFile>(&change.deed);
        if (write == nullptr || !write->after || write->after->empty() || !server.seen() || !server.seen()->unit) continue;
        TRY(verify_settings(*server.seen(), write->after->front().text));
    }
    return {};
}

/// A server that was stopped is left so: it has the change when somebody starts it.
Result<> restart(const Policy& policy, const probe::ClientOptions& options, std::span<const Change> changes) {
    const auto& unit = policy.prometheus.unit;
    const auto before = TRY(host::read_servers(unit, {}));
    TRY(program::reload_units());
    if (!before.empty() && before.front().unit && before.front().unit->active == "inactive") return {};
    TRY(program::restart_unit(unit));
    Server server(policy, options);
    TRY(wait_until_ready(policy, server, longest_start));
    return verify_unit(server, changes);
}

// ---- a reload -------------------------------------------------------------------------------------------------------

/// What the server said of its configuration before anything was changed.
using Before = std::optional<Server::Loaded>;

/// The process of the policy's unit, where it runs.
std::optional<Process> process_of(const Policy& policy) {
    auto servers = host::read_servers(policy.prometheus.unit, {});
    if (!servers || servers->empty() || servers->front().kind != promwarden::Server::Kind::unit) return std::nullopt;
    return std::move(servers->front().process);
}

/// The signal itself, to a process that is still the unit's once it can no longer be mistaken for another.
Result<> hang_up(const Policy& policy, const Process& process) {
    const auto& unit = policy.prometheus.unit;
    if (process.unit != unit) return fail(Code::unsupported, "reload", unit, fmt::format("pid {} is not of that unit: nobody vouches for it", process.pid));
    const Fd handle{static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0))};
    if (!handle) return fail_errno("reload", unit);
    const auto still = process_of(policy);
    if (!still || still->pid != process.pid || still->unit != unit) return fail(Code::stale, "reload", unit, "it ended or was started again meanwhile");
    if (::syscall(SYS_pidfd_send_signal, *handle, SIGHUP, nullptr, 0) != 0) return fail_errno("reload", unit);
    return {};
}

/// Its word that it has read its configuration again. Where it told us nothing before, promtool's word has to do.
Result<> wait_until_loaded(const Policy& policy, const probe::ClientOptions& options, const Before& before) {
    Server server(policy, options);
    if (!before) return {};
    auto said = std::string("Prometheus did not read its configuration again");
    for (const auto until = Clock::now() + longest_reload; Clock::now() < until; std::this_thread::sleep_for(between_looks)) {
        const auto loaded = TRY(server.loaded());
        if (!loaded) said = "Prometheus does not answer us any more as it did before";
        else if (loaded->time > before->time && loaded->succeeded) return {};
        else if (!loaded->succeeded) said = "Prometheus refused the new configuration and runs with the old one; its log says why";
        if (loaded && !loaded->succeeded && before->succeeded) break;  // one that failed before may only not have read the new one yet
    }
    return fail(Code::failed, "reload", policy.prometheus.unit, std::move(said));
}

Result<> look(const Policy& policy, const probe::ClientOptions& options, Effect effect, Before& before) {
    if (effect == Effect::reload && process_of(policy)) before = TRY(Server(policy, options).loaded());
    return {};
}

Result<> reload(const Policy& policy, const probe::ClientOptions& options, Before& before) {
    const auto process = process_of(policy);
    if (!process) return {};  // it reads its configuration when it starts
    if (before)  // it tells whole seconds: the next reload must be in another one
        while (std::chrono::system_clock::now() < before->time + 1s) std::this_thread::sleep_for(between_looks);
    if (const auto done = program::manager_runs() ? program::reload_unit(policy.prometheus.unit) : fail(Code::unsupported, "reload", policy.prometheus.unit); !done) {
        if (done.error().code != Code::unsupported) return done;
        TRY(hang_up(policy, *process));
    }
    TRY(wait_until_loaded(policy, options, before));
    before = TRY(Server(policy, options).loaded());
    return {};
}

Result<> need_manager(const Policy& policy) {
    if (program::manager_runs()) return {};
    return fail(Code::unsupported, "restart", policy.prometheus.unit, "systemd does not run this machine");
}

Result<> take_up(const Policy& policy, const probe::ClientOptions& options, const std::string& root, Effect effect, std::span<const Change> changes, Before& before) {
    switch (effect) {
        case Effect::none: return {};
        case Effect::units: return program::manager_runs() ? program::reload_units() : Result<>{};
        case Effect::reload: return reload(policy, options, before);
        case Effect::restart:
            TRY(need_manager(policy));
            return restart(policy, options, changes);
        case Effect::proxy: return take_up_site(root, changes);
    }
    return {};
}

}  // namespace

Services host_services(const Policy& policy, const probe::ClientOptions& options, bool confined) {
    Services services;
    host::Places places;
    places.seen_from = confined ? 1 : 0;
    const auto root = host::host_root(places);
    services.ground.root = root.empty() ? "/" : root;
    services.ground.judge = [ground = services.ground](Judge judge, const std::string& temporary, const std::string& name) {
        return judge == Judge::nginx ? try_in_proxy(ground, temporary, name) : judge_file(judge, temporary, name);
    };
    const auto before = std::make_shared<Before>();
    services.look_before = [&policy, options, before](Effect effect) { return look(policy, options, effect, *before); };
    services.take_up = [&policy, options, root, before](Effect effect, std::span<const Change> changes) { return take_up(policy, options, root, effect, changes, *before); };
    return services;
}

}  // namespace promwarden
