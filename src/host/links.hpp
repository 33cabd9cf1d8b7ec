// What links.cpp shares with its neighbours.
#pragma once

#include <linux/rtnetlink.h>

#include "netlink.hpp"
#include "promwarden/host.hpp"

namespace promwarden::host {

/// The request for all links, without their statistics.
Request links_request();

}  // namespace promwarden::host
