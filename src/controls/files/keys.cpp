// What Prometheus refuses: text that is not YAML, keys that no version knows or that stand in the wrong place, values and combinations that stop it from starting.

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "judge.hpp"
#include "promwarden/flags.hpp"

namespace promwarden::files {

namespace {

/// Whose setting it is, where another program reads files of the same form; "" for none that is known.
std::string_view foreign(std::string_view key, Shape shape) {
    constexpr std::string_view metrics[] = {"stream_parse", "relabel_debug", "metric_relabel_debug", "scrape_align_interval", "scrape_offset", "series_limit", "no_stale_markers",
                                            "disable_compression", "disable_keepalive", "max_scrape_size", "label_limit_drop"};
    constexpr std::string_view groups[] = {"concurrency", "type", "tenant", "params", "headers", "notifier_headers", "eval_offset", "eval_delay", "eval_alignment", "extra_filter_labels"};
    constexpr std::string_view rules[] = {"debug", "update_entries_limit"};
    const auto in = [&](const auto& keys) { return std::ranges::find(keys, key) != std::end(keys); };
    if (shape == Shape::relabel && (key == "if" || key == "match" || key == "labels")) return "VictoriaMetrics";
    if (in(metrics) || (shape == Shape::rule_group && in(groups)) || (shape == Shape::rule && in(rules))) return "VictoriaMetrics";
    if (shape == Shape::rule_group && key == "partial_response_strategy") return "Thanos";
    if (shape == Shape::rule_group && (key == "source_tenants" || key == "evaluation_delay" || key == "align_evaluation_time_on_interval")) return "Mimir";
    if (shape == Shape::rule_file && key == "namespace") return "Mimir's tools";
    return {};
}

/// Whether a setting with this key takes that name below it: by its schema, or because it takes any name and the name is not known elsewhere.
bool holds(std::string_view above, std::string_view name, const Key* home) {
    using V = prometheus::Value;
    const auto* key = prometheus::find_home(above);
    if (key == nullptr) return false;
    if (key->value == V::one || key->value == V::many) return prometheus::find_key(key->shape, name) != nullptr;
    const bool takes_any = key->value == V::labels || key->value == V::shown || key->value == V::hashes;
    return takes_any && (home == nullptr || home->in >= Shape::azure_sd);
}

/// The nearest setting above that has nothing below it and takes this one: what follows it probably lost its indentation.
std::string_view emptied(const Node& block, const Entry& entry, const Key* home) {
    std::string_view above;
    for (const auto& each : block.entries) {
        if (&each == &entry) break;
        if (each.value->null() && holds(each.key, entry.key, home)) above = each.key;
    }
    return above;
}

/// In milliseconds.
std::optional<std::int64_t> duration_of(const Node& block, std::string_view key) {
    const auto* node = block.find(key);
    const auto value = node == nullptr ? std::nullopt : prometheus::parse_flag_duration(node->scalar());
    return value ? std::optional(value->count()) : std::nullopt;
}

/// What a job or the global block says, else what stands for it.
std::int64_t duration_or(const Node* block, std::string_view key, std::int64_t otherwise) {
    const auto given = block == nullptr ? std::nullopt : duration_of(*block, key);
    return given && *given > 0 ? *given : otherwise;
}

/// A timeout that is said has to fit into the interval, which may be said elsewhere. null: what stands above this block is not in this file.
void timeout_rules(const Walk& walk, const Node& block, const Path& path, const Node* above) {
    const auto* timeout = block.entry("scrape_timeout");
    const auto given = duration_of(block, "scrape_timeout");
    const auto interval = duration_or(&block, "scrape_interval", above == nullptr ? 0 : duration_or(above, "scrape_interval", 60'000));
    if (!given || interval == 0 || *given <= interval) return;
    const Path at = path / "scrape_timeout";
    refuse(walk, walk.place(at, timeout->at), "scrape_timeout is longer than scrape_interval", "make scrape_timeout at most scrape_interval");
}

/// Whoever relabels may know what to do with a URL.
void target_rules(const Walk& walk, const Node& block, const Path& path) {
    if (given(block, "relabel_configs")) return;
    static_targets(block, path, [&](const Node& target, const Path& at) {
        if (target.scalar().find('/') != std::string_view::npos && written(target) == Written::literal)
            refuse(walk, walk.place(at, target.at), "a target with a slash", "write host:port here, the path under metrics_path and the scheme under scheme");
    });
}

void retention_rules(const Walk& walk, const Node& block, const Path& path) {
    const auto* policy = walk.options.policy;
    if (policy != nullptr && (policy->data.retention_time || policy->data.retention_size)) walk.verdicts.touch(Id::retention);
    if (const auto* size = block.entry("size"); size != nullptr && written(*size->value) == Written::literal) {
        const Path at = path / "size";
        const auto text = size->value->scalar();
        const auto given = text == "0" ? std::optional<std::uint64_t>(0) : prometheus::parse_flag_size(text);
        if (!given) refuse(walk, walk.place(at, size->at), "a size without its unit", fmt::format("line {}: write the unit with its B: 10GB", in_file(walk.document, size->at).line));
        else if (policy != nullptr && policy->data.retention_size && (*given == 0 || *given > *policy->data.retention_size))
            walk.verdicts.fail(Id::retention, walk.place(at, size->at), fmt::format("at most {} bytes", *policy->data.retention_size), fmt::format("{} bytes", *given),
                               line_with(walk.place(at, size->at), fmt::format("size: {}B", *policy->data.retention_size)));
    }
    const auto* time = block.entry("time");
    const auto given = duration_of(block, "time");
    if (!given || policy == nullptr || !policy->data.retention_time) return;
    const Path at = path / "time";
    const auto limit = policy->data.retention_time->count();
    if (*given > limit * 1000)
        walk.verdicts.fail(Id::retention, walk.place(at, time->at), format_duration(*policy->data.retention_time), fmt::format("{}", format_duration(std::chrono::seconds(*given / 1000))),
                           line_with(walk.place(at, time->at), "time: " + format_duration(*policy->data.retention_time)));
}

/// What a value had to be and is not; "" where it is fine, or nobody can say before a template is filled in.
std::string_view wrong_form(const Node& node, const Key& key) {
    using V = prometheus::Value;
    constexpr std::string_view lists[] = {"targets", "rule_files", "scrape_config_files", "files", "cipher_suites", "curve_preferences"};
    const bool list = key.value == V::many ? key.shape != Shape::any : (key.value == V::file || key.value == V::text) && std::ranges::find(lists, key.name) != std::end(lists);
    if ((!list && key.value != V::one) || node.null() || node.templated || (node.kind == Node::Kind::scalar && written(node) != Written::literal)) return {};
    if (list && node.kind != Node::Kind::sequence) return "a list";
    if (key.value == V::one && node.kind != Node::Kind::mapping) return "a block of settings";
    if (key.value == V::many && std::ranges::any_of(node.items, [](const Node* item) { return item->kind == Node::Kind::scalar && written(*item) == Written::literal; }))
        return "a list of blocks";
    return {};
}

/// "-" with nothing behind it in a list of blocks.
void empty_items(const Walk& walk, const Node& node, const Key& key, const Path& path) {
    if (key.value != prometheus::Value::many || key.shape == Shape::rule || walk.document.templated || walk.document.repaired) return;
    for (std::size_t i = 0; i < node.items.size(); ++i)
        if (node.items[i]->null()) refuse(walk, walk.place(path[i], node.items[i]->at), "an empty item", fmt::format("remove line {}, or put its settings behind the dash", in_file(walk.document, node.items[i]->at).line));
}

}  // namespace

void refuse(const Walk& walk, const Place& place, const std::string& observed, const std::string& remedy) {
    walk.verdicts.fail(Id::invalid, place, "a setting that Prometheus knows, where it belongs", observed, remedy);
    walk.verdicts.fail(Id::startable, place, "a file that Prometheus accepts", observed + "; Prometheus refuses to start with it", remedy);
}

void unknown_key(const Walk& walk, const Node& block, const Entry& entry, Shape shape, const Path& path) {
    if (entry.key.empty() || entry.key.find("{{") != std::string_view::npos || entry.key.find("{%") != std::string_view::npos || entry.key.find(prometheus::filled_later) != std::string_view::npos) return;
    const Place place = walk.place(path, entry.at);
    if (const auto owner = foreign(entry.key, shape); !owner.empty()) return walk.verdicts.undecided(Id::startable, place, fmt::format("a setting of {}, which Prometheus does not know", owner));
    if (walk.document.repaired && (shape == Shape::rule || shape == Shape::rule_group || shape == Shape::relabel)) return;
    const auto near = nearest(entry.key, prometheus::key_names(shape));
    if (prometheus::grows(shape) && !near) return;
    const auto key = show_key(entry.key);
    const auto* home = prometheus::find_home(entry.key);
    const auto above = emptied(block, entry, home);
    const auto line = in_file(walk.document, entry.at).line;
    const auto misplaced = fmt::format("{} is not known at {}", key, prometheus::to_text(shape));
    if (!above.empty()) return refuse(walk, place, misplaced, fmt::format("line {}: indent it below `{}`", line, show_key(above)));
    if (home != nullptr && home->in != shape) return refuse(walk, place, misplaced, fmt::format("line {}: move it into {}", line, prometheus::to_text(home->in)));
    if (near) return refuse(walk, place, fmt::format("no version knows {} at {}", key, prometheus::to_text(shape)), line_with(place, fmt::format("{}:", *near)) + " (did you mean that?)");
    refuse(walk, place, fmt::format("no version knows {} at {}", key, prometheus::to_text(shape)), fmt::format("remove line {}", line));
}

void repeated_key(const Walk& walk, const Entry& entry, const Path& path) {
    if (entry.key.empty() || walk.document.templated || walk.document.repaired) return;
    refuse(walk, walk.place(path, entry.at), fmt::format("{} is set twice", show_key(entry.key)), fmt::format("remove line {} or the one before", in_file(walk.document, entry.at).line));
}

void known_key(const Walk& walk, const Entry& entry, const Key& key, const Path& path) {
    const Place place = walk.place(path, entry.at);
    if (key.value == prometheus::Value::reference)
        refuse(walk, place, fmt::format("{} needs a secret manager, which no released Prometheus has", entry.key), "use the *_file key instead");
    if (const auto version = walk.options.version) {
        if (key.since > *version)
            refuse(walk, place, fmt::format("{} is new in {}, this is {}", entry.key, prometheus::version_text(key.since), prometheus::version_text(*version)), fmt::format("remove line {} or upgrade Prometheus", place.at.line));
        if (key.until != 0 && key.until <= *version)
            refuse(walk, place, fmt::format("{} is gone since {}", entry.key, prometheus::version_text(key.until)), fmt::format("remove line {}", place.at.line));
    }
    if (const auto form = wrong_form(*entry.value, key); !form.empty() && !walk.document.templated && !walk.document.repaired)
        refuse(walk, place, fmt::format("not {}", form), key.value == prometheus::Value::one ? fmt::format("line {}: put its settings below it, indented", in_file(walk.document, entry.at).line)
                                                                                            : fmt::format("line {}: make it a list: each item on a line of its own after `- `", in_file(walk.document, entry.at).line));
    empty_items(walk, *entry.value, key, path);
    if (key.value == prometheus::Value::duration && written(*entry.value) == Written::literal && !prometheus::parse_flag_duration(entry.value->scalar()))
        refuse(walk, place, "not a duration", fmt::format("line {}: write a number with a unit: 15s, 1m, 1h30m", in_file(walk.document, entry.at).line));
    value_demands(walk, entry, key, path);
}

void block_rules(const Walk& walk, const Node& block, Shape shape, const Path& path) {
    block_demands(walk, block, shape, path);
    if (shape == Shape::authorization) {
        const auto* type = block.entry("type");
        const Path at = path / "type";
        if (type != nullptr && (type->value->scalar() == "Basic" || type->value->scalar() == "basic")) refuse(walk, walk.place(at, type->at), "authorization with type Basic", "use basic_auth with password_file");
    }
    if ((shape == Shape::remote_write || shape == Shape::remote_read) && (block.find("url") == nullptr || block.find("url")->null()) && !walk.document.templated)
        refuse(walk, walk.place(path, block.at), fmt::format("{} without url", prometheus::to_text(shape)), "add `url: https://…`");
    if (shape == Shape::global) timeout_rules(walk, block, path, &block);
    if (shape == Shape::scrape) timeout_rules(walk, block, path, walk.document.kind == prometheus::FileKind::prometheus ? walk.document.root->find("global") : nullptr);
    if (shape == Shape::scrape || shape == Shape::alertmanager) target_rules(walk, block, path);
    if (shape == Shape::relabel) relabel_rules(walk, block, path);
    if (shape == Shape::rule) rule_demands(walk, block, path);
    if (shape == Shape::retention) retention_rules(walk, block, path);
}

void names_once(const Walk& walk, const Node& root, const Path& path, std::string_view list, std::string_view key) {
    const auto* blocks = root.find(list);
    if (blocks == nullptr || walk.document.templated) return;
    const Path above = path / list;
    std::map<std::string_view, std::uint32_t> names;
    for (std::size_t i = 0; i < blocks->items.size(); ++i) {
        const auto* name = blocks->items[i]->entry(key);
        if (name == nullptr || written(*name->value) != Written::literal) continue;
        const auto [first, fresh] = names.emplace(name->value->scalar(), in_file(walk.document, name->at).line);
        const Path block = above[i], at = block / key;
        if (!fresh) refuse(walk, walk.place(at, name->at), fmt::format("this {} is taken by line {}", key, first->second), "give each a name of its own");
    }
}

void top_rules(const Walk& walk, const Node& root, const Path& path) {
    for (const auto& [list, key] : {std::pair("scrape_configs", "job_name"), std::pair("remote_write", "name"), std::pair("remote_read", "name")}) names_once(walk, root, path, list, key);
    const auto& policy = walk.options.policy;
    const auto* global = root.entry("global");
    const auto* log = global == nullptr ? nullptr : global->value->entry("query_log_file");
    const Path above = path / "global", at = above / "query_log_file";
    if (log != nullptr) {
        walk.verdicts.touch(Id::query_log);
        if (log->value->null() || log->value->scalar().empty())
            walk.verdicts.fail(Id::query_log, walk.place(at, log->at), "a file for the query log", "an empty name: queries are not logged", line_with(walk.place(at, log->at), "query_log_file: /var/log/prometheus/query.log"));
        else if (policy != nullptr && !policy->query_log.empty() && log->value->scalar() != policy->query_log)
            walk.verdicts.fail(Id::query_log, walk.place(at, log->at), policy->query_log, "another file", line_with(walk.place(at, log->at), "query_log_file: " + policy->query_log));
        return;
    }
    const bool main = walk.document.path == walk.options.main_file, fragment = !walk.options.main_file.empty() && !main;
    const bool demanded = policy != nullptr && !policy->query_log.empty() && (global != nullptr || root.entry("scrape_configs") != nullptr);
    if (fragment || (!main && !demanded)) return;
    const auto wanted = demanded ? policy->query_log : std::string("/var/log/prometheus/query.log");
    walk.verdicts.fail(Id::query_log, walk.place(global == nullptr ? path : above, global == nullptr ? root.at : global->at), wanted, "no query_log_file: queries are not recorded",
                       fmt::format("add `  query_log_file: {}` below `global:`{}", wanted, global == nullptr ? "" : fmt::format(" (line {})", in_file(walk.document, global->at).line)));
}

void further_documents(const Walk& walk) {
    const auto& all = walk.document.tree.documents;
    const Path root;
    for (std::size_t i = 1; i < all.size(); ++i)
        if (!all[i]->null())
            walk.verdicts.fail(Id::invalid, walk.place(root, all[i]->at), "one document", "a further document, which Prometheus never reads", fmt::format("move what follows line {} into the first document", in_file(walk.document, all[i]->at).line));
}

void not_yaml(Verdicts& verdicts, const Document& document) {
    const auto& problem = *document.problem;
    const Path root;
    const Place place{document, root, problem.at};
    const std::string remedy = document.repaired ? "indent the settings of each list item below its dash; the rest was judged as if they were" : "correct the YAML there or just above";
    verdicts.fail(Id::invalid, place, "YAML", "not YAML: " + problem.message, remedy);
    verdicts.fail(Id::startable, place, "a file that Prometheus accepts", "not YAML: Prometheus refuses to start with it", remedy);
}

}  // namespace promwarden::files
