// Secrets where others can read them: typed keys with a value in the file, URLs, parameters and headers that the API shows, and literals copied from a masked dump.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

/// "/etc/prometheus/secrets/scrape_configs-0-basic_auth-password"
std::string secret_file(const Path& path) {
    std::string name;
    for (const unsigned char c : path.text()) {
        if (std::isalnum(c) != 0 || c == '_') name.push_back(static_cast<char>(c));
        else if (!name.empty() && name.back() != '-') name.push_back('-');
    }
    while (!name.empty() && name.back() == '-') name.pop_back();
    return "/etc/prometheus/secrets/" + name;
}

std::string migrate(const Walk& walk, const Key& key, const Path& path, yaml::Position key_at) {
    const auto file = secret_file(path);
    if (key.twin.empty()) return fmt::format("{} has no key that takes a file: use an instance role or profile, or keep this file 0640 root:prometheus", key.name);
    const auto move = fmt::format("write the value to {} (0640 root:prometheus) and ", file);
    if (key.value == prometheus::Value::secrets) return move + fmt::format("list that path under `{}` instead of `{}`", key.twin, key.name);
    if (key.twin.find('.') != std::string_view::npos) return move + fmt::format("set `{}` to that path instead", key.twin);
    return move + line_with(walk.place(path, key_at), fmt::format("{}: {}", key.twin, file));
}

void redacted(const Walk& walk, const Path& path, yaml::Position at) {
    walk.verdicts.fail(Id::redacted_literal, walk.place(path, at), "the secret's own file or value", "a mask, as the status page and dumps show in place of a secret",
                       fmt::format("line {}: put back what the mask replaced, in a file of its own", in_file(walk.document, at).line));
}

void exposed(const Walk& walk, const Path& path, yaml::Position at, std::string observed) {
    walk.verdicts.fail(Id::exposed_parameters, walk.place(path, at), "credentials only where the API hides them: basic_auth, authorization, oauth2.client_secret_file, http_headers.*.files",
                       std::move(observed), fmt::format("line {}: move it to basic_auth.password_file, authorization.credentials_file or http_headers.<name>.files", in_file(walk.document, at).line));
}

/// A text that whoever reads the status pages sees, passed under a name that announces a secret.
void shown_value(const Walk& walk, const Node& node, const Path& path, std::string_view name) {
    switch (written(node)) {
        case Written::literal: exposed(walk, path, node.at, fmt::format("a value for \"{}\" that /api/v1/status/config and the targets page show", show_key(name))); break;
        case Written::filled_later: walk.verdicts.undecided(Id::exposed_parameters, walk.place(path, node.at), "its value is filled in later"); break;
        case Written::redacted: redacted(walk, path, node.at); break;
        default: break;
    }
}

void query(const Walk& walk, const Node& node, const Path& path, std::string_view query) {
    while (!query.empty()) {
        const auto end = std::min(query.find('&'), query.size());
        const auto pair = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
        const auto equals = pair.find('=');
        if (equals == std::string_view::npos || !sounds_secret(pair.substr(0, equals), true)) continue;
        Node part;
        part.text = pair.substr(equals + 1);
        part.at = node.at;
        part.plain = false;
        if (written(part) == Written::literal)
            exposed(walk, path, node.at, fmt::format("the URL's query passes \"{}\", which the API shows", show_key(pair.substr(0, equals))));
    }
}

}  // namespace

void secret(const Walk& walk, const Node& node, const Key& key, const Path& path, yaml::Position key_at) {
    const Id id = key.in == Shape::web_tls ? Id::inline_key : Id::secrets_inline;
    switch (written(node)) {
        case Written::nothing:
        case Written::variable: break;  // a variable is secrets.dead-variables
        case Written::redacted: redacted(walk, path, node.at); break;
        case Written::filled_later: walk.verdicts.undecided(id, walk.place(path, node.at), "its value is filled in later"); break;
        case Written::literal:
            walk.verdicts.fail(id, walk.place(path, key_at), key.twin.empty() ? "no secret in the file" : fmt::format("{} with a path", key.twin),
                               fmt::format("{} with the value in the file", key.name), migrate(walk, key, path, key_at));
    }
}

void shown(const Walk& walk, const Node& node, const Path& path, std::string_view name) {
    if (!sounds_secret(name, false)) return;
    if (node.kind == Node::Kind::sequence) {
        for (std::size_t i = 0; i < node.items.size(); ++i) shown_value(walk, *node.items[i], path[i], name);
    } else if (node.kind == Node::Kind::scalar) {
        shown_value(walk, node, path, name);
    }
}

void url(const Walk& walk, const Node& node, const Path& path) {
    if (node.kind == Node::Kind::sequence) {
        for (std::size_t i = 0; i < node.items.size(); ++i) url(walk, *node.items[i], path[i]);
        return;
    }
    const auto parts = parse_url(node.scalar());
    if (!parts.has_scheme) return;
    if (!parts.password.empty()) {
        Node password;
        password.text = parts.password;
        password.plain = false;
        const auto kind = written(password);
        if (kind == Written::literal) exposed(walk, path, node.at, "the URL holds a user's password");
        if (kind == Written::redacted) redacted(walk, path, node.at);
        if (kind == Written::filled_later) walk.verdicts.undecided(Id::exposed_parameters, walk.place(path, node.at), "the password in the URL is filled in later");
    }
    query(walk, node, path, parts.query);
}

}  // namespace promwarden::files
