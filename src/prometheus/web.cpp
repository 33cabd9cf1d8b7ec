// web.yml, edited: the lines that name certificates change, every other byte stays. What comes out is read again before it is believed.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "promwarden/prometheus.hpp"

namespace promwarden::prometheus {

namespace {

using yaml::Node;

constexpr std::string_view tls_key = "tls_server_config";
constexpr std::size_t largest_web_config = 1 << 20;

std::unexpected<Error> refuse(const std::string& path, std::string why) { return fail(Code::invalid, "edit", path, std::move(why)); }

/// Where a position is in the text. The reader counts characters, not bytes.
std::size_t offset_of(std::string_view text, yaml::Position at) {
    std::size_t offset = 0;
    for (std::uint32_t line = 1; line < at.line && offset < text.size(); ++offset) {
        if (text[offset] == '\n' || (text[offset] == '\r' && (offset + 1 == text.size() || text[offset + 1] != '\n'))) ++line;
    }
    for (std::uint32_t column = 1; column < at.column && offset < text.size(); ++column) {
        ++offset;
        while (offset < text.size() && (static_cast<unsigned char>(text[offset]) & 0xC0) == 0x80) ++offset;
    }
    return offset;
}

/// How long a scalar on one line is in the text, from where it begins; 0 where it is of a form that is not edited.
std::size_t length_of(std::string_view text, const Node& scalar) {
    if (scalar.plain) return text.starts_with(scalar.text) && scalar.text.find('\n') == std::string_view::npos ? scalar.text.size() : 0;
    const char quote = text.empty() ? '\0' : text.front();
    if (quote != '"' && quote != '\'') return 0;
    for (std::size_t at = 1; at < text.size() && text[at] != '\n' && text[at] != '\r'; ++at) {
        if (quote == '"' && text[at] == '\\') {
            ++at;
        } else if (text[at] == quote) {
            if (quote == '"' || at + 1 == text.size() || text[at + 1] != quote) return at + 1;
            ++at;  // '' inside single quotes
        }
    }
    return 0;
}

/// As YAML that means exactly this text.
std::string scalar_of(std::string_view text) {
    const bool plain = !text.empty() && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '.' || c == '_' || c == '-';
    }) && ((text.front() >= 'A' && text.front() <= 'z') || text.front() == '/');
    if (plain) return std::string(text);
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
    return quoted + "'";
}

std::string_view line_end(std::string_view text) { return text.find("\r\n") != std::string_view::npos ? "\r\n" : "\n"; }

Result<yaml::Tree> read_one(const std::string& path, std::string_view text) {
    if (text.size() > largest_web_config) return fail(Code::limit, "read", path, "longer than any web.yml");
    auto tree = yaml::read(text);
    if (!tree) return fail(Code::invalid, "read", path, fmt::format("line {}: {}", tree.error().at.line, tree.error().message));
    if (tree->documents.size() > 1) return fail(Code::invalid, "read", path, "there is more than one document in it");
    return *std::move(tree);
}

const Node* root_of(const yaml::Tree& tree) { return tree.documents.empty() || tree.documents.front()->null() ? nullptr : tree.documents.front(); }

Result<const Node*> tls_of(const std::string& path, const Node* root) {
    if (root == nullptr) return nullptr;
    if (root->kind != Node::Kind::mapping) return refuse(path, "it is no mapping");
    for (const auto& entry : root->entries)
        if (entry.key == tls_key && entry.repeated) return refuse(path, fmt::format("line {}: {} is there twice", entry.at.line, tls_key));
    const auto* tls = root->find(tls_key);
    if (tls != nullptr && !tls->null() && tls->kind != Node::Kind::mapping) return refuse(path, fmt::format("{} is no mapping", tls_key));
    return tls;
}

std::string indented_line(std::size_t indentation, std::string_view key, std::string_view value, std::string_view end) {
    return fmt::format("{:{}}{}: {}{}", "", indentation, key, scalar_of(value), end);
}

/// A key that is not there yet, before the first one of the mapping.
Result<std::string> insert(const std::string& path, std::string_view text, const Node& tls, std::string_view key, std::string_view value) {
    const auto first = std::ranges::find_if(tls.entries, [](const yaml::Entry& entry) { return !entry.merged; });
    if (first == tls.entries.end()) return refuse(path, fmt::format("{} is written in a form that is not edited; give it a line 'min_version: TLS12'", tls_key));
    const auto at = offset_of(text, first->at);
    const auto before = text.substr(0, at).find_last_not_of(" \t\r\n");
    std::string result(text);
    if (before != std::string_view::npos && text[before] == '{') {
        result.insert(at, fmt::format("{}: {}, ", key, scalar_of(value)));
        return result;
    }
    const auto line = text.substr(0, at).find_last_of("\r\n");
    const auto start = line == std::string_view::npos ? 0 : line + 1;
    if (text.substr(start, at - start).find_first_not_of(' ') != std::string_view::npos) return refuse(path, fmt::format("line {}: it is written in a form that is not edited", first->at.line));
    result.insert(start, indented_line(at - start, key, value, line_end(text)));
    return result;
}

/// The whole block, at the end or where the key stands alone.
Result<std::string> start_block(const std::string& path, std::string_view text, const Node* root, std::string_view key, std::string_view value) {
    const auto end = line_end(text);
    std::string result(text);
    const auto* entry = root == nullptr ? nullptr : root->entry(tls_key);
    if (entry != nullptr) {  // "tls_server_config:" with nothing in it
        const auto at = offset_of(text, entry->at);
        auto line = text.find_first_of("\r\n", at);
        if (line == std::string_view::npos) {
            result += end;
            line = text.size();
        }
        const auto next = std::min(result.size(), line + end.size());
        result.insert(next, indented_line(entry->at.column + 1, key, value, end));
        return result;
    }
    if (root != nullptr && !root->entries.empty() && root->entries.front().at.column != 1) return refuse(path, "it is written in a form that is not edited");
    if (!result.empty() && !result.ends_with('\n')) result += end;
    return result + fmt::format("{}:{}", tls_key, end) + indented_line(2, key, value, end);
}

