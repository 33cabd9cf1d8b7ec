// One edit, made to a text: which bytes go, and what stands there instead.

#include <algorithm>

#include <fmt/format.h>

#include "edit.hpp"

namespace promwarden::yaml {

namespace {

std::unexpected<Error> refuse(const std::string& file, std::string why) { return fail(Code::invalid, "edit", file, std::move(why)); }
std::unexpected<Error> refuse(const std::string& file, Position at, std::string_view why) {
    return refuse(file, fmt::format("line {}: {}", at.line, why));
}

constexpr std::string_view unfit = "it is written in a form that is not edited";

/// How many bytes a line break takes there; 0: there is none. YAML has more of them than most.
std::size_t break_at(std::string_view text) {
    if (text.starts_with("\r\n") || text.starts_with("\xC2\x85")) return 2;
    if (text.starts_with("\xE2\x80\xA8") || text.starts_with("\xE2\x80\xA9")) return 3;
    return text.starts_with('\n') || text.starts_with('\r') ? 1 : 0;
}

/// As YAML that means exactly this text, on one line.
std::string scalar_of(std::string_view text) {
    constexpr std::string_view words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    auto lower = std::string(text);
    std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    const bool plain = !text.empty() && (letter(text.front()) || text.front() == '/') &&
                       std::ranges::find(words, lower) == std::end(words) && std::ranges::all_of(text, [&](char c) {
                           return letter(c) || (c >= '0' && c <= '9') || c == '/' || c == '.' || c == '_' || c == '-';
                       });
    if (plain) return std::string(text);
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
    return quoted + "'";
}

/// Keys, and the value below the last one; one item of a list where `list`.
struct Fresh {
    std::span<const Step> keys;
    std::string value;
    bool list = false;
};

class Text {
public:
    explicit Text(std::string text) : text_(std::move(text)) {
        for (std::size_t at = text_.starts_with("\xEF\xBB\xBF") ? 3 : 0; at < text_.size(); ++at) {
            if (lines_.empty()) lines_.push_back(at);
            if (const auto length = break_at(std::string_view(text_).substr(at)); length > 0) {
                at += length - 1;
                lines_.push_back(at + 1);
            }
        }
        if (lines_.empty()) lines_.push_back(text_.size());
    }

    [[nodiscard]] const std::string& bytes() const { return text_; }
    /// The reader counts characters, not bytes.
    [[nodiscard]] std::size_t offset(Position at) const {
        if (at.line == 0 || at.line > lines_.size()) return text_.size();
        auto offset = lines_[at.line - 1];
        for (std::uint32_t column = 1; column < at.column && offset < text_.size(); ++column) do
                ++offset;
            while (offset < text_.size() && (static_cast<unsigned char>(text_[offset]) & 0xC0) == 0x80);
        return offset;
    }
    [[nodiscard]] std::size_t line_start(std::size_t at) const { return *std::prev(std::ranges::upper_bound(lines_, at)); }
    /// Where the next line begins; the end of the text on its last.
    [[nodiscard]] std::size_t next_line(std::size_t at) const {
        const auto next = std::ranges::upper_bound(lines_, at);
        return next == lines_.end() ? text_.size() : *next;
    }
    [[nodiscard]] std::string_view between(std::size_t from, std::size_t to) const {
        return std::string_view(text_).substr(from, to - from);
    }
    /// Only spaces are before it on its line.
    [[nodiscard]] bool begins_line(std::size_t at) const {
        return between(line_start(at), at).find_first_not_of(' ') == std::string_view::npos;
    }
    [[nodiscard]] std::string_view line_end() const { return text_.find("\r\n") != std::string::npos ? "\r\n" : "\n"; }

