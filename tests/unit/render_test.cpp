#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "promwarden/lint.hpp"
#include "promwarden/render.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

const auto now = parse_time("2026-11-22T10:00:00Z").value();

/// What a process may call itself: an escape that clears the screen, a C1 control, a mark that reverses the line, markup, a broken byte, a second line.
const std::string hostile =
    "evil\x1b[2J\xc2\x9b"
    "31m\xe2\x80\xae<&\"'\\>\xff\nnext";

Finding table_finding() {
    return {"rule guard_pre", "goto guard_service_prometheus", "missing", {}, Evidence::kernel, {true, "promwarden apply"}};
}

/// One control of each standing.
Report sample() {
    Report report{"db1.example.org", now, "/etc/promwarden/policy.toml", sha256("policy"), {}};
    const auto add = [&](std::string_view id, Mode mode, Decision decision) -> ControlReport& {
        report.controls.push_back({find_control(id), mode, std::move(decision), {}, false, {}});
        return report.controls.back();
    };
    add("network.packet-filter", Mode::enforce,
        {Verdict::pass, "the live table is exactly the policy's: 14 rules in 5 chains, 3 elements in 2 sets", {}});
    add("network.container-path", Mode::enforce, {Verdict::fail, "the live table differs from the policy's in 1 place", {table_finding()}});
    auto& waived = add("network.bypass", Mode::enforce,
                       {Verdict::fail,
                        "1 way around the filter",
                        {{"eth0",
                          "no XDP program: it takes packets before any rule sees them",
                          "program 7",
                          {},
                          Evidence::kernel,
                          {false, "ip link set dev eth0 xdp off"}}}});
    waived.waiver = Waiver{{}, "network.bypass", "", "load balancer", "network team", parse_time("2026-11-30T00:00:00Z").value()};
    waived.waived = true;
    waived.notice = "the waiver expires in 7 days";
    add("access.local-users", Mode::enforce,
        {Verdict::not_applicable, "no service of the policy names local_users: anyone on this host reaches its ports over loopback", {}});
    add("tls.client-auth", Mode::audit,
        {Verdict::fail,
         "client certificates are not verified",
         {{"/etc/prometheus/web.yml",
           "RequireAndVerifyClientCert",
           hostile,
           Location{"/etc/prometheus/web #1.yml", 4, 3, "tls_server_config.client_auth_type"},
           Evidence::config,
           {false, "set client_auth_type"}}}});
    add("data.retention", Mode::enforce, {Verdict::unknown, "read /proc/711/cmdline: Permission denied", {}});
    return report;
}

Plan sample_plan() {
    return {{{Change::Kind::firewall, "network.packet-filter", "table inet promwarden", "1 rule and 2 elements",
              "+ rule guard_pre: goto guard_service_prometheus\n+ element guard_office_ip4_8 10.0.0.0\n- element guard_office_ip4_24 "
              "192.0.2.0\n"},
             {Change::Kind::web, "tls.client-auth", "/etc/prometheus/web.yml", "", " a\n-" + hostile}},
            {"203.0.113.5:51234 -> 10.0.0.1:9090"}};
}

Event sample_event() {
    return {Event::Kind::drift,
            now + 123us,
            "network.packet-filter",
            "chain guard_pre",
            "goto guard_service_prometheus",
            "missing",
            Actor{"nft", 4711, "/usr/sbin/nft", 1000},
            93us};
}

/// Compares with the file in tests/golden, or writes it where PROMWARDEN_GOLDEN is "write". @VERSION@ stands for this build's.
void check_golden(const std::string& name, const std::string& text) {
    const auto path = std::filesystem::path(SOURCE_ROOT) / "tests/golden" / name;
    const std::string version = "\"semanticVersion\": \"" PROMWARDEN_VERSION "\"", placeholder = "\"semanticVersion\": \"@VERSION@\"";
    auto normal = text;
    if (const auto at = normal.find(version); at != std::string::npos) normal.replace(at, version.size(), placeholder);
    if (const char* wish = std::getenv("PROMWARDEN_GOLDEN"); wish != nullptr && std::string_view(wish) == "write") {
        std::ofstream(path, std::ios::binary) << normal;
        return;
    }
    std::ifstream file(path, std::ios::binary);
    REQUIRE_MESSAGE(file, path.string(), " is missing");
    std::ostringstream expected;
    expected << file.rdbuf();
    CHECK_MESSAGE(normal == expected.str(), name);
}

bool is_safe(std::string_view text) {
    for (const auto c : text)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) return false;
    return text.find("\xc2\x9b") == std::string_view::npos && text.find("\xe2\x80\xae") == std::string_view::npos &&
           text.find('\xff') == std::string_view::npos;
}

}  // namespace

