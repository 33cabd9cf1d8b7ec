// Outgoing connections: does Prometheus verify whom it talks to? Loopback needs no proof; a container's name is somebody else's address.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

constexpr std::string_view encrypted = "https with a verified certificate";

bool has_credentials(const Node& node) {
    constexpr std::string_view keys[] = {"basic_auth", "authorization", "bearer_token", "bearer_token_file", "oauth2", "sigv4", "azuread", "token", "password"};
    return std::ranges::any_of(keys, [&](std::string_view key) {
        const auto* value = node.find(key);
        return value != nullptr && !value->null();
    });
}

std::string host_text(std::string_view host) { return host.size() <= 255 && host.find_first_of("\r\n\x1b") == std::string_view::npos ? std::string(host) : "…"; }

std::string in_clear(const Node& block, std::string_view what, std::string_view host) {
    return fmt::format("{} to {}{}", what, host_text(host), has_credentials(block) ? ", with credentials" : "");
}

/// What relabelling makes of "__scheme__" and "__address__".
struct Rewritten {
    std::optional<std::string_view> value;  // a fixed one
    const Node* rule = nullptr;
    std::size_t index = 0;
    bool unknown = false;
};

Rewritten rewritten(const Node& block, std::string_view label) {
    Rewritten result;
    const auto* rules = block.find("relabel_configs");
    if (rules == nullptr) return result;
    for (std::size_t i = 0; i < rules->items.size(); ++i) {
        const auto& rule = *rules->items[i];
        const auto* target = rule.find("target_label");
        if (target == nullptr || target->scalar() != label) continue;
        const auto* replacement = rule.find("replacement");
        const auto* sources = rule.find("source_labels");
        const auto* regex = rule.find("regex");
        const bool always = sources == nullptr || sources->items.empty() || (regex == nullptr || regex->scalar() == ".*" || regex->scalar() == "(.*)");
        const bool fixed = replacement != nullptr && replacement->scalar().find('$') == std::string_view::npos && written(*replacement) == Written::literal;
        result.rule = &rule;
        result.index = i;
        if (fixed && always) {
            result.value = replacement->scalar();
            result.unknown = false;
        } else {
            result.unknown = true;
        }
    }
    return result;
}

std::string_view address_of(const Node& target) {
    const auto parts = parse_url(target.scalar());
    return parts.has_scheme ? parts.host : target.scalar();
}

void report_clear(const Walk& walk, Id id, const Node& block, const Path& path, std::string_view address, const Path& fallback, yaml::Position fallback_at) {
    const auto observed = in_clear(block, "http", address);
    constexpr std::string_view advice = " and name the authority in `tls_config: ca_file:` where it is your own";
    if (const auto* scheme = block.entry("scheme")) {
        const Path at = path / "scheme";
        walk.verdicts.fail(id, walk.place(at, scheme->at), std::string(encrypted), observed, line_with(walk.place(at, scheme->at), "scheme: https") + std::string(advice));
    } else {
        const auto first = in_file(walk.document, block.entries.empty() ? block.at : block.entries.front().at);
        walk.verdicts.fail(id, walk.place(fallback, fallback_at), std::string(encrypted), observed,
                           fmt::format("insert after line {}: {}scheme: https{}", first.line, std::string(first.column > 0 ? first.column - 1 : 0, ' '), advice));
    }
}

