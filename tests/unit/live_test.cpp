#include <algorithm>

#include <doctest/doctest.h>

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "verdicts.hpp"

using namespace promwarden;
using live::Asker;
using live::End;
using live::Handshake;
using live::TlsVersion;

namespace {

Endpoint at(std::string_view text) { return parse_endpoint(text).value(); }

live::Answer answer(int status, std::string method = "GET", std::string path = "/api/v1/status/config", Asker asker = Asker::stranger) {
    live::Answer answer;
    answer.asker = asker;
    answer.method = std::move(method);
    answer.path = std::move(path);
    answer.end = End::answered;
    answer.status = status;
    return answer;
}

Handshake handshake(TlsVersion version, End end, int status = 200, Handshake::Certificate certificate = Handshake::Certificate::none, int alert = 0) {
    Handshake shaken;
    shaken.version = version;
    shaken.certificate = certificate;
    shaken.end = end;
    shaken.status = end == End::answered ? status : 0;
    shaken.alert = alert;
    shaken.cipher = end == End::answered ? "TLS_AES_128_GCM_SHA256" : "";
    return shaken;
}

/// One endpoint that refuses everybody, over TLS 1.2 and 1.3.
live::Endpoint closed(std::string_view listener = "0.0.0.0:9090") {
    live::Endpoint endpoint;
    endpoint.listener = at(listener);
    endpoint.asked = at(listener.starts_with("0.0.0.0") ? "127.0.0.1:9090" : listener);
    endpoint.tls = true;
    endpoint.plain = false;
    endpoint.answers = {answer(401), answer(401, "GET", "/debug/pprof/cmdline"), answer(401, "GET", "/api/v1/status/buildinfo", Asker::wrong_password)};
    endpoint.handshakes = {handshake(TlsVersion::tls_1_0, End::handshake, 0, Handshake::Certificate::none, 70), handshake(TlsVersion::tls_1_1, End::handshake, 0, Handshake::Certificate::none, 70),
                           handshake(TlsVersion::tls_1_2, End::answered, 401), handshake(TlsVersion::tls_1_3, End::answered, 401)};
    return endpoint;
}

Facts facts_of(std::vector<live::Endpoint> endpoints, std::map<std::string, std::string> flags = {}) {
    live::Facts live;
    live.endpoints = std::move(endpoints);
    if (!flags.empty()) live.status = live::Status{std::move(flags), "2.42.0", true, "15d"};
    Facts facts;
    facts.live = std::move(live);
    return facts;
}

Decision decide(std::string_view control, const Facts& facts, const Policy& policy = {}) { return noted(control, find_control(control)->decide(policy, facts)); }
Verdict verdict(std::string_view control, const Facts& facts, const Policy& policy = {}) { return decide(control, facts, policy).verdict; }

/// A policy whose service "prometheus" lets only root over loopback, and facts whose kernel holds it.
std::pair<Policy, Facts> guarded(live::Endpoint endpoint) {
    Policy policy;
    policy.firewall.sources.resize(1);
    policy.firewall.sources[0].name = "office";
    policy.firewall.sources[0].networks = make_networks(std::vector{parse_cidr("10.0.0.0/8").value()});
    Service service;
    service.name = "prometheus";
    service.ports = {{9090, 9090}};
    service.allow = {"office"};
    service.local_users = {{"root", 0}};
    policy.firewall.services = {service};
    auto facts = facts_of({std::move(endpoint)});
    facts.links = std::vector<Link>{{1, "lo", "", 0, 0, 0}};
    facts.firewall->live = desired_ruleset(policy, facts).value();
    return {policy, facts};
}

const std::vector<std::string_view> live_controls{"access.authentication", "tls.server", "tls.protocol", "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.profiling", "config.drift"};

}  // namespace

TEST_CASE("where nobody was asked the live part does not apply, where it failed it is unknown") {
    for (const auto control : live_controls) {
        CHECK(verdict(control, Facts{}) == Verdict::not_applicable);
        CHECK(verdict(control, facts_of({})) == Verdict::not_applicable);
        Facts facts;
        facts.live = std::unexpected(Error{Code::failed, 0, "listen to", "promwarden-probe", "it ended"});
        CHECK(verdict(control, facts) == Verdict::unknown);
    }
}

