// Internal to the room: one edit, made to a text.
#pragma once

#include "promwarden/edit.hpp"

namespace promwarden::yaml {

/// One step of a path, "key" or "[2]".
struct Step {
    std::string key;
    std::size_t index = 0;
    bool is_index = false;
};
using Way = std::vector<Step>;

/// A path, told apart by what the document has; its end may be missing there.
Result<Way> find_way(const std::string& file, const Node* root, std::string_view path);
std::string to_text(std::span<const Step> way);

/// What was read of a text. `root` is null where the document is empty.
struct Written {
    const Node* root;
    const Extents& extents;
};
/// The text with that edit made, as well as it can be told; whoever calls reads it again.
Result<std::string> edit_text(const std::string& file, std::string text, Written written, const Edit& edit, std::span<const Step> way);

}  // namespace promwarden::yaml
