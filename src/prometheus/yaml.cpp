// Text → nodes. The only file that knows libyaml, the library that Go's yaml package was ported from: what one accepts, the other does.

#include <algorithm>
#include <cstring>
#include <memory_resource>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <yaml.h>

#include "promwarden/edit.hpp"

namespace promwarden::yaml {

namespace {

constexpr std::size_t most_text = 64 << 20;
constexpr std::size_t most_nodes = 8'000'000;
constexpr std::size_t most_levels = 200;
constexpr std::uint64_t most_repeated = 2'000'000;

Position position(const yaml_mark_t& mark) {
    return {static_cast<std::uint32_t>(mark.line + 1), static_cast<std::uint32_t>(mark.column + 1)};
}

/// Of an offset in bytes: where a text stops being one, there are no characters to count.
Position place_in(std::string_view text, std::size_t offset) {
    text = text.substr(0, offset);
    const auto last = text.rfind('\n');
    return {static_cast<std::uint32_t>(std::ranges::count(text, '\n') + 1), static_cast<std::uint32_t>(last == std::string_view::npos ? text.size() + 1 : text.size() - last)};
}

std::string_view view(const yaml_char_t* text) { return text == nullptr ? std::string_view{} : reinterpret_cast<const char*>(text); }

/// Builds the tree from events. Children wait in one shared stack until their parent is complete, then move into the arena.
class Builder {
public:
    explicit Builder(Extents* extents) : extents_(extents) {}
    std::expected<Tree, Problem> build(std::string_view text);

private:
    struct Open {
        Node* node;
        std::size_t first;  // of its children in pending_ or entries_
        bool has_key = false;
        std::string_view key = {};
        Position key_at = {};
    };

    /// False: problem_ says why.
    bool take(const yaml_event_t& event);
    bool scalar(const yaml_event_t& event);
    bool start(Node::Kind kind, const yaml_char_t* anchor, const yaml_char_t* tag, Position at, bool flow);
    bool finish(Position end);
    bool alias(const yaml_event_t& event);
    bool add(const Node* node, Position at);
    bool close_mapping(Open& open);
    bool merge(const Node& from, std::unordered_set<std::string_view>& seen, Position at);
    bool refuse(Position at, std::string message, bool limit = true);
    Node* make(Node::Kind kind, Position at, const yaml_char_t* anchor, const yaml_char_t* tag);
    std::string_view keep(std::string_view text);
    template <class T>
    std::span<const T> move_up(std::vector<T>& stack, std::size_t first);