TEST_CASE("whoever holds the socket and should not is named, and nothing it answers counts") {
    auto endpoint = closed();
    endpoint.holder = "nc (pid 4711, uid 1000, of user@1000.service)";
    for (const auto control : live_controls) {
        const auto decision = decide(control, facts_of({endpoint}, {{"web.enable-admin-api", "false"}, {"web.cors.origin", "none"}}));
        CHECK(decision.verdict == Verdict::fail);
        CHECK(decision.reason.contains("nc (pid 4711"));
        CHECK(decision.findings.front().evidence == Evidence::live);
    }
}

TEST_CASE("whose socket it is that only root can see: nothing is held against it, and nothing is believed") {
    auto endpoint = closed();
    endpoint.holder = "a process that cannot be seen from here, of uid 102";
    endpoint.hidden = true;
    for (const auto control : live_controls) {
        const auto decision = decide(control, facts_of({endpoint}));
        CHECK_MESSAGE(decision.verdict == Verdict::unknown, control);
        CHECK(decision.reason.contains("only root can see"));
    }
    auto squatted = endpoint;
    squatted.asked.address = parse_address("::1").value();
    squatted.holder = "nc (pid 4711, uid 1000, of user@1000.service)";
    squatted.hidden = false;
    CHECK(verdict("api.admin", facts_of({endpoint, squatted})) == Verdict::fail);
}

TEST_CASE("what answers and what is written is one finding, with the place of the one and the evidence of the other") {
    auto facts = facts_of({closed()}, {{"web.enable-admin-api", "true"}});
    Server server;
    server.kind = Server::Kind::unit;
    server.name = "prometheus.service";
    server.process.emplace().pid = 42;
    server.version = "2.42.0";
    const std::vector<Flag> flags{{"web.enable-admin-api", "true", "/etc/default/prometheus", "--web.enable-admin-api"}};
    server.running->flags = server.configured->flags = flags;
    facts.servers = std::vector{server};
    for (const bool told : {false, true}) {
        if (told) facts.servers->front().live_flags = std::map<std::string, std::string>{{"web.enable-admin-api", "true"}};
        const auto decision = decide("api.admin", facts);
        REQUIRE(decision.findings.size() == 1);
        const auto& finding = decision.findings.front();
        CHECK(finding.subject == "prometheus.service");
        CHECK(finding.evidence == Evidence::live);
        REQUIRE(finding.location);
        CHECK(finding.location->file == "/etc/default/prometheus");
        CHECK(finding.observed.starts_with("--web.enable-admin-api is on"));
    }
}

TEST_CASE("config.drift: the configuration that runs against the files") {
    using namespace std::chrono_literals;
    constexpr auto control = "config.drift";
    const auto loaded = parse_time("2026-11-22T10:00:00Z").value();
    const auto file = [&](NamedFile::Use use, std::string path, std::chrono::seconds after) {
        NamedFile named;
        named.use = use;
        named.path = std::move(path);
        named.steps.push_back({named.path, {}, -1});
        named.steps.back().status.modified = std::chrono::duration_cast<std::chrono::seconds>((loaded + after).time_since_epoch()).count();
        return named;
    };
    auto facts = facts_of({closed()}, {{"x", "y"}});
    CHECK(verdict(control, facts) == Verdict::pass);
    facts.live->value().status->loaded = loaded;
    facts.live->value().time = loaded + 10min;
    using Use = NamedFile::Use;
    facts.files->servers.push_back({.server = "prometheus.service", .version = "", .identity = {}, .files = {file(Use::configuration, "/p.yml", 0s), file(Use::rules, "/r.yml", -1h), file(Use::targets, "/t.yml", 1h), file(Use::web, "/w.yml", 1h)}, .left_out = {}, .problem = {}});
    CHECK(verdict(control, facts) == Verdict::pass);  // targets and web.yml are read again without a reload
    facts.files->servers[0].files[1] = file(Use::rules, "/r.yml", 1s);
    const auto changed = decide(control, facts);
    REQUIRE(changed.findings.size() == 1);
    CHECK(changed.findings[0].subject == "/r.yml");
    CHECK(changed.findings[0].observed == "changed 2026-11-22T10:00:01Z, and the running configuration was loaded 2026-11-22T10:00:00Z");
    CHECK(changed.findings[0].remedy.summary.contains("systemctl reload prometheus.service"));
    facts.files->servers[0].files[1] = file(Use::rules, "/r.yml", 11min);
    CHECK(verdict(control, facts) == Verdict::pass);  // since then nobody asked
    facts.files->servers[0].files[1] = file(Use::rules, "/r.yml", 1s);
    facts.files->servers[0].files[1].problem = Error{Code::missing, ENOENT, "open", "/r.yml", ""};
    CHECK(verdict(control, facts) == Verdict::pass);
    facts.live->value().status->reloaded = false;
    CHECK(decide(control, facts).findings.at(0).observed.contains("last reload failed"));
    facts.live->value().status->reloaded.reset();
    facts.live->value().status->loaded.reset();
    CHECK(verdict(control, facts) == Verdict::not_applicable);
}

