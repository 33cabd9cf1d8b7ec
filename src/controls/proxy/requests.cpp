// Who asks, and for what: strangers, roles, and the requests that could reach a block.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden {

namespace proxy {

namespace {

constexpr std::string_view outside = "203.0.113.77";  // RFC 5737: nobody's

/// Includes that set nothing about who may pass, by their names.
constexpr std::string_view harmless_words[] = {"mime", "param", "ssl", "tls", "cert", "letsencrypt", "dhparam", "header", "gzip", "log", "modules", "sites-", "conf.d", "upstream", "cache", "realip", "cloudflare",
                                               "error", "well-known", "acme", "websocket", "upgrade", "proxy", "resolver", "brotli", "general", "performance"};

bool harmless(const Directive& include) {
    const auto path = include.word(0);
    return path.find("auth") == std::string_view::npos && std::ranges::any_of(harmless_words, [&](std::string_view word) { return path.find(word) != std::string_view::npos; });
}

int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1; }

std::string decoded(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const int high = text[i] == '%' && i + 2 < text.size() ? hex(text[i + 1]) : -1, low = high >= 0 ? hex(text[i + 2]) : -1;
        plain += low >= 0 ? static_cast<char>(high * 16 + low) : text[i];
        i += low >= 0 ? 2 : 0;
    }
    return plain;
}

/// Whom the identity provider has before it: as the role says, or nobody in particular.
struct Session {
    std::vector<std::string> groups, addresses;
};

Session session_of(const Policy* policy, std::string_view role) {
    Session session;
    if (policy == nullptr) return session;
    const auto found = policy->access.roles.find(std::string(role));
    if (found == policy->access.roles.end()) return session;
    for (const auto& member : found->second) {
        if (member.starts_with("group:")) session.groups.push_back(member.substr(6));
        else if (member.find('@') != std::string::npos) session.addresses.push_back(member.substr(5));
    }
    return session;
}

/// Whether a parameter of that name, where there is one, names one of these.
bool fits(std::string_view target, std::string_view mark, const std::vector<std::string>& names) {
    auto at = target.find(mark);
    if (at == std::string_view::npos) return true;
    for (; at != std::string_view::npos; at = target.find(mark, at + 1)) {
        const auto value = target.substr(at + mark.size());
        const auto list = decoded(value.substr(0, value.find('&')));
        for (std::size_t from = 0; from <= list.size();) {
            const auto end = std::min(list.find(',', from), list.size());
            if (std::ranges::find(names, list.substr(from, end - from)) != names.end()) return true;
            from = end + 1;
        }
    }
    return false;
}

/// What oauth2-proxy's /oauth2/auth answers: all that is asked for has to be true.
int decide(std::string_view target, const Session& session) { return fits(target, "allowed_groups=", session.groups) && fits(target, "allowed_emails=", session.addresses) ? 202 : 403; }

}  // namespace

Request stranger() {
    Request request;
    request.client = outside;
    request.decide = [](const nginx::Passed&) { return std::optional(401); };  // whatever decides there, it does not know a stranger
    request.exists = [](const std::string&) { return std::optional(false); };
    return request;
}

Request nobody_in_particular() {
    auto request = stranger();
    request.credentials = Request::Credentials::right;
    request.user = "promwarden-nobody";
    request.decide = [](const nginx::Passed& passed) { return std::optional(decide(passed.target, {})); };
    return request;
}

Answer Judge::ask(const Way& way, std::string_view path, Request request) const {
    request.target = path;
    request.server = way.server->level;
    request.tls = std::ranges::any_of(way.server->listens, &nginx::Listen::ssl) || way.server->listens.empty();
    for (const auto& listen : way.server->listens)
        if (listen.ssl == request.tls) request.listener = fmt::format("{}:{}", listen.address, listen.port);
    request.host = "prometheus.invalid";
    for (const auto& name : way.server->names)
        if (name.find_first_of("*$") == std::string::npos && !name.starts_with('.') && !name.empty()) {
            request.host = name;
            break;
        }
    return nginx::evaluate(configuration_, request);
}

std::optional<std::string> Judge::reached(const Answer& answer) const {
    if (answer.kind != Answer::Kind::passed || !answer.passed || !prometheus(answer.passed->authority)) return std::nullopt;
    const std::string_view target = answer.passed->target;
    const auto path = decoded(target.substr(0, target.find('?')));
    for (const auto& way : ways_)
        if (!way.base.empty() && path.starts_with(way.base) && (path.size() == way.base.size() || path[way.base.size()] == '/')) return path.size() == way.base.size() ? "/" : path.substr(way.base.size());
    return path;
}

/// Requests that could reach the block: Prometheus' own paths behind its base, and the block's name.
std::vector<std::string> Judge::targets(const Way& way) const {
    std::vector<std::string> all;
    for (const auto& route : nginx::routes()) all.push_back(way.base + std::string(route.path) + (route.below ? "x" : ""));
    const auto* at = way.level;
    while (at != nullptr && at->kind != Level::Kind::location) at = at->parent;
    if (at != nullptr && at->match != Level::Match::regex && at->match != Level::Match::named && at->name.starts_with('/')) {
        all.push_back(at->name);
        all.push_back(at->name + (at->name.ends_with('/') ? "x" : "/x"));
    }
    return all;
}

bool Judge::exposed(const Way& way) const {
    const auto& listens = way.server->listens;
    return listens.empty() || std::ranges::any_of(listens, [](const nginx::Listen& listen) { return !listen.loopback(); });
}

bool Judge::open_around(const Level& level) const {
    if (configuration_.extent == nginx::Extent::server || configuration_.extent == nginx::Extent::location) return true;
    for (const auto* at = &level; at != nullptr; at = at->parent)
        if (at->missing && at->kind != Level::Kind::http)
            for (const auto* include : at->own("include"))
                if (include->missing && !harmless(*include)) return true;
    return false;
}

}  // namespace proxy

nginx::Request request_of_role(const Policy* policy, std::string_view role) {
    if (role == "none") return proxy::stranger();
    auto request = proxy::stranger();
    request.credentials = nginx::Request::Credentials::right;
    request.user = role;
    if (policy != nullptr)
        if (const auto found = policy->access.roles.find(std::string(role)); found != policy->access.roles.end())
            for (const auto& member : found->second)
                if (member.starts_with("user:")) {
                    request.user = member.substr(5);
                    break;
                }
    request.decide = [session = proxy::session_of(policy, role)](const nginx::Passed& passed) -> std::optional<int> {
        if (passed.target.find("/oauth2/auth") == std::string::npos) return std::nullopt;
        return proxy::decide(passed.target, session);
    };
    return request;
}

}  // namespace promwarden
