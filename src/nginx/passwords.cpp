// Password files, and configurations whose texts are facts already.

#include <algorithm>
#include <charconv>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

using Scheme = PasswordLine::Scheme;

constexpr std::size_t most_lines = 10'000;
constexpr std::size_t des_length = 13;

Scheme scheme_of(std::string_view hash, unsigned& cost) {
    constexpr std::pair<std::string_view, Scheme> prefixes[] = {{"{PLAIN}", Scheme::plain}, {"{SHA}", Scheme::sha1}, {"{SSHA}", Scheme::salted_sha1}, {"$apr1$", Scheme::apr1}, {"$1$", Scheme::md5},
                                                                {"$5$", Scheme::sha256},    {"$6$", Scheme::sha512}, {"$y$", Scheme::yescrypt}};
    for (const auto& [prefix, scheme] : prefixes)
        if (hash.starts_with(prefix)) return scheme;
    if (hash.size() > 6 && (hash.starts_with("$2a$") || hash.starts_with("$2b$") || hash.starts_with("$2y$"))) {
        std::from_chars(hash.data() + 4, hash.data() + 6, cost);
        return Scheme::bcrypt;
    }
    const bool plain = std::ranges::all_of(hash, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '.' && c <= '9'); });
    return hash.size() == des_length && plain ? Scheme::des : Scheme::other;
}

class Observed final : public Files {
public:
    explicit Observed(const ProxyServer& server) : server_(server) {}
    Result<std::string> read(const std::string& path) override {
        const auto found = std::ranges::find(server_.texts, path, &ProxyText::path);
        if (found == server_.texts.end() || found->text == nullptr) return fail(Code::missing, "read", path, "it could not be read");
        return *found->text;
    }
    Result<std::vector<std::string>> match(const std::string& pattern) override {
        const auto found = server_.matches.find(pattern);
        return found == server_.matches.end() ? std::vector<std::string>() : found->second;
    }

private:
    const ProxyServer& server_;
};

}  // namespace

std::vector<PasswordLine> read_passwords(std::string_view text) {
    std::vector<PasswordLine> lines;
    for (std::uint32_t number = 1; !text.empty() && lines.size() < most_lines; ++number) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const auto colon = line.find(':');
        if (line.starts_with('#') || colon == std::string_view::npos) continue;
        PasswordLine made{number, std::string(line.substr(0, colon)), Scheme::other, 0};
        auto hash = line.substr(colon + 1);
        hash = hash.substr(0, hash.find_first_of(":\r"));
        made.scheme = scheme_of(hash, made.cost);
        lines.push_back(std::move(made));
    }
    return lines;
}

Tree read(const ProxyServer& server) {
    Observed files(server);
    const auto text = files.read(server.configuration);
    if (text) return read(server.configuration, *text, server.prefix, &files);
    Tree tree;
    tree.files = {server.configuration};
    tree.problem = Problem{{0, 1, 1}, server.problem ? server.problem->text() : text.error().text(), false};
    return tree;
}

}  // namespace promwarden::nginx
