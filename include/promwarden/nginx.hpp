/// nginx — its configuration as a tree, what that configuration does with a request, and the site that a policy asks for.
///
/// Three steps, each a plain value: text → Tree (every directive with its place), Tree → Configuration (servers, locations and what they inherit), Configuration and
/// Request → Answer (which location serves it, which access rules apply, what the upstream receives). The rules are nginx's own, from its source and proved against
/// it; what cannot be known from the configuration (a file's existence, a module this room does not know) makes the answer `unknown`, never a guess.
/// Pure: no I/O, no clock. Files that a configuration includes come from the caller. Regular expressions run in nginx's own engine, PCRE2, with bounded work.
#pragma once

#include <functional>
#include <map>

#include "promwarden/policy.hpp"

namespace promwarden::nginx {

// ---- the tree -------------------------------------------------------------------------------------------------------

/// `file` counts in Tree::files; line and column from 1.
struct Place {
    std::uint32_t file = 0, line = 0, column = 0;
    bool operator==(const Place&) const = default;
};

struct Word {
    std::string text;  // quotes and escapes undone as nginx does it: in "a\.b" the backslash stays, in "a\\b" one of two goes
    Place at;
    bool quoted = false;
};

struct Directive {
    std::string name;
    Place at;
    std::vector<Word> words;       // after the name
    std::vector<Directive> block;  // what is between braces
    bool has_block = false;
    bool code = false;     // a block in another language (content_by_lua_block): skipped
    bool missing = false;  // an include whose files the caller did not give

    [[nodiscard]] std::string_view word(std::size_t index) const { return index < words.size() ? std::string_view(words[index].text) : std::string_view(); }
};

struct Problem {
    Place at;
    std::string message;
    bool limit = false;  // a bound that protects us, not a mistake in the configuration
};

struct Tree {
    std::vector<std::string> files;  // in the order in which they were first read; [0] is the one asked for
    std::vector<Directive> directives;
    std::optional<Problem> problem;  // why nginx would not read it; `directives` hold what came before
    bool complete = true;            // no include is missing
};

/// Where included files come from. Paths are absolute where the prefix is.
class Files {
public:
    virtual ~Files() = default;
    /// Code::missing where there is none.
    virtual Result<std::string> read(const std::string& path) = 0;
    /// The paths that match a pattern with *, ? or [, in order.
    virtual Result<std::vector<std::string>> match(const std::string& pattern) = 0;
};

/// Reads `text` as the file `path`. Relative includes are relative to `prefix` (the directory of nginx.conf). Without `files`, includes are kept as directives that
/// are `missing`; with it, one that cannot be read is a problem, as for nginx.
/// Limits: 8 MiB a file, 32 MiB together, 2,000 files, 20 levels of include, 60 of blocks, 400,000 directives, 4,095 bytes a word (nginx's own).
Tree read(std::string path, std::string_view text, const std::string& prefix = {}, Files* files = nullptr);

// ---- the configuration ----------------------------------------------------------------------------------------------

class Regex;  // a compiled expression

/// A block and what it is inside of: http, server, location, "if" in a location, limit_except. What it does not set itself it inherits from its parent, by the rules of
/// each directive.
struct Level {
    enum class Kind : std::uint8_t { http, server, location, condition, limit_except } kind = Kind::http;
    enum class Match : std::uint8_t { prefix, preferential, exact, regex, named } match = Match::prefix;  // of a location: none, ^~, =, ~ or ~*, @
    const Directive* directive = nullptr;  // null for an http level that no file has
    const Level* parent = nullptr;
    bool open = false;     // a fragment: settings around it are not in the file
    bool missing = false;  // an include in it was not given
    std::string name;      // of a location, as it is compared
    std::shared_ptr<const Regex> regex;
    std::vector<std::unique_ptr<Level>> inside;  // in the order of the file

