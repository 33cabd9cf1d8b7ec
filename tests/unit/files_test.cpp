#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "promwarden/lint.hpp"
#include "verdicts.hpp"

using namespace promwarden;

namespace {

Decision decide(std::string_view control, std::string_view text, const LintOptions& options = {}) {
    const prometheus::Document document = prometheus::read_document("f.yml", text, options.as);
    for (auto& [id, decision] : judge(std::span(&document, 1), options))
        if (id == control) return noted(control, std::move(decision));
    FAIL("no such control");
    return {};
}

struct Case {
    std::string_view control;
    Verdict verdict;
    std::string_view text;
    std::string_view path = {};  // of the first finding, where it fails
    std::uint32_t line = 0;
};

void check(std::span<const Case> cases) {
    for (const auto& each : cases) {
        CAPTURE(each.control);
        CAPTURE(each.text);
        const auto decision = decide(each.control, each.text);
        CAPTURE(decision.reason);
        CHECK(to_text(decision.verdict) == to_text(each.verdict));
        CHECK_FALSE(decision.reason.empty());
        CHECK((decision.verdict == Verdict::fail) == !decision.findings.empty());
        if (each.path.empty() || decision.findings.empty()) continue;
        const auto& location = decision.findings.front().location;
        REQUIRE(location.has_value());
        CHECK(location->path == each.path);
        if (each.line != 0) CHECK(location->line == each.line);
        CHECK(location->column > 0);
        CHECK_FALSE(decision.findings.front().remedy.summary.empty());
    }
}

constexpr auto pass = Verdict::pass, failed = Verdict::fail, unknown = Verdict::unknown, none = Verdict::not_applicable;

}  // namespace

TEST_CASE("secrets.inline") {
    const Case cases[] = {
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  basic_auth:\n    username: u\n    password: hunter2\n", "scrape_configs[0].basic_auth.password", 5},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  authorization: {credentials: hunter2}\n", "scrape_configs[0].authorization.credentials", 3},
        {"secrets.inline", failed, "remote_write:\n- url: https://r/w\n  sigv4: {secret_key: hunter2}\n", "remote_write[0].sigv4.secret_key"},
        {"secrets.inline", failed, "remote_write:\n- url: https://r/w\n  azuread: {oauth: {client_secret: hunter2}}\n", "remote_write[0].azuread.oauth.client_secret"},
        {"secrets.inline", failed, "remote_read:\n- url: https://r/w\n  oauth2: {client_id: a, client_secret: hunter2, token_url: 'https://t'}\n", "remote_read[0].oauth2.client_secret"},
        {"secrets.inline", failed, "alerting:\n  alertmanagers:\n  - bearer_token: hunter2\n", "alerting.alertmanagers[0].bearer_token"},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  consul_sd_configs:\n  - server: localhost:8500\n    token: hunter2\n", "scrape_configs[0].consul_sd_configs[0].token"},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  http_headers: {X-Api: {secrets: [hunter2]}}\n", "scrape_configs[0].http_headers.X-Api.secrets[0]"},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  proxy_connect_header: {Proxy-Authorization: [hunter2]}\n", "scrape_configs[0].proxy_connect_header.Proxy-Authorization[0]"},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {key: hunter2, cert: c}\n", "scrape_configs[0].tls_config.key"},
        {"secrets.inline", failed, "- job_name: a\n  bearer_token: hunter2\n", "[0].bearer_token", 2},
        {"secrets.inline", failed, "basic_auth: {username: u, password: hunter2}\n", "basic_auth.password"},
        {"secrets.inline", failed, "x: &a {username: u, password: hunter2}\nscrape_configs:\n- job_name: a\n  basic_auth: *a\n", "scrape_configs[0].basic_auth.password", 1},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {<<: &x {password: hunter2}, username: b}\n", "scrape_configs[0].basic_auth.password"},
        {"secrets.inline", failed, "global:\nbasic_auth:\n  password: hunter2\n", "basic_auth.password", 3},
        {"secrets.inline", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: 'pa$$w$rd'}\n"},
        {"secrets.inline", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password_file: /p}\n"},
        {"secrets.inline", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: ''}\n"},
        {"secrets.inline", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: '${PASSWORD}'}\n"},
        {"secrets.inline", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: <secret>}\n"},
        {"secrets.inline", unknown, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: '{{ password }}'}\n"},
        {"secrets.inline", unknown, "scrape_configs:\n- job_name: a\n  basic_auth:\n    username: u\n    password: {{ password }}\n"},
        {"secrets.inline", unknown, "scrape_configs:\n- job_name: a\n  bearer_token: !vault abc\n"},
        {"secrets.inline", unknown, "scrape_configs:\n- job_name: a\n  bearer_token: __TOKEN__\n"},
        {"secrets.inline", unknown, "scrape_configs:\n- job_name: a\n  bearer_token: <your token>\n"},
        {"secrets.inline", none, "apiVersion: v1\nkind: Secret\n"},
        {"secrets.inline", none, "groups: []\n"},
    };
    check(cases);
}

TEST_CASE("secrets.inline: the remedy is the line to write, and no output holds the secret") {
    const InputFile file{"p.yml", "scrape_configs:\n- job_name: a\n  basic_auth:\n    username: u\n    password: hunter2\n  params: {token: [hunter2]}\nremote_write:\n- url: https://u:hunter2@r/w?api_key=hunter2\n"};
    const auto report = lint(std::span(&file, 1), {}, {});
    const auto row = std::ranges::find_if(report.controls, [](const ControlReport& each) { return each.control->id == "secrets.inline"; });
    REQUIRE(row != report.controls.end());
    CHECK(row->decision.findings.at(0).remedy.summary ==
          "write the value to /etc/prometheus/secrets/scrape_configs-0-basic_auth-password (0640 root:prometheus) and replace line 5 by:     "
          "password_file: /etc/prometheus/secrets/scrape_configs-0-basic_auth-password");
    CHECK(row->control->severity == Severity::high);
    const auto json = json_text(to_json(report));
    CHECK(json.find("hunter2") == std::string::npos);
    CHECK(json.find("remote_write[0].url") != std::string::npos);
}

