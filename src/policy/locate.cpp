#include <algorithm>

#include "build.hpp"
#include "list.hpp"
#include "merge.hpp"

namespace promwarden {

namespace {

std::optional<Where> locate_item(const Sources& sources, const policy::Value& item, const Cidr& cidr) {
    const auto& named_in = sources.files[item.at.file].path;
    if (const auto parsed = parse_cidr(item.text); parsed && *parsed == cidr) return Where{named_in, item.at.line, item.at.column};
    const auto path = policy::list_path(item.text, named_in);
    if (!path) return std::nullopt;
    for (const auto& file : sources.files) {
        if (file.kind != SourceFile::Kind::list || file.path != *path) continue;
        if (const auto place = policy::place_in_list(*file.text, cidr)) return Where{*path, place->first, place->second};
    }
    return std::nullopt;
}

}  // namespace

std::optional<Where> locate(const Sources& sources, std::string_view group, const Cidr& cidr) {
    policy::Notes notes(sources);
    const auto tree = policy::merged(sources, notes);
    if (!tree) return std::nullopt;
    const auto* firewall = tree->find("firewall");
    const auto* groups = firewall == nullptr ? nullptr : firewall->value.find("sources");
    const auto* entry = groups == nullptr ? nullptr : groups->value.find(group);
    if (entry == nullptr) return std::nullopt;
    for (const auto& item : entry->value.items)
        if (auto where = locate_item(sources, item, cidr)) return where;
    return locate_item(sources, entry->value, cidr);
}

}  // namespace promwarden
