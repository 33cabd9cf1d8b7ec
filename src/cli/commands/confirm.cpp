// confirm — a trial becomes the accepted policy. The trial is on disk, so this works where no agent runs as well.

#include <nlohmann/json.hpp>

#include "agent.hpp"
#include "certificates.hpp"
#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

Outcome confirm(const Options& options) {
    TRY(require_root("confirm"));
    if (auto agent = TRY(Agent::find(options))) {
        TRY(agent->call("Confirm", Json::object()));
        return Exit::holds;
    }
    auto engine = TRY(open_to_look(options));
    const auto trial = TRY(engine.state().trial());
    const auto done = engine.confirm();
    if (!done && done.error().code == Code::missing) return failure(Exit::no_agent, done.error().text() + ", and no agent runs");
    TRY(Result<>(done));
    record(engine, Event::Kind::policy, trial->candidate.policy.path, "", "confirmed");
    const auto& policy = trial->candidate.policy;  // its certificates waited for this
    if (!policy.tls.certificates.empty() && policy.mode_of(rotation_control) == Mode::enforce) TRY(write_result(options, account_of(TRY(rotate_due(options, policy, engine)))));
    return Exit::holds;
}

}  // namespace promwarden::cli
