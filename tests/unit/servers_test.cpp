// The controls over servers: each for every verdict, with the false positives that are known.

#include <algorithm>

#include <doctest/doctest.h>

#include "promwarden/controls.hpp"
#include "promwarden/firewall.hpp"
#include "promwarden/unit.hpp"
#include "verdicts.hpp"

using namespace promwarden;

namespace {

using Words = std::vector<std::string>;

CommandLine line_of(const Words& words, const std::string& file = {}, std::optional<prometheus::Version> version = 242) {
    std::vector<prometheus::Argument> arguments;
    for (const auto& word : words) arguments.push_back({word, file});
    return prometheus::read_command_line("/usr/bin/prometheus", arguments, {version, std::nullopt},
                                         [](const std::string& path) -> Result<std::string> { return fail(Code::untrusted, "open", path, "the process itself may not read it"); });
}

Listener listener(const std::string& endpoint, std::uint32_t inode, Process holder = {}, uid_t uid = 110) {
    Listener one;
    one.endpoint = parse_endpoint(endpoint).value();
    one.inode = inode;
    one.uid = uid;
    if (holder.pid != 0) one.holders = {std::move(holder)};
    return one;
}

const Process prometheus_process{100, "prometheus", "/usr/bin/prometheus", uid_t{110}, {}, "prometheus.service"};

/// Debian's, and what config.service-sandbox misses in that.
Unit confined_unit() {
    Unit unit;
    unit.name = "prometheus.service";
    unit.active = "active";
    unit.main_pid = 100;
    unit.fragment = "/lib/systemd/system/prometheus.service";
    unit.user = "prometheus";
    unit.exec_start = {"/usr/bin/prometheus", "$ARGS"};
    unit.environment = {};
    for (const auto* name : {"NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "RestrictNamespaces", "LockPersonality",
                             "RestrictRealtime", "MemoryDenyWriteExecute", "RestrictSUIDSGID"})
        unit.settings[name] = "true";
    unit.settings["UMask"] = "0027";
    unit.settings["ProtectSystem"] = "full";
    unit.settings["SystemCallArchitectures"] = "native";
    unit.settings["CapabilityBoundingSet"] = "";
    unit.settings["AmbientCapabilities"] = "";
    return unit;
}

const Words sound{"--web.listen-address=127.0.0.1:9090", "--web.cors.origin=https://prometheus\\.example\\.org"};

/// Debian's server as it should be: one listener on loopback, unit and process agree.
Facts host_with(const Words& running, const Words& configured) {
    Facts facts;
    facts.servers->resize(1);
    auto& server = facts.servers->front();
    server.kind = Server::Kind::unit;
    server.name = "prometheus.service";
    server.process = prometheus_process;
    server.pids = {100};
    server.identity = {110, 110, {110}};
    server.unit = confined_unit();
    server.running = line_of(running);
    server.configured = line_of(configured, "/etc/default/prometheus");
    server.executable = "/usr/bin/prometheus";
    server.version = "2.42.0";
    server.package = "prometheus 2.42.0+ds-5+deb12u1";
    server.distribution = "debian 12";
    server.listeners = {listener("127.0.0.1:9090", 1, prometheus_process)};
    facts.listeners = server.listeners;
    return facts;
}
Facts host_with(const Words& flags) { return host_with(flags, flags); }
Facts sound_host() { return host_with(sound); }
Server& server_of(Facts& facts) { return facts.servers->front(); }

Words with(const Words& more) {
    auto words = sound;
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

void listen(Facts& facts, Listener one) {
    facts.listeners->push_back(one);
    server_of(facts).listeners.push_back(std::move(one));
}

Policy closed_policy() {
    Policy policy;
    policy.prometheus.listen = {parse_endpoint("127.0.0.1:9090").value(), parse_endpoint("[::1]:9090").value()};
    return policy;
}

Service service(const std::string& name, std::uint16_t port, Protocol protocol = Protocol::tcp) {
    Service one;
    one.name = name;
    one.ports = {{port, port}};
    one.protocol = protocol;
    return one;
}

Policy guarding_policy() {
    Policy policy;
    policy.firewall.services = {service("prometheus", 9090)};
    return policy;
}

/// The kernel holds what the policy means.
void guard(Facts& facts, const Policy& policy) {
    facts.links = std::vector<Link>{{1, "lo", "", 0, 0, 0}, {2, "eth0", "", 0, 0, 0}};
    facts.firewall->live = desired_ruleset(policy, facts).value();
}

Decision decide(std::string_view id, const Policy& policy, const Facts& facts) {
    const auto* control = find_control(id);
    REQUIRE(control != nullptr);
    REQUIRE((control->decide != nullptr));
    auto decision = noted(id, control->decide(policy, facts));
    CHECK((decision.verdict == Verdict::fail) == !decision.findings.empty());
    CHECK_FALSE(decision.reason.empty());
    for (const auto& finding : decision.findings) {
        CHECK_FALSE(finding.subject.empty());
        CHECK_FALSE(finding.expected.empty());
        CHECK_FALSE(finding.observed.empty());
        CHECK_FALSE(finding.remedy.summary.empty());
    }
    return decision;
}

bool says(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

constexpr std::string_view flag_controls[] = {"api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.query-limits"};

}  // namespace

TEST_CASE("a sound host passes, a bare one has nothing to judge, a blind look is unknown") {
    const auto policy = closed_policy();
    Facts bare, blind = sound_host();
    bare.servers->resize(1);
    bare.servers->front().kind = Server::Kind::unit;
    bare.servers->front().configured = fail(Code::missing, "load unit", "prometheus.service", "there is no such unit");
    blind.servers = fail(Code::denied, "open", "/proc");
    blind.listeners = fail(Code::denied, "read", "sockets");
    for (const auto id : {"network.listen-address", "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.query-limits", "config.startable", "config.drift", "config.service-sandbox",
                          "config.docker-socket", "secrets.process", "version.vulnerable"}) {
        CAPTURE(id);
        const auto good = decide(id, policy, sound_host());
        CAPTURE(good.reason);
        CHECK(good.verdict == Verdict::pass);
        CHECK(decide(id, policy, bare).verdict == Verdict::not_applicable);
        CHECK(decide(id, policy, blind).verdict == Verdict::unknown);
    }
}

// ---- api ------------------------------------------------------------------------------------------------------------

TEST_CASE("each insecure flag fails its own control and moves no other") {
    const std::pair<std::string, std::string_view> flags[] = {
        {"--web.enable-admin-api", "api.admin"},
        {"--web.enable-lifecycle", "api.lifecycle"},
        {"--web.enable-remote-write-receiver", "api.receivers"},
        {"--enable-feature=exemplar-storage,remote-write-receiver", "api.receivers"},
        {"--enable-feature=otlp-write-receiver", "api.receivers"},
        {"--query.timeout=3m", "api.query-limits"},
        {"--query.max-concurrency=21", "api.query-limits"},
        {"--query.max-samples=6e7", "api.query-limits"},
        {"--web.read-timeout=0s", "api.query-limits"},
        {"--web.max-connections=513", "api.query-limits"},
        {"--storage.remote.read-sample-limit=0", "api.query-limits"},
    };
    for (const auto& [flag, control] : flags) {
        const auto facts = host_with(with({flag}));
        for (const auto id : flag_controls) {
            CAPTURE(flag);
            CAPTURE(id);
            const auto decision = decide(id, closed_policy(), facts);
            CHECK((decision.verdict == Verdict::fail) == (id == control));
            if (id != control) continue;
            REQUIRE(decision.findings.size() == 1);
            CHECK(decision.findings[0].evidence == Evidence::process);
            CHECK(says(decision.findings[0].remedy.summary, "/etc/default/prometheus"));
            CHECK(says(decision.findings[0].remedy.summary, "systemctl restart prometheus.service"));
        }
    }
}

TEST_CASE("what is off, or at its default, or stricter, passes") {
    for (const auto& flag : {"--no-web.enable-admin-api", "--no-web.enable-lifecycle", "--query.timeout=1m", "--query.max-concurrency=20", "--query.max-samples=50000000", "--enable-feature=exemplar-storage",
                             "--storage.remote.read-sample-limit=1000"})
        for (const auto id : flag_controls) {
            CAPTURE(flag);
            CHECK(decide(id, closed_policy(), host_with(with({flag}))).verdict == Verdict::pass);
        }
}

TEST_CASE("the server's own answer is believed before its process, the unit is what comes after a restart") {
    auto facts = sound_host();
    server_of(facts).live_flags = std::map<std::string, std::string>{{"web.enable-admin-api", "true"}, {"web.cors.origin", "https://a\\.example"}};
    auto decision = decide("api.admin", closed_policy(), facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].evidence == Evidence::live);

    facts = host_with(sound, with({"--web.enable-admin-api"}));
    decision = decide("api.admin", closed_policy(), facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].evidence == Evidence::config);
    CHECK(decision.findings[0].location->file == "/etc/default/prometheus");
    CHECK(says(decision.findings[0].observed, "after a restart"));

