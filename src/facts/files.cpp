// Who may do what to a file: the kernel's rules (acl(5), path_resolution(7)) over the numbers that were read on the way to it.

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "promwarden/files.hpp"

namespace promwarden {

namespace {

constexpr std::size_t most_accounts = 100'000;
constexpr uid_t nobody_in_particular = static_cast<uid_t>(-2);  // no account and no file has it
constexpr gid_t no_group = static_cast<gid_t>(-2);

bool in_group(const Identity& who, gid_t group) { return who.gid == group || std::ranges::find(who.groups, group) != who.groups.end(); }

/// The rights that one class of the mode or the access list gives.
std::uint8_t rights_of(const Identity& who, const FileStatus& status) {
    const auto bits = [&](int shift) { return static_cast<std::uint8_t>((status.mode >> shift) & 7U); };
    if (who.uid == status.owner) return bits(6);
    if (status.acl.empty()) return in_group(who, status.group) ? bits(3) : bits(0);
    const auto mask_entry = std::ranges::find(status.acl, AclEntry::Tag::mask, &AclEntry::tag);
    const auto mask = mask_entry == status.acl.end() ? std::uint8_t{7} : mask_entry->rights;
    bool member = false;
    std::uint8_t of_groups = 0;
    for (const auto& entry : status.acl) {
        if (entry.tag == AclEntry::Tag::user && entry.id == who.uid) return entry.rights & mask;
        const bool owning = entry.tag == AclEntry::Tag::owning_group && in_group(who, status.group);
        if (!owning && !(entry.tag == AclEntry::Tag::group && in_group(who, entry.id))) continue;
        member = true;
        of_groups |= entry.rights;
    }
    return member ? of_groups & mask : bits(0);
}

/// Whether that user gets as far as looking up the entry `last`.
bool walks_to(const Identity& who, const NamedFile& file, std::size_t last) {
    for (std::size_t i = 0; i < last; ++i)
        if (file.steps[i].status.type == FileStatus::Type::directory && !may(who, file.steps[i].status, Right::search)) return false;
    return true;
}

bool changes_directory(const Identity& who, const FileStatus& directory) {
    return who.uid == directory.owner || (may(who, directory, Right::write) && may(who, directory, Right::search));
}

template <class Number>
std::optional<Number> number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        const auto end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

/// Every user and group that some class on the way is about.
struct Concerned {
    std::set<std::uint32_t> users, groups;
    explicit Concerned(const NamedFile& file) {
        for (const auto& [path, status, directory] : file.steps) {
            users.insert(status.owner);
            groups.insert(status.group);
            for (const auto& entry : status.acl) {
                if (entry.tag == AclEntry::Tag::user) users.insert(entry.id);
                if (entry.tag == AclEntry::Tag::group) groups.insert(entry.id);
            }
        }
        users.erase(0);
    }
    [[nodiscard]] bool has(const Identity& who) const {
        return users.contains(who.uid) || groups.contains(who.gid) || std::ranges::any_of(who.groups, [&](gid_t group) { return groups.contains(group); });
    }
};

}  // namespace

Result<std::vector<AclEntry>> parse_acl(std::string_view bytes) {
    const auto little = [&](std::size_t at, std::size_t size) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
        return value;
    };
    if (bytes.size() < 4 || little(0, 4) != 2 || (bytes.size() - 4) % 8 != 0) return fail(Code::unsupported, "read access list", "", "not of version 2");
    std::vector<AclEntry> entries;
    for (std::size_t at = 4; at < bytes.size(); at += 8) {
        AclEntry entry;
        switch (little(at, 2)) {
            case 0x01: entry.tag = AclEntry::Tag::owner; break;
            case 0x02: entry.tag = AclEntry::Tag::user; break;
            case 0x04: entry.tag = AclEntry::Tag::owning_group; break;
            case 0x08: entry.tag = AclEntry::Tag::group; break;
            case 0x10: entry.tag = AclEntry::Tag::mask; break;
            case 0x20: entry.tag = AclEntry::Tag::other; break;
            default: return fail(Code::unsupported, "read access list", "", "an entry of an unknown kind");
        }
        entry.rights = static_cast<std::uint8_t>(little(at + 2, 2) & 7U);
        if (entry.tag == AclEntry::Tag::user || entry.tag == AclEntry::Tag::group) entry.id = little(at + 4, 4);
        entries.push_back(entry);
    }
    return entries;
}

bool may(const Identity& who, const FileStatus& status, Right right) { return who.uid == 0 || (rights_of(who, status) & static_cast<std::uint8_t>(right)) != 0; }

// ---- accounts -------------------------------------------------------------------------------------------------------

std::string AccountTable::user_name(uid_t uid) const {
    const auto found = std::ranges::find_if(users, [&](const LocalAccount& account) { return account.identity.uid == uid; });
    if (found != users.end()) return found->name;
    return uid == 0 ? "root" : fmt::format("uid {}", uid);
}

std::string AccountTable::group_name(gid_t gid) const {
    const auto found = groups.find(gid);
    if (found != groups.end()) return found->second;
    return gid == 0 ? "root" : fmt::format("gid {}", gid);
}

std::optional<Identity> AccountTable::identity_of(uid_t uid) const {
    const auto found = std::ranges::find_if(users, [&](const LocalAccount& account) { return account.identity.uid == uid; });
    return found == users.end() ? std::nullopt : std::optional(found->identity);
}