TEST_CASE("access.authentication") {
    constexpr auto control = "access.authentication";
    CHECK(verdict(control, facts_of({closed()})) == Verdict::pass);
    for (const int status : {400, 401, 403, 404, 405}) {
        auto endpoint = closed();
        endpoint.answers.push_back(answer(status));
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
    }
    for (const int status : {200, 204, 302, 500}) {
        auto endpoint = closed();
        endpoint.answers.push_back(answer(status));
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    }
    SUBCASE("a wrong password counts") {
        auto endpoint = closed();
        endpoint.answers.push_back(answer(200, "GET", "/api/v1/status/buildinfo", Asker::wrong_password));
        CHECK(decide(control, facts_of({endpoint})).reason.contains("a wrong password got 200"));
    }
    SUBCASE("the probe's own user does not") {
        auto endpoint = closed();
        endpoint.answers.push_back(answer(200, "GET", "/metrics", Asker::user));
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
    }
    SUBCASE("a proxy's sign-in page, its redirect to TLS and its own errors let nobody in") {
        auto endpoint = closed();
        endpoint.proxy = true;
        endpoint.answers = {answer(302), answer(301), answer(502)};
        endpoint.answers[0].location = "/oauth2/sign_in?rd=/";
        endpoint.answers[1].location = "https://prometheus.example.org/";
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
        endpoint.answers.push_back(answer(302));
        endpoint.answers.back().location = "/graph";
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    }
    SUBCASE("a refusal in the handshake is one") {
        auto endpoint = closed();
        endpoint.answers = {answer(0)};
        endpoint.answers[0].end = End::handshake;
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
    }
    SUBCASE("silence is not") {
        auto endpoint = closed();
        endpoint.answers = {answer(0)};
        endpoint.answers[0].end = End::timeout;
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::unknown);
    }
    SUBCASE("over loopback the packet filter may keep others away, and only there") {
        auto endpoint = closed("127.0.0.1:9090");
        endpoint.answers.push_back(answer(200));
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
        auto [policy, facts] = guarded(endpoint);
        CHECK(verdict(control, facts, policy) == Verdict::pass);
        facts.firewall->live.reset();
        CHECK(verdict(control, facts, policy) == Verdict::fail);
        auto everywhere = closed();
        everywhere.answers.push_back(answer(200));
        auto [same, open] = guarded(everywhere);
        CHECK(verdict(control, open, same) == Verdict::fail);
    }
}

TEST_CASE("tls.server") {
    constexpr auto control = "tls.server";
    CHECK(verdict(control, facts_of({closed()})) == Verdict::pass);
    CHECK(verdict(control, facts_of({closed("127.0.0.1:9090")})) == Verdict::not_applicable);
    auto endpoint = closed();
    endpoint.plain = true;
    CHECK(decide(control, facts_of({endpoint})).reason == "0.0.0.0:9090 answers plain HTTP, too");
    endpoint.tls = false;
    CHECK(decide(control, facts_of({endpoint})).reason == "0.0.0.0:9090 answers plain HTTP, no TLS");
    SUBCASE("a proxy that only redirects is fine, Prometheus is not asked to") {
        endpoint.answers = {answer(301, "GET", "/-/healthy")};
        endpoint.answers[0].location = "https://prometheus.example.org/-/healthy";
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
        endpoint.proxy = true;
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
        endpoint.answers[0].location = "http://prometheus.example.org/-/healthy";
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    }
    SUBCASE("one that gave no answer") {
        endpoint.plain = endpoint.tls = std::nullopt;
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::unknown);
    }
}