    /// The directives of that name in this block itself.
    [[nodiscard]] std::vector<const Directive*> own(std::string_view directive) const;
    /// Those of the nearest level that has any: how nginx inherits lists.
    [[nodiscard]] std::vector<const Directive*> nearest(std::string_view directive) const;
    /// The last one of the nearest level, or null: how nginx inherits single values.
    [[nodiscard]] const Directive* setting(std::string_view directive) const;
    /// The server it belongs to; null for http.
    [[nodiscard]] const Level* server() const;
};

struct Listen {
    std::string text;            // as it is written
    std::string address;         // "127.0.0.1", "::", "0.0.0.0" for any; "unix:/run/x"
    std::uint16_t port = 80;
    bool ssl = false, default_server = false, proxy_protocol = false;
    const Directive* directive = nullptr;  // null: nginx's default, *:80
    [[nodiscard]] bool loopback() const;
};

struct Server {
    const Level* level = nullptr;
    std::vector<Listen> listens;
    std::vector<std::string> names;
    std::vector<std::pair<std::string, std::shared_ptr<const Regex>>> name_regexes;
};

struct Upstream {
    std::string name;
    const Directive* directive = nullptr;
    std::vector<std::string> servers;  // host:port as written
};

/// How much of a configuration a text is.
enum class Extent : std::uint8_t {
    whole,     // with its http block
    http,      // what stands inside http: servers, upstreams, maps
    server,    // what stands inside a server: locations
    location,  // what stands inside a location
    none,      // nothing about HTTP
};

struct Configuration {
    Tree tree;
    Extent extent = Extent::none;
    std::vector<std::unique_ptr<Level>> http;  // one, or the wrapping of a fragment
    std::vector<Server> servers;
    std::map<std::string, Upstream, std::less<>> upstreams;
    std::map<std::string, const Directive*, std::less<>> maps;   // by the variable they make, without "$"
    std::map<std::string, const Directive*, std::less<>> others;  // variables that other blocks make (geo, split_clients …): unknown
    std::map<std::string, const Directive*, std::less<>> log_formats;
    mutable std::map<std::string, std::shared_ptr<const Regex>, std::less<>> regexes;  // compiled once; hence not for two threads at a time
};

/// Levels point into the tree, so a Configuration does not move: hence the pointer.
std::unique_ptr<const Configuration> compile(Tree tree);

/// "http.server[0].location[/api/].proxy_pass": a directive of that name, or the block itself where it is empty. `http` is left out for fragments.
std::string path_of(const Configuration& configuration, const Level& level, std::string_view directive = {});

// ---- requests -------------------------------------------------------------------------------------------------------

struct Header {
    std::string name, value;
    bool operator==(const Header&) const = default;
};

/// What an upstream is sent.
struct Passed {
    const Directive* directive = nullptr;  // the proxy_pass
    std::string scheme, authority;         // "http", "127.0.0.1:9090" or an upstream's name
    std::string method, target;
    std::vector<Header> headers;           // in no particular order; not those of the body
};

struct Request {
    std::string method = "GET";
    std::string target = "/";  // as it stands in the request line
    std::string host;          // "": no Host header
    std::vector<Header> headers;
    std::string client = "192.0.2.1";  // address
    std::string listener;              // "127.0.0.1:443"; "": the listeners of `server`
    const Level* server = nullptr;     // ask this one, whatever the host says
    bool tls = false;

