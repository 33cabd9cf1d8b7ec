#include <filesystem>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "promwarden/policy.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

RecordedAccounts accounts() {
    RecordedAccounts known;
    known.users = {{"root", 0}, {"www-data", 33}, {"prometheus", 110}};
    known.groups = {{"root", 0}, {"prometheus", 115}};
    return known;
}

/// "policy.toml" with drop-ins "b.toml", "c.toml" … in a directory that does not exist, and lists by path.
Sources texts(std::vector<std::string> policies, std::map<std::string, std::string> lists = {}) {
    Sources sources;
    char name = 'a';
    for (auto& text : policies) {
        const auto path = name == 'a' ? std::string("/p/policy.toml") : std::string("/p/policy.d/") + name + ".toml";
        sources.files.push_back({SourceFile::Kind::policy, path, {}, std::make_shared<const std::string>(std::move(text))});
        ++name;
    }
    for (auto& [path, text] : lists) sources.files.push_back({SourceFile::Kind::list, path, {}, std::make_shared<const std::string>(text)});
    return sources;
}

std::expected<Policy, Diagnostics> read(std::string text) { return parse(texts({std::move(text)}), accounts()); }

/// The diagnostics without their quotes, one a line; "" for a good policy.
std::string errors(const Sources& sources) {
    const auto policy = parse(sources, accounts());
    std::string text;
    if (policy) return text;
    for (const auto& diagnostic : policy.error()) text += (text.empty() ? "" : "\n") + to_text(diagnostic, false);
    return text;
}

/// Line 1 is the schema, so a snippet's own first line is line 2.
std::string errors(const std::string& snippet) { return errors(texts({"schema = 1\n" + snippet})); }

std::string file_text(const std::string& path) {
    std::ifstream file(path);
    REQUIRE(file.good());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

const std::string service = "[[firewall.service]]\nname = \"a\"\n";

/// Every key of the format with a value that is not its default.
const std::string everything = R"(schema = 1
agent = {mode = "audit", recheck = "7m"}
controls = {"tls.scrape" = "off", "network.bypass" = "audit"}
[prometheus]
unit = "prom@a.service"
listen = ["127.0.0.1:9090", "[::1]:9090"]
restart = "when-needed"
config = "/etc/p/p.yml"
web_config = "/etc/p/web.yml"
storage = "/srv/p"
allow = {admin_api = true, lifecycle = true, remote_write_receiver = true, otlp_receiver = true, cors_origin = 'https://a\.b'}
probe = {user = "probe", password_file = "/etc/p/probe"}
[firewall]
ownership = "off"
sibling_containers = "allow"
open_ports = [9100, 9115]
nflog_group = 7
sources.office = ["10.0.0.0/8", "@offices.txt", "fd00:12::/48"]
sources.list = "@/lists/all.txt"
[[firewall.service]]
name = "prometheus"
ports = [9090, "9093-9094"]
protocol = "udp"
allow = ["office", "list"]
deny = "reject"
log = "5/hour"
local_users = ["root", "www-data"]
[[file]]
path = "/etc/prometheus/secrets/*"
owner = "root"
group = "prometheus"
mode = "0640"
[[file]]
path = "/etc/other"
group = "nobody-has-it"
[tls]
min_version = "1.3"
client_auth = "require"
name_constraints = false
maintenance = ["Mon..Fri,Sun 22:00-02:00", "02:00-24:00"]
[[tls.certificate]]
name = "web"
use = "client"
names = ["prometheus.example.org", "*.example.org", "10.0.0.5", "fd00::1"]
issuer = "acme"
key = "rsa-3072"
lifetime = "45d"
rekey = "1h"
install = "nginx"
[[tls.issuer]]
name = "acme"
command = ["/usr/bin/uacme", "a \"b\" \\ c"]
[access]
auth = "auth-request"
server_name = "prometheus.example.org"
listen = ["443", "10.0.0.1:8443"]
certificate = "web"
auth_url = "http://127.0.0.1:4180"
roles = {admin = ["user:alice", "group:ops"], auditor = ["group:staff"]}
endpoints = {"/api/v1/series" = "auditor"}
[access.identity_provider]
config = "/etc/oauth2-proxy.cfg"
mfa = {required = true, claim = "acr", attested_until = 2027-01-31}
[data]
encryption = "required"
retention = {time = "15d", size = "10GB"}
[labels]
redact = ["password"]
[audit]
query_log = "/var/log/q.log"
[alerts]
query_rate = 7
auth_failures = 8
[[waiver]]
control = "data.encryption"
subject = "/srv/p"
reason = "storage array"
owner = "storage team"
expires = 2027-01-31
[[waiver]]
control = "tls.scrape"
reason = "r"
owner = "o"
expires = 2027-01-31T10:00:00+02:00
)";