    facts = host_with(with({"--web.enable-admin-api"}), sound);  // repaired, not yet restarted
    CHECK(decide("api.admin", closed_policy(), facts).verdict == Verdict::fail);

    facts = sound_host();
    server_of(facts).process.reset();
    server_of(facts).configured = line_of(with({"--web.enable-admin-api"}), "/etc/default/prometheus");
    CHECK(decide("api.admin", closed_policy(), facts).findings[0].evidence == Evidence::config);
}

TEST_CASE("an @file that could not be read makes unknown what it may hold, and what is seen fails all the same") {
    auto facts = host_with(with({"@args"}), sound);
    CHECK(decide("api.admin", closed_policy(), facts).verdict == Verdict::unknown);
    CHECK(says(decide("api.admin", closed_policy(), facts).reason, "@args"));
    CHECK(decide("api.lifecycle", closed_policy(), host_with(with({"@args", "--web.enable-lifecycle"}))).verdict == Verdict::fail);
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::pass);  // sockets are the truth
    server_of(facts).live_flags = std::map<std::string, std::string>{{"web.enable-admin-api", "false"}};
    CHECK(decide("api.admin", closed_policy(), facts).verdict == Verdict::pass);
}

TEST_CASE("what the policy allows is no failure") {
    auto policy = closed_policy();
    policy.prometheus.allow.admin_api = policy.prometheus.allow.lifecycle = policy.prometheus.allow.remote_write_receiver = policy.prometheus.allow.otlp_receiver = true;
    const auto facts = host_with(with({"--web.enable-admin-api", "--web.enable-lifecycle", "--web.enable-remote-write-receiver", "--enable-feature=otlp-write-receiver"}));
    for (const auto id : {"api.admin", "api.lifecycle", "api.receivers"}) CHECK(decide(id, policy, facts).verdict == Verdict::pass);
    policy.prometheus.allow.otlp_receiver = false;
    CHECK(decide("api.receivers", policy, facts).findings.size() == 1);
}

