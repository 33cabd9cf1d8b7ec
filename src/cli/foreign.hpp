// What other tables would do to a packet, as far as their rules are understood. Pure.
#pragma once

#include "promwarden/firewall.hpp"

namespace promwarden::cli {

/// One base chain of another table that could end the packet.
struct ForeignDrop {
    std::string chain;      // "table ip filter chain INPUT (input, priority 0)"
    bool certain = false;   // false: it depends on a rule that is not understood
    bool before = false;    // the packet meets it before the chain of ours that decides
    bool operator==(const ForeignDrop&) const = default;
};

/// The base chains that drop, or may drop, a new packet to this host, in the order in which the packet meets them. What comes after a certain drop is left out.
/// Understood are interfaces (loopback or not), families, protocols, ports, and the source address; all else makes a rule one that may match.
std::vector<ForeignDrop> foreign_drops(const firewall::ForeignRules& rules, const firewall::Packet& packet);

}  // namespace promwarden::cli