Sources all_sources(std::string text) { return texts({std::move(text)}, {{"/p/offices.txt", "192.0.2.0/24\n"}, {"/lists/all.txt", "198.51.100.0/24\n2001:db8::/32\n"}}); }

}  // namespace

TEST_CASE("every key is read") {
    const auto read = parse(all_sources(everything), accounts());
    REQUIRE_MESSAGE(read, errors(all_sources(everything)));
    const auto& policy = *read;
    CHECK(policy.path == "/p/policy.toml");
    CHECK(policy.sha256 == sha256(everything));
    CHECK(policy.mode == Mode::audit);
    CHECK(policy.recheck == 7min);
    CHECK(policy.controls.at("tls.scrape") == Mode::off);
    CHECK(policy.prometheus.unit == "prom@a.service");
    CHECK(to_text(policy.prometheus.listen.at(1)) == "[::1]:9090");
    CHECK(policy.prometheus.restart_when_needed);
    CHECK(policy.prometheus.storage == "/srv/p");
    CHECK(policy.prometheus.allow.otlp_receiver);
    CHECK(policy.prometheus.allow.cors_origin == "https://a\\.b");
    CHECK(policy.prometheus.probe.user == "probe");
    CHECK_FALSE(policy.firewall.own_table);
    CHECK(policy.firewall.sibling_containers);
    CHECK(policy.firewall.open_ports == std::vector<std::uint16_t>{9100, 9115});
    CHECK(policy.firewall.nflog_group == 7);
    REQUIRE(policy.firewall.sources.size() == 2);
    CHECK(policy.firewall.sources[0].where == Where{"/p/policy.toml", 18, 9});
    CHECK(count(policy.firewall.sources[0].networks) == 3);
    CHECK(count(policy.firewall.sources[1].networks) == 2);
    const auto& guarded = policy.firewall.services.at(0);
    CHECK(guarded.ports == std::vector<PortRange>{{9090, 9090}, {9093, 9094}});
    CHECK(guarded.protocol == Protocol::udp);
    CHECK(guarded.deny == Deny::reject);
    CHECK(guarded.log == Rate{5, 1h});
    CHECK(guarded.local_users == std::vector<Account>{{"root", 0}, {"www-data", 33}});
    CHECK(policy.files.at(0).group == Account{"prometheus", 115});
    CHECK(policy.files[0].mode == 0640);
    CHECK(policy.files.at(1).group_name == "nobody-has-it");
    CHECK_FALSE(policy.files[1].group);
    CHECK(policy.tls.min_version == "1.3");
    CHECK(policy.tls.maintenance.at(0).days == 0b1011111);
    CHECK(policy.tls.maintenance[0].until == 2h);
    CHECK(policy.tls.maintenance.at(1).until == 24h);
    CHECK(policy.tls.certificates.at(0).key == CertificatePolicy::Key::rsa_3072);
    CHECK(policy.tls.certificates[0].install == CertificatePolicy::Install::nginx);
    CHECK(policy.tls.issuers.at(0).command.at(1) == "a \"b\" \\ c");
    CHECK(policy.access.present);
    CHECK(policy.access.roles.at("admin") == std::vector<std::string>{"user:alice", "group:ops"});
    CHECK(policy.access.identity_provider->mfa_attested_until == parse_time("2027-02-01T00:00:00Z").value());
    CHECK(policy.data.retention_size == 10ULL << 30);
    CHECK(policy.data.retention_time == 15 * 24h);
    CHECK(policy.waivers.at(0).expires == parse_time("2027-02-01T00:00:00Z").value());
    CHECK(policy.waivers.at(1).expires == parse_time("2027-01-31T08:00:00Z").value());
}

