// The rule file. tests/unit/rules_test.py has promtool play each alert.

#include "promwarden/rules.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace promwarden::prometheus {

namespace {

struct Alert {
    std::string_view name;
    std::string expression;
    std::string_view wait, severity, summary, description;
};

std::string text_of(const Alert& alert) {
    return fmt::format(
        "      - alert: {}\n"
        "        expr: '{}'\n"
        "        for: {}\n"
        "        labels: {{severity: {}}}\n"
        "        annotations:\n"
        "          summary: \"{}\"\n"
        "          description: \"{}\"\n",
        alert.name, alert.expression, alert.wait, alert.severity, alert.summary, alert.description);
}

/// Handlers that read data: the user interface, scrapes of the server itself and health checks are not a load that somebody asks for.
constexpr std::string_view queries =
    R"(prometheus_http_requests_total{handler=~"/api/v1/(query|query_range|query_exemplars|series|labels|label/:name/values|read)|/federate"})";

std::string recorded() {
    return fmt::format(
        "      - record: instance_handler:prometheus_queries:rate5m\n"
        "        expr: 'sum by (instance, handler) (rate({}[5m]))'\n",
        queries);
}

/// A renewal begins when a third of a certificate's life is left. Where half of that passed as well, it does not succeed.
std::vector<Alert> certificate_alerts(const Policy& policy) {
    std::vector<Alert> alerts;
    std::string due;
    for (const auto& certificate : policy.tls.certificates)
        due += fmt::format("{}promwarden_certificate_not_after_seconds{{name=\"{}\"}} - time() < {}", due.empty() ? "" : " or ",
                           certificate.name, certificate.lifetime.count() / 6);
    if (due.empty()) return alerts;
    alerts.push_back({"PromwardenCertificateDue", due, "10m", "critical", "Certificate {{ $labels.name }} was not renewed",
                      "It expires in {{ $value | humanizeDuration }}. 'promwarden cert list' says why."});
    alerts.push_back({"PromwardenCertificateWrong", "promwarden_certificate_problems > 0", "10m", "critical",
                      "Certificate {{ $labels.name }} is not what it should be",
                      "'promwarden cert list' says what is wrong with what is published."});
    return alerts;
}

/// The audit trail has two parts: who asked, by the proxy's log; and what was asked, by the query log.
std::vector<Alert> audit_alerts(const Policy& policy) {
    std::vector<Alert> alerts;
    if (policy.access.present) {
        alerts.push_back(
            {"PrometheusAuthFailures",
             fmt::format("sum by (instance) (increase(promwarden_proxy_auth_failures_total[5m])) > {}", policy.alerts.auth_failures), "0s",
             "warning", "Logins are refused", "{{ $value | humanize }} requests within five minutes had no or wrong credentials."});
        alerts.push_back({"PromwardenAuditLogSilent", "promwarden_proxy_log_readable == 0", "5m", "warning",
                          "The proxy's audit log is silent", "It is missing or cannot be read: who asks is not known."});
    }
    const auto enabled = policy.query_log.empty() ? "" : "prometheus_engine_query_log_enabled == 0 or ";
    alerts.push_back({"PrometheusQueryLogSilent", fmt::format("{}increase(prometheus_engine_query_log_failures_total[10m]) > 0", enabled),
                      "5m", "warning", "Queries are not recorded", "The query log of {{ $labels.instance }} is off or cannot be written."});
    return alerts;
}

}  // namespace

std::string render_rules(const Policy& policy) {
    std::vector<Alert> alerts{
        {"PrometheusQueryRate", fmt::format("sum by (instance) (rate({}[5m])) > {}", queries, policy.alerts.query_rate), "5m", "warning",
         "{{ $labels.instance }} is asked a lot", "{{ $value | humanize }} queries a second."},
        {"PrometheusConfigReloadFailed", "prometheus_config_last_reload_successful == 0", "1m", "warning",
         "{{ $labels.instance }} runs with an old configuration", "Its last reload failed; its log says why."},
        {"PrometheusConfigReloaded", "changes(prometheus_config_last_reload_success_timestamp_seconds[15m]) > 0", "0s", "info",
         "{{ $labels.instance }} read its configuration again", "If nobody was meant to change it, look who did."},
        {"PromwardenDrift",
         R"(promwarden_control_state{mode="enforce",verdict="fail"} == 1 unless on (instance, control) promwarden_control_waived == 1)",
         "15m", "warning", "{{ $labels.control }} does not hold on {{ $labels.instance }}",
         "'promwarden check --only {{ $labels.control }}' says why."},
        {"PromwardenSilent", "absent(promwarden_report_timestamp_seconds) or time() - promwarden_report_timestamp_seconds > 3600", "15m",
         "warning", "promwarden does not report",
         "Is promwarden-metrics.socket enabled and scraped? 'promwarden render scrape' prints the job."},
    };
    for (auto more : {audit_alerts(policy), certificate_alerts(policy)}) std::ranges::move(more, std::back_inserter(alerts));
    std::string text =
        "# Written by promwarden, from [alerts] and what else the policy names. It is heard of where rule_files of prometheus.yml lists "
        "it.\n"
        "groups:\n"
        "  - name: promwarden\n"
        "    rules:\n";
    text += recorded();
    for (const auto& alert : alerts) text += text_of(alert);
    return text;
}

}  // namespace promwarden::prometheus
