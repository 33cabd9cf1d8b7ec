// The identity proxy: settings that turn single sign-on into an open door, and whether a second factor is asked for.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/site.hpp"

namespace promwarden {

namespace {

using nginx::IdentitySetting;

constexpr std::string_view provider_control = "access.identity-provider", mfa_control = "access.mfa";

/// A switch that must not be on, or a list that must be empty.
struct Forbidden {
    std::string_view name;
    std::string_view why;
};
constexpr Forbidden forbidden[] = {
    {"skip_auth_regex", "paths that match it need no sign-in"},
    {"skip_auth_routes", "these routes need no sign-in"},
    {"skip_auth_preflight", "OPTIONS requests need no sign-in"},
    {"trusted_ips", "whoever comes from these addresses needs no sign-in"},
    {"ssl_insecure_skip_verify", "the identity provider's certificate is not verified"},
    {"ssl_upstream_insecure_skip_verify", "the upstream's certificate is not verified"},
    {"insecure_oidc_allow_unverified_email", "an address that the provider has not verified is believed"},
    {"insecure_oidc_skip_issuer_verification", "tokens of any issuer are believed"},
    {"insecure_oidc_skip_nonce", "a stolen answer of the provider can be replayed"},
    {"pass_access_token", "the access token is handed to the upstream"},
};

const IdentitySetting* find(const std::vector<IdentitySetting>& settings, std::string_view name) {
    const auto found = std::ranges::find(settings.rbegin(), settings.rend(), name, &IdentitySetting::name);
    return found == settings.rend() ? nullptr : &*found;
}

bool switched_on(const IdentitySetting& setting) {
    return !setting.values.empty() && std::ranges::any_of(setting.values, [](const std::string& value) { return value != "false" && !value.empty(); });
}

class IdentityJudge {
public:
    IdentityJudge(const std::string& path, const std::vector<IdentitySetting>& settings, const SiteOptions& options) : path_(path), settings_(settings), options_(options) {}

    Decision provider() {
        for (const auto& [name, why] : forbidden)
            if (const auto* setting = find(settings_, name); setting != nullptr && switched_on(*setting)) fail(*setting, fmt::format("no {}", name), std::string(why), "remove it");
        off("cookie_secure", "cookies over TLS only", "the session cookie is sent over plain connections, too", "write cookie_secure = true");
        off("cookie_httponly", "cookies that scripts cannot read", "scripts can read the session cookie", "write cookie_httponly = true");
        if (const auto* site = find(settings_, "cookie_samesite"); site != nullptr && !site->values.empty() && site->values.front() == "none")
            fail(*site, "lax or strict", "other sites can send requests with the session", "write cookie_samesite = \"lax\"");
        if (const auto* domains = find(settings_, "email_domains"); domains != nullptr && std::ranges::find(domains->values, "*") != domains->values.end() && !limited())
            fail(*domains, "the mail domains that may sign in, or groups", "anybody with an account at the provider may sign in", "name the domains, or set allowed_groups");
        for (const std::string_view name : {"oidc_issuer_url", "redeem_url", "login_url", "profile_url", "validate_url", "oidc_jwks_url"})
            if (const auto* url = find(settings_, name); url != nullptr && !url->values.empty() && url->values.front().starts_with("http://")) fail(*url, "https", "the identity provider is spoken to without TLS", "use its https address");
        secret();
        address();
        if (findings_.empty()) return {Verdict::pass, "the settings of the identity proxy are sound", {}};
        return {Verdict::fail, fmt::format("{} setting{} of the identity proxy", findings_.size(), findings_.size() == 1 ? "" : "s"), std::move(findings_)};
    }