TEST_CASE("what is left out has its default") {
    const auto policy = read("schema = 1").value();
    CHECK(policy.mode == Mode::enforce);
    CHECK(policy.recheck == 5min);
    CHECK(policy.prometheus.unit == "prometheus.service");
    CHECK(policy.firewall.own_table);
    CHECK_FALSE(policy.firewall.sibling_containers);
    CHECK(policy.tls.name_constraints);
    CHECK_FALSE(policy.tls.require_client_certificate);
    CHECK_FALSE(policy.access.present);
    CHECK_FALSE(policy.data.encryption_required);
    CHECK(policy.alerts.query_rate == 100);
    const auto certificate = read("schema = 1\n[[tls.certificate]]\nname = \"a\"\nnames = [\"b\"]\n").value().tls.certificates.at(0);
    CHECK(certificate.lifetime == 30 * 24h);
    CHECK(certificate.rekey == 90 * 24h);
    CHECK(certificate.issuer == "local");
}

TEST_CASE("a control's own mode is never stricter than the agent's") {
    const auto policy = read("schema = 1\n[agent]\nmode = \"audit\"\n[controls]\n\"tls.scrape\" = \"enforce\"\n\"tls.files\" = \"off\"\n").value();
    CHECK(policy.mode_of("tls.scrape") == Mode::audit);
    CHECK(policy.mode_of("tls.files") == Mode::off);
    CHECK(policy.mode_of("tls.server") == Mode::audit);
    CHECK(read("schema = 1\n[controls]\n\"tls.scrape\" = \"audit\"\n").value().mode_of("tls.scrape") == Mode::audit);
}

