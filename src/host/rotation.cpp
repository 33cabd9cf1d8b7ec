// logrotate's configuration, as far as the question goes: is this log rotated, and does somebody tell its writer?

#include <algorithm>

#include "rotation.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_blocks = 10'000;

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// Names before a "{", quoted or not.
void take_patterns(std::string_view text, std::vector<std::string>& patterns) {
    while (!(text = trimmed(text)).empty()) {
        const char quote = text.front() == '"' || text.front() == '\'' ? text.front() : '\0';
        if (quote != 0) text.remove_prefix(1);
        const auto end = std::min(quote != 0 ? text.find(quote) : text.find_first_of(" \t"), text.size());
        if (end > 0) patterns.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

/// Whether a line of a script tells a process to open its log anew.
bool tells_writer(std::string_view line) {
    constexpr std::string_view words[] = {"kill", "HUP", "reload", "restart", "systemctl", "invoke-rc.d", "/-/reload"};
    return !line.starts_with('#') && std::ranges::any_of(words, [&](std::string_view word) { return line.contains(word); });
}

}  // namespace

std::vector<LogRotation> parse_rotations(const std::string& path, std::string_view text) {
    std::vector<LogRotation> all;
    std::vector<std::string> patterns;
    bool inside = false, script = false, after = false;
    std::uint32_t number = 0;
    while (!text.empty() && all.size() < most_blocks) {
        const auto end = std::min(text.find('\n'), text.size());
        auto line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        if (script) {
            if (line == "endscript") script = false;
            else if (inside && after && tells_writer(line)) all.back().reopens = true;
        } else if (line.empty() || line.starts_with('#')) {
            continue;
        } else if (line.ends_with("script") || line.ends_with("rotate") || line.starts_with("firstaction") || line.starts_with("lastaction") || line.starts_with("preremove")) {
            script = line.starts_with("pre") || line.starts_with("post") || line.starts_with("first") || line.starts_with("last");
            after = line.starts_with("postrotate") || line.starts_with("lastaction");
        } else if (inside) {
            if (line.starts_with("copytruncate")) all.back().reopens = true;
            if (line.contains('}')) inside = false;
        } else {
            const auto brace = line.find('{');
            if (line.starts_with('/') || line.starts_with('"') || line.starts_with('\'') || brace == 0) take_patterns(line.substr(0, brace), patterns);
            if (brace == std::string_view::npos) continue;
            all.push_back({std::move(patterns), {path, number, 1, {}}, false});
            patterns.clear();
            inside = !line.substr(brace).contains('}');
            if (line.substr(brace).contains("copytruncate")) all.back().reopens = true;
        }
    }
    return all;
}

}  // namespace promwarden::host
