// One visit of every key of a document, by the schema: what a row of the schema says about a key decides which functions look at its value.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

constexpr std::size_t most_findings = 1000;

void append(const Path& path, std::string& text) {
    if (path.parent == nullptr) return;
    append(*path.parent, text);
    if (path.is_index) {
        text += fmt::format("[{}]", path.index);
    } else {
        if (!text.empty()) text.push_back('.');
        text += show_key(path.key);
    }
}

/// Whether a variable in it is somebody's syntax and not a mistake: capture groups, regular expressions, and the labels that Prometheus does expand.
bool expanded(Shape shape, std::string_view key) {
    if (shape == Shape::global) return key == "external_labels";
    if (shape == Shape::relabel) return key == "replacement" || key == "regex" || key == "target_label" || key == "separator";
    return shape == Shape::rule || shape == Shape::rule_group;
}

}  // namespace

std::string Path::text() const {
    std::string text;
    append(*this, text);
    return text;
}

void Verdicts::fail(Id id, const Place& place, std::string expected, std::string observed, std::string remedy) {
    auto& bin = of(id);
    bin.touched = true;
    if (bin.findings.size() >= most_findings) {
        ++bin.more;
        return;
    }
    const auto at = in_file(place.document, place.at);
    bin.findings.push_back({place.document.path, std::move(expected), std::move(observed), Location{place.document.path, at.line, at.column, place.path.text()},
                            Evidence::config, {false, std::move(remedy)}});
}

void Verdicts::undecided(Id id, const Place& place, std::string_view why) {
    auto& bin = of(id);
    bin.touched = true;
    if (bin.undecided.size() < 20) bin.undecided.push_back(fmt::format("{}:{}: {}: {}", place.document.path, in_file(place.document, place.at).line, place.path.text(), why));
}

bool Verdicts::compiles(std::string_view expression) {
    const auto harmless = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_.:;,|/-@ ").find(c) != std::string_view::npos; };
    if (std::ranges::all_of(expression, harmless)) return true;
    const auto [entry, fresh] = compiled_.try_emplace(expression, true);
    if (fresh) entry->second = prometheus::matches(expression, {}).has_value();
    return entry->second;
}

void Verdicts::undecided(Id id, const std::string& where, std::string_view why) {
    auto& bin = of(id);
    bin.touched = true;
    if (bin.undecided.size() < 20) bin.undecided.push_back(fmt::format("{}: {}", where, why));
}

void variables(const Walk& walk, const Node& node, const Path& path, yaml::Position key_at) {
    if (node.kind == Node::Kind::sequence) {
        for (std::size_t i = 0; i < node.items.size(); ++i) variables(walk, *node.items[i], path[i], node.items[i]->at);
    } else if (node.kind == Node::Kind::mapping) {
        for (const auto& entry : node.entries) variables(walk, *entry.value, path / entry.key, entry.at);
    } else if (const auto name = variable_in(node.text); name.empty()) {
    } else if (walk.document.templated || prometheus::is_template_name(walk.document.path)) {
        walk.verdicts.undecided(Id::dead_variables, walk.place(path, node.at), fmt::format("{} is for whatever fills this template in", name));
    } else {
        walk.verdicts.fail(Id::dead_variables, walk.place(path, node.at), "a value: Prometheus expands variables in external_labels only",
                           fmt::format("{}, which is sent and used as it is written", name),
                           fmt::format("line {}: write the value, name a *_file where there is such a key, or fill the file in before Prometheus reads it", in_file(walk.document, key_at).line));
    }
}

void Walk::block(const Node& node, Shape shape, const Path& path, const Client& outer) const {
    if (node.kind != Node::Kind::mapping) return;
    const Client client = client_of(*this, node, shape, path, outer);
    block_rules(*this, node, shape, path);
    if (shape == Shape::scrape) job(*this, node, path);
    if (shape == Shape::rule) rule(*this, node, path);
    if (shape == Shape::tls) tls_block(*this, node, path, client);
    for (const auto& entry : node.entries) {
        const Path below = path / entry.key;
        if (entry.repeated) repeated_key(*this, entry, below);
        const auto* key = prometheus::find_key(shape, entry.key);
        if (key == nullptr) {
            if (!entry.repeated) unknown_key(*this, node, entry, shape, below);
            key = shape == Shape::any ? nullptr : prometheus::find_home(entry.key);  // a secret in the wrong place is still one
        } else {
            known_key(*this, entry, *key, below);
        }
        if (key == nullptr) {
            variables(*this, *entry.value, below, entry.at);
            continue;
        }
        if (!expanded(key->in, entry.key) && key->value != prometheus::Value::one && key->value != prometheus::Value::many && key->value != prometheus::Value::named)
            variables(*this, *entry.value, below, entry.at);
        value(entry, *key, below, client);
    }
}

void Walk::value(const Entry& entry, const Key& key, const Path& path, const Client& client) const {
    using V = prometheus::Value;
    const auto& node = *entry.value;
    switch (key.value) {
        case V::secret: secret(*this, node, key, path, entry.at); break;
        case V::secrets:
            for (std::size_t i = 0; i < node.items.size(); ++i) secret(*this, *node.items[i], key, path[i], node.items[i]->at);
            break;
        case V::named_secrets:
            for (const auto& named : node.entries)
                for (std::size_t i = 0; i < named.value->items.size(); ++i) secret(*this, *named.value->items[i], key, (path / named.key)[i], named.value->items[i]->at);
            break;
        case V::shown:
            for (const auto& named : node.entries) shown(*this, *named.value, path / named.key, named.key);
            break;
        case V::shown_list: shown(*this, node, path, path.parent->key); break;
        case V::peer:
        case V::peers:
        case V::proxy: url(*this, node, path); break;
        case V::one:
        case V::many:
        case V::named: children(node, key, path, client); break;
        default: break;
    }
}

void Walk::children(const Node& node, const Key& key, const Path& path, const Client& client) const {
    using V = prometheus::Value;
    const auto child = [&](const Node& below, const Path& at) {
        if (key.shape == Shape::any) variables(*this, below, at, below.at);
        else block(below, key.shape, at, client);
    };
    if (key.value == V::one) return child(node, path);
    if (key.value == V::named) {
        for (const auto& named : node.entries) child(*named.value, path / named.key);
        return;
    }
    if (node.kind == Node::Kind::mapping) return child(node, path);  // a list that lost its dashes
    if (key.shape == Shape::relabel) relabelling(*this, node, key.name, path);
    for (std::size_t i = 0; i < node.items.size(); ++i) child(*node.items[i], path[i]);
}

}  // namespace promwarden::files
