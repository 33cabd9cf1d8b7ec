/// edit — single values of a YAML text changed, every other byte kept. Part of the room prometheus. Pure.
#pragma once

#include <unordered_map>

#include "promwarden/prometheus.hpp"

namespace promwarden::yaml {

/// One value, changed. Its path is written as reports write it: "scrape_configs[0].basic_auth.password".
struct Edit {
    enum class Kind : std::uint8_t {
        set,      // the value of a key; the key, and mappings above it, are made where they are missing
        replace,  // a key and its value become another key, `name`, and its value
        remove,   // a key and its value; a mapping that would be left without any goes with it
        append,   // an item at the end of a list, which is made where it is missing
    } kind = Kind::set;
    std::string path;
    std::string value = {};  // what the new scalar says
    std::string name = {};
    bool operator==(const Edit&) const = default;
};

/// The text with these changes, one after the other. Everything else survives byte for byte: other values, their order, comments, anchors,
/// line ends. What comes out has been read again and says what the old text said but for these values; refused where that cannot be
/// promised, as where an alias would change something else. `path` is for errors. Limit: 4 MiB of text.
Result<std::string> edit(const std::string& path, std::string_view text, std::span<const Edit> edits);

/// How a node is written, beyond where it begins.
struct Extent {
    Position end;       // behind the last character, of a scalar and of what is in brackets; of a block, where the next thing begins
    bool flow = false;  // a sequence or mapping in brackets
};
using Extents = std::unordered_map<const Node*, Extent>;
/// As read, and the extent of every node.
std::expected<Tree, Problem> read(std::string_view text, Extents& extents);

/// The node of a path; null: there is none.
const Node* node_at(const Node* root, std::string_view path);

/// Where the characters of a scalar stand in the text, without quotes, as bytes; nullopt where they are written in another form than what
/// they say.
struct Range {
    std::size_t at = 0, length = 0;
};
std::optional<Range> characters_of(std::string_view text, const Node& scalar);

}  // namespace promwarden::yaml
