// What runs before the network is up, and again before the server starts: loads the policy in force, or looks whether it is loaded. No D-Bus, no names, no daemon.

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "promwarden/apply.hpp"

namespace {

using namespace promwarden;
using namespace std::chrono_literals;

constexpr std::string_view filter_control = "network.packet-filter";
constexpr std::string_view usage = "Usage: promwarden-early [--check] [--state DIR]\nFor units: see promwardend(8).\n";
constexpr auto patience = 5s;  // the agent may be putting the table right this moment

void say(std::string_view text) { fmt::print(stderr, "promwarden: {}\n", text); }

int failed(const Error& error) {
    say(error.text());
    return error.code == Code::denied ? 6 : 1;
}

/// Rules first; what is written to disk and to the journal comes after them.
void tell(Engine& engine, Event::Kind kind, std::string expected, std::string observed) {
    say(observed);
    Event event;
    event.kind = kind;
    event.time = std::chrono::system_clock::now();
    event.control = filter_control;
    event.subject = fmt::format("table inet {}", table_name);
    event.expected = std::move(expected);
    event.observed = std::move(observed);
    if (const auto kept = engine.state().record(event); !kept) say(kept.error().text());
}

int close_ports(Engine& engine, const std::string& why) {
    if (const auto closed = engine.close_ports(); !closed) return failed(closed.error());
    tell(engine, Event::Kind::policy, "the accepted policy", why + "; its ports are closed to everything but loopback until the next apply");
    return 1;  // so that the unit shows it
}

int load(Engine& engine) {
    const auto remembered = engine.remember();
    const auto verified = engine.verify(remembered);
    for (const auto& problem : remembered.problems) say(problem.text());
    if (verified) return remembered.lost ? 1 : 0;  // as it should be, or nothing was ever accepted
    if (verified.error().code == Code::denied) return failed(verified.error());
    if (remembered.lost) return close_ports(engine, "the policy in force is lost");
    if (const auto done = engine.enforce(&remembered.candidate->policy); !done) return close_ports(engine, fmt::format("the policy in force could not be loaded ({})", done.error().text()));
    tell(engine, Event::Kind::apply, "in force", "the policy in force was loaded before the network");
    return 0;
}

/// The server's start waits here. What is printed is what `systemctl status` of the server shows.
int check(Engine& engine) {
    const auto remembered = engine.remember();
    const auto give_up = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto verified = engine.verify(remembered);
        if (verified) return 0;
        if (verified.error().code == Code::denied || std::chrono::steady_clock::now() > give_up) {
            say(verified.error().text());
            say("the server is not started while its ports are not guarded; see 'systemctl status promwardend' and 'promwarden status', or remove the guard: promwarden undo --all");
            return 1;
        }
        std::this_thread::sleep_for(50ms);
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::string state = "/var/lib/promwarden";
    bool only_check = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--check") only_check = true;
        else if (word == "--state" && i + 1 < argc) state = argv[++i];
        else {
            fmt::print(stderr, "{}", usage);
            return 2;
        }
    }
    auto engine = Engine::open(State::at(state));
    if (!engine) return failed(engine.error());
    return only_check ? check(*engine) : load(*engine);
}
