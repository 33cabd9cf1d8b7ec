/// metrics — the agent's metrics for a scraper: `GET /metrics` over TCP, and nothing else.
///
/// Owns nothing but its connections. It has no privilege to lose: it asks the agent's socket for the method Metrics, as any member of the group could, and hands the
/// text on. Limits: 16 connections, 5 s and 8 KiB for a request, 10 s to take the answer, one question a second to the agent. A request whose Host is a name other
/// than localhost is refused (421): a page in somebody's browser must not read this by way of a name that it points here.
#pragma once

#include "promwarden/base.hpp"

namespace promwarden::metrics {

struct Options {
    std::string socket = "/run/promwarden/io.promwarden";
    std::chrono::seconds idle{300};  // without a connection it ends; its socket unit starts it again
};

/// Serves a listening TCP socket until it is idle.
Result<> serve(Fd listening, const Options& options);

/// Whether the value of a Host header is an address or localhost, with or without a port. Pure.
bool is_local_host(std::string_view host);

}  // namespace promwarden::metrics