TEST_CASE("origins: the default and what lets strangers in fail; the pattern of the policy passes") {
    const std::pair<std::string, Verdict> patterns[] = {
        {".*", Verdict::fail}, {"https?://.*", Verdict::fail}, {".+", Verdict::fail}, {"null|https://a\\.example", Verdict::fail}, {"https://a\\.example", Verdict::pass},
        {"https?://(a|b)\\.example\\.org", Verdict::pass}, {"^$", Verdict::pass}, {"(", Verdict::unknown}};
    for (const auto& [pattern, verdict] : patterns) {
        CAPTURE(pattern);
        CHECK(decide("api.cors", closed_policy(), host_with({"--web.listen-address=127.0.0.1:9090", "--web.cors.origin=" + pattern})).verdict == verdict);
    }
    const auto bare = decide("api.cors", closed_policy(), host_with({"--web.listen-address=127.0.0.1:9090"}));
    CHECK(bare.verdict == Verdict::fail);
    CHECK(says(bare.findings[0].remedy.summary, "add --web.cors.origin="));
    auto policy = closed_policy();
    policy.prometheus.allow.cors_origin = "https://grafana\\.example";
    const auto other = decide("api.cors", policy, sound_host());
    CHECK(other.verdict == Verdict::fail);
    CHECK(says(other.findings[0].remedy.summary, "--web.cors.origin=https://grafana\\.example"));
    CHECK(decide("api.cors", policy, host_with({"--web.listen-address=127.0.0.1:9090", "--web.cors.origin=https://grafana\\.example"})).verdict == Verdict::pass);
}

TEST_CASE("features that became flags in 3.0 are not looked for there") {
    auto facts = host_with(with({"--enable-feature=otlp-write-receiver"}));
    server_of(facts).version = "3.1.0";
    CHECK(decide("api.receivers", closed_policy(), facts).verdict == Verdict::pass);
    facts = sound_host();
    server_of(facts).version = "3.1.0";
    server_of(facts).running = line_of(with({"--web.enable-otlp-receiver"}), {}, 301);
    CHECK(decide("api.receivers", closed_policy(), facts).verdict == Verdict::fail);
}

TEST_CASE("a server in a container is a subject of its own; a stranger's word is not believed") {
    auto facts = sound_host();
    Server container;
    container.kind = Server::Kind::container;
    container.name = "container 4f3c2a1b0d9e";
    container.process = Process{200, "prometheus", "/bin/prometheus", uid_t{65534}, {}, "docker-4f3c.scope"};
    container.running = line_of(with({"--web.enable-admin-api"}));
    container.configured = fail(Code::missing, "read unit of", container.name);
    container.own_network = true;
    facts.servers->push_back(container);
    const auto decision = decide("api.admin", closed_policy(), facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].subject == container.name);
    CHECK(says(decision.findings[0].remedy.summary, "in the arguments of the container"));
    facts.servers->back().kind = Server::Kind::stranger;
    CHECK(decide("api.admin", closed_policy(), facts).verdict == Verdict::pass);
}

// ---- where it listens -----------------------------------------------------------------------------------------------

