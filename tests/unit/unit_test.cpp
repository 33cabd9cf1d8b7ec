// The drop-ins of Prometheus' unit: what they say, for whom, and that systemd's reading of them is what was meant. Pure.

#include <algorithm>

#include <doctest/doctest.h>

#include "promwarden/apply.hpp"
#include "promwarden/demands.hpp"

using namespace promwarden;

namespace {

using Words = std::vector<std::string>;

const std::string directory = "/etc/systemd/system/prometheus.service.d";

Words words_in(const std::string& drop_in) {
    const auto read = unit::merge("prometheus.service", unit::read_assignments("", drop_in));
    Words words;
    for (auto& argument : unit::command_line(read.exec_start, {}, "")) words.push_back(std::move(argument.text));
    return words;
}

/// Debian's unit, with these flags in ARGS.
struct Host {
    Policy policy;
    ApplyFacts facts;

    explicit Host(const Words& flags, std::optional<prometheus::Version> version = 242) {
        for (const auto& control : catalogue()) policy.controls[std::string(control.id)] = Mode::off;
        facts.firewall = fail(Code::denied, "look", "");
        Server server;
        server.kind = Server::Kind::unit;
        server.name = policy.prometheus.unit;
        if (version) server.version = *version == 242 ? "2.42.0" : "3.1.0";
        server.unit = Unit{};
        unit::Bare bare;
        bare.directory = directory;
        bare.unit.name = server.name;
        bare.unit.exec_start = {"/usr/bin/prometheus", "$ARGS"};
        bare.unit.user = "prometheus";
        std::vector<prometheus::Argument> arguments;
        for (const auto& flag : flags) arguments.push_back({flag, "/etc/default/prometheus"});
        bare.line = prometheus::read_command_line("/usr/bin/prometheus", arguments, prometheus::build_of(server), [](const std::string&) -> Result<std::string> { return "--log.format=json\n--web.enable-admin-api"; });
        server.running = server.configured = bare.line;
        facts.servers = std::vector{server};
        facts.bare_unit = bare;
    }
    Host& enforce(const std::string& control, Mode mode = Mode::enforce) {
        policy.controls[control] = mode;
        return *this;
    }
    unit::Bare& bare() { return **facts.bare_unit; }
    /// The plan's changes of the unit, each with its text: what they would leave.
    [[nodiscard]] std::vector<Change> changes(std::span<const std::string> only = {}) const {
        auto all = Engine::plan(policy, facts, only).changes;
        std::erase_if(all, [](const Change& change) { return change.kind != Change::Kind::unit || !std::holds_alternative<WriteFile>(change.deed); });
        return all;
    }
    /// As after an apply.
    void apply(std::span<const std::string> only = {}) {
        for (const auto& change : changes(only)) {
            if (policy.mode_of(change.control) != Mode::enforce) continue;
            const auto name = change.subject.substr(directory.size() + 1);
            if (const auto& after = std::get<WriteFile>(change.deed).after) bare().ours[name] = after->front().text;
            else bare().ours.erase(name);
        }
    }
    Words applied() {
        apply();
        const auto there = bare().ours.find("promwarden-flags.conf");
        return there == bare().ours.end() ? Words{} : words_in(there->second);
    }
};

}  // namespace

TEST_CASE("what is quoted is read as it was") {
    const Words words{"--web.cors.origin=^$", "--web.external-url=https://h/p?a=%20b", "--x=a b", "--x=\"q\" 'r'", "--x=back\\slash", "--x=tab\tline\nend", "$ARGS", "${ARGS}", "a$$b", "100%", "", ";", "--x=ä", "--web.listen-address=[::1]:9090"};
    std::string line = "[Service]\nExecStart=/usr/bin/prometheus";
    for (const auto& word : words) line += " \\\n    " + unit::quoted(word);
    auto read = words_in(line + "\n");
    REQUIRE(read.size() == words.size() + 1);
    read.erase(read.begin());
    CHECK(read == words);
    CHECK(unit::quoted("--web.enable-admin-api") == "--web.enable-admin-api");
    CHECK(unit::quoted(";") == "\";\"");
}

TEST_CASE("a flag goes, the others stay as they were") {
    Host host({"--storage.tsdb.retention.time=30d", "--web.enable-admin-api", "--web.external-url", "https://h/a b", "--log.level=warn"});
    host.enforce("api.admin");
    CHECK(host.applied() == Words{"/usr/bin/prometheus", "--storage.tsdb.retention.time=30d", "--web.external-url=https://h/a b", "--log.level=warn"});
    CHECK(host.changes().empty());
    CHECK(host.facts.servers->front().running->find("web.enable-admin-api") != nullptr);  // it still runs with it: that is for config.drift to say
}

