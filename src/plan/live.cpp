// Live evidence: who holds the sockets, what they answer, and who holds them still.

#include <algorithm>

#include <pwd.h>
#include <unistd.h>

#include "promwarden/apply.hpp"
#include "promwarden/host.hpp"
#include "proxy.hpp"

namespace promwarden {

namespace {

std::string_view name_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

/// Those outside of every unit whom one can believe to be Prometheus or its proxy nevertheless: a program that only root can change, run by root or by the account
/// that its package made. On a machine with systemd there are none of that kind.
std::set<pid_t> vouched_processes(std::span<const Listener> listeners) {
    std::set<pid_t> vouched;
    for (const auto& listener : listeners)
        for (const auto& holder : listener.holders) {
            const auto program = name_of(holder.exe);
            if (!holder.unit.empty() || !holder.uid || (program != "prometheus" && program != "nginx") || !trusted_stamp(holder.exe)) continue;
            const auto account = host_accounts().user(program == "nginx" ? "www-data" : "prometheus");
            if (*holder.uid == 0 || holder.uid == account) vouched.insert(holder.pid);
        }
    return vouched;
}

std::span<const Server> servers_of(const Facts& facts) { return facts.servers ? std::span<const Server>(*facts.servers) : std::span<const Server>{}; }

}  // namespace

Result<std::vector<probe::Target>> live_targets(const Policy& policy, const Facts& facts) {
    auto listeners = TRY(host::read_listeners());
    const auto ports = probe::target_ports(policy, servers_of(facts));
    host::find_holders(listeners, ports);
    // What a container publishes is another server than the unit's, and no stranger: other controls are about it.
    std::set<std::uint32_t> published;
    for (const auto& holder : host::port_holders(listeners, ports, policy.prometheus.unit))
        if (holder.kind == host::PortHolder::Kind::container) published.insert(holder.listener.inode);
    std::erase_if(listeners, [&](const Listener& listener) { return published.contains(listener.inode); });
    return probe::find_targets(policy, listeners, servers_of(facts), vouched_processes(listeners));
}

Result<live::Facts> ask_endpoints(const probe::ClientOptions& options, const Policy& policy, const Facts& facts, std::chrono::milliseconds limit) {
    auto targets = TRY(live_targets(policy, facts));
    if (std::ranges::all_of(targets, [](const probe::Target& target) { return !target.holder.empty(); })) {  // nobody to ask: no worker is needed
        const probe::Survey nothing(targets, false);
        return nothing.finish(targets, std::chrono::system_clock::now());
    }
    auto inquiry = TRY(probe::Inquiry::begin(options, std::move(targets), !policy.prometheus.probe.user.empty()));
    TRY(inquiry.wait(limit));
    return inquiry.survey().finish(TRY(live_targets(policy, facts)), std::chrono::system_clock::now());
}

namespace {

/// What handshakes showed of the policy's certificates: of several endpoints, the first that shows another one.
void note_served(const live::Facts& live, CertificateFacts& certificates) {
    for (auto& known : certificates.certificates) {
        for (const auto& wanted : known.endpoints) {
            const auto seen = std::ranges::find(live.endpoints, wanted, &live::Endpoint::asked);
            if (seen == live.endpoints.end() || !seen->holder.empty()) continue;
            const auto shown = seen->chain.empty() ? std::string() : sha256(seen->chain.front());
            known.served = ManagedCertificate::Served{shown, shown.empty() ? "it does not speak TLS" : "", to_text(wanted)};
            if (!known.leaf || shown != known.leaf->fingerprint) break;
        }
    }
}

}  // namespace

namespace {

Result<rotation::World::Sessions> forget_sessions(const PrometheusPolicy& policy, std::chrono::system_clock::time_point removed) {
    using Sessions = rotation::World::Sessions;
    const auto servers = TRY(host::read_servers(policy.unit, {}));
    const auto* server = tls::may_resume(servers, removed);
    if (server == nullptr) return Sessions::none;
    if (!policy.restart_when_needed) return Sessions::kept;
    TRY(rotation::restart_unit(policy.unit));
    return Sessions::ended;
}

}  // namespace

rotation::World world_of(const probe::ClientOptions& options, const PrometheusPolicy& policy, bool may_wait) {
    auto world = rotation::host_world(may_wait);
    world.forget_sessions = [policy](std::chrono::system_clock::time_point removed) { return forget_sessions(policy, removed); };
    if (::access(nginx_program, X_OK) == 0) world.reload_proxy = reload_proxy;
    world.served = [options, client = std::make_shared<std::optional<probe::Client>>()](const Endpoint& to, const std::string& name) -> Result<std::string> {
        if (!*client) *client = TRY(probe::Client::open(options));
        probe::Request request;
        request.kind = probe::Request::Kind::handshake;
        request.to = to;
        request.tls = true;
        if (!parse_address(name)) request.server_name = name;
        auto answer = (*client)->ask(request);
        if (!answer) {
            client->reset();
            return std::unexpected(answer.error());
        }
        if (answer->chain.empty()) return fail(Code::failed, "handshake with", to_text(to), answer->detail.empty() ? "it shows no certificate" : answer->detail);
        return sha256(answer->chain.front());
    };
    return world;
}

void add_live(Facts& facts, Result<live::Facts> live) {
    if (live && facts.certificates) note_served(*live, *facts.certificates);
    if (live && live->status && facts.servers)
        for (auto& server : *facts.servers)
            if (server.kind == Server::Kind::unit) {
                server.live_flags = live->status->flags;
                break;
            }
    facts.live = std::move(live);
}

}  // namespace promwarden
