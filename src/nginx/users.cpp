// The proxy's users: lines of its password file, and the roles that the policy gives them.

#include <algorithm>
#include <array>

#include <crypt.h>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

constexpr std::size_t longest_name = 64, longest_password = 256;

bool is_line_of(std::string_view line, std::string_view name) {
    return line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':';
}

/// Whether there was a line of that user; `kept` gets every other one, and the first of the user's becomes `line`.
bool replace_lines(std::string_view text, std::string_view name, std::string_view line, std::string& kept) {
    bool found = false;
    while (!text.empty()) {
        const auto each = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(each.size() + 1, text.size()));
        const bool is_users = is_line_of(each, name);
        if (!is_users)
            kept.append(each) += '\n';
        else if (!found && !line.empty())
            kept.append(line) += '\n';
        found |= is_users;
    }
    return found;
}

}  // namespace

bool is_user_name(std::string_view name) {
    const auto is_alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
    return !name.empty() && name.size() <= longest_name && is_alphanumeric(name.front()) &&
           std::ranges::all_of(name, [](char c) { return c > ' ' && c < 0x7f && c != ':' && c != '"' && c != '\\'; });
}

Result<std::string> hash_password(const std::string& password) {
    if (password.empty()) return fail(Code::invalid, "take", "the password", "it is empty");
    if (password.size() > longest_password) return fail(Code::limit, "take", "the password", "it is longer than 256 bytes");
    if (password.find('\0') != std::string::npos) return fail(Code::invalid, "take", "the password", "it holds a NUL byte");
    std::array<char, CRYPT_GENSALT_OUTPUT_SIZE> salt{};
    if (::crypt_gensalt_rn("$6$", 0, nullptr, 0, salt.data(), salt.size()) == nullptr) return fail_errno("draw", "a salt");
    crypt_data space{};
    const char* hash = ::crypt_rn(password.c_str(), salt.data(), &space, sizeof space);
    auto made = hash == nullptr ? Result<std::string>(fail_errno("hash", "the password")) : Result<std::string>(hash);
    ::explicit_bzero(&space, sizeof space);
    return made;
}

std::string with_user(std::string_view text, std::string_view name, std::string_view hash) {
    const auto line = std::string(name) + ":" + std::string(hash);
    std::string made;
    if (!replace_lines(text, name, line, made)) made += line + "\n";
    return made;
}

std::optional<std::string> without_user(std::string_view text, std::string_view name) {
    std::string kept;
    if (!replace_lines(text, name, {}, kept)) return std::nullopt;
    return kept;
}

std::vector<std::string> roles_of(const AccessPolicy& access, std::string_view user) {
    std::vector<std::string> roles;
    for (const auto& [role, members] : access.roles)
        if (std::ranges::find(members, "user:" + std::string(user)) != members.end()) roles.push_back(role);
    if (roles.empty()) roles.emplace_back(viewer_role);
    return roles;
}

const char* worker_group() { return !host_accounts().group("www-data") && host_accounts().group("nginx") ? "nginx" : "www-data"; }

}  // namespace promwarden::nginx
