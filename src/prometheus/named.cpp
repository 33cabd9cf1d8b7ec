// The files that a document names: every value of a key that the schema knows to be one.

#include <algorithm>

#include "visit.hpp"

namespace promwarden::prometheus {

namespace {

constexpr std::size_t most_names = 10'000;

void name(const Document& document, const yaml::Node& node, const Key& key, const std::string& path, std::vector<NamedPath>& names) {
    if (node.kind == yaml::Node::Kind::sequence) {
        for (std::size_t i = 0; i < node.items.size(); ++i) name(document, *node.items[i], key, fmt::format("{}[{}]", path, i), names);
        return;
    }
    if (node.kind != yaml::Node::Kind::scalar || node.templated || node.null() || node.text.empty() || names.size() >= most_names) return;
    names.push_back({std::string(node.text), &key, in_file(document, node.at), path});
}

}  // namespace

std::string shown_name(std::string_view name) {
    const bool ordinary = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '.';
    });
    return ordinary ? std::string(name) : "…";
}

std::vector<NamedPath> named_files(const Document& document) {
    std::vector<NamedPath> names;
    Visit([&](const Key& key, const yaml::Node& node, const std::string& path) {
        if (key.value == Value::file || key.value == Value::output) name(document, node, key, path, names);
    }).document(document);
    return names;
}

}  // namespace promwarden::prometheus
