// TLS in front of the proxy and behind it.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::proxy {

namespace {

constexpr std::string_view old_protocols[] = {"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"};
constexpr std::string_view weak_ciphers[] = {"RC4", "DES", "MD5", "NULL", "EXP", "ADH", "AECDH", "LOW"};

bool speaks_tls(const nginx::Server& server, const nginx::Listen& listen) {
    const auto* old = server.level->setting("ssl");  // before 1.25.1: "ssl on" for all listeners
    return listen.ssl || (old != nullptr && old->word(0) == "on");
}

bool is_redirect(const Answer& answer) {
    return answer.kind == Answer::Kind::status && answer.status >= 301 && answer.status <= 308 && answer.redirect.starts_with("https://");
}

/// The first cipher of a list that is weak and not excluded.
std::string weak_cipher(std::string_view list) {
    while (!list.empty()) {
        const auto end = std::min(list.find_first_of(": ,"), list.size());
        const auto name = list.substr(0, end);
        if (!name.empty() && name[0] != '!' && name[0] != '-' && name[0] != '+' && name != "@SECLEVEL")
            for (const auto word : weak_ciphers)
                if (name.find(word) != std::string_view::npos && name.find("SECLEVEL") == std::string_view::npos) return std::string(name);
        list.remove_prefix(std::min(end + 1, list.size()));
    }
    return {};
}

bool is_loopback(std::string_view authority) {
    const auto host = authority.starts_with('[') ? authority.substr(1, authority.find(']') - 1) : authority.substr(0, authority.find(':'));
    const auto address = parse_address(host);
    if (authority.starts_with("unix:") || host == "localhost") return true;
    return address && (address->family == Family::ip4 ? address->bytes[0] == 127 : to_text(*address) == "::1");
}

}  // namespace

void Judge::listeners() {
    std::set<const nginx::Server*> seen;
    for (const auto& way : ways_) {
        if (!seen.insert(way.server).second) continue;
        const auto& server = *way.server;
        if (server.listens.empty()) {
            for (const auto id : {Id::tls_only, Id::server}) undecided(id, *way.level, way.pass, "where this is listened to is in another file");
            continue;
        }
        std::vector<const nginx::Listen*> plain;
        bool tls = false;
        for (const auto& listen : server.listens) {
            for (const auto id : {Id::tls_only, Id::server}) touch(id);
            tls = tls || speaks_tls(server, listen);
            if (listen.loopback() || speaks_tls(server, listen)) continue;
            if (listen.text.find_first_of("${") != std::string::npos) {
                for (const auto id : {Id::tls_only, Id::server}) undecided(id, *server.level, listen.directive, "what this listens on is filled in later");
                continue;
            }
            auto request = nobody_in_particular();
            request.decide = [](const nginx::Passed&) { return std::optional(202); };
            request.server = server.level;
            request.host = server.names.empty() || server.names.front().find_first_of("*$") != std::string::npos || server.names.front().empty() ? "prometheus.invalid" : server.names.front();
            request.listener = fmt::format("{}:{}", listen.address, listen.port);
            request.target = way.base + "/api/v1/query";
            const auto answer = nginx::evaluate(configuration_, request);
            if (is_redirect(answer)) continue;
            if (answer.kind == Answer::Kind::unknown) undecided(Id::tls_only, *server.level, listen.directive, answer.reason);
            else if (reached(answer) || (answer.kind == Answer::Kind::status && answer.status == 401)) plain.push_back(&listen);
        }
        for (const auto* listen : plain)
            fail(Id::tls_only, *server.level, listen->directive, "TLS, or a redirect to https", fmt::format("Prometheus is served without TLS on {}: passwords and answers can be read on the way", listen->text),
                 "add 'ssl' here and a certificate, or answer on this port with 'return 301 https://$host$request_uri;' only");
        if (!plain.empty() && !tls)
            fail(Id::server, *server.level, plain.front()->directive, "a listener with TLS", "no listener of this server speaks TLS", "listen 443 ssl; with ssl_certificate and ssl_certificate_key");
    }
}

void Judge::protocols() {
    const bool strict = options_.policy != nullptr && options_.policy->tls.min_version == "1.3";
    for (const auto& way : ways_) {
        const bool tls = std::ranges::any_of(way.server->listens, [&](const nginx::Listen& listen) { return speaks_tls(*way.server, listen); });
        if (!tls && !way.server->listens.empty()) continue;
        const auto* protocols = way.server->level->setting("ssl_protocols");
        const auto* ciphers = way.server->level->setting("ssl_ciphers");
        if (protocols != nullptr) {
            touch(Id::protocol);
            for (const auto& word : protocols->words)
                if (std::ranges::find(old_protocols, word.text) != std::end(old_protocols) || (strict && word.text == "TLSv1.2"))
                    fail(Id::protocol, *way.server->level, protocols, strict ? "TLSv1.3" : "TLSv1.2 TLSv1.3", word.text, strict ? "write 'ssl_protocols TLSv1.3;'" : "write 'ssl_protocols TLSv1.2 TLSv1.3;'");
        }
        if (ciphers == nullptr) continue;
        touch(Id::protocol);
        if (const auto weak = weak_cipher(ciphers->word(0)); !weak.empty())
            fail(Id::protocol, *way.server->level, ciphers, "ciphers with authenticated encryption", fmt::format("{} is weak", weak), "remove it, or the whole line: the defaults are sound");
    }
}

void Judge::upstream_tls() {
    for (const auto& way : ways_) {
        if (!way.pass->word(0).starts_with("https://")) continue;
        const auto* verify = way.level->setting("proxy_ssl_verify");
        if (is_loopback(way.authority) || (verify != nullptr && verify->word(0) == "on")) touch(Id::other_clients);
        else if (verify != nullptr)
            fail(Id::other_clients, *way.level, verify, "proxy_ssl_verify on", "the backend's certificate is not verified: whoever is on the way can be the backend", "write 'proxy_ssl_verify on;' with proxy_ssl_trusted_certificate and proxy_ssl_name");
        else if (options_.policy != nullptr && !open_around(*way.level))
            fail(Id::other_clients, *way.level, way.pass, "proxy_ssl_verify on", "nginx does not verify a backend's certificate unless told to", "add 'proxy_ssl_verify on;' with proxy_ssl_trusted_certificate and proxy_ssl_name");
    }
}

}  // namespace promwarden::proxy
