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
    for (const auto& problem : remembered.problems) say(problem.text());
    if (!remembered.candidate && !remembered.lost) return 0;  // nothing was ever accepted: this machine need not even have nf_tables
    if (remembered.ended) tell(engine, Event::Kind::undo, "confirmed in time", "the trial was not confirmed; the policy before it is in force");
    const auto verified = engine.verify(remembered);
    if (verified) return remembered.lost ? 1 : 0;
    if (verified.error().code == Code::denied) return failed(verified.error());
    if (remembered.lost) return close_ports(engine, "the policy in force is lost");
    if (const auto done = engine.enforce(&remembered.candidate->policy); !done) return close_ports(engine, fmt::format("the policy in force could not be loaded ({})", done.error().text()));
    tell(engine, Event::Kind::apply, "in force", "the policy in force was loaded before the network");
    return 0;
}

/// The server's start waits here. What is printed is what `systemctl status` of the server shows.
int check(Engine& engine) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    for (bool told = false;; told = true) {
        const auto verified = engine.verify(engine.recall());
        if (verified) return 0;
        if (!told) say(verified.error().text() + "; the server is not started while its ports are not guarded");  // at once: a status shows this attempt's lines only
        if (verified.error().code == Code::denied) return 6;
        if (std::chrono::steady_clock::now() > give_up) break;
        std::this_thread::sleep_for(50ms);
    }
    say("see 'systemctl status promwardend promwarden-early'; 'promwarden undo --all' removes the guard and this check");
    return 1;
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
