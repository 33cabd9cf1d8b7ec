// Live parts: who was let in, and over which transport.

#include <algorithm>

#include <fmt/format.h>

#include "live_common.hpp"

namespace promwarden {

namespace {

using live::Asker;
using live::End;
using live::Handshake;
using live::TlsVersion;

constexpr auto authenticate = "basic_auth_users or client certificates in web.yml, or a proxy that asks and local_users that keep others from the port behind it";

bool redirects_to_https(const live::Answer& answer) { return answer.status >= 300 && answer.status < 400 && answer.location.starts_with("https://"); }

/// Where an identity proxy sends whoever has no session.
bool signs_in(const live::Answer& answer) { return answer.status >= 300 && answer.status < 400 && answer.location.contains("/oauth2/"); }

std::vector<const live::Answer*> entries(const live::Endpoint& endpoint, Asker asker) {
    std::vector<const live::Answer*> found;
    for (const auto& answer : endpoint.answers)
        if (answer.asker == asker && let_in(endpoint, answer)) found.push_back(&answer);
    return found;
}

/// The most telling of them: what shows the configuration, before what shows less.
const live::Answer& worst(const std::vector<const live::Answer*>& answers) {
    const auto config = std::ranges::find_if(answers, [](const live::Answer* answer) { return answer->path == "/api/v1/status/config" && answer->status == 200; });
    const auto read = std::ranges::find_if(answers, [](const live::Answer* answer) { return answer->status == 200; });
    return **(config != answers.end() ? config : read != answers.end() ? read : answers.begin());
}

std::string more_than(std::size_t count) { return count < 2 ? "" : fmt::format(", and {} other request{} got an answer", count - 1, count == 2 ? "" : "s"); }

/// The handshake of that version reached the point where certificates are judged.
bool speaks(const Handshake& shaken) {
    constexpr int bad_certificate = 42, certificate_required = 116;
    return !shaken.cipher.empty() || shaken.alert == bad_certificate || shaken.alert == certificate_required;
}

/// Whether the client got behind the certificate check. nginx lets everybody finish the handshake and refuses with 400.
bool let_through(const Handshake& shaken) { return shaken.end == End::answered && shaken.status != 400; }

bool is_weak(std::string_view cipher) {
    constexpr std::array<std::string_view, 6> weak{"RC4", "DES-CBC3", "NULL", "EXP", "MD5", "ADH"};
    return std::ranges::any_of(weak, [&](std::string_view word) { return cipher.contains(word); });
}

}  // namespace

// ---- what every part needs ------------------------------------------------------------------------------------------

Finding live_finding(std::string subject, std::string expected, std::string observed, std::string remedy, bool automatic, std::string about) {
    Finding finding;
    finding.subject = std::move(subject);
    finding.expected = std::move(expected);
    finding.observed = std::move(observed);
    finding.evidence = Evidence::live;
    finding.remedy = {automatic, std::move(remedy)};
    finding.about = std::move(about);
    return finding;
}

std::expected<LiveEvidence, Decision> live_evidence(const Facts& facts, const std::function<bool(const live::Endpoint&)>& concerned) {
    if (!facts.live) return std::unexpected(not_applicable("no endpoint was asked"));
    if (!*facts.live) return std::unexpected(unknown(facts.live->error()));
    LiveEvidence evidence{**facts.live, {}};
    Decision foreign{Verdict::fail, {}, {}};
    std::string hidden;
    for (const auto& endpoint : evidence.facts.endpoints) {
        if (!concerned(endpoint)) continue;
        if (endpoint.holder.empty()) {
            evidence.endpoints.emplace_back(endpoint);
            continue;
        }
        if (endpoint.hidden) {
            hidden = fmt::format("{} is held by {}: only root can see whether that is {}", to_text(endpoint.asked), endpoint.holder, endpoint.proxy ? "the proxy" : "Prometheus");
            continue;
        }
        foreign.reason = fmt::format("{} is held by {}: what it answers says nothing about Prometheus", to_text(endpoint.asked), endpoint.holder);
        foreign.findings.push_back(live_finding(to_text(endpoint.asked), endpoint.proxy ? "held by the proxy" : "held by Prometheus' unit", "held by " + endpoint.holder,
                                                "find out what it is and stop it, or give Prometheus another port"));
    }
    if (!foreign.findings.empty()) return std::unexpected(std::move(foreign));
    if (!hidden.empty()) return std::unexpected(Decision{Verdict::unknown, std::move(hidden), {}});
    if (evidence.endpoints.empty()) return std::unexpected(not_applicable("no endpoint that it is about was found"));
    return evidence;
}

Decision nobody_let_in(const live::Facts& facts) {
    constexpr std::string_view reason = "the server let nobody in to ask for its flags";
    if (!facts.credential_problem.empty()) return not_applicable(fmt::format("{}; the probe's own user could not be tried: {}", reason, facts.credential_problem));
    return not_applicable(fmt::format("{}{}", reason, facts.has_user ? "" : "; [prometheus.probe] names a user for that"));
}

bool is_loopback(const Address& address) {
    if (address.family == Family::ip4) return address.bytes[0] == 127;
    return address == parse_address("::1");
}

bool closed_to_others(const Policy& policy, const Facts& facts, const live::Endpoint& endpoint) {
    if (!is_loopback(endpoint.listener.address) || !facts.firewall || !facts.firewall->live) return false;
    uid_t stranger = 65533;
    const auto named = [&](uid_t uid) {
        return facts.probe_user == uid || std::ranges::any_of(policy.firewall.services, [&](const Service& service) {
                   return service.local_users && std::ranges::find(*service.local_users, uid, &Account::id) != service.local_users->end();
               });
    };
    while (named(stranger)) --stranger;
    return !firewall::trace(*facts.firewall->live, {endpoint.asked.address, endpoint.asked.address, endpoint.asked.port, Protocol::tcp, true, stranger}).passes;
}

bool let_in(const live::Endpoint& endpoint, const live::Answer& answer) {
    constexpr std::array<int, 5> refusals{400, 401, 403, 404, 405};
    if (answer.end != End::answered || std::ranges::find(refusals, answer.status) != refusals.end()) return false;
    if (!endpoint.proxy) return true;
    return answer.status < 500 && !signs_in(answer) && !redirects_to_https(answer);  // a proxy's own errors let nobody in
}

const live::Answer* find_answer(const live::Endpoint& endpoint, Asker asker, std::string_view method, std::string_view path) {
    for (const auto& answer : endpoint.answers)
        if (answer.asker == asker && answer.method == method && answer.path == path) return &answer;
    return nullptr;
}

// ---- the parts ------------------------------------------------------------------------------------------------------

Decision live_listen_address(const Policy& policy, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint& endpoint) { return !endpoint.proxy; });
    if (!evidence) return evidence.error();
    if (policy.prometheus.listen.empty()) return not_applicable("the policy does not say where Prometheus listens");
    if (!evidence->facts.status || !evidence->facts.status->flags.contains("web.listen-address")) return nobody_let_in(evidence->facts);
    Decision decision{Verdict::pass, "the running server names only addresses of the policy", {}};
    auto flag = std::string_view(evidence->facts.status->flags.at("web.listen-address"));
    if (flag.starts_with("[") && flag.ends_with("]") && flag.find(' ') != std::string_view::npos) flag = flag.substr(1, flag.size() - 2);  // several, as Go prints a list
    for (std::size_t from = 0; from <= flag.size();) {
        const auto end = std::min(flag.find(' ', from), flag.size());
        const auto one = flag.substr(from, end - from);
        from = end + 1;
        const auto endpoint = parse_endpoint(one);
        if (endpoint && std::ranges::find(policy.prometheus.listen, *endpoint) != policy.prometheus.listen.end()) continue;
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("the running server was told to listen on {}", one);
        decision.findings.push_back(live_finding("--web.listen-address", "an address of prometheus.listen", std::string(one), "start Prometheus with an address of the policy", true, fmt::format("port {}", one.substr(one.rfind(':') + 1))));
    }
    return decision;
}

