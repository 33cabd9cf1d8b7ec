// Who gets through: strangers, roles, and those who spell a path or a name differently.

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::proxy {

namespace {

constexpr std::string_view admin_role = "admin";

/// The directive by whose words a switch is off: "auth_basic off".
const Directive* off(const Level& level, std::string_view name) {
    const auto* set = level.setting(name);
    return set != nullptr && set->word(0) == "off" ? set : nullptr;
}

bool on(const Level& level, std::string_view name) {
    const auto* set = level.setting(name);
    return set != nullptr && set->word(0) != "off";
}

bool asks(const Level& level) { return on(level, "auth_basic") || on(level, "auth_request") || (level.setting("ssl_verify_client") != nullptr && level.setting("ssl_verify_client")->word(0) == "on"); }

bool asks_anywhere(const Level& level) {
    return asks(level) || std::ranges::any_of(level.inside, [](const auto& inside) { return asks_anywhere(*inside); });
}

std::string hex_of(char c) { return fmt::format("%{:02x}", static_cast<unsigned char>(c)); }

/// Other spellings of a path that a server may read as that path.
std::vector<std::string> spellings(const std::string& base, std::string_view path) {
    std::vector<std::string> all;
    const auto add = [&](std::string text) { all.push_back(base + std::move(text)); };
    const std::string text(path);
    for (std::size_t i = 1; i < text.size(); ++i)
        if (text[i - 1] == '/' || i + 1 == text.size()) add(text.substr(0, i) + hex_of(text[i]) + text.substr(i + 1));
    const auto slash = text.rfind('/');
    add("/" + text);
    add("/." + text);
    add("/x/.." + text);
    add(text.substr(0, slash) + "//" + text.substr(slash + 1));
    add(text.substr(0, slash) + "/./" + text.substr(slash + 1));
    add(text.substr(0, slash) + "/%2e/" + text.substr(slash + 1));
    add(text.substr(0, slash) + "/x/%2e%2e/" + text.substr(slash + 1));
    if (slash > 0) add(text.substr(0, slash) + "%2f" + text.substr(slash + 1));
    return all;
}

std::string sample(const nginx::Route& route) { return std::string(route.path) + (route.below ? route.path == "/debug/" ? "pprof/" : "x" : ""); }

/// Of which role a requester has to be; "" for whoever is known, "-" for nobody.
std::string role_for(const Policy& policy, const nginx::Route& route) {
    const auto& endpoints = policy.access.endpoints;
    const auto own = endpoints.find(std::string(route.path));
    if (own != endpoints.end()) return own->second == "viewer" ? "" : own->second;
    switch (route.grant) {
        case nginx::Grant::viewer: return "";
        case nginx::Grant::nobody: return "-";
        default: return std::string(admin_role);
    }
}

std::string swapped(std::string name) {
    for (auto& c : name)
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') {
            c = static_cast<char>(c ^ 0x20);
            return name;
        }
    return {};
}

const Directive* raw_rule(const Configuration& configuration, const Level& level, const Level*& holder) {
    for (const auto* at = &level; at != nullptr; at = at->parent)
        for (const auto* condition : at->own("if")) {
            for (const auto& word : condition->words)
                for (const auto& name : nginx::variables_in(word.text)) {
                    const auto map = configuration.maps.find(name);
                    if (name == "request_uri" || (map != configuration.maps.end() && map->second->word(0).find("request_uri") != std::string_view::npos)) {
                        holder = at;
                        return condition;
                    }
                }
        }
    return nullptr;
}

}  // namespace

// ---- strangers ------------------------------------------------------------------------------------------------------

