// The ids that [controls] and [[waiver]] may name. The catalogue of the controls room has the same ones.

#include <algorithm>
#include <array>

#include "control_ids.hpp"

namespace promwarden {

namespace {

constexpr std::array ids = std::to_array<std::string_view>({
    "network.listen-address", "network.packet-filter", "network.published-ports", "network.container-path", "network.companion-ports", "network.bypass",
    "access.authentication", "access.local-users", "access.roles", "access.endpoint-coverage", "access.password-hashes", "access.identity-provider", "access.mfa",
    "proxy.tls-only", "proxy.literal-upstream", "proxy.auth-request", "proxy.no-bypass", "proxy.canonical-uri", "proxy.credential-stripping", "proxy.htpasswd",
    "tls.server", "tls.protocol", "tls.client-auth", "tls.scrape", "tls.remote-write", "tls.other-clients", "tls.files", "tls.rotation",
    "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.query-limits", "api.federation", "api.profiling",
    "data.encryption", "data.permissions", "data.retention",
    "secrets.inline", "secrets.inline-key", "secrets.exposed-parameters", "secrets.redacted-literal", "secrets.dead-variables", "secrets.process",
    "secrets.file-permissions",
    "labels.redaction", "labels.identity",
    "audit.query-log", "audit.query-log-file", "audit.proxy-log",
    "alerts.query-rate", "alerts.auth-failures", "alerts.reload-failed",
    "config.permissions", "config.drift", "config.startable", "config.service-sandbox", "config.honor-labels", "config.docker-socket", "config.invalid",
    "version.vulnerable",
});

}  // namespace

bool is_control(std::string_view id) { return std::ranges::find(ids, id) != ids.end(); }
std::span<const std::string_view> policy::control_ids() { return ids; }

}  // namespace promwarden
