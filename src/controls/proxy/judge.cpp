// A proxy's configuration → decisions: which blocks lead to Prometheus, and what was found out about them.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden {

namespace proxy {

namespace {

struct Row {
    Id id;
    std::string_view control;
    std::string_view holds, nothing;
};

constexpr std::string_view no_way = "nothing here leads to Prometheus";

constexpr Row rows[] = {
    {Id::authentication, "access.authentication", "every route to Prometheus asks who is there", no_way},
    {Id::roles, "access.roles", "each role reaches its endpoints and no others", "the policy names no roles"},
    {Id::coverage, "access.endpoint-coverage", "what the table of endpoints does not know falls to the administrators", "the policy names no roles"},
    {Id::tls_only, "proxy.tls-only", "Prometheus is served over TLS only", no_way},
    {Id::literal_upstream, "proxy.literal-upstream", "the backend is named by its address", no_way},
    {Id::auth_request, "proxy.auth-request", "auth_request leads to something that decides", "no auth_request on a route to Prometheus"},
    {Id::no_bypass, "proxy.no-bypass", "no route to Prometheus switches authentication off", "no authentication on a route to Prometheus"},
    {Id::canonical_uri, "proxy.canonical-uri", "no spelling of a path and no case of a name gets around a rule", "no rule here looks at paths or names"},
    {Id::credential_stripping, "proxy.credential-stripping", "credentials end at the proxy", "no credentials on a route to Prometheus"},
    {Id::server, "tls.server", "the proxy's listeners speak TLS", no_way},
    {Id::protocol, "tls.protocol", "TLS 1.2 or newer", "no TLS settings on a route to Prometheus"},
    {Id::other_clients, "tls.other-clients", "the proxy verifies its backend", "the proxy speaks no TLS to Prometheus"},
    {Id::federation, "api.federation", "viewers do not reach /federate", "the policy names no roles"},
    {Id::profiling, "api.profiling", "viewers do not reach /debug", "the policy names no roles"},
    {Id::proxy_log, "audit.proxy-log", "every request to Prometheus is logged with its user", no_way},
};
static_assert(std::size(rows) == static_cast<std::size_t>(Id::count_));

const Row& row_of(Id id) { return *std::ranges::find(rows, id, &Row::id); }

std::string lower(std::string_view text) {
    std::string result(text);
    for (auto& c : result)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    return result;
}

/// Services that stand beside Prometheus and carry its name.
constexpr std::string_view companions[] = {"alertmanager", "pushgateway", "exporter", "grafana", "thanos", "adapter", "cortex", "loki", "mimir", "node-", "blackbox"};
/// Others that use port 9090.
constexpr std::string_view tenants[] = {"cockpit", "minio", "clash", "openfire", "yacd", "zeus"};

bool holds_one(std::string_view text, std::span<const std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

std::string_view port_in(std::string_view authority) {
    const auto colon = authority.rfind(':');
    if (colon == std::string_view::npos || authority.find(']', colon) != std::string_view::npos) return {};
    return authority.substr(colon + 1);
}

/// Whether one host:port looks like a Prometheus.
bool looks_like(std::string_view written) {
    const auto text = lower(written);
    const auto port = port_in(text);
    const std::string_view name = std::string_view(text).substr(0, text.size() - (port.empty() ? 0 : port.size() + 1));
    if (holds_one(name, companions) || holds_one(name, tenants)) return false;
    if (port == "9090") return true;
    return name.find("prometheus") != std::string_view::npos && (port.empty() || port == "80" || port == "443" || port == "19090" || port == "9091" || port == "8080");
}

/// A word about another program that uses the port, near the route.
bool is_another(const Level& level, const Directive& pass) {
    if (pass.word(0).starts_with("https://") && level.server() != nullptr) {
        for (const auto* upgrade : level.nearest("proxy_set_header"))
            if (lower(upgrade->word(0)) == "upgrade") return true;  // Prometheus has no websockets, Cockpit lives on them
    }
    for (const auto* at = &level; at != nullptr; at = at->parent) {
        if (holds_one(lower(at->name), tenants) || (at->kind == Level::Kind::location && holds_one(lower(at->name), companions))) return true;
        if (at->kind == Level::Kind::server)
            for (const auto* names : at->own("server_name"))
                for (const auto& word : names->words)
                    if (holds_one(lower(word.text), tenants)) return true;
    }
    return false;
}

std::string base_of(const Level& level) {
    const auto* at = &level;
    while (at != nullptr && at->kind != Level::Kind::location) at = at->parent;
    if (at == nullptr || at->match == Level::Match::regex || at->match == Level::Match::named || at->match == Level::Match::exact) return {};
    auto name = at->name;
    while (name.ends_with('/')) name.pop_back();
    // "/api/v1" or "/graph" is one of Prometheus' own paths, not a place that it was put under.
    for (const auto& route : nginx::routes())
        if (route.path == name || route.path.starts_with(name + "/")) return {};
    return name.starts_with('/') ? name : std::string();
}

}  // namespace

Judge::Judge(const Configuration& configuration, const SiteOptions& options) : configuration_(configuration), options_(options) { find_ways(); }

bool Judge::wanted(Id id) const { return options_.only.empty() || std::ranges::find(options_.only, row_of(id).control) != options_.only.end(); }

bool Judge::prometheus(std::string_view authority) const { return leads_to_prometheus(configuration_, authority, options_); }

void Judge::find_ways() {
    for (const auto& server : configuration_.servers) find_ways(server, *server.level);
}

void Judge::find_ways(const nginx::Server& server, const Level& level) {
    for (const auto* pass : level.own("proxy_pass")) {
        Way way{&server, &level, pass, {}, base_of(level)};
        std::string_view text = pass->word(0);
        std::string filled(text);
        // "set $backend http://prometheus:9090; proxy_pass $backend;"
        for (const auto& name : nginx::variables_in(text))
            for (const auto* at = &level; at != nullptr; at = at->parent)
                for (const auto* set : at->own("set"))
                    if (set->word(0) == "$" + name) {
                        const auto place = filled.find("$" + name);
                        if (place != std::string::npos) filled.replace(place, name.size() + 1, set->word(1));
                    }
        text = filled;
        const auto mark = text.find("://");
        if (mark == std::string_view::npos) continue;
        text.remove_prefix(mark + 3);
        way.authority = text.substr(0, text.find_first_of("/?$"));
        if (prometheus(way.authority) && !is_another(level, *pass)) ways_.push_back(std::move(way));
    }
    for (const auto& inside : level.inside) find_ways(server, *inside);
}

namespace {

/// Of a directive inside of an upstream or a map, which are no levels: "http.upstream[prometheus].server".
std::string path_in_table(const Configuration& configuration, const Directive& directive) {
    for (const auto& http : configuration.http)
        for (const auto& block : http->directive->block)
            for (const auto& each : block.block)
                if (&each == &directive && !block.words.empty()) return fmt::format("http.{}[{}]{}", block.name, block.words.back().text, block.name == "upstream" ? "." + directive.name : "");
    return {};
}

}  // namespace

Location Judge::location(const Level& level, const Directive* directive) const {
    const auto* shown = directive != nullptr ? directive : level.directive;
    const auto& files = configuration_.tree.files;
    Location where{files.empty() ? "" : files[std::min<std::size_t>(shown->at.file, files.size() - 1)], shown->at.line, shown->at.column, {}};
    // The level that really holds it: a setting may be inherited.
    const auto* holder = &level;
    while (directive != nullptr && holder->parent != nullptr &&
           (holder->directive == nullptr || std::ranges::none_of(holder->directive->block, [&](const Directive& each) { return &each == directive; })))
        holder = holder->parent;
    if (directive != nullptr && holder->parent == nullptr) where.path = path_in_table(configuration_, *directive);
    if (where.path.empty()) where.path = nginx::path_of(configuration_, directive != nullptr ? *holder : level, directive != nullptr && directive != holder->directive ? directive->name : "");
    return where;
}

void Judge::fail(Id id, const Level& level, const Directive* directive, std::string expected, std::string observed, std::string remedy) {
    auto where = location(level, directive);
    auto& findings = of(id).findings;
    if (std::ranges::any_of(findings, [&](const Finding& each) { return each.location->file == where.file && each.location->line == where.line && each.location->column == where.column; })) return;
    auto subject = where.file;
    findings.push_back({std::move(subject), std::move(expected), std::move(observed), std::move(where), Evidence::config, {false, std::move(remedy)}});
}

void Judge::undecided(Id id, const Level& level, const Directive* directive, std::string_view why) {
    const auto where = location(level, directive);
    auto text = fmt::format("{}:{}: {}", where.file, where.line, why);
    auto& all = of(id).undecided;
    if (std::ranges::find(all, text) == all.end()) all.push_back(std::move(text));
}

Decision Judge::decide(Id id) {
    auto& bin = of(id);
    const auto& row = row_of(id);
    if (const auto& problem = configuration_.tree.problem) {
        const auto& files = configuration_.tree.files;
        return {Verdict::unknown, fmt::format("{}:{}: {}", files.empty() ? "" : files[std::min<std::size_t>(problem->at.file, files.size() - 1)], problem->at.line, problem->message), {}};
    }
    if (!bin.findings.empty()) {
        const auto count = bin.findings.size();
        auto reason = count == 1 ? std::string("1 place in the proxy's configuration") : fmt::format("{} places in the proxy's configuration", count);
        if (!bin.undecided.empty()) reason += fmt::format("; not decided: {}", bin.undecided.front());
        return {Verdict::fail, std::move(reason), std::move(bin.findings)};
    }
    if (!bin.undecided.empty()) return {Verdict::unknown, bin.undecided.size() == 1 ? bin.undecided.front() : fmt::format("{} (and {} more)", bin.undecided.front(), bin.undecided.size() - 1), {}};
    if (!bin.touched) return {Verdict::not_applicable, ways_.empty() ? std::string(no_way) : bin.absent.empty() ? std::string(row.nothing) : bin.absent, {}};
    return {Verdict::pass, std::string(row.holds), {}};
}

std::vector<FileDecision> Judge::run() {
    if (!configuration_.tree.problem && !ways_.empty()) {
        authentication();
        roles();
        coverage();
        canonical();
        upstreams();
        auth_requests();
        credentials();
        logs();
        listeners();
        protocols();
        upstream_tls();
    }
    std::vector<FileDecision> decisions;
    for (const auto& row : rows)
        if (wanted(row.id)) decisions.push_back({row.control, decide(row.id)});
    return decisions;
}

}  // namespace proxy

bool leads_to_prometheus(const nginx::Configuration& configuration, std::string_view authority, const SiteOptions& options) {
    const auto known = [&](std::string_view address) {
        return std::ranges::any_of(options.backends, [&](const std::string& backend) {
            return backend == address || (address.starts_with("localhost:") && backend.substr(backend.rfind(':')) == address.substr(9));
        });
    };
    if (known(authority)) return true;
    if (const auto upstream = configuration.upstreams.find(authority); upstream != configuration.upstreams.end())
        return std::ranges::any_of(upstream->second.servers, [&](const std::string& server) { return known(server) || proxy::looks_like(server); });
    return proxy::looks_like(authority);
}

prometheus::FileKind other_kind(std::string_view text) {
    if (nginx::read_identity(text)) return prometheus::FileKind::oauth2_proxy;
    const auto configuration = nginx::compile(nginx::read("", text));
    if (configuration->extent == nginx::Extent::none) return prometheus::FileKind::unknown;
    // What is written first has to be the name of a directive: other formats hold statements of nginx as text.
    const auto start = text.find_first_not_of(" \t\r\n");
    for (auto rest = text.substr(start); !rest.empty();) {
        const auto line = rest.substr(0, rest.find('\n'));
        const auto first = line.find_first_not_of(" \t\r");
        if (first != std::string_view::npos && line[first] != '#') {
            const auto word = line.substr(first, line.find_first_of(" \t\r;{", first) - first);
            const bool name = !word.empty() && std::ranges::all_of(word, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
            return name ? prometheus::FileKind::nginx : prometheus::FileKind::unknown;
        }
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    return prometheus::FileKind::unknown;
}

std::vector<std::string> password_files(const nginx::Configuration& configuration, const SiteOptions& options) {
    std::vector<std::string> files;
    const proxy::Judge judge(configuration, options);
    for (const auto& way : judge.ways())
        if (const auto* file = way.level->setting("auth_basic_user_file"); file != nullptr && std::ranges::find(files, file->word(0)) == files.end()) files.emplace_back(file->word(0));
    return files;
}

std::vector<FileDecision> judge_site(const nginx::Configuration& configuration, const SiteOptions& options) { return proxy::Judge(configuration, options).run(); }

}  // namespace promwarden
