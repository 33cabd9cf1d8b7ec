/// Internal to the Compose reader: variables put into a value, as the Compose specification has it.
#pragma once

#include <algorithm>

#include "promwarden/template.hpp"
#include "promwarden/unit.hpp"

namespace promwarden::deployment {

constexpr int most_nested = 8;

constexpr bool name_part(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

/// Where the brace that closes "${…" stands, nested ones skipped.
inline std::size_t closing(std::string_view text) {
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.substr(i).starts_with("${")) ++depth;
        if (text[i] == '}' && --depth == 0) return i;
    }
    return std::string_view::npos;
}

/// How many colons stand outside of variables.
inline std::size_t separators(std::string_view text) {
    std::size_t count = 0;
    while (!text.empty()) {
        const auto end = text.starts_with("${") ? closing(text) : std::string_view::npos;
        if (end == std::string_view::npos && text.front() == ':') ++count;
        text.remove_prefix(end == std::string_view::npos ? 1 : end + 1);
    }
    return count;
}

/// Variables put in. What neither `.env` nor a default fills is left out, and the text is not whole: the shell's environment comes first, and nobody knows it here.
class Interpolation {
public:
    explicit Interpolation(const unit::Environment& environment) : environment_(environment) {}

    std::string operator()(std::string_view text) { return put_in(text, 0); }
    bool whole = true;

private:
    std::string put_in(std::string_view text, int depth) {
        std::string result;
        while (!text.empty()) {
            const auto dollar = text.find('$');
            result += text.substr(0, dollar);
            if (dollar == std::string_view::npos) break;
            text.remove_prefix(dollar);
            if (text.starts_with("$$")) {
                result += '$';
                text.remove_prefix(2);
            } else if (const auto end = text.starts_with("${") ? closing(text) : std::string_view::npos; end != std::string_view::npos) {
                result += braces(text.substr(2, end - 2), depth);
                text.remove_prefix(end + 1);
            } else {
                const auto last = std::ranges::find_if_not(text.substr(1), name_part) - text.begin();
                result += value(text.substr(1, static_cast<std::size_t>(last) - 1));
                text.remove_prefix(static_cast<std::size_t>(last));
            }
        }
        if (prometheus::has_template_marks(result) || result.find(prometheus::filled_later) != std::string::npos) whole = false;
        return result;
    }

    /// "NAME", "NAME:-default", "NAME-default", "NAME:?error", "NAME:+instead".
    std::string braces(std::string_view inside, int depth) {
        const auto end = static_cast<std::size_t>(std::ranges::find_if_not(inside, name_part) - inside.begin());
        const auto name = inside.substr(0, end);
        auto rest = inside.substr(end);
        if (rest.starts_with(':')) rest.remove_prefix(1);
        const bool known = environment_.contains(std::string(name));
        if (rest.starts_with('-') && !known) return depth < most_nested ? put_in(rest.substr(1), depth + 1) : std::string();
        if (rest.starts_with('+')) return known && depth < most_nested ? put_in(rest.substr(1), depth + 1) : std::string();
        return value(name);
    }

    std::string value(std::string_view name) {
        const auto found = environment_.find(std::string(name));
        if (found == environment_.end()) whole = false;
        return found == environment_.end() ? std::string() : found->second.value;
    }

    const unit::Environment& environment_;
};

}  // namespace promwarden::deployment
