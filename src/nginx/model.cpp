// Tree → Configuration: which block is inside of which, and the tables that requests are looked up in.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "regex.hpp"
#include "text.hpp"

namespace promwarden::nginx {

namespace {

using Kind = Level::Kind;
using Match = Level::Match;

constexpr std::string_view http_names[] = {"server", "upstream", "map", "log_format", "geo", "split_clients", "limit_req_zone", "limit_conn_zone", "proxy_cache_path", "map_hash_bucket_size"};
constexpr std::string_view location_names[] = {"proxy_pass", "auth_basic", "auth_basic_user_file", "auth_request", "proxy_set_header", "satisfy", "allow", "deny", "ssl_protocols",
                                               "ssl_certificate", "ssl_ciphers", "proxy_ssl_verify", "return", "rewrite", "listen", "server_name", "access_log", "if", "auth_request_set"};

template <std::size_t N>
bool is_one(std::string_view name, const std::string_view (&names)[N]) {
    return std::ranges::find(names, name) != std::end(names);
}

bool has(const std::vector<Directive>& block, auto&& test) { return std::ranges::any_of(block, test); }

Extent extent_of(const std::vector<Directive>& top) {
    if (has(top, [](const Directive& d) { return d.name == "http" && d.has_block; })) return Extent::whole;
    if (has(top, [](const Directive& d) { return is_one(d.name, http_names) && (d.has_block || d.name != "server"); })) return Extent::http;
    if (has(top, [](const Directive& d) { return (d.name == "location" && d.has_block) || d.name == "listen" || d.name == "server_name"; })) return Extent::server;
    if (has(top, [](const Directive& d) { return is_one(d.name, location_names); })) return Extent::location;
    return Extent::none;
}

/// What is known of a location from its words.
void name_location(Level& level, const Configuration& configuration) {
    auto mark = level.directive->words.size() > 1 ? level.directive->word(0) : std::string_view();
    auto name = level.directive->words.size() > 1 ? level.directive->word(1) : level.directive->word(0);
    if (mark.empty()) {
        for (const std::string_view each : {"=", "^~", "~*", "~"})
            if (name.starts_with(each)) {
                mark = each;
                name.remove_prefix(each.size());
                break;
            }
    }
    level.name = name;
    if (mark == "=") level.match = Match::exact;
    else if (mark == "^~") level.match = Match::preferential;
    else if (mark == "~" || mark == "~*") level.match = Match::regex;
    else if (name.starts_with('@')) level.match = Match::named;
    if (level.match == Match::regex) level.regex = regex_of(configuration, name, mark == "~*");
}

class Compiler {
public:
    explicit Compiler(Configuration& made) : made_(made) {}

    void run() {
        const auto& top = made_.tree.directives;
        made_.extent = extent_of(top);
        if (made_.extent == Extent::whole) {
            for (const auto& directive : top)
                if (directive.name == "http" && directive.has_block) http(directive.block, &directive);
        } else if (made_.extent != Extent::none) {
            fragment();
        }
    }

private:
    /// A text that stands inside of blocks which are somewhere else: they are made up, and open.
    void fragment() {
        auto& wrapper = wrappers();
        if (made_.extent == Extent::http) return http(wrapper.block, &wrapper);
        auto level = std::make_unique<Level>();
        level->open = true;
        Directive* inner = &wrapper;
        for (const std::string_view name : {"server", "location"}) {
            if (name == "location" && made_.extent == Extent::server) break;
            Directive outer{std::string(name), {0, 1, 1}, {}, std::move(inner->block)};
            outer.has_block = true;
            if (name == "location") outer.words.push_back({"/", {0, 1, 1}, false});
            inner->block.clear();
            inner->block.push_back(std::move(outer));
            inner = &inner->block.back();
        }
        level->directive = &wrapper;
        auto* parent = level.get();
        made_.http.push_back(std::move(level));
        const auto& server_block = wrapper.block.front();
        server(server_block, *parent, true);
    }