TEST_CASE("golden: every format of a report, a plan, an event and an explanation") {
    const auto report = sample();
    check_golden("report.txt", render::text(report));
    check_golden("report-colour.txt", render::text(report, true));
    check_golden("report.json", render::json(report));
    check_golden("report.sarif", render::sarif(report));
    check_golden("report.xml", render::junit(report));
    check_golden("report.om", render::openmetrics(report));
    check_golden("plan.txt", render::text(sample_plan()));
    check_golden("plan.json", render::json(sample_plan()));
    check_golden("event.txt", render::text(sample_event()));
    check_golden("event.json", render::json(sample_event()));
    check_golden("explain.txt", render::text(*find_control("access.local-users")));
    check_golden("explain.json", render::json(*find_control("access.local-users")));
    check_golden("catalogue.txt", render::text(catalogue()));
}

TEST_CASE("golden: a report over files, file by file and each place once") {
    const InputFile files[] = {{"web.yml", "basic_auth_users:\n  alice: secret\n"},
                               {"prometheus.yml", "scrape_configs:\n  - job_name: shop\n    metric_path: /m\n    bearer_token: secret\n    static_configs:\n      - targets: ['shop:80']\n"},
                               {"values.yaml", "apiVersion: v1\nkind: ConfigMap\n"}};
    const auto report = lint(files, {}, now);
    check_golden("lint.txt", render::lint_text(report, std::size(files)));
    CHECK(render::lint_text(lint({}, {}, now), 0).starts_with("0 files, 0 places to correct"));
}

TEST_CASE("formats by name") {
    using enum render::Format;
    const std::pair<const char*, render::Format> names[] = {
        {"text", text}, {"json", json}, {"sarif", sarif}, {"junit", junit}, {"openmetrics", openmetrics}};
    for (const auto& [name, format] : names) CHECK(render::parse_format(name) == format);
    CHECK_FALSE(render::parse_format("yaml"));
    CHECK_FALSE(render::parse_format(""));
    const auto report = sample();
    CHECK(render::report(report, text) == render::text(report));
    CHECK(render::report(report, json) == render::json(report));
    CHECK(render::report(report, sarif) == render::sarif(report));
    CHECK(render::report(report, junit) == render::junit(report));
    CHECK(render::report(report, openmetrics) == render::openmetrics(report));
}

