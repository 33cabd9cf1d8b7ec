// A configuration in which one file stands in the place of another, so that it can be tried before it has its name.

#include <algorithm>

#include <fmt/format.h>
#include <fnmatch.h>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

constexpr int deepest = 20;  // as the reader

/// Where a place in a text begins.
std::size_t offset_of(std::string_view text, Place at) {
    std::size_t line = 0;
    for (std::uint32_t number = 1; number < at.line; ++number) line = text.find('\n', line) + 1;
    return line + at.column - 1;
}

/// Past the ";" after a word.
std::size_t end_of(std::string_view text, const Word& word) {
    auto end = offset_of(text, word.at);
    if (const char quote = text[end]; word.quoted && (quote == '"' || quote == '\''))
        for (++end; end < text.size() && text[end] != quote; ++end)
            if (text[end] == '\\') ++end;
    return std::min(text.find(';', end), text.size() - 1) + 1;
}

std::string include_of(std::string_view path) {
    std::string text = "include \"";
    for (const auto c : path) text += c == '"' || c == '\\' ? fmt::format("\\{}", c) : std::string(1, c);
    return text + "\";";
}

class Splicer {
public:
    Splicer(const ProxyServer& server, const std::string& path, const std::string& instead)
        : server_(server), path_(path), instead_(instead) {}

    /// The text of that file with the other in its place; nullopt where it does not lead there. Lines keep their numbers where it is included directly, so that nginx's
    /// complaints about them hold.
    std::optional<std::string> file(const std::string& name, int depth) {
        const auto found = std::ranges::find(server_.texts, name, &ProxyText::path);
        if (found == server_.texts.end() || depth > deepest) return std::nullopt;
        const std::string_view text = *found->text;
        const auto tree = read(name, text, server_.prefix);  // without the files that it includes
        std::string made;
        std::size_t done = 0;
        each_include(tree.directives, [&](const Directive& include) {
            const auto replaced = included(include, depth);
            if (!replaced) return;
            made += text.substr(done, offset_of(text, include.at) - done);
            made += *replaced;
            done = end_of(text, include.words.front());
        });
        if (done == 0) return std::nullopt;
        return made.append(text.substr(done));
    }

private:
    template <class Take>
    static void each_include(const std::vector<Directive>& block, const Take& take) {
        for (const auto& each : block) {
            if (each.missing) take(each);
            each_include(each.block, take);
        }
    }

    std::optional<std::string> included(const Directive& include, int depth) {
        const std::string written(include.word(0));
        const auto pattern = written.starts_with('/') ? written : fmt::format("{}/{}", server_.prefix, written);
        auto paths = server_.matches.contains(pattern) ? server_.matches.at(pattern) : std::vector<std::string>();
        if (pattern.find_first_of("*?[") == std::string::npos) paths = {pattern};
        bool leads = pattern == path_ || ::fnmatch(pattern.c_str(), path_.c_str(), FNM_PATHNAME | FNM_PERIOD) == 0;
        if (leads && std::ranges::find(paths, path_) == paths.end())
            paths.insert(std::ranges::lower_bound(paths, path_), path_);  // in glob's order
        std::string text;
        for (const auto& each : paths) {
            const auto below = each == path_ ? std::nullopt : file(each, depth + 1);
            leads |= below.has_value();
            text += (text.empty() ? "" : " ") + (below ? *below + "\n" : include_of(each == path_ ? instead_ : each));
        }
        return leads ? std::optional(std::move(text)) : std::nullopt;
    }

    const ProxyServer& server_;
    const std::string &path_, &instead_;
};

}  // namespace

std::optional<std::string> text_with(const ProxyServer& server, const std::string& path, const std::string& instead) {
    return Splicer(server, path, instead).file(server.configuration, 0);
}

}  // namespace promwarden::nginx