TEST_CASE("sockets beyond the policy fail, with the line that makes it right") {
    auto facts = host_with({"--web.listen-address=:9090"});
    server_of(facts).listeners.clear();
    facts.listeners->clear();
    listen(facts, listener("[::]:9090", 5, prometheus_process));
    const auto decision = decide("network.listen-address", closed_policy(), facts);
    REQUIRE(decision.verdict == Verdict::fail);
    CHECK(decision.findings[0].evidence == Evidence::kernel);
    CHECK(says(decision.findings[0].observed, "[::]:9090"));
    CHECK(says(decision.findings[0].remedy.summary, "replace --web.listen-address=:9090, in /etc/default/prometheus, by --web.listen-address=127.0.0.1:9090; then"));
    server_of(facts).version = "3.1.0";  // which takes several
    CHECK(says(decide("network.listen-address", closed_policy(), facts).findings[0].remedy.summary, "--web.listen-address=127.0.0.1:9090 --web.listen-address=[::1]:9090"));
}

TEST_CASE("what the unit would do after a restart") {
    const std::pair<std::string, Verdict> values[] = {{"0.0.0.0:9090", Verdict::fail}, {":9090", Verdict::fail}, {"[::]:9090", Verdict::fail}, {"192.0.2.1:9090", Verdict::fail}, {"127.0.0.1:9091", Verdict::fail},
                                                      {"db1.example:9090", Verdict::fail}, {"localhost:9090", Verdict::pass}, {"[::1]:9090", Verdict::pass}, {"127.0.0.1:9090", Verdict::pass}};
    for (const auto& [value, verdict] : values) {
        CAPTURE(value);
        const auto decision = decide("network.listen-address", closed_policy(), host_with(sound, {"--web.listen-address=" + value}));
        CHECK(decision.verdict == verdict);
        if (verdict == Verdict::fail) CHECK(decision.findings[0].evidence == Evidence::config);
    }
    CHECK(decide("network.listen-address", closed_policy(), host_with(sound, {})).verdict == Verdict::fail);  // the default is every address
}

TEST_CASE("a policy without addresses leaves it to the filter: guarded ports and loopback pass") {
    auto facts = host_with({"--web.listen-address=:9090"});
    server_of(facts).listeners.clear();
    facts.listeners->clear();
    listen(facts, listener("[::]:9090", 5, prometheus_process));
    CHECK(decide("network.listen-address", guarding_policy(), facts).verdict == Verdict::pass);
    CHECK(decide("network.listen-address", Policy{}, facts).verdict == Verdict::fail);
    CHECK(decide("network.listen-address", Policy{}, sound_host()).verdict == Verdict::pass);
    auto everywhere = closed_policy();
    everywhere.prometheus.listen = {parse_endpoint("[::]:9090").value()};
    CHECK(decide("network.listen-address", everywhere, facts).verdict == Verdict::pass);
}

TEST_CASE("a squatter on Prometheus' port is named, on any address, whether the server runs or not") {
    auto facts = sound_host();
    const Process squatter{4711, "prometheus", "/usr/bin/nc", uid_t{1000}, {}, "user@1000.service"};
    facts.listeners->push_back(listener("[::1]:9090", 77, squatter, 1000));
    auto decision = decide("network.listen-address", closed_policy(), facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].subject == "[::1]:9090");
    CHECK(says(decision.findings[0].observed, "/usr/bin/nc"));

    facts.servers->front().process.reset();
    facts.servers->front().listeners.clear();
    facts.listeners = std::vector<Listener>{listener("127.0.0.1:9090", 78, squatter, 1000)};
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::fail);
    facts.listeners->front().holders.clear();
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::unknown);
    facts.listeners = std::vector<Listener>{listener("0.0.0.0:9090", 79, {900, "docker-proxy", "/usr/bin/docker-proxy", uid_t{0}, {}, "docker.service"}, 0)};
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::pass);  // network.published-ports speaks of it
}

TEST_CASE("what only looks like Prometheus is named, and fails where others reach it") {
    auto facts = sound_host();
    Server stranger;
    stranger.kind = Server::Kind::stranger;
    stranger.name = "pid 4711";
    stranger.process = Process{4711, "prometheus", "/usr/bin/sleep", uid_t{1000}, {}, "session-3.scope"};
    facts.servers->push_back(stranger);
    const auto noted = decide("network.listen-address", closed_policy(), facts);
    CHECK(noted.verdict == Verdict::pass);
    CHECK(says(noted.reason, "pid 4711"));
    facts.servers->back().listeners = {listener("0.0.0.0:9095", 80, *stranger.process, 1000)};
    facts.listeners->push_back(facts.servers->back().listeners[0]);
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::fail);
}