/// "{}", which says nothing, makes room for a block.
std::string without_braces(std::string_view text, std::size_t at) {
    const auto close = text.find('}', at);
    if (close == std::string_view::npos) return std::string(text);
    std::string result = std::string(text.substr(0, at)) + std::string(text.substr(close + 1));
    if (at < result.size() && result[at] == '\r') result.erase(at, 1);
    if (at < result.size() && result[at] == '\n' && (at == 0 || result[at - 1] == '\n')) result.erase(at, 1);
    return result;
}

Result<std::string> set(const std::string& path, std::string_view text, std::string_view key, std::string_view value) {
    const auto tree = TRY(read_one(path, text));
    const auto* root = root_of(tree);
    const auto* tls = TRY(tls_of(path, root));
    if (root != nullptr && root->entries.empty()) return start_block(path, without_braces(text, offset_of(text, root->at)), nullptr, key, value);
    if (tls == nullptr || tls->null()) return start_block(path, text, root, key, value);
    const auto* entry = tls->entry(key);
    if (entry == nullptr || entry->merged) return insert(path, text, *tls, key, value);
    if (entry->value->kind != Node::Kind::scalar) return refuse(path, fmt::format("line {}: {} is no text", entry->at.line, key));
    if (entry->value->text == value) return std::string(text);
    const auto at = offset_of(text, entry->value->at);
    const auto length = length_of(text.substr(at), *entry->value);
    if (length == 0) return refuse(path, fmt::format("line {}: the value of {} is written in a form that is not edited", entry->at.line, key));
    return std::string(text).replace(at, length, scalar_of(value));
}

bool same(const Node& a, const Node& b, std::span<const std::string_view> apart_from = {}) {
    if (a.kind != b.kind || a.text != b.text || a.tag != b.tag || a.plain != b.plain || a.items.size() != b.items.size()) return false;
    for (std::size_t i = 0; i < a.items.size(); ++i)
        if (!same(*a.items[i], *b.items[i])) return false;
    const auto others = [&](const Node& node) {
        std::vector<const yaml::Entry*> list;
        for (const auto& entry : node.entries)
            if (std::ranges::find(apart_from, entry.key) == apart_from.end()) list.push_back(&entry);
        return list;
    };
    return std::ranges::equal(others(a), others(b), [](const yaml::Entry* x, const yaml::Entry* y) { return x->key == y->key && same(*x->value, *y->value); });
}

/// Whether the new text says what the old one said, but for these keys.
Result<> compare(const std::string& path, std::string_view before, std::string_view after, std::span<const std::string_view> keys) {
    const auto old_tree = TRY(read_one(path, before)), new_tree = TRY(read_one(path, after));
    Node nothing;
    nothing.kind = Node::Kind::mapping;
    const auto* old_root = root_of(old_tree);
    const auto* new_root = root_of(new_tree);
    const auto part = [&](const Node* root) {
        const auto* tls = root == nullptr ? nullptr : root->find(tls_key);
        return tls == nullptr || tls->null() ? &nothing : tls;
    };
    if (new_root == nullptr || !same(old_root == nullptr ? nothing : *old_root, *new_root, {&tls_key, 1}) || !same(*part(old_root), *part(new_root), keys))
        return refuse(path, "it is written in a form that is not edited: something else would change with it");
    return {};
}

}  // namespace

Result<WebTls> read_web_tls(const std::string& path, std::string_view text) {
    const auto tree = TRY(read_one(path, text));
    WebTls web;
    const auto* tls = TRY(tls_of(path, root_of(tree)));
    if (tls == nullptr || tls->null()) return web;
    const auto value = [&](std::string_view key) { return std::string(tls->find(key) == nullptr ? std::string_view() : tls->find(key)->scalar()); };
    web.cert_file = value("cert_file");
    web.key_file = value("key_file");
    web.client_auth_type = value("client_auth_type");
    web.client_ca_file = value("client_ca_file");
    web.inline_pair = tls->find("cert") != nullptr || tls->find("key") != nullptr;
    return web;
}

Result<std::string> edit_web_tls(const std::string& path, std::string_view text, const WebTls& wanted) {
    const auto before = TRY(read_web_tls(path, text));
    if (before.inline_pair) return refuse(path, "the certificate or the key is written into it; take 'cert' and 'key' out first");
    // In this order, because each new one becomes the first.
    const std::array<std::pair<std::string_view, std::string_view>, 4> keys{
        {{"client_ca_file", wanted.client_ca_file}, {"client_auth_type", wanted.client_auth_type}, {"key_file", wanted.key_file}, {"cert_file", wanted.cert_file}}};
    std::string edited(text);
    std::vector<std::string_view> changed;
    for (const auto& [key, value] : keys) {
        if (value.empty()) continue;
        edited = TRY(set(path, edited, key, value));
        changed.push_back(key);
    }
    TRY(compare(path, text, edited, changed));
    const auto after = TRY(read_web_tls(path, edited));
    const bool taken = (wanted.cert_file.empty() || after.cert_file == wanted.cert_file) && (wanted.key_file.empty() || after.key_file == wanted.key_file) &&
                       (wanted.client_auth_type.empty() || after.client_auth_type == wanted.client_auth_type) &&
                       (wanted.client_ca_file.empty() || after.client_ca_file == wanted.client_ca_file);
    if (!taken) return refuse(path, "it is written in a form that is not edited");
    return edited;
}

}  // namespace promwarden::prometheus
