/// facts — the value types that describe a host. No I/O, no clock, no errno: `host` and `firewall` fill them, `controls` and `plan` read them.
///
/// A part that could not be observed is an Error in its place, never an empty value: "nothing there" and "could not look" are different answers.
#pragma once

#include <map>
#include <set>

#include "promwarden/certificate.hpp"
#include "promwarden/files.hpp"
#include "promwarden/live.hpp"
#include "promwarden/proxy.hpp"
#include "promwarden/ruleset.hpp"
#include "promwarden/server.hpp"

namespace promwarden {

/// A network interface, from RTM_GETLINK.
struct Link {
    int index = 0;
    std::string name;
    std::string kind;     // IFLA_INFO_KIND: "bridge", "veth", "macvlan" …; "" for hardware
    int master = 0;       // index of the bridge or bond it belongs to
    int parent = 0;       // IFLA_LINK in our own namespace: the NIC below a macvlan
    std::uint32_t xdp_program = 0;  // id of an attached XDP program
    /// What routes reach by it: other networks by a gateway, or all that no other route names (a default route). A router that only announced itself counts as
    /// the former. Told only of links that may lead to a container.
    enum class Beyond : std::uint8_t { nothing, networks, everything } beyond = Beyond::nothing;
    bool operator==(const Link&) const = default;
};

/// Something that can move a packet around the filter (facts of control network.bypass).
struct Bypass {
    enum class Kind { xdp, tc, netdev_chain, flowtable, macvlan, route_localnet, redirect, transparent_proxy, rewrite } kind = Kind::xdp;
    std::string subject;   // "eth0", "table ip nat chain PREROUTING"
    std::string observed;  // what was seen, in the words of its own tool
    bool covered = false;  // the guard still judges those packets when it is in force; `observed` says where. Worth a mention, not a failure
};

/// What the packet filter is right now, in our own network namespace.
struct FirewallFacts {
    std::optional<Ruleset> live;      // our table as the kernel has it; nullopt: there is none
    std::uint32_t generation = 0;     // of nf_tables in this namespace
    bool owned = false;               // by a live socket of this process
    std::vector<CounterValue> counters;
};

/// Our drop-ins that let a server start only behind the guard.
struct StartGuards {
    std::string directory;                       // where the service manager would read a new one
    std::map<std::string, std::string> present;  // path → text, of every unit and in every directory
    bool operator==(const StartGuards&) const = default;
};

struct Facts {
    std::chrono::system_clock::time_point now;
    std::string host;
    std::string root;  // of a mounted image or chroot that was looked at instead of this host; "" for this host
    std::optional<uid_t> probe_user;  // of promwarden-probe's account, where it exists
    Result<FirewallFacts> firewall = FirewallFacts{};
    Result<std::vector<Bypass>> bypasses = std::vector<Bypass>{};
    Result<std::vector<Listener>> listeners = std::vector<Listener>{};
    Result<std::vector<Connection>> connections = std::vector<Connection>{};
    Result<std::vector<Link>> links = std::vector<Link>{};
    Result<std::vector<Server>> servers = std::vector<Server>{};  // that of the policy's unit first, whether it runs or not
    Result<ContainerFacts> containers = ContainerFacts{};
    Result<std::optional<StartGuards>> start_guards = std::nullopt;  // nullopt: not looked for, or no service manager here to read them
    Result<FileFacts> files = FileFacts{};
    Result<StorageFacts> storage = StorageFacts{};
    std::optional<Result<live::Facts>> live;  // nullopt: nobody was asked
    Result<CertificateFacts> certificates = CertificateFacts{};
    Result<ProxyFacts> proxy = ProxyFacts{};
    bool links_watched = false;  // somebody follows them as they come and go, so that the ruleset need not guess by name
};

}  // namespace promwarden
