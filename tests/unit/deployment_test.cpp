#include <doctest/doctest.h>

#include "promwarden/deployment.hpp"
#include "verdicts.hpp"

using namespace promwarden;

namespace {

/// "fail services.p.ports[0]", "pass", "unknown" …
std::string verdict(const std::optional<std::vector<FileDecision>>& decisions, std::string_view control) {
    if (!decisions) return "not of that kind";
    for (const auto& [id, decision] : *decisions)
        if (id == control) {
            CHECK_FALSE(decision.reason.empty());
            std::string text(to_text(noted(control, decision).verdict));
            for (const auto& finding : decision.findings) text += " " + finding.location->path;
            return text;
        }
    return "missing";
}

std::string compose(std::string_view service, std::string_view control) {
    return verdict(judge_compose({"compose.yml", "services:\n  p:\n    image: prom/prometheus:v2.53.0\n" + std::string(service)}, {}, {}), control);
}

std::string unit(std::string_view lines, std::string_view control) { return verdict(judge_unit({"prometheus.service", "[Unit]\nDescription=x\n[Service]\n" + std::string(lines)}, {}), control); }

}  // namespace

TEST_CASE("deployment: what a Compose file publishes") {
    constexpr std::string_view control = "network.published-ports";
    for (const std::string_view open : {"- 9090:9090", "- \"9090:9090\"", "- \"9090\"", "- 9090", "- 0.0.0.0:9090:9090", "- 9000-9100:9000-9100", "- ${PORT:-9090}:9090", "- 192.0.2.1:80:9090", "- \"[::]:9090:9090\"", "- {target: 9090, published: 9090}",
                                        "- {target: 9090, published: 80, host_ip: 0.0.0.0}", "- 9090:9090/tcp"}) {
        CAPTURE(open);
        CHECK(compose("    ports:\n      " + std::string(open) + "\n", control) == "fail services.p.ports[0]");
    }
    for (const std::string_view closed : {"- 127.0.0.1:9090:9090", "- \"[::1]:9090:9090\"", "- ${BIND:-127.0.0.1}:9090:9090", "- {target: 9090, published: 9090, host_ip: 127.0.0.1}", "- 8080:8080", "- 9090:9090/udp"}) {
        CAPTURE(closed);
        CHECK(compose("    ports:\n      " + std::string(closed) + "\n", control) == "pass");
    }
    CHECK(compose("    ports:\n      - ${BIND}:9090:9090\n", control) == "unknown");
    CHECK(compose("    expose: [\"9090\"]\n", control) == "pass");
    CHECK(compose("    network_mode: host\n    ports: [\"9090:9090\"]\n", control) == "not-applicable");
    CHECK(compose("    command: [--web.listen-address=:9191]\n    ports: [\"9191:9191\"]\n", control) == "fail services.p.ports[0]");
    CHECK(verdict(judge_compose({"c", "services: {a: {image: nginx, ports: [\"9090:9090\"]}}\n"}, {}, {}), control) == "not-applicable");
    CHECK(verdict(judge_compose({"c", "scrape_configs: []\n"}, {}, {}), control) == "not of that kind");
}

TEST_CASE("deployment: flags and secrets of a Compose file") {
    CHECK(compose("    command:\n      - --config.file=/x\n      - --web.enable-admin-api\n", "api.admin") == "fail services.p.command[1]");
    CHECK(compose("    command: --config.file=/x --web.enable-lifecycle\n", "api.lifecycle") == "fail services.p.command");
    CHECK(compose("    command: [--web.enable-admin-api=false]\n", "config.startable") == "fail services.p.command[0]");
    CHECK(compose("    command: [--web.cors.origin=.*]\n", "api.cors") == "fail services.p.command[0]");
    CHECK(compose("    command: [--config.file=/x]\n", "api.admin") == "pass");
    CHECK(compose("    command: [--config.file=/x, \"${EXTRA}\"]\n", "config.startable") == "pass");
    CHECK(compose("    environment:\n      API_TOKEN: abc\n", "secrets.process") == "fail services.p.environment.API_TOKEN");
    CHECK(compose("    environment: [API_TOKEN=abc]\n", "secrets.process") == "fail services.p.environment[0]");
    CHECK(compose("    environment: [\"API_TOKEN=${API_TOKEN}\", PASSWORD_FILE=/run/x, PASSWORD=]\n", "secrets.process") == "pass");
}

TEST_CASE("deployment: a unit") {
    CHECK(unit("ExecStart=/usr/bin/prometheus --web.enable-admin-api \\\n  --config.file=/x\n", "api.admin") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/prometheus --web.tls-cert=/x\n", "config.startable") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/prometheus $ARGS\n", "config.startable") != "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/prometheus\nEnvironment=\"REMOTE_PASSWORD=x\"\n", "secrets.process") == "fail Service.Environment");
    CHECK(unit("ExecStart=/usr/bin/node_exporter --web.enable-admin-api\n", "api.admin") == "not-applicable");
    CHECK(verdict(judge_unit({"x", "scrape_configs: []\n"}, {}), "api.admin") == "not of that kind");
}

