/// ruleset — the contents of an nftables table as a plain value. Part of the facts room.
///
/// A Ruleset is complete: two equal values decide every packet alike. What the kernel counts or numbers by itself (handles, counters' values) is not in it.
/// Terms are nftables' own (man nft; linux/netfilter/nf_tables.h). Every expression works on one 128-bit register, NFT_REG_1, which is all our rules need.
#pragma once

#include <variant>

#include "promwarden/address.hpp"

namespace promwarden {

inline constexpr std::string_view table_name = "promwarden";

namespace expr {

/// Loads packet metadata.
struct Meta {
    enum class Key : std::uint8_t { nfproto, l4proto, iif, iifname, oif, oifname, skuid } key;
    bool operator==(const Meta&) const = default;
};
/// Loads bytes of the packet.
struct Payload {
    enum class Base : std::uint8_t { network, transport } base;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    bool operator==(const Payload&) const = default;
};
/// Loads the type of the route to the destination address: an RTN_* number, host byte order.
struct FibDestinationType {
    bool operator==(const FibDestinationType&) const = default;
};
/// Loads conntrack status bits, host byte order.
struct CtStatus {
    bool operator==(const CtStatus&) const = default;
};
/// Loads 1 where the packet's socket is IP_TRANSPARENT; breaks where there is no socket.
struct SocketTransparent {
    bool operator==(const SocketTransparent&) const = default;
};
/// Keeps the bits of `mask`.
struct Mask {
    std::vector<std::uint8_t> mask;
    bool operator==(const Mask&) const = default;
};
struct Compare {
    enum class Op : std::uint8_t { eq, neq, lt, lte, gt, gte } op;
    std::vector<std::uint8_t> value;
    bool operator==(const Compare&) const = default;
};
/// Continues where the register's value is in the set (or, inverted, is not).
struct Lookup {
    std::string set;
    bool inverted = false;
    bool operator==(const Lookup&) const = default;
};
struct Count {
    std::string counter;
    bool operator==(const Count&) const = default;
};
/// Continues at most `rate` times per `unit`.
struct Limit {
    std::uint64_t rate = 0;
    std::chrono::seconds unit{1};
    std::uint32_t burst = 5;
    bool operator==(const Limit&) const = default;
};
/// To the kernel log (group 0) or to an NFLOG group.
struct Log {
    std::string prefix;
    std::uint16_t group = 0;
    bool operator==(const Log&) const = default;
};
struct Reject {
    bool tcp_reset = false;  // else ICMP port unreachable, of the packet's family
    bool operator==(const Reject&) const = default;
};
struct Verdict {
    enum class Kind : std::uint8_t { accept, drop, jump, go_to, return_to } kind;
    std::string chain;  // of jump and goto
    bool operator==(const Verdict&) const = default;
};
/// An expression that we never write: somebody else's, in our table. Only ever equal to itself by name.
struct Foreign {
    std::string name;
    bool operator==(const Foreign&) const = default;
};

}  // namespace expr

using Expression = std::variant<expr::Meta, expr::Payload, expr::FibDestinationType, expr::CtStatus, expr::SocketTransparent, expr::Mask, expr::Compare,
                                expr::Lookup, expr::Count, expr::Limit, expr::Log, expr::Reject, expr::Verdict, expr::Foreign>;

struct Rule {
    std::vector<Expression> expressions;
    std::string comment;  // shown by nft; which line of the policy it comes from
    bool operator==(const Rule&) const = default;
};

struct Hook {
    enum class Point : std::uint8_t { prerouting, input, forward, output, postrouting } point;
    int priority = 0;
    bool accept_by_default = true;
    bool operator==(const Hook&) const = default;
};

struct Chain {
    std::string name;
    std::optional<Hook> hook;  // none: a chain that is only jumped to
    std::vector<Rule> rules;
    bool operator==(const Chain&) const = default;
};

struct Set {
    enum class Type : std::uint8_t { ip4, ip6, interface, user } type = Type::ip4;
    std::string name;
    std::uint32_t size = 0;      // declared: the kernel refuses more elements. At least twice what was there when it was made, so that it can grow
    std::uint32_t flags = 0;     // NFT_SET_*; ours have none
    std::shared_ptr<const PackedKeys> elements;  // addresses in network order; interface names padded to 16; users as the host's uint32. Null: not read
    bool operator==(const Set& other) const;     // `size` aside: a set may keep the size that it was made with. Unread elements equal any
};

/// A named counter. Its value is the kernel's and outlives every change of rules.
struct CounterValue {
    std::string name;
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    bool operator==(const CounterValue&) const = default;
};

struct Ruleset {
    bool dormant = false;
    std::vector<std::string> counters;
    std::vector<Set> sets;
    std::vector<Chain> chains;
    bool operator==(const Ruleset&) const = default;

    [[nodiscard]] const Chain* chain(std::string_view name) const;
    [[nodiscard]] const Set* set(std::string_view name) const;
};

/// As `nft list ruleset` would show it: "meta l4proto tcp th dport 9090 goto guard_service_prometheus".
std::string to_text(const Rule& rule);
std::string to_text(const Hook& hook);
/// One element as the set's type shows it: "10.0.0.0", "docker0", "uid 33".
std::string element_text(Set::Type type, std::span<const std::uint8_t> key);
[[nodiscard]] std::size_t key_width(Set::Type type);

}  // namespace promwarden
