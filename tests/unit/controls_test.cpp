#include <algorithm>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "verdicts.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

const auto now = parse_time("2026-11-22T10:00:00Z").value();

Service service(const std::string& name, std::uint16_t port) {
    Service service;
    service.name = name;
    service.ports = {{port, port}};
    service.allow = {"office"};
    return service;
}

Policy guarded_policy() {
    Policy policy;
    policy.path = "/etc/promwarden/policy.toml";
    policy.sha256 = sha256("policy");
    const std::vector<Cidr> office{parse_cidr("10.0.0.0/8").value(), parse_cidr("192.168.1.0/24").value()};
    policy.firewall.sources.resize(1);
    policy.firewall.sources[0].name = "office";
    policy.firewall.sources[0].networks = make_networks(office);
    policy.firewall.services = {service("prometheus", 9090)};
    return policy;
}

/// A host whose kernel holds what the policy means.
Facts obeying(const Policy& policy) {
    Facts facts;
    facts.now = now;
    facts.host = "db1";
    facts.links = std::vector<Link>{{1, "lo", "", 0, 0, 0}, {2, "eth0", "", 0, 0, 0}, {3, "docker0", "bridge", 0, 0, 0}};
    facts.firewall->live = desired_ruleset(policy, facts).value();
    return facts;
}

Ruleset& live_table(Facts& facts) { return *facts.firewall->live; }

Chain& chain_at(Facts& facts, Hook::Point point) {
    const auto found =
        std::ranges::find_if(live_table(facts).chains, [&](const Chain& chain) { return chain.hook && chain.hook->point == point; });
    REQUIRE(found != live_table(facts).chains.end());
    return *found;
}

Decision decide(std::string_view id, const Policy& policy, const Facts& facts) { return noted(id, find_control(id)->decide(policy, facts)); }

const Error no_access{Code::denied, EPERM, "read ruleset", "inet promwarden", ""};

const Rule accept_all{{expr::Verdict{expr::Verdict::Kind::accept, ""}}, ""};

constexpr auto filter = "network.packet-filter";
constexpr auto containers = "network.container-path";
constexpr auto users = "access.local-users";
constexpr auto bypass = "network.bypass";
const std::vector<std::string> guard_controls{filter, containers, bypass, users};

}  // namespace

// ---- the catalogue --------------------------------------------------------------------------------------------------

TEST_CASE("the catalogue has exactly the controls that were promised, in their order") {
    const std::vector<std::string_view> promised{"network.listen-address",
                                                 "network.packet-filter",
                                                 "network.published-ports",
                                                 "network.container-path",
                                                 "network.companion-ports",
                                                 "network.bypass",
                                                 "access.authentication",
                                                 "access.local-users",
                                                 "access.roles",
                                                 "access.endpoint-coverage",
                                                 "access.password-hashes",
                                                 "access.identity-provider",
                                                 "access.mfa",
                                                 "proxy.tls-only",
                                                 "proxy.literal-upstream",
                                                 "proxy.auth-request",
                                                 "proxy.no-bypass",
                                                 "proxy.canonical-uri",
                                                 "proxy.credential-stripping",
                                                 "proxy.htpasswd",
                                                 "tls.server",
                                                 "tls.protocol",
                                                 "tls.client-auth",
                                                 "tls.scrape",
                                                 "tls.remote-write",
                                                 "tls.other-clients",
                                                 "tls.files",
                                                 "tls.rotation",
                                                 "api.admin",
                                                 "api.lifecycle",
                                                 "api.receivers",
                                                 "api.cors",
                                                 "api.query-limits",
                                                 "api.federation",
                                                 "api.profiling",
                                                 "data.encryption",
                                                 "data.permissions",
                                                 "data.retention",
                                                 "secrets.inline",
                                                 "secrets.inline-key",
                                                 "secrets.exposed-parameters",
                                                 "secrets.redacted-literal",
                                                 "secrets.dead-variables",
                                                 "secrets.process",
                                                 "secrets.file-permissions",
                                                 "labels.redaction",
                                                 "labels.identity",
                                                 "audit.query-log",
                                                 "audit.query-log-file",
                                                 "audit.proxy-log",
                                                 "alerts.query-rate",
                                                 "alerts.auth-failures",
                                                 "alerts.reload-failed",
                                                 "config.permissions",
                                                 "config.drift",
                                                 "config.startable",
                                                 "config.service-sandbox",
                                                 "config.honor-labels",
                                                 "config.docker-socket",
                                                 "config.invalid",
                                                 "version.vulnerable"};
    std::vector<std::string_view> ids;
    for (const auto& control : catalogue()) ids.push_back(control.id);
    CHECK(ids == promised);
}

