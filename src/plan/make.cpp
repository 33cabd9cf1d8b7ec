// Changes, carried out in order and taken back in reverse.

#include <algorithm>
#include <ranges>

#include <fmt/format.h>

#include "promwarden/make.hpp"

namespace promwarden {

namespace {

/// "; and then", so that one error says all that went wrong.
void add(std::optional<Error>& all, const Error& one) {
    if (!all) all = one;
    else all->detail += fmt::format("; {}", one.text());
}

Change inverse_of(const Change& change) {
    auto back = change;
    back.deed = inverse(change.deed);
    back.judge = Judge::nobody;  // it was there before
    return back;
}

/// The end of the changes in a row that ask for the same effect.
std::size_t end_of_row(std::span<const Change> changes, std::size_t from) {
    auto end = from;
    while (end < changes.size() && changes[end].effect == changes[from].effect) ++end;
    return end;
}

Result<> make_row(std::span<const Change> row, Journal& journal, const Services& services) {
    bool done = false;
    if (services.look_before) TRY(services.look_before(row.front().effect));
    for (const auto& change : row) {
        TRY(journal.intend(change));
        if (TRY(perform(services.ground, change))) done = true;
    }
    if (done && row.front().effect != Effect::none) TRY(services.take_up(row.front().effect, row));
    return {};
}

}  // namespace

Result<> take_back(std::span<const Change> changes, const Services& services) {
    std::optional<Error> trouble;
    std::vector<Change> done;
    // A failure is what an apply may come from: what the services say now is what their being well again is compared with.
    if (services.look_before && std::ranges::any_of(changes, [](const Change& change) { return change.effect == Effect::reload; })) (void)services.look_before(Effect::reload);
    for (const auto& change : changes | std::views::reverse) {
        const auto back = inverse_of(change);
        const auto result = perform(services.ground, back);
        if (!result) add(trouble, result.error());
        else if (*result) done.push_back(back);
    }
    for (const auto effect : {Effect::units, Effect::reload, Effect::restart, Effect::proxy}) {
        std::vector<Change> row;
        std::ranges::copy_if(done, std::back_inserter(row), [&](const Change& change) { return change.effect == effect; });
        if (row.empty()) continue;
        if (const auto taken = services.take_up(effect, row); !taken) add(trouble, taken.error());
    }
    if (trouble) return std::unexpected(*std::move(trouble));
    return {};
}

Result<> make(std::span<const Change> changes, Journal& journal, const Services& services) {
    const auto done = [&]() -> Result<> {
        for (std::size_t at = 0; at < changes.size();) {
            const auto end = end_of_row(changes, at);
            TRY(make_row(changes.subspan(at, end - at), journal, services));
            at = end;
        }
        return {};
    }();
    if (done) return {};
    const auto& error = done.error();
    const auto back = take_back(journal.changes(), services);
    return fail(error.code, "", "", fmt::format("{} ({})", error.text(), back ? "what was there before is there again" : fmt::format("and not all of it could be taken back: {}", back.error().text())));
}

}  // namespace promwarden
