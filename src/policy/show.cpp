// Policy → TOML, every key of the schema in its order: what is set, what holds by default, and as a comment what could be set.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "reader.hpp"

namespace promwarden {

namespace policy {

namespace {

/// The values of one table by their full schema paths, as TOML; absent ones are left out.
using Values = std::map<std::string_view, std::string>;

template <class Range, class Text>
std::string array(const Range& range, Text text) {
    std::vector<std::string> parts;
    for (const auto& one : range) parts.push_back(text(one));
    return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string texts(const std::vector<std::string>& values) { return array(values, quoted); }

std::string word(std::string_view path, std::size_t index) { return quoted(choices_of(*find_key(path)).at(index)); }

std::string flag_text(bool value) { return value ? "true" : "false"; }

/// The end of a day is shown as that day.
std::string moment_text(std::chrono::system_clock::time_point time) {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    if (day == time) return format_time(time - std::chrono::days(1)).substr(0, 10);
    return format_time(time, std::chrono::floor<std::chrono::seconds>(time) != time);
}

std::string sources_text(const SourceGroup& group) {
    std::vector<std::string> parts;
    for (const auto& one : group.written)
        for (std::size_t i = 0; i < one.networks->size(); ++i) {
            Cidr cidr{{one.family, {}}, one.prefix};
            std::ranges::copy((*one.networks)[i], cidr.address.bytes.begin());
            parts.push_back(quoted(to_text(cidr)));
        }
    for (const auto& list : group.lists) parts.push_back(quoted("@" + list));
    auto text = fmt::format("[{}]", fmt::join(parts, ", "));
    if (!group.lists.empty()) text += fmt::format("  # {} networks", count(group.networks));
    return text;
}

std::string port_text(const PortRange& range) {
    return range.first == range.last ? fmt::format("{}", range.first) : fmt::format("\"{}-{}\"", range.first, range.last);
}

Values values_of(const Service& service) {
    Values values{{"firewall.service.name", quoted(service.name)},
                  {"firewall.service.ports", array(service.ports, port_text)},
                  {"firewall.service.protocol", word("firewall.service.protocol", static_cast<std::size_t>(service.protocol))},
                  {"firewall.service.allow", texts(service.allow)},
                  {"firewall.service.deny", word("firewall.service.deny", static_cast<std::size_t>(service.deny))}};
    if (service.log) values["firewall.service.log"] = quoted(format_rate(*service.log));
    if (service.local_users) values["firewall.service.local_users"] = array(*service.local_users, [](const Account& user) { return quoted(user.name); });
    return values;
}

Values values_of(const FileRule& rule) {
    Values values{{"file.path", quoted(rule.path)}};
    if (rule.owner) values["file.owner"] = quoted(rule.owner->name);
    if (rule.group_name) values["file.group"] = quoted(*rule.group_name);
    if (rule.mode) values["file.mode"] = fmt::format("\"{:04o}\"", *rule.mode);
    return values;
}

Values values_of(const CertificatePolicy& certificate) {
    return {{"tls.certificate.name", quoted(certificate.name)},
            {"tls.certificate.use", word("tls.certificate.use", certificate.server ? 0 : 1)},
            {"tls.certificate.names", texts(certificate.names)},
            {"tls.certificate.issuer", quoted(certificate.issuer)},
            {"tls.certificate.key", word("tls.certificate.key", static_cast<std::size_t>(certificate.key))},
            {"tls.certificate.lifetime", quoted(format_duration(certificate.lifetime))},
            {"tls.certificate.rekey", quoted(format_duration(certificate.rekey))},
            {"tls.certificate.install", word("tls.certificate.install", static_cast<std::size_t>(certificate.install))}};
}

Values values_of(const TlsPolicy::Issuer& issuer) { return {{"tls.issuer.name", quoted(issuer.name)}, {"tls.issuer.command", texts(issuer.command)}}; }

Values values_of(const Waiver& waiver) {
    Values values{{"waiver.control", quoted(waiver.control)},
                  {"waiver.reason", quoted(waiver.reason)},
                  {"waiver.owner", quoted(waiver.owner)},
                  {"waiver.expires", moment_text(waiver.expires)}};
    if (!waiver.subject.empty()) values["waiver.subject"] = quoted(waiver.subject);
    return values;
}

void add_prometheus(const PrometheusPolicy& prometheus, Values& values) {
    values["prometheus.unit"] = quoted(prometheus.unit);
    values["prometheus.listen"] = array(prometheus.listen, [](const Endpoint& endpoint) { return quoted(to_text(endpoint)); });
    values["prometheus.restart"] = word("prometheus.restart", prometheus.restart_when_needed ? 1 : 0);
    values["prometheus.allow.admin_api"] = flag_text(prometheus.allow.admin_api);
    values["prometheus.allow.lifecycle"] = flag_text(prometheus.allow.lifecycle);
    values["prometheus.allow.remote_write_receiver"] = flag_text(prometheus.allow.remote_write_receiver);
    values["prometheus.allow.otlp_receiver"] = flag_text(prometheus.allow.otlp_receiver);
    const std::pair<std::string_view, const std::string&> optional[] = {
        {"prometheus.config", prometheus.config}, {"prometheus.web_config", prometheus.web_config}, {"prometheus.storage", prometheus.storage},
        {"prometheus.allow.cors_origin", prometheus.allow.cors_origin}, {"prometheus.probe.user", prometheus.probe.user},
        {"prometheus.probe.password_file", prometheus.probe.password_file}};
    for (const auto& [path, text] : optional)
        if (!text.empty()) values[path] = quoted(text);
}

void add_access(const AccessPolicy& access, Values& values) {
    values["access.proxy"] = quoted(access.proxy);
    values["access.auth"] = quoted(access.auth);
    values["access.listen"] = texts(access.listen);
    const std::pair<std::string_view, const std::string&> optional[] = {
        {"access.server_name", access.server_name}, {"access.certificate", access.certificate}, {"access.auth_url", access.auth_url}};
    for (const auto& [path, text] : optional)
        if (!text.empty()) values[path] = quoted(text);
    if (!access.identity_provider) return;
    const auto& provider = *access.identity_provider;
    values["access.identity_provider.kind"] = quoted(provider.kind);
    if (!provider.config.empty()) values["access.identity_provider.config"] = quoted(provider.config);
    values["access.identity_provider.mfa.required"] = flag_text(provider.mfa_required);
    if (!provider.mfa_claim.empty()) values["access.identity_provider.mfa.claim"] = quoted(provider.mfa_claim);
    if (provider.mfa_attested_until) values["access.identity_provider.mfa.attested_until"] = moment_text(*provider.mfa_attested_until);
}

Values values_of(const Policy& policy) {
    Values values{{"schema", "1"},
                  {"agent.mode", word("agent.mode", static_cast<std::size_t>(policy.mode))},
                  {"agent.recheck", quoted(format_duration(policy.recheck))},
                  {"firewall.ownership", word("firewall.ownership", policy.firewall.own_table ? 0 : 1)},
                  {"firewall.sibling_containers", word("firewall.sibling_containers", policy.firewall.sibling_containers ? 1 : 0)},
                  {"firewall.open_ports", fmt::format("[{}]", fmt::join(policy.firewall.open_ports, ", "))},
                  {"firewall.nflog_group", fmt::format("{}", policy.firewall.nflog_group)},
                  {"tls.min_version", quoted(policy.tls.min_version)},
                  {"tls.client_auth", word("tls.client_auth", policy.tls.require_client_certificate ? 1 : 0)},
                  {"tls.name_constraints", flag_text(policy.tls.name_constraints)},
                  {"tls.maintenance", array(policy.tls.maintenance, [](const MaintenanceWindow& window) { return quoted(window.text); })},
                  {"data.encryption", word("data.encryption", policy.data.encryption_required ? 1 : 0)},
                  {"labels.redact", texts(policy.redact_labels)},
                  {"alerts.query_rate", fmt::format("{}", policy.alerts.query_rate)},
                  {"alerts.auth_failures", fmt::format("{}", policy.alerts.auth_failures)}};
    add_prometheus(policy.prometheus, values);
    if (policy.access.present) add_access(policy.access, values);
    if (policy.data.retention_time) values["data.retention.time"] = quoted(format_duration(*policy.data.retention_time));
    if (policy.data.retention_size) values["data.retention.size"] = quoted(format_size(*policy.data.retention_size));
    if (!policy.query_log.empty()) values["audit.query_log"] = quoted(policy.query_log);
    return values;
}

template <class Blocks>
std::vector<Values> all_of(const Blocks& blocks) {
    std::vector<Values> all;
    for (const auto& block : blocks) all.push_back(values_of(block));
    return all;
}

std::vector<Values> blocks_of(std::string_view path, const Policy& policy) {
    if (path == "firewall.service") return all_of(policy.firewall.services);
    if (path == "file") return all_of(policy.files);
    if (path == "tls.certificate") return all_of(policy.tls.certificates);
    if (path == "tls.issuer") return all_of(policy.tls.issuers);
    return all_of(policy.waivers);
}

/// The entries of a table whose keys are the user's own, as lines.
std::string named_entries(std::string_view path, const Policy& policy) {
    std::string text;
    const auto line = [&](std::string_view key, const std::string& value) { text += fmt::format("{} = {}\n", key_text(key), value); };
    if (path == "controls.*")
        for (const auto& [id, mode] : policy.controls) line(id, word("controls.*", static_cast<std::size_t>(mode)));
    if (path == "firewall.sources.*")
        for (const auto& group : policy.firewall.sources) line(group.name, sources_text(group));
    if (path == "access.roles.*")
        for (const auto& [role, members] : policy.access.roles) line(role, texts(members));
    if (path == "access.endpoints.*")
        for (const auto& [endpoint, role] : policy.access.endpoints) line(endpoint, quoted(role));
    return text;
}

std::string with_help(const std::string& line, std::string_view help) {
    return help.empty() ? line + "\n" : fmt::format("{:<40}  # {}\n", line, help);
}

std::string key_line(const Key& row, const Values& values) {
    const auto name = row.path.substr(row.path.rfind('.') + 1);
    const auto value = values.find(row.path);
    if (value == values.end()) return with_help(fmt::format("# {} = {}", name, row.example), row.help);
    return with_help(fmt::format("{} = {}", name, value->second), row.help);
}

bool below(std::string_view path, std::string_view table) { return path.size() > table.size() && path.starts_with(table) && path[table.size()] == '.'; }

std::string show_blocks(const Key& table, const Policy& policy) {
    std::string text;
    for (const auto& values : blocks_of(table.path, policy)) {
        text += fmt::format("\n{}[[{}]]\n", text.empty() ? fmt::format("# {}\n", table.help) : "", table.path);
        for (const auto& row : schema())
            if (below(row.path, table.path)) text += key_line(row, values);
    }
    return text;
}

}  // namespace
}  // namespace policy

std::string show(const Policy& policy) {
    using policy::Type;
    const auto values = policy::values_of(policy);
    std::string text = fmt::format("# The effective policy of {}, defaults included.\n", policy.path);
    std::string_view skipped;  // a table whose keys are not shown here
    for (const auto& row : policy::schema()) {
        if (!skipped.empty() && policy::below(row.path, skipped)) continue;
        skipped = {};
        const bool absent = (row.path == "access" && !policy.access.present) || (row.path == "access.identity_provider" && !policy.access.identity_provider);
        if (absent || row.type == Type::blocks) skipped = row.path;
        if (absent) continue;
        if (row.type == Type::blocks) text += policy::show_blocks(row, policy);
        else if (row.type == Type::section) text += fmt::format("\n# {}\n[{}]\n", row.help, row.path);
        else if (row.path.ends_with(".*")) text += policy::named_entries(row.path, policy);
        else text += policy::key_line(row, values);
    }
    return text;
}

}  // namespace promwarden