TEST_CASE("every row of the catalogue is complete, and its rationale is one to three sentences") {
    for (const auto& control : catalogue()) {
        INFO(control.id);
        for (const auto part : {control.title, control.enforced_by, control.rationale, control.verified_by, control.references})
            CHECK_FALSE(part.empty());
        CHECK(control.rationale.ends_with('.'));
        std::size_t ends = 0;
        for (std::size_t i = 0; i + 1 < control.rationale.size(); ++i)
            ends += control.rationale[i] == '.' && control.rationale[i + 1] == ' ';
        CHECK(ends <= 2);
        CHECK(control.references.find("://") == std::string_view::npos);
    }
    CHECK(find_control("network.nonsense") == nullptr);
    CHECK(find_control(filter)->severity == Severity::critical);
}

// ---- every control --------------------------------------------------------------------------------------------------

TEST_CASE("of a host that nobody could look at, no control passes") {
    Facts blind;
    blind.now = now;
    blind.firewall = std::unexpected(no_access);
    blind.bypasses = std::unexpected(no_access);
    blind.listeners = std::unexpected(no_access);
    blind.connections = std::unexpected(no_access);
    blind.links = std::unexpected(no_access);
    blind.servers = std::unexpected(no_access);
    blind.containers = std::unexpected(no_access);
    blind.files = std::unexpected(no_access);
    blind.storage = std::unexpected(no_access);
    blind.live = std::unexpected(no_access);
    blind.certificates = std::unexpected(no_access);
    blind.proxy = std::unexpected(no_access);
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    policy.data.encryption_required = true;
    policy.tls.require_client_certificate = true;
    policy.access.present = true;
    policy.tls.certificates.emplace_back().name = "prometheus";
    for (const auto& control : catalogue()) {
        const auto decision = decide(control.id, policy, blind);
        CHECK_MESSAGE(decision.verdict == Verdict::unknown, control.id, ": ", decision.reason);
        CHECK_MESSAGE(decision.reason.contains(no_access.subject), control.id, ": ", decision.reason);
    }
}

TEST_CASE("where there is nothing that a control is about, it does not apply and says so") {
    Facts empty;
    empty.now = now;
    Policy policy;
    for (const auto& control : catalogue()) {
        const auto decision = decide(control.id, policy, empty);
        CHECK_MESSAGE(decision.verdict == Verdict::not_applicable, control.id, ": ", decision.reason);
        CHECK_MESSAGE(!decision.reason.empty(), control.id);
    }
}

// ---- the packet filter ----------------------------------------------------------------------------------------------

TEST_CASE("packet-filter, container-path and local-users hold on a host that obeys") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}, {"www-data", 33}};
    const auto facts = obeying(policy);
    for (const auto* id : {filter, containers, users}) {
        const auto decision = decide(id, policy, facts);
        CHECK_MESSAGE(decision.verdict == Verdict::pass, id, ": ", decision.reason);
        CHECK(decision.findings.empty());
        CHECK_FALSE(decision.reason.empty());
    }
}

TEST_CASE("without services there is nothing to filter and nothing to go around") {
    auto policy = guarded_policy();
    policy.firewall.services.clear();
    auto facts = obeying(guarded_policy());
    facts.bypasses = std::vector<Bypass>{{Bypass::Kind::xdp, "eth0", "program 7"}};
    for (const auto* id : {filter, containers, users, bypass}) {
        const auto decision = decide(id, policy, facts);
        CHECK_MESSAGE(decision.verdict == Verdict::not_applicable, id);
        CHECK_FALSE(decision.reason.empty());
    }
}

TEST_CASE("what could not be observed is unknown, with the error") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    auto facts = obeying(policy);
    SUBCASE("the ruleset") { facts.firewall = std::unexpected(no_access); }
    SUBCASE("the links") { facts.links = std::unexpected(no_access); }
    for (const auto* id : {filter, containers, users}) {
        const auto decision = decide(id, policy, facts);
        CHECK(decision.verdict == Verdict::unknown);
        CHECK(decision.reason == no_access.text());
    }
}

