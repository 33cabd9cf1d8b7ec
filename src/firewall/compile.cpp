// The ruleset that a policy means.
//
// A packet for a guarded port meets up to four base chains:
//
//   guard_pre   prerouting -250   after defragmentation, before conntrack and DNAT: traffic to an address of this host
//   guard_in    input 10          again, after NAT: what was redirected on the host, and transparent sockets
//   guard_fwd   forward -10       to containers: by DNAT, or routed to the address behind a container bridge
//   guard_out   output 0          over loopback, by the user of the sending socket
//
// Each sends it to its service's guard_judge_NAME, which returns a trusted source and lets nothing else come back; by way of guard_admit_NAME where it is seen
// for the first time, and counted. Connections that exist are judged like new ones, packet by packet: a source that loses its trust loses its connections.

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <netinet/in.h>
// After the C library's: the kernel's headers then leave its types alone.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/rtnetlink.h>

#include "promwarden/firewall.hpp"

namespace promwarden::firewall {

namespace {

using namespace expr;
using Op = Compare::Op;
using Key = Meta::Key;
using Rules = std::vector<Rule>;

constexpr int loopback_index = 1;  // in every network namespace
constexpr std::uint32_t smallest_set = 64;
constexpr std::string_view containers = "guard_containers";  // what leads to containers: closes
constexpr std::string_view bridges = "guard_bridges";        // what containers come from: opens, and so holds only what is certain
/// How container engines name their bridges; used where nobody watches links come and go.
constexpr std::array<std::string_view, 4> engine_names{"docker", "br-", "podman", "cni"};

template <class Number>
std::vector<std::uint8_t> host_order(Number number) {
    std::vector<std::uint8_t> bytes(sizeof number);
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
}

std::vector<std::uint8_t> network_order(std::uint16_t port) { return {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)}; }

std::vector<std::uint8_t> characters(std::string_view text) { return {text.begin(), text.end()}; }

Rule rule(std::vector<Expression> expressions, std::string comment = {}) { return {std::move(expressions), std::move(comment)}; }
Verdict accept() { return {Verdict::Kind::accept, {}}; }
Verdict jump(std::string chain) { return {Verdict::Kind::jump, std::move(chain)}; }
Verdict go_to(std::string chain) { return {Verdict::Kind::go_to, std::move(chain)}; }

std::vector<Expression> operator+(std::vector<Expression> left, std::vector<Expression> right) {
    left.insert(left.end(), std::make_move_iterator(right.begin()), std::make_move_iterator(right.end()));
    return left;
}

std::string arrive_chain(const Service& service) { return fmt::format("guard_arrive_{}", service.name); }
std::string admit_chain(const Service& service) { return fmt::format("guard_admit_{}", service.name); }
std::string judge_chain(const Service& service) { return fmt::format("guard_judge_{}", service.name); }
std::string deny_chain(const Service& service) { return fmt::format("guard_deny_{}", service.name); }
std::string refuse_chain(const Service& service) { return fmt::format("guard_refuse_{}", service.name); }
std::string users_set(const Service& service) { return fmt::format("guard_users_{}", service.name); }
std::string allowed_counter(const Service& service) { return fmt::format("guard_{}_allowed", service.name); }
std::string denied_counter(const Service& service) { return fmt::format("guard_{}_denied", service.name); }
std::string source_set(const SourceGroup& group, const NetworkClass& networks) {
    return fmt::format("guard_{}_{}_{}", group.name, networks.family == Family::ip4 ? "ip4" : "ip6", networks.prefix);
}

std::vector<Expression> of_protocol(Protocol protocol) {
    return {Meta{Key::l4proto}, Compare{Op::eq, {protocol == Protocol::tcp ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP}}}};
}

std::vector<Expression> to_port(Protocol protocol, PortRange ports) {
    const auto match = of_protocol(protocol) + std::vector<Expression>{Payload{Payload::Base::transport, 2, 2}};
    if (ports.first == ports.last) return match + std::vector<Expression>{Compare{Op::eq, network_order(ports.first)}};
    return match + std::vector<Expression>{Compare{Op::gte, network_order(ports.first)}, Compare{Op::lte, network_order(ports.last)}};
}