/// A scrape configuration or an alertmanager: scheme, targets and relabelling together decide.
bool judge_targets(const Walk& walk, const Node& block, const Path& path, Id id) {
    const auto address = rewritten(block, "__address__");
    const auto scheme_rule = rewritten(block, "__scheme__");
    const auto* scheme_node = block.find("scheme");
    std::string_view scheme = scheme_rule.value ? *scheme_rule.value : scheme_node != nullptr ? scheme_node->scalar() : "http";
    const bool scheme_unknown = scheme_rule.unknown || (scheme_node != nullptr && !scheme_rule.value && written(*scheme_node) != Written::literal);
    const Path rule = path / "relabel_configs", rule_at = rule[address.index];
    bool loopback = false, remote = false, unknown = false;
    std::string_view why;
    const bool clear = !scheme_unknown && scheme == "http";
    const auto judge_remote = [&](std::string_view host, const Path& at, yaml::Position position) {
        if (clear && !remote) report_clear(walk, id, block, path, host, at, position);
        remote = true;
    };
    if (address.value) {
        const auto where = where_is(*address.value);
        loopback = where == Where::loopback;
        if (where == Where::unknown) unknown = true, why = "relabelling sets an address that is filled in later";
        if (where == Where::remote) judge_remote(*address.value, rule_at, address.rule->at);
    } else {
        static_targets(block, path, [&](const Node& target, const Path& at) {
            const auto host = address_of(target);
            const auto where = target.templated ? Where::unknown : where_is(host);
            loopback = loopback || where == Where::loopback;
            if (where == Where::unknown) unknown = true, why = "a target's address is filled in later";
            if (where == Where::remote && !address.unknown) judge_remote(host, at, target.at);
        });
        if (address.unknown) unknown = true, why = "relabelling decides the addresses";
        if (discovers(block)) unknown = true, why = "its targets are discovered at run time";
    }
    if (loopback || remote || unknown) walk.verdicts.touch(id);
    if (scheme_unknown && (remote || unknown)) walk.verdicts.undecided(id, walk.place(path, block.at), "its scheme is decided by relabelling or filled in later");
    else if (clear && unknown && !remote) walk.verdicts.undecided(id, walk.place(path, block.at), why);
    return loopback && !remote && !unknown;
}

/// A block that names its peer by a URL. `fallback_scheme` is what a peer without one is reached by; "" where such a peer is not judged.
bool judge_url(const Walk& walk, const Node& block, const Path& path, std::string_view key, Id id, std::string_view fallback_scheme) {
    const auto* entry = block.entry(key);
    if (entry == nullptr || entry->value->null()) return false;
    const auto& node = entry->value->kind == Node::Kind::sequence && !entry->value->items.empty() ? *entry->value->items.front() : *entry->value;
    const Path at = path / key;
    const auto parts = parse_url(node.scalar());
    const auto scheme = parts.has_scheme ? parts.scheme : fallback_scheme;
    if (scheme == "unix") return true;
    walk.verdicts.touch(id);
    const auto where = node.templated ? Where::unknown : where_is(parts.host);
    const bool scheme_unknown = node.templated || scheme.find_first_of("${}<>%") != std::string_view::npos || scheme.find(prometheus::filled_later) != std::string_view::npos || (!parts.has_scheme && written(node) != Written::literal);
    if (where == Where::loopback) return true;
    if (scheme_unknown || ((scheme == "http" || scheme == "tcp") && where == Where::unknown)) {
        walk.verdicts.undecided(id, walk.place(at, node.at), "the address is filled in later");
    } else if (scheme == "http" || (scheme == "tcp" && block.find("tls_config") == nullptr)) {
        walk.verdicts.fail(id, walk.place(at, node.at), std::string(encrypted), in_clear(block, scheme, parts.host),
                           fmt::format("line {}: use https:// here and name the authority in `tls_config: ca_file:` where it is your own", in_file(walk.document, node.at).line));
    }
    return false;
}

void judge_tracing(const Walk& walk, const Node& block, const Path& path) {
    const auto* endpoint = block.find("endpoint");
    if (endpoint == nullptr) return;
    walk.verdicts.touch(Id::other_clients);
    const auto parts = parse_url(endpoint->scalar());
    if (!is_true(block.find("insecure")) || where_is(parts.host) != Where::remote) return;
    const auto* entry = block.entry("insecure");
    const Path at = path / "insecure";
    walk.verdicts.fail(Id::other_clients, walk.place(at, entry->at), "traces sent over TLS", "insecure: true, plain text to " + host_text(parts.host), line_with(walk.place(at, entry->at), "insecure: false"));
}

}  // namespace

bool discovers(const Node& block) {
    return std::ranges::any_of(block.entries, [](const Entry& entry) { return entry.key.ends_with("_sd_configs") && !entry.value->null(); });
}

