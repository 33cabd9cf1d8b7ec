// Alerting rules: can they fire? An expression over a metric or label that does not exist is silent for ever, and nobody is told.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

/// A metric in an expression with the text between its braces.
struct Selector {
    std::string_view metric, labels;
};

bool name_part(char c) { return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '_' || c == ':'; }

/// Every name that is followed by "{" or that `wanted` begins; strings are skipped.
std::vector<Selector> selectors(std::string_view expression) {
    std::vector<Selector> found;
    char quote = 0;
    for (std::size_t i = 0; i < expression.size(); ++i) {
        const char c = expression[i];
        if (quote != 0) {
            if (c == '\\' && quote != '`') ++i;
            else if (c == quote) quote = 0;
            continue;
        }
        if (c == '"' || c == '\'' || c == '`') {
            quote = c;
        } else if (c == '#') {
            i = std::min(expression.find('\n', i), expression.size());
        } else if (name_part(c) && std::isdigit(static_cast<unsigned char>(c)) == 0) {
            std::size_t end = i;
            while (end < expression.size() && name_part(expression[end])) ++end;
            Selector selector{expression.substr(i, end - i), {}};
            const auto open = expression.find_first_not_of(" \t\n", end);
            if (open != std::string_view::npos && expression[open] == '{') {
                const auto close = std::min(expression.find('}', open), expression.size());
                selector.labels = expression.substr(open + 1, close - open - 1);
                end = std::min(close + 1, expression.size());
            }
            found.push_back(selector);
            i = end - 1;
        }
    }
    return found;
}

/// The value that a selector demands of one of these labels, quotes off; nullopt where it demands none.
std::optional<std::string_view> demanded(std::string_view labels, std::initializer_list<std::string_view> names) {
    for (const auto name : names) {
        const auto at = labels.find(name);
        if (at == std::string_view::npos || (at > 0 && name_part(labels[at - 1]))) continue;
        const auto op = labels.find_first_not_of(" ", at + name.size());
        if (op == std::string_view::npos || labels[op] != '=') continue;
        const auto open = labels.find_first_of("\"'`", op);
        if (open == std::string_view::npos) continue;
        const auto close = labels.find(labels[open], open + 1);
        return labels.substr(open + 1, close == std::string_view::npos ? close : close - open - 1);
    }
    return std::nullopt;
}

bool about_authentication(std::string_view value) { return value.find("401") != std::string_view::npos || value.find("403") != std::string_view::npos; }

bool aggregates(const std::vector<Selector>& names) {
    constexpr std::string_view operators[] = {"sum", "avg", "max", "min", "count", "topk", "bottomk", "quantile", "group", "sum_over_time"};
    return std::ranges::any_of(names, [&](const Selector& each) { return std::ranges::find(operators, each.metric) != std::end(operators); });
}

struct Judged {
    const Walk& walk;
    const Place& place;
    const std::vector<Selector>& all;

    void query_rate(const Selector& selector) const {
        const auto& [metric, labels] = selector;
        if (metric == "prometheus_http_requests_total" && labels.find("code") == std::string_view::npos) {
            walk.verdicts.touch(Id::query_rate);
            if (!aggregates(all))
                walk.verdicts.fail(Id::query_rate, place, "the server's rate over the handlers that answer queries", "the rate of each series by itself, scrapes and the user interface included",
                                   fmt::format("line {}: expr: sum(rate(prometheus_http_requests_total{{handler=~\"/api/v1/(query|query_range|query_exemplars|series|labels|label/:name/values|read)|/federate\"}}[5m])) > N",
                                               in_file(walk.document, place.at).line));
        } else if (metric == "prometheus_http_request_total" || metric == "prometheus_http_requests") {
            walk.verdicts.fail(Id::query_rate, place, "prometheus_http_requests_total", "a metric that Prometheus does not have: the alert never fires", "read prometheus_http_requests_total");
        }
    }

    void auth_failures(const Selector& selector) const {
        const auto& [metric, labels] = selector;
        const auto status = demanded(labels, {"status", "code"});
        if (!status || !about_authentication(*status)) return;
        if (metric == "nginx_http_requests_total") {
            walk.verdicts.fail(Id::auth_failures, place, "a metric that counts refused requests: promwarden_proxy_auth_failures_total, or one made from the access log",
                               "nginx_http_requests_total has no status label in nginx's exporter: the alert never fires",
                               fmt::format("line {}: expr: increase(promwarden_proxy_auth_failures_total[5m]) > 10", in_file(walk.document, place.at).line));
        } else if (metric == "prometheus_http_requests_total" && status->find("401") != std::string_view::npos && status->find_first_of("|.*[") == std::string_view::npos) {
            walk.verdicts.fail(Id::auth_failures, place, "a metric that counts refused requests: promwarden_proxy_auth_failures_total, or one made from the access log",
                               "Prometheus does not count requests that web.yml refuses: the alert never fires",
                               fmt::format("line {}: expr: increase(promwarden_proxy_auth_failures_total[5m]) > 10", in_file(walk.document, place.at).line));
        } else if (metric.find("auth") != std::string_view::npos || metric.find("nginx") != std::string_view::npos) {
            walk.verdicts.touch(Id::auth_failures);
        }
    }

