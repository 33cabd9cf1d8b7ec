// Text → Document: what kind of file it is, told from its content, and what can still be said of a text that lost its indentation.

#include <algorithm>
#include <array>
#include <utility>

#include "promwarden/prometheus.hpp"
#include "promwarden/template.hpp"

namespace promwarden::prometheus {

namespace {

using yaml::Node;

constexpr std::pair<FileKind, std::string_view> kinds[] = {
    {FileKind::unknown, "unknown"}, {FileKind::prometheus, "prometheus"}, {FileKind::scrape_configs, "scrape-configs"}, {FileKind::web, "web"},
    {FileKind::rules, "rules"},     {FileKind::http_client, "http-client"}, {FileKind::targets, "targets"},
    {FileKind::nginx, "nginx"}, {FileKind::oauth2_proxy, "oauth2-proxy"}, {FileKind::compose, "compose"}, {FileKind::unit, "unit"},
};

/// Files of other programs that share keys with Prometheus' own.
struct Stranger {
    std::string_view note;
    std::array<std::string_view, 2> keys;  // both at the top level ("" matches)
};
constexpr Stranger strangers[] = {
    {"a Kubernetes object", {"apiVersion", "kind"}},      {"an Alertmanager configuration", {"route", "receivers"}}, {"a Compose file", {"services", ""}},
    {"a Promtail configuration", {"clients", "scrape_configs"}}, {"a Promtail configuration", {"positions", ""}},     {"an OpenTelemetry Collector configuration", {"receivers", "exporters"}},
    {"a Grafana Agent configuration", {"metrics", "integrations"}}, {"a Grafana Agent configuration", {"metrics", ""}}, {"Helm values", {"serverFiles", ""}},            {"a rule test file for promtool", {"rule_files", "tests"}},
    {"an Alertmanager configuration", {"receivers", "global"}},
};

bool has(const Node& node, std::string_view key) { return key.empty() || node.entry(key) != nullptr; }

template <std::size_t N>
bool has_any(const Node& node, const std::string_view (&keys)[N]) {
    return std::ranges::any_of(keys, [&](std::string_view key) { return node.entry(key) != nullptr; });
}

constexpr std::string_view prometheus_keys[] = {"scrape_configs", "remote_write", "remote_read", "rule_files", "alerting", "scrape_config_files", "external_labels", "metric_relabel_configs"};
constexpr std::string_view web_keys[] = {"tls_server_config", "basic_auth_users", "http_server_config", "auth_excluded_paths"};
constexpr std::string_view client_keys[] = {"basic_auth", "authorization", "oauth2", "tls_config", "bearer_token", "bearer_token_file", "http_headers"};
constexpr std::string_view global_keys[] = {"scrape_interval", "evaluation_interval", "scrape_timeout", "external_labels", "query_log_file"};

bool only_client_keys(const Node& node) {
    return has_any(node, client_keys) &&
           std::ranges::all_of(node.entries, [](const yaml::Entry& entry) { return find_key(Shape::http, entry.key) != nullptr; });
}

FileKind kind_of_mapping(const Node& root, std::string& note) {
    for (const auto& stranger : strangers)
        if (has(root, stranger.keys[0]) && has(root, stranger.keys[1])) {
            note = stranger.note;
            return FileKind::unknown;
        }
    if (const auto* groups = root.find("groups"); groups != nullptr && (groups->kind == Node::Kind::sequence || groups->null())) return FileKind::rules;
    if (has_any(root, web_keys)) return FileKind::web;
    if (has_any(root, prometheus_keys)) return FileKind::prometheus;
    if (const auto* global = root.find("global"); global != nullptr && (global->null() || has_any(*global, global_keys))) return FileKind::prometheus;
    if (has(root, "tracing") && find_key(Shape::top, root.entries.front().key) != nullptr) return FileKind::prometheus;
    if (has(root, "job_name")) return FileKind::scrape_configs;
    if (has(root, "expr") && (root.entry("alert") != nullptr || root.entry("record") != nullptr)) return FileKind::rules;
    if (only_client_keys(root)) return FileKind::http_client;
    return FileKind::unknown;
}

FileKind kind_of_list(const Node& root) {
    const auto all = [&](auto&& test) { return std::ranges::all_of(root.items, [&](const Node* item) { return item->kind == Node::Kind::mapping && test(*item); }); };
    if (root.items.empty()) return FileKind::unknown;
    if (all([](const Node& item) { return has(item, "job_name"); })) return FileKind::scrape_configs;
    if (all([](const Node& item) { return item.entry("alert") != nullptr || item.entry("record") != nullptr || (has(item, "name") && has(item, "rules")); })) return FileKind::rules;
    if (all([](const Node& item) { return has(item, "targets"); })) return FileKind::targets;
    return FileKind::unknown;
}

FileKind kind_of(const Node& root, std::string& note) {
    if (root.kind == Node::Kind::mapping) return kind_of_mapping(root, note);
    if (root.kind == Node::Kind::sequence) return kind_of_list(root);
    return FileKind::unknown;
}

std::string_view trim_left(std::string_view line) { return line.substr(std::min(line.find_first_not_of(" \t"), line.size())); }

/// Calls back with each line, without its end.
template <class Callback>
void each_line(std::string_view text, Callback&& callback) {
    while (!text.empty()) {
        const auto end = text.find('\n');
        callback(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
}

/// Of a text that is not YAML: what its lines look like.
FileKind kind_of_lines(std::string_view text) {
    FileKind kind = FileKind::unknown;
    constexpr std::pair<std::string_view, FileKind> signs[] = {
        {"scrape_configs:", FileKind::prometheus}, {"remote_write:", FileKind::prometheus},      {"rule_files:", FileKind::prometheus}, {"metric_relabel_configs:", FileKind::prometheus},
        {"- job_name:", FileKind::prometheus},     {"tls_server_config:", FileKind::web},        {"basic_auth_users:", FileKind::web},   {"global:", FileKind::prometheus}, {"- alert:", FileKind::rules},
        {"- record:", FileKind::rules},            {"groups:", FileKind::rules},
    };
    constexpr std::string_view others[] = {"apiVersion:", "receivers:", "services:", "```", "#!/"};
    bool stranger = false;
    each_line(text, [&](std::string_view line) {
        stranger = stranger || std::ranges::any_of(others, [&](std::string_view other) { return line.starts_with(other); });
        if (kind != FileKind::unknown) return;
        for (const auto& [sign, of] : signs)
            if (trim_left(line).starts_with(sign)) kind = of;
    });
    return stranger ? FileKind::unknown : kind;
}

/// "ALERT Down IF up == 0": what Prometheus read before 2.0.
bool has_old_rules(std::string_view text) {
    bool found = false;
    each_line(text, [&](std::string_view line) { found = found || line.starts_with("ALERT "); });
    return found;
}

/// The lines of list items indented below their dash again, as far as the lines themselves tell: a key in the column of the last dash belongs to its item.
std::string indent_items(std::string_view text, std::vector<bool>& moved) {
    std::string repaired;
    std::size_t dash = std::string_view::npos;
    each_line(text, [&](std::string_view line) {
        const auto rest = trim_left(line);
        const auto column = line.size() - rest.size();
        moved.push_back(false);
        if (rest.starts_with("- ")) {
            dash = column;
        } else if (!rest.empty() && !rest.starts_with('#') && dash != std::string_view::npos) {
            moved.back() = column == dash;
            if (column == dash) repaired += "  ";
            if (column < dash) dash = std::string_view::npos;
        }
        repaired.append(line).push_back('\n');
    });
    return repaired;
}

void adopt(Document& document, yaml::Tree tree, std::optional<FileKind> as) {
    document.tree = std::move(tree);
    if (document.tree.documents.empty() || document.tree.documents.front()->null()) document.note = empty_file;
    if (document.tree.documents.empty()) {
        document.kind = as.value_or(FileKind::unknown);
        return;
    }
    document.root = document.tree.documents.front();
    document.kind = as ? *as : kind_of(*document.root, document.note);
}

/// What every rendering of a template has in common, where that is YAML.
bool read_template(Document& document, std::string_view text, std::optional<FileKind> as) {
    auto tree = yaml::read(without_templates(text).text);
    if (!tree) return false;
    auto common = document;
    adopt(common, *std::move(tree), as);
    if (common.kind == FileKind::unknown) return false;
    common.problem.reset();
    document = std::move(common);
    return true;
}

}  // namespace

std::string_view to_text(FileKind kind) { return std::ranges::find(kinds, kind, &std::pair<FileKind, std::string_view>::first)->second; }

std::optional<FileKind> file_kind(std::string_view name) {
    const auto found = std::ranges::find(kinds, name, &std::pair<FileKind, std::string_view>::second);
    if (found == std::end(kinds) || found->first == FileKind::unknown) return std::nullopt;
    return found->first;
}

yaml::Position in_file(const Document& document, yaml::Position at) {
    const bool moved = document.repaired && at.line > 0 && at.line <= document.moved.size() && document.moved[at.line - 1];
    return {at.line, moved && at.column > 2 ? at.column - 2 : at.column};
}

Document read_document(std::string path, std::string_view text, std::optional<FileKind> as) {
    Document document;
    document.path = std::move(path);
    document.templated = has_template_marks(text);
    auto tree = yaml::read(text);
    if (tree) {
        adopt(document, *std::move(tree), as);
        if (document.kind == FileKind::unknown && has_old_rules(text)) document.note = "a rule file of Prometheus 1";
        if (document.kind == FileKind::rules) document.templated = false;  // {{ $labels }} is Prometheus' own
        return document;
    }
    document.problem = std::move(tree).error();
    if (document.templated && !document.problem->limit && read_template(document, text, as)) return document;
    document.kind = as ? *as : kind_of_lines(text);
    if (document.kind == FileKind::rules) document.templated = text.find("{%") != std::string_view::npos || text.find("{{-") != std::string_view::npos;
    if (document.kind == FileKind::unknown && has_old_rules(text)) document.note = "a rule file of Prometheus 1";
    if (document.problem->limit || document.templated || document.kind == FileKind::unknown) return document;
    if (auto repaired = yaml::read(indent_items(text, document.moved))) {
        const auto kind = document.kind;
        adopt(document, *std::move(repaired), as);
        document.repaired = document.root != nullptr;
        if (document.kind == FileKind::unknown) document.kind = kind;
    }
    return document;
}

}  // namespace promwarden::prometheus
