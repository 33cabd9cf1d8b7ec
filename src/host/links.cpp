// Interfaces by rtnetlink, and what the kernel announces about them.

#include "links.hpp"

#include <algorithm>

#include <linux/if_link.h>
#include <sys/socket.h>

namespace promwarden::host {

namespace {

/// The program that runs, whether in the driver, in the generic path or on the card.
std::uint32_t xdp_program(Bytes xdp) {
    for (const auto type : {IFLA_XDP_PROG_ID, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID})
        if (const auto id = number<std::uint32_t>(find(xdp, type)).value_or(0); id != 0) return id;
    return 0;
}

std::optional<Link> read_link(const Message& message) {
    const auto info = body_of<ifinfomsg>(message);
    if (!info || info->ifi_family != AF_UNSPEC) return std::nullopt;  // a bridge's announcements about its ports carry half of the attributes
    const auto attributes = attributes_of<ifinfomsg>(message);
    Link link;
    link.index = info->ifi_index;
    link.name = text(find(attributes, IFLA_IFNAME));
    link.kind = text(find(find(attributes, IFLA_LINKINFO), IFLA_INFO_KIND));
    link.master = number<int>(find(attributes, IFLA_MASTER)).value_or(0);
    // With a namespace id the number below counts in that namespace, where it names something else.
    if (find(attributes, IFLA_LINK_NETNSID).empty()) link.parent = number<int>(find(attributes, IFLA_LINK)).value_or(0);
    link.xdp_program = xdp_program(find(attributes, IFLA_XDP));
    return link;
}

bool same(const Link& a, const Link& b) {
    return a.index == b.index && a.name == b.name && a.kind == b.kind && a.master == b.master && a.parent == b.parent && a.xdp_program == b.xdp_program;
}

std::map<int, Link> by_index(std::vector<Link> links) {
    std::map<int, Link> result;
    for (auto& link : links) result.emplace(link.index, std::move(link));
    return result;
}

/// Brings `known` up to date with one announcement; whether that made a difference.
bool note(std::map<int, Link>& known, const Message& message) {
    if (message.type == RTM_NEWTFILTER || message.type == RTM_DELTFILTER) return true;
    if (message.type != RTM_NEWLINK && message.type != RTM_DELLINK) return false;
    auto link = read_link(message);
    if (!link) return false;
    if (message.type == RTM_DELLINK) return known.erase(link->index) != 0;
    const auto old = known.find(link->index);
    if (old != known.end() && same(old->second, *link)) return false;
    known.insert_or_assign(link->index, std::move(*link));
    return true;
}

}  // namespace

Request links_request() {
    ifinfomsg all{};
    all.ifi_family = AF_UNSPEC;
    constexpr std::uint32_t mask = RTEXT_FILTER_SKIP_STATS;
    Request request(RTM_GETLINK, all);
    request.attribute(IFLA_EXT_MASK, Bytes(reinterpret_cast<const std::uint8_t*>(&mask), sizeof mask));
    return request;
}

Result<std::vector<Link>> read_links() {
    auto netlink = TRY(Netlink::open(NETLINK_ROUTE));
    auto links = TRY(collect<Link>(netlink, links_request(), "network interfaces", [](const Message& message, std::vector<Link>& items) {
        if (message.type != RTM_NEWLINK) return;
        if (auto link = read_link(message)) items.push_back(std::move(*link));
    }));
    std::ranges::sort(links, {}, &Link::index);
    return links;
}

Result<LinkMonitor> LinkMonitor::open() {
    LinkMonitor monitor;
    monitor.fd_ = TRY(open_netlink(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_TC, SOCK_NONBLOCK));
    monitor.known_ = by_index(TRY(read_links()));  // after subscribing: what changes in between is announced
    return monitor;
}

Result<bool> LinkMonitor::changed() {
    bool changed = false;
    std::vector<std::uint8_t> buffer;
    while (true) {
        const auto datagram = receive(fd_, buffer);
        if (!datagram && datagram.error().code == Code::limit) {  // overflow, or more than fits: something was missed
            known_ = by_index(TRY(read_links()));
            changed = true;
            continue;
        }
        if (!datagram) return std::unexpected(datagram.error());
        if (!*datagram) return changed;
        for_each_message(**datagram, [&](const nlmsghdr&, const Message& message) {
            changed = note(known_, message) || changed;
            return true;
        });
    }
}

}  // namespace promwarden::host
