// Which of several witnesses of a flag is believed.

#include <algorithm>

#include "promwarden/server.hpp"

namespace promwarden {

const Flag* CommandLine::find(std::string_view name) const {
    const auto found = std::ranges::find(flags.rbegin(), flags.rend(), name, &Flag::name);
    return found == flags.rend() ? nullptr : &*found;
}

std::optional<FlagView> view_of(const Server& server, std::string_view name) {
    if (server.live_flags) {
        const auto found = server.live_flags->find(std::string(name));
        if (found == server.live_flags->end()) return std::nullopt;
        return FlagView{found->second, FlagView::Source::live, nullptr};
    }
    const auto source = server.process ? FlagView::Source::process : FlagView::Source::unit;
    const auto& line = server.process ? server.running : server.configured;
    if (!line) return std::nullopt;
    const auto* flag = line->find(name);
    if (flag == nullptr) return std::nullopt;
    return FlagView{flag->value, source, flag};
}

}  // namespace promwarden