/// "ip saddr & /24": the source address, cut to the networks' length.
std::vector<Expression> source_network(const NetworkClass& networks) {
    const bool ip4 = networks.family == Family::ip4;
    const auto width = static_cast<std::uint32_t>(width_of(networks.family));
    std::vector<Expression> load{Meta{Key::nfproto}, Compare{Op::eq, {ip4 ? std::uint8_t{NFPROTO_IPV4} : std::uint8_t{NFPROTO_IPV6}}},
                                 Payload{Payload::Base::network, ip4 ? 12U : 8U, width}};
    if (networks.prefix == bits_of(networks.family)) return load;
    Address ones{networks.family, {}};
    ones.bytes.fill(0xff);
    const auto mask = ones.masked(networks.prefix);
    return load + std::vector<Expression>{Mask{{mask.packed().begin(), mask.packed().end()}}};
}

std::vector<Expression> from_loopback() { return {Meta{Key::iif}, Compare{Op::eq, host_order(loopback_index)}}; }

/// One rule for every way in which an interface is known to be a container's.
Rules for_containers(Key key, std::string_view set, const Surroundings& surroundings, const Verdict& verdict) {
    Rules rules{rule({Meta{key}, Lookup{std::string(set)}, verdict})};
    if (surroundings.watched) return rules;
    for (const auto name : engine_names) rules.push_back(rule({Meta{key}, Compare{Op::eq, characters(name)}, verdict}));
    return rules;
}

void append(Rules& rules, Rules more) { std::ranges::move(more, std::back_inserter(rules)); }

/// Every guarded port of every service, and where it leads.
Rules by_port(const FirewallPolicy& policy, const std::function<Verdict(const Service&)>& leads) {
    Rules rules;
    for (const auto& service : policy.services)
        for (const auto ports : service.ports)
            rules.push_back(rule(to_port(service.protocol, ports) + std::vector<Expression>{leads(service)}, fmt::format("service {}", service.name)));
    return rules;
}

/// The first look at a packet: judged, counted, let in.
Chain admit(const Service& service) {
    return {admit_chain(service), std::nullopt, {rule({jump(judge_chain(service))}), rule({Count{allowed_counter(service)}, accept()})}};
}

/// Behind the port, so that packets for other ports cost no look at the routes.
Chain arrive(const Service& service) {
    return {arrive_chain(service), std::nullopt,
            {rule({FibDestinationType{}, Compare{Op::eq, host_order(std::uint32_t{RTN_UNICAST})}, accept()}, "to be forwarded: guard_fwd judges it"),
             rule({go_to(admit_chain(service))})}};
}

Chain prerouting(const FirewallPolicy& policy, const Surroundings& surroundings) {
    Chain chain{"guard_pre", Hook{Hook::Point::prerouting, -250}, {}};
    chain.rules.push_back(rule(from_loopback() + std::vector<Expression>{accept()}));
    if (policy.sibling_containers) append(chain.rules, for_containers(Key::iifname, bridges, surroundings, accept()));
    append(chain.rules, by_port(policy, [](const Service& service) { return go_to(arrive_chain(service)); }));
    return chain;
}

Chain input(const FirewallPolicy& policy, const Surroundings& surroundings) {
    Chain chain{"guard_in", Hook{Hook::Point::input, 10}, {}};
    chain.rules.push_back(rule(from_loopback() + std::vector<Expression>{accept()}));
    if (policy.sibling_containers) append(chain.rules, for_containers(Key::iifname, bridges, surroundings, accept()));
    append(chain.rules, by_port(policy, [](const Service& service) { return jump(judge_chain(service)); }));
    // A transparent proxy hands packets of any port to any listener, so they must be welcome at every service. Only our own addresses: a proxy for other
    // people's traffic is left alone. Who was welcome at the only service need not be asked again.
    for (const auto protocol : {Protocol::tcp, Protocol::udp}) {
        std::vector<const Service*> services;
        for (const auto& service : policy.services)
            if (service.protocol == protocol) services.push_back(&service);
        if (services.size() == 1)
            for (const auto ports : services.front()->ports) chain.rules.push_back(rule(to_port(protocol, ports) + std::vector<Expression>{accept()}));
        for (const auto* service : services)
            chain.rules.push_back(rule(of_protocol(protocol) + std::vector<Expression>{SocketTransparent{}, Compare{Op::eq, {1}}, FibDestinationType{},
                                                                                       Compare{Op::eq, host_order(std::uint32_t{RTN_LOCAL})}, jump(judge_chain(*service))},
                                       "transparent sockets"));
    }
    return chain;
}