TEST_CASE("each mistake is one error with its place") {
    const std::pair<std::string, std::string> cases[] = {
        {"[firewall]\nowership = \"off\"\n", ":3:1: unknown key 'firewall.owership'\n  did you mean 'ownership'?"},
        {"[firewal]\n", ":2:2: unknown key 'firewal'\n  did you mean 'firewall'?"},
        {"[firewall]\nrecheck = \"5m\"\n", ":3:1: unknown key 'firewall.recheck'\n  did you mean 'agent.recheck'?"},
        {"[firewall.\"service.name\"]\n", ":2:11: unknown key 'firewall.\"service.name\"'"},
        {"[firewall]\nnflog_group = \"1\"\n", ":3:15: 'firewall.nflog_group' must be a whole number from 0 to 65535\n  for example: 1"},
        {"[firewall]\nnflog_group = 65536\n", ":3:15: 'firewall.nflog_group' must be a whole number from 0 to 65535\n  for example: 1"},
        {"[agent]\nmode = \"audits\"\n", ":3:8: 'agent.mode' must be enforce or audit\n  did you mean 'audit'?"},
        {"[agent]\nrecheck = \"5\"\n", ":3:11: 'agent.recheck' must be a duration from 10s to 7d: write a whole number with a unit: 90s, 5m, 24h, 30d, 2w, 1h30m\n  for example: \"5m\""},
        {"[agent]\nrecheck = \"1s\"\n", ":3:11: 'agent.recheck' must be a duration from 10s to 7d\n  for example: \"5m\""},
        {"agent = 1\n", ":2:1: 'agent' must be a table: [agent]"},
        {"[file]\npath = \"/a\"\n", ":2:2: 'file' must be an array of tables\n  write [[file]], with double brackets"},
        {"[firewall.sources]\na = [\"10.0.0.1/8\"]\n", ":3:6: '10.0.0.1/8' is no network: it has host bits set; the network is 10.0.0.0/8"},
        {"[firewall.sources]\na = [\"10.0.0.0/8\",\n  \"10.0.0.0/33\"]\n", ":4:3: '10.0.0.0/33' is no network: the prefix length must be 0 to 32"},
        {"[firewall.sources]\na = [\"fe80::1%eth0\"]\n",
         ":3:6: 'fe80::1%eth0' is no network: a zone identifier names an interface of one host and cannot be matched in a packet"},
        {"[firewall.sources]\na = [\"::ffff:10.0.0.0/104\"]\n",
         ":3:6: '::ffff:10.0.0.0/104' is no network: an IPv4-mapped IPv6 address never appears in a packet; write the IPv4 address"},
        {"[firewall.sources]\na = \"10.0.0.0/8\"\n", ":3:5: 'firewall.sources.a' must be an array of networks, or \"@\" and the path of a list\n  write [\"10.0.0.0/8\"]"},
        {"[firewall.sources]\na = [1]\n", ":3:6: 'firewall.sources.a' must be an array of networks, or \"@\" and the path of a list\n  for example: [\"10.0.0.0/8\"]"},
        {"[firewall.sources]\n\"a b\" = []\n", ":3:1: '\"a b\"' is not a name: 1 to 32 letters, digits, '_' and '-'"},
        {"[firewall.sources]\na = \"@/none\"\n", ":3:5: the list /none was not read"},
        {service + "ports = [0]\n", ":4:10: 'firewall.service.ports' must be an array of ports from 1 to 65535: numbers, or \"first-last\"\n  for example: [9090, \"9093-9094\"]"},
        {service + "ports = [70000]\n", ":4:10: 'firewall.service.ports' must be an array of ports from 1 to 65535: numbers, or \"first-last\"\n  for example: [9090, \"9093-9094\"]"},
        {service + "ports = [\"9094-9093\"]\n", ":4:10: 'firewall.service.ports' must be an array of ports from 1 to 65535: numbers, or \"first-last\"\n  for example: [9090, \"9093-9094\"]"},
        {service + "ports = []\n", ":4:9: 'firewall.service.ports' must be an array of ports from 1 to 65535: numbers, or \"first-last\": it is empty\n  for example: [9090, \"9093-9094\"]"},
        {service, ":2:1: this firewall.service needs 'ports'\n  for example: ports = [9090, \"9093-9094\"]"},
        {service + "ports = [1]\n" + service + "ports = [2]\n", ":6:8: the service 'a' is there twice (the other one is at /p/policy.toml:3:8)"},
        {service + "ports = [1, \"5-9\"]\n[[firewall.service]]\nname = \"b\"\nports = [7]\n", ":7:1: port 7 is guarded by the service 'a' already (the other one is at /p/policy.toml:4:1)"},
        {service + "ports = [1]\nallow = [\"offic\"]\n[firewall.sources]\noffice = []\n", ":5:10: unknown source group 'offic'\n  did you mean 'office'?"},
        {service + "ports = [1]\nlocal_users = [\"mallory\"]\n", ":5:16: unknown user 'mallory'"},
        {service + "ports = [1]\nlog = \"5/fortnight\"\n", ":5:7: 'firewall.service.log' must be a rate of 1 to 1000000 per second, minute, hour or day\n  for example: \"5/minute\""},
        {service + "ports = [1]\nlog = \"0/minute\"\n", ":5:7: 'firewall.service.log' must be a rate of 1 to 1000000 per second, minute, hour or day\n  for example: \"5/minute\""},
        {service + "ports = [1]\nlog = \"2000000/minute\"\n", ":5:7: 'firewall.service.log' must be a rate of 1 to 1000000 per second, minute, hour or day\n  for example: \"5/minute\""},
        {"[[firewall.service]]\nname = \"too-long-a-name-for-a-set-of-nftables\"\nports = [1]\n",
         ":3:8: 'firewall.service.name' must be 1 to 32 letters, digits, '_' and '-'\n  for example: \"prometheus\""},
        {"[controls]\n\"tls.scrap\" = \"off\"\n", ":3:1: unknown control 'tls.scrap'\n  did you mean 'tls.scrape'?"},
        {"[controls]\ntls.scrape = \"off\"\n", ":3:1: 'tls' is not a control: an id has a dot in it\n  write it in quotes: \"family.name\" = \"audit\""},
        {"[[file]]\npath = \"etc/x\"\n", ":3:8: 'file.path' must be an absolute path without '..'\n  for example: \"/etc/prometheus/secrets/*\""},
        {"[[file]]\npath = \"/etc/../x\"\n", ":3:8: 'file.path' must be an absolute path without '..'\n  for example: \"/etc/prometheus/secrets/*\""},
        {"[[file]]\npath = \"/x\"\nowner = \"mallory\"\n", ":4:9: unknown user 'mallory'"},
        {"[[file]]\npath = \"/x\"\nmode = \"0689\"\n", ":4:8: 'file.mode' must be a string of three or four octal digits\n  for example: \"0640\""},
        {"[[file]]\npath = \"/x\"\nmode = 640\n", ":4:8: 'file.mode' must be a string of three or four octal digits\n  for example: \"0640\""},
        {"[prometheus]\nlisten = [\"localhost:9090\"]\n", ":3:11: 'prometheus.listen' must be an array of ADDRESS:PORT or [ADDRESS]:PORT\n  for example: [\"127.0.0.1:9090\", \"[::1]:9090\"]"},
        {"[tls]\nmaintenance = [\"Sun 04:00\"]\n", ":3:16: 'tls.maintenance' must be an array of weekly spans of time, UTC\n  for example: [\"Sun 02:00-04:00\"]"},
        {"[tls]\nmaintenance = [\"Fri..Mon 01:00-04:00\"]\n", ":3:16: 'tls.maintenance' must be an array of weekly spans of time, UTC\n  for example: [\"Sun 02:00-04:00\"]"},
        {"[tls]\nmaintenance = [\"Sun 04:00-24:01\"]\n", ":3:16: 'tls.maintenance' must be an array of weekly spans of time, UTC\n  for example: [\"Sun 02:00-04:00\"]"},
        {"[[tls.certificate]]\nname = \"a\"\nnames = [\"b\"]\n[[tls.certificate]]\nname = \"a\"\nnames = [\"b\"]\n",
         ":6:1: the certificate 'a' is there twice (the other one is at /p/policy.toml:3:1)"},
        {"[[tls.certificate]]\nname = \"a\"\nnames = [\"b\"]\nissuer = \"acm\"\n[[tls.issuer]]\nname = \"acme\"\ncommand = [\"/x\"]\n", ":5:10: unknown issuer 'acm'\n  did you mean 'acme'?"},
        {"[[tls.issuer]]\nname = \"a\"\ncommand = [\"/x\"]\n[[tls.issuer]]\nname = \"a\"\ncommand = [\"/x\"]\n", ":6:1: the issuer 'a' is there twice (the other one is at /p/policy.toml:3:1)"},
        {"[[tls.issuer]]\nname = \"watch\"\ncommand = [\"/x\"]\n", ":3:1: 'watch' is taken: it has a meaning of its own"},
        {"[[tls.issuer]]\nname = \"a\"\ncommand = [\"uacme\"]\n", ":4:12: the first part of an issuer's command must be the absolute path of its program"},
        {"[access]\ncertificate = \"web\"\n", ":3:15: unknown certificate 'web'"},
        {"[access]\nauth = \"auth-request\"\n", ":3:8: auth = \"auth-request\" needs 'auth_url'\n  for example: auth_url = \"http://127.0.0.1:4180\""},
        {"[access]\nauth_url = \"ftp://x\"\n", ":3:12: 'access.auth_url' must be an http:// or https:// URL\n  for example: \"http://127.0.0.1:4180\""},
        {"[access]\nlisten = [\"0\"]\n", ":3:11: 'access.listen' must be an array of ports and ADDRESS:PORT\n  for example: [\"443\"]"},
        {"[access.roles]\nadmin = [\"alice\"]\n", ":3:10: 'access.roles.admin' must be an array of \"user:NAME\" and \"group:NAME\"\n  for example: [\"user:alice\", \"group:ops\"]"},
        {"[access.endpoints]\n\"/x\" = \"viewr\"\n", ":3:8: unknown role 'viewr'\n  did you mean 'viewer'?"},
        {"[access.endpoints]\nx = \"viewer\"\n", ":3:1: 'x' is not the path of an endpoint: it starts with '/'"},
        {"[data]\nretention = {size = \"10 GB\"}\n", ":3:21: 'data.retention.size' must be a size with its unit\n  for example: \"10GB\""},
        {"[labels]\nredact = [\"a-b\"]\n", ":3:11: 'labels.redact' must be an array of label names\n  for example: [\"password\", \"secret\", \"token\", \"api_key\"]"},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nowner = \"o\"\nexpires = 2027-01-31\n", ":2:1: this waiver needs 'reason'\n  for example: reason = \"encrypted by the storage array\""},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nreason = \"o\"\nexpires = 2027-01-31\n", ":2:1: this waiver needs 'owner'\n  for example: owner = \"storage team\""},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nreason = \"o\"\nowner = \"o\"\n", ":2:1: this waiver needs 'expires'\n  for example: expires = 2027-01-31"},
        {"[[waiver]]\ncontrol = \"tls.scrapes\"\nreason = \"o\"\nowner = \"o\"\nexpires = 2027-01-31\n", ":3:11: unknown control 'tls.scrapes'\n  did you mean 'tls.scrape'?"},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nreason = \"o\"\nowner = \"o\"\nexpires = 2027-01-31T10:00:00\n",
         ":6:11: 'waiver.expires' must be a date, or a date-time with its offset from UTC, without quotes: it has no offset\n  for example: 2027-01-31"},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nreason = \"o\"\nowner = \"o\"\nexpires = 9999-12-31\n",
         ":6:11: 'waiver.expires' must be a date, or a date-time with its offset from UTC, without quotes: its year must be 1970 to 2200\n  for example: 2027-01-31"},
        {"[[waiver]]\ncontrol = \"tls.scrape\"\nreason = \"o\"\nowner = \"o\"\nexpires = \"2027-01-31\"\n",
         ":6:11: 'waiver.expires' must be a date, or a date-time with its offset from UTC, without quotes\n  for example: 2027-01-31"},
        {"[agent]\nmode = \"audit\"\n\n[tls]\n[agent]\n", ":6:2: 'agent' is set twice (the other one is at /p/policy.toml:2:2)"},
        {"[agent]\nmode = \"audit\"\nmode = \"enforce\"\n", ":4:1: 'agent.mode' is set twice (the other one is at /p/policy.toml:3:1)"},
        {"[[file]]\npath = \"/x\"\npath = \"/y\"\n", ":4:1: 'file.path' is set twice (the other one is at /p/policy.toml:3:1)"},
        {"x = \"\xff\"\n", ":2:6: not UTF-8: byte 0xff"},
        {"# \xc3\xa9 \xed\xa0\x80\n", ":2:5: not UTF-8: byte 0xed"},
        {std::string("x = 1\0", 6), ":2:6: a NUL byte: this is not a text file"},
        {"x = [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", ":2:21: nested too deeply: at most 16 brackets and 16 dots in a key"},
        {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1\n", ":2:34: nested too deeply: at most 16 brackets and 16 dots in a key"},
    };
    for (const auto& [snippet, expected] : cases) {
        INFO(snippet);
        CHECK(errors(snippet) == "/p/policy.toml" + expected);
    }
}

