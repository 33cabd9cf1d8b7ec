// What a scrape configuration does with labels: what it drops, what it lets targets claim, what it asks another Prometheus for.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

std::string joined(const std::vector<std::string_view>& words) {
    std::string text;
    for (const auto word : words) text += (text.empty() ? "" : ", ") + std::string(word);
    return text;
}

constexpr std::string_view good_redaction = "(?i).*(password|passwd|secret|token|api_?key|credential).*";

/// A labeldrop that means to hide secrets: does it catch the names that secrets really have?
void judge_redaction(const Walk& walk, const Entry& regex, const Path& path) {
    constexpr std::string_view words[] = {"password", "passwd", "secret", "token", "api_key", "apikey", "credential", "credentials"};
    const auto caught = prometheus::matches(regex.value->scalar(), words);
    if (!caught || std::ranges::count(*caught, true) < 2) return;
    walk.verdicts.touch(Id::redaction);
    std::vector<std::string> variants;
    for (std::size_t i = 0; i < std::size(words); ++i) {
        if (!(*caught)[i]) continue;
        auto capital = std::string(words[i]);
        capital[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(capital[0])));
        variants.push_back("db_" + std::string(words[i]));
        variants.push_back(std::move(capital));
    }
    const std::vector<std::string_view> names(variants.begin(), variants.end());
    const auto kept_answers = prometheus::matches(regex.value->scalar(), names);
    std::vector<std::string_view> kept;
    for (std::size_t i = 0; kept_answers && i < names.size() && kept.size() < 4; ++i)
        if (!(*kept_answers)[i]) kept.push_back(names[i]);
    if (kept.empty()) return;
    walk.verdicts.fail(Id::redaction, walk.place(path, regex.at), "a regex that matches the whole name however it is written: it is anchored at both ends and case-sensitive",
                       "labels such as " + joined(kept) + " are kept", line_with(walk.place(path, regex.at), fmt::format("regex: '{}'", good_redaction)) + "; label values are never redacted: fix the exporter");
}

/// labelkeep and labeldrop on samples: labels that tell series apart must survive.
void judge_identity(const Walk& walk, const Node& rule, bool keeps, std::string_view list, const Path& path) {
    if (list != "metric_relabel_configs" && list != "write_relabel_configs") return;
    constexpr std::string_view names[] = {"__name__", "job", "instance", "le", "quantile"};
    const auto* regex = rule.entry("regex");
    const auto expression = regex == nullptr ? std::string_view("(.*)") : regex->value->scalar();
    if (regex != nullptr && written(*regex->value) == Written::filled_later) return walk.verdicts.undecided(Id::identity, walk.place(path, rule.at), "its regex is filled in later");
    const auto answers = prometheus::matches(expression, names);
    if (!answers) return;
    walk.verdicts.touch(Id::identity);
    std::vector<std::string_view> lost;
    for (std::size_t i = 0; i < std::size(names); ++i)
        if ((*answers)[i] != keeps) lost.push_back(names[i]);
    if (lost.empty()) return;
    const Path at = path / "regex";
    const Place place = regex == nullptr ? walk.place(path, rule.at) : walk.place(at, regex->at);
    walk.verdicts.fail(Id::identity, place, "__name__, job, instance, le, quantile and every label that tells series apart survive",
                       fmt::format("{} removes {}: different series become one, without an error", keeps ? "labelkeep" : "labeldrop", joined(lost)),
                       keeps ? "remove this rule, and drop single labels by name with `action: labeldrop`" : "take these labels out of the regex");
}

bool mentions(const Node& node, std::string_view word, int depth = 6) {
    if (node.kind == Node::Kind::scalar) return lower(node.text).find(word) != std::string::npos;
    if (depth == 0) return false;
    return std::ranges::any_of(node.items, [&](const Node* item) { return mentions(*item, word, depth - 1); }) ||
           std::ranges::any_of(node.entries, [&](const Entry& entry) { return mentions(*entry.value, word, depth - 1); });
}

/// Whether a regular expression of a selector lets everything through.
bool matches_everything(std::string_view expression) {
    constexpr std::string_view probes[] = {"a", "up", "zz_9", "Node_exporter:x", "_q", "prometheus", "W0"};
    const auto answers = prometheus::matches(expression, probes);
    return answers && std::ranges::count(*answers, true) == static_cast<std::ptrdiff_t>(std::size(probes));
}

