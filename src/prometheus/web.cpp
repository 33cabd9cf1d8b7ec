// web.yml as rotation needs it: the certificates that it names, read and changed.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "promwarden/edit.hpp"

namespace promwarden::prometheus {

namespace {

using yaml::Node;

constexpr std::string_view tls_key = "tls_server_config";
constexpr std::size_t largest_web_config = 1 << 20;

std::unexpected<Error> refuse(const std::string& path, std::string why) { return fail(Code::invalid, "edit", path, std::move(why)); }

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
    std::vector<yaml::Edit> edits;
    for (const auto& [key, value] : keys)
        if (!value.empty()) edits.push_back({yaml::Edit::Kind::set, fmt::format("{}.{}", tls_key, key), std::string(value)});
    return yaml::edit(path, text, edits);
}

}  // namespace promwarden::prometheus