    Directive& wrappers() {
        Directive wrapper{"http", {0, 1, 1}, {}, std::move(made_.tree.directives)};
        wrapper.has_block = true;
        made_.tree.directives.clear();
        made_.tree.directives.push_back(std::move(wrapper));
        return made_.tree.directives.front();
    }

    void http(const std::vector<Directive>& block, const Directive* directive) {
        auto level = std::make_unique<Level>();
        level->directive = directive;
        level->open = made_.extent == Extent::http;
        auto* parent = level.get();
        made_.http.push_back(std::move(level));
        for (const auto& each : block) {
            if (each.missing) parent->missing = true;
            if (each.name == "upstream" && each.has_block) upstream(each);
            if (each.name == "log_format") made_.log_formats.emplace(each.word(0), &each);
            if (each.name == "map" && each.has_block) made_.maps.insert_or_assign(lower(each.word(1).substr(std::min<std::size_t>(each.word(1).size(), 1))), &each);
            if (each.has_block && (each.name == "geo" || each.name == "split_clients") && !each.words.empty())
                made_.others.insert_or_assign(lower(each.words.back().text.substr(std::min<std::size_t>(each.words.back().text.size(), 1))), &each);
        }
        for (const auto& each : block)
            if (each.name == "server" && each.has_block) server(each, *parent, false);
    }

    void upstream(const Directive& directive) {
        Upstream upstream{std::string(directive.word(0)), &directive, {}};
        for (const auto& each : directive.block)
            if (each.name == "server") upstream.servers.emplace_back(each.word(0));
        made_.upstreams.insert_or_assign(upstream.name, std::move(upstream));
    }

    void server(const Directive& directive, Level& parent, bool open) {
        auto level = std::make_unique<Level>();
        level->kind = Kind::server;
        level->directive = &directive;
        level->parent = &parent;
        level->open = open;
        fill(*level);
        Server server{level.get(), {}, {}, {}};
        for (const auto& each : directive.block) {
            if (each.name == "listen")
                if (auto listen = listen_of(each)) server.listens.push_back(*std::move(listen));
            if (each.name != "server_name") continue;
            for (const auto& word : each.words) {
                if (word.text.starts_with('~')) server.name_regexes.emplace_back(word.text, regex_of(made_, lowered_pattern(word.text), true));
                else server.names.push_back(lower(word.text));
            }
        }
        if (server.listens.empty() && !open) server.listens.push_back({"80", "0.0.0.0", 80, false, false, false, nullptr});
        parent.inside.push_back(std::move(level));
        made_.servers.push_back(std::move(server));
    }

    static std::string_view lowered_pattern(std::string_view text) { return text.substr(1); }

    void fill(Level& level) {
        for (const auto& each : level.directive->block) {
            if (each.missing) level.missing = true;
            if (!each.has_block || each.code) continue;
            const bool location = level.kind == Kind::location;
            if (each.name == "location") add(level, each, Kind::location);
            else if (each.name == "if" && location) add(level, each, Kind::condition);
            else if (each.name == "limit_except" && location) add(level, each, Kind::limit_except);
        }
    }

    void add(Level& parent, const Directive& directive, Kind kind) {
        auto level = std::make_unique<Level>();
        level->kind = kind;
        level->directive = &directive;
        level->parent = &parent;
        if (kind == Kind::location) name_location(*level, made_);
        fill(*level);
        parent.inside.push_back(std::move(level));
    }

