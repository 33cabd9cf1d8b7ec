// The address of a Unix socket with a path.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include "promwarden/base.hpp"

namespace promwarden::varlink {

struct UnixAddress {
    sockaddr_un value{};
    socklen_t size = 0;
    [[nodiscard]] const sockaddr* generic() const { return reinterpret_cast<const sockaddr*>(&value); }
};
Result<UnixAddress> unix_address(const std::string& path);

}  // namespace promwarden::varlink