/// One "label operator value" of a selector: does it narrow?
bool narrows(std::string_view matcher) {
    const auto op = matcher.find_first_of("=!");
    if (op == std::string_view::npos) return false;
    const bool negative = matcher[op] == '!';
    const bool regex = matcher.substr(op).starts_with("=~") || matcher.substr(op).starts_with("!~");
    auto value = matcher.substr(op + (negative || regex ? 2 : 1));
    while (!value.empty() && std::string_view(" \"'`").find(value.front()) != std::string_view::npos) value.remove_prefix(1);
    while (!value.empty() && std::string_view(" \"'`,").find(value.back()) != std::string_view::npos) value.remove_suffix(1);
    if (negative) return false;  // everything but one thing is still everything
    if (value.empty()) return false;
    if (!regex) return true;
    constexpr std::string_view nothing[] = {""};
    const auto empty = prometheus::matches(value, nothing);
    return !matches_everything(value) && !(empty && empty->front());
}

/// "{job="a", x=~"b"}" or "name{…}": at least one matcher narrows.
bool narrow_selector(std::string_view selector) {
    const auto open = selector.find('{');
    const auto name = selector.substr(0, open);
    if (name.find_first_not_of(" \t\n") != std::string_view::npos) return true;
    if (open == std::string_view::npos) return false;
    auto body = selector.substr(open + 1);
    std::size_t first = 0;
    char quote = 0;
    for (std::size_t i = 0; i <= body.size(); ++i) {
        const char c = i < body.size() ? body[i] : '}';
        if (quote != 0) {
            if (c == '\\') ++i;
            else if (c == quote) quote = 0;
        } else if (c == '"' || c == '\'' || c == '`') {
            quote = c;
        } else if (c == ',' || c == '}') {
            if (narrows(body.substr(first, i - first))) return true;
            first = i + 1;
            if (c == '}') return false;
        }
    }
    return false;
}

void federation(const Walk& walk, const Node& node, const Path& path) {
    const auto* metrics_path = node.entry("metrics_path");
    if (metrics_path == nullptr || !metrics_path->value->scalar().ends_with("/federate")) return;
    walk.verdicts.touch(Id::federation);
    const Path params = path / "params", match = params / "match[]";
    const auto* values = node.find("params") == nullptr ? nullptr : node.find("params")->find("match[]");
    if (values == nullptr || (values->kind == Node::Kind::sequence && values->items.empty())) {
        const Path at = path / "metrics_path";
        return walk.verdicts.fail(Id::federation, walk.place(at, metrics_path->at), "params.match[] with selectors that name what is wanted", "no match[]", "add `params: {'match[]': ['{job=\"…\"}']}` to this job");
    }
    for (std::size_t i = 0; i < values->items.size(); ++i) {
        const auto& selector = *values->items[i];
        if (const auto how = written(selector); how == Written::filled_later || how == Written::variable) {
            walk.verdicts.undecided(Id::federation, walk.place(match[i], selector.at), "the selector is filled in later");
        } else if (!narrow_selector(selector.scalar())) {
            walk.verdicts.fail(Id::federation, walk.place(match[i], selector.at), "a selector with at least one matcher that narrows", "a selector that every series matches",
                               fmt::format("line {}: name the jobs or metrics that are wanted: '{{job=~\"a|b\"}}'", in_file(walk.document, selector.at).line));
        }
    }
}

void honor_labels(const Walk& walk, const Node& node, const Path& path) {
    const auto* honor = node.entry("honor_labels");
    if (honor == nullptr) return;
    walk.verdicts.touch(Id::honor_labels);
    if (!is_true(honor->value) || mentions(node, "pushgateway") || mentions(node, "push-gateway") || mentions(node, "/federate") || mentions(node, ":9091")) return;
    const Path at = path / "honor_labels";
    walk.verdicts.fail(Id::honor_labels, walk.place(at, honor->at), "honor_labels only for federation and the Pushgateway", "true: this job's targets may claim any job and instance",
                       line_with(walk.place(at, honor->at), "honor_labels: false"));
}

