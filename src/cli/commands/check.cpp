// check — the line without its end: observe, evaluate, report. With --root, the same over what lies on a disk.

#include "local.hpp"
#include "output.hpp"

namespace promwarden::cli {

Outcome check(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    if (!options.root.empty()) {
        const auto facts = Engine::observe_image(candidate.policy, options.root);
        if (!facts) return failure(facts.error().code == Code::missing ? Exit::usage : exit_of(facts.error()), facts.error().text());
        return show(options, evaluate(candidate.policy, *facts, options.only));
    }
    auto engine = TRY(open_to_look(options));
    const auto facts = engine.observe(candidate.policy, options.only, options.no_live ? Asking::no : Asking::yes);
    return show(options, evaluate(candidate.policy, facts, options.only));
}

}  // namespace promwarden::cli