    std::string replaced(std::size_t from, std::size_t to, std::string_view by) && { return std::move(text_.replace(from, to - from, by)); }
    /// Whole lines, each with its end. At the end of a text whose last line has none, the new last one has none either.
    std::string with_lines(std::size_t at, std::string lines) && {
        const bool open = at == text_.size() && !text_.empty() && break_at(std::string_view(text_).substr(text_.size() - 1)) == 0;
        if (open) lines = std::string(line_end()) + lines.substr(0, lines.size() - line_end().size());
        return std::move(text_.insert(at, lines));
    }

private:
    std::string text_;
    std::vector<std::size_t> lines_;
};

/// One edit of one text.
class Editor {
public:
    Editor(const std::string& file, std::string text, Written written)
        : file_(file), text_(std::move(text)), root_(written.root), extents_(written.extents) {}

    Result<std::string> run(const Edit& edit, std::span<const Step> way) {
        std::vector<const Node*> nodes{root_};  // null from where the way is not there
        for (const auto& step : way) {
            const auto* node = nodes.back();
            nodes.push_back(node == nullptr                   ? nullptr
                            : step.is_index                   ? node->items[step.index]
                            : own(*node, step.key) != nullptr ? own(*node, step.key)->value
                                                              : nullptr);
        }
        const auto& mapping = nodes[way.size() - 1];
        const auto* entry = mapping == nullptr || way.back().is_index ? nullptr : own(*mapping, way.back().key);
        if (mapping != nullptr && !way.back().is_index && repeats(*mapping, way.back().key))
            return refuse(file_, mapping->at, "the key is there twice");
        switch (edit.kind) {
            case Edit::Kind::replace:
                return entry == nullptr ? missing(edit) : replace(edit, *mapping, *entry);
            case Edit::Kind::remove:
                return entry == nullptr ? missing(edit) : remove(way, nodes);
            case Edit::Kind::set:
                if (nodes.back() != nullptr) return set(*nodes.back(), edit.value);
                break;
            case Edit::Kind::append:
                if (nodes.back() != nullptr && !nodes.back()->null()) return append(*nodes.back(), edit.value);
                if (entry != nullptr) return fill(*mapping, way.back(), *nodes.back(), {{}, edit.value, true});
                break;
        }
        const auto depth = static_cast<std::size_t>(std::ranges::find(nodes, nullptr) - nodes.begin());  // of the first that is not there
        if (depth == 0) return append_block(0, {way, edit.value, edit.kind == Edit::Kind::append});
        const auto fresh = way.subspan(depth - 1);
        if (std::ranges::any_of(fresh, &Step::is_index)) return missing(edit);
        return insert(nodes, way, depth - 1, {fresh, edit.value, edit.kind == Edit::Kind::append});
    }

private:
    static const Entry* own(const Node& mapping, std::string_view key) {
        const auto* entry = mapping.entry(key);
        return entry == nullptr || entry->merged ? nullptr : entry;
    }
    static bool repeats(const Node& mapping, std::string_view key) {
        return std::ranges::any_of(mapping.entries, [&](const Entry& entry) { return entry.repeated && entry.key == key; });
    }
    [[nodiscard]] std::unexpected<Error> missing(const Edit& edit) const {
        return refuse(file_, fmt::format("there is no {} of its own", edit.path));
    }

    // ---- where things stand

