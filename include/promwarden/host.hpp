/// host — observe: what the kernel says about interfaces, sockets, processes, and the ways around the packet filter.
///
/// Owns no state but LinkMonitor's. Reads netlink (rtnetlink, sock_diag), /proc and systemd's bus; the text files of /proc/net only for the namespaces of others. Promises: a part that could not be observed
/// is an Error, never an empty list; a dump that the kernel marks as interrupted is read again, up to 10 times, then Code::stale. Everything is about the network
/// namespace of the calling thread. Nothing here changes the host. Never decides a control: it says what is there and what the guard does about it.
///
/// `proc` and `root` are for tests and mounted images.
#pragma once

#include "promwarden/firewall.hpp"
#include "promwarden/policy.hpp"
#include "promwarden/unit.hpp"

namespace promwarden::host {

// ---- interfaces -----------------------------------------------------------------------------------------------------

/// All interfaces of this namespace, ordered by index.
Result<std::vector<Link>> read_links();

/// Notices changes of interfaces, of routes that tell what lies behind them, and of tc filters. An XDP program attached as a bpf_link is not announced by the
/// kernel: only the next read_links shows it.
class LinkMonitor {
public:
    static Result<LinkMonitor> open();
    [[nodiscard]] int fd() const { return *fd_; }
    /// Drains the socket. True where an interface came or went or changed its name, kind, master, parent, XDP program or what lies beyond, or a tc filter did, or
    /// where the kernel had to drop notifications (ENOBUFS): look again.
    Result<bool> changed();

private:
    Fd fd_;
    std::map<int, Link> known_;
};

// ---- sockets --------------------------------------------------------------------------------------------------------

/// TCP sockets in LISTEN and bound, unconnected UDP sockets, IPv4 and IPv6. `holders` is empty: see find_holders. An IPv6 socket that is bound to an IPv4-mapped
/// address is shown with that IPv4 address.
Result<std::vector<Listener>> read_listeners();

/// Established TCP connections with a local port in `ports` (empty: none), filtered in the kernel. IPv4-mapped addresses are shown as IPv4. More than 100,000: Code::limit.
Result<std::vector<Connection>> read_connections(std::span<const PortRange> ports);

// ---- processes ------------------------------------------------------------------------------------------------------

/// Code::missing where there is none. Control characters in names that the process chose are replaced by '?'.
///
/// `unit` follows systemd's own rule: the first component of the cgroup below the slices (cgroup v2, or v1's name=systemd). What is nested deeper was named by
/// whoever manages that subtree: a user's own "prometheus.service" is in "user@1000.service", a container's is in its scope.
Result<Process> read_process(pid_t pid, const std::string& proc = "/proc");

/// The process itself, its parent, and so on up to the first process; bounded at 128. Empty where there is no such process.
std::vector<pid_t> ancestors(pid_t pid, const std::string& proc = "/proc");

/// Who has a descriptor of these sockets, by inode. One walk over /proc; processes that vanish or that we may not read are skipped.
std::map<std::uint32_t, std::vector<Process>> holders_of(const std::set<std::uint32_t>& inodes, const std::string& proc = "/proc");
/// Fills `holders` of those listeners whose port is in `ports`.
void find_holders(std::span<Listener> listeners, std::span<const PortRange> ports, const std::string& proc = "/proc");

/// Established TCP connections of which one of these processes holds a descriptor: what an apply must not cut under its caller. A process that is gone has
/// none; one whose descriptors we may not see is Code::denied.
Result<std::vector<Connection>> connections_of(std::span<const pid_t> pids, const std::string& proc = "/proc");

/// Who listens on a guarded port, as far as a first apply has to ask.
struct PortHolder {
    enum class Kind : std::uint8_t {
        prometheus,  // named so by comm and executable, and in the policy's unit where a unit is known
        container,   // a container's, or the proxy that publishes one: not a stranger
        stranger,    // any other process; systemd itself where a socket unit holds the port
        unseen,      // nobody whose descriptors we may look at
    } kind = Kind::unseen;
    Listener listener;
    std::string text;  // "[::]:9090: systemd (pid 1), the port of cockpit.socket"

