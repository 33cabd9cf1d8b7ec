// The keys of Prometheus' files as one table, from the configuration structures of Prometheus 2.42 to 3.x and exporter-toolkit.
// A row says what a key holds; everything that is judged about a value follows from it.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "requirements.hpp"
#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

namespace {

using S = Shape;
using V = Value;

struct Form {
    Shape shape;
    std::string_view name;
    bool http = false;   // includes the HTTP client block
    bool grows = false;  // new keys come with every release
};

constexpr Form forms[] = {
    {S::top, "the top level"}, {S::global, "global"}, {S::runtime, "runtime", false, true}, {S::storage, "storage"}, {S::tsdb, "storage.tsdb", false, true},
    {S::retention, "storage.tsdb.retention"}, {S::exemplars, "storage.exemplars"}, {S::tracing, "tracing"}, {S::otlp, "otlp", false, true},
    {S::alerting, "alerting"}, {S::alertmanager, "alerting.alertmanagers", true}, {S::scrape, "a scrape configuration", true}, {S::static_config, "static_configs"},
    {S::relabel, "a relabelling rule"}, {S::http, "an HTTP client block", true}, {S::basic_auth, "basic_auth"}, {S::authorization, "authorization"},
    {S::oauth2, "oauth2", false, true}, {S::tls, "tls_config"}, {S::header, "http_headers"}, {S::remote_write, "remote_write", true}, {S::remote_read, "remote_read", true},
    {S::queue, "queue_config"}, {S::metadata, "metadata_config"}, {S::sigv4, "sigv4", false, true}, {S::azuread, "azuread", false, true},
    {S::azuread_oauth, "azuread.oauth", false, true}, {S::azuread_certificate, "azuread.certificate", false, true}, {S::google_iam, "google_iam", false, true},
    {S::azure_sd, "azure_sd_configs", true, true}, {S::consul_sd, "consul_sd_configs", true, true}, {S::digitalocean_sd, "digitalocean_sd_configs", true, true},
    {S::docker_sd, "docker_sd_configs", true, true}, {S::dockerswarm_sd, "dockerswarm_sd_configs", true, true}, {S::dns_sd, "dns_sd_configs", false, true},
    {S::ec2_sd, "ec2_sd_configs", true, true}, {S::eureka_sd, "eureka_sd_configs", true, true}, {S::file_sd, "file_sd_configs"}, {S::gce_sd, "gce_sd_configs", false, true},
    {S::hetzner_sd, "hetzner_sd_configs", true, true}, {S::http_sd, "http_sd_configs", true}, {S::ionos_sd, "ionos_sd_configs", true, true},
    {S::kubernetes_sd, "kubernetes_sd_configs", true, true}, {S::kuma_sd, "kuma_sd_configs", true, true}, {S::lightsail_sd, "lightsail_sd_configs", true, true},
    {S::linode_sd, "linode_sd_configs", true, true}, {S::marathon_sd, "marathon_sd_configs", true, true}, {S::nerve_sd, "nerve_sd_configs", false, true},
    {S::nomad_sd, "nomad_sd_configs", true, true}, {S::openstack_sd, "openstack_sd_configs", false, true}, {S::ovhcloud_sd, "ovhcloud_sd_configs", false, true},
    {S::puppetdb_sd, "puppetdb_sd_configs", true, true}, {S::scaleway_sd, "scaleway_sd_configs", true, true}, {S::serverset_sd, "serverset_sd_configs", false, true},
    {S::triton_sd, "triton_sd_configs", false, true}, {S::uyuni_sd, "uyuni_sd_configs", true, true}, {S::vultr_sd, "vultr_sd_configs", true, true},
    {S::aws_sd, "aws_sd_configs", true, true}, {S::stackit_sd, "stackit_sd_configs", true, true}, {S::outscale_sd, "outscale_sd_configs", true, true},
    {S::oci_sd, "oci_sd_configs", true, true}, {S::web, "the top level of web.yml"}, {S::web_tls, "tls_server_config"}, {S::web_http, "http_server_config"},
    {S::web_headers, "http_server_config.headers"}, {S::web_rate_limit, "rate_limit"}, {S::rule_file, "the top level of a rule file"}, {S::rule_group, "a rule group"},
    {S::rule, "a rule"},
};

const Form& form(Shape shape) {
    static const auto table = [] {
        std::array<Form, static_cast<std::size_t>(S::count_)> all{};
        for (const auto& each : forms) all[static_cast<std::size_t>(each.shape)] = each;
        return all;
    }();
    return table[static_cast<std::size_t>(shape)];
}

constexpr Key keys[] = {
    // ---- prometheus.yml
    {S::top, "global", V::one, S::global},
    {S::top, "runtime", V::one, S::runtime, {}, 300},
    {S::top, "alerting", V::one, S::alerting},
    {S::top, "rule_files", V::file},
    {S::top, "scrape_config_files", V::file, S::any, {}, 243},
    {S::top, "scrape_configs", V::many, S::scrape},
    {S::top, "storage", V::one, S::storage},
    {S::top, "tracing", V::one, S::tracing},
    {S::top, "remote_write", V::many, S::remote_write},
    {S::top, "remote_read", V::many, S::remote_read},
    {S::top, "otlp", V::one, S::otlp, {}, 255},

    {S::global, "scrape_interval", V::duration}, {S::global, "scrape_timeout", V::duration}, {S::global, "evaluation_interval", V::duration},
    {S::global, "rule_query_offset", V::duration, S::any, {}, 253}, {S::global, "external_labels", V::labels}, {S::global, "query_log_file", V::output},
    {S::global, "scrape_failure_log_file", V::output, S::any, {}, 255}, {S::global, "scrape_protocols", V::text, S::any, {}, 249},
    {S::global, "body_size_limit", V::text, S::any, {}, 245}, {S::global, "sample_limit", V::text, S::any, {}, 245}, {S::global, "target_limit", V::text, S::any, {}, 245},
    {S::global, "label_limit", V::text, S::any, {}, 245}, {S::global, "label_name_length_limit", V::text, S::any, {}, 245},
    {S::global, "label_value_length_limit", V::text, S::any, {}, 245}, {S::global, "keep_dropped_targets", V::text, S::any, {}, 247},
    {S::global, "metric_name_validation_scheme", V::text, S::any, {}, 300}, {S::global, "metric_name_escaping_scheme", V::text, S::any, {}, 304},
    {S::global, "scrape_native_histograms", V::text, S::any, {}, 308}, {S::global, "convert_classic_histograms_to_nhcb", V::text, S::any, {}, 304},
    {S::global, "always_scrape_classic_histograms", V::text, S::any, {}, 304}, {S::global, "extra_scrape_metrics", V::text, S::any, {}, 309},

    {S::runtime, "gogc"},
    {S::storage, "tsdb", V::one, S::tsdb}, {S::storage, "exemplars", V::one, S::exemplars},
    {S::tsdb, "out_of_order_time_window", V::duration}, {S::tsdb, "retention", V::one, S::retention, {}, 308},
    {S::retention, "time", V::duration}, {S::retention, "size"}, {S::retention, "percentage"},
    {S::exemplars, "max_exemplars"},
    {S::tracing, "client_type"}, {S::tracing, "endpoint"}, {S::tracing, "sampling_fraction"}, {S::tracing, "insecure"}, {S::tracing, "tls_config", V::one, S::tls},
    {S::tracing, "headers", V::shown}, {S::tracing, "compression"}, {S::tracing, "timeout", V::duration},
    {S::otlp, "promote_resource_attributes"}, {S::otlp, "promote_all_resource_attributes"}, {S::otlp, "ignore_resource_attributes"}, {S::otlp, "translation_strategy"},
    {S::otlp, "keep_identifying_resource_attributes"}, {S::otlp, "convert_histograms_to_nhcb"}, {S::otlp, "promote_scope_metadata"},
    {S::otlp, "label_name_underscore_sanitization"}, {S::otlp, "label_name_preserve_multiple_underscores"},

    {S::alerting, "alert_relabel_configs", V::many, S::relabel}, {S::alerting, "alertmanagers", V::many, S::alertmanager},
    {S::alertmanager, "scheme"}, {S::alertmanager, "path_prefix"}, {S::alertmanager, "timeout", V::duration}, {S::alertmanager, "api_version"},
    {S::alertmanager, "relabel_configs", V::many, S::relabel}, {S::alertmanager, "alert_relabel_configs", V::many, S::relabel, {}, 251},
    {S::alertmanager, "sigv4", V::one, S::sigv4, {}, 248},

    // ---- a scrape configuration
    {S::scrape, "job_name"}, {S::scrape, "honor_labels"}, {S::scrape, "honor_timestamps"}, {S::scrape, "track_timestamps_staleness", V::text, S::any, {}, 248},
    {S::scrape, "params", V::shown}, {S::scrape, "scrape_interval", V::duration}, {S::scrape, "scrape_timeout", V::duration},
    {S::scrape, "scrape_protocols", V::text, S::any, {}, 249}, {S::scrape, "fallback_scrape_protocol", V::text, S::any, {}, 300},
    {S::scrape, "scrape_native_histograms", V::text, S::any, {}, 308}, {S::scrape, "always_scrape_classic_histograms", V::text, S::any, {}, 300},
    {S::scrape, "scrape_classic_histograms", V::text, S::any, {}, 245, 300}, {S::scrape, "convert_classic_histograms_to_nhcb", V::text, S::any, {}, 300},
    {S::scrape, "scrape_failure_log_file", V::output, S::any, {}, 255}, {S::scrape, "metrics_path"}, {S::scrape, "scheme"},
    {S::scrape, "enable_compression", V::text, S::any, {}, 249}, {S::scrape, "body_size_limit"}, {S::scrape, "sample_limit"}, {S::scrape, "target_limit"},
    {S::scrape, "label_limit"}, {S::scrape, "label_name_length_limit"}, {S::scrape, "label_value_length_limit"},
    {S::scrape, "native_histogram_bucket_limit", V::text, S::any, {}, 245}, {S::scrape, "native_histogram_min_bucket_factor", V::text, S::any, {}, 250},
    {S::scrape, "keep_dropped_targets", V::text, S::any, {}, 247}, {S::scrape, "metric_name_validation_scheme", V::text, S::any, {}, 300},
    {S::scrape, "metric_name_escaping_scheme", V::text, S::any, {}, 304}, {S::scrape, "extra_scrape_metrics", V::text, S::any, {}, 309},
    {S::scrape, "relabel_configs", V::many, S::relabel}, {S::scrape, "metric_relabel_configs", V::many, S::relabel},

    {S::static_config, "targets", V::text}, {S::static_config, "labels", V::labels},
    {S::relabel, "source_labels"}, {S::relabel, "separator"}, {S::relabel, "regex"}, {S::relabel, "modulus"}, {S::relabel, "target_label"}, {S::relabel, "replacement"},
    {S::relabel, "action"},

    // ---- the HTTP client block
    {S::http, "basic_auth", V::one, S::basic_auth}, {S::http, "authorization", V::one, S::authorization}, {S::http, "oauth2", V::one, S::oauth2},
    {S::http, "bearer_token", V::secret, S::any, "bearer_token_file"}, {S::http, "bearer_token_file", V::file}, {S::http, "tls_config", V::one, S::tls},
    {S::http, "follow_redirects"}, {S::http, "enable_http2"}, {S::http, "proxy_url", V::proxy}, {S::http, "no_proxy", V::text, S::any, {}, 243},
    {S::http, "proxy_from_environment", V::text, S::any, {}, 243}, {S::http, "proxy_connect_header", V::named_secrets, S::any, {}, 243},
    {S::http, "http_headers", V::named, S::header, {}, 253},
    {S::basic_auth, "username"}, {S::basic_auth, "username_file", V::file, S::any, {}, 249}, {S::basic_auth, "password", V::secret, S::any, "password_file"},
    {S::basic_auth, "password_file", V::file}, {S::basic_auth, "username_ref", V::reference, S::any, {}, 254}, {S::basic_auth, "password_ref", V::reference, S::any, {}, 254},
    {S::authorization, "type"}, {S::authorization, "credentials", V::secret, S::any, "credentials_file"}, {S::authorization, "credentials_file", V::file},
    {S::authorization, "credentials_ref", V::reference, S::any, {}, 254},
    {S::oauth2, "client_id"}, {S::oauth2, "client_secret", V::secret, S::any, "client_secret_file"}, {S::oauth2, "client_secret_file", V::file},
    {S::oauth2, "client_secret_ref", V::reference, S::any, {}, 254}, {S::oauth2, "client_certificate_key_id"}, {S::oauth2, "grant_type", V::text, S::any, {}, 308},
    {S::oauth2, "client_certificate_key", V::secret, S::any, "client_certificate_key_file", 308}, {S::oauth2, "client_certificate_key_file", V::file, S::any, {}, 308},
    {S::oauth2, "client_certificate_key_ref", V::reference, S::any, {}, 308}, {S::oauth2, "signature_algorithm"}, {S::oauth2, "audience"}, {S::oauth2, "iss"},
    {S::oauth2, "claims", V::shown, S::any, {}, 308}, {S::oauth2, "scopes"}, {S::oauth2, "token_url", V::peer}, {S::oauth2, "endpoint_params", V::shown},
    {S::oauth2, "tls_config", V::one, S::tls}, {S::oauth2, "proxy_url", V::proxy}, {S::oauth2, "no_proxy"}, {S::oauth2, "proxy_from_environment"},
    {S::oauth2, "proxy_connect_header", V::named_secrets},
    {S::tls, "ca", V::text, S::any, {}, 245}, {S::tls, "cert", V::text, S::any, {}, 245}, {S::tls, "key", V::secret, S::any, "key_file", 245}, {S::tls, "ca_file", V::file},
    {S::tls, "cert_file", V::file}, {S::tls, "key_file", V::file}, {S::tls, "ca_ref", V::reference, S::any, {}, 254}, {S::tls, "cert_ref", V::reference, S::any, {}, 254},
    {S::tls, "key_ref", V::reference, S::any, {}, 254}, {S::tls, "server_name"}, {S::tls, "insecure_skip_verify"}, {S::tls, "min_version"}, {S::tls, "max_version"},
    {S::header, "values", V::shown_list}, {S::header, "secrets", V::secrets, S::any, "files"}, {S::header, "files", V::file},

    // ---- remote storage
    {S::remote_write, "url", V::peer}, {S::remote_write, "remote_timeout", V::duration}, {S::remote_write, "headers", V::shown},
    {S::remote_write, "write_relabel_configs", V::many, S::relabel}, {S::remote_write, "name"}, {S::remote_write, "send_exemplars"},
    {S::remote_write, "send_native_histograms"}, {S::remote_write, "round_robin_dns", V::text, S::any, {}, 301},
    {S::remote_write, "protobuf_message", V::text, S::any, {}, 254}, {S::remote_write, "queue_config", V::one, S::queue},
    {S::remote_write, "metadata_config", V::one, S::metadata}, {S::remote_write, "sigv4", V::one, S::sigv4}, {S::remote_write, "azuread", V::one, S::azuread, {}, 245},
    {S::remote_write, "google_iam", V::one, S::google_iam, {}, 255},
    {S::remote_read, "url", V::peer}, {S::remote_read, "remote_timeout", V::duration}, {S::remote_read, "chunked_read_limit", V::text, S::any, {}, 255},
    {S::remote_read, "headers", V::shown}, {S::remote_read, "read_recent"}, {S::remote_read, "name"}, {S::remote_read, "required_matchers", V::labels},
    {S::remote_read, "filter_external_labels"},
    {S::queue, "capacity"}, {S::queue, "max_shards"}, {S::queue, "min_shards"}, {S::queue, "max_samples_per_send"}, {S::queue, "batch_send_deadline", V::duration},
    {S::queue, "min_backoff", V::duration}, {S::queue, "max_backoff", V::duration}, {S::queue, "retry_on_http_429"},
    {S::queue, "sample_age_limit", V::duration, S::any, {}, 250},
    {S::metadata, "send"}, {S::metadata, "send_interval", V::duration}, {S::metadata, "max_samples_per_send"},
    {S::sigv4, "region"}, {S::sigv4, "access_key"}, {S::sigv4, "secret_key", V::secret}, {S::sigv4, "profile"}, {S::sigv4, "role_arn"}, {S::sigv4, "external_id"},
    {S::sigv4, "use_fips_sts_endpoint"}, {S::sigv4, "service_name"},
    {S::azuread, "cloud"}, {S::azuread, "managed_identity", V::one}, {S::azuread, "oauth", V::one, S::azuread_oauth, {}, 248}, {S::azuread, "sdk", V::one},
    {S::azuread, "workload_identity", V::one}, {S::azuread, "scope"}, {S::azuread, "certificate", V::one, S::azuread_certificate, {}, 313},
    {S::azuread_oauth, "client_id"}, {S::azuread_oauth, "client_secret", V::secret}, {S::azuread_oauth, "tenant_id"},
    {S::azuread_certificate, "certificate_password", V::secret}, {S::azuread_certificate, "certificate_path", V::file},
    {S::azuread_certificate, "certificate_key_path", V::file}, {S::azuread_certificate, "client_id"}, {S::azuread_certificate, "tenant_id"},
    {S::google_iam, "credentials_file", V::file},

    // ---- service discovery
    {S::azure_sd, "environment"}, {S::azure_sd, "authentication_method"}, {S::azure_sd, "subscription_id"}, {S::azure_sd, "tenant_id"}, {S::azure_sd, "client_id"},
    {S::azure_sd, "client_secret", V::secret}, {S::azure_sd, "resource_group"}, {S::azure_sd, "refresh_interval", V::duration}, {S::azure_sd, "port"},
    {S::consul_sd, "server", V::peer}, {S::consul_sd, "token", V::secret, S::any, "authorization.credentials_file"}, {S::consul_sd, "datacenter"},
    {S::consul_sd, "namespace"}, {S::consul_sd, "partition"}, {S::consul_sd, "path_prefix"}, {S::consul_sd, "scheme"}, {S::consul_sd, "username"},
    {S::consul_sd, "password", V::secret, S::any, "basic_auth.password_file"}, {S::consul_sd, "services"}, {S::consul_sd, "tags"}, {S::consul_sd, "node_meta", V::labels},
    {S::consul_sd, "filter"}, {S::consul_sd, "health_filter"}, {S::consul_sd, "tag_separator"}, {S::consul_sd, "allow_stale"},
    {S::consul_sd, "refresh_interval", V::duration},
    {S::digitalocean_sd, "port"}, {S::digitalocean_sd, "refresh_interval", V::duration},
    {S::docker_sd, "host", V::peer}, {S::docker_sd, "port"}, {S::docker_sd, "host_networking_host"}, {S::docker_sd, "match_first_network"}, {S::docker_sd, "filters", V::many},
    {S::docker_sd, "refresh_interval", V::duration},
    {S::dockerswarm_sd, "host", V::peer}, {S::dockerswarm_sd, "role"}, {S::dockerswarm_sd, "port"}, {S::dockerswarm_sd, "filters", V::many},
    {S::dockerswarm_sd, "refresh_interval", V::duration},
    {S::dns_sd, "names"}, {S::dns_sd, "type"}, {S::dns_sd, "port"}, {S::dns_sd, "refresh_interval", V::duration},
    {S::ec2_sd, "region"}, {S::ec2_sd, "endpoint", V::peer}, {S::ec2_sd, "access_key"}, {S::ec2_sd, "secret_key", V::secret}, {S::ec2_sd, "profile"},
    {S::ec2_sd, "role_arn"}, {S::ec2_sd, "external_id"}, {S::ec2_sd, "refresh_interval", V::duration}, {S::ec2_sd, "port"}, {S::ec2_sd, "filters", V::many},
    {S::eureka_sd, "server", V::peer}, {S::eureka_sd, "refresh_interval", V::duration},
    {S::file_sd, "files", V::file}, {S::file_sd, "refresh_interval", V::duration},
    {S::gce_sd, "project"}, {S::gce_sd, "zone"}, {S::gce_sd, "filter"}, {S::gce_sd, "refresh_interval", V::duration}, {S::gce_sd, "port"}, {S::gce_sd, "tag_separator"},
    {S::hetzner_sd, "role"}, {S::hetzner_sd, "port"}, {S::hetzner_sd, "label_selector"}, {S::hetzner_sd, "refresh_interval", V::duration},
    {S::http_sd, "url", V::peer}, {S::http_sd, "refresh_interval", V::duration},
    {S::ionos_sd, "datacenter_id"}, {S::ionos_sd, "port"}, {S::ionos_sd, "refresh_interval", V::duration},
    {S::kubernetes_sd, "api_server", V::peer}, {S::kubernetes_sd, "role"}, {S::kubernetes_sd, "kubeconfig_file", V::file}, {S::kubernetes_sd, "namespaces", V::one},
    {S::kubernetes_sd, "selectors", V::many}, {S::kubernetes_sd, "attach_metadata", V::one},
    {S::kuma_sd, "server", V::peer}, {S::kuma_sd, "client_id"}, {S::kuma_sd, "refresh_interval", V::duration}, {S::kuma_sd, "fetch_timeout", V::duration},
    {S::lightsail_sd, "region"}, {S::lightsail_sd, "endpoint", V::peer}, {S::lightsail_sd, "access_key"}, {S::lightsail_sd, "secret_key", V::secret},
    {S::lightsail_sd, "profile"}, {S::lightsail_sd, "role_arn"}, {S::lightsail_sd, "external_id"}, {S::lightsail_sd, "refresh_interval", V::duration},
    {S::lightsail_sd, "port"},
    {S::linode_sd, "region"}, {S::linode_sd, "port"}, {S::linode_sd, "tag_separator"}, {S::linode_sd, "refresh_interval", V::duration},
    {S::marathon_sd, "servers", V::peers}, {S::marathon_sd, "refresh_interval", V::duration}, {S::marathon_sd, "auth_token", V::secret, S::any, "auth_token_file"},
    {S::marathon_sd, "auth_token_file", V::file},
    {S::nerve_sd, "servers"}, {S::nerve_sd, "paths"}, {S::nerve_sd, "timeout", V::duration},
    {S::nomad_sd, "allow_stale"}, {S::nomad_sd, "namespace"}, {S::nomad_sd, "region"}, {S::nomad_sd, "server", V::peer}, {S::nomad_sd, "tag_separator"},
    {S::nomad_sd, "refresh_interval", V::duration},
    {S::openstack_sd, "role"}, {S::openstack_sd, "region"}, {S::openstack_sd, "identity_endpoint", V::peer}, {S::openstack_sd, "username"}, {S::openstack_sd, "userid"},
    {S::openstack_sd, "password", V::secret}, {S::openstack_sd, "domain_name"}, {S::openstack_sd, "domain_id"}, {S::openstack_sd, "project_name"},
    {S::openstack_sd, "project_id"}, {S::openstack_sd, "application_credential_name"}, {S::openstack_sd, "application_credential_id"},
    {S::openstack_sd, "application_credential_secret", V::secret}, {S::openstack_sd, "all_tenants"}, {S::openstack_sd, "refresh_interval", V::duration},
    {S::openstack_sd, "port"}, {S::openstack_sd, "availability"}, {S::openstack_sd, "tls_config", V::one, S::tls},
    {S::ovhcloud_sd, "application_key"}, {S::ovhcloud_sd, "application_secret", V::secret}, {S::ovhcloud_sd, "consumer_key", V::secret}, {S::ovhcloud_sd, "service"},
    {S::ovhcloud_sd, "endpoint"}, {S::ovhcloud_sd, "refresh_interval", V::duration},
    {S::puppetdb_sd, "url", V::peer}, {S::puppetdb_sd, "query"}, {S::puppetdb_sd, "include_parameters"}, {S::puppetdb_sd, "port"},
    {S::puppetdb_sd, "refresh_interval", V::duration},
    {S::scaleway_sd, "access_key"}, {S::scaleway_sd, "secret_key", V::secret, S::any, "secret_key_file"}, {S::scaleway_sd, "secret_key_file", V::file},
    {S::scaleway_sd, "project_id"}, {S::scaleway_sd, "role"}, {S::scaleway_sd, "port"}, {S::scaleway_sd, "api_url", V::peer}, {S::scaleway_sd, "zone"},
    {S::scaleway_sd, "name_filter"}, {S::scaleway_sd, "tags_filter"}, {S::scaleway_sd, "refresh_interval", V::duration},
    {S::serverset_sd, "servers"}, {S::serverset_sd, "paths"}, {S::serverset_sd, "timeout", V::duration},
    {S::triton_sd, "account"}, {S::triton_sd, "role"}, {S::triton_sd, "dns_suffix"}, {S::triton_sd, "endpoint"}, {S::triton_sd, "groups"}, {S::triton_sd, "port"},
    {S::triton_sd, "version"}, {S::triton_sd, "refresh_interval", V::duration}, {S::triton_sd, "tls_config", V::one, S::tls},
    {S::uyuni_sd, "server", V::peer}, {S::uyuni_sd, "username"}, {S::uyuni_sd, "password", V::secret}, {S::uyuni_sd, "entitlement"}, {S::uyuni_sd, "separator"},
    {S::uyuni_sd, "refresh_interval", V::duration},
    {S::vultr_sd, "port"}, {S::vultr_sd, "refresh_interval", V::duration},
    {S::aws_sd, "secret_key", V::secret}, {S::aws_sd, "access_key"}, {S::aws_sd, "region"}, {S::aws_sd, "refresh_interval", V::duration},
    {S::stackit_sd, "service_account_key", V::secret, S::any, "service_account_key_path"}, {S::stackit_sd, "service_account_key_path", V::file},
    {S::stackit_sd, "private_key", V::secret, S::any, "private_key_path"}, {S::stackit_sd, "private_key_path", V::file}, {S::stackit_sd, "credentials_file_path", V::file},
    {S::outscale_sd, "secret_key", V::secret, S::any, "secret_key_file"}, {S::outscale_sd, "secret_key_file", V::file}, {S::outscale_sd, "access_key"},
    {S::oci_sd, "key_passphrase", V::secret, S::any, "key_passphrase_file"}, {S::oci_sd, "key_passphrase_file", V::file}, {S::oci_sd, "key_file", V::file},

    // ---- web.yml
    {S::web, "tls_server_config", V::one, S::web_tls}, {S::web, "http_server_config", V::one, S::web_http}, {S::web, "basic_auth_users", V::hashes},
    {S::web, "rate_limit", V::one, S::web_rate_limit, {}, 308},
    {S::web_tls, "cert_file", V::file}, {S::web_tls, "key_file", V::file}, {S::web_tls, "cert", V::text, S::any, {}, 250},
    {S::web_tls, "key", V::secret, S::any, "key_file", 250}, {S::web_tls, "client_ca", V::text, S::any, {}, 250}, {S::web_tls, "client_auth_type"},
    {S::web_tls, "client_ca_file", V::file}, {S::web_tls, "client_allowed_sans", V::text, S::any, {}, 245}, {S::web_tls, "min_version"}, {S::web_tls, "max_version"},
    {S::web_tls, "cipher_suites"}, {S::web_tls, "prefer_server_cipher_suites"}, {S::web_tls, "curve_preferences"},
    {S::web_http, "http2"}, {S::web_http, "headers", V::one, S::web_headers},
    {S::web_headers, "Strict-Transport-Security"}, {S::web_headers, "X-Content-Type-Options"}, {S::web_headers, "X-Frame-Options"},
    {S::web_headers, "X-XSS-Protection"}, {S::web_headers, "Content-Security-Policy"},
    {S::web_rate_limit, "interval", V::duration}, {S::web_rate_limit, "burst"},

    // ---- rule files
    {S::rule_file, "groups", V::many, S::rule_group},
    {S::rule_group, "name"}, {S::rule_group, "interval", V::duration}, {S::rule_group, "limit"}, {S::rule_group, "query_offset", V::duration, S::any, {}, 253},
    {S::rule_group, "labels", V::labels, S::any, {}, 300}, {S::rule_group, "rules", V::many, S::rule},
    {S::rule, "alert"}, {S::rule, "record"}, {S::rule, "expr"}, {S::rule, "for", V::duration}, {S::rule, "keep_firing_for", V::duration},
    {S::rule, "labels", V::labels}, {S::rule, "annotations", V::labels},
};

/// The "*_sd_configs" keys, which both scrape configurations and alertmanagers take.
struct Discovery {
    std::string_view name;
    Shape shape;
    Version since = 0;
};
constexpr Discovery discoveries[] = {
    {"static_configs", S::static_config}, {"azure_sd_configs", S::azure_sd}, {"consul_sd_configs", S::consul_sd}, {"digitalocean_sd_configs", S::digitalocean_sd},
    {"docker_sd_configs", S::docker_sd}, {"dockerswarm_sd_configs", S::dockerswarm_sd}, {"dns_sd_configs", S::dns_sd}, {"ec2_sd_configs", S::ec2_sd},
    {"eureka_sd_configs", S::eureka_sd}, {"file_sd_configs", S::file_sd}, {"gce_sd_configs", S::gce_sd}, {"hetzner_sd_configs", S::hetzner_sd},
    {"http_sd_configs", S::http_sd}, {"ionos_sd_configs", S::ionos_sd}, {"kubernetes_sd_configs", S::kubernetes_sd}, {"kuma_sd_configs", S::kuma_sd},
    {"lightsail_sd_configs", S::lightsail_sd}, {"linode_sd_configs", S::linode_sd}, {"marathon_sd_configs", S::marathon_sd}, {"nerve_sd_configs", S::nerve_sd},
    {"nomad_sd_configs", S::nomad_sd}, {"openstack_sd_configs", S::openstack_sd}, {"ovhcloud_sd_configs", S::ovhcloud_sd}, {"puppetdb_sd_configs", S::puppetdb_sd},
    {"scaleway_sd_configs", S::scaleway_sd}, {"serverset_sd_configs", S::serverset_sd}, {"triton_sd_configs", S::triton_sd}, {"uyuni_sd_configs", S::uyuni_sd},
    {"vultr_sd_configs", S::vultr_sd}, {"aws_sd_configs", S::aws_sd, 308}, {"ecs_sd_configs", S::aws_sd, 308}, {"msk_sd_configs", S::aws_sd, 308},
    {"rds_sd_configs", S::aws_sd, 308}, {"elasticache_sd_configs", S::aws_sd, 308}, {"stackit_sd_configs", S::stackit_sd, 305},
    {"outscale_sd_configs", S::outscale_sd, 312}, {"oci_sd_configs", S::oci_sd, 314},
};

/// The rows of each shape, in the order of the table.
using Rows = std::array<std::vector<Key>, static_cast<std::size_t>(S::count_)>;

const Rows& rows() {
    static const Rows all = [] {
        Rows by_shape;
        const auto of = [&](Shape shape) -> std::vector<Key>& { return by_shape[static_cast<std::size_t>(shape)]; };
        for (const auto& key : keys) of(key.in).push_back(key);
        for (const auto in : {S::scrape, S::alertmanager})
            for (const auto& each : discoveries) of(in).push_back({in, each.name, V::many, each.shape, {}, each.since});
        for (const auto& each : forms)
            if (each.http && each.shape != S::http)
                for (const auto& key : of(S::http)) of(each.shape).push_back(key);
        for (auto& each : by_shape)
            for (auto& key : each) key.demand = find_demand(key);
        return by_shape;
    }();
    return all;
}

}  // namespace

const Key* find_key(Shape shape, std::string_view name) {
    const auto& candidates = rows()[static_cast<std::size_t>(shape)];
    const auto found = std::ranges::find(candidates, name, &Key::name);
    return found == candidates.end() ? nullptr : &*found;
}

std::vector<std::string_view> key_names(Shape shape) {
    std::vector<std::string_view> names;
    for (const auto& key : rows()[static_cast<std::size_t>(shape)]) names.push_back(key.name);
    return names;
}

const Key* find_home(std::string_view name) {
    // A name that several shapes have is looked for where people most often mean it.
    constexpr Shape first[] = {S::top, S::global, S::scrape, S::http, S::tls, S::basic_auth, S::static_config, S::relabel, S::remote_write, S::web, S::web_tls, S::rule};
    for (const auto shape : first)
        if (const auto* key = find_key(shape, name); key != nullptr) return key;
    const auto found = std::ranges::find(keys, name, &Key::name);
    return found == std::end(keys) ? nullptr : found;
}

std::string_view to_text(Shape shape) { return form(shape).name; }

bool grows(Shape shape) { return shape == S::any || form(shape).grows; }

std::string version_text(Version version) { return fmt::format("{}.{}", version / 100, version % 100); }

}  // namespace promwarden::prometheus
