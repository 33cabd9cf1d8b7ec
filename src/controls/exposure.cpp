// Controls network.published-ports and network.companion-ports: what containers publish, and what stands beside Prometheus.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "servers.hpp"

namespace promwarden {

namespace {

bool in(std::span<const PortRange> ranges, std::uint16_t port) {
    return std::ranges::any_of(ranges, [&](PortRange range) { return range.first <= port && port <= range.last; });
}

const Service* service_of(const Policy& policy, std::uint16_t port, Protocol protocol) {
    const auto found = std::ranges::find_if(policy.firewall.services, [&](const Service& service) { return service.protocol == protocol && in(service.ports, port); });
    return found == policy.firewall.services.end() ? nullptr : &*found;
}

// ---- published ports ------------------------------------------------------------------------------------------------

/// The ports inside containers on which a Prometheus was seen to listen.
std::set<std::uint16_t> prometheus_ports(const Facts& facts) {
    std::set<std::uint16_t> ports;
    if (!facts.servers) return ports;
    for (const auto& server : *facts.servers)
        if (server.kind == Server::Kind::container)
            for (const auto& listener : server.listeners) ports.insert(listener.endpoint.port);
    return ports;
}

/// Whether the policy's own list of addresses has it, where it has one for that port.
std::optional<bool> listed(const Policy& policy, const Publication& publication) {
    bool about = false;
    for (const auto& endpoint : policy.prometheus.listen) {
        if (endpoint.port != publication.host.port && endpoint.port != publication.container_port) continue;
        about = true;
        if (endpoint.port == publication.host.port && (endpoint.address == publication.host.address || is_any(endpoint.address))) return true;
    }
    return about ? std::optional(false) : std::nullopt;
}

std::string proposal(const Publication& publication, std::string_view container) {
    const auto line = fmt::format("\"127.0.0.1:{}:{}{}\"", publication.host.port == 0 ? publication.container_port : publication.host.port, publication.container_port, publication.protocol == Protocol::udp ? "/udp" : "");
    return fmt::format("publish it as {} (compose: ports; docker run: -p) and make {} anew, or publish nothing and let the proxy share its network", line, container.empty() ? "the container" : container);
}

std::string described(const Publication& publication) {
    const auto where = is_any(publication.host.address) ? std::string("all addresses") : to_text(publication.host.address);
    return fmt::format("port {} of {} is published on port {} of {}", publication.container_port, publication.container.empty() ? "a container" : "container " + publication.container, publication.host.port, where);
}

/// The strongest trace of each publication: a rule is what packets meet, a proxy is what listens, a configuration is what was meant.
std::vector<const Publication*> distinct(const std::vector<Publication>& publications) {
    std::vector<const Publication*> all;
    for (const auto& one : publications) {
        const auto same = std::ranges::find_if(all, [&](const Publication* other) {
            return other->host == one.host && other->container_port == one.container_port && other->protocol == one.protocol && (other->container == one.container || other->container.empty() || one.container.empty());
        });
        if (same == all.end()) all.push_back(&one);
        else if ((*same)->container.empty() && !one.container.empty()) *same = &one;
    }
    return all;
}

// ---- companions -----------------------------------------------------------------------------------------------------

struct Companion {
    std::uint16_t port;
    Protocol protocol;
    std::string_view name;
    bool theirs;                      // nobody else is usually found on that port
    std::string_view program = {};    // what the process' name holds, for ports that others use as well
};
using enum Protocol;
constexpr Companion companions[] = {
    {9091, tcp, "Pushgateway", true},           {9093, tcp, "Alertmanager", true},          {9094, tcp, "Alertmanager's gossip", true}, {9094, udp, "Alertmanager's gossip", true},
    {9100, tcp, "node_exporter", true},         {9101, tcp, "haproxy_exporter", true},      {9102, tcp, "statsd_exporter", true},       {9104, tcp, "mysqld_exporter", true},
    {9107, tcp, "consul_exporter", true},       {9113, tcp, "nginx exporter", true},        {9114, tcp, "elasticsearch_exporter", true}, {9115, tcp, "blackbox_exporter", true},
    {9116, tcp, "snmp_exporter", true},         {9117, tcp, "apache_exporter", true},       {9119, tcp, "bind_exporter", true},         {9121, tcp, "redis_exporter", true},
    {9150, tcp, "memcached_exporter", true},    {9187, tcp, "postgres_exporter", true},     {9256, tcp, "process-exporter", true},      {9308, tcp, "kafka_exporter", true},
    {9323, tcp, "dockerd's metrics", true},     {9419, tcp, "rabbitmq_exporter", true},     {10901, tcp, "Thanos", true},               {10902, tcp, "Thanos", true},
    {8080, tcp, "cAdvisor", false, "cadvisor"}, {3000, tcp, "Grafana", false, "grafana"},   {3100, tcp, "Loki", false, "loki"},         {4317, tcp, "OTLP receiver", false, "otel"},
    {4318, tcp, "OTLP receiver", false, "otel"}, {4180, tcp, "oauth2-proxy", false, "oauth2"},
};
/// Names of programs that are companions wherever they listen.
constexpr std::string_view programs[] = {"alertmanager", "pushgateway", "_exporter", "-exporter", "grafana", "cadvisor", "oauth2-proxy", "promtail", "prometheus-alert", "prometheus-node", "thanos"};

std::string name_of(const Process& process) { return process.exe.empty() ? process.comm : process.exe.substr(process.exe.rfind('/') + 1); }

bool published_image(const Facts& facts, const Listener& listener, std::string_view word) {
    if (!facts.containers) return false;
    for (const auto& publication : facts.containers->publications) {
        if (publication.host.port != listener.endpoint.port || publication.container.empty()) continue;
        for (const auto& container : facts.containers->containers)
            if (container.name == publication.container && (container.image.contains(word) || container.name.contains(word))) return true;
    }
    return false;
}

/// What the listener is, "" where it is no companion.
std::string companion_of(const Facts& facts, const Listener& listener) {
    for (const auto& companion : companions) {
        if (companion.port != listener.endpoint.port || companion.protocol != listener.protocol) continue;
        if (companion.theirs) return std::string(companion.name);
        const bool named = std::ranges::any_of(listener.holders, [&](const Process& process) { return name_of(process).contains(companion.program) || process.comm.contains(companion.program); });
        if (named || published_image(facts, listener, companion.program)) return std::string(companion.name);
    }
    if (listener.protocol != Protocol::tcp) return {};
    for (const auto& process : listener.holders)
        for (const auto program : programs)
            if (name_of(process).contains(program) || process.comm.contains(program)) return name_of(process);
    return {};
}

bool is_prometheus(const Facts& facts, const Listener& listener) {
    return facts.servers && std::ranges::any_of(*facts.servers, [&](const Server& server) {
               return std::ranges::any_of(server.listeners, [&](const Listener& own) { return own.inode == listener.inode; });
           });
}

}  // namespace

Decision decide_published_ports(const Policy& policy, const Facts& facts) {
    if (!facts.containers) return unknown(facts.containers.error());
    const auto in_containers = prometheus_ports(facts);
    const auto filter = compare_ruleset(policy, facts, Hook::Point::forward, {}), entrance = compare_ruleset(policy, facts, Hook::Point::prerouting, {});
    const bool in_force = !policy.firewall.services.empty() && filter.verdict == Verdict::pass && entrance.verdict == Verdict::pass;
    Gathered gathered;
    for (const auto* publication : distinct(facts.containers->publications)) {
        const bool guarded = service_of(policy, publication->host.port, publication->protocol) != nullptr || service_of(policy, publication->container_port, publication->protocol) != nullptr;
        if (!guarded && (publication->protocol != Protocol::tcp || !in_containers.contains(publication->container_port))) continue;
        gathered.judged = true;
        const auto on_list = listed(policy, *publication);
        if (is_loopback(publication->host.address) || on_list == true) continue;
        if (guarded && in_force && !on_list) {
            gathered.notes.push_back(fmt::format("{}; every packet to it is judged by the live ruleset", described(*publication)));
            continue;
        }
        const auto why = on_list ? "" : !guarded ? ", which no firewall service guards" : ", and the policy's ruleset is not in force";
        gathered.findings.push_back({publication->container.empty() ? fmt::format("port {}", publication->host.port) : "container " + publication->container,
                                     on_list ? "published where prometheus.listen says" : "published on 127.0.0.1 only, or guarded by the ruleset", described(*publication) + why,
                                     publication->seen == Publication::Seen::configuration ? std::optional(Location{publication->source, 0, 0, "PortBindings"}) : std::nullopt,
                                     publication->seen == Publication::Seen::configuration ? Evidence::config : publication->seen == Publication::Seen::proxy ? Evidence::process : Evidence::kernel,
                                     {false, proposal(*publication, publication->container)}});
    }
    for (const auto& why : facts.containers->unread) gathered.undecided.push_back(why);
    return std::move(gathered).decide("no container publishes a port of Prometheus, or of another guarded service, beyond the policy", "no container publishes a guarded port");
}

Decision decide_companion_ports(const Policy& policy, const Facts& facts) {
    if (!facts.listeners) return unknown(facts.listeners.error());
    Gathered gathered;
    std::set<std::pair<std::uint16_t, Protocol>> told;
    for (const auto& listener : *facts.listeners) {
        const auto port = listener.endpoint.port;
        const auto what = companion_of(facts, listener);
        if (what.empty() || is_prometheus(facts, listener)) continue;
        gathered.judged = true;
        if (is_loopback(listener.endpoint.address) || service_of(policy, port, listener.protocol) != nullptr) continue;
        if (std::ranges::find(policy.firewall.open_ports, port) != policy.firewall.open_ports.end()) continue;
        if (!told.insert({port, listener.protocol}).second) continue;  // its other family
        const auto holder = listener.holders.empty() ? std::string("a process that cannot be seen from here") : fmt::format("{} (pid {})", name_of(listener.holders.front()), listener.holders.front().pid);
        gathered.findings.push_back({fmt::format("{}{}", to_text(listener.endpoint), listener.protocol == Protocol::udp ? "/udp" : ""), "guarded by a firewall service, on loopback, or in firewall.open_ports",
                                     fmt::format("{}, held by {}, is open on {}", what, holder, to_text(listener.endpoint)), std::nullopt, Evidence::kernel,
                                     {false, fmt::format("guard it: [[firewall.service]] name = \"port-{0}\", ports = [{0}]{1}, allow = [...]; or declare it: [firewall] open_ports = [{0}]", port,
                                                         listener.protocol == Protocol::udp ? ", protocol = \"udp\"" : "")}});
    }
    return std::move(gathered).decide("every companion service is guarded, on loopback, or declared open", "no companion service listens here");
}

}  // namespace promwarden
