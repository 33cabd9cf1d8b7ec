// Edits of web.yml and prometheus.yml, planned from findings: which changes, in which order, what is refused and why, and that no secret is in any of it.

#include <algorithm>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "promwarden/apply.hpp"

using namespace promwarden;

namespace {

constexpr gid_t service_group = 113;

NamedFile named(NamedFile::Use use, const std::string& path, const std::string& text) {
    NamedFile file;
    file.use = use;
    file.path = file.written = path;
    file.trusted = true;
    const FileStatus directory{FileStatus::Type::directory, 0, 0, 0755, {}, 0, 0, 0, 0, 0, false};
    const FileStatus regular{FileStatus::Type::regular, 0, service_group, 0640, {}, text.size(), 0, 0, 0, 0, false};
    file.steps = {{"/", directory, -1}, {"/etc", directory, 0}, {"/etc/prometheus", directory, 1}, {path, regular, 2}};
    file.text = std::make_shared<const std::string>(text);
    return file;
}

/// A host whose server has these files.
Facts host(std::vector<NamedFile> files, const std::string& version = "2.42.0") {
    Facts facts;
    ServerFiles server;
    server.server = "prometheus.service";
    server.version = version;
    server.identity = {113, service_group, {}};
    server.files = std::move(files);
    FileFacts all;
    all.servers.push_back(std::move(server));
    facts.files = std::move(all);
    return facts;
}
Facts config(const std::string& text, const std::string& version = "2.42.0") {
    return host({named(NamedFile::Use::configuration, "/etc/prometheus/prometheus.yml", text)}, version);
}

Plan planned(const Facts& facts, std::vector<std::string> only, const Policy& policy = {}) {
    return Engine::plan(policy, facts, only, true);
}

}  // namespace

TEST_CASE("a secret gets its file first, then the text changes where it stood") {
    const std::string text =
        "scrape_configs:\n- job_name: my node\n  basic_auth: {username: u, password: hunter2}\nremote_write:\n- url: https://x/w\n  name: "
        "far\n  bearer_token: 's3cr3t'   # why\n";
    const auto plan = planned(config(text), {"secrets.inline"});
    REQUIRE(plan.changes.size() == 3);
    CHECK(plan.refusals.empty());
    CHECK(plan.changes[0].subject == "/etc/prometheus/promwarden/my-node-basic_auth-password");
    CHECK(plan.changes[1].subject == "/etc/prometheus/promwarden/far-bearer_token");
    const auto& file = std::get<WriteFile>(plan.changes[0].deed);
    CHECK(file.access == FileAccess{0, service_group, 0640, {}});
    CHECK(file.directory == 02750);
    REQUIRE(file.after);
    const auto& piece = file.after->front();
    REQUIRE(piece.part);
    CHECK(text.substr(piece.part->at, piece.part->length) == "hunter2");
    const auto& last = plan.changes[2];
    CHECK(last.subject == "/etc/prometheus/prometheus.yml");
    CHECK(last.judge == Judge::promtool_config);
    CHECK(last.effect == Effect::reload);
    CHECK(std::get<EditFile>(last.deed).splices.size() == 2);
    for (const auto& change : plan.changes) {
        CHECK(change.on_request);
        for (const auto* secret : {"hunter2", "s3cr3t"})
            CHECK_FALSE((json_text(to_json(plan)) + json_text(to_json(change.deed))).contains(secret));
    }
    CHECK(Engine::work_of({}, plan).empty());
    CHECK(Engine::work_of({}, plan, true).size() == 3);
}

TEST_CASE("a secret stays where the installed version has no key for a file, or where it is not written as it is") {
    CHECK(planned(config("scrape_configs:\n- job_name: n\n  ec2_sd_configs: [{region: x, access_key: a, secret_key: hunter2}]\n"),
                  {"secrets.inline"})
              .changes.empty());
    CHECK(planned(config("scrape_configs:\n- job_name: n\n  consul_sd_configs: [{server: 'localhost:1', token: hunter2}]\n"),
                  {"secrets.inline"})
              .changes.empty());
    for (const std::string written : {"'it''s'", "\"a\\tb\"", "|\n      lines\n", "' blank'"}) {
        const auto plan =
            planned(config("scrape_configs:\n- job_name: n\n  basic_auth:\n    password: " + written + "\n"), {"secrets.inline"});
        CHECK(plan.changes.empty());
        REQUIRE(plan.refusals.size() == 1);
        CHECK(plan.refusals.front().contains("it moves to a file only as it stands"));
    }
}

