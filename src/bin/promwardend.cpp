// The agent.

#include <cstdio>
#include <string_view>

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include "promwarden/agent.hpp"

namespace {

constexpr std::string_view usage =
    "Usage: promwardend [--policy FILE] [--state DIR] [--socket PATH]\n"
    "Keeps the host of a Prometheus server as its policy says. See promwardend(8).\n";

int usage_error(std::string_view what) {
    fmt::print(stderr, "promwardend: {}\n{}", what, usage);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    promwarden::AgentOptions options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--help" || word == "--version") {
            fmt::print("{}", word == "--help" ? usage : "promwardend " PROMWARDEN_VERSION "\n");
            return 0;
        }
        std::string* option = word == "--policy" ? &options.policy : word == "--state" ? &options.state : word == "--socket" ? &options.socket : nullptr;
        if (option == nullptr) return usage_error(fmt::format("unknown option {}", word));
        if (++i == argc) return usage_error(fmt::format("{} needs a value", word));
        *option = argv[i];
        if (!option->starts_with('/')) return usage_error(fmt::format("{} needs an absolute path", word));
    }
    if (::geteuid() != 0) {
        fmt::print(stderr, "promwardend: must run as root\n");
        return 6;
    }
    ::mallopt(M_ARENA_MAX, 1);  // one thread
    // A list of a hundred thousand networks is read into memory that was used before: fresh pages would cost more than the reading.
    ::mallopt(M_MMAP_THRESHOLD, 4 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 8 << 20);
    if (const auto done = promwarden::run_agent(options); !done) {
        fmt::print(stderr, "promwardend: {}\n", done.error().text());
        return done.error().code == promwarden::Code::denied ? 6 : 1;
    }
    return 0;
}
