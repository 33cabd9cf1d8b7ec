// YAML, edited: single values change where the reader found them, every other byte stays. What comes out is read again, and must say what the old text said with just
// these values changed: so whatever a form of YAML was not thought of here, the worst is that an edit is refused.

#include <algorithm>

#include <fmt/format.h>

#include "edit.hpp"

namespace promwarden::yaml {

namespace {

constexpr std::size_t most_text = 4 << 20;

std::unexpected<Error> refuse(const std::string& file, std::string why) { return fail(Code::invalid, "edit", file, std::move(why)); }

Result<Tree> read_one(const std::string& file, std::string_view text, Extents& extents) {
    if (text.size() > most_text) return fail(Code::limit, "edit", file, fmt::format("it is longer than {} MiB", most_text >> 20));
    auto tree = read(text, extents);
    if (!tree) return fail(Code::invalid, "read", file, fmt::format("line {}: {}", tree.error().at.line, tree.error().message));
    if (tree->documents.size() > 1) return fail(Code::invalid, "read", file, "there is more than one document in it");
    return *std::move(tree);
}

// ---- paths ----------------------------------------------------------------------------------------------------------

/// The longest key of the mapping with which the path goes on: a key may have dots in it. null: none.
const Entry* key_in(const Node& mapping, std::string_view path) {
    const Entry* found = nullptr;
    for (const auto& entry : mapping.entries) {
        const bool begins = !entry.key.empty() && path.starts_with(entry.key) &&
                            (path.size() == entry.key.size() || path[entry.key.size()] == '.' || path[entry.key.size()] == '[');
        if (begins && !entry.repeated && (found == nullptr || entry.key.size() > found->key.size())) found = &entry;
    }
    return found;
}

/// "[12]" at its beginning, taken off.
std::optional<std::size_t> take_index(std::string_view& path) {
    std::size_t index = 0, at = 1;
    if (!path.starts_with('[')) return std::nullopt;
    for (; at < path.size() && path[at] >= '0' && path[at] <= '9' && at < 10; ++at)
        index = index * 10 + static_cast<std::size_t>(path[at] - '0');
    if (at == 1 || at == path.size() || path[at] != ']') return std::nullopt;
    path.remove_prefix(at + 1);
    return index;
}

}  // namespace

Result<Way> find_way(const std::string& file, const Node* root, std::string_view path) {
    Way way;
    const auto* node = root;
    for (auto rest = path; !rest.empty();) {
        Step step;
        if (rest.starts_with('[')) {
            const auto index = take_index(rest);
            if (!index || node == nullptr || node->kind != Node::Kind::sequence || *index >= node->items.size())
                return refuse(file, fmt::format("there is no {}", path));
            step = {{}, *index, true};
            node = node->items[*index];
        } else {
            const auto* entry = node == nullptr || node->kind != Node::Kind::mapping ? nullptr : key_in(*node, rest);
            if (entry == nullptr && node != nullptr && node->kind != Node::Kind::mapping && !node->null())
                return refuse(file, fmt::format("line {}: there is no {}", node->at.line, path));
            step.key = entry == nullptr ? std::string(rest.substr(0, rest.find('.'))) : std::string(entry->key);
            if (entry == nullptr && step.key.find('[') != std::string::npos) return refuse(file, fmt::format("there is no {}", path));
            rest.remove_prefix(step.key.size());
            node = entry == nullptr ? nullptr : entry->value;
        }
        if (rest.starts_with('.')) rest.remove_prefix(1);
        way.push_back(std::move(step));
    }
    if (way.empty() || way.front().is_index) return refuse(file, "it is no mapping");
    return way;
}

const Node* node_at(const Node* root, std::string_view path) {
    const auto way = find_way("", root, path);
    const auto* node = root;
    for (const auto& step : way ? *way : Way{}) {
        if (node == nullptr) break;
        node = step.is_index ? node->items[step.index] : node->find(step.key);
    }
    return way ? node : nullptr;
}

std::string to_text(std::span<const Step> way) {
    std::string text;
    for (const auto& step : way) text += step.is_index ? fmt::format("[{}]", step.index) : (text.empty() ? "" : ".") + step.key;
    return text;
}

// ---- what a text says -----------------------------------------------------------------------------------------------

namespace {

/// What a document says, apart from how it is written.
struct Meaning {
    Node::Kind kind = Node::Kind::mapping;
    std::string text, tag;
    bool plain = true;
    bool fresh = false;    // put here by an edit: how it is quoted is free
    bool nothing = false;  // null
    std::vector<Meaning> items;
    std::vector<std::pair<std::string, Meaning>> entries;
};

Meaning meaning_of(const Node& node) {
    Meaning meaning{node.kind, std::string(node.text), std::string(node.tag), node.plain, false, node.null(), {}, {}};
    for (const auto* item : node.items) meaning.items.push_back(meaning_of(*item));
    for (const auto& entry : node.entries) meaning.entries.emplace_back(entry.key, meaning_of(*entry.value));
    return meaning;
}

Meaning fresh_scalar(const std::string& text) { return {Node::Kind::scalar, text, {}, true, true, false, {}, {}}; }
Meaning* find(Meaning& mapping, const std::string& key) {
    const auto found = std::ranges::find(mapping.entries, key, [](const auto& entry) -> const std::string& { return entry.first; });
    return found == mapping.entries.end() ? nullptr : &found->second;
}

/// The edit, made to what the document says.
void apply(Meaning& root, const Edit& edit, std::span<const Step> way) {
    std::vector<Meaning*> above;
    auto* at = &root;
    for (const auto& step : way.first(way.size() - 1)) {
        above.push_back(at);
        if (at->nothing) *at = {};
        if (!step.is_index && find(*at, step.key) == nullptr) at->entries.emplace_back(step.key, Meaning{});
        at = step.is_index ? &at->items[step.index] : find(*at, step.key);
    }
    if (at->nothing) *at = {};
    const auto& last = way.back();
    if (edit.kind == Edit::Kind::remove) {
        auto left = way.size() - 1;
        for (; at->entries.size() == 1 && !above.empty() && !way[left - 1].is_index; --left, above.pop_back()) at = above.back();
        std::erase_if(at->entries, [&](const auto& entry) { return entry.first == way[left].key; });
    } else if (edit.kind == Edit::Kind::replace) {
        for (auto& entry : at->entries)
            if (entry.first == last.key) entry = {edit.name, fresh_scalar(edit.value)};
    } else {
        auto* value = last.is_index ? &at->items[last.index] : find(*at, last.key);
        if (value == nullptr) value = &at->entries.emplace_back(last.key, Meaning{}).second;
        if (edit.kind == Edit::Kind::set) {
            *value = fresh_scalar(edit.value);
        } else {
            if (value->kind != Node::Kind::sequence) *value = {Node::Kind::sequence, {}, {}, true, false, false, {}, {}};
            value->items.push_back(fresh_scalar(edit.value));
        }
    }
}

/// The first place where they differ; nullopt: nowhere.
std::optional<Way> difference(const Meaning& wanted, const Meaning& got, const Way& at = {}) {
    if (wanted.fresh) return got.kind == wanted.kind && got.text == wanted.text && got.tag.empty() ? std::nullopt : std::optional(at);
    if (wanted.kind != got.kind || wanted.text != got.text || wanted.tag != got.tag || wanted.plain != got.plain ||
        wanted.items.size() != got.items.size() || wanted.entries.size() != got.entries.size()) {
        const bool empty = wanted.kind == Node::Kind::mapping && wanted.entries.empty() && got.nothing;
        return empty ? std::nullopt : std::optional(at);
    }
    const auto below = [&](Step step, const Meaning& one, const Meaning& other) {
        auto way = at;
        way.push_back(std::move(step));
        return difference(one, other, way);
    };
    for (std::size_t i = 0; i < wanted.items.size(); ++i)
        if (auto found = below({{}, i, true}, wanted.items[i], got.items[i])) return found;
    std::vector<bool> used(got.entries.size());
    for (std::size_t i = 0; i < wanted.entries.size(); ++i) {
        const auto& [key, value] = wanted.entries[i];
        auto same = i;
        if (used[i] || got.entries[i].first != key)
            for (same = 0; same < used.size() && (used[same] || got.entries[same].first != key); ++same) {
            }
        if (same == used.size()) return at;
        used[same] = true;
        if (auto found = below({key, 0, false}, value, got.entries[same].second)) return found;
    }
    return std::nullopt;
}

}  // namespace

Result<std::string> edit(const std::string& file, std::string_view text, std::span<const Edit> edits) {
    std::string edited(text);
    Meaning wanted;
    bool first = true;
    for (const auto& one : edits) {
        Extents extents, ignored;
        const auto tree = TRY(read_one(file, edited, extents));
        const auto* root = tree.documents.empty() || tree.documents.front()->null() ? nullptr : tree.documents.front();
        if (root != nullptr && root->kind != Node::Kind::mapping) return refuse(file, "it is no mapping");
        if (std::exchange(first, false) && root != nullptr) wanted = meaning_of(*root);
        const auto way = TRY(find_way(file, root, one.path));
        edited = TRY(edit_text(file, std::move(edited), {root, extents}, one, way));
        apply(wanted, one, way);
        const auto after = TRY(read_one(file, edited, ignored));
        const auto got = after.documents.empty() ? Meaning{} : meaning_of(*after.documents.front());
        if (const auto other = difference(wanted, got)) {
            if (to_text(*other) == one.path || other->empty())
                return refuse(file, fmt::format("{} is written in a form that is not edited", one.path));
            return refuse(file, fmt::format("{} cannot be changed alone: {} would change with it, by an alias or a merge key", one.path,
                                            to_text(*other)));
        }
    }
    return edited;
}

}  // namespace promwarden::yaml
