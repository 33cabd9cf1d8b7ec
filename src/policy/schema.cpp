#include "schema.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "notes.hpp"

namespace promwarden::policy {

namespace {

using enum Type;
constexpr std::int64_t hour = 3600, day = 86'400, year = 365 * day;

// path, type, fallback, example, help, choices, low, high, required
constexpr std::array keys = std::to_array<Key>({
    {"schema", number, "", "1", "version of this format", {}, 1, 1, true},

    {"agent", section, "", "", "what the agent does with what it sees"},
    {"agent.mode", word, R"("enforce")", R"("audit")", R"("audit" observes and reports only)", "enforce|audit"},
    {"agent.recheck", duration, R"("5m")", R"("5m")", "full re-check; kernel, file and unit events trigger at once", {}, 10, 7 * day},

    {"controls", section, "", "", "modes of single controls"},
    {"controls.*", word, "", R"("audit")", "", "enforce|audit|off"},

    {"prometheus", section, "", "", "the process that is protected"},
    {"prometheus.unit", unit, R"("prometheus.service")", R"("prometheus.service")", "its systemd unit"},
    {"prometheus.listen", endpoints, "[]", R"(["127.0.0.1:9090", "[::1]:9090"])", "its sockets must be a subset; empty: anywhere"},
    {"prometheus.restart", word, R"("never")", R"("when-needed")", R"("when-needed" lets apply restart the unit to change its flags)", "never|when-needed"},
    {"prometheus.config", path, "", R"("/etc/prometheus/prometheus.yml")", "found from the running process unless set"},
    {"prometheus.web_config", path, "", R"("/etc/prometheus/web.yml")", "found from the running process unless set"},
    {"prometheus.storage", path, "", R"("/var/lib/prometheus")", "found from the running process unless set"},
    {"prometheus.allow", section, "", "", "what may be switched on"},
    {"prometheus.allow.admin_api", flag, "false", "true", "--web.enable-admin-api"},
    {"prometheus.allow.lifecycle", flag, "false", "true", "--web.enable-lifecycle"},
    {"prometheus.allow.remote_write_receiver", flag, "false", "true", "--web.enable-remote-write-receiver"},
    {"prometheus.allow.otlp_receiver", flag, "false", "true", "--web.enable-otlp-receiver"},
    {"prometheus.allow.cors_origin", text, "", R"x("https?://(grafana)\\.example\\.org")x", "--web.cors.origin"},
    {"prometheus.probe", section, "", "", "how the probe proves itself where a password is asked for"},
    {"prometheus.probe.user", text, "", R"("promwarden")", "its user name"},
    {"prometheus.probe.password_file", path, "", R"("/etc/promwarden/probe.password")", "readable by the probe's user only"},

    {"firewall", section, "", "", "the packet filter"},
    {"firewall.ownership", word, R"("auto")", R"("off")", R"(own the table where the kernel allows it (6.9+); "off": a plain table and a watcher)", "auto|off"},
    {"firewall.sibling_containers", word, R"("deny")", R"("allow")", "may containers on this host reach guarded ports", "deny|allow"},
    {"firewall.open_ports", numbers, "[]", "[9100]", "monitoring ports that are meant to be open", {}, 1, 65535},
    {"firewall.nflog_group", number, "0", "1", "denied packets go to this NFLOG group; 0: off", {}, 0, 65535},
    {"firewall.sources", section, "", "", R"(named groups of networks, or "@/path/of/a/list.txt" (one CIDR a line, # comments))"},
    {"firewall.sources.*", sources, "", R"(["10.0.0.0/8", "fd00:12::/48"])", ""},
    {"firewall.service", blocks, "", "", "a guarded service; loopback is always admitted unless local_users says who"},
    {"firewall.service.name", name, "", R"("prometheus")", "", {}, 0, 0, true},
    {"firewall.service.ports", ports, "", R"([9090, "9093-9094"])", R"(numbers or "9093-9094")", {}, 1, 65535, true},
    {"firewall.service.protocol", word, R"("tcp")", R"("udp")", R"("tcp" or "udp")", "tcp|udp"},
    {"firewall.service.allow", names, "[]", R"(["office"])", "groups of [firewall.sources]"},
    {"firewall.service.deny", word, R"("drop")", R"("reject")", R"("drop" or "reject")", "drop|reject"},
    {"firewall.service.log", rate, "", R"("5/minute")", "denied packets to the kernel log, at most so many", {}, 1, 1'000'000},
    {"firewall.service.local_users", accounts, "", R"(["root", "prometheus"])", "who may talk over loopback; absent: anyone"},

    {"file", blocks, "", "", "owner, group and mode of files; what the configuration names is found by itself"},
    {"file.path", path, "", R"("/etc/prometheus/secrets/*")", "a path or a glob", {}, 0, 0, true},
    {"file.owner", account, "", R"("root")", "a user"},
    {"file.group", group, "", R"("prometheus")", "a group; one that does not exist: not applicable"},
    {"file.mode", mode, "", R"("0640")", "at most these bits"},

    {"tls", section, "", "", "certificates and protocol versions"},
    {"tls.min_version", word, R"("1.2")", R"("1.3")", "the oldest version of TLS", "1.2|1.3"},
    {"tls.client_auth", word, R"("off")", R"("require")", R"("require": mutual TLS)", "off|require"},
    {"tls.name_constraints", flag, "true", "true", "on the local authority"},
    {"tls.maintenance", windows, "[]", R"(["Sun 02:00-04:00"])", "when certificates may change, UTC; empty: at any time"},
    {"tls.certificate", blocks, "", "", "a certificate to issue and renew, or to watch"},
    {"tls.certificate.name", name, "", R"("prometheus")", "", {}, 0, 0, true},
    {"tls.certificate.use", word, R"("server")", R"("client")", R"("server" or "client")", "server|client"},
    {"tls.certificate.names", hosts, "", R"(["prometheus.example.org", "10.0.0.5"])", "host names and addresses that it is for", {}, 0, 0, true},
    {"tls.certificate.issuer", text, R"("local")", R"("local")", R"("local", a [[tls.issuer]], or "watch": another tool renews it)"},
    {"tls.certificate.key", word, R"("ecdsa-p256")", R"("ed25519")", R"("ecdsa-p256", "ed25519" or "rsa-3072")", "ecdsa-p256|ed25519|rsa-3072"},
    {"tls.certificate.lifetime", duration, R"("30d")", R"("30d")", "", {}, hour, 10 * year},
    {"tls.certificate.rekey", duration, R"("90d")", R"("90d")", "until then a renewal keeps the key", {}, hour, 10 * year},
    {"tls.certificate.install", word, R"("files")", R"("prometheus-web")", R"("files", "prometheus-web" or "nginx")", "files|prometheus-web|nginx"},
    {"tls.issuer", blocks, "", "", "a program that signs: request on stdin, chain on stdout"},
    {"tls.issuer.name", name, "", R"("acme")", "", {}, 0, 0, true},
    {"tls.issuer.command", texts, "", R"(["/usr/bin/uacme", "issue"])", "the program's path and its arguments", {}, 0, 0, true},

    {"access", section, "", "", "the reverse proxy and who may ask what"},
    {"access.proxy", word, R"("nginx")", R"("nginx")", "", "nginx"},
    {"access.auth", word, R"("basic")", R"("auth-request")", R"("basic" or "auth-request")", "basic|auth-request"},
    {"access.server_name", host, "", R"("prometheus.example.org")", ""},
    {"access.listen", listens, "[]", R"(["443"])", "ports, or addresses with ports"},
    {"access.certificate", text, "", R"("prometheus")", "the name of a [[tls.certificate]]"},
    {"access.auth_url", url, "", R"("http://127.0.0.1:4180")", "of oauth2-proxy"},
    {"access.roles", section, "", "", "who is what: users of htpasswd, groups of the identity provider"},
    {"access.roles.*", members, "", R"(["user:alice", "group:ops"])", ""},
    {"access.endpoints", section, "", "", "overrides of the built-in table of endpoints"},
    {"access.endpoints.*", role, "", R"("viewer")", ""},
    {"access.identity_provider", section, "", "", "where people sign in"},
    {"access.identity_provider.kind", word, R"("oauth2-proxy")", R"("oauth2-proxy")", "", "oauth2-proxy"},
    {"access.identity_provider.config", path, "", R"("/etc/oauth2-proxy.cfg")", ""},
    {"access.identity_provider.mfa", section, "", "", "a second factor"},
    {"access.identity_provider.mfa.required", flag, "false", "true", ""},
    {"access.identity_provider.mfa.claim", text, "", R"("acr")", "the claim that proves it"},
    {"access.identity_provider.mfa.attested_until", moment, "", "2027-01-31", "until then your word is taken for it"},

    {"data", section, "", "", "the time series on disk"},
    {"data.encryption", word, R"("not-required")", R"("required")", R"("required" or "not-required")", "not-required|required"},
    {"data.retention", section, "", "", "at most; as Prometheus writes them"},
    {"data.retention.time", duration, "", R"("15d")", "", {}, 1, 100 * year},
    {"data.retention.size", size, "", R"("10GB")", "units of 1024: B, KB, MB, GB, TB, PB"},
    {"labels", section, "", "", "labels of time series"},
    {"labels.redact", labels, "[]", R"(["password", "secret", "token", "api_key"])", "must be dropped before they are stored"},
    {"audit", section, "", "", "who asked what"},
    {"audit.query_log", path, "", R"("/var/log/prometheus/query.log")", "where queries are recorded"},
    {"alerts", section, "", "", "limits of the alert rules"},
    {"alerts.query_rate", number, "100", "100", "requests per second", {}, 1, 1'000'000},
    {"alerts.auth_failures", number, "10", "10", "per five minutes", {}, 1, 1'000'000},

    {"waiver", blocks, "", "", "a control that may fail, why, on whose word and until when"},
    {"waiver.control", control, "", R"("data.encryption")", "the control's id", {}, 0, 0, true},
    {"waiver.subject", text, "", R"("/var/lib/prometheus")", "for this subject only"},
    {"waiver.reason", text, "", R"("encrypted by the storage array")", "", {}, 0, 0, true},
    {"waiver.owner", text, "", R"("storage team")", "who answers for it", {}, 0, 0, true},
    {"waiver.expires", moment, "", "2027-01-31", "a date means the end of that day, UTC; a date-time carries its offset", {}, 0, 0, true},
});

std::string join(std::string_view above, std::string_view key) { return above.empty() ? key_text(key) : fmt::format("{}.{}", above, key_text(key)); }

/// The nearest key of the same table, else the same name in another one.
std::string hint_for(std::string_view row_above, std::string_view word) {
    std::vector<std::string_view> siblings;
    const std::string prefix = row_above.empty() ? "" : fmt::format("{}.", row_above);
    for (const auto& key : keys)
        if (key.path.starts_with(prefix) && key.path.find('.', prefix.size()) == std::string_view::npos) siblings.push_back(key.path.substr(prefix.size()));
    if (const auto near = nearest(word, siblings)) return fmt::format("did you mean '{}'?", *near);
    for (const auto& key : keys)
        if (key.path.ends_with(fmt::format(".{}", word))) return fmt::format("did you mean '{}'?", key.path);
    return {};
}

void check_table(const Value& table, std::string_view row_above, std::string_view above, Notes& notes);

void check_entry(const Entry& entry, const Key& row, const std::string& path, Notes& notes) {
    const bool is_table = entry.value.kind == Value::Kind::table;
    if (row.type == section) {
        if (!is_table) return notes.add(entry.at, fmt::format("'{}' must be a table: [{}]", path, path));
        return check_table(entry.value, row.path, path, notes);
    }
    if (row.type == blocks) {
        const auto& items = entry.value.items;
        if (entry.value.kind != Value::Kind::array || std::ranges::any_of(items, [](const Value& item) { return item.kind != Value::Kind::table; }))
            return notes.add(entry.at, fmt::format("'{}' must be an array of tables", path), fmt::format("write [[{}]], with double brackets", path));
        for (const auto& item : items) check_table(item, row.path, path, notes);
        return;
    }
    if (is_table && row.path.ends_with("controls.*"))
        notes.add(entry.at, fmt::format("'{}' is not a control: an id has a dot in it", entry.key), "write it in quotes: \"family.name\" = \"audit\"");
}

void check_table(const Value& table, std::string_view row_above, std::string_view above, Notes& notes) {
    for (const auto& entry : table.entries) {
        const auto path = join(above, entry.key);
        const auto* row = find_key(row_above.empty() ? entry.key : fmt::format("{}.{}", row_above, entry.key));
        // A name of the user's own may have dots and stars in it: it never matches a longer row.
        if (row == nullptr || std::ranges::count(row->path, '.') != std::ranges::count(row_above, '.') + (row_above.empty() ? 0 : 1))
            row = row_above.empty() ? nullptr : find_key(fmt::format("{}.*", row_above));
        if (row != nullptr) check_entry(entry, *row, path, notes);
        else notes.add(entry.at, fmt::format("unknown key '{}'", path), hint_for(row_above, entry.key));
    }
}

}  // namespace

std::span<const Key> schema() { return keys; }

const Key* find_key(std::string_view path) {
    const auto row = std::ranges::find(keys, path, &Key::path);
    return row == keys.end() ? nullptr : &*row;
}

std::vector<std::string_view> choices_of(const Key& row) {
    std::vector<std::string_view> choices;
    std::string_view rest = row.choices;
    while (!rest.empty()) {
        choices.push_back(rest.substr(0, rest.find('|')));
        rest.remove_prefix(std::min(choices.back().size() + 1, rest.size()));
    }
    return choices;
}

void check_keys(const Value& tree, Notes& notes) { check_table(tree, "", "", notes); }

}  // namespace promwarden::policy
