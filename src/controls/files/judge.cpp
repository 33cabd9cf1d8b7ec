// Documents → decisions: walks each document by its kind, then turns what was collected into one verdict a control.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden {

namespace files {

namespace {

using prometheus::FileKind;

/// Kinds of file in which finding nothing wrong is a pass, as bits; in others a control needs something to judge.
constexpr unsigned bit(FileKind kind) { return 1U << static_cast<unsigned>(kind); }
constexpr unsigned configuration = bit(FileKind::prometheus) | bit(FileKind::scrape_configs);
constexpr unsigned client = configuration | bit(FileKind::http_client);
constexpr unsigned any = client | bit(FileKind::web) | bit(FileKind::rules) | bit(FileKind::targets);

struct Row {
    Id id;
    std::string_view control;
    unsigned about;   // kinds of file that it looks at
    unsigned passes;  // kinds in which silence is a pass
    std::string_view holds, nothing;
};

constexpr Row rows[] = {
    {Id::password_hashes, "access.password-hashes", bit(FileKind::web), 0, "every hash is bcrypt of cost 10 to 14", "no basic_auth_users here"},
    {Id::server, "tls.server", bit(FileKind::web), 0, "web.yml serves TLS", "no tls_server_config here"},
    {Id::protocol, "tls.protocol", bit(FileKind::web), 0, "TLS 1.2 or newer", "no tls_server_config here"},
    {Id::client_auth, "tls.client-auth", bit(FileKind::web), 0, "clients are authenticated by certificate", "client certificates are not configured here"},
    {Id::scrape, "tls.scrape", configuration, 0, "every scrape verifies its peer or stays on this host", "no scrape targets here"},
    {Id::remote_write, "tls.remote-write", configuration, 0, "remote storage is verified", "no remote storage here"},
    {Id::other_clients, "tls.other-clients", client, 0, "every other peer is verified or on this host", "no other peers here"},
    {Id::federation, "api.federation", configuration, 0, "every federation selector narrows", "no federation here"},
    {Id::secrets_inline, "secrets.inline", client, client, "no secret is written in these files", "no file here that takes secrets"},
    {Id::inline_key, "secrets.inline-key", bit(FileKind::web), bit(FileKind::web), "no private key is written in web.yml", "no web.yml here"},
    {Id::exposed_parameters, "secrets.exposed-parameters", client, client, "no secret in URLs, parameters or headers that the API shows", "no file here that takes URLs"},
    {Id::redacted_literal, "secrets.redacted-literal", client | bit(FileKind::web), client | bit(FileKind::web), "no mask stands in place of a secret", "no file here that takes secrets"},
    {Id::dead_variables, "secrets.dead-variables", client | bit(FileKind::web), client | bit(FileKind::web), "no variable that nobody expands", "no file here that takes secrets"},
    {Id::redaction, "labels.redaction", configuration, 0, "the rules that drop sensitive labels catch them", "no rule here drops sensitive labels"},
    {Id::identity, "labels.identity", configuration, 0, "no rule removes labels that tell series apart", "no labelkeep or labeldrop here"},
    {Id::query_log, "audit.query-log", configuration, 0, "queries are logged", "no query_log_file here"},
    {Id::query_rate, "alerts.query-rate", bit(FileKind::rules), 0, "the alert reads the server's query rate", "no alert on the query rate here"},
    {Id::auth_failures, "alerts.auth-failures", bit(FileKind::rules), 0, "the alert's metric exists", "no alert on refused requests here"},
    {Id::reload_failed, "alerts.reload-failed", bit(FileKind::rules), 0, "the alert's metric exists", "no alert on failed reloads here"},
    {Id::startable, "config.startable", any, any, "Prometheus would accept these files", "no Prometheus file here"},
    {Id::honor_labels, "config.honor-labels", configuration, 0, "honor_labels only where it belongs", "no honor_labels here"},
    {Id::docker_socket, "config.docker-socket", configuration, 0, "discovery does not use the Docker API", "discovery does not use the Docker API"},
    {Id::invalid, "config.invalid", any, any, "every setting is known and in its place", "no Prometheus file here"},
    {Id::retention, "data.retention", configuration, 0, "retention is within the policy", "no retention is set here"},
};
static_assert(std::size(rows) == static_cast<std::size_t>(Id::count_));

Shape top_shape(FileKind kind) {
    switch (kind) {
        case FileKind::web: return Shape::web;
        case FileKind::rules: return Shape::rule_file;
        case FileKind::http_client: return Shape::http;
        case FileKind::scrape_configs: return Shape::scrape;
        case FileKind::targets: return Shape::static_config;
        default: return Shape::top;
    }
}

Shape item_shape(const Node& item, FileKind kind) {
    if (kind == FileKind::rules) return item.entry("rules") != nullptr ? Shape::rule_group : Shape::rule;
    return top_shape(kind);
}

void walk_document(const Document& document, const LintOptions& options, Verdicts& verdicts) {
    const Walk walk{document, options, verdicts};
    const Path root;
    const auto& node = *document.root;
    further_documents(walk);
    if (document.kind == FileKind::prometheus && node.kind != Node::Kind::mapping && !node.null() && !document.templated)
        refuse(walk, walk.place(root, node.at), "not a block of settings", "write the settings as `name: value`, each on a line of its own");
    if (node.kind == Node::Kind::sequence) {
        for (std::size_t i = 0; i < node.items.size(); ++i) walk.block(*node.items[i], item_shape(*node.items[i], document.kind), root[i], {});
        return;
    }
    const bool bare_rule = document.kind == FileKind::rules && !node.entries.empty() && node.entry("groups") == nullptr;
    walk.block(node, bare_rule ? item_shape(node, document.kind) : top_shape(document.kind), root, {});
    if (document.kind == FileKind::prometheus) top_rules(walk, node, root);
    if (document.kind == FileKind::rules) names_once(walk, node, root, "groups", "name");
    if (document.kind == FileKind::web) web(walk, node, root);
}

/// What stands in the way of judging a document at all; "" where nothing does.
std::string obstacle(const Document& document) {
    if (document.problem && document.problem->limit) return fmt::format("refused: {}", document.problem->message);
    if (document.problem && document.templated && document.kind != FileKind::unknown) return "a template that is no YAML before it is rendered: lint what it renders to";
    if (document.problem && !document.repaired) return "not YAML";
    return {};
}

bool concerns(const Row& row, const Document& document) { return (row.about & bit(document.kind)) != 0; }

std::string place_of(const Document& document) {
    return document.problem && document.problem->at.line > 0 ? fmt::format("{}:{}:{}", document.path, document.problem->at.line, document.problem->at.column) : document.path;
}

/// A file that is none of ours is one remark, not a verdict on every control.
void stranger(const Document& document, Verdicts& verdicts) {
    if (document.note == prometheus::empty_file) return verdicts.undecided(Id::invalid, document, "an empty file: there is nothing to judge");
    auto text = std::string("none of the kinds of file that lint knows");
    if (!document.note.empty()) text += ": it looks like " + document.note;
    if (document.problem) text += fmt::format(", and it is no YAML ({})", document.problem->message);
    verdicts.undecided(Id::invalid, place_of(document), text + "; if it is one, say which with --as");
}

void judge_document(const Document& document, const LintOptions& options, Verdicts& verdicts) {
    const auto blocked = obstacle(document);
    if (document.kind == FileKind::unknown && !(document.problem && document.problem->limit)) return stranger(document, verdicts);
    const bool broken = document.problem && !document.problem->limit && !document.templated;
    if (broken) not_yaml(verdicts, document);
    for (const auto& row : rows) {
        if (document.kind == FileKind::unknown ? row.id != Id::invalid : !concerns(row, document)) continue;
        if (!blocked.empty() && !(broken && (row.id == Id::invalid || row.id == Id::startable))) verdicts.undecided(row.id, place_of(document), blocked);
        if (blocked.empty() && (row.passes & bit(document.kind)) != 0) verdicts.touch(row.id);
    }
    if (blocked.empty() && document.root != nullptr) walk_document(document, options, verdicts);
}

Decision decide(const Row& row, Bin& bin) {
    if (!bin.findings.empty()) {
        const auto count = bin.findings.size() + bin.more;
        auto reason = count == 1 ? std::string("1 place") : fmt::format("{} places", count);
        if (bin.more > 0) reason += fmt::format(", the first {} are listed", bin.findings.size());
        if (!bin.undecided.empty()) reason += fmt::format("; not decided: {}", bin.undecided.front());
        return {Verdict::fail, std::move(reason), std::move(bin.findings)};
    }
    if (!bin.undecided.empty()) {
        auto reason = bin.undecided.front();
        if (bin.undecided.size() > 1) reason += fmt::format(" (and {} more)", bin.undecided.size() - 1);
        return {Verdict::unknown, std::move(reason), {}};
    }
    if (!bin.touched) return {Verdict::not_applicable, std::string(row.nothing), {}};
    return {Verdict::pass, std::string(row.holds), {}};
}

}  // namespace

}  // namespace files

std::vector<FileDecision> judge(std::span<const prometheus::Document> documents, const LintOptions& options) {
    files::Verdicts verdicts;
    for (const auto& document : documents) files::judge_document(document, options, verdicts);
    if (!options.main_file.empty()) files::alerting(documents, options, verdicts);
    std::vector<FileDecision> decisions;
    for (const auto& row : files::rows)
        if (options.only.empty() || std::ranges::find(options.only, row.control) != options.only.end())
            decisions.push_back({row.control, files::decide(row, verdicts.of(row.id))});
    return decisions;
}

}  // namespace promwarden