namespace {

/// The place of the first finding: "4:9".
std::string place(const std::optional<std::vector<FileDecision>>& decisions, std::string_view control) {
    for (const auto& [id, decision] : decisions.value_or(std::vector<FileDecision>{}))
        if (id == control && !decision.findings.empty()) return std::to_string(decision.findings.front().location->line) + ":" + std::to_string(decision.findings.front().location->column);
    return "nowhere";
}

}  // namespace

TEST_CASE("deployment: variables of a Compose file") {
    constexpr std::string_view control = "network.published-ports";
    const auto with = [&](const std::string& port) { return compose("    ports:\n      - '" + port + "'\n", control); };
    CHECK(with("${A:-${B:-127.0.0.1}}:9090:9090") == "pass");
    CHECK(with("${PORT:?give-a-port}:9090") == "fail services.p.ports[0]");
    CHECK(with("${BIND:?an-address}:9090:9090") == "unknown");
    CHECK(with("{{ port }}:{{ port }}") == "unknown");
    CHECK(with("127.0.0.1:${PORT}:9090") == "pass");
    CHECK(with("127.0.0.1::9090") == "pass");
    CHECK(with("9092-9093:9090-9091") == "fail services.p.ports[0]");
    const InputFile file{"d/compose.yml", "services:\n  p:\n    image: prom/prometheus\n    ports: ['${BIND}:9090:9090']\n"};
    CHECK(compose_neighbours(file) == std::vector<std::string>{"d/.env"});
    const auto with_environment = [&](std::string path, std::string text) {
        const InputFile beside[] = {{std::move(path), std::move(text)}};
        return verdict(judge_compose(file, beside, {}), control);
    };
    CHECK(with_environment("d/.env", "BIND=127.0.0.1\n") == "pass");
    CHECK(with_environment("d/.env", "BIND=0.0.0.0\n") == "fail services.p.ports[0]");
    CHECK(with_environment("e/.env", "BIND=0.0.0.0\n") == "unknown");
}

TEST_CASE("deployment: a service that extends another, and an override over its base") {
    const InputFile same{"c.yml", "services:\n  base: {image: prom/prometheus, command: [--web.enable-admin-api], ports: ['9090:9090']}\n  p: {extends: base, ports: !override ['127.0.0.1:9090:9090']}\n"};
    CHECK(verdict(judge_compose(same, {}, {}), "network.published-ports") == "fail services.base.ports[0]");
    const InputFile over{"docker-compose.override.yml", "services:\n  p:\n    ports:\n      - 9090:9090\n"};
    CHECK(compose_neighbours(over) == std::vector<std::string>{".env", "docker-compose.yml"});
    CHECK(verdict(judge_compose(over, {}, {}), "network.published-ports") == "not-applicable");
    const InputFile base[] = {{"docker-compose.yml", "services: {p: {image: prom/prometheus}}\n"}};
    CHECK(verdict(judge_compose(over, base, {}), "network.published-ports") == "fail services.p.ports[0]");
    CHECK(place(judge_compose(over, base, {}), "network.published-ports") == "4:9");
    CHECK(compose_neighbours({"x.yml", "services: {p: {extends: {file: ../up.yml, service: a}, image: a}, q: {extends: {file: ./b.yml, service: a}}}\n"}) == std::vector<std::string>{".env", "b.yml"});
    CHECK(verdict(judge_compose({"c", "services: {a: {extends: b, image: prom/prometheus}, b: {extends: a, image: x}}\n"}, {}, {}), "api.admin") == "pass");
}

TEST_CASE("deployment: what stands beside Prometheus") {
    const auto beside = [](std::string_view service) {
        return verdict(judge_compose({"c", "services:\n  p: {image: prom/prometheus}\n  q: {" + std::string(service) + "}\n"}, {}, {}), "network.companion-ports");
    };
    CHECK(beside("image: 'prom/node-exporter:v1', ports: ['9100:9100']") == "fail services.q.ports[0]");
    CHECK(beside("image: prom/alertmanager, ports: ['127.0.0.1:9093:9093']") == "pass");
    CHECK(beside("image: grafana/grafana, ports: ['${BIND}:3000:3000']") == "unknown");
    CHECK(beside("image: shop/backend, ports: ['80:80']") == "not-applicable");
    Policy policy;
    policy.firewall.open_ports = {9100};
    LintOptions options;
    options.policy = &policy;
    CHECK(verdict(judge_compose({"c", "services: {p: {image: prom/prometheus}, q: {image: prom/node-exporter, ports: ['9100:9100']}}\n"}, {}, options), "network.companion-ports") == "pass");
}

