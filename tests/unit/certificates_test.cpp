// tls.rotation, decided over values: every verdict, and what the finding says.

#include <doctest/doctest.h>

#include "promwarden/apply.hpp"
#include "promwarden/controls.hpp"
#include "verdicts.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

const auto now = parse_time("2026-11-22T10:00:00Z").value();
constexpr auto day = 24h;

struct Case {
    Policy policy;
    Facts facts;
    Case() {
        CertificatePolicy certificate;
        certificate.name = "prometheus";
        certificate.names = {"prom.example.org"};
        certificate.rekey = 90 * day;
        certificate.install = CertificatePolicy::Install::prometheus_web;
        policy.tls.certificates = {certificate};
        facts.now = now;
        ManagedCertificate known;
        known.name = "prometheus";
        known.certificate_file = "/etc/prometheus/promwarden/tls/prometheus/1/cert.pem";
        known.leaf = Certificate{};
        known.leaf->names = {{AlternativeName::Kind::dns, "prom.example.org"}};
        known.leaf->serial = "4711";
        known.leaf->fingerprint = "aa";
        known.record.key_made = now - 1 * day;
        facts.certificates = CertificateFacts{};
        facts.certificates->machine = "machine";
        facts.certificates->certificates = {known};
        lives(1 * day, 30 * day);
    }
    ManagedCertificate& known() { return facts.certificates->certificates.front(); }
    void lives(std::chrono::seconds age, std::chrono::seconds life) {
        known().leaf->not_before = now - age;
        known().leaf->not_after = now - age + life;
    }
    [[nodiscard]] Decision decide() const { return noted("tls.rotation", find_control("tls.rotation")->decide(policy, facts)); }
    [[nodiscard]] std::string observed() const {
        const auto decision = decide();
        return decision.findings.empty() ? "" : decision.findings.front().observed;
    }
};

}  // namespace

TEST_CASE("nothing to rotate is not applicable, nothing known is unknown") {
    Case none;
    none.policy.tls.certificates.clear();
    CHECK(none.decide().verdict == Verdict::not_applicable);
    Case blind;
    blind.facts.certificates = std::unexpected(Error{Code::denied, EACCES, "open", "/var/lib/promwarden/tls", ""});
    CHECK(blind.decide().verdict == Verdict::unknown);
    CHECK(blind.decide().reason.find("Permission denied") != std::string::npos);
    Case lost;
    lost.facts.certificates->certificates.clear();
    CHECK(lost.decide().verdict == Verdict::unknown);
}

TEST_CASE("what is not due holds; what is overdue fails, but not while its window is still to come") {
    Case one;
    CHECK(one.decide().verdict == Verdict::pass);
    one.lives(22 * day, 30 * day);
    CHECK(one.decide().verdict == Verdict::fail);
    CHECK(one.observed().starts_with("it expires at 2026-11-30"));
    CHECK(one.decide().findings.front().remedy.automatic);
    const auto tomorrow = static_cast<std::uint8_t>(1u << 0);  // that Sunday's next day
    one.policy.tls.maintenance = {{tomorrow, 2h, 4h, "Mon 02:00-04:00"}};
    one.lives(20 * day, 30 * day);
    CHECK(one.decide().verdict == Verdict::pass);
}

TEST_CASE("failed attempts, a clock that cannot be believed, none at all") {
    Case failed;
    failed.known().record.attempts = 2;
    failed.known().record.last_error = "rate limited";
    CHECK(failed.observed() == "2 attempts failed, the last because: rate limited");
    Case clock;
    clock.lives(29 * day, 30 * day);
    clock.facts.certificates->clock_synchronised = false;
    CHECK(clock.observed().find("clock") != std::string::npos);
    CHECK_FALSE(clock.decide().findings.front().remedy.automatic);
    Case none;
    none.known().leaf.reset();
    none.known().certificate_file.clear();
    CHECK(none.observed() == "there is none yet");
    CHECK(none.decide().findings.front().subject == "certificate prometheus");
}

