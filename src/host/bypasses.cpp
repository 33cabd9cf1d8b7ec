// Which of the things that move packets lead past the guard. Pure.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/netfilter.h>

#include "sockets.hpp"

namespace promwarden::host {

namespace {

using firewall::ForeignChain;
using firewall::ForeignRules;

constexpr int guard_input_priority = 10, guard_forward_priority = -10;
constexpr int inet_ingress = 5;  // NF_INET_INGRESS
constexpr std::size_t most_shown = 3;

std::string counted(std::size_t count, std::string_view noun) { return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s"); }

// ---- below netfilter ------------------------------------------------------------------------------------------------

void judge_links(std::span<const Link> links, std::vector<Bypass>& found) {
    const auto name_of = [&](int index) {
        const auto link = std::ranges::find(links, index, &Link::index);
        return link == links.end() ? std::string("an interface of another namespace") : link->name;
    };
    for (const auto& link : links) {
        if (link.xdp_program != 0)
            found.push_back({Bypass::Kind::xdp, link.name, fmt::format("XDP program {}, which sees packets before any filter", link.xdp_program)});
        if (link.kind == "macvlan" || link.kind == "ipvlan")
            found.push_back({Bypass::Kind::macvlan, link.name,
                             fmt::format("{} on {}, in this namespace: its packets pass the guard", link.kind, name_of(link.parent)), true});
        if (link.kind == "macvtap" || link.kind == "ipvtap")
            found.push_back({Bypass::Kind::macvlan, link.name,
                             fmt::format("{} on {}: its packets go to a program (a virtual machine), not through the guard", link.kind, name_of(link.parent))});
    }
}

/// Whether a filter can do more to a packet than count, mark, delay or drop it.
bool moves_packets(const TrafficFilter& filter) {
    constexpr std::array<std::string_view, 8> harmless{"gact", "police", "sample", "skbedit", "connmark", "ctinfo", "gate", "csum"};
    if (filter.kind == "bpf") return true;
    return std::ranges::any_of(filter.actions, [&](const std::string& action) { return std::ranges::find(harmless, action) == harmless.end(); });
}

void judge_filters(std::span<const TrafficFilter> filters, std::vector<Bypass>& found) {
    for (std::size_t i = 0; i < filters.size(); ++i) {
        const auto& filter = filters[i];
        if (std::ranges::find(filters.first(i), filter) != filters.first(i).end()) continue;  // counted with the first of its like
        const auto count = static_cast<std::size_t>(std::ranges::count(filters, filter));
        const auto what = fmt::format("tc {} on {}: {}", counted(count, filter.kind + " filter"), filter.ingress ? "ingress" : "egress",
                                      filter.actions.empty() ? (filter.kind == "bpf" ? "its program decides" : "no action") : fmt::format("{}", fmt::join(filter.actions, ", ")));
        const bool moves = moves_packets(filter);
        found.push_back({Bypass::Kind::tc, filter.link, moves ? what : what + "; it cannot lead a packet past the guard", !moves});
    }
}

void judge_addresses(std::span<const ForeignAddress> addresses, std::vector<Bypass>& found) {
    for (const auto& address : addresses)
        found.push_back({Bypass::Kind::macvlan, fmt::format("{}", fmt::join(address.links, ", ")),
                         fmt::format("receives packets for {}, which is no interface of this namespace: a macvlan in another one", address.address)});
}

void judge_route_localnet(std::span<const std::string> names, std::vector<Bypass>& found) {
    for (const auto& name : names)
        found.push_back({Bypass::Kind::route_localnet, name,
                         "route_localnet = 1: others can reach listeners on 127.0.0.0/8; the guard judges such packets to guarded ports", true});
}

// ---- rules of others ------------------------------------------------------------------------------------------------

/// What a Foreign expression means for a packet.
enum class Deed : std::uint8_t { none, redirect, dnat, transparent_proxy, rewrite_port, rewrite, move };

struct Reading {
    Deed deed = Deed::none;
    std::optional<PortRange> target;  // where it sends packets, if the name says so
};

bool port_field(std::string_view field) { return field == "th dport" || field == "tcp dport" || field == "udp dport" || field == "@th,16,16"; }
bool harmless_field(std::string_view field) {
    constexpr std::array<std::string_view, 7> fields{"ip dscp", "ip6 dscp", "ip ecn", "ip6 ecn", "ip ttl", "ip6 hoplimit", "ip6 flowlabel"};
    return std::ranges::find(fields, field) != fields.end();
}

/// The port or range behind the last colon of "… to 10.0.0.1:9090-9091".
std::optional<PortRange> ports_in(std::string_view name) {
    const auto colon = name.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto text = name.substr(colon + 1);
    PortRange range;
    const auto* end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, range.first);
    if (first.ec != std::errc{}) return std::nullopt;
    range.last = range.first;
    if (first.ptr != end && *first.ptr == '-' && std::from_chars(first.ptr + 1, end, range.last).ec != std::errc{}) return std::nullopt;
    return range;
}

Reading read_expression(std::string_view name) {
    constexpr std::string_view write = "payload write";
    if (name.starts_with(write)) {
        auto field = name.substr(write.size());
        if (field.starts_with(' ')) field.remove_prefix(1);
        return {port_field(field) ? Deed::rewrite_port : harmless_field(field) ? Deed::none : Deed::rewrite, {}};
    }
    if (name.starts_with("redir") || name == "xt REDIRECT") return {Deed::redirect, ports_in(name)};
    if (name.starts_with("tproxy") || name == "xt TPROXY") return {Deed::transparent_proxy, ports_in(name)};
    if (name.starts_with("nat dnat") || name.starts_with("dnat") || name.starts_with("xt DNAT")) return {Deed::dnat, ports_in(name)};
    if (name.starts_with("fwd") || name.starts_with("dup")) return {Deed::move, {}};
    return {};
}

/// The destination ports that a rule's comparisons leave; 0-65535 where they leave it open or we cannot tell.
PortRange matched_ports(const Rule& rule) {
    PortRange range{0, 65535};
    bool port_loaded = false;
    for (const auto& expression : rule.expressions) {
        if (const auto* payload = std::get_if<expr::Payload>(&expression))
            port_loaded = payload->base == expr::Payload::Base::transport && payload->offset == 2 && payload->length == 2;
        else if (std::holds_alternative<expr::Meta>(expression) || std::holds_alternative<expr::Foreign>(expression))
            port_loaded = false;
        const auto* compare = std::get_if<expr::Compare>(&expression);
        if (compare == nullptr || !port_loaded || compare->value.size() < 2) continue;
        const auto port = static_cast<std::uint16_t>(compare->value[0] << 8 | compare->value[1]);
        using enum expr::Compare::Op;
        if (compare->op == eq) range = {port, port};
        if (compare->op == gte) range.first = port;
        if (compare->op == lte) range.last = port;
    }
    return range;
}

struct Hooked {
    int hook = 0;
    int priority = 0;
};

/// Where a chain is run: at its own hook, or wherever its table's chains could jump to it from.
std::vector<Hooked> hooks_of(const ForeignChain& chain, const ForeignRules& foreign) {
    if (chain.hook) return {{*chain.hook, chain.priority}};
    std::vector<Hooked> hooks;
    for (const auto& other : foreign.chains)
        if (other.hook && other.family == chain.family && other.table == chain.table) hooks.push_back({*other.hook, other.priority});
    return hooks;
}

bool runs_at(std::span<const Hooked> hooks, std::initializer_list<int> points) {
    return std::ranges::any_of(hooks, [&](const Hooked& hooked) { return std::ranges::find(points, hooked.hook) != points.end(); });
}

/// Whether one of our chains looks at the port after a rule at this place has rewritten it.
bool judged_after(const Hooked& hooked) {
    switch (hooked.hook) {
        case NF_INET_PRE_ROUTING: return true;
        case NF_INET_LOCAL_IN: return hooked.priority < guard_input_priority;
        case NF_INET_FORWARD: return hooked.priority < guard_forward_priority;
        case NF_INET_LOCAL_OUT: return true;  // what this host sends is not a stranger's
        default: return false;
    }
}

class RuleJudge {
public:
    RuleJudge(const FirewallPolicy& policy, const ForeignRules& foreign) : foreign_(foreign) {
        for (const auto& service : policy.services) guarded_.insert(guarded_.end(), service.ports.begin(), service.ports.end());
    }