TEST_CASE("a running server none of whose sockets is seen is not judged") {
    auto facts = sound_host();
    server_of(facts).listeners.clear();
    facts.listeners->clear();
    CHECK(decide("network.listen-address", closed_policy(), facts).verdict == Verdict::unknown);
}

// ---- containers and companions --------------------------------------------------------------------------------------

namespace {

Publication published(const std::string& host, std::uint16_t inside, const std::string& name = "prom", Publication::Seen seen = Publication::Seen::configuration) {
    return {seen, parse_endpoint(host).value(), inside, Protocol::tcp, {}, name, "/var/lib/docker/containers/4f3c/hostconfig.json"};
}

}  // namespace

TEST_CASE("published ports: loopback passes, all addresses only where the ruleset in force judges them") {
    constexpr auto id = "network.published-ports";
    auto policy = guarding_policy();
    auto facts = sound_host();
    CHECK(decide(id, policy, facts).verdict == Verdict::not_applicable);
    facts.containers->publications = {published("127.0.0.1:9090", 9090), published("0.0.0.0:8081", 80, "web")};
    CHECK(decide(id, policy, facts).verdict == Verdict::pass);
    facts.containers->publications.push_back(published("0.0.0.0:9090", 9090, "other"));
    auto decision = decide(id, policy, facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].subject == "container other");
    CHECK(says(decision.findings[0].remedy.summary, "\"127.0.0.1:9090:9090\""));
    guard(facts, policy);
    decision = decide(id, policy, facts);
    CHECK(decision.verdict == Verdict::pass);
    CHECK(says(decision.reason, "judged by the live ruleset"));
    policy.prometheus.listen = closed_policy().prometheus.listen;  // and now the policy says where
    CHECK(decide(id, policy, facts).verdict == Verdict::fail);
    facts.containers->publications.clear();
    facts.containers->unread = {"open /var/lib/docker/containers: Permission denied"};
    CHECK(decide(id, policy, facts).verdict == Verdict::unknown);
    facts.containers = fail(Code::failed, "read", "containers");
    CHECK(decide(id, policy, facts).verdict == Verdict::unknown);
}

TEST_CASE("published ports: remapped, by rule, and of a Prometheus that the policy does not know") {
    constexpr auto id = "network.published-ports";
    auto policy = guarding_policy();
    auto facts = sound_host();
    facts.containers->publications = {published("0.0.0.0:8080", 9090)};
    CHECK(decide(id, policy, facts).verdict == Verdict::fail);
    guard(facts, policy);
    CHECK(decide(id, policy, facts).verdict == Verdict::pass);  // the forward chain sees 9090
    facts.containers->publications = {published("0.0.0.0:8080", 9999, "", Publication::Seen::rule)};
    CHECK(decide(id, policy, facts).verdict == Verdict::not_applicable);
    Server container;
    container.kind = Server::Kind::container;
    container.listeners = {listener("[::]:9999", 12)};
    facts.servers->push_back(container);
    CHECK(decide(id, policy, facts).findings[0].evidence == Evidence::kernel);
}

TEST_CASE("companion ports: guarded, loopback or declared open pass; generic ports only by name") {
    constexpr auto id = "network.companion-ports";
    const auto listening = [](const std::string& endpoint, const std::string& exe, Protocol protocol = Protocol::tcp) {
        Facts facts = sound_host();
        auto one = listener(endpoint, 31, {300, exe.substr(exe.rfind('/') + 1), exe, uid_t{1}, {}, ""});
        one.protocol = protocol;
        facts.listeners->push_back(one);
        return facts;
    };
    CHECK(decide(id, Policy{}, sound_host()).verdict == Verdict::not_applicable);
    CHECK(decide(id, Policy{}, listening("[::]:9100", "/usr/bin/prometheus-node-exporter")).verdict == Verdict::fail);
    CHECK(decide(id, Policy{}, listening("0.0.0.0:9094", "/usr/bin/alertmanager", Protocol::udp)).verdict == Verdict::fail);
    CHECK(decide(id, Policy{}, listening("127.0.0.1:9100", "/usr/bin/prometheus-node-exporter")).verdict == Verdict::pass);
    CHECK(decide(id, Policy{}, listening("0.0.0.0:3000", "/usr/bin/node")).verdict == Verdict::not_applicable);
    CHECK(decide(id, Policy{}, listening("0.0.0.0:8080", "/usr/sbin/apache2")).verdict == Verdict::not_applicable);
    CHECK(decide(id, Policy{}, listening("0.0.0.0:3000", "/usr/sbin/grafana-server")).verdict == Verdict::fail);
    CHECK(decide(id, Policy{}, listening("0.0.0.0:19100", "/opt/node_exporter")).verdict == Verdict::fail);
    auto policy = guarding_policy();
    policy.firewall.services.push_back(service("alertmanager", 9093));
    CHECK(decide(id, policy, listening("0.0.0.0:9093", "/usr/bin/alertmanager")).verdict == Verdict::pass);
    policy.firewall.open_ports = {9100};
    CHECK(decide(id, policy, listening("0.0.0.0:9100", "/usr/bin/node_exporter")).verdict == Verdict::pass);
    policy.firewall.services.push_back(service("gossip", 9094));
    CHECK(decide(id, policy, listening("0.0.0.0:9094", "/usr/bin/alertmanager", Protocol::udp)).verdict == Verdict::fail);  // guarded for TCP only
    auto published_grafana = listening("0.0.0.0:3000", "/usr/bin/docker-proxy");
    CHECK(decide(id, Policy{}, published_grafana).verdict == Verdict::not_applicable);
    published_grafana.containers->containers = {{.id = "1", .name = "graphs", .image = "grafana/grafana:11", .engine = "docker", .arguments = {}, .environment = {}, .mounts = {}, .source = ""}};
    published_grafana.containers->publications = {published("0.0.0.0:3000", 3000, "graphs")};
    CHECK(decide(id, Policy{}, published_grafana).verdict == Verdict::fail);
}

