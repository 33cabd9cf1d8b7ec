// What links.cpp shares with its neighbours.
#pragma once

#include <linux/rtnetlink.h>

#include "netlink.hpp"
#include "promwarden/host.hpp"

namespace promwarden::host {

/// The request for all links, without their statistics.
Request links_request();

/// Whether a container may be behind it: a bridge, a veth that is no bridge's port, a macvlan.
bool may_lead_to_container(const Link& link);

/// The interfaces by which a route leads on, and how far. Nothing for routes that end on the link.
void read_route(const Message& message, const std::function<void(int link, Link::Beyond beyond)>& visit);
/// Fills in `beyond`; asks for no routes where no link may lead to a container.
Result<> read_what_is_beyond(Netlink& netlink, std::vector<Link>& links);

}  // namespace promwarden::host
