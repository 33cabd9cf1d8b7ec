// Values and combinations of settings that stop Prometheus from starting although every key is known: the table of prometheus/requirements.cpp, applied.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "judge.hpp"
#include "promwarden/flags.hpp"

namespace promwarden::files {

namespace {

using prometheus::Form;

std::vector<std::string_view> split(std::string_view list) {
    std::vector<std::string_view> parts;
    while (!list.empty()) {
        const auto bar = std::min(list.find('|'), list.size());
        parts.push_back(list.substr(0, bar));
        list.remove_prefix(std::min(bar + 1, list.size()));
    }
    return parts;
}

// ---- single values --------------------------------------------------------------------------------------------------

bool is_boolean(const Node& node) {
    constexpr std::string_view words[] = {"y", "Y", "yes", "Yes", "YES", "on",  "On",  "ON",  "true",  "True",  "TRUE",
                                          "n", "N", "no",  "No",  "NO",  "off", "Off", "OFF", "false", "False", "FALSE"};
    return node.plain && std::ranges::find(words, node.text) != std::end(words);
}

bool is_number(const Node& node) {
    auto text = node.text;
    if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
    const auto digit = [](unsigned char c) { return std::isdigit(c) != 0; };
    if (!node.plain || text.empty() ||
        !(digit(static_cast<unsigned char>(text.front())) ||
          (text.front() == '.' && text.size() > 1 && digit(static_cast<unsigned char>(text[1])))))
        return false;
    return std::ranges::all_of(text, [](unsigned char c) {
        return std::isxdigit(c) != 0 || std::string_view("xXoO_.+-").find(static_cast<char>(c)) != std::string_view::npos;
    });
}

/// Whether Go's net/url takes it, as far as people get it wrong.
bool is_url(std::string_view text) {
    if (text.starts_with(':')) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto hex = [&](std::size_t at) { return at < text.size() && std::isxdigit(static_cast<unsigned char>(text[at])) != 0; };
        if (text[i] == '%' && (!hex(i + 1) || !hex(i + 2))) return false;
    }
    const auto url = parse_url(text);
    if (!url.has_scheme) return true;
    auto host = url.host;
    if (host.find_first_of(" <>\"") != std::string_view::npos) return false;
    if (host.starts_with('[')) {
        const auto end = host.find(']');
        if (end == std::string_view::npos) return false;
        host.remove_prefix(end + 1);
    }
    const auto colon = host.rfind(':');
    return colon == std::string_view::npos ||
           std::ranges::all_of(host.substr(colon + 1), [](unsigned char c) { return std::isdigit(c) != 0; });
}

bool is_http_url(std::string_view text, std::string_view key) {
    const auto url = parse_url(text);
    const auto scheme = lower(url.scheme);
    return is_url(text) && url.has_scheme && !url.host.empty() && (key == "server" || scheme == "http" || scheme == "https");
}

/// Whether every "*" is in its last part.
bool is_glob(std::string_view text) {
    const auto star = text.find('*');
    return star == std::string_view::npos || text.find('/', star) == std::string_view::npos;
}

bool is_target_path(std::string_view text) {
    constexpr std::string_view endings[] = {".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"};
    const auto* ending = std::ranges::find_if(endings, [&](std::string_view each) { return text.ends_with(each); });
    return ending != std::end(endings) && is_glob(text.substr(0, text.size() - ending->size()));
}

/// What a scalar had to be and is not; "" where it is fine.
std::string wrong_scalar(const Node& node, const prometheus::Demand& demand) {
    if (node.null()) return {};
    switch (demand.form) {
        case Form::boolean:
            return is_boolean(node) ? "" : "true or false, without quotes";
        case Form::number:
            return is_number(node) ? "" : "a number, without quotes";
        case Form::count:
            return is_number(node) && !node.text.starts_with('-') ? "" : "a number that is not negative, without quotes";
        case Form::size:
            return node.text == "0" || prometheus::parse_flag_size(node.text) ? "" : "a size with its unit, as 10MB";
        case Form::url:
            return is_url(node.text) ? "" : "a URL";
        case Form::http_url:
            return is_http_url(node.text, demand.key) ? "" : "a URL with its scheme and host, as http://host/path";
        case Form::rule_paths:
            return is_glob(node.text) ? "" : "a path whose * are all in its last part";
        case Form::target_paths:
            return is_target_path(node.text) ? "" : "a path that ends with .json, .yml or .yaml and whose * are all in its last part";
        case Form::rooted_paths:
            return node.text.starts_with('/') ? "" : "a path that begins with /";
        default:
            break;
    }
    const auto choices = split(demand.choices);
    if (choices.empty() || node.text.empty() || std::ranges::find(choices, node.text) != choices.end()) return {};
    return fmt::format("one of {}", fmt::join(choices, ", "));
}

bool takes_list(Form form) {
    return form == Form::words || form == Form::rule_paths || form == Form::target_paths || form == Form::rooted_paths;
}

void demand_scalar(const Walk& walk, const Node& node, const Path& path, yaml::Position at, const prometheus::Demand& demand) {
    if (node.kind != Node::Kind::scalar || (written(node) != Written::literal && written(node) != Written::nothing)) return;
    if (const auto wanted = wrong_scalar(node, demand); !wanted.empty())
        refuse(walk, walk.place(path, at), "not " + wanted, fmt::format("line {}: write {}", in_file(walk.document, at).line, wanted));
}

// ---- names ----------------------------------------------------------------------------------------------------------

bool letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_label(std::string_view name) {
    return !name.empty() && letter(name.front()) &&
           std::ranges::all_of(name, [](char c) { return letter(c) || std::isdigit(static_cast<unsigned char>(c)) != 0; });
}
/// A label name in which "$1" and "${name}" stand for what a regular expression found.
bool is_label_template(std::string_view name) {
    std::string filled;
    for (std::size_t i = 0; i < name.size(); ++i) {
        if (name[i] != '$') {
            filled.push_back(name[i]);
            continue;
        }
        const bool braces = i + 1 < name.size() && name[i + 1] == '{';
        auto end = i + 1 + (braces ? 1 : 0);
        const auto first = end;
        while (end < name.size() && (letter(name[end]) || std::isdigit(static_cast<unsigned char>(name[end])) != 0)) ++end;
        if (end == first || (braces && (end >= name.size() || name[end] != '}'))) return false;
        filled.push_back('a');
        i = braces ? end : end - 1;
    }
    return is_label(filled);
}

/// From 3.0 on a label may have any name.
bool narrow_labels(const Walk& walk) { return walk.options.version && *walk.options.version < 300; }

void label_name(const Walk& walk, std::string_view name, const Path& path, yaml::Position at, bool may_be_template) {
    if (!narrow_labels(walk) || name.find(prometheus::filled_later) != std::string_view::npos ||
        (may_be_template ? is_label_template(name) : is_label(name)))
        return;
    refuse(walk, walk.place(path, at), fmt::format("{} is no label name before 3.0", show_key(name)),
           fmt::format("line {}: use letters, digits and underscores", in_file(walk.document, at).line));
}

void relabel_names(const Walk& walk, const Node& rule, const Path& path) {
    if (const auto* labels = rule.find("source_labels"); labels != nullptr) {
        const Path list = path / "source_labels";
        for (std::size_t i = 0; i < labels->items.size(); ++i)
            if (written(*labels->items[i]) == Written::literal)
                label_name(walk, labels->items[i]->scalar(), list[i], labels->items[i]->at, false);
    }
    const auto* action = rule.find("action");
    const auto name = action == nullptr || action->null() ? std::string("replace") : lower(action->scalar());
    const std::string_view key = name == "labelmap" ? "replacement" : "target_label";
    const auto* target = rule.entry(key);
    const Path at = path / key;
    if (target != nullptr && written(*target->value) != Written::nothing && written(*target->value) != Written::filled_later &&
        (name == "replace" || name == "labelmap" || name == "hashmod" || name == "lowercase" || name == "uppercase"))
        label_name(walk, target->value->scalar(), at, target->at, name == "replace" || name == "labelmap");
}

/// Headers that Prometheus sets itself.
void header_names(const Walk& walk, const Node& headers, const Path& path, bool tracing) {
    constexpr std::string_view reserved[] = {"authorization",
                                             "host",
                                             "content-encoding",
                                             "content-length",
                                             "content-type",
                                             "user-agent",
                                             "connection",
                                             "keep-alive",
                                             "proxy-authenticate",
                                             "proxy-authorization",
                                             "www-authenticate",
                                             "accept-encoding",
                                             "x-prometheus-remote-write-version",
                                             "x-prometheus-remote-read-version",
                                             "x-amz-date",
                                             "x-amz-security-token",
                                             "x-amz-content-sha256"};
    for (const auto& entry : headers.entries) {
        const auto name = lower(entry.key);
        if (name == "user-agent" && !narrow_labels(walk)) continue;
        if (tracing ? name != "authorization" : std::ranges::find(reserved, name) == std::end(reserved)) continue;
        const Path at = path / entry.key;
        refuse(walk, walk.place(at, entry.at), fmt::format("{} is not to be set as a header", show_key(entry.key)),
               name == "authorization" && !tracing ? "use authorization with credentials_file, or basic_auth"
                                                   : fmt::format("remove line {}", in_file(walk.document, entry.at).line));
    }
}

/// name → text, or name → list of texts.
void named_texts(const Walk& walk, const Node& node, const Path& path, bool lists) {
    for (const auto& entry : node.entries) {
        if (entry.value->null() || entry.value->templated || (entry.value->kind == Node::Kind::sequence) == lists) continue;
        if (lists && written(*entry.value) != Written::literal) continue;
        const Path at = path / entry.key;
        refuse(walk, walk.place(at, entry.at), lists ? "not a list" : "not one text",
               lists ? fmt::format("line {}: write a list: [value]", in_file(walk.document, entry.at).line)
                     : fmt::format("line {}: write one value", in_file(walk.document, entry.at).line));
    }
}

bool unknown_yet(const Walk& walk) { return walk.document.templated || walk.document.repaired; }

std::vector<std::string_view> present(const Node& block, std::string_view keys) {
    auto found = split(keys);
    std::erase_if(found, [&](std::string_view key) { return !given(block, key); });
    return found;
}

}  // namespace