TEST_CASE("an alias that would change with it, a link, a directory of somebody else's: refused with the reason") {
    const std::string shared =
        "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: &t {insecure_skip_verify: true, ca_file: x}\n  static_configs: "
        "[{targets: ['a.example:1']}]\n"
        "- job_name: b\n  scheme: https\n  tls_config: *t\n  static_configs: [{targets: ['b.example:1']}]\n";
    const auto plan = planned(config(shared), {"tls.scrape"});
    CHECK(plan.changes.empty());
    REQUIRE(plan.refusals.size() == 2);
    CHECK(plan.refusals.front() ==
          "edit /etc/prometheus/prometheus.yml: scrape_configs[0].tls_config.insecure_skip_verify cannot be changed alone: "
          "scrape_configs[1].tls_config would change with it, by an alias or a merge key (tls.scrape)");

    auto facts = config("scrape_configs:\n- job_name: a\n  basic_auth: {password: hunter2}\n");
    auto& file = facts.files->servers.front().files.front();
    SUBCASE("a link") { file.steps[3].status.type = FileStatus::Type::link; }
    SUBCASE("a directory") { file.steps[2].status.owner = 113; }
    SUBCASE("one that a group can write") { file.steps[2].status.mode = 0775; }
    SUBCASE("a name") { file.trusted = false; }
    const auto refused = planned(facts, {"secrets.inline"});
    CHECK(refused.changes.empty());
    CHECK(refused.refusals.size() == 1);
}

TEST_CASE("what is to be said, is said in its place") {
    const std::string text =
        "global: {scrape_interval: 1m}\nscrape_configs:\n- job_name: a\n  scheme: https\n  tls_config:\n    insecure_skip_verify: true\n   "
        " server_name: x\n  static_configs: [{targets: ['a.example:1']}]\n"
        "  metric_relabel_configs:\n  - action: labeldrop\n    regex: password|token # both\n";
    Policy policy;
    policy.query_log = "/var/log/prometheus/query.log";
    policy.redact_labels = {"token", "api_key"};
    const auto plan = planned(config(text), {"audit.query-log", "tls.scrape", "labels.redaction"}, policy);
    REQUIRE(plan.changes.size() == 3);
    std::string lines;
    for (const auto& change : plan.changes)
        for (const auto& splice : std::get<EditFile>(change.deed).splices)
            lines += splice.before.front().text + " -> " + splice.after.front().text + "\n";
    CHECK(lines.contains("query_log_file: /var/log/prometheus/query.log, "));
    CHECK(lines.contains("insecure_skip_verify: true"));
    CHECK(lines.contains("'(?i).*(password|token|api_key).*'"));
    CHECK(planned(config("scrape_configs:\n- job_name: a\n  metric_relabel_configs: [{action: labeldrop, regex: 'password|l.*'}]\n"),
                  {"labels.redaction"})
              .changes.empty());
}

TEST_CASE("web.yml needs no request, and only what the policy determines is put into it") {
    const auto web = [](const std::string& text) {
        return host({named(NamedFile::Use::configuration, "/etc/prometheus/prometheus.yml", "global: {}\n"),
                     named(NamedFile::Use::web, "/etc/prometheus/web.yml", text)});
    };
    const auto plan = planned(web("tls_server_config: {cert_file: c, key_file: k, min_version: TLS10, client_ca_file: ca, "
                                  "client_auth_type: VerifyClientCertIfGiven}\n"),
                              {"tls.protocol", "tls.client-auth"});
    REQUIRE(plan.changes.size() == 2);
    for (const auto& change : plan.changes) {
        CHECK(change.kind == Change::Kind::web);
        CHECK(change.judge == Judge::promtool_web_config);
        CHECK_FALSE(change.on_request);
    }
    CHECK(Engine::work_of({}, plan).size() == 2);
    CHECK(planned(web("tls_server_config: {cert_file: c, key_file: k, client_auth_type: RequestClientCert}\n"), {"tls.client-auth"})
              .changes.empty());  // no authority
}

TEST_CASE("what is enforced comes before what is only shown, each as it is after the one before") {
    const std::string text =
        "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {insecure_skip_verify: true, ca_file: x}\n  basic_auth: {password: "
        "hunter2}\n  static_configs: [{targets: ['a.example:1']}]\n";
    Policy policy;
    policy.controls["secrets.inline"] = Mode::audit;
    const auto plan = planned(config(text), {"secrets.inline", "tls.scrape"}, policy);
    const auto work = Engine::work_of(policy, plan, true);
    REQUIRE(work.size() == 1);
    CHECK(work.front().control == "tls.scrape");
    CHECK(std::get<EditFile>(work.front().deed).before == sha256(text));
    REQUIRE(plan.changes.size() == 3);
    CHECK(std::get<EditFile>(plan.changes.back().deed).before == std::get<EditFile>(work.front().deed).after);
}