void Judge::authentication() {
    for (const auto& way : ways_) {
        touch(Id::authentication);
        const auto* certificate = way.level->setting("ssl_verify_client");
        const bool by_certificate = certificate != nullptr && certificate->word(0) == "on";
        for (const auto& target : exposed(way) && !by_certificate ? targets(way) : std::vector<std::string>()) {
            const auto answer = ask(way, target, stranger());
            if (answer.kind == Answer::Kind::unknown) {
                undecided(Id::authentication, *way.level, way.pass, answer.reason);
                continue;
            }
            if (!reached(answer) || answer.passed->directive != way.pass || answer.authenticated) continue;
            if (open_around(*way.level) && !off(*way.level, "auth_basic") && !off(*way.level, "auth_request")) {
                undecided(Id::authentication, *way.level, way.pass, "whether the files around it ask who is there is not known");
                continue;
            }
            fail(Id::authentication, *way.level, way.pass, "a stranger is refused", fmt::format("GET {} reaches Prometheus without asking who is there", target),
                 "ask for a password or an identity here: auth_basic with auth_basic_user_file, or auth_request");
        }
        switched_off(way);
    }
}

void Judge::switched_off(const Way& way) {
    const auto& level = *way.level;
    if (!asks_anywhere(*way.server->level) && !off(level, "auth_basic") && !off(level, "auth_request")) return;
    touch(Id::no_bypass);
    const auto* satisfy = level.setting("satisfy");
    const auto* realm = level.setting("auth_basic");
    if (satisfy != nullptr && satisfy->word(0) == "any" && asks(level) && std::ranges::any_of(level.nearest("allow"), [](const Directive*) { return true; }))
        fail(Id::no_bypass, level, satisfy, "satisfy all", "satisfy any: whoever comes from an allowed address needs no password", "write 'satisfy all;', or remove this line");
    if (realm != nullptr && realm->word(0).find('$') != std::string_view::npos)
        fail(Id::no_bypass, level, realm, "a fixed realm", "a variable decides whether a password is asked for: its value may be off", "write the realm as a fixed text");
    if (on(level, "auth_basic") && level.setting("auth_basic_user_file") == nullptr && !open_around(level))
        fail(Id::no_bypass, level, realm, "auth_basic with auth_basic_user_file", "without auth_basic_user_file nobody is asked", "add 'auth_basic_user_file /etc/nginx/htpasswd;'");
    if (asks(level)) return;
    for (const auto* switched : {off(level, "auth_basic"), off(level, "auth_request")})
        if (switched != nullptr)
            fail(Id::no_bypass, level, switched, "authentication on every route to Prometheus", fmt::format("{} off on a route to Prometheus", switched->name), fmt::format("remove '{} off;' here", switched->name));
}

// ---- roles ----------------------------------------------------------------------------------------------------------

void Judge::admin_location() {
    for (const auto& way : ways_)
        for (const auto& inside : way.server->level->inside) {
            if (inside->kind != Level::Kind::location || (inside->name != "/admin" && inside->name != "/admin/") || !way.base.empty()) continue;
            const bool rules = !inside->own("auth_basic").empty() || !inside->own("deny").empty() || !inside->own("return").empty() || !inside->own("auth_request").empty();
            const bool leads = std::ranges::any_of(ways_, [&](const Way& other) { return other.level == inside.get(); });
            if (!rules || !(leads || inside->own("proxy_pass").empty())) continue;
            touch(Id::roles);
            fail(Id::roles, *inside, nullptr, "a rule for the paths that Prometheus has", fmt::format("Prometheus has no {}: this rule protects nothing", inside->name),
                 "protect /api/v1/admin/ and every path that is not on a list of allowed ones");
        }
}

void Judge::roles() {
    admin_location();
    if (options_.policy == nullptr || options_.policy->access.roles.empty()) return;
    const auto& policy = *options_.policy;
    std::set<std::pair<const nginx::Server*, std::string>> seen;
    for (const auto& way : ways_) {
        if (!seen.emplace(way.server, way.base).second) continue;
        for (const auto& [role, members] : policy.access.roles)
            for (const auto& route : nginx::routes()) {
                const auto needed = role_for(policy, route);
                if (needed.empty() || (needed != "-" && (role == needed || role == admin_role))) continue;
                for (const std::string_view method : {"GET", "POST"}) {
                    auto request = request_of_role(&policy, role);
                    request.method = method;
                    const auto answer = ask(way, way.base + sample(route), std::move(request));
                    const bool federation = route.path == "/federate", profiling = route.path == "/debug/";
                    for (const auto id : {Id::roles, federation ? Id::federation : profiling ? Id::profiling : Id::count_}) {
                        if (id == Id::count_) continue;
                        touch(id);
                        const auto* level = answer.location != nullptr ? answer.location : way.level;
                        if (answer.kind == Answer::Kind::unknown) undecided(id, *way.level, way.pass, answer.reason);
                        else if (reached(answer) == sample(route))
                            fail(id, *level, answer.passed->directive, fmt::format("{} for {}", route.path, needed == "-" ? "nobody" : needed), fmt::format("{} {} by the role {} reaches Prometheus", method, sample(route), role),
                                 fmt::format("close {} for everyone but {}: 'promwarden render nginx' prints a site that does", route.path, needed == "-" ? "the host itself" : needed));
                    }
                }
            }
    }
}