    [[nodiscard]] bool flow(const Node& node) const {
        const auto extent = extents_.find(&node);
        return extent != extents_.end() && extent->second.flow;
    }
    [[nodiscard]] std::size_t end_at(const Node& node) const {
        const auto extent = extents_.find(&node);
        return extent == extents_.end() ? text_.offset(node.at) : text_.offset(extent->second.end);
    }
    /// Behind an anchor: that stays where the value changes.
    [[nodiscard]] std::size_t begin_of(const Node& node) const {
        auto at = text_.offset(node.at);
        const auto& bytes = text_.bytes();
        if (at >= bytes.size() || bytes[at] != '&') return at;
        at = std::min(bytes.find_first_of(" \t\r\n", at), bytes.size());
        return std::min(bytes.find_first_not_of(" \t", at), bytes.size());
    }
    /// Behind its last character that is not blank: a block scalar ends with its line breaks.
    [[nodiscard]] std::size_t end_of_scalar(const Node& node) const {
        const auto from = begin_of(node), to = std::max(from, end_at(node));
        const auto last = text_.between(from, to).find_last_not_of(" \t\r\n");
        return last == std::string_view::npos ? from : from + last + 1;
    }
    /// Behind all that a key's value is; an alias stands where the key is.
    [[nodiscard]] std::size_t end_of(const Node& node, std::size_t least) const {
        if (text_.offset(node.at) < least) return least;
        if (node.kind == Node::Kind::scalar) return std::max(least, end_of_scalar(node));
        if (flow(node)) return std::max(least, end_at(node));
        for (const auto* item : node.items) least = end_of(*item, least);
        for (const auto& entry : node.entries)
            if (!entry.merged) least = end_of(*entry.value, std::max(least, text_.offset(entry.at)));
        return least;
    }
    [[nodiscard]] std::size_t end_of(const Entry& entry) const { return end_of(*entry.value, text_.offset(entry.at)); }
    /// nullopt: not written as the reader has it.
    [[nodiscard]] std::optional<Range> key_of(const Entry& entry) const {
        const auto at = text_.offset(entry.at);
        const auto rest = std::string_view(text_.bytes()).substr(at);
        const std::size_t quotes = rest.starts_with('"') || rest.starts_with('\'') ? 1 : 0;
        if (!rest.substr(quotes).starts_with(entry.key) || (quotes == 1 && rest.substr(1 + entry.key.size(), 1) != rest.substr(0, 1)))
            return std::nullopt;
        return Range{at + quotes, entry.key.size()};
    }
    static std::vector<const Entry*> own_entries(const Node& mapping) {
        std::vector<const Entry*> own;
        for (const auto& entry : mapping.entries)
            if (!entry.merged) own.push_back(&entry);
        return own;
    }
    /// By how much this document indents.
    [[nodiscard]] std::size_t step() const {
        for (const auto& entry : root_ == nullptr ? std::span<const Entry>{} : root_->entries)
            if (const auto& node = *entry.value; !flow(node) && !node.entries.empty() && !node.entries.front().merged &&
                                                 node.entries.front().at.line > entry.at.line &&
                                                 node.entries.front().at.column > entry.at.column)
                return node.entries.front().at.column - entry.at.column;
        return 2;
    }

    // ---- how new things are written

    static std::string in_flow(const Fresh& fresh) {
        std::string text, close;
        for (std::size_t i = 0; i < fresh.keys.size(); ++i) {
            text += (i == 0 ? "" : "{") + fresh.keys[i].key + ": ";
            if (i > 0) close += '}';
        }
        return text + (fresh.list ? "[" + scalar_of(fresh.value) + "]" : scalar_of(fresh.value)) + close;
    }
    [[nodiscard]] std::string in_block(std::size_t indentation, const Fresh& fresh) const {
        std::string text;
        const auto more = step();
        for (const auto& key : fresh.keys) {
            const bool last = &key == &fresh.keys.back() && !fresh.list;
            text += fmt::format("{:{}}{}:{}{}{}", "", indentation, key.key, last ? " " : "", last ? scalar_of(fresh.value) : "",
                                text_.line_end());
            indentation += more;
        }
        if (fresh.list) text += fmt::format("{:{}}- {}{}", "", indentation, scalar_of(fresh.value), text_.line_end());
        return text;
    }

    // ---- the edits

    Result<std::string> set(const Node& node, const std::string& value) {
        if (node.kind != Node::Kind::scalar || node.templated || !node.tag.empty()) return refuse(file_, node.at, unfit);
        if (node.text == value && !node.null()) return text_.bytes();
        const auto from = begin_of(node), to = end_of_scalar(node);
        return std::move(text_).replaced(from, to, (from == to ? " " : "") + scalar_of(value));
    }