    void judge(const ForeignChain& chain, std::vector<Bypass>& found) const {
        std::vector<Bypass> here;
        std::vector<std::pair<std::size_t, std::vector<std::string>>> rules;  // per bypass: how many, the first of them
        for (const auto& rule : chain.rules) {
            auto bypass = judge_rule(chain, rule);
            if (!bypass) continue;
            const auto same = std::ranges::find_if(here, [&](const Bypass& b) { return b.kind == bypass->kind && b.covered == bypass->covered && b.observed == bypass->observed; });
            const auto at = static_cast<std::size_t>(same - here.begin());
            if (same == here.end()) {
                here.push_back(std::move(*bypass));
                rules.emplace_back();
            }
            if (rules[at].first++ < most_shown) rules[at].second.push_back("'" + to_text(rule) + "'");
        }
        for (std::size_t i = 0; i < here.size(); ++i) {
            const auto& [count, shown] = rules[i];
            const auto more = count > shown.size() ? fmt::format(" and {} more", count - shown.size()) : std::string();
            here[i].observed = fmt::format("{}{}: {}", fmt::join(shown, ", "), more, here[i].observed);
            found.push_back(std::move(here[i]));
        }
    }

private:
    [[nodiscard]] bool guards(const PortRange& range) const {
        return std::ranges::any_of(guarded_, [&](const PortRange& each) { return each.first <= range.last && range.first <= each.last; });
    }