    void reload_failed(const Selector& selector) const {
        const auto metric = selector.metric;
        if (!metric.starts_with("prometheus_config_last_reload")) return;
        walk.verdicts.touch(Id::reload_failed);
        if (metric == "prometheus_config_last_reload_successful" || metric == "prometheus_config_last_reload_success_timestamp_seconds") return;
        walk.verdicts.fail(Id::reload_failed, place, "prometheus_config_last_reload_successful", "a metric that Prometheus does not have: the alert never fires",
                           fmt::format("line {}: expr: prometheus_config_last_reload_successful == 0", in_file(walk.document, place.at).line));
    }
};

}  // namespace

void rule(const Walk& walk, const Node& node, const Path& path) {
    const auto* expression = node.entry("expr");
    if (expression == nullptr || !node.entry("alert") || expression->value->kind != Node::Kind::scalar) return;
    const auto all = selectors(expression->value->text);
    const Path at = path / "expr";
    const Place place = walk.place(at, expression->at);
    const Judged judged{walk, place, all};
    for (const auto& selector : all) {
        judged.query_rate(selector);
        judged.auth_failures(selector);
        judged.reload_failed(selector);
        if (selector.metric == "promwarden_proxy_auth_failures_total") walk.verdicts.touch(Id::auth_failures);
    }
}

namespace {

/// Whether some job asks this server for its own metrics; unknown where only discovery could tell.
enum class SelfScrape : std::uint8_t { no, yes, unknown };

SelfScrape scrapes_itself(std::span<const Document> documents, const LintOptions& options) {
    auto answer = SelfScrape::no;
    const Path root;
    for (const auto& document : documents) {
        const auto* jobs = document.root == nullptr || document.kind != prometheus::FileKind::prometheus ? nullptr : document.root->find("scrape_configs");
        for (const auto* job : jobs == nullptr ? std::span<const Node* const>{} : jobs->items) {
            if (discovers(*job)) answer = SelfScrape::unknown;
            bool own = false;
            static_targets(*job, root, [&](const Node& target, const Path&) {
                own = own || std::ranges::any_of(options.own_ports, [&](std::uint16_t port) { return target.scalar().ends_with(fmt::format(":{}", port)); });
            });
            if (own) return SelfScrape::yes;
        }
    }
    return answer;
}

bool hears_alerts(const Node& root) {
    const auto* alerting = root.find("alerting");
    const auto* managers = alerting == nullptr ? nullptr : alerting->find("alertmanagers");
    return managers != nullptr && !managers->items.empty();
}

struct Alert {
    Id id;
    std::string_view about, rule;
    bool own_metric;
};

}  // namespace

void alerting(std::span<const Document> documents, const LintOptions& options, Verdicts& verdicts) {
    const auto main = std::ranges::find(documents, options.main_file, &Document::path);
    if (main == documents.end() || main->root == nullptr) return;
    const Path root, list = root / "rule_files", managers = root / "alerting";
    const auto* entry = main->root->entry("rule_files");
    const Place place{*main, entry == nullptr ? root : list, entry == nullptr ? main->root->at : entry->at};
    const auto own = scrapes_itself(documents, options);
    const auto rate = options.policy == nullptr ? 100 : options.policy->alerts.query_rate, failures = options.policy == nullptr ? 10 : options.policy->alerts.auth_failures;
    const auto query_rule = fmt::format("sum(rate(prometheus_http_requests_total{{handler=~\"/api/v1/(query|query_range|query_exemplars|series|labels|label/:name/values|read)|/federate\"}}[5m])) > {}", rate);
    const auto failure_rule = fmt::format("increase(promwarden_proxy_auth_failures_total[5m]) > {}", failures);
    const Alert alerts[] = {{Id::query_rate, "the rate of queries", query_rule, true},
                            {Id::auth_failures, "refused logins", failure_rule, false},
                            {Id::reload_failed, "a failed reload", "prometheus_config_last_reload_successful == 0", true}};
    for (const auto& alert : alerts) {
        auto& bin = verdicts.of(alert.id);
        // Refusals are the proxy's to count: without one there is nothing to alert on.
        if (alert.id == Id::auth_failures && (options.policy == nullptr || !options.policy->access.present)) continue;
        if (!bin.touched) verdicts.fail(alert.id, place, fmt::format("a loaded rule that alerts on {}", alert.about), "no rule file that is loaded has one", fmt::format("add to a file in rule_files: expr: {}", alert.rule));
        else if (alert.own_metric && own == SelfScrape::no && bin.findings.empty())
            verdicts.fail(alert.id, place, "a job that scrapes this server's own metrics", "no job does: the metric that the alert reads is not here, and it never fires",
                          fmt::format("add to scrape_configs: {{job_name: prometheus, static_configs: [{{targets: ['localhost:{}']}}]}}", options.own_ports.empty() ? 9090 : options.own_ports.front()));
    }
    if (verdicts.of(Id::query_rate).findings.empty() && !hears_alerts(*main->root)) {
        const auto* block = main->root->entry("alerting");
        verdicts.fail(Id::query_rate, Place{*main, block == nullptr ? root : managers, block == nullptr ? main->root->at : block->at}, "an Alertmanager that hears of it",
                      "no alertmanagers: alerts are raised and nobody is told", "add `alerting: {alertmanagers: [{static_configs: [{targets: ['localhost:9093']}]}]}`");
    }
}

}  // namespace promwarden::files