TEST_CASE("no table, and a dormant one, fail everything that stands on it") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    auto facts = obeying(policy);
    const auto* expected = "";
    SUBCASE("no table") {
        facts.firewall->live.reset();
        expected = "there is no table inet promwarden";
    }
    SUBCASE("dormant") {
        live_table(facts).dormant = true;
        expected = "dormant";
    }
    for (const auto* id : {filter, containers, users}) {
        const auto decision = decide(id, policy, facts);
        CHECK(decision.verdict == Verdict::fail);
        CHECK(decision.reason.find(expected) != std::string::npos);
        REQUIRE(decision.findings.size() == 1);
        CHECK(decision.findings[0].subject == "table inet promwarden");
        CHECK(decision.findings[0].observed.find(expected) != std::string::npos);
        CHECK(decision.findings[0].remedy.automatic);
        CHECK(decision.findings[0].remedy.summary == "promwarden apply");
    }
}

TEST_CASE("packet-filter: each way in which the live table can differ is a finding that names it") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    std::string named;
    SUBCASE("a rule inserted before ours") {
        auto& chain = chain_at(facts, Hook::Point::prerouting);
        chain.rules.insert(chain.rules.begin(), accept_all);
        named = chain.name;
    }
    SUBCASE("a rule removed") {
        auto& chain = chain_at(facts, Hook::Point::prerouting);
        REQUIRE_FALSE(chain.rules.empty());
        chain.rules.pop_back();
        named = chain.name;
    }
    SUBCASE("an element added") {
        auto& set = *std::ranges::find_if(
            live_table(facts).sets, [](const Set& one) { return one.type == Set::Type::ip4 && one.elements && !one.elements->empty(); });
        set.elements = std::make_shared<const PackedKeys>(set.elements->changed(PackedKeys(4), PackedKeys(4, {203, 0, 113, 5})));
        named = "203.0.113.5";
    }
    SUBCASE("a foreign chain in our table") {
        live_table(facts).chains.push_back({"stranger", {}, {accept_all}});
        named = "stranger";
    }
    const auto decision = decide(filter, policy, facts);
    CHECK(decision.verdict == Verdict::fail);
    CHECK(std::ranges::all_of(decision.findings, [](const Finding& finding) { return finding.subject.contains(' '); }));
    CHECK(std::ranges::any_of(decision.findings, [&](const Finding& finding) {
        return (finding.subject + finding.expected + finding.observed).find(named) != std::string::npos && !finding.expected.empty() &&
               !finding.observed.empty();
    }));
}

TEST_CASE("packet-filter: at most twenty findings, and how many more there are") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    for (int i = 0; i < 40; ++i) live_table(facts).chains.push_back({"stranger" + std::to_string(i), {}, {}});
    const auto decision = decide(filter, policy, facts);
    CHECK(decision.verdict == Verdict::fail);
    REQUIRE(decision.findings.size() == 21);
    CHECK(decision.findings.back().subject == "table inet promwarden");
    CHECK(decision.findings.back().observed == "20 more differences");
    CHECK(decision.reason.find("40 places") != std::string::npos);
}

TEST_CASE("container-path sees the forward hook only, local-users the output hook only") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    auto facts = obeying(policy);
    auto point = Hook::Point::prerouting;
    SUBCASE("prerouting") {}
    SUBCASE("forward") { point = Hook::Point::forward; }
    SUBCASE("output") { point = Hook::Point::output; }
    chain_at(facts, point).rules.insert(chain_at(facts, point).rules.begin(), accept_all);
    CHECK(decide(filter, policy, facts).verdict == Verdict::fail);
    CHECK((decide(containers, policy, facts).verdict == Verdict::fail) == (point == Hook::Point::forward));
    CHECK((decide(users, policy, facts).verdict == Verdict::fail) == (point == Hook::Point::output));
}

