/// Internal to the file controls: where their findings are collected, and the walk that visits every key of a document once.
#pragma once

#include <array>
#include <unordered_map>

#include "promwarden/lint.hpp"
#include "promwarden/template.hpp"

namespace promwarden::files {

using prometheus::Document;
using prometheus::Key;
using prometheus::Shape;
using yaml::Entry;
using yaml::Node;

enum class Id : std::uint8_t {
    password_hashes, server, protocol, client_auth, scrape, remote_write, other_clients, federation, secrets_inline, inline_key, exposed_parameters, redacted_literal,
    dead_variables, redaction, identity, query_log, query_rate, auth_failures, reload_failed, startable, honor_labels, docker_socket, invalid, retention,
    count_,
};

/// A path from the root, as a list that grows on the stack: scrape_configs[0].basic_auth.password.
struct Path {
    const Path* parent = nullptr;
    std::string_view key;
    std::size_t index = 0;
    bool is_index = false;

    [[nodiscard]] Path operator/(std::string_view name) const { return {this, name, 0, false}; }
    [[nodiscard]] Path operator[](std::size_t item) const { return {this, {}, item, true}; }
    [[nodiscard]] std::string text() const;
};

struct Place {
    const Document& document;
    const Path& path;
    yaml::Position at;
};

/// What is known about one control so far.
struct Bin {
    std::vector<Finding> findings;
    std::size_t more = 0;
    std::vector<std::string> undecided;
    bool touched = false;  // something was there to judge
};

class Verdicts {
public:
    void fail(Id id, const Place& place, std::string expected, std::string observed, std::string remedy);
    /// `why` follows the place: "the address is filled in by a template".
    void undecided(Id id, const Place& place, std::string_view why);
    void undecided(Id id, const Document& document, std::string_view why) { undecided(id, document.path, why); }
    void undecided(Id id, const std::string& where, std::string_view why);
    void touch(Id id) { of(id).touched = true; }
    /// Whether a regular expression compiles; each one is compiled once.
    [[nodiscard]] bool compiles(std::string_view expression);
    [[nodiscard]] Bin& of(Id id) { return bins_[static_cast<std::size_t>(id)]; }

private:
    std::array<Bin, static_cast<std::size_t>(Id::count_)> bins_;
    std::unordered_map<std::string_view, bool> compiled_;
};

// ---- values ---------------------------------------------------------------------------------------------------------

enum class Written : std::uint8_t {
    nothing,      // empty
    literal,      // what it says
    variable,     // ${NAME}: Prometheus takes it literally
    filled_later, // a template or a placeholder
    redacted,     // "<secret>": copied from the status page
};
/// What a scalar's text is, as far as its value goes.
Written written(const Node& node);
/// The variable in it, as "${NAME}": never its default. "" for none.
std::string variable_in(std::string_view text);
bool is_true(const Node* node);
std::string lower(std::string_view text);

enum class Where : std::uint8_t { loopback, remote, unknown };
/// Of "host:port", "[::1]:9090", "host".
Where where_is(std::string_view address);

struct Url {
    std::string_view scheme, user, password, host, query;  // host with its port
    bool has_scheme = false;
};
Url parse_url(std::string_view text);
/// A name under which secrets are passed: "X-Api-Key", "token". `in_url` adds names that only a URL's query uses so.
bool sounds_secret(std::string_view name, bool in_url);

/// A key's text that is safe to show.
std::string show_key(std::string_view key);
std::string line_with(const Place& place, std::string_view text);

// ---- the walk -------------------------------------------------------------------------------------------------------

/// Who is being talked to by the block that is being walked.
struct Client {
    Id id = Id::other_clients;
    bool loopback_only = false;
};

struct Walk {
    const Document& document;
    const LintOptions& options;
    Verdicts& verdicts;

    void block(const Node& node, Shape shape, const Path& path, const Client& client) const;
    [[nodiscard]] Place place(const Path& path, yaml::Position at) const { return {document, path, at}; }

private:
    void value(const Entry& entry, const Key& key, const Path& path, const Client& client) const;
    void children(const Node& node, const Key& key, const Path& path, const Client& client) const;
};

/// Every scalar below a value: variables that nobody expands.
void variables(const Walk& walk, const Node& node, const Path& path, yaml::Position key_at);

// keys.cpp: names and values that Prometheus refuses
/// Both controls say the same from two sides: the file is wrong, and therefore Prometheus would not start with it.
void refuse(const Walk& walk, const Place& place, const std::string& observed, const std::string& remedy);
void further_documents(const Walk& walk);
void unknown_key(const Walk& walk, const Node& block, const Entry& entry, Shape shape, const Path& path);
void repeated_key(const Walk& walk, const Entry& entry, const Path& path);
void known_key(const Walk& walk, const Entry& entry, const Key& key, const Path& path);
void block_rules(const Walk& walk, const Node& node, Shape shape, const Path& path);
/// A name that only one block of a list may have.
void names_once(const Walk& walk, const Node& root, const Path& path, std::string_view list, std::string_view key);
void top_rules(const Walk& walk, const Node& root, const Path& path);
void not_yaml(Verdicts& verdicts, const Document& document);

// requirements.cpp: values and combinations that Prometheus refuses
/// Whether it is there and says something.
bool given(const Node& block, std::string_view key);
void value_demands(const Walk& walk, const Entry& entry, const Key& key, const Path& path);
void block_demands(const Walk& walk, const Node& block, Shape shape, const Path& path);

// expressions.cpp
void rule_demands(const Walk& walk, const Node& rule, const Path& path);

// relabel.cpp
void relabel_rules(const Walk& walk, const Node& rule, const Path& path);

// secrets.cpp
void secret(const Walk& walk, const Node& node, const Key& key, const Path& path, yaml::Position key_at);
void shown(const Walk& walk, const Node& node, const Path& path, std::string_view name);
void url(const Walk& walk, const Node& node, const Path& path);

// transport.cpp: outgoing connections
Client client_of(const Walk& walk, const Node& node, Shape shape, const Path& path, const Client& outer);
void tls_block(const Walk& walk, const Node& node, const Path& path, const Client& client);

// labels.cpp: relabelling, federation, honor_labels
void relabelling(const Walk& walk, const Node& rules, std::string_view key, const Path& path);
void job(const Walk& walk, const Node& node, const Path& path);

// web.cpp
void web(const Walk& walk, const Node& root, const Path& path);

// rules.cpp
void rule(const Walk& walk, const Node& node, const Path& path);
/// What a whole configuration lacks for its alerts to be raised.
void alerting(std::span<const Document> documents, const LintOptions& options, Verdicts& verdicts);

/// Calls `found` with each static target of a scrape configuration or an Alertmanager. The path lives while `found` runs.
template <class Found>
void static_targets(const Node& block, const Path& path, Found&& found) {
    const auto* groups = block.find("static_configs");
    if (groups == nullptr) return;
    const Path list = path / "static_configs";
    for (std::size_t i = 0; i < groups->items.size(); ++i) {
        const auto* targets = groups->items[i]->find("targets");
        if (targets == nullptr) continue;
        const Path group = list[i], names = group / "targets";
        for (std::size_t j = 0; j < targets->items.size(); ++j)
            if (const auto& target = *targets->items[j]; !target.null()) found(target, names[j]);
    }
}
/// Whether its targets are found at run time.
bool discovers(const Node& block);

}  // namespace promwarden::files