// ---- config ---------------------------------------------------------------------------------------------------------

TEST_CASE("startable: what the guides advise, and what it should be") {
    struct Case {
        std::string flag, observed, remedy;
    };
    const Case cases[] = {
        {"--web.tls-cert=/etc/x", "unknown long flag '--web.tls-cert'", "--web.config.file"},
        {"--web.enable-admin-api=false", "unexpected false", "leave"},
        {"--storage.tsdb.retention.size=10G", "units: unknown unit G in 10G", "10GB"},
        {"--web.listen-address=127.0.0.1:9091", "flag 'web.listen-address' cannot be repeated", "once"},
        {"--web.listen-adress=x", "unknown long flag '--web.listen-adress'", "did you mean --web.listen-address?"},
        {"--web.enable-otlp-receiver", "unknown long flag '--web.enable-otlp-receiver'", "this version has no"},
    };
    for (const auto& one : cases) {
        CAPTURE(one.flag);
        const auto decision = decide("config.startable", closed_policy(), host_with(sound, with({one.flag})));
        REQUIRE(decision.verdict == Verdict::fail);
        CHECK(says(decision.findings[0].observed, one.observed));
        CHECK(says(decision.findings[0].remedy.summary, one.remedy));
        CHECK(decision.findings[0].location.has_value());
    }
    CHECK(decide("config.startable", closed_policy(), host_with(sound, with({"@args"}))).verdict == Verdict::unknown);
    auto facts = sound_host();
    server_of(facts).configured = fail(Code::denied, "open", "/etc/systemd");
    CHECK(decide("config.startable", closed_policy(), facts).verdict == Verdict::unknown);
}

TEST_CASE("drift: flags that differ, a replaced program, files that systemd has not read") {
    constexpr auto id = "config.drift";
    CHECK(decide(id, closed_policy(), host_with(with({"--log.level=debug"}), sound)).verdict == Verdict::fail);
    CHECK(decide(id, closed_policy(), host_with(sound, with({"--log.level=debug"}))).verdict == Verdict::fail);
    CHECK(decide(id, closed_policy(), host_with(with({"--log.level=info", "--no-web.enable-admin-api"}), sound)).verdict == Verdict::pass);  // the defaults, written out
    auto reordered = sound;
    std::ranges::reverse(reordered);
    CHECK(decide(id, closed_policy(), host_with(reordered, sound)).verdict == Verdict::pass);
    CHECK(decide(id, closed_policy(), host_with(with({"@args"}), sound)).verdict == Verdict::unknown);
    auto facts = sound_host();
    server_of(facts).replaced = true;
    CHECK(decide(id, closed_policy(), facts).findings[0].evidence == Evidence::kernel);
    facts = sound_host();
    server_of(facts).unit->needs_reload = true;
    CHECK(says(decide(id, closed_policy(), facts).findings[0].remedy.summary, "daemon-reload"));
    const auto secret = decide(id, closed_policy(), host_with(with({"--web.external-url=https://u:hunter2@h/p?token=hunter2"}), sound));
    REQUIRE(secret.verdict == Verdict::fail);
    CHECK_FALSE(says(secret.findings[0].observed, "hunter2"));
}