Decision live_authentication(const Policy& policy, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint&) { return true; });
    if (!evidence) return evidence.error();
    Decision decision{Verdict::pass, {}, {}};
    std::size_t asked = 0, guarded = 0;
    for (const live::Endpoint& endpoint : evidence->endpoints) {
        asked += static_cast<std::size_t>(std::ranges::count_if(endpoint.answers, [](const live::Answer& answer) { return answer.end == End::answered || answer.end == End::handshake; }));
        if (closed_to_others(policy, facts, endpoint)) {
            ++guarded;
            continue;
        }
        for (const auto asker : {Asker::stranger, Asker::wrong_password}) {
            const auto entered = entries(endpoint, asker);
            if (entered.empty() || (asker == Asker::wrong_password && !decision.findings.empty())) continue;
            const auto& first = worst(entered);
            decision.findings.push_back(live_finding(to_text(endpoint.asked), "401 or 403 for whoever has no credentials",
                                                     fmt::format("{} got {} for {} {}{}", to_text(asker), first.status, first.method, first.path, more_than(entered.size())), authenticate));
        }
    }
    if (!decision.findings.empty()) {
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    } else if (asked == 0 && guarded < evidence->endpoints.size()) {
        return {Verdict::unknown, "no request of a stranger got any answer", {}};
    } else {
        decision.reason = fmt::format("a stranger was refused everywhere: {} requests to {} endpoint{}{}", asked, evidence->endpoints.size(), evidence->endpoints.size() == 1 ? "" : "s",
                                      guarded == 0 ? "" : "; over loopback the packet filter keeps others away");
    }
    return decision;
}

