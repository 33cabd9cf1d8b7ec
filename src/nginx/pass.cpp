// What an upstream receives (ngx_http_proxy_module): the target by the rules of proxy_pass, headers by those of proxy_set_header.

#include <algorithm>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

/// What nginx sets where a configuration does not: an empty value keeps the client's from passing.
constexpr std::pair<std::string_view, std::string_view> defaults[] = {
    {"Host", "$proxy_host"}, {"Connection", "close"}, {"Content-Length", ""}, {"Transfer-Encoding", ""}, {"TE", ""}, {"Keep-Alive", ""}, {"Expect", ""}, {"Upgrade", ""},
};

constexpr std::string_view handlers[] = {"proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"};

/// nginx drops header names with anything else in them (underscores_in_headers off).
bool good_name(std::string_view name) {
    return !name.empty() && std::ranges::all_of(name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'; });
}

struct Url {
    std::string scheme, authority, rest;
};

std::optional<Url> url_of(std::string_view text) {
    const auto mark = text.find("://");
    if (mark == std::string_view::npos) return std::nullopt;
    Url url{std::string(text.substr(0, mark)), {}, {}};
    text.remove_prefix(mark + 3);
    if (text.starts_with("unix:")) {  // "http://unix:/run/x.sock:/path"
        const auto end = text.find(':', 5);
        url.authority = text.substr(0, end);
        url.rest = end == std::string_view::npos ? "" : text.substr(end + 1);
        return url;
    }
    const auto end = text.find_first_of("/?");
    url.authority = text.substr(0, end);
    url.rest = end == std::string_view::npos ? "" : text.substr(end);
    return url;
}

}  // namespace

/// The directive that makes the answer: of this block, or of the location around an "if" or limit_except.
const Directive* Visit::handler() const {
    for (const auto* at = level_; at != nullptr; at = at->parent) {
        for (const auto name : handlers)
            if (const auto found = at->own(name); !found.empty()) return found.back();
        if (at->kind == Level::Kind::location || at->kind == Level::Kind::server) break;
    }
    return nullptr;
}

std::optional<Passed> Visit::passed_to(const Directive& directive) {
    const auto written = directive.word(0);
    const bool variables = written.find('$') != std::string_view::npos;
    const auto text = expand(written);
    if (!text) return std::nullopt;
    auto url = url_of(*text);
    if (!url) {
        unknown(fmt::format("{} names no address", directive.name));
        return std::nullopt;
    }
    Passed passed{&directive, url->scheme, url->authority, method_, {}, {}};
    if (url->rest.starts_with('?')) url->rest.insert(0, "/");
    if (variables && !url->rest.empty()) {
        passed.target = url->rest;
        return passed;
    }
    if (url->rest.empty() && valid_unparsed_) {
        passed.target = shared_.target.raw;
        return passed;
    }
    const auto* location = level_;
    while (location->kind != Level::Kind::location && location->parent != nullptr) location = location->parent;
    const bool replaces = !url->rest.empty() && valid_location_ && location->kind == Level::Kind::location && location->match != Level::Match::regex && location->match != Level::Match::named;
    const auto length = replaces ? std::min(location->name.size(), uri_.size()) : 0;
    const auto rest = std::string_view(uri_).substr(length);
    passed.target = url->rest + (quoted_ || internal_ ? escape_path(rest) : std::string(rest)) + (args_.empty() ? "" : "?" + args_);
    return passed;
}

bool Visit::pass_headers(Passed& passed) {
    std::vector<Header> set;
    std::string host = passed.authority;
    if (host.starts_with("unix:")) host = "localhost";
    if (const std::string_view port = passed.scheme == "https" ? ":443" : ":80"; host.ends_with(port)) host.resize(host.size() - port.size());
    shared_.values["proxy_host"] = host;
    const auto add = [&](std::string_view name, std::string_view value) {
        const auto held = expand(value);
        set.push_back({std::string(name), held.value_or("")});
        return held.has_value();
    };
    const auto written = level_->nearest("proxy_set_header");
    for (const auto* each : written)
        if (!add(each->word(0), each->word(1))) return false;
    for (const auto& [name, value] : defaults)
        if (std::ranges::none_of(written, [&](const Directive* each) { return same(each->word(0), name); }) && !add(name, value)) return false;
    const auto* all = level_->setting("proxy_pass_request_headers");
    for (const auto& each : set)
        if (!each.value.empty()) passed.headers.push_back(each);
    if (all != nullptr && all->word(0) == "off") return true;
    for (const auto& each : shared_.request.headers)
        if (good_name(each.name) && std::ranges::none_of(set, [&](const Header& header) { return same(header.name, each.name); })) passed.headers.push_back(each);
    return true;
}

Outcome Visit::pass(const Directive& directive) {
    if (directive.name != "proxy_pass") return {Answer::Kind::passed, 0, {}, Passed{&directive, std::string(directive.name.substr(0, directive.name.find('_'))), std::string(directive.word(0)), method_, uri_, {}}, true};
    auto passed = passed_to(directive);
    if (!passed) return unknown("");
    if (const auto* method = level_->setting("proxy_method")) {
        const auto held = expand(method->word(0));
        if (!held) return unknown("");
        passed->method = *held;
    }
    if (!pass_headers(*passed)) return unknown("");
    step(&directive, fmt::format("{} {} {}", directive.name, passed->authority, passed->target));
    return {Answer::Kind::passed, 0, {}, std::move(passed), true};
}

}  // namespace promwarden::nginx