TEST_CASE("sandbox: a confined unit passes, one that only names a user does not") {
    constexpr auto id = "config.service-sandbox";
    auto facts = sound_host();
    server_of(facts).unit->settings.clear();
    auto decision = decide(id, closed_policy(), facts);
    CHECK(decision.findings.size() == 16);
    facts = sound_host();
    server_of(facts).unit->settings["ProtectHome"] = "no";
    decision = decide(id, closed_policy(), facts);
    REQUIRE(decision.findings.size() == 1);
    CHECK(says(decision.findings[0].remedy.summary, "under [Service] write ProtectHome=yes"));
    server_of(facts).unit->written["ProtectHome"] = {"/etc/systemd/system/prometheus.service.d/x.conf", 3};
    CHECK(decide(id, closed_policy(), facts).findings[0].location->line == 3);
    facts = sound_host();
    server_of(facts).unit->user.clear();
    CHECK(says(decide(id, closed_policy(), facts).findings[0].observed, "as root"));
    server_of(facts).unit->settings["DynamicUser"] = "yes";
    CHECK(decide(id, closed_policy(), facts).verdict == Verdict::pass);
    facts = sound_host();
    server_of(facts).process->uid = 0;
    CHECK(decide(id, closed_policy(), facts).findings[0].evidence == Evidence::kernel);
    facts = sound_host();
    server_of(facts).unit->settings["AmbientCapabilities"] = "CAP_NET_BIND_SERVICE";
    CHECK(decide(id, closed_policy(), facts).verdict == Verdict::pass);
    server_of(facts).unit->settings["AmbientCapabilities"] = "CAP_SYS_ADMIN";
    CHECK(decide(id, closed_policy(), facts).verdict == Verdict::fail);
    facts = sound_host();
    server_of(facts).unit.reset();
    CHECK(decide(id, closed_policy(), facts).verdict == Verdict::not_applicable);
}

TEST_CASE("the container engine: groups, bound sockets, mounts of monitoring containers") {
    constexpr auto id = "config.docker-socket";
    auto facts = sound_host();
    server_of(facts).group_names = {"prometheus", "docker"};
    CHECK(decide(id, closed_policy(), facts).verdict == Verdict::fail);
    facts = sound_host();
    server_of(facts).unit->settings["BindPaths"] = "/run/docker.sock";
    CHECK(decide(id, closed_policy(), facts).findings[0].location->path == "BindPaths");
    const auto container = [](const std::string& image, const std::string& mount) {
        Facts one = sound_host();
        one.containers->containers = {{.id = "1", .name = "x", .image = image, .engine = "docker", .running = true, .arguments = {}, .environment = {}, .mounts = {mount}, .source = "/c"}};
        return one;
    };
    CHECK(decide(id, closed_policy(), container("gcr.io/cadvisor/cadvisor:v1", "/var/run")).verdict == Verdict::fail);
    CHECK(decide(id, closed_policy(), container("prom/prometheus", "/var/run/docker.sock")).verdict == Verdict::fail);
    CHECK(decide(id, closed_policy(), container("prom/prometheus", "/srv/prometheus")).verdict == Verdict::pass);
    CHECK(decide(id, closed_policy(), container("portainer/portainer", "/var/run/docker.sock")).verdict == Verdict::pass);  // not monitoring
}

// ---- data, secrets, version -----------------------------------------------------------------------------------------

TEST_CASE("retention within the policy, by time and by size") {
    constexpr auto id = "data.retention";
    auto policy = closed_policy();
    CHECK(decide(id, policy, sound_host()).verdict == Verdict::not_applicable);
    policy.data.retention_time = std::chrono::hours(15 * 24);
    const auto judged = [&](const Words& more) { return decide(id, policy, host_with(with(more))).verdict; };
    CHECK(judged({}) == Verdict::pass);  // 15d is the default
    CHECK(judged({"--storage.tsdb.retention.time=15d"}) == Verdict::pass);
    CHECK(judged({"--storage.tsdb.retention.time=16d"}) == Verdict::fail);
    CHECK(judged({"--storage.tsdb.retention=1y"}) == Verdict::fail);
    CHECK(judged({"--storage.tsdb.retention.time=0"}) == Verdict::pass);  // the default again
    CHECK(judged({"--storage.tsdb.retention.size=10GB"}) == Verdict::fail);  // a size alone: no end in time
    policy.data.retention_size = 10ULL << 30;
    CHECK(judged({}) == Verdict::fail);
    CHECK(judged({"--storage.tsdb.retention.size=10GB", "--storage.tsdb.retention.time=1d"}) == Verdict::pass);
    CHECK(judged({"--storage.tsdb.retention.size=11GB", "--storage.tsdb.retention.time=1d"}) == Verdict::fail);
    CHECK(judged({"--enable-feature=agent"}) == Verdict::not_applicable);
    const auto decision = decide(id, policy, host_with(with({"--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=10GB"})));
    CHECK(says(decision.findings[0].remedy.summary, "by --storage.tsdb.retention.time=15d"));
    policy.data.retention_size.reset();
    CHECK(decide(id, policy, host_with(with({"@args"}), sound)).verdict == Verdict::unknown);
}