    /// Whether a first apply refuses without --force.
    [[nodiscard]] bool stranger() const { return kind == Kind::stranger || kind == Kind::unseen; }
};
/// `listeners` with their holders found; those on other ports, and UDP, are left out. `unit` is the policy's ("prometheus.service"). For systemd's own sockets
/// the unit files below `root` are asked which of them names the port; `proc` tells which processes are in another pid namespace.
std::vector<PortHolder> port_holders(std::span<const Listener> listeners, std::span<const PortRange> ports, std::string_view unit, const std::string& root = "",
                                     const std::string& proc = "/proc");

// ---- files and storage ----------------------------------------------------------------------------------------------

/// Where to look: `root` is "" for this host, else a mounted image or chroot that nothing leads out of.
struct Places {
    std::string root, proc = "/proc", sys = "/sys";
    pid_t seen_from = 0;  // the process that sees the host's mounts, where ours may hide some; 0: we do
};

/// The host's root as that process sees it; "": as we do, because our mounts are the same. A sandbox (ProtectHome, PrivateTmp) hides what the server sees.
std::string host_root(const Places& places);

/// Every file that the unit and configuration of the servers of kind `unit` name, the [[file]] rules of the policy, and how logs are rotated. Where there is no
/// such server: what the policy names, or /etc/prometheus/prometheus.yml. Relative names resolve as Prometheus resolves them.
/// Opens nothing but regular files, none on a file system that may hang, and the text only of configuration. A name that somebody but root could have written is
/// followed no further than the service's own user could go. At most 2,000 files and 64 MiB a server.
Result<FileFacts> read_files(const Policy& policy, std::span<const Server> servers, const Places& places = {});

/// What holds the bytes of the databases and logs in `files`, and of swap.
StorageFacts read_storage(const FileFacts& files, const Places& places = {});
// ---- servers --------------------------------------------------------------------------------------------------------
/// Every Prometheus on this host: that of `unit` first, whether it runs or not, then those in containers, then what only looks like one. `listeners` are those of our
/// network namespace. Whom it believes is in server.hpp; a stranger's or a container's paths are never opened. systemd is asked over its bus; where it does not
/// run, the unit's files are read, and a Prometheus that root or the unit's user started outside of any unit takes the unit's place. `live_flags` are not filled.
Result<std::vector<Server>> read_servers(const std::string& unit, std::span<const Listener> listeners, const std::string& proc = "/proc");
/// The server that a mounted image would start, from its files. No link leads out of `root`.
Server read_server_below(const std::string& unit, const std::string& root);
/// The unit as its files make it on disk, without the drop-ins of these names in /etc/systemd/system, whose texts are told beside it. Code::missing where there is no
/// such unit.
Result<unit::Bare> read_bare_unit(const PrometheusPolicy& policy, std::span<const std::string_view> without, const prometheus::Build& build);
/// Containers as their engines keep them below `root`, and every way that publishes one of their ports: configuration, proxy processes, translating rules.
ContainerFacts read_containers(const firewall::ForeignRules& foreign, const std::string& root = "", const std::string& proc = "/proc");

// ---- the reverse proxy ----------------------------------------------------------------------------------------------

/// The configuration of every nginx of this host that root started: its files are found from its command line and read by our own reader (nginx -T would write files).
/// Of the files that it names, password files are read for how their hashes were made. A master in a container, a chroot or another network namespace is left out. At most 16.
Result<ProxyFacts> read_proxy(const Policy& policy, const std::string& proc = "/proc");
/// The same files for that configuration, whether an nginx runs with it or not; `master` is 0.
ProxyServer read_proxy_files(const std::string& configuration);

// ---- ways around the filter -----------------------------------------------------------------------------------------

/// A filter on the ingress or egress hook of an interface (clsact, ingress), from RTM_GETTFILTER. Where both sides of a clsact have u32 filters, the kernel
/// lists each of them on both.
struct TrafficFilter {
    std::string link;
    bool ingress = true;
    std::string kind;                  // "u32", "bpf", "flower"
    std::vector<std::string> actions;  // "mirred egress redirect", "pedit", "gact"; empty: it only classifies
    bool operator==(const TrafficFilter&) const = default;
};

/// A unicast address that an interface receives for somebody who is not in this namespace: what can be seen of a macvlan (or ipvlan) child that lives in
/// another one. Not visible at all: a child that is down, one in passthru mode, an ipvlan child (it shares its parent's address), and what it does with packets.
struct ForeignAddress {
    std::string address;             // "02:42:ac:11:00:02"
    std::vector<std::string> links;  // which receive it, a NIC and what is stacked on it
    bool operator==(const ForeignAddress&) const = default;
};

/// What moves packets, as read from the kernel. BPF programs attached through tcx, sk_lookup or a netfilter link are not in it: netlink does not show them.
struct PacketPaths {
    std::vector<Link> links;
    std::vector<TrafficFilter> filters;
    std::vector<ForeignAddress> addresses;
    std::vector<std::string> route_localnet;  // interfaces ("all" included) that route 127.0.0.0/8
};
Result<PacketPaths> read_packet_paths(std::span<const Link> links, const std::string& proc = "/proc");

/// Pure: everything that can lead a packet past the guard of `policy`'s services. What the guard judges nevertheless is marked `covered`:
/// - not covered: XDP programs; tc filters that redirect, mirror, rewrite or run BPF; netdev chains that forward, duplicate or rewrite; flowtables in use (a source
///   that loses its trust keeps its flows); children in other namespaces, macvtap and ipvtap; rules that rewrite a source address, or a port behind our chains;
/// - covered: tc filters and netdev chains that only count, police or drop; flowtables that no rule uses; macvlan and ipvlan interfaces of this namespace (their
///   packets pass our hooks); route_localnet; redirect, dnat and tproxy rules, and ports rewritten in prerouting (the input and forward chains judge after them).
/// Foreign rules are reported where a guarded port is in their match or target, or where the target is not known; a dnat to a place that is not known is not,
/// being how every container is published. A rule in a chain without a hook counts at every hook of its table. Understood names of expr::Foreign: "redir[ to
/// :PORT]", "nat dnat[ to ADDRESS:PORT]", "tproxy[ to …:PORT]", "payload write[ FIELD]" with FIELD as nft writes it ("th dport", "ip saddr"), "xt NAME", "fwd…",
/// "dup…", "flow…". A write whose field is not told counts as one of the source address.
std::vector<Bypass> judge_paths(const FirewallPolicy& policy, const PacketPaths& paths, const firewall::ForeignRules& foreign);

/// read_packet_paths, then judge_paths.
Result<std::vector<Bypass>> find_bypasses(const FirewallPolicy& policy, std::span<const Link> links, const firewall::ForeignRules& foreign,
                                          const std::string& proc = "/proc");

}  // namespace promwarden::host
