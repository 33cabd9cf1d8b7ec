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

std::map<int, Link> by_index(std::vector<Link> links) {
    std::map<int, Link> result;
    for (auto& link : links) result.emplace(link.index, std::move(link));
    return result;
}

/// Whether what is announced is a reason to look at the links again.
bool concerns_links(const std::map<int, Link>& known, const Message& message) {
    if (message.type == RTM_NEWLINK || message.type == RTM_DELLINK) return body_of<ifinfomsg>(message).value_or(ifinfomsg{}).ifi_family == AF_UNSPEC;
    if (message.type != RTM_NEWROUTE && message.type != RTM_DELROUTE) return false;
    bool found = false;  // a router's many routes are none of ours
    read_route(message, [&](int index, Link::Beyond) {
        const auto link = known.find(index);
        found = found || (link != known.end() && may_lead_to_container(link->second));
    });
    return found;
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
    TRY(read_what_is_beyond(netlink, links));
    return links;
}

bool may_lead_to_container(const Link& link) {
    return link.kind == "bridge" || (link.kind == "veth" && link.master == 0) || link.kind == "macvlan" || link.kind == "macvtap";
}

Result<LinkMonitor> LinkMonitor::open() {
    LinkMonitor monitor;
    // The routes of an interface that goes down vanish without a word of their own.
    monitor.fd_ = TRY(open_netlink(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_TC | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE, SOCK_NONBLOCK));
    monitor.known_ = by_index(TRY(read_links()));  // after subscribing: what changes in between is announced
    return monitor;
}

Result<bool> LinkMonitor::changed() {
    bool look = false, changed = false;
    std::vector<std::uint8_t> buffer;
    while (true) {
        const auto datagram = receive(fd_, buffer);
        if (!datagram && datagram.error().code == Code::limit) {  // overflow, or more than fits: something was missed
            look = changed = true;
            continue;
        }
        if (!datagram) return std::unexpected(datagram.error());
        if (!*datagram) break;
        for_each_message(**datagram, [&](const nlmsghdr&, const Message& message) {
            changed = changed || message.type == RTM_NEWTFILTER || message.type == RTM_DELTFILTER;
            look = look || concerns_links(known_, message);
            return true;
        });
    }
    if (!look) return changed;
    auto now = by_index(TRY(read_links()));
    changed = changed || now != known_;
    known_ = std::move(now);
    return changed;
}

}  // namespace promwarden::host
