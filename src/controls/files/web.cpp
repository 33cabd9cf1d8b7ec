// web.yml: what the server shows its clients, and whom it believes.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

bool given(const Node& node, std::string_view key) {
    const auto* value = node.find(key);
    return value != nullptr && !value->null() && !(value->kind == Node::Kind::scalar && value->text.empty() && !value->templated);
}

void certificate(const Walk& walk, const Node& tls, const Path& path, yaml::Position at) {
    walk.verdicts.touch(Id::server);
    const bool certificate = given(tls, "cert_file") || given(tls, "cert"), key = given(tls, "key_file") || given(tls, "key");
    if (certificate && key) return;
    const auto missing = certificate ? "key_file" : "cert_file";
    walk.verdicts.fail(Id::server, walk.place(path, at), "cert_file and key_file", fmt::format("no {}", missing), fmt::format("add `{}: …` below tls_server_config; Prometheus refuses to start without it", missing));
    walk.verdicts.fail(Id::startable, walk.place(path, at), "a file that Prometheus accepts", fmt::format("tls_server_config without {}", missing), fmt::format("add `{}: …`", missing));
}

void protocol(const Walk& walk, const Node& tls, const Path& path) {
    walk.verdicts.touch(Id::protocol);
    for (const std::string_view key : {"min_version", "max_version"}) {
        const auto* entry = tls.entry(key);
        if (entry == nullptr) continue;
        const Path at = path / key;
        constexpr std::string_view versions[] = {"TLS10", "TLS11", "TLS12", "TLS13"};
        if (written(*entry->value) == Written::literal && std::ranges::find(versions, entry->value->scalar()) == std::end(versions))
            refuse(walk, walk.place(at, entry->at), "a version of TLS that Prometheus does not know", line_with(walk.place(at, entry->at), fmt::format("{}: {}", key, key == "min_version" ? "TLS12" : "TLS13")));
        if (entry->value->scalar() != "TLS10" && entry->value->scalar() != "TLS11") continue;
        walk.verdicts.fail(Id::protocol, walk.place(at, entry->at), "TLS12 or newer", std::string(entry->value->scalar()), line_with(walk.place(at, entry->at), fmt::format("{}: {}", key, key == "min_version" ? "TLS12" : "TLS13")));
    }
    const auto* suites = tls.find("cipher_suites");
    if (suites == nullptr) return;
    const Path at = path / "cipher_suites";
    for (std::size_t i = 0; i < suites->items.size(); ++i) {
        const auto name = suites->items[i]->scalar();
        const bool weak = name.starts_with("TLS_RSA_") || name.find("_RC4_") != std::string_view::npos || name.find("_3DES_") != std::string_view::npos;
        if (!weak) continue;
        walk.verdicts.fail(Id::protocol, walk.place(at[i], suites->items[i]->at), "suites with forward secrecy and an unbroken cipher", prometheus::matches("[A-Z0-9_]{1,64}", std::span(&name, 1))->front() ? std::string(name) : "a weak suite",
                           fmt::format("remove line {}; without cipher_suites Go's own choice is used", in_file(walk.document, suites->items[i]->at).line));
    }
}

