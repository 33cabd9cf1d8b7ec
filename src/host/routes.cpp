// What lies behind an interface, by the routes that leave through it.

#include "links.hpp"

#include <algorithm>

#include <sys/socket.h>

namespace promwarden::host {

namespace {

using Beyond = Link::Beyond;

/// The next hops of a route: the interface, and whether a gateway is named.
void for_each_hop(Bytes attributes, const std::function<void(int link, bool gateway)>& visit) {
    const auto has_gateway = [](Bytes hop) { return !find(hop, RTA_GATEWAY).empty() || !find(hop, RTA_VIA).empty(); };
    if (const auto link = number<int>(find(attributes, RTA_OIF))) visit(*link, has_gateway(attributes));
    for (auto rest = find(attributes, RTA_MULTIPATH); rest.size() >= sizeof(rtnexthop);) {
        rtnexthop hop{};
        std::memcpy(&hop, rest.data(), sizeof hop);
        if (hop.rtnh_len < sizeof hop || hop.rtnh_len > rest.size()) return;
        visit(hop.rtnh_ifindex, has_gateway(rest.first(hop.rtnh_len).subspan(sizeof hop)));
        rest = rest.subspan(std::min<std::size_t>(MNL_ALIGN(hop.rtnh_len), rest.size()));
    }
}

}  // namespace

void read_route(const Message& message, const std::function<void(int link, Beyond)>& visit) {
    const auto route = body_of<rtmsg>(message);
    if (!route || route->rtm_type != RTN_UNICAST || (route->rtm_flags & RTM_F_CLONED) != 0) return;
    // Whoever is on a link can announce itself as a router there: no reason to trust that link more, nor to watch it less.
    const bool announced = route->rtm_protocol == RTPROT_RA || route->rtm_protocol == RTPROT_REDIRECT;
    for_each_hop(attributes_of<rtmsg>(message), [&](int link, bool gateway) {
        if (route->rtm_dst_len == 0 && !announced)
            visit(link, Beyond::everything);
        else if (route->rtm_dst_len == 0 || gateway)
            visit(link, Beyond::networks);
    });
}

Result<> read_what_is_beyond(Netlink& netlink, std::vector<Link>& links) {
    if (std::ranges::none_of(links, may_lead_to_container)) return {};
    for (const auto family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
        rtmsg all{};
        all.rtm_family = family;
        using Hop = std::pair<int, Beyond>;
        const auto hops =
            TRY(collect<Hop>(netlink, Request(RTM_GETROUTE, all), "routes", [](const Message& message, std::vector<Hop>& found) {
                if (message.type == RTM_NEWROUTE) read_route(message, [&](int link, Beyond beyond) { found.emplace_back(link, beyond); });
            }));
        for (const auto& [index, beyond] : hops)
            if (const auto link = std::ranges::find(links, index, &Link::index); link != links.end() && may_lead_to_container(*link))
                link->beyond = std::max(link->beyond, beyond);
    }
    return {};
}

}  // namespace promwarden::host
