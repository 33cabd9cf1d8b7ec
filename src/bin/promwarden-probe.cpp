// The probe's worker.

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include "promwarden/probe.hpp"

namespace {

constexpr std::string_view usage =
    "Usage: promwarden-probe [--policy FILE] [--identity FILE] [--inherited]\n"
    "Asks live endpoints of this host for promwardend(8). It is started by its socket unit, or, with --inherited, by who needs it.\n";

constexpr int inherited = 3;

int usage_error(std::string_view what) {
    fmt::print(stderr, "promwarden-probe: {}\n{}", what, usage);
    return 2;
}

promwarden::Result<> run(bool listening, const promwarden::probe::WorkerOptions& options) {
    TRY(promwarden::probe::confine());
    return promwarden::probe::serve(promwarden::Fd(inherited), listening, options);
}

}  // namespace

int main(int argc, char** argv) {
    promwarden::probe::WorkerOptions options;
    bool listening = true;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--help" || word == "--version") {
            fmt::print("{}", word == "--help" ? usage : "promwarden-probe " PROMWARDEN_VERSION "\n");
            return 0;
        }
        if (word == "--inherited") {
            listening = false;
            continue;
        }
        std::string* option = word == "--policy" ? &options.policy : word == "--identity" ? &options.identity : nullptr;
        if (option == nullptr) return usage_error(fmt::format("unknown option {}", word));
        if (++i == argc) return usage_error(fmt::format("{} needs a value", word));
        *option = argv[i];
        if (!option->starts_with('/')) return usage_error(fmt::format("{} needs an absolute path", word));
    }
    if (listening && sd_listen_fds(1) != 1) return usage_error("no socket was handed over: promwarden-probe.socket starts this program");
    if (const auto done = run(listening, options); !done) {
        fmt::print(stderr, "promwarden-probe: {}\n", done.error().text());
        return done.error().code == promwarden::Code::denied ? 6 : 1;
    }
    return 0;
}