void client_auth(const Walk& walk, const Node& tls, const Path& path) {
    const auto* type = tls.entry("client_auth_type");
    const bool authority = given(tls, "client_ca_file") || given(tls, "client_ca");
    const bool required = walk.options.policy != nullptr && walk.options.policy->tls.require_client_certificate;
    const auto name = type == nullptr ? std::string_view{} : type->value->scalar();
    const Path at = path / "client_auth_type";
    if (type != nullptr && written(*type->value) != Written::literal && !name.empty()) return walk.verdicts.undecided(Id::client_auth, walk.place(at, type->at), "it is filled in later");
    if (name == "RequireAndVerifyClientCert") {
        walk.verdicts.touch(Id::client_auth);
        if (!authority)
            walk.verdicts.fail(Id::client_auth, walk.place(at, type->at), "client_ca_file with your own authority", "no client_ca_file: a certificate of any authority that the system trusts is let in",
                               "add `client_ca_file: …` beside this line");
        return;
    }
    if (name.empty() || name == "NoClientCert") {
        if (authority) {
            const auto* ca = tls.entry("client_ca_file") != nullptr ? tls.entry("client_ca_file") : tls.entry("client_ca");
            const Path ca_path = path / ca->key;
            const Place place = walk.place(ca_path, ca->at);
            walk.verdicts.fail(Id::client_auth, place, "client_auth_type: RequireAndVerifyClientCert", "an authority for client certificates that nobody is asked for", "add `client_auth_type: RequireAndVerifyClientCert`");
            walk.verdicts.fail(Id::startable, place, "a file that Prometheus accepts", "client_ca_file without client_auth_type: Prometheus refuses to start", "add `client_auth_type: RequireAndVerifyClientCert`");
        } else if (required) {
            walk.verdicts.fail(Id::client_auth, walk.place(type == nullptr ? path : at, type == nullptr ? tls.at : type->at), "RequireAndVerifyClientCert, as the policy demands", type == nullptr ? "no client_auth_type" : "NoClientCert",
                               "add `client_auth_type: RequireAndVerifyClientCert` and `client_ca_file: …`");
        }
        return;
    }
    constexpr std::string_view known[] = {"RequestClientCert", "RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven"};
    const bool is_known = std::ranges::find(known, name) != std::end(known);
    walk.verdicts.fail(Id::client_auth, walk.place(at, type->at), "RequireAndVerifyClientCert, the only value that authenticates", is_known ? std::string(name) : "a value that Prometheus does not know",
                       line_with(walk.place(at, type->at), "client_auth_type: RequireAndVerifyClientCert"));
    if (!is_known)
        walk.verdicts.fail(Id::startable, walk.place(at, type->at), "one of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert", "another value: Prometheus refuses to start",
                           line_with(walk.place(at, type->at), "client_auth_type: RequireAndVerifyClientCert"));
}

/// The cost of a bcrypt hash as Go's library reads it; nullopt for anything else.
std::optional<int> bcrypt_cost(std::string_view hash) {
    if (hash.size() != 60 || !hash.starts_with("$2") || hash[3] != '$' || hash[6] != '$' || std::string_view("abxy").find(hash[2]) == std::string_view::npos) return std::nullopt;
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (!digit(hash[4]) || !digit(hash[5])) return std::nullopt;
    const bool alphabet = std::ranges::all_of(hash.substr(7), [&](char c) { return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '/'; });
    const int cost = (hash[4] - '0') * 10 + (hash[5] - '0');
    if (!alphabet || cost < 4 || cost > 31) return std::nullopt;
    return cost;
}

void users(const Walk& walk, const Node& users, const Path& path) {
    for (const auto& user : users.entries) {
        const Path at = path / user.key;
        const Place place = walk.place(at, user.at);
        walk.verdicts.touch(Id::password_hashes);
        const auto how = written(*user.value);
        if (how == Written::filled_later || how == Written::variable) {
            walk.verdicts.undecided(Id::password_hashes, place, "the hash is filled in later");
            continue;
        }
        if (how == Written::redacted) {
            walk.verdicts.fail(Id::redacted_literal, place, "the hash", "a mask in its place", "put the hash back");
            continue;
        }
        const auto cost = bcrypt_cost(user.value->scalar());
        const auto advice = fmt::format("line {}: make a new hash with `htpasswd -nBC 12 {}`", in_file(walk.document, user.at).line, show_key(user.key));
        if (!cost) {
            walk.verdicts.fail(Id::password_hashes, place, "a bcrypt hash", "not a bcrypt hash", advice);
            walk.verdicts.fail(Id::startable, place, "a bcrypt hash", "not a bcrypt hash: Prometheus refuses to start", advice);
        } else if (*cost < 10 || *cost > 14) {
            walk.verdicts.fail(Id::password_hashes, place, "cost 10 to 14", fmt::format("cost {}, {}", *cost, *cost < 10 ? "cheap to guess" : "seconds of CPU for every new connection"), advice);
        }
    }
}

}  // namespace

void web(const Walk& walk, const Node& root, const Path& path) {
    if (const auto* tls = root.entry("tls_server_config"); tls != nullptr && tls->value->kind == Node::Kind::mapping) {
        const Path at = path / "tls_server_config";
        certificate(walk, *tls->value, at, tls->at);
        protocol(walk, *tls->value, at);
        client_auth(walk, *tls->value, at);
    } else if (const auto* users_entry = root.entry("basic_auth_users"); users_entry != nullptr && !users_entry->value->entries.empty()) {
        const Path at = path / "basic_auth_users";
        walk.verdicts.undecided(Id::server, walk.place(at, users_entry->at), "passwords without TLS here are only safe on a loopback listener, and this file does not say where Prometheus listens");
    }
    if (const auto* all = root.find("basic_auth_users"); all != nullptr) users(walk, *all, path / "basic_auth_users");
}

}  // namespace promwarden::files
