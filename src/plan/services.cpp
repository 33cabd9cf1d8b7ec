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
#include "promwarden/prometheus.hpp"
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

private:
    Result<std::optional<probe::Answer>> ask(std::string path) {
        Facts facts;
        constexpr PortRange all[] = {{1, 65535}};
        auto listeners = TRY(host::read_listeners());
        host::find_holders(listeners, all);
        facts.servers = host::read_servers(policy_.prometheus.unit, listeners);
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
};

Result<> wait_until_ready(const Policy& policy, const probe::ClientOptions& options, Clock::duration patience) {
    Server server(policy, options);
    for (const auto until = Clock::now() + patience; Clock::now() < until; std::this_thread::sleep_for(between_looks)) {
        const auto ready = TRY(server.ready());
        if (ready && *ready) return {};
    }
    return fail(Code::failed, "wait for", policy.prometheus.unit, fmt::format("it does not answer after {}", format_duration(std::chrono::duration_cast<std::chrono::seconds>(patience))));
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
    const auto& unit = policy.prometheus.unit;
    switch (effect) {
        case Effect::none: return {};
        case Effect::units: return program::manager_runs() ? program::reload_units() : Result<>{};
        case Effect::reload: return reload(policy, options, before);
        case Effect::restart:
            TRY(need_manager(policy));
            TRY(program::reload_units());
            TRY(program::restart_unit(unit));
            return wait_until_ready(policy, options, longest_start);
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
