// What the parts of this room share.
#pragma once

#include <array>
#include <csignal>

#include "promwarden/program.hpp"

namespace promwarden::program {

/// How names of hosts are found: a program that has a /run of its own needs these all the same.
inline constexpr std::array resolvers{"/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/nscd"};

/// A program that closes its input early must not end us.
class NoBrokenPipe {
public:
    NoBrokenPipe() {
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignore, &before_);
    }
    ~NoBrokenPipe() { ::sigaction(SIGPIPE, &before_, nullptr); }
    NoBrokenPipe(const NoBrokenPipe&) = delete;
    NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;

private:
    struct sigaction before_ {};
};

}  // namespace promwarden::program