TEST_CASE("what is not TOML is said in the parser's words") {
    CHECK(errors("[agent\n").starts_with("/p/policy.toml:2:7: not TOML: "));
    CHECK(errors("mode = audit\n").starts_with("/p/policy.toml:2:"));
    CHECK(errors("x = 2027-02-30\n").starts_with("/p/policy.toml:2:"));
}

TEST_CASE("the schema's version") {
    CHECK(errors(texts({""})) == "/p/policy.toml: the policy needs 'schema'\n  write schema = 1 on its first line");
    CHECK(errors(texts({"schema = 2"})) == "/p/policy.toml:1:10: 'schema' must be 1\n  this version reads schema 1 only");
    CHECK(errors(texts({"schema = \"1\""})) == "/p/policy.toml:1:10: 'schema' must be 1\n  this version reads schema 1 only");
    CHECK(errors(texts({"schema = 1", "schema = 1"})).empty());
    CHECK(errors(texts({"schema = 1", "schema = 3"})) == "/p/policy.d/b.toml:1:10: 'schema' must be 1\n  this version reads schema 1 only");
    CHECK_FALSE(parse(Sources{}, accounts()));
}

TEST_CASE("drop-ins join the main file") {
    const auto main = "schema = 1\n[agent]\nmode = \"audit\"\n[firewall.sources]\na = []\n" + service + "ports = [1]\n";
    const auto joined = parse(texts({main, "[firewall.sources]\nb = [\"10.0.0.0/8\"]\n[[firewall.service]]\nname = \"b\"\nports = [2]\nallow = [\"a\", \"b\"]\n"}), accounts());
    REQUIRE(joined);
    CHECK(joined->firewall.sources.size() == 2);
    CHECK(joined->firewall.services.at(1).where == Where{"/p/policy.d/b.toml", 3, 1});
    CHECK(errors(texts({main, "[agent]\nmode = \"enforce\"\n"})) == "/p/policy.d/b.toml:2:1: 'agent.mode' is set twice (the other one is at /p/policy.toml:3:1)");
    CHECK(errors(texts({main, "agent.recheck = \"5m\"\n", "[agent]\nrecheck = \"5m\"\n"})) ==
          "/p/policy.d/c.toml:2:1: 'agent.recheck' is set twice (the other one is at /p/policy.d/b.toml:1:7)");
    CHECK(errors(texts({main, "[firewall.sources]\na = []\n"})) == "/p/policy.d/b.toml:2:1: 'firewall.sources.a' is set twice (the other one is at /p/policy.toml:5:1)");
    CHECK(errors(texts({main, service + "ports = [3]\n"})) == "/p/policy.d/b.toml:2:8: the service 'a' is there twice (the other one is at /p/policy.toml:7:8)");
}