void docker_socket(const Walk& walk, const Node& node, const Path& path) {
    for (const std::string_view key : {"docker_sd_configs", "dockerswarm_sd_configs"}) {
        const auto* list = node.find(key);
        if (list == nullptr) continue;
        const Path at = path / key;
        for (std::size_t i = 0; i < list->items.size(); ++i) {
            const auto* host = list->items[i]->entry("host");
            if (host == nullptr) continue;
            const Path item = at[i], where = item / "host";
            const bool socket = host->value->scalar().starts_with("unix:");
            walk.verdicts.fail(Id::docker_socket, walk.place(where, host->at), "no access to the Docker API, which is root on the host",
                               socket ? "discovery over Docker's socket" : "discovery over Docker's API", "use file_sd_configs, or a proxy that lets only GET /containers/json and /networks through");
        }
    }
}

}  // namespace

void relabelling(const Walk& walk, const Node& rules, std::string_view key, const Path& path) {
    for (std::size_t i = 0; i < rules.items.size(); ++i) {
        const auto& rule = *rules.items[i];
        const auto* action = rule.find("action");
        const auto name = action == nullptr ? std::string("replace") : lower(action->scalar());
        const Path at = path[i];
        if (name == "labeldrop" || name == "labelkeep") judge_identity(walk, rule, name == "labelkeep", key, at);
        if (const auto* regex = rule.entry("regex"); regex != nullptr && name == "labeldrop") judge_redaction(walk, *regex, at / "regex");
        if (const auto* target = rule.find("target_label"); target != nullptr && name == "replace" && target->scalar().starts_with("__param_"))
            if (const auto* replacement = rule.find("replacement"); replacement != nullptr && replacement->scalar().find('$') == std::string_view::npos)
                shown(walk, *replacement, at / "replacement", target->scalar().substr(8));
    }
}

namespace {

/// How a name on the policy's list may be written in a label.
std::vector<std::string> spellings(const std::string& word) {
    std::vector<std::string> all{word, "db_" + word, word + "_hash"};
    auto capital = word;
    capital[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(capital[0])));
    all.push_back(std::move(capital));
    return all;
}

/// What the policy wants dropped, a job must drop: before its samples are stored, under every spelling.
void demanded_redaction(const Walk& walk, const Node& node, const Path& path) {
    if (walk.options.policy == nullptr || walk.options.policy->redact_labels.empty()) return;
    const auto& words = walk.options.policy->redact_labels;
    std::vector<std::string> wanted;
    for (const auto& word : words)
        if (!word.empty()) std::ranges::move(spellings(word), std::back_inserter(wanted));
    const std::vector<std::string_view> names(wanted.begin(), wanted.end());
    std::vector<bool> dropped(names.size());
    const auto* list = node.entry("metric_relabel_configs");
    for (const auto* rule : list == nullptr ? std::span<const Node* const>{} : list->value->items) {
        const auto *action = rule->find("action"), *regex = rule->find("regex");
        if (action == nullptr || regex == nullptr || lower(action->scalar()) != "labeldrop") continue;
        if (written(*regex) == Written::filled_later) return walk.verdicts.undecided(Id::redaction, walk.place(path, rule->at), "its regex is filled in later");
        const auto answers = prometheus::matches(regex->scalar(), names);
        for (std::size_t i = 0; answers && i < names.size(); ++i) dropped[i] = dropped[i] || (*answers)[i];
    }
    walk.verdicts.touch(Id::redaction);
    std::vector<std::string_view> kept;
    for (std::size_t i = 0; i < names.size() && kept.size() < 4; ++i)
        if (!dropped[i]) kept.push_back(names[i]);
    if (kept.empty()) return;
    std::string pattern;
    for (const auto& word : words) pattern += (pattern.empty() ? "" : "|") + word;
    const auto edit = fmt::format("- {{action: labeldrop, regex: '(?i).*({}).*'}}", pattern);
    const Path at = path / "metric_relabel_configs";
    const auto place = list == nullptr ? walk.place(path, node.at) : walk.place(at, list->at);
    walk.verdicts.fail(Id::redaction, place, "labels that the policy names are dropped before they are stored", "labels such as " + joined(kept) + " are kept",
                       fmt::format("add below `metric_relabel_configs:`{}: {}", list == nullptr ? " of this job" : fmt::format(" (line {})", in_file(walk.document, list->at).line), edit));
}

}  // namespace

void job(const Walk& walk, const Node& node, const Path& path) {
    demanded_redaction(walk, node, path);
    federation(walk, node, path);
    honor_labels(walk, node, path);
    docker_socket(walk, node, path);
}

}  // namespace promwarden::files