TEST_CASE("tls.protocol") {
    constexpr auto control = "tls.protocol";
    Policy strict;
    strict.tls.min_version = "1.3";
    CHECK(verdict(control, facts_of({closed()})) == Verdict::pass);
    CHECK(verdict(control, facts_of({closed()}), strict) == Verdict::fail);
    auto endpoint = closed();
    endpoint.handshakes[1] = handshake(TlsVersion::tls_1_1, End::answered);
    CHECK(decide(control, facts_of({endpoint})).reason == "127.0.0.1:9090: TLS 1.1 was accepted");
    SUBCASE("asking for a certificate means that the version was accepted") {
        endpoint.handshakes[1] = handshake(TlsVersion::tls_1_1, End::handshake, 0, Handshake::Certificate::none, 42);
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    }
    SUBCASE("weak ciphers") {
        endpoint = closed();
        endpoint.handshakes[2].cipher = "ECDHE-RSA-DES-CBC3-SHA";
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    }
    SUBCASE("no TLS is not its concern, silence is unknown") {
        endpoint.tls = false;
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::not_applicable);
        endpoint.tls = true;
        for (auto& shaken : endpoint.handshakes) shaken = handshake(shaken.version, End::timeout);
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::unknown);
    }
}

TEST_CASE("tls.client-auth") {
    constexpr auto control = "tls.client-auth";
    Policy policy;
    CHECK(verdict(control, facts_of({closed()}), policy) == Verdict::not_applicable);
    policy.tls.require_client_certificate = true;
    CHECK(verdict(control, facts_of({}), policy) == Verdict::not_applicable);
    CHECK(decide(control, facts_of({closed()}), policy).reason.contains("without a certificate was let in"));
    auto endpoint = closed();
    const auto refuse = [&](int alert) {
        endpoint.handshakes.clear();
        for (const auto certificate : {Handshake::Certificate::none, Handshake::Certificate::foreign})
            for (const auto version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) endpoint.handshakes.push_back(handshake(version, End::handshake, 0, certificate, alert));
    };
    refuse(42);
    CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::pass);
    SUBCASE("one of nobody's authority") {
        endpoint.handshakes.push_back(handshake(TlsVersion::tls_1_3, End::answered, 200, Handshake::Certificate::foreign));
        CHECK(decide(control, facts_of({endpoint}), policy).reason.contains("that no authority signed"));
    }
    SUBCASE("nginx refuses behind the handshake") {
        for (auto& shaken : endpoint.handshakes) shaken.end = End::answered, shaken.status = 400;
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::pass);
    }
    SUBCASE("the probe's own is let in, as it should be") {
        endpoint.handshakes.push_back(handshake(TlsVersion::tls_1_3, End::answered, 200, Handshake::Certificate::own));
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::pass);
    }
    SUBCASE("no TLS at all") {
        endpoint.handshakes.clear();
        endpoint.tls = false;
        endpoint.plain = true;
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::fail);
    }
    SUBCASE("silence") {
        for (auto& shaken : endpoint.handshakes) shaken = handshake(shaken.version, End::timeout);
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::unknown);
    }
}

TEST_CASE("api.admin, api.lifecycle, api.receivers") {
    Policy allowing;
    allowing.prometheus.allow = {true, true, true, true, ""};
    const std::map<std::string, std::string> off{{"web.enable-admin-api", "false"}, {"web.enable-lifecycle", "false"}, {"web.enable-remote-write-receiver", "false"}, {"enable-feature", ""}};
    for (const auto& [control, flag] : {std::pair{"api.admin", "web.enable-admin-api"}, {"api.lifecycle", "web.enable-lifecycle"}, {"api.receivers", "web.enable-remote-write-receiver"}}) {
        CAPTURE(control);
        CHECK(verdict(control, facts_of({closed()}, off)) == Verdict::pass);
        CHECK(verdict(control, facts_of({closed()})) == Verdict::not_applicable);  // nobody was let in
        auto on = off;
        on[flag] = "true";
        CHECK(verdict(control, facts_of({closed()}, on)) == Verdict::fail);
        CHECK(verdict(control, facts_of({closed()}, on), allowing) == Verdict::not_applicable);
    }
    SUBCASE("the request that tells, where no flags are given") {
        auto endpoint = closed();
        endpoint.answers.push_back(answer(400, "POST", "/api/v1/admin/tsdb/delete_series"));
        CHECK(verdict("api.admin", facts_of({endpoint})) == Verdict::fail);
        CHECK(decide("api.admin", facts_of({endpoint}, off)).reason.contains("although its flags say off"));
        endpoint.answers.back().status = 500;
        CHECK(verdict("api.admin", facts_of({endpoint})) == Verdict::pass);
        endpoint.answers.back() = answer(404, "POST", "/api/v1/write");
        CHECK(verdict("api.receivers", facts_of({endpoint})) == Verdict::pass);
        endpoint.answers.back().status = 400;
        CHECK(verdict("api.receivers", facts_of({endpoint})) == Verdict::fail);
        endpoint.answers.back().status = 401;
        CHECK(verdict("api.receivers", facts_of({endpoint})) == Verdict::not_applicable);
    }
    SUBCASE("older and newer ways to receive") {
        auto on = off;
        on["enable-feature"] = "exemplar-storage,remote-write-receiver";
        CHECK(verdict("api.receivers", facts_of({closed()}, on)) == Verdict::fail);
        on = off;
        on["web.enable-otlp-receiver"] = "true";
        CHECK(verdict("api.receivers", facts_of({closed()}, on)) == Verdict::fail);
    }
    SUBCASE("a flag that the command line does not show") {
        auto on = off;
        on["web.enable-admin-api"] = "true";
        auto facts = facts_of({closed()}, on);
        Server server;
        server.kind = Server::Kind::unit;
        server.process = Process{};
        facts.servers->push_back(server);
        CHECK(decide("api.admin", facts).reason.contains("which its command line does not say"));
        facts.servers->front().running->flags.push_back({"web.enable-admin-api", "true", {}, {}});
        CHECK_FALSE(decide("api.admin", facts).reason.contains("which its command line does not say"));
    }
}