TEST_CASE("at most twenty errors, in the order of the files") {
    std::string text = "schema = 1\n";
    for (int i = 0; i < 30; ++i) text += "k" + std::to_string(i) + " = 1\n";
    const auto failed = parse(texts({text, "x = 1\n"}), accounts());
    REQUIRE_FALSE(failed);
    REQUIRE(failed.error().size() == 20);
    for (std::uint32_t i = 0; i < 20; ++i) CHECK(failed.error()[i].where.line == i + 2);
}

TEST_CASE("a caret below the place, and no line for who may not read it") {
    const auto failed = read("schema = 1\n\tx = \"\u00e9\" # \x1b[31m\n");
    CHECK_FALSE(failed);
    const auto tabbed = read("schema = 1\nagent = {\tmode = \"\u00e9\u00e9\", oops = 1}\n");
    REQUIRE_FALSE(tabbed);
    REQUIRE(tabbed.error().size() == 2);
    CHECK(to_text(tabbed.error()[1], true) == "/p/policy.toml:2:24: unknown key 'agent.oops'\n    agent = {\tmode = \"\u00e9\u00e9\", oops = 1}\n             \t             ^");
    CHECK(to_text(tabbed.error()[1], false) == "/p/policy.toml:2:24: unknown key 'agent.oops'");
    const auto long_line = read("schema = 1\nagent = {recheck = \"5m\"," + std::string(5000, ' ') + "oops = 1}\n");
    REQUIRE_FALSE(long_line);
    const auto& far = long_line.error().at(0);
    CHECK(far.quote.size() <= 160);
    CHECK(far.quote.substr(far.caret - 1, 4) == "oops");
    const auto colour = read("schema = 1\n\"\\u001b[31m\" = 1\n");
    REQUIRE_FALSE(colour);
    CHECK(to_text(colour.error().at(0), true).find('\x1b') == std::string::npos);
}

