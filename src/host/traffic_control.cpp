// What moves packets below netfilter: tc filters, addresses received for somebody else, and the routing of loopback addresses.

#include <algorithm>

#include <dirent.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <sys/socket.h>

#include "links.hpp"

namespace promwarden::host {

namespace {

/// Where a classifier keeps its actions, among its options (linux/pkt_cls.h; every kind has its own number).
std::optional<std::uint16_t> actions_attribute(std::string_view kind) {
    constexpr std::array<std::pair<std::string_view, std::uint16_t>, 10> places{{{"u32", TCA_U32_ACT},
                                                                               {"flower", TCA_FLOWER_ACT},
                                                                               {"matchall", TCA_MATCHALL_ACT},
                                                                               {"bpf", TCA_BPF_ACT},
                                                                               {"basic", TCA_BASIC_ACT},
                                                                               {"fw", TCA_FW_ACT},
                                                                               {"route", TCA_ROUTE4_ACT},
                                                                               {"flow", TCA_FLOW_ACT},
                                                                               {"cgroup", TCA_CGROUP_ACT},
                                                                               {"tcindex", TCA_TCINDEX_ACT}}};
    const auto found = std::ranges::find(places, kind, &std::pair<std::string_view, std::uint16_t>::first);
    return found == places.end() ? std::nullopt : std::optional(found->second);
}

std::string action_text(Bytes action) {
    const auto kind = text(find(action, TCA_ACT_KIND));
    if (kind != "mirred") return kind;
    const auto parameters = number<tc_mirred>(find(find(action, TCA_ACT_OPTIONS), TCA_MIRRED_PARMS));
    if (!parameters) return kind;
    switch (parameters->eaction) {
        case TCA_EGRESS_REDIR: return "mirred egress redirect";
        case TCA_EGRESS_MIRROR: return "mirred egress mirror";
        case TCA_INGRESS_REDIR: return "mirred ingress redirect";
        case TCA_INGRESS_MIRROR: return "mirred ingress mirror";
        default: return kind;
    }
}

void read_filter(const Message& message, const std::string& link, bool ingress, std::vector<TrafficFilter>& filters) {
    const auto head = body_of<tcmsg>(message);
    if (message.type != RTM_NEWTFILTER || !head) return;
    const auto attributes = attributes_of<tcmsg>(message);
    const auto options = find(attributes, TCA_OPTIONS);
    if (options.empty()) return;  // announces the priority only; the filter itself follows
    TrafficFilter filter{link, ingress, text(find(attributes, TCA_KIND)), {}};
    if (filter.kind == "u32" && !find(options, TCA_U32_DIVISOR).empty()) return;  // a hash table of u32, not a filter
    if (const auto place = actions_attribute(filter.kind))
        for_each_attribute(find(options, *place), [&](std::uint16_t, Bytes action) { filter.actions.push_back(action_text(action)); });
    else
        filter.actions.emplace_back("unknown action");
    filters.push_back(std::move(filter));
}

struct Hook {
    int link;
    bool egress;  // clsact has both sides, ingress one
};

/// Where filters can hang in the path of packets: ingress and clsact queueing disciplines.
Result<std::vector<Hook>> read_hooks(Netlink& netlink) {
    tcmsg all{};
    all.tcm_family = AF_UNSPEC;
    return collect<Hook>(netlink, Request(RTM_GETQDISC, all), "queueing disciplines", [](const Message& message, std::vector<Hook>& items) {
        const auto head = body_of<tcmsg>(message);
        if (message.type != RTM_NEWQDISC || !head) return;
        const auto kind = text(find(attributes_of<tcmsg>(message), TCA_KIND));
        if (kind == "clsact" || kind == "ingress") items.push_back({head->tcm_ifindex, kind == "clsact"});
    });
}

Result<std::vector<TrafficFilter>> read_filters_at(Netlink& netlink, const Link& link, bool ingress) {
    tcmsg query{};
    query.tcm_family = AF_UNSPEC;
    query.tcm_ifindex = link.index;
    query.tcm_parent = TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
    auto found = collect<TrafficFilter>(netlink, Request(RTM_GETTFILTER, query), "tc filters of " + link.name,
                                        [&](const Message& message, std::vector<TrafficFilter>& items) { read_filter(message, link.name, ingress, items); });
    const bool gone = !found && (found.error().number == EINVAL || found.error().number == ENODEV);  // the interface or its discipline, since it was listed
    return gone ? std::vector<TrafficFilter>{} : std::move(found);
}

Result<std::vector<TrafficFilter>> read_filters(Netlink& netlink, std::span<const Link> links) {
    std::vector<TrafficFilter> filters;
    for (const auto& hook : TRY(read_hooks(netlink))) {
        const auto link = std::ranges::find(links, hook.link, &Link::index);
        if (link == links.end()) continue;
        std::ranges::move(TRY(read_filters_at(netlink, *link, true)), std::back_inserter(filters));
        if (hook.egress) std::ranges::move(TRY(read_filters_at(netlink, *link, false)), std::back_inserter(filters));
    }
    return filters;
}

using HardwareAddress = std::array<std::uint8_t, ETH_ALEN>;

Result<std::set<HardwareAddress>> own_addresses(Netlink& netlink) {
    const auto all = TRY(collect<HardwareAddress>(netlink, links_request(), "network interfaces", [](const Message& message, std::vector<HardwareAddress>& items) {
        if (message.type != RTM_NEWLINK) return;
        if (const auto address = number<HardwareAddress>(find(attributes_of<ifinfomsg>(message), IFLA_ADDRESS))) items.push_back(*address);
        if (const auto address = number<HardwareAddress>(find(attributes_of<ifinfomsg>(message), IFLA_PERM_ADDRESS))) items.push_back(*address);
    }));
    return std::set<HardwareAddress>(all.begin(), all.end());
}

struct Received {
    int link;
    HardwareAddress address;
};

/// Unicast addresses that interfaces accept besides their own (dev->uc, as `bridge fdb show` lists them: "self permanent").
Result<std::vector<Received>> received_addresses(Netlink& netlink) {
    ifinfomsg any{};
    any.ifi_family = PF_BRIDGE;
    auto received = collect<Received>(netlink, Request(RTM_GETNEIGH, any), "forwarding tables", [](const Message& message, std::vector<Received>& items) {
        const auto entry = body_of<ndmsg>(message);
        if (message.type != RTM_NEWNEIGH || !entry || entry->ndm_flags != NTF_SELF || (entry->ndm_state & NUD_PERMANENT) == 0) return;
        const auto address = number<HardwareAddress>(find(attributes_of<ndmsg>(message), NDA_LLADDR));
        constexpr std::uint8_t group_bit = 1;
        if (address && ((*address)[0] & group_bit) == 0) items.push_back({entry->ndm_ifindex, *address});
    });
    return received;
}

/// Kinds whose forwarding table holds addresses of other machines.
bool forwards(const Link& link) { return link.kind == "bridge" || link.kind == "vxlan" || link.kind == "openvswitch"; }

Result<std::vector<ForeignAddress>> read_foreign_addresses(Netlink& netlink, std::span<const Link> links) {
    const auto own = TRY(own_addresses(netlink));
    std::map<HardwareAddress, std::vector<std::string>> by_address;
    for (const auto& [index, address] : TRY(received_addresses(netlink))) {
        const auto link = std::ranges::find(links, index, &Link::index);
        if (own.contains(address) || link == links.end() || forwards(*link)) continue;
        by_address[address].push_back(link->name);
    }
    std::vector<ForeignAddress> result;
    for (auto& [address, names] : by_address) result.push_back({fmt::format("{:02x}", fmt::join(address, ":")), std::move(names)});
    return result;
}

Result<std::vector<std::string>> read_route_localnet(const std::string& proc) {
    const auto path = proc + "/sys/net/ipv4/conf";
    const Handle<DIR, closedir> directory{::opendir(path.c_str())};
    if (!directory) return fail_errno("open", path);
    std::vector<std::string> names;
    while (const auto* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        if (name.starts_with('.') || name == "default" || name == "lo") continue;  // "default" is for interfaces to come
        const auto file = promwarden::read_file(path + "/" + name + "/route_localnet", 64);
        if (!file && file.error().code != Code::missing) return std::unexpected(file.error());
        if (file && file->text.starts_with('1')) names.push_back(name);
    }
    std::ranges::sort(names);
    return names;
}

}  // namespace

Result<PacketPaths> read_packet_paths(std::span<const Link> links, const std::string& proc) {
    auto netlink = TRY(Netlink::open(NETLINK_ROUTE));
    PacketPaths paths;
    paths.links.assign(links.begin(), links.end());
    paths.filters = TRY(read_filters(netlink, links));
    paths.addresses = TRY(read_foreign_addresses(netlink, links));
    paths.route_localnet = TRY(read_route_localnet(proc));
    return paths;
}

}  // namespace promwarden::host
