#include "filter.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace promwarden {

std::vector<PortRange> guarded_ports(const Policy& policy) {
    std::vector<PortRange> ports;
    for (const auto& service : policy.firewall.services) std::ranges::copy(service.ports, std::back_inserter(ports));
    return ports;
}

bool survives(const Ruleset& ruleset, const Connection& connection) {
    const auto& remote = connection.remote.address;
    const bool loopback = remote == connection.local.address || (remote.family == Family::ip4 ? remote.bytes[0] == 127 : remote == parse_address("::1"));
    return firewall::trace(ruleset, {remote, connection.local.address, connection.local.port, Protocol::tcp, loopback, std::nullopt}).passes;
}

std::string to_text(const Connection& connection) { return fmt::format("{} -> {}", promwarden::to_text(connection.remote), promwarden::to_text(connection.local)); }

Result<std::optional<Ruleset>> wanted_ruleset(const Policy& policy, const Facts& facts) {
    if (policy.firewall.services.empty()) return std::optional<Ruleset>{};
    return TRY(desired_ruleset(policy, facts));
}

void plan_filter(const Policy& policy, const Facts& facts, Plan& plan) {
    const auto target = wanted_ruleset(policy, facts);
    if (!facts.firewall || !target) return;
    const auto& live = facts.firewall->live;
    const auto difference = firewall::difference(live ? &*live : nullptr, *target ? &**target : nullptr);
    if (difference.empty()) return;
    std::uint64_t added = 0, removed = 0;
    for (const auto& edit : difference.edits) (edit.kind == firewall::Edit::Kind::add ? added : removed) += edit.count;
    plan.changes.push_back({Change::Kind::firewall, std::string(filter_control), fmt::format("table inet {}", table_name),
                            fmt::format("{} to add, {} to remove", added, removed), firewall::to_text(difference)});
    if (facts.connections && *target)
        for (const auto& connection : *facts.connections)
            if (!survives(**target, connection)) plan.cuts.push_back(to_text(connection));
}

}  // namespace promwarden