TEST_CASE("show prints every key, and what it prints is the same policy") {
    const auto policy = parse(all_sources(everything), accounts()).value();
    const auto shown = show(policy);
    const auto again = parse(all_sources(shown), accounts());
    REQUIRE_MESSAGE(again, errors(all_sources(shown)));
    CHECK(again->firewall == policy.firewall);
    CHECK(show(*again) == shown);
    for (const auto* line : {"mode = \"audit\"", "recheck = \"7m\"", "\"tls.scrape\" = \"off\"", "listen = [\"127.0.0.1:9090\", \"[::1]:9090\"]", "restart = \"when-needed\"",
                             "config = \"/etc/p/p.yml\"", "web_config = \"/etc/p/web.yml\"", "storage = \"/srv/p\"", "admin_api = true", "lifecycle = true",
                             "remote_write_receiver = true", "otlp_receiver = true", "cors_origin = \"https://a\\\\.b\"", "user = \"probe\"", "ownership = \"off\"",
                             "sibling_containers = \"allow\"", "open_ports = [9100, 9115]", "nflog_group = 7", "office = [\"10.0.0.0/8\", \"fd00:12::/48\", \"@/p/offices.txt\"]",
                             "list = [\"@/lists/all.txt\"]", "ports = [9090, \"9093-9094\"]", "protocol = \"udp\"", "deny = \"reject\"", "log = \"5/hour\"",
                             "local_users = [\"root\", \"www-data\"]", "mode = \"0640\"", "group = \"nobody-has-it\"", "min_version = \"1.3\"", "client_auth = \"require\"",
                             "name_constraints = false", "maintenance = [\"Mon..Fri,Sun 22:00-02:00\", \"02:00-24:00\"]", "use = \"client\"", "issuer = \"acme\"",
                             "key = \"rsa-3072\"", "lifetime = \"45d\"", "rekey = \"1h\"", "install = \"nginx\"", "command = [\"/usr/bin/uacme\", \"a \\\"b\\\" \\\\ c\"]",
                             "auth = \"auth-request\"", "server_name = \"prometheus.example.org\"", "listen = [\"443\", \"10.0.0.1:8443\"]", "certificate = \"web\"",
                             "auth_url = \"http://127.0.0.1:4180\"", "auditor = [\"group:staff\"]", "\"/api/v1/series\" = \"auditor\"", "config = \"/etc/oauth2-proxy.cfg\"",
                             "required = true", "claim = \"acr\"", "attested_until = 2027-01-31", "encryption = \"required\"", "time = \"15d\"", "size = \"10GB\"",
                             "redact = [\"password\"]", "query_log = \"/var/log/q.log\"", "query_rate = 7", "auth_failures = 8", "subject = \"/srv/p\"",
                             "expires = 2027-01-31 ", "expires = 2027-01-31T08:00:00Z"})
        CHECK_MESSAGE(shown.find("\n" + std::string(line)) != std::string::npos, line);
}