TEST_CASE("secrets.exposed-parameters, secrets.redacted-literal, secrets.inline-key") {
    const Case cases[] = {
        {"secrets.exposed-parameters", failed, "remote_write:\n- url: https://u:hunter2@r/w\n", "remote_write[0].url", 2},
        {"secrets.exposed-parameters", failed, "remote_write:\n- url: https://r/w?db=a&api_key=hunter2\n", "remote_write[0].url"},
        {"secrets.exposed-parameters", failed, "remote_write:\n- url: https://r/w\n  headers: {X-Api-Key: hunter2}\n", "remote_write[0].headers.X-Api-Key"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  params: {token: [hunter2]}\n", "scrape_configs[0].params.token[0]"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  http_headers: {X-Api-Key: {values: [hunter2]}}\n", "scrape_configs[0].http_headers.X-Api-Key.values[0]"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  oauth2: {client_id: a, token_url: 'https://t', endpoint_params: {password: hunter2}}\n", "scrape_configs[0].oauth2.endpoint_params.password"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  proxy_url: http://u:hunter2@proxy:3128\n", "scrape_configs[0].proxy_url"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - url: https://u:hunter2@sd/x\n", "scrape_configs[0].http_sd_configs[0].url"},
        {"secrets.exposed-parameters", failed, "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {target_label: __param_token, replacement: hunter2}\n", "scrape_configs[0].relabel_configs[0].replacement"},
        {"secrets.exposed-parameters", failed, "tracing: {endpoint: 'o:4317', headers: {Authorization: hunter2}}\n", "tracing.headers.Authorization"},
        {"secrets.exposed-parameters", pass, "scrape_configs:\n- job_name: a\n  params: {module: [http_2xx], auth: [public_v2], 'match[]': ['{job=\"token\"}'], format: [prometheus]}\n"},
        {"secrets.exposed-parameters", pass, "remote_write:\n- url: https://r/w?db=prometheus\n  headers: {X-Scope-OrgID: a}\n"},
        {"secrets.exposed-parameters", pass, "remote_write:\n- url: 'https://u:${PASSWORD}@r/w'\n"},
        {"secrets.exposed-parameters", unknown, "remote_write:\n- url: 'https://u:{{ password }}@r/w'\n"},
        {"secrets.exposed-parameters", none, "basic_auth_users: {}\n"},
        {"secrets.redacted-literal", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: <secret>}\n", "scrape_configs[0].basic_auth.password"},
        {"secrets.redacted-literal", failed, "remote_write:\n- url: https://u:xxxxx@r/w\n", "remote_write[0].url"},
        {"secrets.redacted-literal", failed, "basic_auth_users: {a: <secret>}\n", "basic_auth_users.a"},
        {"secrets.redacted-literal", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: <secret>, password_file: p}\n"},
        {"secrets.redacted-literal", none, "groups: []\n"},
        {"secrets.redacted-literal", none, "services: {}\n"},
        {"secrets.inline-key", failed, "tls_server_config:\n  cert_file: a\n  key: hunter2\n", "tls_server_config.key", 3},
        {"secrets.inline-key", pass, "tls_server_config: {cert_file: a, key_file: b}\n"},
        {"secrets.inline-key", unknown, "tls_server_config: {cert_file: a, key: '{{ key }}'}\n"},
        {"secrets.inline-key", none, "scrape_configs: []\n"},
    };
    check(cases);
}

TEST_CASE("secrets.dead-variables") {
    const Case cases[] = {
        {"secrets.dead-variables", failed, "remote_write:\n- url: https://r/w\n  basic_auth: {username: '${USER}', password_file: p}\n", "remote_write[0].basic_auth.username"},
        {"secrets.dead-variables", failed, "scrape_configs:\n- job_name: a\n  bearer_token: $TOKEN\n", "scrape_configs[0].bearer_token"},
        {"secrets.dead-variables", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['${HOST:-h}:9100']\n", "scrape_configs[0].static_configs[0].targets[0]"},
        {"secrets.dead-variables", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n  - labels: {env: '${ENV}'}\n", "scrape_configs[0].static_configs[0].labels.env"},
        {"secrets.dead-variables", failed, "tls_server_config: {cert_file: '${DIR}/a', key_file: b}\n", "tls_server_config.cert_file"},
        {"secrets.dead-variables", pass, "global:\n  external_labels: {region: '${REGION}', host: $HOST}\n"},
        {"secrets.dead-variables", pass, "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {source_labels: [a], regex: '(.+)$', target_label: b, replacement: '$1-${2}-${name}'}\n"},
        {"secrets.dead-variables", pass, "scrape_configs:\n- job_name: a\n  metrics_path: /a$$b/$${NAME}\n"},
        {"secrets.dead-variables", pass, "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: 'pa$word'}\n"},
        {"secrets.dead-variables", pass, "basic_auth_users: {a: '$2y$12$ABCDEFghijklmnopqrstuvwxyz0123456789ABCDEFghijklmnopqr'}\n"},
        {"secrets.dead-variables", none, "groups:\n- name: a\n  rules:\n  - {alert: A, expr: up == 0, annotations: {summary: '{{ $labels.instance }} ${X}'}}\n"},
        {"secrets.dead-variables", none, "hello: world\n"},
    };
    check(cases);
    const auto decision = decide("secrets.dead-variables", "remote_write:\n- url: https://r/w\n  bearer_token: ${TOKEN:-hunter2}\n");
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].observed.starts_with("${TOKEN},"));
}

TEST_CASE("tls.scrape") {
    const Case cases[] = {
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['node:9100']\n", "scrape_configs[0].static_configs[0].targets[0]", 4},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  scheme: http\n  static_configs:\n  - targets: ['10.0.0.1:9100']\n", "scrape_configs[0].scheme", 3},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {insecure_skip_verify: true}\n  static_configs:\n  - targets: ['node:9100']\n", "scrape_configs[0].tls_config.insecure_skip_verify", 4},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {insecure_skip_verify: yes}\n  kubernetes_sd_configs: [{role: node}]\n", "scrape_configs[0].tls_config.insecure_skip_verify"},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {min_version: TLS10}\n", "scrape_configs[0].tls_config.min_version"},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {source_labels: [__address__], target_label: __param_target}\n  - {target_label: __address__, replacement: 'blackbox:9115'}\n  static_configs:\n  - targets: ['https://example.org']\n", "scrape_configs[0].relabel_configs[1]"},
        {"tls.scrape", failed, "scrape_configs:\n- job_name: a\n  oauth2: {client_id: a, client_secret_file: b, token_url: 'http://idp/t'}\n", "scrape_configs[0].oauth2.token_url"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['localhost:9090', '127.0.0.1:9100', '[::1]:9100']\n"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {insecure_skip_verify: true}\n  static_configs:\n  - targets: ['localhost:9090']\n"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  scheme: https\n  tls_config: {insecure_skip_verify: false, ca_file: ca.pem}\n  static_configs:\n  - targets: ['node:9100']\n"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['https://example.org', 'https://example.com']\n  relabel_configs:\n  - {source_labels: [__address__], target_label: __param_target}\n  - {target_label: __address__, replacement: '127.0.0.1:9115'}\n"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['node:9100']\n  relabel_configs:\n  - {target_label: __scheme__, replacement: https}\n"},
        {"tls.scrape", pass, "scrape_configs:\n- job_name: a\n  scheme: https\n  kubernetes_sd_configs: [{role: node}]\n  relabel_configs:\n  - {action: labelmap, regex: '__meta_kubernetes_node_label_(.+)'}\n  - {target_label: __address__, replacement: 'kubernetes.default.svc:443'}\n"},
        {"tls.scrape", unknown, "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pod}]\n"},
        {"tls.scrape", unknown, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [\n    %{~ for host in hosts ~}\n    '${host}:9100',\n    %{~ endfor ~}\n    ]\n"},
        {"tls.scrape", unknown, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['node:9100']\n  relabel_configs:\n  - {source_labels: [s], regex: (https?), target_label: __scheme__}\n"},
        {"tls.scrape", unknown, "scrape_configs:\n- job_name: a\n  scheme: '{{ scheme }}'\n  static_configs:\n  - targets: ['node:9100']\n"},
        {"tls.scrape", unknown, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['{{ host }}:9100']\n"},
        {"tls.scrape", none, "scrape_configs:\n- job_name: a\n"},
        {"tls.scrape", none, "basic_auth_users: {}\n"},
    };
    check(cases);
    const auto decision = decide("tls.scrape", "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password_file: p}\n  static_configs:\n  - targets: ['node:9100', 'other:9100']\n");
    REQUIRE(decision.findings.size() == 1);
    CHECK(decision.findings[0].observed == "http to node:9100, with credentials");
}

TEST_CASE("tls.remote-write and tls.other-clients") {
    const Case cases[] = {
        {"tls.remote-write", failed, "remote_write:\n- url: http://remote:9201/write\n", "remote_write[0].url", 2},
        {"tls.remote-write", failed, "remote_read:\n- url: https://r/read\n  tls_config: {insecure_skip_verify: true}\n", "remote_read[0].tls_config.insecure_skip_verify"},
        {"tls.remote-write", pass, "remote_write:\n- url: http://localhost:9201/write\n"},
        {"tls.remote-write", pass, "remote_write:\n- url: https://remote:9201/write\n"},
        {"tls.remote-write", unknown, "remote_write:\n- url: '${URL}'\n"},
        {"tls.remote-write", unknown, "remote_write:\n- url: 'http://{{ host }}/write'\n"},
        {"tls.remote-write", none, "scrape_configs: []\n"},
        {"tls.other-clients", failed, "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['alertmanager:9093']\n", "alerting.alertmanagers[0].static_configs[0].targets[0]"},
        {"tls.other-clients", failed, "scrape_configs:\n- job_name: a\n  consul_sd_configs:\n  - server: consul:8500\n", "scrape_configs[0].consul_sd_configs[0].server"},
        {"tls.other-clients", failed, "scrape_configs:\n- job_name: a\n  http_sd_configs:\n  - url: http://sd/x\n", "scrape_configs[0].http_sd_configs[0].url"},
        {"tls.other-clients", failed, "scrape_configs:\n- job_name: a\n  docker_sd_configs:\n  - host: tcp://docker:2375\n", "scrape_configs[0].docker_sd_configs[0].host"},
        {"tls.other-clients", failed, "tracing: {endpoint: 'otel:4317', insecure: true}\n", "tracing.insecure"},
        {"tls.other-clients", failed, "basic_auth: {username: u, password_file: p}\ntls_config: {insecure_skip_verify: true}\n", "tls_config.insecure_skip_verify"},
        {"tls.other-clients", pass, "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['localhost:9093']\n"},
        {"tls.other-clients", pass, "scrape_configs:\n- job_name: a\n  consul_sd_configs:\n  - {server: 'consul:8500', scheme: https}\n"},
        {"tls.other-clients", unknown, "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['${HOST}:9093']\n"},
        {"tls.other-clients", none, "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets:\n      # - alertmanager:9093\n"},
    };
    check(cases);
}

TEST_CASE("web.yml") {
    const Case cases[] = {
        {"tls.server", failed, "tls_server_config:\n  cert_file: a\n", "tls_server_config", 1},
        {"tls.server", pass, "tls_server_config: {cert_file: a, key_file: b}\n"},
        {"tls.server", unknown, "basic_auth_users: {a: b}\n"},
        {"tls.server", none, "http_server_config: {http2: true}\n"},
        {"tls.protocol", failed, "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n", "tls_server_config.min_version"},
        {"tls.protocol", failed, "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}\n", "tls_server_config.cipher_suites[0]"},
        {"tls.protocol", pass, "tls_server_config: {cert_file: a, key_file: b}\n"},
        {"tls.protocol", none, "basic_auth_users: {}\n"},
        {"tls.client-auth", failed, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert, client_ca_file: c}\n", "tls_server_config.client_auth_type"},
        {"tls.client-auth", failed, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: VerifyClientCertIfGiven, client_ca_file: c}\n", "tls_server_config.client_auth_type"},
        {"tls.client-auth", failed, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}\n", "tls_server_config.client_auth_type"},
        {"tls.client-auth", failed, "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n", "tls_server_config.client_ca_file"},
        {"tls.client-auth", pass, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert, client_ca_file: c}\n"},
        {"tls.client-auth", unknown, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: '{{ type }}'}\n"},
        {"tls.client-auth", none, "tls_server_config: {cert_file: a, key_file: b}\n"},
        {"access.password-hashes", failed, "basic_auth_users: {a: secret}\n", "basic_auth_users.a"},
        {"access.password-hashes", failed, "basic_auth_users: {a: $2y$05$ABCDEFghijklmnopqrstuvwxyz0123456789ABCDEFghijklmnopq}\n", "basic_auth_users.a"},
        {"access.password-hashes", failed, "basic_auth_users: {a: $2y$18$ABCDEFghijklmnopqrstuvwxyz0123456789ABCDEFghijklmnopq}\n", "basic_auth_users.a"},
        {"access.password-hashes", pass, "basic_auth_users: {a: $2y$10$ABCDEFghijklmnopqrstuvwxyz0123456789ABCDEFghijklmnopq, b: $2b$14$ABCDEFghijklmnopqrstuvwxyz0123456789ABCDEFghijklmnopq}\n"},
        {"access.password-hashes", unknown, "basic_auth_users: {a: '{{ hash }}'}\n"},
        {"access.password-hashes", none, "tls_server_config: {cert_file: a, key_file: b}\n"},
        {"config.startable", failed, "basic_auth_users: {}\nauth_excluded_paths: [/-/healthy]\n", "auth_excluded_paths", 2},
        {"config.startable", failed, "basic_auth_users: {a: plain}\n", "basic_auth_users.a"},
        {"config.startable", failed, "tls_server_config: {cert_file: a, key_file: b, client_auth_type: Always}\n", "tls_server_config.client_auth_type"},
        {"config.startable", failed, "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n", "tls_server_config.client_ca_file"},
        {"config.startable", pass, "tls_server_config: {cert_file: a, key_file: b}\n"},
    };
    check(cases);
}

TEST_CASE("labels, federation, honor_labels, the Docker socket") {
    const std::string_view job = "scrape_configs:\n- job_name: a\n";
    const auto with = [&](std::string_view rest) { return std::string(job) + std::string(rest); };
    const auto check_one = [](std::string_view control, Verdict verdict, const std::string& text, std::string_view path = {}) {
        const Case one[] = {{control, verdict, text, path}};
        check(one);
    };
    const std::string_view rule = "scrape_configs[0].metric_relabel_configs[0].regex";
    check_one("labels.redaction", failed, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: 'password|secret|token|api_key'}\n"), rule);
    check_one("labels.redaction", failed, with("  metric_relabel_configs:\n  - {action: LabelDrop, regex: '.*(password|secret)'}\n"), rule);
    check_one("labels.redaction", pass, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: '(?i).*(password|passwd|secret|token|api_?key|credential).*'}\n"));
    check_one("labels.redaction", none, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: pod_template_hash}\n"));
    check_one("labels.redaction", none, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: token}\n"));
    check_one("labels.identity", failed, with("  metric_relabel_configs:\n  - {action: labelkeep, regex: 'job|instance|__name__|env|service'}\n"), rule);
    check_one("labels.identity", failed, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: 'instance|pod'}\n"), rule);
    check_one("labels.identity", failed, "remote_write:\n- url: https://r/w\n  write_relabel_configs:\n  - {action: labelkeep, regex: '__name__|job'}\n", "remote_write[0].write_relabel_configs[0].regex");
    check_one("labels.identity", pass, with("  metric_relabel_configs:\n  - {action: labelkeep, regex: '__name__|job|instance|le|quantile|mode|cpu'}\n"));
    check_one("labels.identity", pass, with("  metric_relabel_configs:\n  - {action: labeldrop, regex: 'pod_.*'}\n"));
    check_one("labels.identity", unknown, with("  metric_relabel_configs:\n  - {action: labelkeep, regex: '{{ keep }}'}\n"));
    check_one("labels.identity", none, with("  relabel_configs:\n  - {action: labelmap, regex: 'a_(.+)'}\n"));
    const auto federate = [&](std::string_view selector) { return with("  metrics_path: /federate\n  honor_labels: true\n  params: {'match[]': ['") + std::string(selector) + "']}\n"; };
    for (const std::string_view wide : {"{__name__=~\".+\"}", "{__name__=~\".*\"}", "{job=~\".+\"}", "{job!=\"\"}", "{__name__!=\"\"}", "{job=\"\"}", "{}", "{__name__=~\"[a-zA-Z_].*\", job=~\".*\"}"}) {
        CAPTURE(wide);
        check_one("api.federation", failed, federate(wide), "scrape_configs[0].params.match[][0]");
    }
    for (const std::string_view narrow : {"{job=\"prometheus\"}", "up", "job:x{a=~\".+\"}", "{__name__=~\"job:.*\"}", "{__name__=~\".+\", job=\"a,b\"}", "{job=~\"a|b\"}"}) {
        CAPTURE(narrow);
        check_one("api.federation", pass, federate(narrow));
    }
    check_one("api.federation", failed, with("  metrics_path: /federate\n"), "scrape_configs[0].metrics_path");
    check_one("api.federation", unknown, federate("{{ selector }}"));
    check_one("api.federation", none, with("  metrics_path: /metrics\n"));
    check_one("config.honor-labels", failed, with("  honor_labels: true\n"), "scrape_configs[0].honor_labels");
    check_one("config.honor-labels", pass, federate("up"));
    check_one("config.honor-labels", pass, with("  honor_labels: true\n  static_configs:\n  - targets: ['Pushgateway:80']\n"));
    check_one("config.honor-labels", pass, with("  honor_labels: false\n"));
    check_one("config.honor-labels", none, std::string(job));
    check_one("config.docker-socket", failed, with("  docker_sd_configs:\n  - host: unix:///var/run/docker.sock\n"), "scrape_configs[0].docker_sd_configs[0].host");
    check_one("config.docker-socket", none, std::string(job));
}

TEST_CASE("config.invalid and config.startable") {
    const Case cases[] = {
        {"config.invalid", failed, "scrape_configs: []\nmetric_relabel_configs: []\n", "metric_relabel_configs", 2},
        {"config.invalid", failed, "scrape_configs:\n- job_name: a\n  metric_path: /x\n", "scrape_configs[0].metric_path", 3},
        {"config.invalid", failed, "global:\n  scrape_interval: 15s\n  query_log: a\n", "global.query_log", 3},
        {"config.invalid", failed, "global:\n  scrape_interval: 15s\nglobal:\n  scrape_interval: 30s\n", "global", 3},
        {"config.invalid", failed, "scrape_configs: [\n", "", 2},
        {"config.invalid", pass, "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pod, something_new_and_long: 1}]\n"},
        {"config.invalid", pass, "scrape_config_files: [a/*.yml]\nstorage: {tsdb: {out_of_order_time_window: 30m}}\n"},
        {"config.invalid", pass, "{% if a %}\nscrape_configs:\n{% endif %}\n"},
        {"config.invalid", unknown, "{% if a %}\nscrape_configs: [\n{% endif %}\n"},
        {"config.invalid", unknown, "hello: 1\n"},
        {"config.invalid", unknown, "route: {}\nreceivers: []\n"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pod, api_servers: [a]}]\n", "scrape_configs[0].kubernetes_sd_configs[0].api_servers"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {password: a, password_file: b}\n", "scrape_configs[0].basic_auth.password_file"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {username: b}\n  bearer_token_file: a\n", "scrape_configs[0].bearer_token_file"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  authorization: {type: Basic, credentials_file: b}\n", "scrape_configs[0].authorization.type"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  basic_auth: {password_ref: b}\n", "scrape_configs[0].basic_auth.password_ref"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n- job_name: a\n", "scrape_configs[1].job_name", 3},
        {"config.startable", failed, "scrape_configs:\n- static_configs: []\n", "scrape_configs[0]"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 10s\n", "scrape_configs[0].scrape_timeout"},
        {"config.startable", failed, "global:\n  scrape_interval: 15\n", "global.scrape_interval"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['http://node:9100']\n", "scrape_configs[0].static_configs[0].targets[0]"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {action: labledrop, regex: a}\n", "scrape_configs[0].relabel_configs[0].action"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {action: drop, regex: '(a'}\n", "scrape_configs[0].relabel_configs[0].regex"},
        {"config.startable", failed, "remote_write:\n- name: a\n", "remote_write[0]"},
        {"config.startable", failed, "groups:\n- name: a\n  rules:\n  - {alert: A}\n", "groups[0].rules[0]"},
        {"config.startable", failed, "- alert: A\n  expr: up\n  runbook: x\n", "[0].runbook"},
        {"config.startable", pass, "global: {scrape_interval: 1m30s, scrape_timeout: 0}\nscrape_configs:\n- job_name: a\n  relabel_configs:\n  - {action: LabelDrop, regex: 'a|b'}\n"},
        {"config.startable", pass, "scrape_configs:\n- job_name: '{{ a }}'\n- job_name: '{{ a }}'\n"},
        {"config.startable", unknown, "scrape_configs:\n- job_name: a\n  stream_parse: true\n"},
        {"config.startable", unknown, "groups:\n- name: a\n  partial_response_strategy: abort\n  rules: []\n"},
        {"config.startable", unknown, "groups:\n- name: a\n  concurrency: 2\n  rules: [{alert: A, expr: up, update_entries_limit: 3}]\n"},
        {"config.startable", unknown, "namespace: n\ngroups:\n- name: a\n  source_tenants: [b]\n  rules: []\n"},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: localhost:9090\n", "scrape_configs[0].static_configs[0].targets", 4},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  static_configs:\n    targets: ['localhost:9090']\n", "scrape_configs[0].static_configs", 3},
        {"config.startable", failed, "scrape_configs:\n- job_name: a\n  static_configs: ['localhost:9090']\n", "scrape_configs[0].static_configs", 3},
        {"config.startable", failed, "rule_files: rules.yml\nscrape_configs: []\n", "rule_files", 1},
        {"config.startable", failed, "global: 15s\nscrape_configs: []\n", "global", 1},
        {"config.startable", failed, "storage: {tsdb: {retention: {size: 10G}}}\nscrape_configs: []\n", "storage.tsdb.retention.size", 1},
        {"config.startable", pass, "storage: {tsdb: {retention: {size: 512MiB}}}\nglobal:\nrule_files:\nscrape_configs: []\n"},
        {"config.startable", pass, "rule_files: ${FILES}\nscrape_configs: [{job_name: a, static_configs: \"{{ targets }}\"}]\n"},
    };
    check(cases);
}

TEST_CASE("config.startable: keys by version") {
    const std::string_view text = "scrape_config_files: [a.yml]\nscrape_configs:\n- job_name: a\n  scrape_classic_histograms: true\n";
    CHECK(decide("config.startable", text).verdict == Verdict::pass);
    LintOptions options;
    options.version = 242;
    const auto old = decide("config.startable", text, options);
    REQUIRE(old.findings.size() == 2);
    CHECK(old.findings[0].observed == "scrape_config_files is new in 2.43, this is 2.42; Prometheus refuses to start with it");
    options.version = 300;
    const auto fresh = decide("config.startable", text, options);
    REQUIRE(fresh.findings.size() == 1);
    CHECK(fresh.findings[0].location->path == "scrape_configs[0].scrape_classic_histograms");
}

TEST_CASE("audit.query-log: judged where it is written, demanded only by a policy") {
    CHECK(decide("audit.query-log", "global: {scrape_interval: 15s}\n").verdict == Verdict::not_applicable);
    CHECK(decide("audit.query-log", "global: {query_log_file: q.log}\n").verdict == Verdict::pass);
    CHECK(decide("audit.query-log", "global: {query_log_file: ''}\n").verdict == Verdict::fail);
    Policy policy;
    policy.query_log = "/var/log/prometheus/query.log";
    LintOptions options;
    options.policy = &policy;
    CHECK(decide("audit.query-log", "global: {scrape_interval: 15s}\n", options).verdict == Verdict::fail);
    CHECK(decide("audit.query-log", "global: {query_log_file: other.log}\n", options).verdict == Verdict::fail);
    CHECK(decide("audit.query-log", "global: {query_log_file: /var/log/prometheus/query.log}\n", options).verdict == Verdict::pass);
    CHECK(decide("audit.query-log", "hello: 1\n", options).verdict == Verdict::not_applicable);
}

TEST_CASE("a client's pair without ca_file is read once: only where a policy asks for renewed ones") {
    const Policy policy;
    LintOptions options;
    options.policy = &policy;
    const auto block = [](std::string_view more) { return fmt::format("tls_config: {{cert_file: /c, key_file: /k{}}}\n", more); };
    const auto scrape = [&](std::string_view more) { return "scrape_configs:\n- job_name: a\n  scheme: https\n  static_configs: [{targets: ['node:9100']}]\n  " + block(more); };
    const auto write = [&](std::string_view more) { return "remote_write:\n- url: https://r/w\n  " + block(more); };
    for (const auto& [control, text, bad] : {std::tuple{"tls.scrape", scrape(""), true}, {"tls.scrape", scrape(", ca_file: /a"), false}, {"tls.remote-write", write(""), true}, {"tls.remote-write", write(", ca_file: /a"), false}}) {
        CAPTURE(text);
        const auto decision = decide(control, text, options);
        CHECK(decision.verdict == (bad ? Verdict::fail : Verdict::pass));
        if (bad) CHECK(decision.findings.at(0).location->path.ends_with("tls_config.cert_file"));
        CHECK(decide(control, text).verdict == Verdict::pass);  // what a file leaves out is not judged without one
    }
    CHECK(decide("tls.scrape", "scrape_configs:\n- job_name: a\n  scheme: https\n  static_configs: [{targets: ['localhost:9100']}]\n  " + block(""), options).verdict == Verdict::pass);
}

TEST_CASE("tls.client-auth: a policy can demand it") {
    Policy policy;
    policy.tls.require_client_certificate = true;
    LintOptions options;
    options.policy = &policy;
    CHECK(decide("tls.client-auth", "tls_server_config: {cert_file: a, key_file: b}\n", options).verdict == Verdict::fail);
    CHECK(decide("tls.client-auth", "tls_server_config: {cert_file: a, key_file: b, client_auth_type: NoClientCert}\n", options).verdict == Verdict::fail);
}

TEST_CASE("alerts") {
    const auto alert = [](std::string_view expression) { return "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: " + std::string(expression) + "\n"; };
    struct {
        std::string_view control;
        Verdict verdict;
        std::string_view expression;
    } const cases[] = {
        {"alerts.query-rate", failed, "rate(prometheus_http_requests_total[5m]) > 100"},
        {"alerts.query-rate", failed, "sum(rate(prometheus_http_request_total[5m])) > 100"},
        {"alerts.query-rate", pass, "sum(rate(prometheus_http_requests_total{handler=~\"/api/v1/(query|series)\"}[5m])) > 100"},
        {"alerts.query-rate", none, "rate(prometheus_http_requests_total{code=~\"5..\"}[5m]) > 1"},
        {"alerts.query-rate", none, "up == 0"},
        {"alerts.auth-failures", failed, "increase(nginx_http_requests_total{status=\"401\"}[5m]) > 10"},
        {"alerts.auth-failures", failed, "increase(prometheus_http_requests_total{code=\"401\"}[5m]) > 10"},
        {"alerts.auth-failures", pass, "increase(promwarden_proxy_auth_failures_total[5m]) > 10"},
        {"alerts.auth-failures", pass, "increase(nginx_http_response_count_total{status=\"401\"}[5m]) > 10"},
        {"alerts.auth-failures", none, "rate(nginx_http_requests_total{status=~\"5..\"}[5m]) > 1"},
        {"alerts.auth-failures", none, "up{comment=\"nginx_http_requests_total{status='401'}\"} == 0"},
        {"alerts.reload-failed", failed, "prometheus_config_last_reload_success == 0"},
        {"alerts.reload-failed", pass, "prometheus_config_last_reload_successful == 0"},
        {"alerts.reload-failed", none, "up == 0"},
    };
    for (const auto& each : cases) {
        const auto text = alert(each.expression);
        const Case one[] = {{each.control, each.verdict, text, each.verdict == failed ? "groups[0].rules[0].expr" : "", 5}};
        check(one);
    }
    const Case templated[] = {{"alerts.query-rate", none, "{%- for a in b %}\n- alert: A\n{%- endfor %}\n"}, {"alerts.query-rate", unknown, "groups: [\n{%- for a in b %}\n"}, {"alerts.auth-failures", none, "hello: 1\n"}};
    check(templated);
}

TEST_CASE("the hardening guide's own lines, pasted as they are printed") {
    const auto findings = [](std::string_view control, std::string_view text) {
        std::vector<std::string> lines;
        const auto decision = decide(control, text);
        for (const auto& finding : decision.findings) lines.push_back(std::to_string(finding.location->line) + " " + finding.location->path + ": " + finding.remedy.summary);
        return lines;
    };
    using Lines = std::vector<std::string>;
    CHECK(findings("config.invalid", "# prometheus.yml\nglobal:\nexternal_labels:\nenvironment: 'production'\n") ==
          Lines{"3 external_labels: line 3: indent it below `global`", "4 environment: line 4: indent it below `external_labels`"});
    const std::string_view scrape = "# prometheus.yml\nscrape_configs:\n- job_name: 'secure-targets'\nscheme: https\ntls_config:\nca_file: /etc/prometheus/certs/ca.crt\n"
                                    "cert_file: /etc/prometheus/certs/client.crt\nkey_file: /etc/prometheus/certs/client.key\ninsecure_skip_verify: false\nstatic_configs:\n"
                                    "- targets: ['target1:9100', 'target2:9100']\nremote_write:\n- url: \"https://remote-storage:9201/write\"\ntls_config:\n"
                                    "ca_file: /etc/prometheus/certs/ca.crt\ncert_file: /etc/prometheus/certs/client.crt\nkey_file: /etc/prometheus/certs/client.key\n";
    const auto lost = findings("config.invalid", scrape);
    REQUIRE(lost.size() == 11);
    CHECK(lost[0] == "4 scheme: line 4: move it into a scrape configuration");
    CHECK(lost[2] == "6 ca_file: line 6: indent it below `tls_config`");
    CHECK(lost[7] == "14 tls_config: remove line 14 or the one before");
    CHECK(decide("config.startable", scrape).findings.size() == 11);
    const std::string_view federation = "# Limit federation to specific match patterns\nscrape_configs:\n- job_name: 'federate'\nhonor_labels: true\nmetrics_path: '/federate'\nparams:\n"
                                        "'match[]':\n- '{job=\"prometheus\"}'\nscheme: https\ntls_config:\nca_file: /etc/prometheus/certs/ca.crt\nstatic_configs:\n"
                                        "- targets: ['federated-prometheus:9090']\n";
    CHECK(findings("config.invalid", federation).at(3) == "7 match[]: line 7: indent it below `params`");
    const std::string_view secrets = "# Use environment variable substitution\nremote_write:\n- url: \"https://remote-storage:9201/write\"\nbasic_auth:\n"
                                     "username: ${PROMETHEUS_REMOTE_USER}\npassword_file: /etc/prometheus/secrets/remote_password\n";
    CHECK(decide("secrets.dead-variables", secrets).findings.at(0).location->line == 5);
    CHECK(decide("secrets.inline", secrets).verdict == Verdict::pass);
    const std::string_view labels = "# prometheus.yml\nmetric_relabel_configs:\n- action: labeldrop\nregex: 'password|secret|token|api_key'\n- action: labelkeep\nregex: 'job|instance|__name__|env|service'\n";
    CHECK(decide("labels.redaction", labels).findings.at(0).location->line == 4);
    CHECK(decide("labels.redaction", labels).findings.at(0).location->column == 1);
    CHECK(decide("labels.identity", labels).findings.at(0).observed == "labelkeep removes le, quantile: different series become one, without an error");
    CHECK(decide("config.invalid", labels).findings.size() == 2);
    const std::string_view rate = "# Alert on excessive query rates\n- alert: HighQueryRate\nexpr: rate(prometheus_http_requests_total[5m]) > 100\nfor: 5m\nlabels:\nseverity: warning\n"
                                  "annotations:\nsummary: \"High query rate detected\"\n";
    CHECK(decide("alerts.query-rate", rate).findings.at(0).location->line == 3);
    const std::string_view failures = "- alert: PrometheusAuthFailures\nexpr: increase(nginx_http_requests_total{status=\"401\"}[5m]) > 10\nfor: 2m\nlabels:\nseverity: critical\n";
    CHECK(decide("alerts.auth-failures", failures).findings.at(0).observed.ends_with("the alert never fires"));
    CHECK(decide("config.invalid", failures).findings.size() == 1);
    const std::string_view reload = "# Alert on configuration changes\n- alert: PrometheusConfigReloadFailed\nexpr: prometheus_config_last_reload_successful == 0\nfor: 1m\nlabels:\nseverity: warning";
    CHECK(decide("alerts.reload-failed", reload).verdict == Verdict::pass);
}

TEST_CASE("config.startable: relabelling rules and empty items") {
    const auto rule = [](std::string_view text) { return decide("config.startable", "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {" + std::string(text) + "}\n"); };
    for (const std::string_view good : {"source_labels: [a], target_label: b", "action: labeldrop, regex: a", "action: hashmod, modulus: 2, target_label: b, source_labels: [a]", "action: keep, source_labels: [a]", "action: keepequal, source_labels: [a], target_label: b",
                                        "action: LabelMap, regex: a, replacement: b"}) {
        CAPTURE(good);
        CHECK(rule(good).verdict == Verdict::pass);
    }
    for (const std::string_view bad : {"source_labels: [a]", "action: labeldrop, regex: a, source_labels: [b]", "action: hashmod, target_label: b", "action: keepequal, source_labels: [a], regex: b, target_label: c", "action: lowercase, source_labels: [a]", "action: relabel"}) {
        CAPTURE(bad);
        CHECK(rule(bad).verdict == Verdict::fail);
    }
    CHECK(rule("action: keep_if_equal, source_labels: [a, b]").verdict == Verdict::unknown);
    CHECK(rule("if: '{a=\"b\"}', action: drop").verdict == Verdict::unknown);
    CHECK(decide("config.startable", "scrape_configs:\n-\n").verdict == Verdict::fail);
    CHECK(decide("config.startable", "tls_server_config: {cert_file: a, key_file: b, min_version: TLS111}\n").verdict == Verdict::fail);
}

TEST_CASE("templates are judged by what every rendering says") {
    const std::string_view text = "scrape_configs:\n{% for host in hosts %}\n  - job_name: {{ host }}\n    scheme: https\n    tls_config:\n      insecure_skip_verify: true\n    basic_auth:\n      password: {{ secret }}x\n    static_configs:\n      - targets: ['{{ host }}:9100']\n{% endfor %}\n";
    CHECK(decide("tls.scrape", text).findings.at(0).location->line == 6);
    CHECK(decide("secrets.inline", text).verdict == Verdict::unknown);
    CHECK(decide("config.startable", text).verdict == Verdict::pass);
    CHECK(decide("tls.scrape", "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['node:${PORT:-9100}']}]\n").verdict == Verdict::fail);
    CHECK(decide("tls.scrape", "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['localhost:{{ port }}']}]\n").verdict == Verdict::pass);
    const auto named = prometheus::read_document("prometheus.yml.tpl", "remote_write:\n- url: https://${host}/write\n");
    for (const auto& [id, decision] : judge(std::span(&named, 1)))
        if (id == "secrets.dead-variables") CHECK(decision.verdict == Verdict::unknown);
}

TEST_CASE("a file of another kind is one remark") {
    const auto document = prometheus::read_document("map.yaml", "apiVersion: v1\nkind: ConfigMap\n");
    std::size_t remarks = 0;
    for (const auto& [id, decision] : judge(std::span(&document, 1))) remarks += decision.verdict == Verdict::not_applicable ? 0 : 1;
    CHECK(remarks == 1);
    CHECK(decide("config.invalid", "apiVersion: v1\nkind: ConfigMap\n").reason == "f.yml: none of the kinds of file that lint knows: it looks like a Kubernetes object; if it is one, say which with --as");
    CHECK(decide("config.invalid", "").reason == "f.yml: an empty file: there is nothing to judge");
    CHECK(decide("config.invalid", "global: {scrape_interval: 15s}\n---\nscrape_configs: []\n").findings.at(0).location->line == 3);
}

TEST_CASE("tls.scrape: the remedy is the line to insert") {
    CHECK(decide("tls.scrape", "scrape_configs:\n  - job_name: a\n    static_configs: [{targets: ['node:9100']}]\n").findings.at(0).remedy.summary.starts_with("insert after line 2:     scheme: https"));
}

TEST_CASE("refused texts leave every control undecided, and findings are bounded") {
    const auto deep = decide("secrets.inline", "scrape_configs:\n- " + std::string(1000, '[') + std::string(1000, ']'), {.policy = nullptr, .version = {}, .as = prometheus::FileKind::prometheus, .only = {}, .main_file = {}, .own_ports = {}});
    CHECK(deep.verdict == Verdict::unknown);
    CHECK(deep.reason == "f.yml:2:201: refused: nested deeper than 200 levels");
    std::string many = "scrape_configs:\n";
    for (int i = 0; i < 1500; ++i) many += "- {job_name: j" + std::to_string(i) + ", bearer_token: t}\n";
    const auto bounded = decide("secrets.inline", many);
    CHECK(bounded.findings.size() == 1000);
    CHECK(bounded.reason == "1500 places, the first 1000 are listed");
}

TEST_CASE("lint: a template of nginx") {
    const InputFile files[] = {{"site.conf.j2", "server {\n    server_name {{ domain }};\n    listen {{ port }};\n{% if x %}\n    access_log off;\n{% endif %}\n    location / { proxy_pass http://127.0.0.1:9090; }\n}\n"}};
    LintOptions options;
    options.only = {"access.authentication", "proxy.tls-only"};
    const auto report = lint(files, options, {});
    for (const auto& row : report.controls) {
        if (row.control->id == "access.authentication") CHECK(row.decision.findings.at(0).location->line == 7);
        if (row.control->id == "proxy.tls-only") CHECK(row.decision.verdict == Verdict::unknown);
    }
}

TEST_CASE("lint: a report over several files, in the catalogue's words") {
    const InputFile files[] = {{"a.yml", "scrape_configs:\n- job_name: a\n  bearer_token: t\n"}, {"b.yml", "tls_server_config: {cert_file: a, key_file: b}\n"}};
    LintOptions options;
    options.only = {"secrets.inline", "tls.server", "tls.scrape"};
    Policy policy;
    policy.controls["tls.scrape"] = Mode::off;
    options.policy = &policy;
    const auto report = lint(files, options, {});
    REQUIRE(report.controls.size() == 3);
    for (const auto& row : report.controls) {
        CAPTURE(row.control->id);
        if (row.control->id == "secrets.inline") CHECK(row.decision.findings.at(0).location->file == "a.yml");
        if (row.control->id == "tls.server") CHECK(row.decision.verdict == Verdict::pass);
        if (row.control->id == "tls.scrape") CHECK(row.decision.reason == "the policy turns this control off");
    }
    CHECK(report.count(Verdict::fail) == 1);
    for (const auto& [id, decision] : judge({})) {
        CAPTURE(id);
        CHECK(find_control(id) != nullptr);
        CHECK(decision.verdict == Verdict::not_applicable);
    }
}
