// What sockets.cpp shares with its neighbours.
#pragma once

#include "promwarden/host.hpp"

namespace promwarden::host {

[[nodiscard]] bool in_ranges(std::uint16_t port, std::span<const PortRange> ports);

/// Established TCP connections that the kernel's `filter` (inet_diag byte code, empty: all) and then `wanted` let through.
Result<std::vector<Connection>> established(std::span<const std::uint8_t> filter, const std::function<bool(const Connection&)>& wanted);

}  // namespace promwarden::host