TEST_CASE("printable: what a terminal acts on or hides becomes visible, the rest stays") {
    const std::pair<std::string, std::string> cases[] = {
        {"plain /usr/sbin/nft", "plain /usr/sbin/nft"},
        {"Gr\xc3\xbc\xc3\x9f\x65 \xe2\x86\x92 \xf0\x9f\x94\x92", "Gr\xc3\xbc\xc3\x9f\x65 \xe2\x86\x92 \xf0\x9f\x94\x92"},
        {"\x1b]0;title\x07", "\\x1b]0;title\\x07"},
        {"a\nb\tc\r", "a\\nb\\tc\\x0d"},
        {"\xc2\x9b", "\\x9b"},
        {"\x7f", "\\x7f"},
        {"\xe2\x80\xae", "\\u{202e}"},
        {"\xef\xbb\xbf", "\\u{feff}"},
        {"\xc0\xaf", "\\xc0\\xaf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"\xe2\x82", "\\xe2\\x82"},
        {std::string("\0", 1), "\\x00"},
        {"", ""}};
    for (const auto& [text, shown] : cases) CHECK(render::printable(text) == shown);
}

TEST_CASE("nothing that was observed reaches a terminal as a command, in any format") {
    auto report = sample();
    for (auto& one : report.controls) {
        one.decision.reason += hostile;
        for (auto& finding : one.decision.findings)
            finding.subject = finding.expected = finding.observed = finding.remedy.summary = hostile;
        if (one.waiver) one.waiver->owner = one.waiver->reason = hostile;
    }
    report.host = report.policy_path = hostile;
    for (const auto format :
         {render::Format::text, render::Format::json, render::Format::sarif, render::Format::junit, render::Format::openmetrics})
        CHECK(is_safe(render::report(report, format)));
    Event event = sample_event();
    event.subject = event.expected = event.observed = event.control = event.by->comm = event.by->exe = hostile;
    CHECK(is_safe(render::text(event)));
    CHECK(is_safe(render::json(event)));
    CHECK(render::text(event).find('\n') == render::text(event).size() - 1);
    CHECK(is_safe(render::text(sample_plan())));
    CHECK(is_safe(render::json(sample_plan())));
}

TEST_CASE("text: failures first, by severity, then what is unknown") {
    auto report = sample();
    const auto text = render::text(report);
    std::size_t last = 0;
    for (const auto* id :
         {"FAIL     critical network.container-path", "FAIL     high     tls.client-auth", "unknown  low      data.retention",
          "waived   high     network.bypass", "pass     critical network.packet-filter", "n/a      high     access.local-users"}) {
        const auto at = text.find(id);
        REQUIRE_MESSAGE(at != std::string::npos, id);
        CHECK(at > last);
        last = at;
    }
    CHECK(text.ends_with("2 fail, 1 unknown, 1 waived, 1 pass, 1 not applicable\n"));
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(render::text(report, true).find("\x1b[1;31mFAIL") != std::string::npos);
}

TEST_CASE("SARIF: what the schema demands") {
    const auto json = parse_json(render::sarif(sample())).value();
    CHECK(json["version"] == "2.1.0");
    REQUIRE(json["runs"].size() == 1);
    const auto& run = json["runs"][0];
    CHECK(run["tool"]["driver"]["name"] == "promwarden");
    const auto& rules = run["tool"]["driver"]["rules"];
    CHECK(rules.size() == 6);
    REQUIRE(run["results"].size() == 3);
    for (const auto& result : run["results"]) {
        CHECK(rules[result["ruleIndex"].get<std::size_t>()]["id"] == result["ruleId"]);
        CHECK(result["message"]["text"].is_string());
        CHECK(result["suppressions"].is_array());
        CHECK(result["locations"].size() == 1);
    }
    CHECK(run["results"][1]["suppressions"][0]["kind"] == "external");
    CHECK(run["results"][0]["suppressions"].empty());
    const auto& place = run["results"][2]["locations"][0]["physicalLocation"];
    CHECK(place["artifactLocation"]["uri"] == "file:///etc/prometheus/web%20%231.yml");
    CHECK(place["region"].dump() == R"({"startLine":4,"startColumn":3})");
    CHECK(run["results"][0]["level"] == "error");
    CHECK(run["invocations"][0]["toolExecutionNotifications"][0]["associatedRule"]["id"] == "data.retention");
}

TEST_CASE("a failure without findings is a result all the same") {
    Report report{"h", now, "p", "s", {}};
    report.controls.push_back({find_control("config.invalid"), Mode::enforce, {Verdict::fail, "no reason", {}}, {}, false, {}});
    const auto run = parse_json(render::sarif(report)).value()["runs"][0];
    REQUIRE(run["results"].size() == 1);
    CHECK(run["results"][0]["level"] == "note");
}

TEST_CASE("an empty report is valid in every format") {
    const Report report{"h", now, "p", "s", {}};
    CHECK(render::text(report).ends_with("0 fail, 0 unknown, 0 waived, 0 pass, 0 not applicable\n"));
    CHECK(parse_json(render::sarif(report)).value()["runs"][0]["results"].is_array());
    CHECK(render::junit(report).find("tests=\"0\" failures=\"0\"") != std::string::npos);
    CHECK(render::openmetrics(report).ends_with("# EOF\n"));
    CHECK(render::text(Plan{}) == "Nothing to change.\n");
}

TEST_CASE("plans and events read back from their JSON") {
    const Plan plan{{{Change::Kind::site, "c", "s", "m", "+ d\n"}, {Change::Kind::unit, "c", "s", "", ""}}, {"a -> b"}};
    CHECK(read_plan(parse_json(render::json(plan)).value()).value() == plan);
    for (const auto kind :
         {Event::Kind::drift, Event::Kind::heal, Event::Kind::rotation, Event::Kind::policy, Event::Kind::apply, Event::Kind::undo}) {
        auto event = sample_event();
        event.kind = kind;
        CHECK(read_event(parse_json(render::json(event)).value()).value() == event);
        event.by->loginuid.reset();
        CHECK(read_event(to_json(event)).value() == event);
        event.by.reset();
        event.gap.reset();
        CHECK(read_event(to_json(event)).value() == event);
    }
}

TEST_CASE("what is no plan and no event is refused") {
    const auto plan = to_json(sample_plan());
    const auto event = to_json(sample_event());
    const auto without = [](Json json, const char* key) {
        json.erase(key);
        return json;
    };
    const auto with = [](Json json, const char* key, Json value) {
        json[key] = std::move(value);
        return json;
    };
    for (const auto* key : {"schema", "changes", "cuts"}) CHECK_FALSE(read_plan(without(plan, key)));
    CHECK_FALSE(read_plan(with(plan, "cuts", Json::array({7}))));
    CHECK_FALSE(read_plan(with(plan, "changes", Json::array({Json{{"kind", "magic"}}}))));
    CHECK_FALSE(read_plan(Json("text")));
    for (const auto* key : {"schema", "time", "kind", "control", "subject", "expected", "observed"})
        CHECK_FALSE(read_event(without(event, key)));
    CHECK_FALSE(read_event(with(event, "kind", "magic")));
    CHECK_FALSE(read_event(with(event, "gap_us", -1)));
    CHECK_FALSE(read_event(with(event, "gap_us", 18446744073709551615ULL)));
    CHECK_FALSE(read_event(with(event, "by", "nft")));
    CHECK_FALSE(read_event(with(event, "by", Json{{"comm", "nft"}, {"pid", 99999999999}, {"exe", ""}})));
    CHECK_FALSE(read_event(Json::array()));
}

TEST_CASE("an event's gap is told in a unit that fits") {
    auto event = sample_event();
    const std::pair<std::chrono::microseconds, const char*> cases[] = {
        {93us, "gap 93 us\n"}, {12345us, "gap 12 ms\n"}, {75s, "gap 1m15s\n"}};
    for (const auto& [gap, words] : cases) {
        event.gap = gap;
        CHECK(render::text(event).ends_with(words));
    }
}