TEST_CASE("what an administrator changes in ARGS is taken over, and nothing is left where nothing is wrong") {
    Host host({"--web.enable-lifecycle"});
    host.enforce("api.lifecycle");
    CHECK(host.applied() == Words{"/usr/bin/prometheus"});
    const auto there = host.bare().ours;
    Host later({"--web.enable-lifecycle", "--query.timeout=30s"});
    later.enforce("api.lifecycle").bare().ours = there;
    CHECK(later.applied() == Words{"/usr/bin/prometheus", "--query.timeout=30s"});
    Host cured({"--query.timeout=30s"});
    cured.enforce("api.lifecycle").bare().ours = there;
    REQUIRE(cured.changes().size() == 1);
    CHECK_FALSE(std::get<WriteFile>(cured.changes()[0].deed).after);
    CHECK(cured.applied().empty());
    CHECK(Host({"--query.timeout=30s"}).enforce("api.lifecycle").changes().empty());
}

TEST_CASE("no flag stands twice, a switch with a value is put right") {
    Host host({"--web.listen-address=:9090", "--web.enable-admin-api=false", "--web.cors.origin=.*"});
    host.policy.prometheus.listen = {parse_endpoint("127.0.0.1:9090").value(), parse_endpoint("[::1]:9090").value()};
    host.enforce("network.listen-address").enforce("api.cors").enforce("api.admin");
    CHECK(host.applied() == Words{"/usr/bin/prometheus", "--web.listen-address=127.0.0.1:9090", "--no-web.enable-admin-api", "--web.cors.origin=^$"});
    Host newer({"--web.listen-address=:9090"}, 301);
    newer.policy.prometheus.listen = host.policy.prometheus.listen;
    newer.enforce("network.listen-address");
    CHECK(newer.applied() == Words{"/usr/bin/prometheus", "--web.listen-address=127.0.0.1:9090", "--web.listen-address=[::1]:9090"});
    Host kept({"--web.listen-address=[::1]:9090"});
    kept.policy.prometheus.listen = host.policy.prometheus.listen;
    CHECK(kept.enforce("network.listen-address").changes().empty());
}

TEST_CASE("features, limits, retention, web.yml") {
    Host host({"--enable-feature=exemplar-storage,remote-write-receiver", "--enable-feature=otlp-write-receiver", "--query.max-samples=90000000", "--query.timeout=1m", "--storage.tsdb.retention=90d", "--log.level=debug"});
    host.policy.data.retention_time = std::chrono::hours(15 * 24);
    host.policy.data.retention_size = 10ULL << 30;
    host.policy.prometheus.web_config = "/etc/prometheus/web.yml";
    host.enforce("api.receivers").enforce("api.query-limits").enforce("data.retention").enforce("tls.server").enforce("audit.query-log");
    const Words without{"/usr/bin/prometheus", "--enable-feature=exemplar-storage", "--query.timeout=1m", "--storage.tsdb.retention=15d", "--storage.tsdb.retention.size=10GB"};
    CHECK(host.applied() == without);
    host.bare().web_config = true;  // only now there is such a file
    auto with = without;
    with.emplace_back("--web.config.file=/etc/prometheus/web.yml");
    auto applied = host.applied();
    std::ranges::sort(applied);
    std::ranges::sort(with);
    CHECK(applied == with);
}

TEST_CASE("an arguments file is written out, so that what it says can be taken away") {
    Host host({"@/etc/prometheus/args", "--query.timeout=1m"});
    CHECK(host.enforce("api.admin").applied() == Words{"/usr/bin/prometheus", "--log.format=json", "--query.timeout=1m"});
}

TEST_CASE("what would not start, or is not known whole, is not written") {
    CHECK(Host({"--web.enable-admin-api", "--web.tls-cert=/c"}).enforce("api.admin").changes().empty());
    CHECK(Host({"--web.enable-admin-api", "--log.level=warn", "--log.level=warn"}).enforce("api.admin").changes().empty());
    Host unread({"--web.enable-admin-api"});
    unread.bare().line->unread.emplace_back("@args");
    CHECK(unread.enforce("api.admin").changes().empty());
    Host fixed({"--web.enable-admin-api"});
    fixed.bare().fixed = "ExecStart has the specifier %h";
    CHECK(fixed.enforce("api.admin").changes().empty());
    CHECK(Engine::plan(fixed.policy, fixed.facts).refusals == Words{"the flags of prometheus.service are left as they are: ExecStart has the specifier %h"});
    Host missing({"--web.enable-admin-api"});
    missing.facts.bare_unit = fail(Code::missing, "read unit", "prometheus.service");
    CHECK(missing.enforce("api.admin").changes().empty());
    Host alone({"--web.enable-admin-api"});
    alone.facts.bare_unit.reset();
    CHECK(alone.enforce("api.admin").changes().empty());
}