Client client_of(const Walk& walk, const Node& node, Shape shape, const Path& path, const Client& outer) {
    switch (shape) {
        case Shape::scrape: return {Id::scrape, judge_targets(walk, node, path, Id::scrape)};
        case Shape::alertmanager: return {Id::other_clients, judge_targets(walk, node, path, Id::other_clients)};
        case Shape::remote_write:
        case Shape::remote_read: return {Id::remote_write, judge_url(walk, node, path, "url", Id::remote_write, {})};
        case Shape::oauth2: return {outer.id, judge_url(walk, node, path, "token_url", outer.id, {})};
        case Shape::tracing: {
            judge_tracing(walk, node, path);
            const auto* endpoint = node.find("endpoint");
            return {Id::other_clients, endpoint != nullptr && where_is(parse_url(endpoint->scalar()).host) == Where::loopback};
        }
        case Shape::consul_sd: {
            const auto* scheme = node.find("scheme");
            return {Id::other_clients, judge_url(walk, node, path, "server", Id::other_clients, scheme == nullptr ? "http" : scheme->scalar())};
        }
        case Shape::http_sd:
        case Shape::puppetdb_sd: return {Id::other_clients, judge_url(walk, node, path, "url", Id::other_clients, {})};
        case Shape::kubernetes_sd: return {Id::other_clients, judge_url(walk, node, path, "api_server", Id::other_clients, {})};
        case Shape::eureka_sd:
        case Shape::kuma_sd:
        case Shape::nomad_sd:
        case Shape::uyuni_sd: return {Id::other_clients, judge_url(walk, node, path, "server", Id::other_clients, {})};
        case Shape::marathon_sd: return {Id::other_clients, judge_url(walk, node, path, "servers", Id::other_clients, {})};
        case Shape::openstack_sd: return {Id::other_clients, judge_url(walk, node, path, "identity_endpoint", Id::other_clients, {})};
        case Shape::docker_sd:
        case Shape::dockerswarm_sd: return {Id::other_clients, judge_url(walk, node, path, "host", Id::other_clients, {})};
        default: break;
    }
    if (shape >= Shape::azure_sd && shape <= Shape::oci_sd) return {Id::other_clients, false};
    return outer;
}

void tls_block(const Walk& walk, const Node& node, const Path& path, const Client& client) {
    walk.verdicts.touch(client.id);
    if (client.loopback_only) return;
    if (const auto* skip = node.entry("insecure_skip_verify")) {
        const Path at = path / "insecure_skip_verify";
        if (is_true(skip->value)) {
            walk.verdicts.fail(client.id, walk.place(at, skip->at), "false: the peer's certificate is verified", "true: anybody on the way can answer for the peer",
                               line_with(walk.place(at, skip->at), "insecure_skip_verify: false") + ", and name its authority in `ca_file`");
        } else if (const auto how = written(*skip->value); how == Written::filled_later || how == Written::variable) {
            walk.verdicts.undecided(client.id, walk.place(at, skip->at), "it is filled in later");
        }
    }
    // Without an authority of its own, the pair is read once: a renewed one is not shown until the connection ends, measured with 2.42 through two rotations and a reload.
    const auto* pair = node.entry("cert_file");
    const auto named = [&](std::string_view key) { return node.find(key) != nullptr && !node.find(key)->null(); };
    if (pair != nullptr && !pair->value->null() && walk.options.policy != nullptr && walk.document.kind != prometheus::FileKind::http_client && !named("ca_file") && !named("ca") && !named("ca_ref")) {
        const Path at = path / "cert_file";
        walk.verdicts.fail(client.id, walk.place(at, pair->at), "ca_file beside cert_file, so that a renewed client certificate is used", "no ca_file: a renewed certificate is used only once the connection ends",
                           "add `ca_file:` to " + path.text() + ", with the authority of the peer: /etc/ssl/certs/ca-certificates.crt for a public one");
    }
    for (const std::string_view key : {"min_version", "max_version"}) {
        const auto* entry = node.entry(key);
        if (entry == nullptr || (entry->value->scalar() != "TLS10" && entry->value->scalar() != "TLS11")) continue;
        const Path at = path / key;
        walk.verdicts.fail(client.id, walk.place(at, entry->at), "TLS12 or newer", std::string(entry->value->scalar()), line_with(walk.place(at, entry->at), fmt::format("{}: {}", key, key == "min_version" ? "TLS12" : "TLS13")));
    }
}

}  // namespace promwarden::files
