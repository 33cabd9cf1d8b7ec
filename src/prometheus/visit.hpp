// Internal to the room: a visit of every value of a document that the schema knows.
#pragma once

#include <fmt/format.h>

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

/// A name that somebody chose, in a path that is shown: nothing but what an ordinary one is made of.
std::string shown_name(std::string_view name);

/// Calls take(key, node, path) with the value of each key that has no keys of its own.
template <class Take>
class Visit {
public:
    explicit Visit(Take take) : take_(std::move(take)) {}

    void document(const Document& document) {
        if (document.root == nullptr) return;
        switch (document.kind) {
            case FileKind::prometheus:
                return block(*document.root, Shape::top, {});
            case FileKind::web:
                return block(*document.root, Shape::web, {});
            case FileKind::http_client:
                return block(*document.root, Shape::http, {});
            case FileKind::scrape_configs:
                return items(*document.root, Shape::scrape, {});
            default:
                return;
        }
    }

private:
    void block(const yaml::Node& node, Shape shape, const std::string& path) {
        if (node.kind != yaml::Node::Kind::mapping) return;
        for (const auto& entry : node.entries) {
            const auto* key = find_key(shape, entry.key);
            if (key == nullptr || entry.repeated) continue;
            const auto below = path.empty() ? std::string(entry.key) : fmt::format("{}.{}", path, entry.key);
            switch (key->value) {
                case Value::one:
                    block(*entry.value, key->shape, below);
                    break;
                case Value::many:
                    items(*entry.value, key->shape, below);
                    break;
                case Value::named:
                    for (const auto& named : entry.value->entries)
                        block(*named.value, key->shape, fmt::format("{}.{}", below, shown_name(named.key)));
                    break;
                default:
                    take_(*key, *entry.value, below);
                    break;
            }
        }
    }

    void items(const yaml::Node& node, Shape shape, const std::string& path) {
        if (shape == Shape::any || shape == Shape::relabel || shape == Shape::static_config)
            return;  // neither a file nor a secret is named there
        for (std::size_t i = 0; i < node.items.size(); ++i) block(*node.items[i], shape, fmt::format("{}[{}]", path, i));
    }

    Take take_;
};

}  // namespace promwarden::prometheus