    std::shared_ptr<std::pmr::monotonic_buffer_resource> arena_ = std::make_shared<std::pmr::monotonic_buffer_resource>(1 << 16);
    std::vector<const Node*> pending_;
    std::vector<Entry> entries_;
    std::vector<Open> open_;
    std::unordered_map<std::string, const Node*> anchors_;
    std::unordered_set<const Node*> unfinished_;  // anchored and still open: an alias to one of them would be a loop
    Tree tree_;
    std::size_t nodes_ = 0;
    std::size_t merged_ = 0;
    std::uint64_t weight_ = 0;
    Problem problem_;
    Extents* extents_;  // null: nobody asked
};

bool Builder::refuse(Position at, std::string message, bool limit) {
    problem_ = {at, std::move(message), limit};
    return false;
}

std::string_view Builder::keep(std::string_view text) {
    if (text.empty()) return {};
    auto* copy = static_cast<char*>(arena_->allocate(text.size(), 1));
    std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
}

template <class T>
std::span<const T> Builder::move_up(std::vector<T>& stack, std::size_t first) {
    const std::size_t count = stack.size() - first;
    if (count == 0) return {};
    auto* to = static_cast<T*>(arena_->allocate(count * sizeof(T), alignof(T)));
    std::uninitialized_copy(stack.begin() + static_cast<std::ptrdiff_t>(first), stack.end(), to);
    stack.resize(first);
    return {to, count};
}

Node* Builder::make(Node::Kind kind, Position at, const yaml_char_t* anchor, const yaml_char_t* tag) {
    auto* node = new (arena_->allocate(sizeof(Node), alignof(Node))) Node;
    node->kind = kind;
    node->at = at;
    if (tag != nullptr) node->tag = keep(view(tag));
    ++nodes_;
    if (anchor != nullptr) {
        anchors_[std::string(view(anchor))] = node;
        if (kind != Node::Kind::scalar) unfinished_.insert(node);
    }
    return node;
}

bool Builder::scalar(const yaml_event_t& event) {
    const auto& scalar = event.data.scalar;
    auto* node = make(Node::Kind::scalar, position(event.start_mark), scalar.anchor, scalar.tag);
    node->plain = scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (extents_ != nullptr) (*extents_)[node] = {position(event.end_mark), false};
    node->text = keep({reinterpret_cast<const char*>(scalar.value), scalar.length});
    return add(node, node->at);
}

bool Builder::start(Node::Kind kind, const yaml_char_t* anchor, const yaml_char_t* tag, Position at, bool flow) {
    if (open_.size() >= most_levels) return refuse(at, fmt::format("nested deeper than {} levels", most_levels));
    open_.push_back({make(kind, at, anchor, tag), kind == Node::Kind::sequence ? pending_.size() : entries_.size()});
    if (extents_ != nullptr) (*extents_)[open_.back().node].flow = flow;
    return true;
}

bool Builder::alias(const yaml_event_t& event) {
    const auto at = position(event.start_mark);
    const auto found = anchors_.find(std::string(view(event.data.alias.anchor)));
    if (found == anchors_.end()) return refuse(at, "an alias names an anchor that does not exist", false);
    if (unfinished_.contains(found->second)) return refuse(at, "an alias contains itself", false);
    return add(found->second, at);
}

/// Hands a complete node to its parent.
bool Builder::add(const Node* node, Position at) {
    if (nodes_ > most_nodes) return refuse(at, fmt::format("more than {} values", most_nodes));
    if (open_.empty()) {
        tree_.documents.push_back(node);
        weight_ += node->weight;
        if (weight_ > nodes_ + most_repeated) return refuse(at, "its aliases stand for too many values");
        return true;
    }
    auto& parent = open_.back();
    if (parent.node->kind == Node::Kind::sequence) {
        pending_.push_back(node);
    } else if (!parent.has_key) {
        parent.has_key = true;
        parent.key_at = at;
        parent.key = node->scalar();
        if (node->kind == Node::Kind::mapping || node->templated) parent.node->templated = true;
    } else {
        parent.has_key = false;
        entries_.push_back({parent.key, parent.key_at, node});
        return true;
    }
    return true;
}

/// Appends what `from` has and the mapping has not.
bool Builder::merge(const Node& from, std::unordered_set<std::string_view>& seen, Position at) {
    if (from.kind == Node::Kind::sequence) {
        for (const auto* item : from.items)
            if (item->kind == Node::Kind::mapping && !merge(*item, seen, at)) return false;
        return true;
    }
    for (const auto& entry : from.entries) {
        if (entry.repeated || !seen.insert(entry.key).second) continue;
        if (++merged_ > most_repeated) return refuse(at, "its merge keys stand for too many values");
        entries_.push_back({entry.key, entry.at, entry.value, true});
    }
    return true;
}

bool Builder::close_mapping(Open& open) {
    const std::size_t end = entries_.size();
    std::unordered_set<std::string_view> seen;
    bool merges = false;
    const bool large = end - open.first > 16;
    for (std::size_t i = open.first; i < end; ++i) {
        auto& entry = entries_[i];
        if (entry.key == "<<") {
            merges = true;
            continue;
        }
        if (large) {
            entry.repeated = !seen.insert(entry.key).second;
        } else {
            for (std::size_t j = open.first; j < i && !entry.repeated; ++j) entry.repeated = entries_[j].key == entry.key;
        }
    }
    if (!merges) return true;
    for (std::size_t i = open.first; i < end; ++i)
        if (entries_[i].key != "<<") seen.insert(entries_[i].key);
    for (std::size_t i = open.first; i < end; ++i)
        if (entries_[i].key == "<<" && !merge(*entries_[i].value, seen, entries_[i].at)) return false;
    entries_.erase(std::remove_if(entries_.begin() + static_cast<std::ptrdiff_t>(open.first), entries_.end(), [](const Entry& entry) { return entry.key == "<<"; }),
                   entries_.end());
    return true;
}

bool Builder::finish(Position end) {
    auto open = open_.back();
    auto& node = *open.node;
    if (extents_ != nullptr) (*extents_)[&node].end = end;
    std::uint64_t weight = 1;
    std::uint16_t height = 0;
    const auto count = [&](const Node* child) {
        weight = std::min<std::uint64_t>(UINT32_MAX, weight + child->weight);
        height = std::max(height, child->height);
    };
    if (node.kind == Node::Kind::sequence) {
        node.items = move_up(pending_, open.first);
        for (const auto* item : node.items) count(item);
    } else {
        if (!close_mapping(open)) return false;
        if (node.templated) {  // "{{ name }}": what it will be is not known
            node.kind = Node::Kind::scalar;
            entries_.resize(open.first);
        }
        node.entries = move_up(entries_, open.first);
        for (const auto& entry : node.entries) count(entry.value);
    }
    node.weight = static_cast<std::uint32_t>(weight);
    node.height = static_cast<std::uint16_t>(height + 1);
    if (node.height > most_levels) return refuse(node.at, fmt::format("its aliases nest deeper than {} levels", most_levels));
    if (weight > nodes_ + most_repeated) return refuse(node.at, "its aliases stand for too many values");
    unfinished_.erase(&node);
    open_.pop_back();
    return add(&node, node.at);
}

bool Builder::take(const yaml_event_t& event) {
    const auto at = position(event.start_mark);
    switch (event.type) {
        case YAML_SCALAR_EVENT: return scalar(event);
        case YAML_SEQUENCE_START_EVENT: {
            const auto& list = event.data.sequence_start;
            return start(Node::Kind::sequence, list.anchor, list.tag, at, list.style == YAML_FLOW_SEQUENCE_STYLE);
        }
        case YAML_MAPPING_START_EVENT: {
            const auto& mapping = event.data.mapping_start;
            return start(Node::Kind::mapping, mapping.anchor, mapping.tag, at, mapping.style == YAML_FLOW_MAPPING_STYLE);
        }
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT: return finish(position(event.end_mark));
        case YAML_ALIAS_EVENT: return alias(event);
        case YAML_DOCUMENT_START_EVENT: anchors_.clear(); return true;
        default: return true;
    }
}

std::expected<Tree, Problem> Builder::build(std::string_view text) {
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0) return std::unexpected(Problem{{}, "out of memory", true});
    const Handle<yaml_parser_t, yaml_parser_delete> owned(&parser);
    yaml_parser_set_input_string(&parser, reinterpret_cast<const unsigned char*>(text.data()), text.size());
    for (;;) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) == 0) {
            const auto at = parser.error == YAML_READER_ERROR ? place_in(text, parser.problem_offset) : position(parser.problem_mark);
            return std::unexpected(Problem{at, parser.problem == nullptr ? "not YAML" : parser.problem});
        }
        const bool end = event.type == YAML_STREAM_END_EVENT;
        const bool taken = take(event);
        yaml_event_delete(&event);
        if (!taken) return std::unexpected(std::move(problem_));
        if (end) break;
    }
    tree_.memory = std::move(arena_);
    return std::move(tree_);
}

}  // namespace

const Entry* Node::entry(std::string_view key) const {
    const auto found = std::ranges::find(entries, key, &Entry::key);
    return found == entries.end() ? nullptr : &*found;
}

const Node* Node::find(std::string_view key) const {
    const auto* found = entry(key);
    return found == nullptr ? nullptr : found->value;
}

bool Node::null() const {
    return kind == Kind::scalar && plain && !templated && (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL");
}

namespace {

std::expected<Tree, Problem> read(std::string_view text, Extents* extents) {
    if (text.size() > most_text) return std::unexpected(Problem{{}, fmt::format("longer than {} MiB", most_text >> 20), true});
    return Builder(extents).build(text);
}

}  // namespace

std::expected<Tree, Problem> read(std::string_view text) { return read(text, nullptr); }

std::expected<Tree, Problem> read(std::string_view text, Extents& extents) { return read(text, &extents); }

}  // namespace promwarden::yaml