    Result<std::string> replace(const Edit& edit, const Node& mapping, const Entry& entry) {
        const auto key = key_of(entry);
        if (mapping.entry(edit.name) != nullptr) return refuse(file_, entry.at, fmt::format("{} is there already", edit.name));
        if (!key || entry.value->kind != Node::Kind::scalar || text_.offset(entry.value->at) < key->at)
            return refuse(file_, entry.at, unfit);
        const auto text = TRY(set(*entry.value, edit.value));
        return std::string(text).replace(key->at, key->length, edit.name);
    }

    Result<std::string> remove(std::span<const Step> way, std::span<const Node* const> nodes) {
        auto at = way.size() - 1;
        while (at > 0 && nodes[at]->entries.size() == 1 && !way[at - 1].is_index) --at;
        const auto* entry = own(*nodes[at], way[at].key);
        const auto all = own_entries(*nodes[at]);
        if (entry == nullptr || nodes[at]->entries.size() == 1)
            return refuse(file_, nodes[at]->at, "nothing would be left of what it stands in");
        const auto place = static_cast<std::size_t>(std::ranges::find(all, entry) - all.begin());
        const auto key = text_.offset(entry->at), end = end_of(*entry);
        const auto* next = place + 1 < all.size() ? all[place + 1] : nullptr;
        const auto cut = [&](std::size_t from, std::size_t to, bool with_comments) -> Result<std::string> {
            if (!with_comments && text_.between(from, to).contains('#')) return refuse(file_, entry->at, "a comment would go with it");
            return std::move(text_).replaced(from, to, "");
        };
        if (!flow(*nodes[at]) && text_.begins_line(key)) {
            auto from = text_.line_start(key);
            const auto to = text_.next_line(end);
            if (to == text_.bytes().size() && !text_.bytes().ends_with('\n') && from > 0)
                from -= text_.bytes()[from - 1] == '\n' && from > 1 && text_.bytes()[from - 2] == '\r'
                            ? 2
                            : 1;  // the last line had no end, so the new last one has none
            return cut(from, to, true);
        }
        if (next != nullptr) return cut(key, text_.offset(next->at), false);
        if (place > 0) return cut(end_of(*all[place - 1]), end, false);
        return refuse(file_, entry->at, unfit);
    }

    Result<std::string> append(const Node& list, const std::string& value) {
        if (list.kind != Node::Kind::sequence) return refuse(file_, list.at, "it is no list");
        if (list.items.empty()) return std::move(text_).replaced(end_at(list) - 1, end_at(list) - 1, scalar_of(value));
        const auto& last = *list.items.back();
        const auto start = text_.offset(last.at);
        if (flow(list)) {
            const auto end = end_of(last, start);
            return std::move(text_).replaced(end, end, ", " + scalar_of(value));
        }
        const auto line = text_.line_start(start);
        const auto dash = text_.between(line, start).rfind('-');
        if (dash == std::string_view::npos || !text_.begins_line(line + dash)) return refuse(file_, last.at, unfit);
        auto lines = fmt::format("{:{}}- {}{}", "", dash, scalar_of(value), text_.line_end());
        const auto after = text_.next_line(std::max(start, end_of(last, start)));
        return std::move(text_).with_lines(after, std::move(lines));
    }

    /// Into the mapping at that depth of the way, which is there.
    Result<std::string> insert(std::span<const Node* const> nodes, std::span<const Step> way, std::size_t depth, const Fresh& fresh) {
        const auto& mapping = *nodes[depth];
        if (mapping.null()) return fill(*nodes[depth - 1], way[depth - 1], mapping, fresh);
        if (mapping.kind != Node::Kind::mapping) return refuse(file_, mapping.at, "it is no mapping");
        const auto all = own_entries(mapping);
        if (flow(mapping)) return insert_in_flow(mapping, all, depth, fresh);
        if (all.empty()) return refuse(file_, mapping.at, "all that is in it comes from elsewhere");
        const auto first = text_.offset(all.front()->at);
        const auto indentation = all.front()->at.column - 1;
        if (depth == 0) return append_block(indentation, fresh);
        if (text_.begins_line(first)) return std::move(text_).with_lines(text_.line_start(first), in_block(indentation, fresh));
        const auto after = text_.next_line(end_of(*all.front()));
        return std::move(text_).with_lines(after, in_block(indentation, fresh));
    }

