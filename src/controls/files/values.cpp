// What a single value says: literal, variable or template; whose address it is; whether its name announces a secret.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

bool name_start(char c) { return (std::isalpha(static_cast<unsigned char>(c)) != 0) || c == '_'; }
bool name_part(char c) { return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '_'; }
bool upper_part(char c) { return (std::isupper(static_cast<unsigned char>(c)) != 0) || (std::isdigit(static_cast<unsigned char>(c)) != 0) || c == '_'; }

/// "__NAME__", "@NAME@", "%NAME%", "#{NAME}#", "<your password>", "$(NAME)": somebody else fills it in.
bool placeholder(std::string_view text) {
    const auto between = [&](std::string_view open, std::string_view close) {
        return text.size() > open.size() + close.size() && text.starts_with(open) && text.ends_with(close);
    };
    const auto plain = [&](std::size_t skip) {
        return std::ranges::all_of(text.substr(skip, text.size() - 2 * skip), [](char c) { return name_part(c) || c == '.' || c == '-'; });
    };
    return between("<", ">") || (between("__", "__") && plain(2)) || (between("@", "@") && plain(1)) || (between("%", "%") && plain(1)) || between("#{", "}#") ||
           text.find("$(") != std::string_view::npos || text.find("%{") != std::string_view::npos || text.find("#{") != std::string_view::npos;
}

bool masked(std::string_view text) {
    const auto name = lower(text);
    if (name == "<secret>" || name == "<redacted>" || name == "redacted" || name == "[redacted]" || name == "<hidden>" || name == "xxxxx") return true;
    return text.size() >= 3 && text.find_first_not_of('*') == std::string_view::npos;
}

bool templated(std::string_view text) {
    return text.find("{{") != std::string_view::npos || text.find("{%") != std::string_view::npos || text.find("<%") != std::string_view::npos ||
           text.find(prometheus::filled_later) != std::string_view::npos;
}

}  // namespace

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

std::string variable_in(std::string_view text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        if (text[i] != '$') continue;
        if (text[i + 1] == '$') {
            ++i;
            if (i + 1 < text.size() && text[i + 1] == '{') i = std::min(text.find('}', i), text.size() - 1);  // $${NAME} is somebody's escape
            continue;
        }
        const bool braces = text[i + 1] == '{';
        const std::size_t first = i + (braces ? 2 : 1);
        std::size_t last = first;
        if (first >= text.size() || !name_start(text[first])) continue;
        while (last < text.size() && (braces ? name_part(text[last]) : upper_part(text[last]))) ++last;
        if (braces && text.find('}', last) != std::string_view::npos) return fmt::format("${{{}}}", text.substr(first, std::min<std::size_t>(last - first, 64)));
        if (!braces && last - first >= 2 && (last == text.size() || !name_part(text[last]))) return fmt::format("${}", text.substr(first, std::min<std::size_t>(last - first, 64)));
    }
    return {};
}

Written written(const Node& node) {
    if (node.templated) return Written::filled_later;
    if (node.kind != Node::Kind::scalar || node.null() || node.text.empty()) return Written::nothing;
    if (!node.tag.empty() && node.tag != "tag:yaml.org,2002:str" && node.tag != "!") return Written::filled_later;  // !vault, !ENV …
    if (templated(node.text)) return Written::filled_later;
    if (masked(node.text)) return Written::redacted;
    if (placeholder(node.text)) return Written::filled_later;
    // A password may hold a dollar sign: without braces only a value that is nothing but a variable counts as one.
    if (const auto name = variable_in(node.text); !name.empty() && (name.starts_with("${") || name == node.text)) return Written::variable;
    return Written::literal;
}

bool is_true(const Node* node) {
    if (node == nullptr || node->kind != Node::Kind::scalar) return false;
    const auto text = lower(node->text);
    return text == "true" || text == "yes" || text == "on" || text == "y";
}

Where where_is(std::string_view address) {
    std::string_view host = address;
    const auto colon = host.find(':');
    // The port may be anybody's to fill in: the host decides.
    if (host.starts_with('[')) host = host.substr(1, host.find(']') - 1);
    else if (colon != std::string_view::npos && colon > 0 && (host.find(':', colon + 1) == std::string_view::npos || std::string_view("${<%").contains(host[std::min(colon + 1, host.size() - 1)]))) host = host.substr(0, colon);
    if (host.find_first_of("$<>{}%@#") != std::string_view::npos || templated(host) || placeholder(host)) return Where::unknown;
    const auto name = lower(host);
    if (name.empty()) return Where::unknown;
    if (name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" || name == "ip6-localhost" || name == "ip6-loopback") return Where::loopback;
    if (const auto parsed = parse_address(name)) {
        const auto loopback4 = parse_cidr("127.0.0.0/8");
        const auto loopback6 = parse_cidr("::1/128");
        if (loopback4 && loopback6 && (loopback4->contains(*parsed) || loopback6->contains(*parsed))) return Where::loopback;
    }
    return Where::remote;
}

Url parse_url(std::string_view text) {
    Url url;
    if (const auto colon = text.find("://"); colon != std::string_view::npos) {
        url.has_scheme = true;
        url.scheme = text.substr(0, colon);
        text.remove_prefix(colon + 3);
    }
    const auto end = std::min(text.find_first_of("/?#"), text.size());
    auto authority = text.substr(0, end);
    if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
        const auto user = authority.substr(0, at);
        const auto colon = user.find(':');
        url.user = user.substr(0, colon);
        if (colon != std::string_view::npos) url.password = user.substr(colon + 1);
        authority.remove_prefix(at + 1);
    }
    url.host = authority;
    if (const auto question = text.find('?', end); question != std::string_view::npos) url.query = text.substr(question + 1, text.find('#', question) - question - 1);
    return url;
}

bool sounds_secret(std::string_view name, bool in_url) {
    std::string plain;
    for (const char c : lower(name))
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) plain.push_back(c);
    constexpr std::string_view parts[] = {"password", "passwd", "passphrase", "secret", "apikey", "token", "credential", "privatekey", "accesskey", "authkey", "licensekey"};
    constexpr std::string_view whole[] = {"pwd", "pass", "authorization", "proxyauthorization", "cookie", "bearer", "sig", "signature", "sas", "insertkey", "xinsertkey"};
    if (std::ranges::any_of(parts, [&](std::string_view part) { return plain.find(part) != std::string::npos; })) return true;
    return std::ranges::find(whole, plain) != std::end(whole) || (in_url && (plain == "key" || plain == "auth"));
}

std::string show_key(std::string_view key) {
    const bool ordinary = !key.empty() && key.size() <= 64 &&
                          std::ranges::all_of(key, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '[' || c == ']' || c == '/'; });
    return ordinary ? std::string(key) : "…";
}

std::string line_with(const Place& place, std::string_view text) {
    const auto at = in_file(place.document, place.at);
    return fmt::format("replace line {} by: {}{}", at.line, std::string(at.column > 0 ? at.column - 1 : 0, ' '), text);
}

}  // namespace promwarden::files