bool given(const Node& block, std::string_view key) {
    const auto* value = block.find(key);
    if (value == nullptr || value->null()) return false;
    if (value->kind == Node::Kind::sequence) return !value->items.empty();
    return value->kind == Node::Kind::mapping || !value->text.empty() || value->templated;
}

void value_demands(const Walk& walk, const Entry& entry, const Key& key, const Path& path) {
    using V = prometheus::Value;
    const auto& node = *entry.value;
    if (unknown_yet(walk) || node.null() || node.templated) return;
    if ((key.value == V::shown || key.value == V::labels || key.value == V::hashes) && node.kind == Node::Kind::sequence)
        return refuse(walk, walk.place(path, entry.at), "not names with their values",
                      fmt::format("line {}: write `name: value` below it", in_file(walk.document, entry.at).line));
    if (key.value == V::shown && key.name != "claims") named_texts(walk, node, path, key.name == "params");
    if (key.value == V::labels) {
        named_texts(walk, node, path, false);
        for (const auto& label : node.entries)
            if (label.key != "__name__" && key.name != "annotations" && key.name != "node_meta")
                label_name(walk, label.key, path / label.key, label.at, false);
    }
    const auto* demand = key.demand;
    if (demand == nullptr) return;
    const bool list = takes_list(demand->form);
    if (node.kind == Node::Kind::mapping || (!list && node.kind == Node::Kind::sequence))
        return refuse(walk, walk.place(path, entry.at), list ? "not a list" : "not one value",
                      fmt::format("line {}: write {}", in_file(walk.document, entry.at).line, list ? "a list: [value]" : "one value"));
    if (list && node.kind == Node::Kind::scalar && demand->form == Form::words && written(node) == Written::literal)
        return refuse(walk, walk.place(path, entry.at), "not a list",
                      fmt::format("line {}: write a list: [value]", in_file(walk.document, entry.at).line));
    if (!list) return demand_scalar(walk, node, path, entry.at, *demand);
    for (std::size_t i = 0; i < node.items.size(); ++i) demand_scalar(walk, *node.items[i], path[i], node.items[i]->at, *demand);
}