    Result<std::string> insert_in_flow(const Node& mapping, const std::vector<const Entry*>& all, std::size_t depth, const Fresh& fresh) {
        const auto brace = begin_of(mapping), close = end_at(mapping);
        if (text_.bytes().substr(brace, 1) != "{") return refuse(file_, mapping.at, unfit);
        if (depth == 0 && mapping.entries.empty()) {  // "{}", which says nothing, makes room for a block
            auto rest = std::string(text_.between(0, brace)) + std::string(text_.between(close, text_.bytes().size()));
            if (const auto length = break_at(std::string_view(rest).substr(brace)); length > 0 && (brace == 0 || rest[brace - 1] == '\n'))
                rest.erase(brace, length);
            text_ = Text(std::move(rest));
            return append_block(0, fresh);
        }
        const auto at = all.empty() ? brace + 1 : text_.offset(all.front()->at);
        return std::move(text_).replaced(at, at, in_flow(fresh) + (mapping.entries.empty() ? "" : ", "));
    }

    /// Below a key that has nothing yet.
    Result<std::string> fill(const Node& above, const Step& key, const Node& null, const Fresh& fresh) {
        const auto* entry = key.is_index ? nullptr : own(above, key.key);
        if (entry == nullptr) return refuse(file_, null.at, unfit);
        const auto from = begin_of(null), to = end_of_scalar(null);
        const auto written = fresh.keys.empty() ? in_flow(fresh) : "{" + in_flow(fresh) + "}";
        if (flow(above) || from != to) return std::move(text_).replaced(from, to, (from == to ? " " : "") + written);
        const auto after = text_.next_line(text_.offset(entry->at));
        return at_end(after, in_block(entry->at.column - 1 + step(), fresh));
    }

    Result<std::string> append_block(std::size_t indentation, const Fresh& fresh) {
        return at_end(text_.bytes().size(), in_block(indentation, fresh));
    }

    /// Lines that may become the last ones: those end as lines do.
    Result<std::string> at_end(std::size_t at, const std::string& lines) {
        const bool open = at == text_.bytes().size() && !text_.bytes().empty() && !text_.bytes().ends_with('\n');
        return std::move(text_).replaced(at, at, (open ? std::string(text_.line_end()) : "") + lines);
    }

    const std::string& file_;
    Text text_;
    const Node* root_;
    const Extents& extents_;
};

}  // namespace

Result<std::string> edit_text(const std::string& file, std::string text, Written written, const Edit& edit, std::span<const Step> way) {
    if (std::ranges::any_of(edit.value, [](unsigned char c) { return c < 0x20 || c == 0x7F; }))
        return refuse(file, fmt::format("the value for {} cannot be written on one line", edit.path));
    return Editor(file, std::move(text), written).run(edit, way);
}

std::optional<Range> characters_of(std::string_view text, const Node& scalar) {
    if (scalar.kind != Node::Kind::scalar || scalar.text.empty() || !scalar.tag.empty()) return std::nullopt;
    const auto at = Text{std::string(text)}.offset(scalar.at);
    const auto rest = text.substr(std::min(at, text.size()));
    if (scalar.plain) return rest.starts_with(scalar.text) ? std::optional(Range{at, scalar.text.size()}) : std::nullopt;
    const bool quoted = (rest.starts_with('"') || rest.starts_with('\'')) && rest.substr(1).starts_with(scalar.text);
    const bool closed = quoted && rest.substr(1 + scalar.text.size(), 1) == rest.substr(0, 1);
    return closed ? std::optional(Range{at + 1, scalar.text.size()}) : std::nullopt;
}

}  // namespace promwarden::yaml
