// The proxies that run on this host → decisions of the catalogue's controls.

#include <algorithm>

#include <fmt/format.h>

#include "families.hpp"
#include "promwarden/flags.hpp"
#include "promwarden/site.hpp"

namespace promwarden {

namespace {

std::vector<std::string> backends_of(const Policy& policy, const Facts& facts) {
    std::vector<std::string> backends;
    const auto add = [&](const Endpoint& endpoint) {
        const auto any = to_text(endpoint.address);
        backends.push_back(any == "0.0.0.0" ? fmt::format("127.0.0.1:{}", endpoint.port) : any == "::" ? fmt::format("[::1]:{}", endpoint.port) : to_text(endpoint));
    };
    for (const auto& endpoint : policy.prometheus.listen) add(endpoint);
    if (facts.servers)
        for (const auto& server : *facts.servers)
            for (const auto& listener : server.listeners) add(listener.endpoint);
    return backends;
}

SiteOptions options_of(std::string_view control, const Policy& policy, const Facts& facts) {
    SiteOptions options;
    options.policy = &policy;
    options.only = {std::string(control)};
    options.backends = backends_of(policy, facts);
    if (facts.servers && !facts.servers->empty()) options.version = prometheus::version_of(facts.servers->front().version);
    return options;
}

Decision judge_server(std::string_view control, const ProxyServer& server, const Policy& policy, const Facts& facts) {
    const auto configuration = nginx::compile(nginx::read(server));
    auto decisions = judge_site(*configuration, options_of(control, policy, facts));
    if (decisions.empty()) return not_applicable("the proxy's configuration says nothing about this");
    auto decision = std::move(decisions.front().decision);
    if (!server.newer.empty() && decision.verdict != Verdict::not_applicable) decision.reason += fmt::format(" ({} was written after nginx loaded its configuration: it may still run an older one)", server.newer);
    return decision;
}

Decision on_identity(std::string_view control, const Policy& policy, const Facts& facts) {
    const auto& identity = facts.proxy->identity;
    if (!identity) return not_applicable("the policy names no identity provider");
    if (identity->problem) return unknown(*identity->problem);
    auto decisions = judge_identity(identity->path, *identity->text, options_of(control, policy, facts), facts.now);
    return decisions.empty() ? not_applicable("nothing to judge") : std::move(decisions.front().decision);
}

// ---- password files -------------------------------------------------------------------------------------------------

using Scheme = PasswordLine::Scheme;

/// What is wrong with how a line was made; "" for nothing.
std::string weakness(const PasswordLine& line) {
    constexpr unsigned most_cost = 8;
    switch (line.scheme) {
        case Scheme::plain: return "the password itself";
        case Scheme::des: return "DES, which looks at eight characters only";
        case Scheme::md5: return "MD5";
        case Scheme::sha1: return "SHA-1 without salt";
        case Scheme::salted_sha1: return "SHA-1";
        case Scheme::bcrypt: return line.cost > most_cost ? fmt::format("bcrypt of cost {}, which holds a worker of nginx for every request", line.cost) : "";
        case Scheme::other: return "nothing that nginx can check";
        default: return "";
    }
}

void judge_file(const PasswordFile& file, std::vector<Finding>& findings) {
    const auto add = [&](std::uint32_t line, std::string expected, std::string observed, std::string remedy) {
        findings.push_back({file.path, std::move(expected), std::move(observed), Location{file.path, line, 1, ""}, Evidence::config, {false, std::move(remedy)}});
    };
    if (file.owner != 0) add(1, "owner root", fmt::format("owner uid {}", file.owner), fmt::format("chown root {}", file.path));
    if ((file.mode & 0027) != 0) add(1, "mode 0640 at most", fmt::format("mode {:04o}", file.mode), fmt::format("chmod 0640 {}", file.path));
    if (file.lines.empty()) add(1, "users", "no user: nobody can sign in", "promwarden access user add NAME");
    std::vector<std::string_view> seen;
    for (const auto& line : file.lines) {
        if (const auto weak = weakness(line); !weak.empty()) add(line.line, "salted SHA-512 ($6$)", weak, "set the password anew: promwarden access user add, or openssl passwd -6");
        if (std::ranges::find(seen, line.user) != seen.end()) add(line.line, "one line a user", "a user comes twice: only the first line counts", "remove one of them");
        seen.push_back(line.user);
    }
}

}  // namespace

Decision decide_proxy_passwords(const Policy& policy, const Facts& facts) {
    if (!facts.proxy) return unknown(facts.proxy.error());
    Decision decision{Verdict::not_applicable, "no password file decides about a route to Prometheus", {}};
    for (const auto& server : facts.proxy->servers) {
        const auto configuration = nginx::compile(nginx::read(server));
        for (const auto& path : password_files(*configuration, options_of("proxy.htpasswd", policy, facts))) {
            const auto absolute = path.starts_with('/') ? path : fmt::format("{}/{}", server.prefix, path);
            const auto file = std::ranges::find(server.passwords, absolute, &PasswordFile::path);
            if (file == server.passwords.end()) return {Verdict::unknown, fmt::format("{} was not looked at", absolute), {}};
            if (file->problem && file->problem->code != Code::missing) return unknown(*file->problem);
            if (decision.verdict == Verdict::not_applicable) decision = {Verdict::pass, "the password file is closed and its hashes are sound", {}};
            if (file->problem)
                decision.findings.push_back({absolute, "a password file", "missing: nobody can sign in", Location{absolute, 1, 1, ""}, Evidence::config, {false, "promwarden access user add NAME"}});
            else judge_file(*file, decision.findings);
        }
    }
    if (!decision.findings.empty()) {
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("{} place{} in password files", decision.findings.size(), decision.findings.size() == 1 ? "" : "s");
    }
    return decision;
}

Decision proxy_part(std::string_view control, const Policy& policy, const Facts& facts) {
    if (!facts.root.empty()) return not_applicable("the proxy of a mounted image is not looked at: lint reads its files");
    if (!facts.proxy) return unknown(facts.proxy.error());
    if (control == "access.identity-provider" || control == "access.mfa") return on_identity(control, policy, facts);
    if (facts.proxy->servers.empty()) return not_applicable("no nginx that root started runs on this host");
    std::vector<Decision> parts;
    for (const auto& server : facts.proxy->servers) parts.push_back(judge_server(control, server, policy, facts));
    return merge(parts);
}

}  // namespace promwarden