TEST_CASE("container-path: a chain hooked beside ours, and a chain that ours leads to, are part of the path") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    SUBCASE("beside") { live_table(facts).chains.push_back({"stranger", Hook{Hook::Point::forward, -20, true}, {accept_all}}); }
    SUBCASE("led to") {
        chain_at(facts, Hook::Point::forward).rules.push_back({{expr::Verdict{expr::Verdict::Kind::jump, "stranger"}}, ""});
        live_table(facts).chains.push_back({"stranger", {}, {accept_all}});
    }
    SUBCASE("gone") {
        std::erase_if(live_table(facts).chains, [](const Chain& chain) { return chain.hook && chain.hook->point == Hook::Point::forward; });
    }
    const auto decision = decide(containers, policy, facts);
    CHECK(decision.verdict == Verdict::fail);
    CHECK(decision.reason.find("forwarded or DNATed") != std::string::npos);
}

TEST_CASE("a container interface that came since makes the live table wrong") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    facts.links->push_back({4, "lxcbr0", "bridge", 0, 0, 0});
    CHECK(decide(containers, policy, facts).verdict == Verdict::fail);
}

TEST_CASE("local-users: services that anyone may reach are said, not failed") {
    auto policy = guarded_policy();
    CHECK(decide(users, policy, obeying(policy)).reason.find("anyone on this host") != std::string::npos);
    CHECK(decide(users, policy, obeying(policy)).verdict == Verdict::not_applicable);
    policy.firewall.services[0].local_users = std::vector<Account>{};
    policy.firewall.services.push_back(service("alertmanager", 9093));
    const auto decision = decide(users, policy, obeying(policy));
    CHECK(decision.verdict == Verdict::pass);
    CHECK(decision.reason.find("reach prometheus; anyone on this host reaches alertmanager") != std::string::npos);
}

TEST_CASE("local-users in mode audit: what is not enforced fails there, and is not missed by packet-filter") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    policy.controls[users] = Mode::audit;
    const auto facts = obeying(policy);
    CHECK(decide(filter, policy, facts).verdict == Verdict::pass);
    CHECK(decide(containers, policy, facts).verdict == Verdict::pass);
    const auto decision = decide(users, policy, facts);
    CHECK(decision.verdict == Verdict::fail);
    CHECK(decision.reason.starts_with("users that the policy does not name may reach prometheus over loopback"));
}

TEST_CASE("the probe's user belongs to the desired ruleset") {
    auto policy = guarded_policy();
    policy.firewall.services[0].local_users = std::vector<Account>{{"root", 0}};
    auto facts = obeying(policy);
    const auto without = desired_ruleset(policy, facts).value();
    facts.probe_user = 977;
    CHECK_FALSE(desired_ruleset(policy, facts).value() == without);
}

// ---- ways around ----------------------------------------------------------------------------------------------------

TEST_CASE("bypass: nothing found, and not looked") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    CHECK(decide(bypass, policy, facts).verdict == Verdict::pass);
    facts.bypasses = std::unexpected(no_access);
    CHECK(decide(bypass, policy, facts).verdict == Verdict::unknown);
    CHECK(decide(bypass, policy, facts).reason == no_access.text());
}

TEST_CASE("bypass: one finding each, with the command that removes it") {
    using Kind = Bypass::Kind;
    struct Case {
        Kind kind;
        const char *subject, *remedy;
    };
    const Case cases[] = {{Kind::xdp, "eth0", "ip link set dev eth0 xdp off"},
                          {Kind::tc, "eth0", "tc filter del dev eth0 ingress"},
                          {Kind::netdev_chain, "table netdev t chain early", "nft delete chain netdev t early"},
                          {Kind::flowtable, "flowtable inet t fast", "nft delete flowtable inet t fast"},
                          {Kind::macvlan, "eth0, eth1", "on eth0, eth1 to a bridge"},
                          {Kind::route_localnet, "eth0", "sysctl -w net/ipv4/conf/eth0/route_localnet=0"},
                          {Kind::redirect, "table ip nat chain PREROUTING", "redirecting rule: nft -a list chain ip nat PREROUTING"},
                          {Kind::transparent_proxy, "table ip mangle chain PREROUTING", "tproxy rule: nft -a list chain ip mangle PREROUTING"},
                          {Kind::rewrite, "table ip raw chain PREROUTING", "rewriting rule: nft -a list chain ip raw PREROUTING"}};
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    std::set<std::string> expectations;
    for (const auto& [kind, subject, remedy] : cases) {
        facts.bypasses = std::vector<Bypass>{{kind, subject, "as seen"}};
        const auto decision = decide(bypass, policy, facts);
        CHECK(decision.verdict == Verdict::fail);
        CHECK(decision.reason == "1 way around the filter");
        REQUIRE(decision.findings.size() == 1);
        const auto& finding = decision.findings[0];
        CHECK(finding.subject == subject);
        CHECK(finding.observed == "as seen");
        CHECK_MESSAGE(finding.remedy.summary.find(remedy) != std::string::npos, finding.remedy.summary);
        CHECK_FALSE(finding.remedy.automatic);
        expectations.insert(finding.expected);
    }
    CHECK(expectations.size() == std::size(cases));
}

