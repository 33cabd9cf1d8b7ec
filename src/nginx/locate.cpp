// Which location serves a URI (ngx_http_core_find_location): the longest prefix, then regular expressions in their order, nested ones first.

#include <algorithm>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

using Match = Level::Match;

bool is_location(const Level& level) { return level.kind == Level::Kind::location; }
bool is_prefix(const Level& level) { return is_location(level) && (level.match == Match::prefix || level.match == Match::preferential); }

constexpr std::string_view passing[] = {"proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"};

/// "/api/" with a proxy behind it answers "/api" by a redirect.
bool redirects(const Level& level) {
    return level.name.ends_with('/') && std::ranges::any_of(passing, [&](std::string_view name) { return !level.own(name).empty(); });
}

constexpr std::string_view methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE", "CONNECT"};

/// Whether limit_except with these words lets a method pass: GET brings HEAD, and a method that nginx does not know is never listed.
bool excepted(const Directive& limit, std::string_view method) {
    if (std::ranges::find(methods, method) == std::end(methods)) return false;
    return std::ranges::any_of(limit.words, [&](const Word& word) { return same(word.text, method) || (method == "HEAD" && same(word.text, "GET")); });
}

}  // namespace

Visit::Found Visit::find_static(const Level& in) {
    const Level *exact = nullptr, *longest = nullptr, *slashed = nullptr;
    for (const auto& each : in.inside) {
        if (!is_location(*each)) continue;
        if (each->match == Match::exact && each->name == uri_ && exact == nullptr) exact = each.get();
        if ((is_prefix(*each) || each->match == Match::exact) && each->name.size() == uri_.size() + 1 && each->name.starts_with(uri_) && redirects(*each)) slashed = each.get();
        if (is_prefix(*each) && uri_.starts_with(each->name) && (longest == nullptr || each->name.size() > longest->name.size())) longest = each.get();
    }
    if (exact != nullptr) {
        level_ = exact;
        return Found::exact;
    }
    const bool same_name = longest != nullptr && longest->name == uri_;
    if (slashed != nullptr && !same_name) {
        level_ = slashed;
        return Found::redirect;
    }
    if (longest == nullptr) return Found::none;
    level_ = longest;
    return Found::prefix;
}

Visit::Found Visit::find(const Level& in) {
    auto found = find_static(in);
    bool no_regex = false;
    if (found == Found::prefix) {
        const auto& prefix = *level_;
        no_regex = prefix.match == Match::preferential;
        found = find(prefix);
        if (found == Found::none) found = Found::prefix;
    }
    if (found == Found::exact || found == Found::redirect || found == Found::stuck) return found;
    if (no_regex) return found;
    for (const auto& each : in.inside) {
        if (!is_location(*each) || each->match != Match::regex) continue;
        bool matched = false;
        if (!match(each->regex.get(), uri_, matched)) return Found::stuck;
        if (!matched) continue;
        level_ = each.get();
        return find(*each) == Found::stuck ? Found::stuck : Found::exact;
    }
    return found;
}

Visit::Ending Visit::find_location() {
    level_ = &server_;
    uri_changed_ = false;
    valid_location_ = true;
    const auto found = find(server_);
    if (found == Found::stuck) return unknown("");
    if (level_ != &server_) step(level_->directive, fmt::format("location {} serves {}", level_->name, uri_));
    if (const auto* internal = level_->setting("internal"); internal != nullptr && !internal_) {
        step(internal, "internal: not for requests from outside");
        return status(404);
    }
    const auto& name = level_->name;
    apply_limit_except();
    if (found == Found::redirect) {
        auto moved = status(301);
        moved.redirect = name + (args_.empty() ? "" : "?" + args_);
        return moved;
    }
    return std::nullopt;
}

void Visit::apply_limit_except() {
    for (const auto& each : level_->inside) {
        if (each->kind != Level::Kind::limit_except || excepted(*each->directive, method_)) continue;
        step(each->directive, fmt::format("limit_except: its block is for {}", method_));
        level_ = each.get();
        return;
    }
}

}  // namespace promwarden::nginx