TEST_CASE("what a process says of itself is in no drop-in") {
    Host host({"--web.enable-admin-api", "--query.timeout=1m"});
    auto& server = host.facts.servers->front();
    server.running->words = {"/usr/bin/prometheus", "@/etc/shadow", "--config.file=/etc/shadow", "--query.timeout=9m"};
    server.running->flags = {{"config.file", "/etc/shadow", "", "--config.file=/etc/shadow"}, {"query.timeout", "9m", "", "--query.timeout=9m"}};
    server.live_flags = std::map<std::string, std::string>{{"web.enable-admin-api", "false"}, {"config.file", "/etc/shadow"}};
    CHECK(host.enforce("api.admin").applied() == Words{"/usr/bin/prometheus", "--query.timeout=1m"});
}

TEST_CASE("a control in audit is shown, after and apart from what is enforced") {
    Host host({"--web.enable-admin-api", "--web.enable-lifecycle"});
    host.enforce("api.admin", Mode::audit).enforce("api.lifecycle");
    const auto changes = host.changes();
    REQUIRE(changes.size() == 2);
    CHECK(changes[0].control == "api.lifecycle");
    CHECK(changes[1].control == "api.admin");
    CHECK(std::get<WriteFile>(changes[1].deed).before == std::get<WriteFile>(changes[0].deed).after);
    CHECK(Engine::work_of(host.policy, {changes, {}, {}}).size() == 1);
    CHECK(host.applied() == Words{"/usr/bin/prometheus", "--web.enable-admin-api"});
    REQUIRE(host.changes().size() == 1);  // still shown
    CHECK(Engine::work_of(host.policy, {host.changes(), {}, {}}).empty());
}

TEST_CASE("an apply of one control keeps what those before it made, and takes nothing else") {
    Host host({"--web.enable-admin-api", "--web.enable-lifecycle"});
    host.enforce("api.admin").enforce("api.lifecycle");
    const std::string lifecycle[] = {"api.lifecycle"}, admin[] = {"api.admin"};
    host.apply(lifecycle);
    CHECK(words_in(host.bare().ours.at("promwarden-flags.conf")) == Words{"/usr/bin/prometheus", "--web.enable-admin-api"});
    host.apply(admin);
    CHECK(words_in(host.bare().ours.at("promwarden-flags.conf")) == Words{"/usr/bin/prometheus"});
    CHECK(host.changes().empty());
}

TEST_CASE("a waived control is left alone") {
    Host host({"--web.enable-admin-api"});
    host.enforce("api.admin");
    host.policy.waivers = {{{}, "api.admin", "", "snapshots", "storage team", std::chrono::system_clock::time_point::max()}};
    CHECK(host.changes().empty());
}

TEST_CASE("the restart is the policy's to allow") {
    Host host({"--web.enable-admin-api"});
    host.enforce("api.admin");
    CHECK(host.changes()[0].effect == Effect::units);
    CHECK(host.changes()[0].summary.contains("at its next restart"));
    host.policy.prometheus.restart_when_needed = true;
    CHECK(host.changes()[0].effect == Effect::restart);
}

TEST_CASE("the sandbox: what is missing, but for what would lock the server out of its own files") {
    Host host({"--storage.tsdb.path=/home/prometheus/data", "--config.file=/tmp/p.yml"});
    host.enforce("config.service-sandbox").bare().unit.settings["NoNewPrivileges"] = "true";
    REQUIRE(host.changes().size() == 1);
    const auto text = std::get<WriteFile>(host.changes()[0].deed).after->front().text;
    for (const auto* setting : {"\nProtectSystem=full\n", "\nPrivateDevices=yes\n", "\nProtectKernelTunables=yes\n", "\nProtectKernelModules=yes\n", "\nProtectControlGroups=yes\n", "\nRestrictSUIDSGID=yes\n", "\nUMask=0027\n", "\nCapabilityBoundingSet=\n"})
        CHECK(text.contains(setting));
    for (const auto* setting : {"NoNewPrivileges", "ProtectHome", "PrivateTmp", "User="}) CHECK_FALSE(text.contains(setting));
    host.apply();
    CHECK(host.changes().empty());
    CHECK(host.bare().ours.contains("promwarden-sandbox.conf"));
}

TEST_CASE("the sandbox: a user where the files are that user's already, capabilities where a low port needs none") {
    Host host({});
    host.enforce("config.service-sandbox").bare().unit.user.clear();
    auto settings = missing_settings(host.bare().unit, *host.bare().line, "");
    CHECK(std::ranges::none_of(settings, [](const UnitSetting& one) { return one.name == "User" || one.name == "CapabilityBoundingSet"; }));
    settings = missing_settings(host.bare().unit, *host.bare().line, "prometheus");
    CHECK(settings.front() == UnitSetting{"User", "prometheus"});
    CHECK(settings.back() == UnitSetting{"CapabilityBoundingSet", ""});
    const Host low({"--web.listen-address=:443"});
    settings = missing_settings((**low.facts.bare_unit).unit, *(**low.facts.bare_unit).line, "prometheus");
    CHECK(settings.back() == UnitSetting{"UMask", "0027"});
}