void block_demands(const Walk& walk, const Node& block, Shape shape, const Path& path) {
    const bool http = prometheus::find_key(shape, "follow_redirects") != nullptr;
    for (const auto& exclusion : prometheus::all_exclusions()) {
        if (exclusion.in != shape && !(exclusion.in == Shape::http && http)) continue;
        const auto both = present(block, exclusion.keys);
        if (both.size() < 2) continue;
        const auto* second = block.entry(both[1]);
        const Path at = path / both[1];
        refuse(walk, walk.place(at, second->at), fmt::format("both {} and {}", both[0], both[1]),
               fmt::format("keep one of them (line {})", in_file(walk.document, second->at).line));
    }
    if (unknown_yet(walk)) return;
    for (const auto& need : prometheus::all_needs()) {
        if (need.in != shape || !present(block, need.keys).empty() || (!need.when.empty() && present(block, need.when).empty()) ||
            !present(block, need.unless).empty())
            continue;
        const auto keys = split(need.keys);
        refuse(walk, walk.place(path, block.at), fmt::format("{} without {}", prometheus::to_text(shape), fmt::join(keys, " or ")),
               fmt::format("add `{}: …`", keys.size() > 1 ? keys[1] : keys[0]));
    }
    if (shape == Shape::relabel) relabel_names(walk, block, path);
    if (shape == Shape::remote_write || shape == Shape::remote_read || shape == Shape::tracing)
        if (const auto* headers = block.find("headers"); headers != nullptr)
            header_names(walk, *headers, path / "headers", shape == Shape::tracing);
    if (const auto* filters = shape == Shape::ec2_sd ? block.find("filters") : nullptr; filters != nullptr) {
        const Path list = path / "filters";
        for (std::size_t i = 0; i < filters->items.size(); ++i)
            if (!given(*filters->items[i], "values"))
                refuse(walk, walk.place(list[i], filters->items[i]->at), "a filter without values", "add `values: […]`");
    }
    if (shape == Shape::dns_sd && given(block, "type") && !given(block, "port")) {
        const auto* type = block.entry("type");
        const Path at = path / "type";
        if (type->value->scalar() != "SRV" && type->value->scalar() != "srv")
            refuse(walk, walk.place(at, type->at), "records of this type without port", "add `port: …`");
    }
}

}  // namespace promwarden::files
