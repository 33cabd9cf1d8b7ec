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
    return verdict(judge_compose("compose.yml", "services:\n  p:\n    image: prom/prometheus:v2.53.0\n" + std::string(service), {}), control);
}

std::string unit(std::string_view lines, std::string_view control) { return verdict(judge_unit("prometheus.service", "[Unit]\nDescription=x\n[Service]\n" + std::string(lines), {}), control); }

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
    CHECK(verdict(judge_compose("c", "services: {a: {image: nginx, ports: [\"9090:9090\"]}}\n", {}), control) == "not-applicable");
    CHECK(verdict(judge_compose("c", "scrape_configs: []\n", {}), control) == "not of that kind");
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
    CHECK(verdict(judge_unit("x", "scrape_configs: []\n", {}), "api.admin") == "not of that kind");
}