    static std::optional<Listen> listen_of(const Directive& directive) {
        Listen listen;
        listen.text = directive.word(0);
        listen.directive = &directive;
        for (std::size_t i = 1; i < directive.words.size(); ++i) {
            const auto word = directive.word(i);
            if (word == "ssl" || word == "quic") listen.ssl = true;
            if (word == "default_server" || word == "default") listen.default_server = true;
            if (word == "proxy_protocol") listen.proxy_protocol = true;
        }
        std::string_view text = listen.text;
        if (text.starts_with("unix:")) {
            listen.address = text;
            listen.port = 0;
            return listen;
        }
        const auto bracket = text.starts_with('[') ? text.find(']') : std::string_view::npos;
        auto address = bracket != std::string_view::npos ? text.substr(1, bracket - 1) : text.substr(0, text.find(':'));
        auto port = bracket != std::string_view::npos ? text.substr(bracket + 1) : text.substr(address.size());
        if (port.starts_with(':')) port.remove_prefix(1);
        if (bracket == std::string_view::npos && !address.empty() && std::ranges::all_of(address, [](char c) { return c >= '0' && c <= '9'; })) {
            port = address;
            address = "*";
        }
        listen.address = address == "*" || address.empty() ? "0.0.0.0" : std::string(address);
        if (port.empty()) return listen;
        const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), listen.port);
        if (error != std::errc{} || end != port.data() + port.size()) listen.port = 0;  // a template's
        return listen;
    }

    Configuration& made_;
};

void add_path(std::string& path, const Level& level) {
    if (level.parent != nullptr) add_path(path, *level.parent);
    if (level.kind == Kind::http) return;
    const auto* parent = level.parent;
    const auto index = [&](Kind kind) {
        std::size_t count = 0;
        for (const auto& each : parent->inside) {
            if (each.get() == &level) break;
            count += each->kind == kind ? 1 : 0;
        }
        return count;
    };
    if (!path.empty()) path += '.';
    switch (level.kind) {
        case Kind::server: path += fmt::format("server[{}]", index(Kind::server)); break;
        case Kind::location: path += fmt::format("location[{}]", level.match == Match::prefix || level.match == Match::named ? level.name : fmt::format("{} {}", level.match == Match::exact ? "=" : level.match == Match::preferential ? "^~" : "~", level.name)); break;
        case Kind::condition: path += fmt::format("if[{}]", index(Kind::condition)); break;
        default: path += "limit_except"; break;
    }
}

}  // namespace

std::vector<const Directive*> Level::own(std::string_view wanted) const {
    std::vector<const Directive*> found;
    if (directive != nullptr)
        for (const auto& each : directive->block)
            if (each.name == wanted) found.push_back(&each);
    return found;
}

std::vector<const Directive*> Level::nearest(std::string_view wanted) const {
    for (const auto* level = this; level != nullptr; level = level->parent)
        if (auto found = level->own(wanted); !found.empty()) return found;
    return {};
}

const Directive* Level::setting(std::string_view wanted) const {
    const auto found = nearest(wanted);
    return found.empty() ? nullptr : found.back();
}

const Level* Level::server() const {
    const auto* level = this;
    while (level != nullptr && level->kind != Kind::server) level = level->parent;
    return level;
}

bool Listen::loopback() const {
    if (address.starts_with("unix:") || address == "localhost" || address == "::1") return true;
    const auto parsed = parse_address(address);
    return parsed && parsed->family == Family::ip4 && parsed->bytes[0] == 127;
}

std::unique_ptr<const Configuration> compile(Tree tree) {
    auto made = std::make_unique<Configuration>();
    made->tree = std::move(tree);
    Compiler(*made).run();
    return made;
}

std::string path_of(const Configuration& configuration, const Level& level, std::string_view directive) {
    std::string path;
    add_path(path, level);
    if (configuration.extent == Extent::whole || configuration.extent == Extent::http) path = path.empty() ? "http" : "http." + path;
    else if (path.starts_with("server[0].")) path.erase(0, 10);
    if (configuration.extent == Extent::location && path.starts_with("location[/]")) path.erase(0, path.size() > 11 ? 12 : 11);
    if (!directive.empty()) path += path.empty() ? std::string(directive) : fmt::format(".{}", directive);
    return path;
}

}  // namespace promwarden::nginx
