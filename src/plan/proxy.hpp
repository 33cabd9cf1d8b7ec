// nginx as a service that takes changes up: its configuration tried where that leaves nothing behind, read again, and seen to be in use.
#pragma once

#include "promwarden/make.hpp"
#include "promwarden/proxy.hpp"

namespace promwarden {

inline constexpr const char* nginx_program = "/usr/sbin/nginx";
inline constexpr const char* nginx_configuration = "/etc/nginx/nginx.conf";

/// The directories into which an nginx writes when it starts or tests its configuration. `empty`: nothing that it reads is in them, so that they can be hidden from a
/// test. `needed`: the others. Pure.
struct Written {
    std::vector<std::string> empty, needed;
};
Written written_directories(const ProxyServer& server);

/// Tries a file before it has its name: nginx tests its whole configuration with it in the place where that name would be read.
Result<> try_in_proxy(const Ground& ground, const std::string& temporary, const std::string& name);

/// Tests the configuration as it is on disk, has the nginx that runs with it read it again, and waits until only workers serve that were started since. One that does
/// not run reads everything when it starts. Code::invalid: the test fails, and nothing was reloaded. Any other error: it still runs with what it had.
Result<> reload_proxy();

}  // namespace promwarden
