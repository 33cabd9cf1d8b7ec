// The agent's metrics on a loopback port.

#include <cstdio>
#include <string_view>

#include <fmt/format.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "promwarden/metrics.hpp"

namespace {

constexpr std::string_view usage =
    "Usage: promwarden-metrics [--socket PATH]\n"
    "Answers GET /metrics with what promwardend(8) counts. Its socket unit starts it.\n";

int usage_error(std::string_view what) {
    fmt::print(stderr, "promwarden-metrics: {}\n{}", what, usage);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    promwarden::metrics::Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--help" || word == "--version") {
            fmt::print("{}", word == "--help" ? usage : "promwarden-metrics " PROMWARDEN_VERSION "\n");
            return 0;
        }
        if (word != "--socket") return usage_error(fmt::format("unknown option {}", word));
        if (++i == argc) return usage_error(fmt::format("{} needs a value", word));
        options.socket = argv[i];
        if (!options.socket.starts_with('/')) return usage_error(fmt::format("{} needs an absolute path", word));
    }
    if (::geteuid() == 0) {
        fmt::print(stderr, "promwarden-metrics: it answers strangers and never runs as root\n");
        return 6;
    }
    if (sd_listen_fds(1) != 1) return usage_error("no socket was handed over: promwarden-metrics.socket starts this program");
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (const auto done = promwarden::metrics::serve(promwarden::Fd(SD_LISTEN_FDS_START), options); !done) {
        fmt::print(stderr, "promwarden-metrics: {}\n", done.error().text());
        return 1;
    }
    return 0;
}
