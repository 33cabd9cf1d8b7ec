#include "merge.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "schema.hpp"

namespace promwarden::policy {

namespace {

bool is_blocks(const Value& value) {
    return value.kind == Value::Kind::array && !value.items.empty() && std::ranges::all_of(value.items, [](const Value& item) { return item.kind == Value::Kind::table; });
}

void join(Value& into, Value&& from, const std::string& above, Notes& notes) {
    for (auto& entry : from.entries) {
        const auto path = above.empty() ? key_text(entry.key) : fmt::format("{}.{}", above, key_text(entry.key));
        const auto known = std::ranges::find(into.entries, entry.key, &Entry::key);
        if (known == into.entries.end()) {
            into.entries.push_back(std::move(entry));
        } else if (known->value.kind == Value::Kind::table && entry.value.kind == Value::Kind::table) {
            join(known->value, std::move(entry.value), path, notes);
        } else if (is_blocks(known->value) && is_blocks(entry.value)) {
            std::ranges::move(entry.value.items, std::back_inserter(known->value.items));
        } else if (path != "schema") {  // each file may say which format it has
            notes.add(entry.at, fmt::format("'{}' is set twice", path), {}, known->at);
        }
    }
}

/// Every file's `schema` is judged, not only the one that survives the join.
void check_schema(const Value& tree, Notes& notes) {
    const auto* entry = tree.find("schema");
    const bool right = entry == nullptr || (entry->value.kind == Value::Kind::number && entry->value.number == 1);
    if (!right) notes.add(entry->value.at, "'schema' must be 1", "this version reads schema 1 only");
}

}  // namespace

std::optional<Value> merged(const Sources& sources, Notes& notes) {
    Value all;
    all.at = {0, 0, 0};
    bool main_file = true, readable = true;
    for (std::uint32_t file = 0; file < sources.files.size(); ++file) {
        const auto& source = sources.files[file];
        if (source.kind != SourceFile::Kind::policy) continue;
        auto tree = read_toml(*source.text, file);
        if (!tree) {
            notes.add(tree.error().at, tree.error().message, {}, tree.error().also);
            readable = false;
        } else {
            check_schema(*tree, notes);
            if (main_file && tree->find("schema") == nullptr) notes.add({file, 0, 0}, "the policy needs 'schema'", "write schema = 1 on its first line");
            join(all, std::move(*tree), "", notes);
        }
        main_file = false;
    }
    if (!readable) return std::nullopt;
    return all;
}

}  // namespace promwarden::policy