TEST_CASE("bypass: what the guard still judges is mentioned, not failed") {
    using Kind = Bypass::Kind;
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    const Bypass nat{Kind::redirect, "table ip nat chain DOCKER", "destination translated", true};
    facts.bypasses = std::vector<Bypass>{nat};
    auto decision = decide(bypass, policy, facts);
    CHECK(decision.verdict == Verdict::pass);
    CHECK(decision.findings.empty());
    CHECK(decision.reason.ends_with("; covered by the guard: table ip nat chain DOCKER (destination translated)"));

    facts.bypasses = std::vector<Bypass>{{Kind::xdp, "eth0", "program 7"}, nat, nat, nat, nat, nat};
    decision = decide(bypass, policy, facts);
    CHECK(decision.verdict == Verdict::fail);
    CHECK(decision.findings.size() == 1);
    CHECK(decision.reason.starts_with("1 way around the filter; covered by the guard: "));
    CHECK(decision.reason.ends_with(") and 2 more"));
}

TEST_CASE("bypass: an interface's name is quoted where a shell would run it") {
    const auto policy = guarded_policy();
    auto facts = obeying(policy);
    facts.bypasses = std::vector<Bypass>{{Bypass::Kind::xdp, "a;reboot", ""}, {Bypass::Kind::xdp, "it's", ""}};
    const auto decision = decide(bypass, policy, facts);
    CHECK(decision.findings[0].remedy.summary == "ip link set dev 'a;reboot' xdp off");
    CHECK(decision.findings[1].remedy.summary == "ip link set dev 'it'\\''s' xdp off");
}

// ---- evaluate -------------------------------------------------------------------------------------------------------

namespace {

/// Two ways around: network.bypass fails with the subjects eth0 and eth1, all else holds.
Facts with_bypasses(const Policy& policy) {
    auto facts = obeying(policy);
    facts.bypasses = std::vector<Bypass>{{Bypass::Kind::xdp, "eth0", "program 7"}, {Bypass::Kind::tc, "eth1", "clsact"}};
    return facts;
}

Waiver waiver(std::string subject, std::chrono::system_clock::duration left) {
    return {{}, bypass, std::move(subject), "load balancer", "network team", now + left};
}

ControlReport bypass_report(const Policy& policy) {
    const std::vector<std::string> only{bypass};
    const auto report = evaluate(policy, with_bypasses(policy), only);
    REQUIRE(report.controls.size() == 1);
    return report.controls[0];
}

}  // namespace

TEST_CASE("evaluate decides what has a function, or what was asked for, in the catalogue's order") {
    const auto policy = guarded_policy();
    const auto report = evaluate(policy, obeying(policy));
    std::vector<std::string_view> ids;
    for (const auto& one : report.controls) ids.push_back(one.control->id);
    std::vector<std::string_view> decided;
    for (const auto& control : catalogue())
        if (control.decide != nullptr) decided.push_back(control.id);
    CHECK(ids == decided);
    CHECK(std::ranges::includes(std::set(ids.begin(), ids.end()), std::set<std::string_view>{filter, containers, bypass, users}));
    CHECK(report.host == "db1");
    CHECK(report.time == now);
    CHECK(report.policy_sha256 == policy.sha256);

    const std::vector<std::string> only{users, filter};
    const auto less = evaluate(policy, obeying(policy), only);
    REQUIRE(less.controls.size() == 2);
    CHECK(less.controls[0].control->id == filter);
    CHECK(less.controls[1].control->id == users);
}

