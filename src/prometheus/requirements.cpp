// What Prometheus demands of values whose key it knows, as one table: from its configuration structures (2.42 to 3.x), each row tried with promtool
// (tests/netns/refusals_test.py). What a version added to a list is in it; what only some versions refuse is not here.

#include <algorithm>

#include "requirements.hpp"

namespace promwarden::prometheus {

namespace {

using S = Shape;
using F = Form;

constexpr std::string_view tls_versions = "TLS10|TLS11|TLS12|TLS13";
constexpr std::string_view scrape_protocols = "PrometheusProto|OpenMetricsText0.0.1|OpenMetricsText1.0.0|PrometheusText0.0.4|PrometheusText1.0.0";

/// Those of Go's crypto/tls that it calls secure.
constexpr std::string_view ciphers =
    "TLS_AES_128_GCM_SHA256|TLS_AES_256_GCM_SHA384|TLS_CHACHA20_POLY1305_SHA256|TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA|TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA|"
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA|TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA|TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256|TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384|"
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256|TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384|TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256|"
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256|TLS_RSA_WITH_AES_128_CBC_SHA|TLS_RSA_WITH_AES_256_CBC_SHA|TLS_RSA_WITH_AES_128_GCM_SHA256|"
    "TLS_RSA_WITH_AES_256_GCM_SHA384";
constexpr std::string_view curves = "CurveP256|CurveP384|CurveP521|X25519|X25519MLKEM768";

/// S::any: wherever that key stands.
constexpr Demand table[] = {
    {S::any, "honor_labels", F::boolean}, {S::any, "honor_timestamps", F::boolean}, {S::any, "track_timestamps_staleness", F::boolean},
    {S::any, "scrape_classic_histograms", F::boolean}, {S::any, "always_scrape_classic_histograms", F::boolean}, {S::any, "enable_compression", F::boolean},
    {S::any, "follow_redirects", F::boolean}, {S::any, "enable_http2", F::boolean}, {S::any, "proxy_from_environment", F::boolean}, {S::any, "insecure_skip_verify", F::boolean},
    {S::any, "send_exemplars", F::boolean}, {S::any, "send_native_histograms", F::boolean}, {S::any, "round_robin_dns", F::boolean}, {S::any, "read_recent", F::boolean},
    {S::any, "filter_external_labels", F::boolean}, {S::any, "retry_on_http_429", F::boolean}, {S::metadata, "send", F::boolean}, {S::tracing, "insecure", F::boolean},
    {S::any, "use_fips_sts_endpoint", F::boolean}, {S::any, "allow_stale", F::boolean}, {S::any, "include_parameters", F::boolean}, {S::any, "all_tenants", F::boolean},
    {S::any, "prefer_server_cipher_suites", F::boolean}, {S::any, "http2", F::boolean},

    {S::any, "sample_limit", F::count}, {S::any, "target_limit", F::count}, {S::any, "label_limit", F::count}, {S::any, "label_name_length_limit", F::count},
    {S::any, "label_value_length_limit", F::count}, {S::any, "keep_dropped_targets", F::count}, {S::any, "native_histogram_bucket_limit", F::count},
    {S::relabel, "modulus", F::count},
    {S::any, "port", F::number}, {S::any, "max_exemplars", F::number}, {S::any, "capacity", F::number}, {S::any, "max_shards", F::number}, {S::any, "min_shards", F::number},
    {S::any, "max_samples_per_send", F::number}, {S::rule_group, "limit", F::number}, {S::any, "sampling_fraction", F::number},
    {S::any, "native_histogram_min_bucket_factor", F::number}, {S::any, "body_size_limit", F::size},

    {S::any, "source_labels", F::words}, {S::any, "scopes", F::words}, {S::dns_sd, "names", F::words}, {S::nerve_sd, "servers", F::words},
    {S::serverset_sd, "servers", F::words}, {S::consul_sd, "services", F::words}, {S::consul_sd, "tags", F::words}, {S::web_tls, "cipher_suites", F::words, ciphers},
    {S::web_tls, "curve_preferences", F::words, curves}, {S::web_headers, "X-Frame-Options", F::word, "deny|sameorigin"}, {S::web_headers, "X-Content-Type-Options", F::word, "nosniff"}, {S::any, "scrape_protocols", F::words, scrape_protocols},

    {S::any, "query_log_file", F::word}, {S::any, "scrape_failure_log_file", F::word}, {S::any, "server_name", F::word}, {S::any, "job_name", F::word},
    {S::any, "metrics_path", F::word}, {S::any, "scheme", F::word}, {S::any, "path_prefix", F::word}, {S::any, "username", F::word}, {S::relabel, "separator", F::word},
    {S::relabel, "regex", F::word}, {S::relabel, "target_label", F::word}, {S::relabel, "replacement", F::word}, {S::rule, "expr", F::word}, {S::rule, "alert", F::word},
    {S::rule, "record", F::word}, {S::rule_group, "name", F::word},

    {S::remote_write, "url", F::url}, {S::remote_read, "url", F::url}, {S::any, "proxy_url", F::url}, {S::docker_sd, "host", F::url}, {S::dockerswarm_sd, "host", F::url},
    {S::any, "api_server", F::url}, {S::uyuni_sd, "server", F::url}, {S::http_sd, "url", F::http_url}, {S::puppetdb_sd, "url", F::http_url}, {S::eureka_sd, "server", F::http_url},
    {S::any, "rule_files", F::rule_paths}, {S::any, "scrape_config_files", F::rule_paths}, {S::file_sd, "files", F::target_paths},
    {S::nerve_sd, "paths", F::rooted_paths}, {S::serverset_sd, "paths", F::rooted_paths},

    {S::tls, "min_version", F::word, tls_versions}, {S::tls, "max_version", F::word, tls_versions}, {S::web_tls, "min_version", F::word, tls_versions},
    {S::web_tls, "max_version", F::word, tls_versions}, {S::alertmanager, "api_version", F::word, "v1|v2"}, {S::tracing, "client_type", F::word, "http|grpc"},
    {S::tracing, "compression", F::word, "gzip"}, {S::any, "fallback_scrape_protocol", F::word, scrape_protocols},
    {S::any, "metric_name_validation_scheme", F::word, "legacy|utf8"}, {S::azuread, "cloud", F::word, "AzurePublic|AzureChina|AzureGovernment"},
    {S::azure_sd, "authentication_method", F::word, "OAuth|ManagedIdentity|SDK|WorkloadIdentity"}, {S::dns_sd, "type", F::word, "SRV|A|AAAA|MX|NS|srv|a|aaaa|mx|ns"},
    {S::dockerswarm_sd, "role", F::word, "services|tasks|nodes"}, {S::hetzner_sd, "role", F::word, "robot|hcloud"},
    {S::kubernetes_sd, "role", F::word, "pod|service|endpoints|endpointslice|ingress|node"}, {S::openstack_sd, "role", F::word, "instance|hypervisor|loadbalancer"},
    {S::openstack_sd, "availability", F::word, "public|admin|internal"}, {S::ovhcloud_sd, "service", F::word, "vps|dedicated_server"},
    {S::scaleway_sd, "role", F::word, "instance|baremetal"}, {S::triton_sd, "role", F::word, "container|cn"},
};

constexpr std::string_view http_settings = "basic_auth|authorization|oauth2|bearer_token|bearer_token_file|tls_config|proxy_url";

constexpr Need needs[] = {
    {S::scrape, "job_name"}, {S::tracing, "endpoint"},
    {S::oauth2, "client_id"}, {S::oauth2, "token_url"},
    {S::oauth2, "client_secret|client_secret_file|client_secret_ref", {}, "client_certificate_key|client_certificate_key_file|client_certificate_key_ref|grant_type"},
    {S::tls, "key|key_file|key_ref", "cert|cert_file|cert_ref"}, {S::tls, "cert|cert_file|cert_ref", "key|key_file|key_ref"},
    {S::sigv4, "access_key", "secret_key"}, {S::sigv4, "secret_key", "access_key"},
    {S::azure_sd, "subscription_id"}, {S::azure_sd, "tenant_id", {}, "authentication_method"}, {S::azure_sd, "client_id", {}, "authentication_method"},
    {S::azure_sd, "client_secret", {}, "authentication_method"},
    {S::dns_sd, "names"}, {S::docker_sd, "host"}, {S::dockerswarm_sd, "host"}, {S::dockerswarm_sd, "role"}, {S::eureka_sd, "server"}, {S::file_sd, "files"},
    {S::gce_sd, "project"}, {S::gce_sd, "zone"}, {S::hetzner_sd, "role"}, {S::http_sd, "url"}, {S::ionos_sd, "datacenter_id"}, {S::kubernetes_sd, "role"},
    {S::kubernetes_sd, "api_server", http_settings}, {S::kuma_sd, "server"}, {S::marathon_sd, "servers"}, {S::nerve_sd, "servers"}, {S::nerve_sd, "paths"},
    {S::openstack_sd, "role"}, {S::openstack_sd, "region"}, {S::ovhcloud_sd, "application_key"}, {S::ovhcloud_sd, "application_secret"}, {S::ovhcloud_sd, "consumer_key"},
    {S::puppetdb_sd, "url"}, {S::puppetdb_sd, "query"}, {S::scaleway_sd, "role"}, {S::scaleway_sd, "project_id"}, {S::scaleway_sd, "access_key"},
    {S::scaleway_sd, "secret_key|secret_key_file"}, {S::serverset_sd, "servers"}, {S::serverset_sd, "paths"}, {S::triton_sd, "account"}, {S::triton_sd, "dns_suffix"},
    {S::triton_sd, "endpoint"}, {S::uyuni_sd, "server"}, {S::uyuni_sd, "username"}, {S::uyuni_sd, "password"}, {S::rule_group, "name"}, {S::rule, "expr"}, {S::rule, "alert|record"},
};

constexpr Exclusion exclusions[] = {
    {S::http, "basic_auth|authorization|oauth2|bearer_token|bearer_token_file"}, {S::remote_write, "basic_auth|authorization|oauth2|sigv4|azuread|google_iam"},
    {S::alertmanager, "basic_auth|authorization|oauth2|sigv4"}, {S::basic_auth, "password|password_file|password_ref"},
    {S::basic_auth, "username|username_file|username_ref"}, {S::authorization, "credentials|credentials_file|credentials_ref"},
    {S::oauth2, "client_secret|client_secret_file|client_secret_ref"}, {S::tls, "ca|ca_file|ca_ref"}, {S::tls, "cert|cert_file|cert_ref"}, {S::tls, "key|key_file|key_ref"},
    {S::marathon_sd, "auth_token|auth_token_file|basic_auth|authorization"}, {S::marathon_sd, "auth_token|auth_token_file|bearer_token|bearer_token_file"},
    {S::scaleway_sd, "secret_key|secret_key_file"}, {S::kubernetes_sd, "api_server|kubeconfig_file"}, {S::rule, "alert|record"},
};

}  // namespace

const Demand* find_demand(const Key& key) {
    const auto found = std::ranges::find_if(table, [&](const Demand& demand) { return demand.key == key.name && (demand.in == S::any || demand.in == key.in); });
    return found == std::end(table) ? nullptr : found;
}

std::span<const Need> all_needs() { return needs; }
std::span<const Exclusion> all_exclusions() { return exclusions; }

}  // namespace promwarden::prometheus
