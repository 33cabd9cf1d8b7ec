// At a start: what was in force, whether it still is, and what is left to protect where it is lost.

#include <algorithm>

#include "promwarden/apply.hpp"
#include "filter.hpp"
#include "start_guard.hpp"

namespace promwarden {

namespace {

constexpr std::uint16_t prometheus_port = 9090;

/// The links of this moment, as the table has them: who follows them is the agent's business, and it may be a moment behind or not there.
void take_interfaces(Ruleset& to, const Ruleset& from) {
    for (auto& set : to.sets)
        if (const auto* live = from.set(set.name); live != nullptr && live->type == Set::Type::interface && set.type == Set::Type::interface) set.elements = live->elements;
}

/// A rule that names engines' interfaces is the mark of a table that nobody keeps up to date with the links.
bool names_engines(const Ruleset& ruleset) {
    const auto* chain = ruleset.chain("guard_fwd");
    return chain != nullptr && std::ranges::any_of(chain->rules, [](const Rule& rule) {
        return std::ranges::any_of(rule.expressions, [](const Expression& e) {
            const auto* compare = std::get_if<expr::Compare>(&e);
            return compare != nullptr && compare->value == std::vector<std::uint8_t>{'d', 'o', 'c', 'k', 'e', 'r'};
        });
    });
}

std::string first_lines(const std::string& text) {
    constexpr std::size_t most = 200;
    auto line = text.substr(0, std::min(text.size(), most));
    std::ranges::replace(line, '\n', ';');
    return text.size() > most ? line + "…" : line;
}

}  // namespace

Remembered Engine::remember() {
    const auto ended = settle();
    auto result = recall();
    if (ended) result.ended = *ended;
    else result.problems.push_back(ended.error());
    return result;
}

Remembered Engine::recall() const {
    Remembered result;
    auto trial = state_.trial();
    if (!trial) result.problems.push_back(trial.error());
    auto accepted = state_.accepted();
    if (!accepted) result.problems.push_back(accepted.error());
    // One that is over but could not be ended (a disk that cannot be written) is over all the same.
    if (trial && *trial && remaining(**trial) > std::chrono::nanoseconds(0)) {
        result.candidate = std::move((*trial)->candidate);
        result.trial = true;
    } else if (accepted && *accepted) {
        result.candidate = std::move(**accepted);
    } else {
        const auto ports = state_.guarded_ports();
        result.lost = !ports || !ports->empty();
    }
    return result;
}

Result<Ruleset> Engine::closed_ruleset() const {
    const auto ports = state_.guarded_ports();
    return firewall::closed(ports && !ports->empty() ? std::span(*ports) : std::span(&prometheus_port, 1));
}

bool Engine::follows_links() const { return live_ && live_->ruleset && !names_engines(*live_->ruleset); }

Result<> Engine::verify(const Remembered& remembered) {
    std::optional<Ruleset> target;
    auto facts = observe_filter();
    facts.links_watched = links_watched_ || follows_links();
    if (!facts.firewall) return std::unexpected(facts.firewall.error());
    if (remembered.lost) target = TRY(closed_ruleset());
    else if (remembered.candidate && remembered.candidate->policy.mode_of(filter_control) == Mode::enforce && !remembered.candidate->policy.firewall.services.empty())
        target = TRY(desired_ruleset(remembered.candidate->policy, facts));
    if (!target) return {};  // nothing is meant to be guarded
    const auto& live = facts.firewall->live;
    if (!live) return fail(Code::missing, "check the guard", "", "there is no table inet promwarden");
    take_interfaces(*target, *live);
    const auto difference = firewall::difference(&*live, &*target);
    if (difference.empty()) return {};
    return fail(Code::failed, "check the guard", "", "table inet promwarden is not the one of the policy in force: " + first_lines(firewall::to_text(difference)));
}

Result<bool> Engine::close_ports() {
    const auto live = TRY(kernel_.read(firewall::Elements::none));
    const auto before = live.generation;
    live_ = TRY(kernel_.commit(live, TRY(closed_ruleset()), firewall::ownership_of(live)));
    return live_->generation != before;
}

Result<bool> Engine::place_start_guard(const Policy* policy) {
    if (!state_.usual()) return false;
    const auto guards = TRY(read_start_guards());
    if (!guards) return false;
    return write_start_guards(guards->present, policy == nullptr ? DropIns{} : wanted_start_guards(*policy, guards->directory));
}

}  // namespace promwarden