std::vector<Chain> forward(const FirewallPolicy& policy, const Surroundings& surroundings) {
    Chain chain{"guard_fwd", Hook{Hook::Point::forward, -10}, {}};
    if (policy.sibling_containers) append(chain.rules, for_containers(Key::iifname, bridges, surroundings, accept()));
    chain.rules.push_back(rule({CtStatus{}, Mask{host_order(std::uint32_t{IPS_DST_NAT})}, Compare{Op::neq, host_order(std::uint32_t{0})}, go_to("guard_contained")},
                               "published by a container engine"));
    append(chain.rules, for_containers(Key::iifname, bridges, surroundings, accept()));  // containers among themselves
    append(chain.rules, for_containers(Key::oifname, containers, surroundings, go_to("guard_contained")));
    return {{"guard_contained", std::nullopt, by_port(policy, [](const Service& service) { return go_to(admit_chain(service)); })}, std::move(chain)};
}

Chain output(const FirewallPolicy& policy) {
    Chain chain{"guard_out", Hook{Hook::Point::output, 0}, {}};
    for (const auto& service : policy.services) {
        if (!service.local_users) continue;
        for (const auto ports : service.ports)
            // A packet without a socket (the last acknowledgements of a closed one) has no user: the lookup is not reached and it passes.
            chain.rules.push_back(rule(std::vector<Expression>{Meta{Key::oif}, Compare{Op::eq, host_order(loopback_index)}} + to_port(service.protocol, ports) +
                                           std::vector<Expression>{Meta{Key::skuid}, Lookup{users_set(service), true}, go_to(refuse_chain(service))},
                                       fmt::format("local_users of {}", service.name)));
    }
    return chain;
}

Chain judge(const FirewallPolicy& policy, const Service& service) {
    Chain chain{judge_chain(service), std::nullopt, {}};
    for (const auto& group : policy.sources) {
        if (std::ranges::find(service.allow, group.name) == service.allow.end()) continue;
        for (const auto& networks : group.networks)
            chain.rules.push_back(rule(source_network(networks) + std::vector<Expression>{Lookup{source_set(group, networks)}, Verdict{Verdict::Kind::return_to, {}}},
                                       fmt::format("sources {}", group.name)));
    }
    chain.rules.push_back(rule({go_to(deny_chain(service))}));
    return chain;
}

/// Count it, tell whoever wants to know, end it.
Chain ending(const FirewallPolicy& policy, const Service& service, std::string name, bool rejects) {
    Chain chain{std::move(name), std::nullopt, {}};
    chain.rules.push_back(rule({Count{denied_counter(service)}}));
    const auto prefix = fmt::format("promwarden denied {}: ", service.name);
    if (service.log) chain.rules.push_back(rule({Limit{service.log->count, service.log->unit}, Log{prefix}}));
    const auto rate = service.log.value_or(Rate{10, std::chrono::seconds(1)});
    if (policy.nflog_group != 0) chain.rules.push_back(rule({Limit{rate.count, rate.unit}, Log{prefix, policy.nflog_group}}));
    if (rejects && service.protocol == Protocol::tcp) chain.rules.push_back(rule({Meta{Key::l4proto}, Compare{Op::eq, {IPPROTO_TCP}}, Reject{true}}));
    else if (rejects) chain.rules.push_back(rule({Reject{false}}));
    else chain.rules.push_back(rule({Verdict{Verdict::Kind::drop, {}}}));
    return chain;
}

/// Room for as many again, so that a growing list stays the same set; the size of an existing set is kept while it suffices.
std::uint32_t declared_size(std::size_t elements, const std::string& name, const Ruleset* previous) {
    if (const auto* set = previous == nullptr ? nullptr : previous->set(name); set != nullptr && set->size >= elements && set->size / 16 <= elements + smallest_set)
        return set->size;
    return std::bit_ceil(std::max(smallest_set, static_cast<std::uint32_t>(elements * 2)));
}

std::shared_ptr<const PackedKeys> interface_keys(std::span<const std::string> names) {
    std::vector<std::uint8_t> bytes;
    for (const auto& name : names) {
        std::array<std::uint8_t, 16> padded{};
        std::ranges::copy_n(name.begin(), static_cast<std::ptrdiff_t>(std::min<std::size_t>(name.size(), 15)), padded.begin());
        bytes.insert(bytes.end(), padded.begin(), padded.end());
    }
    return std::make_shared<PackedKeys>(16, std::move(bytes));
}