void Judge::coverage() {
    if (options_.policy == nullptr || options_.policy->access.roles.empty()) return;
    for (const auto& way : ways_) {
        touch(Id::coverage);
        if (options_.version && *options_.version > nginx::newest_version)
            undecided(Id::coverage, *way.level, way.pass, fmt::format("this version knows the endpoints of Prometheus up to {}.{}", nginx::newest_version / 100, nginx::newest_version % 100));
        for (const std::string_view path : {"/api/v1/promwarden-unknown", "/promwarden-unknown", "/api/v2/promwarden-unknown", "/-/promwarden-unknown"})
            for (const auto& [role, members] : options_.policy->access.roles) {
                if (role == admin_role) continue;
                const auto answer = ask(way, way.base + std::string(path), request_of_role(options_.policy, role));
                if (answer.kind == Answer::Kind::unknown) undecided(Id::coverage, *way.level, way.pass, answer.reason);
                else if (reached(answer))
                    fail(Id::coverage, *answer.location, answer.passed->directive, "a path that the table does not know is for administrators", fmt::format("the role {} reaches {}", role, path),
                         "let everything that no exact location names fall to a location for administrators");
            }
    }
}

// ---- spellings ------------------------------------------------------------------------------------------------------

void Judge::canonical() {
    std::set<std::pair<const nginx::Server*, std::string>> seen;
    for (const auto& way : ways_) {
        if (!seen.emplace(way.server, way.base).second) continue;
        for (const auto& make : {stranger, nobody_in_particular})
            for (const auto& route : nginx::routes()) {
                if (route.path == "/") continue;
                const auto path = sample(route);
                const auto plain = ask(way, way.base + path, make());
                if (plain.kind != Answer::Kind::status || plain.status < 400 || plain.status == 401) continue;
                touch(Id::canonical_uri);
                for (const auto& spelling : spellings(way.base, path)) {
                    const auto answer = ask(way, spelling, make());
                    if (reached(answer) != path) continue;
                    const Level* holder = answer.location;
                    const auto* rule = raw_rule(configuration_, *answer.location, holder);
                    fail(Id::canonical_uri, *holder, rule != nullptr ? rule : answer.passed->directive, "a decision about the path that is served", fmt::format("{} is refused, {} reaches it", path, spelling.substr(way.base.size())),
                         "decide by location, which sees the decoded path, instead of $request_uri, and refuse targets that can be read in two ways");
                }
            }
        map_case(way);
    }
}

void Judge::map_case(const Way& way) {
    for (const auto& [variable, map] : configuration_.maps) {
        if (map->word(0).find("remote_user") == std::string_view::npos) continue;
        for (const auto& entry : map->block) {
            const auto other = swapped(entry.name);
            if (other.empty() || entry.name == "default" || entry.name == "include" || entry.name.starts_with('~')) continue;
            for (const auto& route : nginx::routes()) {
                const auto reaches = [&](const std::string& user) {
                    auto request = nobody_in_particular();
                    request.user = user;
                    return reached(ask(way, way.base + sample(route), std::move(request))).has_value();
                };
                if (!reaches(entry.name) || reaches("promwarden-nobody")) continue;
                touch(Id::canonical_uri);
                if (reaches(other))
                    fail(Id::canonical_uri, *configuration_.http.front(), &entry, "a name compared exactly", "map compares without regard to case: another user whose name differs in case only gets the same rights",
                         fmt::format("write \"~^{}$\" instead", entry.name));
                break;
            }
        }
    }
}

}  // namespace promwarden::proxy
