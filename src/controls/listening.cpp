// Control network.listen-address: where Prometheus listens, by its sockets; where it will, by its unit; and who else sits there.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "servers.hpp"

namespace promwarden {

namespace {

constexpr std::string_view flag_name = "web.listen-address";

bool guarded(const Policy& policy, std::uint16_t port, Protocol protocol) {
    return std::ranges::any_of(policy.firewall.services, [&](const Service& service) {
        return service.protocol == protocol && std::ranges::any_of(service.ports, [&](PortRange range) { return range.first <= port && port <= range.last; });
    });
}

/// What a value of --web.listen-address means: its addresses as far as they are literal.
struct Place {
    std::vector<Endpoint> endpoints;  // two for all addresses, which Go opens as one socket of both families
    bool named = false;               // by a host name, which /etc/hosts or DNS decides about
};

std::optional<Place> place_in(std::string_view value) {
    const auto colon = value.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    auto host = value.substr(0, colon);
    std::uint32_t port = 0;
    for (const char c : value.substr(colon + 1)) {
        if (c < '0' || c > '9' || port > 65535) return std::nullopt;
        port = port * 10 + static_cast<std::uint32_t>(c - '0');
    }
    if (port > 65535 || colon + 1 == value.size()) return std::nullopt;
    const auto number = static_cast<std::uint16_t>(port);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const Endpoint all4{{Family::ip4, {}}, number}, all6{{Family::ip6, {}}, number};
    if (host.empty() || host == "0.0.0.0" || host == "::") return Place{{all4, all6}, false};
    if (const auto address = parse_address(host)) return Place{{{*address, number}}, false};
    if (host == "localhost") return Place{{{{Family::ip4, {127, 0, 0, 1}}, number}}, true};
    return Place{{}, true};
}

/// Whether the policy has Prometheus there. A policy that names no address leaves that to the packet filter, so the port has to be a guarded one.
bool allowed(const Policy& policy, const Endpoint& endpoint) {
    const auto& listen = policy.prometheus.listen;
    if (listen.empty()) return is_loopback(endpoint.address) || guarded(policy, endpoint.port, Protocol::tcp);
    return std::ranges::any_of(listen, [&](const Endpoint& one) {
        if (one.port != endpoint.port) return false;
        if (one.address == endpoint.address) return true;
        if (!is_any(one.address)) return false;
        return one.address.family == endpoint.address.family || one.address.family == Family::ip6;  // [::] takes IPv4 as well
    });
}

std::string expectation(const Policy& policy) {
    std::vector<std::string> texts;
    for (const auto& endpoint : policy.prometheus.listen) texts.push_back(to_text(endpoint));
    if (texts.empty()) return "127.0.0.1, or a port that a firewall service of the policy guards";
    return fmt::format("{}", fmt::join(texts, " or "));
}

/// The line that makes it so. Before 2.55 there can be one address only.
Remedy remedy_of(const Policy& policy, const Server& server, const Flag* flag) {
    const auto version = prometheus::version_of(server.version);
    const bool several = version && *version >= 255;
    std::vector<std::string> words;
    for (const auto& endpoint : policy.prometheus.listen)
        if (words.empty() || several) words.push_back(fmt::format("--{}={}", flag_name, to_text(endpoint)));
    if (words.empty()) words.push_back(fmt::format("--{}=127.0.0.1:9090", flag_name));
    const auto line = fmt::format("{}", fmt::join(words, " "));
    if (flag != nullptr) return {false, fmt::format("replace {}, {}, by {}; {}", shown(*flag), place_of(server, *flag), line, then_restart(server))};
    return {false, fmt::format("add {} to the command line; {}", line, then_restart(server))};
}

const Flag* first_flag(const Result<CommandLine>& line) {
    const auto* flag = line ? line->find(flag_name) : nullptr;
    return flag;
}

void judge_sockets(const Policy& policy, const Server& server, Gathered& gathered) {
    const auto* flag = first_flag(server.running);
    for (const auto& listener : server.listeners) {
        if (allowed(policy, listener.endpoint)) continue;
        const auto pid = server.process ? server.process->pid : 0;
        gathered.findings.push_back({server.name, expectation(policy), fmt::format("it listens on {} (pid {})", to_text(listener.endpoint), pid), flag == nullptr ? std::nullopt : location_of(*flag),
                                     Evidence::kernel, remedy_of(policy, server, flag), server.kind == Server::Kind::unit ? fmt::format("port {}", listener.endpoint.port) : std::string()});
    }
    if (!server.process || !server.listeners.empty()) return;
    gathered.undecided.push_back(fmt::format("{}: no listening socket of it was seen{}", server.name, server.own_network ? " in its network namespace" : ": it may not listen yet, and only root can see whose a socket is"));
}

/// What the unit would do after a restart.
void judge_unit(const Policy& policy, const Server& server, Gathered& gathered) {
    if (!server.configured) {
        if (server.configured.error().code != Code::missing) gathered.undecided.push_back(fmt::format("{}: {}", server.name, server.configured.error().text()));
        return;
    }
    const auto& line = *server.configured;
    if (first_flag(server.configured) == nullptr && !line.unread.empty()) {
        gathered.undecided.push_back(fmt::format("{}: {}", server.name, line.unread.front()));
        return;
    }
    auto values = prometheus::flag_values(line, flag_name);
    if (values.empty()) values.emplace_back("0.0.0.0:9090");
    std::vector<std::string> running = server.running && server.process ? prometheus::flag_values(*server.running, flag_name) : std::vector<std::string>{};
    if (server.process && running.empty() && server.running && server.running->unread.empty()) running.emplace_back("0.0.0.0:9090");
    const auto* flag = line.find(flag_name);
    for (const auto& value : values) {
        if (std::ranges::find(running, value) != running.end()) continue;  // its socket is judged
        const auto place = place_in(value);
        const bool good = place && !place->endpoints.empty() && std::ranges::any_of(place->endpoints, [&](const Endpoint& endpoint) { return allowed(policy, endpoint); });
        if (good) continue;
        const auto what = fmt::format("{} {}--{}={}{}", server.process ? "after a restart it would listen elsewhere:" : "it would listen elsewhere:", flag == nullptr ? "the default, " : "", flag_name, value,
                                      place && place->named ? ", a name that only its resolution places" : "");
        gathered.findings.push_back({server.name, expectation(policy), what, flag == nullptr ? std::nullopt : location_of(*flag), Evidence::config, remedy_of(policy, server, flag)});
    }
}

// ---- who else is there ----------------------------------------------------------------------------------------------

/// The ports that are Prometheus': those of the policy, or those that the unit's server names.
std::vector<std::uint16_t> own_ports(const Policy& policy, const Facts& facts) {
    std::vector<std::uint16_t> ports;
    for (const auto& endpoint : policy.prometheus.listen) ports.push_back(endpoint.port);
    if (!ports.empty()) return ports;
    for (const auto& server : *facts.servers) {
        if (server.kind != Server::Kind::unit) continue;
        for (const auto* line : {&server.running, &server.configured}) {
            if (!*line || (line == &server.running && !server.process)) continue;
            auto values = prometheus::flag_values(**line, flag_name);
            if (values.empty()) values.emplace_back("0.0.0.0:9090");
            for (const auto& value : values)
                if (const auto place = place_in(value))
                    for (const auto& endpoint : place->endpoints) ports.push_back(endpoint.port);
        }
    }
    return ports;
}

bool publishes_container(const Process& process) {
    return process.exe.ends_with("/docker-proxy") || process.exe.ends_with("/dockerd") || process.exe.ends_with("/rootlessport") || process.exe.ends_with("/conmon") || process.exe.ends_with("/pasta") ||
           process.exe.ends_with("/slirp4netns");
}

bool belongs(const Facts& facts, const Listener& listener) {
    return std::ranges::any_of(*facts.servers, [&](const Server& server) {
        if (server.kind == Server::Kind::stranger || server.own_network) return false;
        return std::ranges::any_of(server.listeners, [&](const Listener& own) { return own.inode == listener.inode && own.endpoint == listener.endpoint; });
    });
}

std::string who(const Process& process) {
    return fmt::format("{} (pid {}{}{}{})", process.comm, process.pid, process.uid ? fmt::format(", uid {}", *process.uid) : "", process.unit.empty() ? "" : ", " + process.unit,
                       process.exe.empty() ? "" : ", " + process.exe);
}

/// Somebody else on a port of Prometheus, on any address: a client that asks for localhost does not care which.
void judge_squatters(const Policy& policy, const Facts& facts, Gathered& gathered) {
    const auto ports = own_ports(policy, facts);
    for (const auto& listener : *facts.listeners) {
        if (listener.protocol != Protocol::tcp || std::ranges::find(ports, listener.endpoint.port) == ports.end() || belongs(facts, listener)) continue;
        gathered.judged = true;
        const auto where = to_text(listener.endpoint);
        if (listener.holders.empty()) {
            gathered.undecided.push_back(fmt::format("{} is held by a process that cannot be seen from here (uid {})", where, listener.uid));
            continue;
        }
        if (std::ranges::any_of(listener.holders, publishes_container)) continue;  // network.published-ports
        const auto& holder = listener.holders.front();
        gathered.findings.push_back({where, fmt::format("held by {} or by nobody", policy.prometheus.unit), fmt::format("{} holds {}, a port of Prometheus", who(holder), where), std::nullopt, Evidence::kernel,
                                     {false, fmt::format("find out what it is: systemctl status {}; end it, or give it another port", holder.pid)}});
    }
}

/// What calls itself Prometheus and is not the unit's: named, and a finding where others can reach it.
void judge_strangers(const Policy& policy, const Facts& facts, Gathered& gathered) {
    for (const auto& server : *facts.servers) {
        if (server.kind != Server::Kind::stranger || !server.process || server.own_network) continue;
        const auto exposed = std::ranges::find_if(server.listeners, [&](const Listener& listener) { return !is_loopback(listener.endpoint.address) && !guarded(policy, listener.endpoint.port, Protocol::tcp); });
        const bool already = std::ranges::any_of(gathered.findings, [&](const Finding& finding) {
            return std::ranges::any_of(server.listeners, [&](const Listener& listener) { return finding.subject == to_text(listener.endpoint); });
        });
        if (exposed == server.listeners.end() || already) {
            gathered.notes.push_back(fmt::format("{} looks like Prometheus and is not of {}", who(*server.process), policy.prometheus.unit));
            continue;
        }
        gathered.judged = true;
        gathered.findings.push_back({server.name, "nothing but the policy's Prometheus", fmt::format("{} looks like Prometheus and listens on {}", who(*server.process), to_text(exposed->endpoint)),
                                     std::nullopt, Evidence::kernel, {false, "end it, bind it to 127.0.0.1, or guard its port with a [[firewall.service]]"}});
    }
}

}  // namespace

std::optional<bool> listens_as_allowed(const Policy& policy, std::string_view value) {
    const auto place = place_in(value);
    if (!place || place->endpoints.empty()) return std::nullopt;
    return std::ranges::any_of(place->endpoints, [&](const Endpoint& endpoint) { return allowed(policy, endpoint); });
}

std::string listening_expected(const Policy& policy) { return expectation(policy); }

Decision decide_listen_address(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    if (!facts.listeners) return unknown(facts.listeners.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        if (server->kind == Server::Kind::container && server->own_network) continue;  // its addresses are not the host's: network.published-ports
        gathered.judged = true;
        judge_sockets(policy, *server, gathered);
        judge_unit(policy, *server, gathered);
    }
    judge_squatters(policy, facts, gathered);
    judge_strangers(policy, facts, gathered);
    auto holds = policy.prometheus.listen.empty() ? std::string("Prometheus listens on loopback or on guarded ports only (the policy names no address)") : fmt::format("Prometheus listens on {} only", expectation(policy));
    auto nothing = no_server(policy);
    for (const auto& note : gathered.notes) nothing += "; " + note;
    return std::move(gathered).decide(std::move(holds), std::move(nothing));
}

}  // namespace promwarden
