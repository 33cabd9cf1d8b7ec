#include "value.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace promwarden::policy {

const Entry* Value::find(std::string_view key) const {
    const auto entry = std::ranges::find(entries, key, &Entry::key);
    return entry == entries.end() ? nullptr : &*entry;
}

std::string key_text(std::string_view key) {
    const auto bare = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; };
    return !key.empty() && std::ranges::all_of(key, bare) ? std::string(key) : quoted(key);
}

std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') result += '\\';
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) result += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        else result += c;
    }
    return result + '"';
}

}  // namespace promwarden::policy
