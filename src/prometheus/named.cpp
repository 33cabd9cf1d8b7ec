// The files that a document names: every value of a key that the schema knows to be one.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

namespace {

constexpr std::size_t most_names = 10'000;

/// A name that somebody chose, in a path that is shown: nothing but what an ordinary one is made of.
std::string shown(std::string_view name) {
    const bool ordinary = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '.';
    });
    return ordinary ? std::string(name) : "…";
}

class Names {
public:
    explicit Names(const Document& document) : document_(document) {}

    void block(const yaml::Node& node, Shape shape, const std::string& path) {
        if (node.kind != yaml::Node::Kind::mapping) return;
        for (const auto& entry : node.entries) {
            const auto* key = find_key(shape, entry.key);
            if (key == nullptr || entry.repeated) continue;
            const auto below = path.empty() ? std::string(entry.key) : fmt::format("{}.{}", path, entry.key);
            switch (key->value) {
                case Value::file:
                case Value::output: name(*entry.value, *key, below); break;
                case Value::one: block(*entry.value, key->shape, below); break;
                case Value::many: items(*entry.value, key->shape, below); break;
                case Value::named:
                    for (const auto& named : entry.value->entries) block(*named.value, key->shape, fmt::format("{}.{}", below, shown(named.key)));
                    break;
                default: break;
            }
        }
    }

    void items(const yaml::Node& node, Shape shape, const std::string& path) {
        if (shape == Shape::any || shape == Shape::relabel || shape == Shape::static_config) return;  // no file is named there
        for (std::size_t i = 0; i < node.items.size(); ++i) block(*node.items[i], shape, fmt::format("{}[{}]", path, i));
    }

    std::vector<NamedPath> taken() && { return std::move(names_); }

private:
    void name(const yaml::Node& node, const Key& key, const std::string& path) {
        if (node.kind == yaml::Node::Kind::sequence) {
            for (std::size_t i = 0; i < node.items.size(); ++i) name(*node.items[i], key, fmt::format("{}[{}]", path, i));
            return;
        }
        if (node.kind != yaml::Node::Kind::scalar || node.templated || node.null() || node.text.empty() || names_.size() >= most_names) return;
        names_.push_back({std::string(node.text), &key, in_file(document_, node.at), path});
    }

    const Document& document_;
    std::vector<NamedPath> names_;
};

}  // namespace

std::vector<NamedPath> named_files(const Document& document) {
    if (document.root == nullptr) return {};
    Names names(document);
    switch (document.kind) {
        case FileKind::prometheus: names.block(*document.root, Shape::top, {}); break;
        case FileKind::web: names.block(*document.root, Shape::web, {}); break;
        case FileKind::http_client: names.block(*document.root, Shape::http, {}); break;
        case FileKind::scrape_configs: names.items(*document.root, Shape::scrape, {}); break;
        default: break;
    }
    return std::move(names).taken();
}

}  // namespace promwarden::prometheus