    [[nodiscard]] std::optional<Bypass> judge_rule(const ForeignChain& chain, const Rule& rule) const {
        const auto matched = matched_ports(rule);
        const bool says_port = matched.first != 0 || matched.last != 65535;
        for (const auto& expression : rule.expressions) {
            const auto* foreign = std::get_if<expr::Foreign>(&expression);
            if (foreign == nullptr) continue;
            const auto reading = read_expression(foreign->name);
            const bool concerns = (says_port && guards(matched)) || (reading.target && guards(*reading.target));
            const bool may_concern = concerns || !reading.target;
            if (auto bypass = judge_deed(chain, reading.deed, concerns, may_concern, !says_port || guards(matched))) return bypass;
        }
        return std::nullopt;
    }

    [[nodiscard]] std::optional<Bypass> judge_deed(const ForeignChain& chain, Deed deed, bool concerns, bool may_concern, bool may_match) const {
        const auto subject = fmt::format("table {} {} chain {}", chain.family, chain.table, chain.name);
        const auto hooks = hooks_of(chain, foreign_);
        const bool arrives = runs_at(hooks, {NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN});
        const bool passes = arrives || runs_at(hooks, {NF_INET_FORWARD, NF_INET_POST_ROUTING});
        switch (deed) {
            case Deed::redirect:
                if (!arrives || !may_concern) return std::nullopt;
                return Bypass{Bypass::Kind::redirect, subject, "redirected on this host; the guard's input chain judges it after that", true};
            case Deed::dnat:
                if (!arrives || !concerns) return std::nullopt;
                return Bypass{Bypass::Kind::redirect, subject, "destination translated; the guard's input and forward chains judge it after that", true};
            case Deed::transparent_proxy:
                if (!arrives || !may_concern) return std::nullopt;
                return Bypass{Bypass::Kind::transparent_proxy, subject, "given to a transparent socket; the guard's input chain judges those", true};
            case Deed::rewrite_port: {
                if (!passes) return std::nullopt;
                const bool judged = std::ranges::all_of(hooks, judged_after);
                return Bypass{Bypass::Kind::rewrite, subject, judged ? "ports rewritten; the guard judges them after that" : "ports rewritten behind the guard", judged};
            }
            case Deed::rewrite:
                if (!passes || !may_match) return std::nullopt;
                return Bypass{Bypass::Kind::rewrite, subject, "packets rewritten; a forged source address would be taken for a trusted one"};
            case Deed::move:
            case Deed::none: return std::nullopt;
        }
        return std::nullopt;
    }

