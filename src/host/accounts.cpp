#include "accounts.hpp"

#include <algorithm>

#include "processes.hpp"
#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_text = 8 * 1024 * 1024;

std::string_view take(std::string_view& rest, char end) {
    const auto part = rest.substr(0, rest.find(end));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    return part;
}

/// Calls `line` with the fields of each line of /etc/passwd or /etc/group: name, number, and what follows the number.
template <class Line>
void each_account(const std::string& path, const std::string& root, Line line) {
    const auto text = read_below(root, path, most_text);
    if (!text) return;
    for (std::string_view rest = *text; !rest.empty();) {
        auto fields = take(rest, '\n');
        const auto name = take(fields, ':');
        take(fields, ':');  // the password
        if (const auto number = number_in<std::uint32_t>(take(fields, ':'))) line(name, *number, fields);
    }
}

bool lists(std::string_view members, std::string_view name) {
    while (!members.empty())
        if (take(members, ',') == name) return true;
    return false;
}

}  // namespace

std::optional<Identity> account_of(const Unit& unit, const std::string& root) {
    const std::string user = unit.user.empty() ? "root" : unit.user;
    std::optional<Identity> identity;
    std::string name;
    each_account("/etc/passwd", root, [&](std::string_view each, std::uint32_t uid, std::string_view rest) {
        if (identity || (each != user && std::to_string(uid) != user)) return;
        identity = Identity{uid, number_in<gid_t>(take(rest, ':')).value_or(0), {}};
        name = each;
    });
    if (!identity) return std::nullopt;
    each_account("/etc/group", root, [&](std::string_view each, std::uint32_t gid, std::string_view members) {
        const auto is = [&](const std::string& given) { return each == given || std::to_string(gid) == given; };
        if (!unit.group.empty() && is(unit.group)) identity->gid = gid;
        if (lists(members, name) || std::ranges::any_of(unit.supplementary_groups, is)) identity->groups.push_back(gid);
    });
    return identity;
}

std::vector<std::string> names_of(std::span<const gid_t> groups, const std::string& root) {
    std::vector<std::string> names;
    if (groups.empty()) return names;
    each_account("/etc/group", root, [&](std::string_view name, std::uint32_t gid, std::string_view) {
        if (std::ranges::find(groups, gid) != groups.end()) names.emplace_back(name);
    });
    return names;
}

}  // namespace promwarden::host