Decision live_tls_server(const Policy& /*policy*/, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint& endpoint) { return !is_loopback(endpoint.listener.address); });
    if (!evidence) return evidence.error();
    Decision decision{Verdict::pass, "every listener that is not loopback speaks TLS only", {}};
    for (const live::Endpoint& endpoint : evidence->endpoints) {
        const auto* hello = find_answer(endpoint, Asker::stranger, "GET", "/-/healthy");
        const bool only_redirects = endpoint.proxy && hello != nullptr && !hello->tls && redirects_to_https(*hello);
        if (endpoint.plain.value_or(false) && !only_redirects) {
            decision.findings.push_back(live_finding(to_text(endpoint.listener), "TLS only", endpoint.tls.value_or(false) ? "answers plain HTTP, too" : "answers plain HTTP, no TLS",
                                                     endpoint.proxy ? "listen with ssl, and redirect from http" : "tls_server_config in web.yml", false, endpoint.proxy ? "" : "plain HTTP"));
        } else if (!endpoint.plain && !endpoint.tls && decision.verdict == Verdict::pass) {
            decision = {Verdict::unknown, fmt::format("{} gave no answer", to_text(endpoint.asked)), std::move(decision.findings)};
        }
    }
    if (!decision.findings.empty()) {
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("{} {}", decision.findings.front().subject, decision.findings.front().observed);
    }
    return decision;
}

Decision live_tls_protocol(const Policy& policy, const Facts& facts) {
    const auto evidence = live_evidence(facts, [](const live::Endpoint& endpoint) { return !endpoint.holder.empty() || endpoint.tls.value_or(false); });
    if (!evidence) return evidence.error();
    const auto lowest = policy.tls.min_version == "1.3" ? TlsVersion::tls_1_3 : TlsVersion::tls_1_2;
    Decision decision{Verdict::pass, fmt::format("no handshake below TLS {} was accepted", live::to_text(lowest)), {}};
    bool tried = false;
    for (const live::Endpoint& endpoint : evidence->endpoints)
        for (const auto& shaken : endpoint.handshakes) {
            if (shaken.certificate != Handshake::Certificate::none) continue;
            tried = tried || shaken.end != End::timeout;
            if (!speaks(shaken)) continue;
            const auto version = fmt::format("TLS {}", live::to_text(shaken.version));
            if (shaken.version < lowest)
                decision.findings.push_back(live_finding(to_text(endpoint.asked), fmt::format("TLS {} or newer", live::to_text(lowest)), version + " was accepted",
                                                         endpoint.proxy ? "ssl_protocols TLSv1.2 TLSv1.3;" : fmt::format("min_version: TLS{} in tls_server_config", lowest == TlsVersion::tls_1_3 ? "13" : "12")));
            else if (is_weak(shaken.cipher))
                decision.findings.push_back(live_finding(to_text(endpoint.asked), "a sound cipher", fmt::format("{} with {}", version, shaken.cipher), "take it out of cipher_suites or ssl_ciphers"));
        }
    if (!tried) return {Verdict::unknown, "no handshake got an answer", {}};
    if (decision.findings.empty()) return decision;
    decision.verdict = Verdict::fail;
    decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    return decision;
}

Decision live_client_auth(const Policy& policy, const Facts& facts) {
    if (!policy.tls.require_client_certificate) return not_applicable("the policy asks for no client certificates (tls.client_auth)");
    const auto evidence = live_evidence(facts, [](const live::Endpoint& endpoint) { return !endpoint.proxy; });
    if (!evidence) return evidence.error();
    constexpr auto remedy = "client_auth_type: RequireAndVerifyClientCert and client_ca_file in tls_server_config";
    Decision decision{Verdict::pass, "without a certificate of its authority nobody is let in", {}};
    std::size_t refused = 0;
    for (const live::Endpoint& endpoint : evidence->endpoints) {
        const auto subject = to_text(endpoint.asked);
        if (!endpoint.tls.value_or(false) && endpoint.plain.value_or(false)) decision.findings.push_back(live_finding(subject, "TLS with client certificates", "plain HTTP", remedy));
        for (const auto& shaken : endpoint.handshakes) {
            if (shaken.certificate == Handshake::Certificate::own) continue;
            refused += shaken.end == End::handshake || shaken.status == 400;
            if (!let_through(shaken)) continue;
            const bool none = shaken.certificate == Handshake::Certificate::none;
            decision.findings.push_back(live_finding(subject, "a refusal", fmt::format("TLS {}: a client {} was let in", live::to_text(shaken.version), none ? "without a certificate" : "with a certificate that no authority signed"), remedy));
        }
    }
    if (decision.findings.empty()) return refused > 0 ? decision : Decision{Verdict::unknown, "no handshake got an answer", {}};
    decision.verdict = Verdict::fail;
    decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    return decision;
}

}  // namespace promwarden