TEST_CASE("modes: off is not applicable, audit still decides") {
    auto policy = guarded_policy();
    policy.controls[bypass] = Mode::off;
    auto report = bypass_report(policy);
    CHECK(report.mode == Mode::off);
    CHECK(report.decision.verdict == Verdict::not_applicable);
    CHECK(report.decision.reason == "switched off by the policy");
    CHECK(report.decision.findings.empty());

    policy.controls[bypass] = Mode::audit;
    report = bypass_report(policy);
    CHECK(report.mode == Mode::audit);
    CHECK(report.decision.verdict == Verdict::fail);

    policy.controls.clear();
    policy.mode = Mode::audit;
    CHECK(bypass_report(policy).mode == Mode::audit);
}

TEST_CASE("a waiver of the whole control") {
    auto policy = guarded_policy();
    policy.waivers = {waiver("", 30 * 24h)};
    auto report = bypass_report(policy);
    CHECK(report.waived);
    CHECK(report.decision.verdict == Verdict::fail);
    CHECK(report.decision.findings.size() == 2);
    CHECK(report.waiver->owner == "network team");
    CHECK(report.notice.empty());

    SUBCASE("of another control does not matter") {
        policy.waivers[0].control = filter;
        report = bypass_report(policy);
        CHECK_FALSE(report.waived);
        CHECK_FALSE(report.waiver);
    }
    SUBCASE("is announced in its last fourteen days") {
        for (const auto& [left, notice] :
             std::vector<std::pair<std::chrono::seconds, std::string>>{{14 * 24h + 1s, ""},
                                                                       {14 * 24h, "the waiver expires in 14 days"},
                                                                       {25h, "the waiver expires in 1 day"},
                                                                       {5h, "the waiver expires in 5 hours"},
                                                                       {1s, "the waiver expires in less than an hour"}}) {
            policy.waivers[0].expires = now + left;
            CHECK(bypass_report(policy).notice == notice);
            CHECK(bypass_report(policy).waived);
        }
    }
    SUBCASE("that expired is an ordinary failure with a note") {
        for (const auto& [ago, notice] : std::vector<std::pair<std::chrono::seconds, std::string>>{
                 {0s, "the waiver has just expired"}, {49h, "the waiver expired 2 days ago"}}) {
            policy.waivers[0].expires = now - ago;
            report = bypass_report(policy);
            CHECK_FALSE(report.waived);
            CHECK(report.decision.verdict == Verdict::fail);
            CHECK(report.waiver);
            CHECK(report.notice == notice);
        }
    }
    SUBCASE("of which one expired and one holds") {
        policy.waivers.push_back(waiver("", -24h));
        CHECK(bypass_report(policy).waived);
        CHECK(bypass_report(policy).waiver->expires == now + 30 * 24h);
    }
}

TEST_CASE("waivers with subjects must cover every finding") {
    auto policy = guarded_policy();
    policy.waivers = {waiver("eth0", 30 * 24h)};
    auto report = bypass_report(policy);
    CHECK_FALSE(report.waived);
    CHECK_FALSE(report.waiver);
    CHECK(report.notice == "1 of 2 findings are waived, which does not waive the control");

    policy.waivers.push_back(waiver("eth1", 3 * 24h));
    report = bypass_report(policy);
    CHECK(report.waived);
    CHECK(report.waiver->expires == now + 3 * 24h);
    CHECK(report.notice == "the waiver expires in 3 days");

    policy.waivers[1].expires = now;
    report = bypass_report(policy);
    CHECK_FALSE(report.waived);
    CHECK(report.waiver->subject == "eth1");

    policy.waivers = {waiver("eth9", 30 * 24h)};
    CHECK_FALSE(bypass_report(policy).waived);
}

TEST_CASE("a control that holds is not waived, nor is one that is unknown") {
    auto policy = guarded_policy();
    policy.waivers = {waiver("", 30 * 24h)};
    auto facts = obeying(policy);
    const std::vector<std::string> only{bypass};
    CHECK_FALSE(evaluate(policy, facts, only).controls[0].waived);
    facts.bypasses = std::unexpected(no_access);
    const auto report = evaluate(policy, facts, only);
    CHECK_FALSE(report.controls[0].waived);
    CHECK(report.count(Verdict::unknown) == 1);
}

