/// prometheus — the readers of Prometheus' own files: prometheus.yml, web.yml, rule files, scrape configuration fragments and promtool's HTTP client file.
///
/// text → Document: a tree with the line and column of every key and value, and what kind of file it is, told from its content. And the schema of those files
/// as one table: which keys exist where, since which version, and which of them hold a secret, name a file or a peer.
/// Pure: no I/O, no clock. Accepts what Prometheus accepts (its YAML library is a port of the one used here). Never shows a value: errors carry places, not text.
#pragma once

#include <cstddef>
#include <span>

#include "promwarden/base.hpp"

namespace promwarden::yaml {

/// Line and column count from 1.
struct Position {
    std::uint32_t line = 0, column = 0;
};

struct Node;

struct Entry {
    std::string_view key;  // "" where the key is not a scalar
    Position at;           // of the key
    const Node* value = nullptr;
    bool merged = false;    // comes from "<<"
    bool repeated = false;  // the mapping has this key already; find() gives the first
};

/// One value. Nodes are shared where an alias repeats them, so a place in the file can be reached by several paths.
struct Node {
    enum class Kind : std::uint8_t { scalar, sequence, mapping } kind = Kind::scalar;
    bool plain = true;       // a scalar without quotes
    bool templated = false;  // "{{ name }}" without quotes, which YAML reads as a mapping whose key is a mapping; a scalar without text here
    std::uint16_t height = 1;
    std::uint32_t weight = 1;  // nodes below and this one, every alias counted in full
    Position at;
    std::string_view text;  // of a scalar
    std::string_view tag;   // as it is written, "" without one
    std::span<const Node* const> items;  // of a sequence
    std::span<const Entry> entries;      // of a mapping, with what "<<" brings in

    [[nodiscard]] const Node* find(std::string_view key) const;
    [[nodiscard]] const Entry* entry(std::string_view key) const;
    /// Nothing, "~" or "null".
    [[nodiscard]] bool null() const;
    /// A scalar's text, "" for anything else.
    [[nodiscard]] std::string_view scalar() const { return kind == Kind::scalar ? text : std::string_view{}; }
};

struct Problem {
    Position at;
    std::string message;
    bool limit = false;  // a bound that protects us, not a mistake in the YAML
};

/// The documents of one text. Copies share the nodes.
struct Tree {
    std::vector<const Node*> documents;
    std::shared_ptr<void> memory;
};

/// Limits: 64 MiB of text, 8 million nodes, 200 levels; aliases and "<<" together may stand for 2 million nodes more than are written.
std::expected<Tree, Problem> read(std::string_view text);

}  // namespace promwarden::yaml