TEST_CASE("api.cors") {
    constexpr auto control = "api.cors";
    CHECK(verdict(control, facts_of({closed()}, {{"web.cors.origin", ".*"}})) == Verdict::fail);
    CHECK(verdict(control, facts_of({closed()}, {{"web.cors.origin", "https://grafana\\.example\\.org"}})) == Verdict::pass);
    CHECK(verdict(control, facts_of({closed()})) == Verdict::not_applicable);
    Policy policy;
    policy.prometheus.allow.cors_origin = "https://a\\.example\\.org";
    CHECK(verdict(control, facts_of({closed()}, {{"web.cors.origin", "https://a\\.example\\.org"}}), policy) == Verdict::pass);
    CHECK(verdict(control, facts_of({closed()}, {{"web.cors.origin", "https://b\\.example\\.org"}}), policy) == Verdict::fail);
    auto endpoint = closed();
    endpoint.answers.push_back(answer(200, "GET", "/api/v1/query?query=up"));
    CHECK(verdict(control, facts_of({endpoint})) == Verdict::pass);
    endpoint.answers.back().allow_origin = "*";
    CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
}

TEST_CASE("api.profiling") {
    constexpr auto control = "api.profiling";
    CHECK(verdict(control, facts_of({closed()})) == Verdict::pass);
    auto endpoint = closed();
    endpoint.answers.push_back(answer(200, "GET", "/debug/pprof/"));
    CHECK(verdict(control, facts_of({endpoint})) == Verdict::fail);
    SUBCASE("for a viewer at the proxy too, for an admin not") {
        endpoint.answers.back().asker = Asker::user;
        endpoint.proxy = true;
        Policy policy;
        policy.prometheus.probe.user = "probe";
        policy.access.roles["admin"] = {"user:probe"};
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::pass);
        policy.access.roles = {{"viewer", {"user:probe"}}};
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::fail);
        endpoint.proxy = false;
        CHECK(verdict(control, facts_of({endpoint}), policy) == Verdict::pass);
    }
    SUBCASE("no answer") {
        endpoint.answers.clear();
        CHECK(verdict(control, facts_of({endpoint})) == Verdict::unknown);
    }
}

TEST_CASE("network.listen-address") {
    constexpr auto control = "network.listen-address";
    Policy policy;
    CHECK(verdict(control, facts_of({closed()}, {{"web.listen-address", "127.0.0.1:9090"}}), policy) == Verdict::not_applicable);
    policy.prometheus.listen = {at("127.0.0.1:9090"), at("[::1]:9090")};
    CHECK(verdict(control, facts_of({closed()}), policy) == Verdict::not_applicable);
    for (const auto* flag : {"127.0.0.1:9090", "[::1]:9090", "[127.0.0.1:9090 [::1]:9090]"})
        CHECK_MESSAGE(verdict(control, facts_of({closed()}, {{"web.listen-address", flag}}), policy) == Verdict::pass, flag);
    for (const auto* flag : {":9090", "0.0.0.0:9090", "localhost:9090", "127.0.0.1:9091", "[127.0.0.1:9090 0.0.0.0:9090]", ""})
        CHECK_MESSAGE(verdict(control, facts_of({closed()}, {{"web.listen-address", flag}}), policy) == Verdict::fail, flag);
}
