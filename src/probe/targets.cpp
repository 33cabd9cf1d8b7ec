// Where Prometheus and its proxy should answer, and who would.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

constexpr std::uint16_t usual_port = 9090;
constexpr auto proxy_unit = "nginx.service";

std::set<std::uint16_t> server_ports(const Policy& policy, std::span<const Server> servers) {
    std::set<std::uint16_t> ports;
    for (const auto& endpoint : policy.prometheus.listen) ports.insert(endpoint.port);
    if (ports.empty())
        for (const auto& service : policy.firewall.services)
            if (service.name == "prometheus" && service.protocol == Protocol::tcp)
                for (const auto& range : service.ports)
                    if (range.last - range.first < 16)
                        for (int port = range.first; port <= range.last; ++port) ports.insert(static_cast<std::uint16_t>(port));
    if (ports.empty()) ports.insert(usual_port);
    for (const auto& server : servers)
        if (server.kind == Server::Kind::unit && !server.own_network)
            for (const auto& listener : server.listeners)
                if (listener.protocol == Protocol::tcp) ports.insert(listener.endpoint.port);
    return ports;
}

/// Of "443", "127.0.0.1:8443" or "[::]:443".
std::set<std::uint16_t> proxy_ports(const AccessPolicy& access) {
    std::set<std::uint16_t> ports;
    if (!access.present) return ports;
    for (const auto& text : access.listen) {
        const auto digits = std::string_view(text).substr(text.rfind(':') == std::string::npos ? 0 : text.rfind(':') + 1);
        std::uint16_t port = 0;
        if (std::from_chars(digits.data(), digits.data() + digits.size(), port).ec == std::errc() && port != 0) ports.insert(port);
    }
    return ports;
}

bool is_wildcard(const Address& address) { return std::ranges::all_of(address.packed(), [](std::uint8_t byte) { return byte == 0; }); }

Address loopback(Family family) {
    Address address{family, {}};
    if (family == Family::ip4) address.bytes[0] = 127, address.bytes[3] = 1;
    else address.bytes[15] = 1;
    return address;
}

/// Where a listener can be asked. An address of a link needs an interface, which nobody can name in a URL: it is left out.
std::vector<Address> addresses_of(const Listener& listener) {
    const auto& bound = listener.endpoint.address;
    if (!is_wildcard(bound)) return bound.family == Family::ip6 && bound.bytes[0] == 0xfe && (bound.bytes[1] & 0xc0) == 0x80 ? std::vector<Address>{} : std::vector{bound};
    std::vector<Address> addresses{loopback(bound.family)};
    if (bound.family == Family::ip6 && !listener.v6only) addresses.push_back(loopback(Family::ip4));
    return addresses;
}

/// How well a socket fits a destination, as the kernel scores it. 0: not at all.
int score(const Listener& listener, const Endpoint& asked) {
    const auto& bound = listener.endpoint;
    if (listener.protocol != Protocol::tcp || bound.port != asked.port) return 0;
    if (bound.address == asked.address) return 3;
    if (!is_wildcard(bound.address)) return 0;
    if (bound.address.family == asked.address.family) return 2;
    return bound.address.family == Family::ip6 && !listener.v6only ? 1 : 0;
}

std::vector<const Listener*> receivers(std::span<const Listener> listeners, const Endpoint& asked) {
    int best = 1;
    for (const auto& listener : listeners) best = std::max(best, score(listener, asked));
    std::vector<const Listener*> found;
    for (const auto& listener : listeners)
        if (score(listener, asked) == best) found.push_back(&listener);
    return found;
}

/// The sockets of the unit's server, as whoever observed it found them.
std::set<std::uint32_t> server_sockets(std::span<const Server> servers) {
    std::set<std::uint32_t> inodes;
    for (const auto& server : servers)
        if (server.kind == Server::Kind::unit && !server.own_network)
            for (const auto& listener : server.listeners) inodes.insert(listener.inode);
    inodes.erase(0);
    return inodes;
}

class Judge {
public:
    Judge(const Policy& policy, bool proxy, std::span<const Server> servers, const std::set<pid_t>& vouched)
        : unit_(proxy ? proxy_unit : policy.prometheus.unit), proxy_(proxy), sockets_(proxy ? std::set<std::uint32_t>{} : server_sockets(servers)), vouched_(vouched) {}

    [[nodiscard]] bool owns(const Listener& listener) const {
        return !listener.holders.empty() && std::ranges::all_of(listener.holders, [&](const Process& holder) {
            if (holder.unit.empty()) return vouched_.contains(holder.pid) || sockets_.contains(listener.inode);
            return holder.unit == unit_ && (proxy_ || holder.uid == listener.uid);
        });
    }

    [[nodiscard]] std::string name(const Listener& listener) const {
        if (listener.holders.empty()) return fmt::format("a process that cannot be seen from here, of uid {}", listener.uid);
        std::vector<std::string> names;
        for (const auto& holder : listener.holders)
            names.push_back(fmt::format("{} (pid {}, uid {}{})", holder.comm, holder.pid, listener.uid, holder.unit.empty() ? ", in no unit" : ", of " + holder.unit));
        return fmt::format("{}", fmt::join(names, ", "));
    }

private:
    std::string unit_;
    bool proxy_;
    std::set<std::uint32_t> sockets_;
    const std::set<pid_t>& vouched_;
};

Target make_target(std::span<const Listener> listeners, const Endpoint& asked, const Judge& judge) {
    Target target;
    target.asked = asked;
    for (const auto* listener : receivers(listeners, asked)) {
        target.listener = listener->endpoint;
        target.inodes.insert(listener->inode);
        if (judge.owns(*listener)) continue;
        target.holder = judge.name(*listener);
        target.hidden = listener->holders.empty();
    }
    return target;
}

}  // namespace

std::vector<PortRange> target_ports(const Policy& policy, std::span<const Server> servers) {
    auto ports = server_ports(policy, servers);
    ports.merge(proxy_ports(policy.access));
    std::vector<PortRange> ranges;
    for (const auto port : ports) ranges.push_back({port, port});
    return ranges;
}

std::vector<Target> find_targets(const Policy& policy, std::span<const Listener> listeners, std::span<const Server> servers, const std::set<pid_t>& vouched) {
    constexpr std::size_t most = 32;
    const auto own = server_ports(policy, servers), proxied = proxy_ports(policy.access);
    std::map<Endpoint, Target> targets;
    for (const auto& listener : listeners) {
        const auto port = listener.endpoint.port;
        const bool proxy = proxied.contains(port);
        if (listener.protocol != Protocol::tcp || (!proxy && !own.contains(port))) continue;
        const Judge judge(policy, proxy, servers, vouched);
        for (const auto& address : addresses_of(listener)) {
            if (targets.size() == most || targets.contains({address, port})) continue;
            auto target = make_target(listeners, {address, port}, judge);
            target.proxy = proxy;
            if (proxy) target.server_name = policy.access.server_name;
            targets.emplace(target.asked, std::move(target));
        }
    }
    std::vector<Target> all;
    for (auto& [asked, target] : targets) all.push_back(std::move(target));
    return all;
}

}  // namespace promwarden::probe