namespace promwarden::prometheus {

// ---- documents ------------------------------------------------------------------------------------------------------

enum class FileKind : std::uint8_t {
    unknown,
    prometheus,      // prometheus.yml, or the form of scrape_config_files
    scrape_configs,  // a list of scrape configurations, or one of them, meant to be pasted or assembled
    web,             // --web.config.file
    rules,           // a rule file, or a list of rules or groups
    http_client,     // promtool --http.config.file
    targets,         // file_sd
    nginx,           // not Prometheus' own: see nginx.hpp
    oauth2_proxy,
    compose,         // see deployment.hpp
    unit,
};
std::string_view to_text(FileKind kind);
std::optional<FileKind> file_kind(std::string_view name);

struct Document {
    std::string path;
    FileKind kind = FileKind::unknown;
    const yaml::Node* root = nullptr;      // null where nothing could be read
    std::optional<yaml::Problem> problem;  // why the text is not YAML
    bool repaired = false;                 // the text lost its indentation: `root` is what it says with list items indented again
    std::vector<bool> moved;               // by line from 0, where repaired: the line was moved two columns to the right
    bool templated = false;                // it holds template marks ({{ }}, {% %}, <% %>, %{ }): what is between them cannot be judged
    std::string note;                      // for an unknown kind: what it seems to be
    yaml::Tree tree;
};

/// Where a node of that document stands in the file.
yaml::Position in_file(const Document& document, yaml::Position at);

/// `as` overrides the kind that the content suggests.
Document read_document(std::string path, std::string_view text, std::optional<FileKind> as = {});

// ---- web.yml, edited ------------------------------------------------------------------------------------------------

/// What web.yml says about the server's certificate and its clients'. Paths are as they are written: relative ones start at the file's directory.
struct WebTls {
    std::string cert_file, key_file, client_auth_type, client_ca_file;
    bool inline_pair = false;  // `cert` or `key` hold PEM themselves
};
/// Code::invalid where it is not what Prometheus would read.
Result<WebTls> read_web_tls(const std::string& path, std::string_view text);

/// The text with those values of `wanted` that are not empty. Everything else survives byte for byte: other keys, their order, comments, line ends. Refused
/// where that cannot be promised: what is written in a form that is not edited, what an alias would change elsewhere, what holds a pair itself.
Result<std::string> edit_web_tls(const std::string& path, std::string_view text, const WebTls& wanted);

// ---- schema ---------------------------------------------------------------------------------------------------------

/// A version as 100 * major + minor: 2.42 is 242.
using Version = std::uint16_t;
std::string version_text(Version version);
constexpr Version oldest_version = 242;

enum class Shape : std::uint8_t {
    any,  // nothing is known about what is inside
    top, global, runtime, storage, tsdb, retention, exemplars, tracing, otlp, alerting, alertmanager,
    scrape, static_config, relabel, http, basic_auth, authorization, oauth2, tls, header,
    remote_write, remote_read, queue, metadata, sigv4, azuread, azuread_oauth, azuread_certificate, google_iam,
    azure_sd, consul_sd, digitalocean_sd, docker_sd, dockerswarm_sd, dns_sd, ec2_sd, eureka_sd, file_sd, gce_sd, hetzner_sd, http_sd, ionos_sd, kubernetes_sd, kuma_sd,
    lightsail_sd, linode_sd, marathon_sd, nerve_sd, nomad_sd, openstack_sd, ovhcloud_sd, puppetdb_sd, scaleway_sd, serverset_sd, triton_sd, uyuni_sd, vultr_sd,
    aws_sd, stackit_sd, outscale_sd, oci_sd,
    web, web_tls, web_http, web_headers, web_rate_limit,
    rule_file, rule_group, rule,
    count_,
};

enum class Value : std::uint8_t {
    text,        // any scalar or list of scalars
    duration,    // a scalar with a unit
    secret,      // a secret that belongs in the twin
    secrets,     // a list of them
    named_secrets,  // name → list of secrets
    file,        // a file, or a list of files or globs, that Prometheus reads
    output,      // a file that Prometheus writes
    peer,        // the URL or host:port of something Prometheus talks to
    peers,       // a list of those
    proxy,       // the URL of a proxy
    shown,       // name → text or list of texts that the API shows to every reader
    shown_list,  // a list of texts that the API shows to every reader
    labels,      // name → text
    hashes,      // name → bcrypt hash
    reference,   // of a secret manager; no released Prometheus has one
    one,         // a mapping of `shape`
    many,        // a list of mappings of `shape`
    named,       // name → mapping of `shape`
};

enum class Form : std::uint8_t {
    word,          // one scalar
    words,         // a list of scalars
    boolean,       // true or false, without quotes
    count,         // a number without quotes, not negative
    number,        // a number without quotes
    size,          // bytes with their unit: 10MB
    url,           // one that Go parses
    http_url,      // with scheme and host
    rule_paths,    // every "*" in the last part
    target_paths,  // the same, and it ends with .json, .yml or .yaml
    rooted_paths,  // each begins with "/"
};
struct Demand {
    Shape in;  // any: wherever that key stands
    std::string_view key;
    Form form = Form::word;
    std::string_view choices = {};  // "TLS12|TLS13": the only values; "": any
};

struct Key {
    Shape in;
    std::string_view name;
    Value value = Value::text;
    Shape shape = Shape::any;
    std::string_view twin = {};  // of a secret: the key that takes a file instead
    Version since = 0;           // 0: before 2.42
    Version until = 0;           // the first version that no longer knows it; 0: still there
    const Demand* demand = nullptr;
};

/// The key in that shape or in the HTTP client block that the shape includes.
const Key* find_key(Shape shape, std::string_view name);
/// All names of a shape.
std::vector<std::string_view> key_names(Shape shape);
/// The key of that name wherever it is most often meant; null where it is no key at all.
const Key* find_home(std::string_view name);
std::string_view to_text(Shape shape);
/// Shapes that grow with every release: only a near miss of a known key is called unknown.
bool grows(Shape shape);

// ---- what settings must be together ---------------------------------------------------------------------------------

/// Lists of keys are written "a|b".
struct Need {
    Shape in;
    std::string_view keys;         // one of them has to be there, and say something
    std::string_view when = {};    // only where one of these is there
    std::string_view unless = {};  // not where one of these is there
};
std::span<const Need> all_needs();
struct Exclusion {
    Shape in;  // http: every shape that includes that block
    std::string_view keys;  // at most one of them
};
std::span<const Exclusion> all_exclusions();

// ---- files that a document names ------------------------------------------------------------------------------------

struct NamedPath {
    std::string text;  // as it is written: relative to the document's directory, a glob where the key takes one
    const Key* key = nullptr;
    yaml::Position at;
    std::string path;  // "scrape_configs[0].basic_auth.password_file"
};
/// In the order of the document, at most 10,000.
std::vector<NamedPath> named_files(const Document& document);

// ---- regular expressions --------------------------------------------------------------------------------------------

/// Whether a relabelling regular expression (RE2 syntax, anchored at both ends) matches each of the texts; nullopt where it does not compile.
std::optional<std::vector<bool>> matches(std::string_view expression, std::span<const std::string_view> texts);

}  // namespace promwarden::prometheus