    const ForeignRules& foreign_;
    std::vector<PortRange> guarded_;
};

bool before_the_stack(const ForeignChain& chain) { return chain.family == "netdev" || (chain.family == "inet" && chain.hook == inet_ingress); }

/// Chains of the netdev hooks come before ours: what they move or rewrite never meets the guard as it was.
void judge_netdev_chain(const ForeignChain& chain, std::vector<Bypass>& found) {
    std::vector<std::string> moving;
    for (const auto& rule : chain.rules) {
        const bool moves = std::ranges::any_of(rule.expressions, [](const Expression& expression) {
            const auto* foreign = std::get_if<expr::Foreign>(&expression);
            return foreign != nullptr && read_expression(foreign->name).deed != Deed::none;
        });
        if (moves && moving.size() < most_shown) moving.push_back("'" + to_text(rule) + "'");
    }
    if (moving.empty() && !chain.hook) return;  // only jumped to: its base chain is reported
    const auto devices = chain.devices.empty() ? std::string() : fmt::format(" on {}", fmt::join(chain.devices, ", "));
    const auto subject = fmt::format("table {} {} chain {}", chain.family, chain.table, chain.name);
    if (moving.empty())
        found.push_back({Bypass::Kind::netdev_chain, subject, fmt::format("{}{}; none moves or rewrites a packet", counted(chain.rules.size(), "rule"), devices), true});
    else
        found.push_back({Bypass::Kind::netdev_chain, subject, fmt::format("moves or rewrites packets{} before the guard sees them: {}", devices, fmt::join(moving, ", "))});
}

void judge_flowtables(const ForeignRules& foreign, std::vector<Bypass>& found) {
    const auto offloads = [](const Expression& expression) {
        const auto* other = std::get_if<expr::Foreign>(&expression);
        return other != nullptr && other->name.starts_with("flow");
    };
    const bool used = std::ranges::any_of(foreign.chains, [&](const ForeignChain& chain) {
        return std::ranges::any_of(chain.rules, [&](const Rule& rule) { return std::ranges::any_of(rule.expressions, offloads); });
    });
    for (const auto& name : foreign.flowtables)
        found.push_back({Bypass::Kind::flowtable, "flowtable " + name,
                         used ? "forwarded flows skip the guard once they are in it: a source that loses its trust keeps them" : "no rule puts flows into it", !used});
}

}  // namespace

std::vector<Bypass> judge_paths(const FirewallPolicy& policy, const PacketPaths& paths, const ForeignRules& foreign) {
    std::vector<Bypass> found;
    judge_links(paths.links, found);
    judge_filters(paths.filters, found);
    judge_addresses(paths.addresses, found);
    judge_route_localnet(paths.route_localnet, found);
    const RuleJudge rules(policy, foreign);
    for (const auto& chain : foreign.chains) {
        if (before_the_stack(chain)) judge_netdev_chain(chain, found);
        else if (chain.family != "arp") rules.judge(chain, found);
    }
    judge_flowtables(foreign, found);
    std::ranges::stable_partition(found, [](const Bypass& bypass) { return !bypass.covered; });
    return found;
}

Result<std::vector<Bypass>> find_bypasses(const FirewallPolicy& policy, std::span<const Link> links, const ForeignRules& foreign, const std::string& proc) {
    return judge_paths(policy, TRY(read_packet_paths(links, proc)), foreign);
}

}  // namespace promwarden::host