TEST_CASE("deployment: other forms of a Compose file") {
    CHECK(verdict(judge_compose({"c", "prometheus:\n  image: prom/prometheus\n  ports: ['9090:9090']\n"}, {}, {}), "network.published-ports") == "fail prometheus.ports[0]");
    CHECK(verdict(judge_compose({"c", "services:\n  prometheus: {build: ., ports: ['9090:9090']}\n"}, {}, {}), "network.published-ports") == "fail services.prometheus.ports[0]");
    CHECK(verdict(judge_compose({"c", "services:\n  p:\n    image: prom/prometheus\n    container_name: {{ name }}-x\n    ports: ['9090:9090']\n{% if x %}\n{% endif %}\n"}, {}, {}), "network.published-ports") == "fail services.p.ports[0]");
    CHECK(compose("    entrypoint: [/bin/sh, -c, 'exec /bin/prometheus --config.file=/x --web.enable-admin-api']\n", "api.admin") == "fail services.p.entrypoint[2]");
    CHECK(compose("    command: [--query.max-samples=0]\n", "api.query-limits") == "not-applicable");
    CHECK(compose("    command: [--query.max-samples=900000000]\n", "api.query-limits") == "fail services.p.command[0]");
    CHECK(compose("    command: [--enable-feature=remote-write-receiver]\n", "api.receivers") == "fail services.p.command[0]");
    CHECK(compose("    network_mode: host\n    command: ['--web.listen-address=0.0.0.0:9090']\n", "network.listen-address") == "fail services.p.command[0]");
    CHECK(compose("    command: ['--web.listen-address=0.0.0.0:9090']\n", "network.listen-address") == "not-applicable");
    CHECK(compose("    environment: [TOKEN_TTL=3600, TOKEN_LIFETIME=24h, SECRET_DIR=/x, API_TOKEN=/run/secrets/t]\n", "secrets.process") == "pass");
}

TEST_CASE("deployment: a flag of a unit has its own line, and templates are no arguments") {
    const std::string service = "[Service]\nUser=root\nExecStart=/usr/bin/prometheus \\\n  --config.file=/x \\\n  --web.listen-address=:9090 \\\n  --web.enable-lifecycle\n";
    CHECK(place(judge_unit({"u", service}, {}), "api.lifecycle") == "6:3");
    CHECK(place(judge_unit({"u", service}, {}), "network.listen-address") == "5:3");
    CHECK(place(judge_unit({"u", service}, {}), "config.service-sandbox") == "2:1");
    CHECK(unit("ExecStart=/usr/bin/prometheus --web.listen-address=127.0.0.1:9090\n", "network.listen-address") == "pass");
    CHECK(unit("ExecStart=/usr/bin/prometheus\n", "network.listen-address") == "not-applicable");
    const std::string lines = "ExecStart={{ dir }}/prometheus \\\n  --config.file={{ dir | default('/etc') }}/x.yml \\\n{% if tls %}\n  --web.config.file=a \\\n  --web.enable-admin-api \\\n{% else %}\n  --web.config.file=b \\\n{% endif %}\n"
                              "  --web.enable-lifecycle{% for f in flags %}\\\n  --{{ f }} \\\n{% endfor %}\n\nRestart=always\n";
    CHECK(unit(lines, "config.startable") == "pass");
    CHECK(unit(lines, "api.lifecycle") == "fail Service.ExecStart");
    CHECK(unit(lines, "api.admin") == "pass");
}

TEST_CASE("deployment: containers and shells that a unit starts") {
    CHECK(unit("ExecStart=/usr/bin/docker run --name prometheus -p 9090:9090 prom/prometheus --web.enable-admin-api\n", "network.published-ports") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/docker run --name prometheus -p 9090:9090 prom/prometheus --web.enable-admin-api\n", "api.admin") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/podman run --net=host prom/prometheus --web.listen-address=:9090\n", "network.listen-address") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/bin/sh -c '/usr/bin/prometheus --web.enable-admin-api | logger'\n", "api.admin") == "fail Service.ExecStart");
    CHECK(unit("ExecStart=/usr/bin/docker run -p 80:80 nginx\n", "network.published-ports") == "not-applicable");
    CHECK(verdict(judge_unit({"p.container", "[Container]\nImage=docker.io/prom/prometheus\nPublishPort=9090:9090\n"}, {}), "network.published-ports") == "fail Container.PublishPort");
    CHECK(verdict(judge_unit({"x.toml", "[Service]\nname = 1\n"}, {}), "api.admin") == "not of that kind");
}