TEST_CASE("what is served is what is on disk") {
    Case one;
    one.known().served = ManagedCertificate::Served{"aa", "", "127.0.0.1:9090"};
    CHECK(one.decide().verdict == Verdict::pass);
    CHECK(one.decide().reason.find("1 of 1 seen served") != std::string::npos);
    one.known().served->fingerprint = "bb";
    CHECK(one.observed() == "shows another one");
    CHECK(one.decide().findings.front().subject == "127.0.0.1:9090");
    CHECK(one.decide().findings.front().evidence == Evidence::live);
    one.known().served = ManagedCertificate::Served{"", "connection refused", "127.0.0.1:9090"};
    CHECK(one.observed() == "connection refused");
}

TEST_CASE("another tool's certificate is only watched") {
    Case one;
    one.policy.tls.certificates.front().issuer = "watch";
    one.lives(25 * day, 30 * day);
    CHECK(one.decide().verdict == Verdict::pass);
    one.lives(29 * day, 30 * day);
    CHECK(one.decide().verdict == Verdict::fail);
    CHECK_FALSE(one.decide().findings.front().remedy.automatic);
    one.facts.certificates->rollover = "overlap";
    CHECK(one.decide().reason.find("a change of the local authority is under way (overlap)") != std::string::npos);
}

TEST_CASE("sessions of clients whose authority was removed") {
    Case one;
    one.policy.tls.require_client_certificate = true;
    one.policy.prometheus.unit = "prometheus.service";
    const auto decide = [&] { return find_control("tls.client-auth")->decide(one.policy, one.facts); };
    const auto mentions = [&] { return decide().reason.find("clients that are believed no more") != std::string::npos; };
    CHECK_FALSE(mentions());
    Server server;
    server.kind = Server::Kind::unit;
    server.name = "prometheus.service";
    server.process = Process{};
    server.started = now - 2 * day;
    server.go = "1.24.4";
    one.facts.servers = std::vector{server};
    one.facts.certificates->removed = now - 1 * day;
    CHECK(decide().verdict == Verdict::fail);
    CHECK(mentions());
    CHECK(Engine::plan(one.policy, one.facts).empty());  // restarting is not ours
    one.policy.prometheus.restart_when_needed = true;
    const auto plan = Engine::plan(one.policy, one.facts);
    REQUIRE(plan.changes.size() == 1);
    CHECK(plan.changes[0].kind == Change::Kind::unit);
    CHECK(plan.changes[0].subject == "prometheus.service");
    one.facts.servers->front().started = now;
    CHECK_FALSE(mentions());
    CHECK(Engine::plan(one.policy, one.facts).empty());
}

TEST_CASE("what is due is a change, by the rule that will do it") {
    Case one;
    const auto changes = [&] { return Engine::plan(one.policy, one.facts).changes; };
    CHECK(changes().empty());
    one.lives(25 * day, 30 * day);
    REQUIRE(changes().size() == 1);
    CHECK(changes()[0].kind == Change::Kind::file);
    CHECK(changes()[0].subject == "/etc/prometheus/promwarden/tls/prometheus/1/cert.pem");
    CHECK(changes()[0].summary.starts_with("renew it: due "));
    CHECK(changes()[0].diff.starts_with("- serial 4711, expires "));
    one.known().record.key_made = now - 100 * day;
    REQUIRE(changes().size() == 1);
    CHECK(changes()[0].kind == Change::Kind::web);
    CHECK(changes()[0].summary.starts_with("renew it, with a new key"));
    one.known().record.next_try = now + 1min;  // after a failure: not now
    CHECK(changes().empty());
    one.known().record.next_try = {};
    one.policy.controls["tls.rotation"] = Mode::off;
    CHECK(changes().empty());
    one.policy.controls.clear();
    one.facts.certificates->clock_synchronised = false;
    CHECK(changes().empty());
    one.facts.certificates->rollover = "reissue";
    REQUIRE(changes().size() == 1);
    CHECK(changes()[0].subject == "the local authority");
    one.facts.certificates->rollover = "overlap";  // waits for whoever gives the bundle to others
    CHECK(changes().empty());
    one.policy.tls.certificates.front().issuer = "watch";
    REQUIRE(changes().size() == 1);
    CHECK(changes()[0].kind == Change::Kind::unit);
    one.known().record.seen = "aa";
    CHECK(changes().empty());
}
