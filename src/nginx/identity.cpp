// oauth2-proxy's settings: its own file, flags of a command line, variables of an environment file.

#include <algorithm>

#include "text.hpp"

namespace promwarden::nginx {

namespace {

constexpr std::size_t most_settings = 2'000;

/// Names that only oauth2-proxy has.
constexpr std::string_view marks[] = {"oidc_issuer_url", "cookie_secret", "cookie_secret_file", "email_domains", "upstreams", "cookie_secure", "cookie_name", "redirect_url", "skip_auth_regex", "skip_auth_routes",
                                      "pass_access_token", "set_xauthrequest", "authenticated_emails_file", "cookie_expire", "cookie_refresh", "cookie_httponly", "cookie_samesite", "insecure_oidc_allow_unverified_email"};

/// Flags are singular where the file has plurals.
constexpr std::pair<std::string_view, std::string_view> plurals[] = {{"email_domain", "email_domains"}, {"upstream", "upstreams"}, {"allowed_group", "allowed_groups"}, {"skip_auth_route", "skip_auth_routes"},
                                                                     {"whitelist_domain", "whitelist_domains"}, {"cookie_domain", "cookie_domains"}, {"trusted_ip", "trusted_ips"}, {"trusted_proxy_ip", "trusted_proxy_ips"}};

std::string name_of(std::string_view written) {
    auto name = lower(written);
    std::ranges::replace(name, '-', '_');
    if (name.starts_with("oauth2_proxy_")) name.erase(0, 13);
    for (const auto& [one, many] : plurals)
        if (name == one) return std::string(many);
    return name;
}

std::string_view trim(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The strings or bare words of a value, up to a comment. False where an array goes on in the next line.
bool take_values(std::string_view text, std::vector<std::string>& values, bool& in_array) {
    for (std::size_t i = 0; i < text.size();) {
        const auto c = text[i];
        if (c == '#') break;
        if (c == '[') in_array = true;
        if (c == ']') in_array = false;
        if (c == '"' || c == '\'') {
            const auto end = std::min(text.find(c, i + 1), text.size());
            values.emplace_back(text.substr(i + 1, end - i - 1));
            i = end + 1;
        } else if (c == ' ' || c == '\t' || c == ',' || c == '[' || c == ']' || c == '\r') {
            ++i;
        } else {
            const auto end = std::min(text.find_first_of(",] \t\r#", i), text.size());
            values.emplace_back(text.substr(i, end - i));
            i = end;
        }
    }
    return !in_array;
}

}  // namespace

std::optional<std::vector<IdentitySetting>> read_identity(std::string_view text) {
    std::vector<IdentitySetting> settings;
    bool in_array = false, marked = false;
    for (std::uint32_t number = 1; !text.empty() && settings.size() < most_settings; ++number) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        auto rest = trim(line);
        if (in_array) {
            take_values(rest, settings.back().values, in_array);
            continue;
        }
        if (rest.empty() || rest.starts_with('#')) continue;
        const bool flag = rest.starts_with("--") || rest.starts_with("- --") || rest.starts_with("- \"--");
        if (flag) rest.remove_prefix(rest.find("--") + 2);
        const auto equals = rest.find('=');
        if (equals == std::string_view::npos && !flag) return std::nullopt;
        IdentitySetting made{name_of(trim(rest.substr(0, equals))), {}, {0, number, static_cast<std::uint32_t>(line.find_first_not_of(" \t") + 1)}};
        if (made.name.empty() || !std::ranges::all_of(made.name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; })) return std::nullopt;
        auto value = equals == std::string_view::npos ? std::string_view("true") : rest.substr(equals + 1);
        if (flag && value.ends_with('\\')) value.remove_suffix(1);
        if (flag && value.ends_with('"') && std::ranges::count(value, '"') == 1) value.remove_suffix(1);
        take_values(value, made.values, in_array);
        marked = marked || std::ranges::find(marks, made.name) != std::end(marks);
        settings.push_back(std::move(made));
    }
    if (!marked) return std::nullopt;
    return settings;
}

}  // namespace promwarden::nginx