    Decision mfa(std::chrono::system_clock::time_point now) {
        const auto* acr = find(settings_, "acr_values");
        const bool claimed = acr != nullptr && !acr->values.empty() && !acr->values.front().empty();
        const auto* policy = options_.policy;
        if (policy == nullptr || !policy->access.identity_provider) {
            if (claimed) return {Verdict::pass, "the provider is asked for a level of authentication (acr_values)", {}};
            return {Verdict::not_applicable, "no policy asks for a second factor", {}};
        }
        const auto& wanted = *policy->access.identity_provider;
        if (!wanted.mfa_required) return {Verdict::not_applicable, "the policy asks for no second factor", {}};
        if (claimed && (wanted.mfa_claim.empty() || wanted.mfa_claim == "acr")) return {Verdict::pass, "the provider is asked for a level of authentication (acr_values)", {}};
        if (wanted.mfa_attested_until && now < *wanted.mfa_attested_until)
            return {Verdict::pass, fmt::format("attested by the policy until {}; not verified on this host", format_time(*wanted.mfa_attested_until - std::chrono::seconds(1)).substr(0, 10)), {}};
        const Finding finding{path_, "a claim that proves a second factor, or an attestation that has not run out", wanted.mfa_attested_until ? "the attestation has run out" : "no acr_values", Location{path_, 1, 1, "acr_values"}, Evidence::config,
                              {false, "set acr_values to the level that stands for a second factor, or attest it in the policy: access.identity_provider.mfa.attested_until"}};
        return {Verdict::fail, "nothing shows that a second factor is asked for", {finding}};
    }

private:
    void fail(const IdentitySetting& setting, std::string expected, std::string observed, std::string remedy) {
        findings_.push_back({path_, std::move(expected), std::move(observed), Location{path_, setting.at.line, setting.at.column, setting.name}, Evidence::config, {false, fmt::format("line {}: {}", setting.at.line, remedy)}});
    }

    void off(std::string_view name, std::string expected, std::string observed, std::string remedy) {
        if (const auto* setting = find(settings_, name); setting != nullptr && setting->values.size() == 1 && setting->values.front() == "false") fail(*setting, std::move(expected), std::move(observed), std::move(remedy));
    }

    /// Whether something besides the mail domain limits who may sign in.
    [[nodiscard]] bool limited() const {
        for (const std::string_view name : {"allowed_groups", "authenticated_emails_file", "github_org", "github_team", "github_users", "gitlab_group", "gitlab_groups", "gitlab_projects", "google_group", "google_groups", "keycloak_group",
                                            "keycloak_groups", "allowed_roles", "bitbucket_team", "htpasswd_file", "azure_tenant"})
            if (const auto* setting = find(settings_, name); setting != nullptr && switched_on(*setting) && name != "htpasswd_file") return true;
        return false;
    }

    void secret() {
        const auto* secret = find(settings_, "cookie_secret");
        if (secret == nullptr || secret->values.empty()) return;
        const auto& value = secret->values.front();
        if (value.find("${") != std::string::npos || value.find("{{") != std::string::npos || value.starts_with('$') || value.starts_with('<')) return;  // filled in later
        fail(*secret, "cookie_secret_file", "the secret that signs sessions is written here: whoever reads this file can sign in as anybody", "keep it in a file of its own with mode 0600: cookie_secret_file (7.8 and later)");
    }

    void address() {
        const auto* at = find(settings_, "http_address");
        if (at == nullptr || at->values.empty() || options_.policy == nullptr) return;  // in a container it has to listen on all of the container's addresses
        std::string_view value = at->values.front();
        if (const auto mark = value.find("://"); mark != std::string_view::npos) value.remove_prefix(mark + 3);
        if (!value.starts_with("127.") && !value.starts_with("localhost:") && !value.starts_with("[::1]") && !value.starts_with("unix:"))
            fail(*at, "a loopback address", "the identity proxy answers on other addresses, too, where nothing stands in front of it", "write http_address = \"127.0.0.1:4180\"");
    }

    const std::string& path_;
    const std::vector<IdentitySetting>& settings_;
    const SiteOptions& options_;
    std::vector<Finding> findings_;
};

}  // namespace

std::vector<FileDecision> judge_identity(const std::string& path, std::string_view text, const SiteOptions& options, std::chrono::system_clock::time_point now) {
    const auto settings = nginx::read_identity(text);
    std::vector<FileDecision> decisions;
    const auto add = [&](std::string_view control, auto&& decide) {
        if (!options.only.empty() && std::ranges::find(options.only, control) == options.only.end()) return;
        decisions.push_back({control, settings ? decide() : Decision{Verdict::unknown, fmt::format("{}: not the settings of an oauth2-proxy", path), {}}});
    };
    add(provider_control, [&] { return IdentityJudge(path, *settings, options).provider(); });
    add(mfa_control, [&] { return IdentityJudge(path, *settings, options).mfa(now); });
    return decisions;
}

}  // namespace promwarden