TEST_CASE("exit status") {
    const auto report = [](std::vector<std::pair<std::string_view, Verdict>> verdicts, bool waived = false) {
        Report made;
        for (const auto& [id, verdict] : verdicts)
            made.controls.push_back({find_control(id), Mode::enforce, {verdict, "", {}}, {}, waived, ""});
        return made;
    };
    using enum Verdict;
    CHECK(exit_status(report({{filter, pass}, {bypass, not_applicable}})) == 0);
    CHECK(exit_status(report({{filter, pass}, {bypass, fail}})) == 1);
    CHECK(exit_status(report({{filter, unknown}, {bypass, fail}})) == 1);
    CHECK(exit_status(report({{filter, pass}, {bypass, unknown}})) == 3);
    CHECK(exit_status(report({{filter, not_applicable}})) == 3);
    CHECK(exit_status(report({})) == 3);
    CHECK(exit_status(report({{bypass, fail}}, true)) == 0);
    CHECK(exit_status(report({{bypass, fail}}), Severity::high) == 1);
    CHECK(exit_status(report({{bypass, fail}}), Severity::critical) == 0);
    CHECK(exit_status(report({{filter, fail}}), Severity::critical) == 1);
    CHECK(exit_status(report({{bypass, fail}, {filter, unknown}}), Severity::critical) == 3);
}

// ---- JSON -----------------------------------------------------------------------------------------------------------

TEST_CASE("a report as JSON has the promised keys, and reads back") {
    auto policy = guarded_policy();
    policy.waivers = {waiver("", 3 * 24h)};
    policy.waivers[0].expires = parse_time("2026-11-30T00:00:00Z").value();
    const auto json = to_json(evaluate(policy, with_bypasses(policy), guard_controls));
    CHECK(json["schema"] == "promwarden.report/1");
    CHECK(json["time"] == "2026-11-22T10:00:00Z");
    CHECK(json["summary"].dump() == R"({"pass":2,"fail":0,"unknown":0,"not-applicable":1,"waived":1})");
    const auto& control = json["controls"][2];
    std::vector<std::string> keys;
    for (const auto& [key, value] : control.items()) keys.push_back(key);
    CHECK(keys == std::vector<std::string>{"id", "title", "severity", "verdict", "mode", "reason", "waiver", "findings"});
    CHECK(control["verdict"] == "fail");
    CHECK(control["reason"] == "2 ways around the filter; the waiver expires in 7 days");
    CHECK(control["waiver"].dump() == R"({"reason":"load balancer","owner":"network team","expires":"2026-11-29T23:59:59Z"})");
    CHECK(control["findings"][0]["evidence"] == "kernel");
    CHECK(control["findings"][0]["remedy"]["kind"] == "manual");

    const auto again = read_report(parse_json(json_text(json)).value());
    REQUIRE(again);
    CHECK(to_json(*again) == json);
    CHECK(again->controls[2].waived);
    CHECK(exit_status(*again) == 0);
}

TEST_CASE("a report that is not one is refused") {
    const auto policy = guarded_policy();
    const auto good = to_json(evaluate(policy, with_bypasses(policy), guard_controls));
    const auto refused = [&](auto&& spoil) {
        auto json = good;
        spoil(json);
        const auto read = read_report(json);
        return !read && read.error().code == Code::invalid;
    };
    CHECK(read_report(good));
    CHECK(refused([](Json& json) { json = Json::array(); }));
    CHECK(refused([](Json& json) { json["schema"] = "promwarden.report/2"; }));
    CHECK(refused([](Json& json) { json["time"] = "yesterday"; }));
    CHECK(refused([](Json& json) { json.erase("policy"); }));
    CHECK(refused([](Json& json) { json["controls"] = "none"; }));
    CHECK(refused([](Json& json) { json["controls"][0]["id"] = "network.nonsense"; }));
    CHECK(refused([](Json& json) { json["controls"][0]["verdict"] = "maybe"; }));
    CHECK(refused([](Json& json) { json["controls"][0] = 7; }));
    CHECK(refused([](Json& json) { json["controls"][2]["findings"][0].erase("remedy"); }));
    CHECK(refused([](Json& json) { json["controls"][2]["findings"][0]["location"] = 3; }));
    CHECK(refused([](Json& json) { json["controls"][2]["waiver"] = 3; }));
}