    enum class Credentials : std::uint8_t { none, wrong, right } credentials = Credentials::none;
    std::string user;  // whose credentials; also what $remote_user says
    /// What an upstream answers to the subrequest of an auth_request; nullopt: nobody knows.
    std::function<std::optional<int>(const Passed&)> decide;
    /// Whether a file is there, for try_files, -f and static content; nullopt: nobody knows.
    std::function<std::optional<bool>(const std::string&)> exists;
};

/// One thing that happened to a request, for a person.
struct Step {
    const Directive* directive = nullptr;
    std::string text;
};

struct Answer {
    enum class Kind : std::uint8_t {
        status,   // nginx answers itself
        passed,   // an upstream answers
        file,     // a file is served, or is not there
        closed,   // the connection is closed without an answer
        unknown,  // `reason` says why
    } kind = Kind::unknown;
    int status = 0;         // of kind status; of kind passed, one that error_page or "=" imposes, else 0
    std::string redirect;   // where a status 3xx sends the client
    std::string reason;
    const Level* server = nullptr;
    const Level* location = nullptr;  // the innermost block that serves it
    std::string uri;                  // decoded and normalised, as locations saw it last
    std::optional<Passed> passed;
    bool authenticated = false;       // an access rule asked who is there and was satisfied
    std::vector<Step> steps;
};

Answer evaluate(const Configuration& configuration, const Request& request);

// ---- Prometheus' endpoints -------------------------------------------------------------------------------------------

/// Who may ask for an endpoint where the policy does not say otherwise.
enum class Grant : std::uint8_t {
    viewer,  // whoever has proved who they are
    admin,   // members of the role admin
    nobody,  // not through the proxy
};

struct Route {
    std::string_view path;
    bool below = false;   // and everything below it; `path` then ends in "/"
    std::uint16_t since = 242;  // the first version that has it: 300 is 3.0
    Grant grant = Grant::admin;
    bool post = false;    // takes POST as well as GET
};
/// Every endpoint of the versions 2.42 to `newest_version`, by its path without a route prefix.
std::span<const Route> routes();
inline constexpr std::uint16_t newest_version = 314;
/// The row that a path belongs to: itself, or the longest one that it is below of.
const Route* find_route(std::string_view path);

// ---- files read before ------------------------------------------------------------------------------------------------

/// The tree of a configuration whose texts were observed.
Tree read(const ProxyServer& server);

/// The text of a server's configuration in which whatever would include `path` includes `instead` at its place, whether there is a file of that name yet or not: so a
/// file is tried before it has its name. nullopt: nothing would include it.
std::optional<std::string> text_with(const ProxyServer& server, const std::string& path, const std::string& instead);

/// How the lines of a password file were made. The hashes themselves are not kept.
std::vector<PasswordLine> read_passwords(std::string_view text);

// ---- the proxy's users -------------------------------------------------------------------------------------------------

/// A name that can stand in a password file, in a policy and in a request: 1 to 64 printable ASCII characters, none of ":\"\\" nor a space, the first a letter or a digit.
bool is_user_name(std::string_view name);
/// A password as a line of that file holds it: SHA-512-crypt with a salt of its own, which nginx checks in a few milliseconds. At most 256 bytes, no NUL.
Result<std::string> hash_password(const std::string& password);
/// The text with that user's line, in the place of every line that the user had; other lines stay as they are.
std::string with_user(std::string_view text, std::string_view name, std::string_view hash);
/// The text without the user's lines; nullopt where there is none.
std::optional<std::string> without_user(std::string_view text, std::string_view name);

/// The roles that the policy gives a user of the password file. Whoever is in the file is a viewer, named or not.
std::vector<std::string> roles_of(const AccessPolicy& access, std::string_view user);

/// The group of nginx's workers: "www-data" on Debian, "nginx" elsewhere.
const char* worker_group();

// ---- the identity proxy ----------------------------------------------------------------------------------------------

/// One setting of oauth2-proxy: of its configuration file (TOML's simple form), as a flag, or as an environment variable.
struct IdentitySetting {
    std::string name;                 // with underscores: "cookie_secure", plurals as the file has them
    std::vector<std::string> values;  // never shown
    Place at;
    [[nodiscard]] bool is_true() const { return values.size() == 1 && values.front() == "true"; }
};
/// The settings of a text, in order; nullopt where it does not look like one of oauth2-proxy.
std::optional<std::vector<IdentitySetting>> read_identity(std::string_view text);

// ---- the site that a policy asks for -----------------------------------------------------------------------------------

inline constexpr std::string_view admin_role = "admin", viewer_role = "viewer";

/// What the site needs besides the policy. Defaults are where this product installs it.
struct SitePaths {
    std::string certificate = "/etc/nginx/promwarden/tls/cert.pem", key = "/etc/nginx/promwarden/tls/key.pem";
    std::string certificate_file;                        // to include in their place: it names both
    std::string passwords = "/etc/nginx/promwarden/htpasswd";
    std::string log = "/var/log/nginx/promwarden_access.log";
    std::string backend_authority;                       // verifies the backend's certificate; "": the backend speaks no TLS
    std::string client_file;                             // to include for a backend that asks for a certificate: it names ours
};
/// Where the policy's certificates are: what it says of [access], and of a Prometheus that speaks TLS and may ask for a certificate.
SitePaths site_paths(const Policy& policy);

/// The text of a site (what stands inside of http) that enforces [access]: exact locations with constant upstream targets for what a role may ask for, a location for
/// administrators for everything else, and nobody for what stops, reloads or writes. `version` decides which endpoints exist. Code::invalid where the policy has no
/// [access], gives a role what nobody may reach through a proxy, or has a role that its way of authentication cannot tell (users without groups, with an identity service).
Result<std::string> render_site(const Policy& policy, std::uint16_t version, const SitePaths& paths);
inline Result<std::string> render_site(const Policy& policy, std::uint16_t version = 242) { return render_site(policy, version, site_paths(policy)); }

// ---- pieces that others use -----------------------------------------------------------------------------------------

/// A request target as nginx reads it.
struct Target {
    std::string raw;    // $request_uri
    std::string path;   // decoded once, dot segments resolved; slashes merged where asked for
    std::string args;
    std::string host;   // of an absolute-form target
    bool quoted = false, plus = false;  // it held a %, a +
};
/// nullopt: 400.
std::optional<Target> parse_target(std::string_view target, bool merge_slashes);

/// A text with variables, as nginx cuts it: literal parts and names.
struct Part {
    std::string text;      // literal, or the name of a variable
    bool variable = false;
};
std::vector<Part> parts_of(std::string_view text);
/// The names of the variables in a text.
std::vector<std::string> variables_in(std::string_view text);

}  // namespace promwarden::nginx