std::shared_ptr<const PackedKeys> user_keys(const std::vector<Account>& users, std::optional<uid_t> probe) {
    std::vector<std::uint8_t> bytes;
    const auto add = [&](std::uint32_t id) { std::ranges::copy(host_order(id), std::back_inserter(bytes)); };
    for (const auto& user : users) add(user.id);
    if (probe) add(*probe);
    return std::make_shared<PackedKeys>(4, std::move(bytes));
}

std::vector<Set> sets(const FirewallPolicy& policy, const Surroundings& surroundings, const Ruleset* previous) {
    std::vector<Set> all;
    const auto add = [&](Set::Type type, std::string name, std::shared_ptr<const PackedKeys> elements) {
        const auto size = declared_size(elements->size(), name, previous);
        all.push_back({type, std::move(name), size, 0, std::move(elements)});
    };
    add(Set::Type::interface, std::string(containers), interface_keys(surroundings.container_interfaces));
    add(Set::Type::interface, std::string(bridges), interface_keys(surroundings.container_bridges));
    for (const auto& group : policy.sources) {
        const auto names_it = [&](const Service& service) { return std::ranges::find(service.allow, group.name) != service.allow.end(); };
        if (std::ranges::none_of(policy.services, names_it)) continue;
        for (const auto& networks : group.networks)
            add(networks.family == Family::ip4 ? Set::Type::ip4 : Set::Type::ip6, source_set(group, networks), networks.networks);
    }
    for (const auto& service : policy.services)
        if (service.local_users) add(Set::Type::user, users_set(service), user_keys(*service.local_users, surroundings.probe_user));
    return all;
}

}  // namespace

Surroundings surroundings(std::span<const Link> links) {
    Surroundings result;
    result.watched = true;
    const auto carries_hardware = [&](const Link& bridge) {
        return std::ranges::any_of(links, [&](const Link& port) { return port.master == bridge.index && port.kind != "veth" && port.kind != "tun"; });
    };
    for (const auto& link : links) {
        // What has a default route is this host's way to its network, not a container's; so is a bridge with a physical port. Where the host is a container itself, a
        // veth is its uplink, alone or below a bridge.
        if (link.beyond == Link::Beyond::everything) continue;
        const bool bridge = link.kind == "bridge" && !carries_hardware(link);
        // A lone veth may lead to a container, or be the uplink of a host that is a container itself: good enough to judge what goes there, not to trust what comes.
        const bool leads_away = (link.kind == "veth" && link.master == 0) || link.kind == "macvlan" || link.kind == "macvtap";
        if (bridge || leads_away) result.container_interfaces.push_back(link.name);
        if (bridge && link.beyond == Link::Beyond::nothing) result.container_bridges.push_back(link.name);  // strangers come from beyond a gateway
    }
    std::ranges::sort(result.container_bridges);
    std::ranges::sort(result.container_interfaces);
    return result;
}

Ruleset compile(const FirewallPolicy& policy, const Surroundings& surroundings, const Ruleset* previous) {
    Ruleset ruleset;
    ruleset.sets = sets(policy, surroundings, previous);
    for (const auto& service : policy.services) {
        ruleset.counters.push_back(allowed_counter(service));
        ruleset.counters.push_back(denied_counter(service));
        ruleset.chains.push_back(ending(policy, service, deny_chain(service), service.deny == Deny::reject));
        if (service.local_users) ruleset.chains.push_back(ending(policy, service, refuse_chain(service), true));  // a local caller is told at once
        ruleset.chains.push_back(judge(policy, service));
        ruleset.chains.push_back(admit(service));
        ruleset.chains.push_back(arrive(service));
    }
    std::ranges::move(forward(policy, surroundings), std::back_inserter(ruleset.chains));
    ruleset.chains.push_back(prerouting(policy, surroundings));
    ruleset.chains.push_back(input(policy, surroundings));
    if (std::ranges::any_of(policy.services, [](const Service& service) { return service.local_users.has_value(); })) ruleset.chains.push_back(output(policy));
    return ruleset;
}

Ruleset closed(std::span<const std::uint16_t> ports) {
    FirewallPolicy policy;
    Service service;
    service.name = "closed";
    for (const auto port : ports) service.ports.push_back({port, port});
    policy.services.push_back(std::move(service));
    return compile(policy, Surroundings{});
}

}  // namespace promwarden::firewall