TEST_CASE("show of next to nothing has every default and parses") {
    const auto shown = show(read("schema = 1").value());
    CHECK(shown.find("recheck = \"5m\"") != std::string::npos);
    CHECK(shown.find("# config = \"/etc/prometheus/prometheus.yml\"") != std::string::npos);
    CHECK(shown.find("[access]") == std::string::npos);
    const auto again = read(shown);
    REQUIRE(again);
    CHECK(show(*again).substr(0, 200) == shown.substr(0, 200));
    CHECK_FALSE(again->access.present);
}

TEST_CASE("the shipped policies are good, and show themselves") {
    std::size_t policies = 0;
    for (const auto& entry : std::filesystem::directory_iterator(SOURCE_ROOT "/policies")) {
        INFO(entry.path().string());
        const auto sources = texts({file_text(entry.path().string())});
        const auto policy = parse(sources, accounts());
        REQUIRE_MESSAGE(policy, errors(sources));
        const auto again = read(show(*policy));
        REQUIRE(again);
        CHECK(again->firewall == policy->firewall);
        CHECK(show(*again) == show(*policy));
        ++policies;
    }
    CHECK(policies >= 3);
    const auto policy = read(file_text(SOURCE_ROOT "/policies/prometheus.toml")).value();
    REQUIRE(policy.firewall.services.size() == 1);
    CHECK(policy.firewall.services[0].ports == std::vector<PortRange>{{9090, 9090}});
    CHECK_FALSE(policy.firewall.services[0].local_users);
    CHECK(policy.firewall.sources.at(0).networks == make_networks(std::vector{parse_cidr("10.0.0.0/8").value(), parse_cidr("192.168.1.0/24").value()}));
}

TEST_CASE("locate finds the line of a network") {
    const auto sources = texts({"schema = 1\n[firewall.sources]\na = [\"10.0.0.0/8\",\n  \"10.1.0.0/16\", \"@l.txt\"]\nb = \"@l.txt\"\n"}, {{"/p/l.txt", "# offices\r\n\r\n  192.0.2.1 # door\r\n"}});
    CHECK(locate(sources, "a", parse_cidr("10.1.0.0/16").value()) == Where{"/p/policy.toml", 4, 3});
    CHECK(locate(sources, "a", parse_cidr("192.0.2.1/32").value()) == Where{"/p/l.txt", 3, 3});
    CHECK(locate(sources, "b", parse_cidr("192.0.2.1/32").value()) == Where{"/p/l.txt", 3, 3});
    CHECK_FALSE(locate(sources, "b", parse_cidr("10.1.0.0/16").value()));
    CHECK_FALSE(locate(sources, "c", parse_cidr("10.1.0.0/16").value()));
}

TEST_CASE("the ids of controls") {
    CHECK(is_control("network.packet-filter"));
    CHECK(is_control("version.vulnerable"));
    CHECK_FALSE(is_control("network"));
    CHECK_FALSE(is_control(""));
}
