// The values of a document that only their reader should see.

#include "promwarden/values.hpp"

#include <algorithm>

#include "visit.hpp"

namespace promwarden::prometheus {

namespace {

bool may_hold_one(const Key& key, std::string_view written) {
    using enum Value;
    switch (key.value) {
        case secret:
        case secrets:
        case named_secrets:
        case hashes:
        case shown:
        case shown_list:
            return true;
        case peer:
        case peers:
        case proxy:
            return written.contains('@') || written.contains('?');
        default:
            return false;
    }
}

void take(const Key& key, const yaml::Node& node, const std::string& path, std::vector<SecretValue>& values) {
    for (std::size_t i = 0; i < node.items.size(); ++i) take(key, *node.items[i], fmt::format("{}[{}]", path, i), values);
    for (const auto& entry : node.entries) take(key, *entry.value, fmt::format("{}.{}", path, shown_name(entry.key)), values);
    if (node.kind == yaml::Node::Kind::scalar && !node.null() && may_hold_one(key, node.text)) values.push_back({path, &key, &node});
}

}  // namespace

std::vector<SecretValue> secret_values(const Document& document) {
    std::vector<SecretValue> values;
    Visit([&](const Key& key, const yaml::Node& node, const std::string& path) { take(key, node, path, values); }).document(document);
    return values;
}

const Key* file_twin(const Key& key, std::optional<Version> version) {
    if (key.value != Value::secret || key.twin.empty()) return nullptr;
    const auto* twin = find_key(key.in, key.twin);
    if (twin == nullptr || twin->value != Value::file) return nullptr;
    const auto installed = version.value_or(oldest_version);
    return twin->since <= installed && (twin->until == 0 || installed < twin->until) ? twin : nullptr;
}

}  // namespace promwarden::prometheus