TEST_CASE("secrets in arguments and environments are named and never shown") {
    constexpr auto id = "secrets.process";
    const auto judged = [&](const Facts& facts) {
        auto decision = decide(id, closed_policy(), facts);
        CHECK_FALSE(says(decision.reason, "hunter2"));
        for (const auto& finding : decision.findings) CHECK_FALSE(says(finding.observed + finding.remedy.summary + finding.expected, "hunter2"));
        return decision.verdict;
    };
    for (const auto& word : {"--web.external-url=https://u:hunter2@h/", "--x.password=hunter2", "--token=hunter2", "--web.external-url=https://h/?api_key=hunter2"}) {
        CAPTURE(word);
        CHECK(judged(host_with(with({word}))) == Verdict::fail);
    }
    CHECK(judged(host_with(with({"--x.password", "hunter2"}))) == Verdict::fail);
    const auto two = decide(id, closed_policy(), host_with(with({"--web.enable-lifecycle", "--web.external-url=https://u:hunter2@h/"})));
    REQUIRE(two.findings.size() == 1);
    CHECK(says(two.findings[0].observed, "--web.external-url"));
    for (const auto& word : {"--web.external-url=https://h/p", "--x.password-file=/etc/hunter2", "--x.password=/run/secrets/x", "--x.token=${TOKEN}", "--web.external-url=https://u@h/", "--x.password"}) {
        CAPTURE(word);
        CHECK(judged(host_with(with({word}))) == Verdict::pass);
    }
    auto facts = sound_host();
    server_of(facts).unit->environment = {"HTTPS_PROXY=http://u:hunter2@proxy:3128", "GOMAXPROCS=2"};
    CHECK(judged(facts) == Verdict::fail);
    server_of(facts).unit->environment = {"AWS_SECRET_ACCESS_KEY=hunter2"};
    CHECK(judged(facts) == Verdict::fail);
    server_of(facts).unit->environment = {"ADMIN_PASSWORD_FILE=/run/x", "ARGS=--a", "SECRET_NAME=x", "API_TOKEN="};
    CHECK(judged(facts) == Verdict::pass);
    const auto container = [](const std::string& image, const std::string& variable) {
        Facts one = sound_host();
        one.containers->containers = {{.id = "1", .name = "x", .image = image, .engine = "docker", .arguments = {}, .environment = {variable}, .mounts = {}, .source = "/c"}};
        return one;
    };
    CHECK(judged(container("grafana/grafana", "GF_SECURITY_ADMIN_PASSWORD=hunter2")) == Verdict::fail);
    CHECK(judged(container("grafana/grafana", "GF_SECURITY_ADMIN_PASSWORD__FILE=/run/secrets/x")) == Verdict::pass);
    CHECK(judged(container("postgres:16", "POSTGRES_PASSWORD=hunter2")) == Verdict::pass);  // not monitoring
}

TEST_CASE("holes: by number where nobody packages it, by the archive where somebody does") {
    constexpr auto id = "version.vulnerable";
    const auto judged = [&](const std::string& version, const std::string& package = {}, const std::string& update = {}) {
        auto facts = sound_host();
        server_of(facts).version = version;
        server_of(facts).package = package;
        server_of(facts).update = update;
        return decide(id, closed_policy(), facts);
    };
    CHECK(judged("2.40.3").findings.size() > judged("2.40.4").findings.size());
    CHECK(judged("3.13.0").verdict == Verdict::pass);
    CHECK(judged("3.14.1").verdict == Verdict::pass);
    CHECK(judged("3.11.2").verdict == Verdict::fail);
    CHECK(std::ranges::none_of(judged("3.5.3").findings, [](const Finding& finding) { return says(finding.observed, "CVE-2026-42154"); }));
    CHECK(judged("").verdict == Verdict::unknown);
    auto elsewhere = sound_host();
    server_of(elsewhere).version = "2.42.0";
    server_of(elsewhere).package.clear();
    server_of(elsewhere).unread_packages = "rpm";
    CHECK(decide(id, closed_policy(), elsewhere).verdict == Verdict::unknown);
    CHECK(says(decide(id, closed_policy(), elsewhere).reason, "rpm -qf "));
    const auto packaged = judged("2.42.0", "prometheus 2.42.0+ds-5+deb12u1");
    CHECK(packaged.verdict == Verdict::pass);
    CHECK(says(packaged.reason, "prometheus 2.42.0+ds-5+deb12u1 of debian 12"));
    const auto behind = judged("2.42.0", "prometheus 2.42.0+ds-5+deb12u1", "2.42.0+ds-5+deb12u2");
    REQUIRE(behind.verdict == Verdict::fail);
    CHECK(says(behind.findings[0].remedy.summary, "apt install prometheus"));
}
