// access user — who may ask the proxy: the lines of its password file. What each of them may ask for is the policy's to say.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>
#include <nlohmann/json.hpp>

#include "local.hpp"
#include "output.hpp"
#include "password.hpp"
#include "promwarden/nginx.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden::cli {

namespace {

constexpr std::size_t largest_file = 4 << 20;
constexpr std::string_view schemes[] = {"plain",  "des",    "md5",    "apr1",     "sha1",   "salted-sha1",
                                        "sha256", "sha512", "bcrypt", "yescrypt", "unknown"};

/// The password file, held against others who change it.
class Users {
public:
    static Or<Users> open() {
        const std::string path = nginx::SitePaths().passwords, directory = path.substr(0, path.rfind('/'));
        TRY(rotation::make_directory_for(directory, nginx::worker_group()));
        return Users(path, TRY(lock_file(directory + "/.htpasswd.lock")));
    }

    /// Missing: no users.
    static Or<std::string> text() {
        auto file = read_trusted_file(nginx::SitePaths().passwords, largest_file);
        if (!file && file.error().code == Code::missing) return std::string();
        return std::move(TRY(std::move(file)).text);
    }

    Or<> replace(std::string_view text) {
        const auto* group = ::getgrnam(nginx::worker_group());
        TRY(tls::publish_through(path_.substr(0, path_.rfind('/')), path_, text, 0640,
                                 group == nullptr ? std::nullopt : std::optional(group->gr_gid)));
        return {};
    }

private:
    Users(std::string path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    std::string path_;
    Fd lock_;
};

Or<std::string> user_name(const Options& options) {
    if (nginx::is_user_name(options.argument)) return options.argument;
    return failure(
        Exit::usage,
        fmt::format(
            "'{}' is no name for a user: up to 64 letters, digits and signs, a letter or digit first, no space, colon, quote or backslash",
            render::printable(options.argument)));
}

/// The policy, where its proxy is one that looks into a password file.
Or<Candidate> policy_with_users(const Options& options) {
    auto candidate = TRY(load_policy(options.policy));
    const auto& access = candidate.policy.access;
    if (!access.present) return failure(Exit::usage, fmt::format("{} has no [access]: it describes no proxy", options.policy));
    if (access.auth != "basic")
        return failure(Exit::usage,
                       fmt::format("{} says auth = \"{}\": the identity provider knows the users, and their groups are their roles",
                                   options.policy, access.auth));
    return candidate;
}

/// The line of the policy under which that user has that role.
std::string line_for(const AccessPolicy& access, const std::string& role, const std::string& user) {
    auto members = access.roles.contains(role) ? access.roles.at(role) : std::vector<std::string>();
    members.push_back("user:" + user);
    for (auto& member : members) member = fmt::format("\"{}\"", member);
    return fmt::format("    [access.roles]\n    {} = [{}]\n", role, fmt::join(members, ", "));
}

/// The role is the policy's to give. One that it does not give to that user would be a promise that the site does not keep.
Or<> agree(const Options& options, const AccessPolicy& access, const std::vector<std::string>& roles) {
    const auto& role = options.role;
    if (role.empty() || std::ranges::find(roles, role) != roles.end()) return {};
    const auto built_in = role == nginx::admin_role || role == nginx::viewer_role;
    if (!built_in && !access.roles.contains(role)) {
        std::vector<std::string_view> known{nginx::admin_role, nginx::viewer_role};
        for (const auto& [name, members] : access.roles)
            if (std::ranges::find(known, name) == known.end()) known.push_back(name);
        return failure(Exit::usage,
                       fmt::format("{} has no role '{}'; it has {}", options.policy, render::printable(role), fmt::join(known, ", ")));
    }
    if (role == nginx::viewer_role)
        return failure(Exit::usage,
                       fmt::format("{} says that {} is {}. Take \"user:{}\" out of there first, then apply; every user is a viewer",
                                   options.policy, options.argument, fmt::join(roles, ", "), options.argument));
    return failure(Exit::usage, fmt::format("{} does not say that {} is {}. Write there, then apply:\n\n{}\nNothing was changed.",
                                            options.policy, options.argument, role, line_for(access, role, options.argument)));
}

struct Row {
    std::string user;
    std::vector<std::string> roles;
    std::string_view scheme;  // "": the policy names somebody who has no password
};

std::vector<Row> rows(const AccessPolicy& access, const std::vector<PasswordLine>& lines) {
    std::vector<Row> made;
    for (const auto& line : lines)
        made.push_back({line.user, nginx::roles_of(access, line.user), schemes[static_cast<std::size_t>(line.scheme)]});
    for (const auto& [role, members] : access.roles)
        for (const auto& member : members) {
            if (!member.starts_with("user:")) continue;
            const auto name = member.substr(5);
            if (std::ranges::find(made, name, &Row::user) == made.end()) made.push_back({name, nginx::roles_of(access, name), ""});
        }
    return made;
}

}  // namespace

Outcome access_user_add(const Options& options) {
    const auto name = TRY(user_name(options));
    TRY(require_root("access user add"));
    const auto candidate = TRY(policy_with_users(options));
    const auto roles = nginx::roles_of(candidate.policy.access, name);
    TRY(agree(options, candidate.policy.access, roles));
    auto password = TRY(read_password(name));
    const auto hash = nginx::hash_password(password);
    ::explicit_bzero(password.data(), password.size());
    if (!hash) return failure(Exit::usage, hash.error().text());
    auto users = TRY(Users::open());
    const auto before = TRY(Users::text());
    TRY(users.replace(nginx::with_user(before, name, *hash)));
    TRY(write_result(options, fmt::format("{} {}: {}\n", nginx::without_user(before, name) ? "Changed the password of" : "Added", name,
                                          fmt::join(roles, ", "))));
    return Exit::holds;
}

Outcome access_user_list(const Options& options) {
    TRY(require_root("access user list"));
    const auto candidate = TRY(policy_with_users(options));
    const auto all = rows(candidate.policy.access, nginx::read_passwords(TRY(Users::text())));
    if (options.format == render::Format::json) {
        Json list = Json::array();
        for (const auto& row : all)
            list.push_back({{"user", row.user}, {"roles", row.roles}, {"password", row.scheme.empty() ? Json() : Json(row.scheme)}});
        TRY(write_result(options, json_text(list) + "\n"));
        return Exit::holds;
    }
    std::string text = all.empty() ? "There are no users.\n" : "";
    for (const auto& row : all)
        text += fmt::format("{:<24}  {:<24}  {}\n", render::printable(row.user), fmt::format("{}", fmt::join(row.roles, ", ")),
                            row.scheme.empty() ? "no password" : row.scheme);
    TRY(write_result(options, text));
    return Exit::holds;
}

Outcome access_user_remove(const Options& options) {
    const auto name = TRY(user_name(options));
    TRY(require_root("access user remove"));
    auto users = TRY(Users::open());
    const auto without = nginx::without_user(TRY(Users::text()), name);
    if (!without) return failure(Exit::usage, fmt::format("there is no user '{}'", name));
    TRY(users.replace(*without));
    TRY(write_result(options, fmt::format("Removed {}\n", name)));
    if (const auto candidate = load_policy(options.policy))
        if (const auto roles = nginx::roles_of(candidate->policy.access, name);
            roles != std::vector<std::string>{std::string(nginx::viewer_role)})
            note(fmt::format("{} still says that {} is {}: whoever gets that name gets the role", options.policy, name,
                             fmt::join(roles, ", ")));
    return Exit::holds;
}

}  // namespace promwarden::cli
