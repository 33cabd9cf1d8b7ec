// The access phase: allow and deny, then auth_basic, then auth_request, under satisfy (ngx_http_core_access_phase).

#include <algorithm>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

constexpr int allowed = 0, no_rule = -1, closed = 444;

/// Of modules that ask who is there in a way this room does not know.
constexpr std::string_view strangers[] = {"access_by_lua", "access_by_lua_file", "access_by_lua_block", "auth_jwt", "auth_jwt_enabled", "auth_pam", "auth_ldap", "auth_ldap_servers", "auth_digest",
                                          "auth_gss", "auth_spnego", "auth_oidc", "js_access", "access_by_njs", "modsecurity_transaction_id", "testcookie", "vouch", "secure_link", "ngx_google_perftools"};

/// Whether an address is in the network of an allow or deny; nullopt where the word is none (a template's).
std::optional<bool> covers(std::string_view word, const Address& client) {
    if (word == "all") return true;
    if (word == "unix:") return false;
    if (const auto cidr = parse_cidr(word)) return cidr->contains(client);
    const auto slash = word.find('/');  // nginx takes host bits that are set, with a warning
    const auto address = parse_address(word.substr(0, slash));
    if (!address || slash == std::string_view::npos) return std::nullopt;
    const auto bits = word.substr(slash + 1);
    if (bits.empty() || bits.size() > 3 || !std::ranges::all_of(bits, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
    const auto prefix = std::stoi(std::string(bits));
    if (prefix > bits_of(address->family)) return std::nullopt;
    return client.family == address->family && address->masked(static_cast<std::uint8_t>(prefix)) == client.masked(static_cast<std::uint8_t>(prefix));
}

}  // namespace

std::optional<int> Visit::by_address() {
    const Level* at = level_;
    while (at != nullptr && at->own("allow").empty() && at->own("deny").empty()) at = at->parent;
    if (at == nullptr) return no_rule;
    const auto client = parse_address(shared_.request.client);
    for (const auto& each : at->directive->block) {
        if (each.name != "allow" && each.name != "deny") continue;
        const auto covered = client ? covers(each.word(0), *client) : std::optional(each.word(0) == "all");
        if (!covered) {
            unknown(fmt::format("whether {} {} is about the client is not known", each.name, each.word(0)));
            return std::nullopt;
        }
        if (!*covered) continue;
        step(&each, fmt::format("{} {}", each.name, each.word(0)));
        return each.name == "allow" ? allowed : 403;
    }
    return no_rule;
}

std::optional<int> Visit::by_password() {
    const auto* realm = level_->setting("auth_basic");
    const auto* file = level_->setting("auth_basic_user_file");
    if (realm == nullptr) return no_rule;
    const auto text = expand(realm->word(0));
    if (!text) return std::nullopt;
    if (*text == "off") return no_rule;
    if (file == nullptr) {
        step(realm, "auth_basic without auth_basic_user_file asks nobody");
        return no_rule;
    }
    if (shared_.request.credentials != Request::Credentials::right || shared_.request.user.empty()) {
        step(realm, "auth_basic: no password that is right");
        return 401;
    }
    step(realm, fmt::format("auth_basic: {} is known", shared_.request.user));
    return allowed;
}

std::optional<int> Visit::by_request() {
    const auto* ask = level_->setting("auth_request");
    if (ask == nullptr || ask->word(0) == "off") return no_rule;
    const auto target = expand(ask->word(0));
    if (!target) return std::nullopt;
    Visit other(shared_, server_);
    other.subrequest_ = true;
    const auto outcome = other.subrequest(*target);
    if (stuck() || outcome.kind == Answer::Kind::unknown) return std::nullopt;
    auto code = outcome.kind == Answer::Kind::status ? outcome.status : 0;
    if (outcome.kind == Answer::Kind::closed) return closed;
    if (outcome.kind == Answer::Kind::file) code = 404;
    if (outcome.kind == Answer::Kind::passed) {
        const auto decided = shared_.request.decide ? shared_.request.decide(*outcome.passed) : std::nullopt;
        if (!decided) {
            unknown(fmt::format("what {} answers is not known", outcome.passed->authority));
            return std::nullopt;
        }
        code = *decided;
    }
    step(ask, fmt::format("auth_request {}: {}", *target, code));
    for (const auto* set : level_->nearest("auth_request_set")) {
        const auto name = lower(set->word(0).substr(std::min<std::size_t>(set->word(0).size(), 1)));
        const auto wanted = variables_in(set->word(1));
        const bool upstream = std::ranges::any_of(wanted, [](const std::string& each) { return each.starts_with("upstream_"); });
        shared_.values[name] = upstream ? shared_.request.user : expand(set->word(1)).value_or("");
    }
    if (code >= 200 && code < 300) return allowed;
    return code == 401 || code == 403 ? code : 500;
}

Visit::Ending Visit::access() {
    if (subrequest_) return std::nullopt;
    for (const auto name : strangers)
        if (level_->setting(name) != nullptr && level_->setting(name)->word(0) != "off") return unknown(fmt::format("{} decides who may pass", name));
    const auto* satisfy = level_->setting("satisfy");
    const bool any = satisfy != nullptr && satisfy->word(0) == "any";
    int refused = 0;
    for (const auto check : {&Visit::by_address, &Visit::by_password, &Visit::by_request}) {
        const auto code = (this->*check)();
        if (!code) return unknown("");
        if (*code == no_rule) continue;
        if (*code == closed) return Outcome{Answer::Kind::closed, 0, {}, {}, true};
        if (*code == allowed) {
            authenticated_ = authenticated_ || check != &Visit::by_address;
            if (any) return std::nullopt;
            continue;
        }
        if (!any || (*code != 401 && *code != 403)) return status(*code);
        if (refused != 401) refused = *code;
    }
    if (refused != 0) return status(refused);
    return std::nullopt;
}

}  // namespace promwarden::nginx
