#include <doctest/doctest.h>

#include "promwarden/lint.hpp"

using namespace promwarden;

namespace {

/// What config.startable finds first; "" for nothing.
std::string refused(std::string_view text, std::optional<prometheus::Version> version = {}) {
    LintOptions options;
    options.version = version;
    const auto document = prometheus::read_document("f.yml", text, prometheus::FileKind::prometheus);
    for (const auto& [id, decision] : judge(std::span(&document, 1), options))
        if (id == "config.startable") return decision.findings.empty() ? "" : decision.findings.front().observed;
    FAIL("no such control");
    return {};
}

std::string job(std::string_view setting) { return "scrape_configs:\n- job_name: a\n  " + std::string(setting) + "\n"; }

}  // namespace

// tests/netns/refusals_test.py asks promtool about what Debian's build knows; here is the rest.

TEST_CASE("service discovery that Debian's Prometheus is built without") {
    CHECK(refused(job("kubernetes_sd_configs: [{role: pod}]")).empty());
    CHECK(refused(job("kubernetes_sd_configs: [{role: Pod}]")).starts_with("not one of pod, service"));
    CHECK(refused(job("kubernetes_sd_configs: [{}]")).starts_with("kubernetes_sd_configs without role"));
    CHECK(refused(job("kubernetes_sd_configs: [{role: pod, api_server: 'https://a', kubeconfig_file: f}]"))
              .starts_with("both api_server and kubeconfig_file"));
    CHECK(
        refused(job("kubernetes_sd_configs: [{role: pod, bearer_token_file: f}]")).starts_with("kubernetes_sd_configs without api_server"));
    CHECK(refused(job("kubernetes_sd_configs: [{role: pod, api_server: 'https://a', bearer_token_file: f}]")).empty());
    CHECK(refused(job("consul_sd_configs: [{}]")).empty());  // it has a default server
    CHECK(refused(job("consul_sd_configs: [{services: web}]")).starts_with("not a list"));
    CHECK(refused(job("kuma_sd_configs: [{}]")).starts_with("kuma_sd_configs without server"));
}

TEST_CASE("labels had fewer names before 3.0") {
    const auto text = job("static_configs: [{targets: ['a:1'], labels: {a-b: c}}]");
    CHECK(refused(text, 242).starts_with("a-b is no label name before 3.0"));
    CHECK(refused(text, 300).empty());
    CHECK(refused(text).empty());
    CHECK_FALSE(refused(job("relabel_configs: [{source_labels: [a.b], target_label: c}]"), 253).empty());
    CHECK_FALSE(refused(job("relabel_configs: [{action: labelmap, regex: x, replacement: 'a-$1'}]"), 253).empty());
    CHECK(refused(job("relabel_configs: [{source_labels: [a], target_label: '${1}_x'}]"), 253).empty());
}

TEST_CASE("what a template fills in is not judged") {
    CHECK(refused(job("sample_limit: {{ limit }}")).empty());
    CHECK(refused(job("honor_labels: '<yes or no>'")).empty());
    CHECK(refused(job("file_sd_configs: [{files: ['{{ path }}']}]")).empty());
}
