#include "local.hpp"

#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

#include "output.hpp"
#include "promwarden/host.hpp"

namespace promwarden::cli {

bool is_root() { return ::geteuid() == 0; }

Or<> require_root(std::string_view what) {
    if (is_root()) return {};
    return failure(Exit::denied, fmt::format("{}: only root can do that", what));
}

Or<Candidate> load_policy(const std::string& path) {
    auto candidate = load_candidate(path);
    if (candidate) return *std::move(candidate);
    std::string text;
    for (const auto& diagnostic : candidate.error()) {
        text += to_text(diagnostic, true);
        if (!text.ends_with('\n')) text += '\n';
    }
    const bool forbidden = ::access(path.c_str(), R_OK) != 0 && errno == EACCES;
    return failure(forbidden ? Exit::denied : Exit::usage, std::move(text));
}

Or<bool> settle(Engine& engine) {
    if (!TRY(engine.settle())) return false;
    record(engine, Event::Kind::undo, std::string(guarded_table), "to be confirmed in time", "nobody confirmed; what was there before is in force again");
    return true;
}

namespace {

Or<Engine> settled(State state, const Options& options) {
    auto engine = TRY(Engine::open(std::move(state)));
    // The worker of the socket unit reads the installed policy; for another one, a worker of our own.
    engine.set_probe({options.policy_given ? "" : fmt::format("{}/probe", options.socket.substr(0, options.socket.rfind('/'))), std::filesystem::absolute(options.policy).string(), {}});
    if (is_root() && TRY(settle(engine))) note("a trial that nobody confirmed in time has been undone");
    return engine;
}

}  // namespace

Or<Engine> open_to_look(const Options& options) { return settled(State::at(options.state), options); }

Or<Engine> open_to_act(const Options& options) {
    auto engine = TRY(settled(TRY(State::open(options.state)), options));
    if (TRY(engine.recover())) note("what an earlier run had left unfinished was put in order first");
    return engine;
}

void record(const Engine& engine, Event::Kind kind, std::string subject, std::string expected, std::string observed, std::string control) {
    Event event{kind, std::chrono::system_clock::now(), std::move(control), std::move(subject), std::move(expected), std::move(observed), {}, {}};
    if (const auto self = host::read_process(::getpid())) event.by = Actor{self->comm, self->pid, self->exe, self->loginuid};
    if (const auto done = engine.state().record(event); !done) note(fmt::format("the history lacks this: {}", done.error().text()));
}

}  // namespace promwarden::cli