std::optional<Identity> AccountTable::identity_of(std::string_view name) const {
    const auto found = std::ranges::find(users, name, &LocalAccount::name);
    return found == users.end() ? std::nullopt : std::optional(found->identity);
}

AccountTable parse_accounts(std::string_view passwd, std::string_view group) {
    AccountTable table;
    std::map<std::string_view, std::size_t> index;
    for (const auto line : split(passwd, '\n')) {
        const auto fields = split(line, ':');
        if (fields.size() < 4 || fields[0].empty() || table.users.size() >= most_accounts) continue;
        const auto uid = number<uid_t>(fields[2]);
        const auto gid = number<gid_t>(fields[3]);
        if (!uid || !gid) continue;
        index.emplace(fields[0], table.users.size());
        table.users.push_back({std::string(fields[0]), {*uid, *gid, {}}});
    }
    for (const auto line : split(group, '\n')) {
        const auto fields = split(line, ':');
        const auto gid = fields.size() < 4 ? std::nullopt : number<gid_t>(fields[2]);
        if (!gid || fields[0].empty()) continue;
        table.groups.emplace(*gid, fields[0]);
        for (const auto member : split(fields[3], ','))
            if (const auto found = index.find(member); found != index.end()) table.users[found->second].identity.groups.push_back(*gid);
    }
    return table;
}

// ---- files ----------------------------------------------------------------------------------------------------------

bool reaches(const Identity& who, const NamedFile& file) { return file.status() != nullptr && walks_to(who, file, file.steps.size() - 1); }

bool can_read(const Identity& who, const NamedFile& file) {
    if (!reaches(who, file)) return false;
    const auto& status = *file.status();
    // The names in a directory, or the files whose names are known: either is reading it.
    return may(who, status, Right::read) || (status.type == FileStatus::Type::directory && may(who, status, Right::search));
}

bool can_write(const Identity& who, const NamedFile& file) {
    return reaches(who, file) && (who.uid == file.status()->owner || may(who, *file.status(), Right::write));
}

bool can_replace(const Identity& who, const NamedFile& file) {
    for (std::size_t i = 0; i < file.steps.size(); ++i) {
        const auto& entry = file.steps[i];
        if (entry.directory < 0) continue;
        const auto& directory = file.steps[static_cast<std::size_t>(entry.directory)].status;
        if (!walks_to(who, file, static_cast<std::size_t>(entry.directory))) continue;
        const bool sticky = (directory.mode & 01000U) != 0;
        if (changes_directory(who, directory) && (!sticky || who.uid == directory.owner || who.uid == entry.status.owner || who.uid == 0)) return true;
    }
    return can_create(who, file);
}

bool can_create(const Identity& who, const NamedFile& file) {
    if (!file.problem || file.problem->code != Code::missing || file.steps.empty()) return false;
    const auto& directory = file.steps.back().status;
    return directory.type == FileStatus::Type::directory && walks_to(who, file, file.steps.size() - 1) && changes_directory(who, directory);
}

std::vector<Somebody> who_can(Ability ability, const NamedFile& file, const AccountTable& accounts) {
    if (ability({nobody_in_particular, no_group, {}}, file)) return {{Somebody::Kind::everyone, 0}};
    std::vector<Somebody> able;
    Concerned concerned(file);
    for (const auto& account : accounts.users) {
        const auto& who = account.identity;
        if (who.uid == 0 || !concerned.has(who)) continue;
        if (ability(who, file)) able.push_back({Somebody::Kind::user, who.uid});
    }
    for (const auto& account : accounts.users) {
        concerned.users.erase(account.identity.uid);
        concerned.groups.erase(account.identity.gid);
        for (const auto group : account.identity.groups) concerned.groups.erase(group);
    }
    for (const auto uid : concerned.users)
        if (ability({uid, no_group, {}}, file)) able.push_back({Somebody::Kind::user, uid});
    concerned.groups.erase(0);
    for (const auto gid : concerned.groups)
        if (ability({nobody_in_particular, gid, {}}, file)) able.push_back({Somebody::Kind::group, gid});
    std::ranges::sort(able, {}, [](const Somebody& each) { return std::pair(each.kind, each.id); });
    able.erase(std::ranges::unique(able).begin(), able.end());
    return able;
}

std::string to_text(std::span<const Somebody> who, const AccountTable& accounts) {
    constexpr std::size_t shown = 3;
    std::vector<std::string> users, groups;
    for (const auto& each : who) {
        if (each.kind == Somebody::Kind::everyone) return "everyone";
        if (each.kind == Somebody::Kind::user) users.push_back(accounts.user_name(each.id));
        else groups.push_back(accounts.group_name(each.id));
    }
    const auto list = [](std::string_view one, std::string_view many, const std::vector<std::string>& names) -> std::string {
        if (names.empty()) return {};
        if (names.size() == 1) return names.front().starts_with("uid ") || names.front().starts_with("gid ") ? names.front() : fmt::format("{} {}", one, names.front());
        if (names.size() > shown) return fmt::format("{} {} and {} more", many, fmt::join(names.begin(), names.begin() + shown, ", "), names.size() - shown);
        return fmt::format("{} {} and {}", many, fmt::join(names.begin(), names.end() - 1, ", "), names.back());
    };
    const auto first = list("user", "users", users), second = list("group", "groups", groups);
    return first.empty() || second.empty() ? first + second : fmt::format("{} and {}", first, second);
}

}  // namespace promwarden
