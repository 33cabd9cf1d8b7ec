// Policy → the text of a site. What is not named falls to the administrators; what is named has one exact path and one constant target.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

/// A name as an expression that matches it and nothing else, inside of double quotes.
std::string exactly(std::string_view name) {
    std::string text = "~^";
    for (const auto c : name) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        text += plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return text + "$";
}

/// A name as part of a variable or a path.
std::string word_of(std::string_view role) {
    std::string text(role);
    std::ranges::replace_if(text, [](char c) { return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')); }, '_');
    return text;
}

/// A value in a query: everything but letters, digits and "-_." as %XX.
std::string query_value(std::string_view value) {
    std::string text;
    for (const auto c : value) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("-_.").contains(c);
        text += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return text;
}

/// A path that may stand in the configuration as it is.
bool good_path(std::string_view path) {
    return path.starts_with('/') && path.find("//") == std::string_view::npos && path.find("/.") == std::string_view::npos &&
           std::ranges::all_of(path, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("/-_.:").contains(c); });
}

class Writer {
public:
    Writer(const Policy& policy, std::uint16_t version, const SitePaths& paths) : policy_(policy), access_(policy.access), version_(version), paths_(paths), basic_(access_.auth == "basic") {}

    Result<std::string> run() {
        if (!access_.present) return fail(Code::invalid, "render", "nginx", "the policy has no [access]");
        TRY(roles());
        maps();
        upstreams();
        redirect();
        TRY(server());
        return std::move(text_);
    }

private:
    template <class... Arguments>
    void line(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
        fmt::format_to(std::back_inserter(text_), form, std::forward<Arguments>(arguments)...);
        text_ += '\n';
    }

    [[nodiscard]] std::vector<std::string> members(std::string_view role, std::string_view kind) const {
        std::vector<std::string> names;
        for (const auto& each : {std::string(role), std::string(admin_role)})  // administrators may what anyone may
            if (const auto found = access_.roles.find(each); found != access_.roles.end())
                for (const auto& member : found->second)
                    if (member.starts_with(kind) && std::ranges::find(names, member.substr(kind.size())) == names.end()) names.push_back(member.substr(kind.size()));
        return names;
    }

    /// The identity provider knows users by their address.
    [[nodiscard]] std::vector<std::string> addresses(std::string_view role) const {
        auto users = members(role, "user:");
        std::erase_if(users, [](const std::string& user) { return user.find('@') == std::string::npos; });
        return users;
    }

    /// The roles that a location asks for. Whoever is known at all is a viewer.
    Result<> roles() {
        restricted_ = {std::string(admin_role)};
        for (const auto& [path, role] : access_.endpoints) {
            if (!good_path(path)) return fail(Code::invalid, "render", "nginx", fmt::format("the endpoint {} cannot be written as a location", path));
            if (const auto* known = find_route(path); known != nullptr && known->grant == Grant::nobody)
                return fail(Code::invalid, "render", "nginx", fmt::format("nobody reaches {} through the proxy: it stops, reloads, profiles or writes", path));
            if (role != viewer_role && std::ranges::find(restricted_, role) == restricted_.end()) restricted_.push_back(role);
        }
        std::vector<std::string> words;
        for (const auto& role : restricted_) {
            if (std::ranges::find(words, word_of(role)) != words.end()) return fail(Code::invalid, "render", "nginx", fmt::format("the role {} has the name of another one, signs aside", role));
            words.push_back(word_of(role));
            if (basic_ || !members(role, "group:").empty() || !addresses(role).empty()) continue;
            return fail(Code::invalid, "render", "nginx",
                        fmt::format("the role {} has neither a group nor a user with an e-mail address: with auth = \"auth-request\" that is how the identity provider knows people", role));
        }
        return {};
    }

    void maps() {
        line("# Written by promwarden from its policy; changes here are lost.");
        if (basic_) {
            line("# Plain strings in a map match without regard to case: names are anchored expressions.");
            for (const auto& role : restricted_) {
                line("map $remote_user $promwarden_not_{} {{", word_of(role));
                line("    default 1;");
                line("    \"\" 0;  # no credentials: auth_basic answers 401");
                for (const auto& user : members(role, "user:")) line("    \"{}\" 0;", exactly(user));
                line("}}");
            }
        }
        line("# Targets that two readers could understand in two ways, and those that are no path.");
        line("map $request_uri $promwarden_ambiguous {{");
        line("    default 0;");
        text_ += R"~(    "~^[^?]*(//|/\.\.?([/?;#]|$)|%(25|2e|2f|5c|23|3b|3f|00)|[\\\\;#])" 1;)~" "\n";
        text_ += R"~(    "~*^[^?]*%(2e|2f|5c|3b|3f)" 1;)~" "\n";
        text_ += R"~(    "~^[^/]" 1;)~" "\n}\n";
        text_ += R"(log_format promwarden_audit escape=json '{"time":"$time_iso8601","remote_addr":"$remote_addr","user":")";
        text_ += basic_ ? "$remote_user" : "$promwarden_user";
        text_ += R"(","method":"$request_method","uri":"$request_uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"agent":"$http_user_agent","tls":"$ssl_protocol"}';)" "\n";
    }

    void upstreams() {
        const auto& listen = policy_.prometheus.listen;
        line("upstream promwarden_prometheus {{ server {}; keepalive 8; }}", listen.empty() ? std::string("127.0.0.1:9090") : to_text(listen.front()));
        if (basic_) return;
        std::string_view url = access_.auth_url;
        const auto host = url.substr(url.find("://") == std::string_view::npos ? 0 : url.find("://") + 3);
        line("upstream promwarden_identity {{ server {}; keepalive 8; }}", host.substr(0, host.find('/')));
    }

    [[nodiscard]] std::vector<std::string> listens() const { return access_.listen.empty() ? std::vector<std::string>{"443"} : access_.listen; }

    void redirect() {
        const auto all = listens();
        if (access_.server_name.empty() || std::ranges::find(all, "443") == all.end()) return;
        line("server {{");
        line("    listen 80;");
        line("    listen [::]:80;");
        line("    server_name {};", access_.server_name);
        line("    access_log {} promwarden_audit;", paths_.log);
        line("    return 301 https://{}$request_uri;", access_.server_name);
        line("}}");
    }

    Result<> server() {
        line("server {{");
        for (const auto& listen : listens()) {
            line("    listen {} ssl http2;", listen);
            if (listen.find_first_not_of("0123456789") == std::string::npos) line("    listen [::]:{} ssl http2;", listen);
        }
        if (!access_.server_name.empty()) line("    server_name {};", access_.server_name);
        settings();
        headers();
        line("    if ($promwarden_ambiguous) {{ return 400; }}");
        basic_ ? passwords() : identity();
        locations();
        line("    # everything else, known or not: administrators");
        line("    location / {{");
        guard(admin_role, "        ");
        line("        proxy_pass {}/;", upstream());
        line("    }}");
        line("}}");
        return {};
    }

    void settings() {
        if (paths_.certificate_file.empty()) {
            line("    ssl_certificate {};", paths_.certificate);
            line("    ssl_certificate_key {};", paths_.key);
        } else {
            line("    include {};", paths_.certificate_file);
        }
        line("    ssl_protocols {}TLSv1.3;", policy_.tls.min_version == "1.3" ? "" : "TLSv1.2 ");
        line("    ssl_session_tickets off;");
        line("    access_log {} promwarden_audit;", paths_.log);
        line("    server_tokens off;");
        line("    satisfy all;");
        line("    merge_slashes on;");
        line("    client_max_body_size 1m;");
        if (paths_.backend_authority.empty()) return;
        line("    proxy_ssl_verify on;");
        line("    proxy_ssl_trusted_certificate {};", paths_.backend_authority);
        line("    proxy_ssl_name {};", backend_name());
        line("    proxy_ssl_server_name on;");
        line("    proxy_ssl_protocols TLSv1.2 TLSv1.3;");
        if (!paths_.client_file.empty()) line("    include {};", paths_.client_file);
    }

    /// A name in the certificate that web.yml serves.
    [[nodiscard]] std::string backend_name() const {
        for (const auto& certificate : policy_.tls.certificates)
            if (certificate.install == CertificatePolicy::Install::prometheus_web && !certificate.names.empty()) return certificate.names.front();
        return access_.server_name.empty() ? "localhost" : access_.server_name;
    }

    [[nodiscard]] std::string upstream() const { return paths_.backend_authority.empty() ? "http://promwarden_prometheus" : "https://promwarden_prometheus"; }

    void headers(std::string_view cookie = "\"\"", std::string_view indent = "    ") {
        line("{}proxy_http_version 1.1;", indent);
        for (const auto& [name, value] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
                 {"Connection", "\"\""}, {"Host", "$host"}, {"X-Forwarded-For", "$remote_addr"}, {"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "$host"}, {"X-Real-IP", "$remote_addr"}, {"Forwarded", "\"\""},
                 // credentials end here
                 {"Authorization", "\"\""}, {"Proxy-Authorization", "\"\""}, {"Cookie", cookie},
                 // who somebody is, and what they ask for, is said by nobody but this proxy
                 {"X-Forwarded-User", "\"\""}, {"X-Forwarded-Email", "\"\""}, {"X-Forwarded-Groups", "\"\""}, {"X-Forwarded-Preferred-Username", "\"\""}, {"X-Forwarded-Access-Token", "\"\""}, {"X-Auth-Request-User", "\"\""},
                 {"X-Auth-Request-Email", "\"\""}, {"X-Auth-Request-Groups", "\"\""}, {"X-Remote-User", "\"\""}, {"Remote-User", "\"\""}, {"X-WEBAUTH-USER", "\"\""}, {"X-Original-URL", "\"\""}, {"X-Rewrite-URL", "\"\""},
                 {"X-HTTP-Method", "\"\""}, {"X-HTTP-Method-Override", "\"\""}, {"X-Method-Override", "\"\""}})
            line("{}proxy_set_header {} {};", indent, name, value);
    }

    void passwords() {
        line("    auth_basic \"Prometheus\";");
        line("    auth_basic_user_file {};", paths_.passwords);
    }

    void identity() {
        line("    auth_request /_pw/auth/user;");
        line("    auth_request_set $promwarden_user $upstream_http_x_auth_request_user;");
        line("    error_page 401 /oauth2/sign_in;  # the page, with the status 401");
        decision("user", "");
        for (const auto& role : restricted_) role_decision(word_of(role), members(role, "group:"), addresses(role));
        line("    # signing in and out needs no session; the decision itself is not for outside");
        line("    location ^~ /oauth2/ {{");
        line("        auth_request off;");
        line("        proxy_pass http://promwarden_identity;");
        headers("$http_cookie", "        ");
        line("        proxy_set_header X-Auth-Request-Redirect $request_uri;");
        line("    }}");
        line("    location = /oauth2/auth {{ auth_request off; return 404; }}");
    }

    /// oauth2-proxy takes several parameters to mean that all of them hold. Whoever is in none of the groups is asked for by address, in a second question.
    void role_decision(const std::string& name, const std::vector<std::string>& groups, const std::vector<std::string>& addresses) {
        const auto list = [](const std::vector<std::string>& values) {
            std::string text;
            for (const auto& value : values) text += (text.empty() ? "" : ",") + query_value(value);
            return text;
        };
        const auto by_group = "?allowed_groups=" + list(groups), by_address = "?allowed_emails=" + list(addresses);
        if (groups.empty() || addresses.empty()) return decision(name, groups.empty() ? by_address : by_group);
        decision(name, by_group, name + "/user");
        decision(name + "/user", by_address);
    }

    void decision(std::string_view name, std::string_view query, std::string_view otherwise = {}) {
        line("    location = /_pw/auth/{} {{", name);
        line("        internal;");
        line("        auth_request off;");
        line("        access_log off;");
        line("        proxy_pass http://promwarden_identity/oauth2/auth{};", query);
        line("        proxy_pass_request_body off;");
        if (!otherwise.empty()) {
            line("        proxy_intercept_errors on;");
            line("        error_page 403 = /_pw/auth/{};", otherwise);
        }
        headers("$http_cookie", "        ");
        line("        proxy_set_header Content-Length \"\";");
        line("        proxy_set_header X-Original-URI $request_uri;");
        line("    }}");
    }

    /// What lets only members of a role pass. Whoever got this far is a viewer.
    void guard(std::string_view role, std::string_view indent) {
        if (role == viewer_role) return;
        if (basic_) line("{}if ($promwarden_not_{}) {{ return 403; }}", indent, word_of(role));
        else line("{}auth_request /_pw/auth/{};", indent, word_of(role));
    }

    void locations() {
        line("    # whoever is known");
        for (const auto& route : routes())
            if (route.grant == Grant::viewer && route.since <= version_ && !access_.endpoints.contains(std::string(route.path))) location(route.path, route.below, viewer_role, route.post);
        line("    # what the policy says of single endpoints");
        for (const auto& [path, role] : access_.endpoints) {
            const auto* known = find_route(path);
            location(path, path.ends_with('/') && path != "/", role, known == nullptr || known->post || known->path != path);
        }
        line("    # nobody: what stops, reloads, profiles or writes");
        for (const auto& route : routes())
            if (route.grant == Grant::nobody) line("    location {} {} {{ deny all; }}", route.below ? "^~" : "=", route.path);
    }

    void location(std::string_view path, bool below, std::string_view role, bool post) {
        line("    location {} {} {{", below ? "^~" : "=", path);
        guard(role, "        ");
        line("        limit_except GET{} {{ deny all; }}", post ? " POST" : "");
        line("        proxy_pass {}{};", upstream(), path);
        line("    }}");
    }

    const Policy& policy_;
    const AccessPolicy& access_;
    std::uint16_t version_;
    const SitePaths& paths_;
    bool basic_;
    std::vector<std::string> restricted_;
    std::string text_;
};

}  // namespace

SitePaths site_paths(const Policy& policy) {
    using Install = CertificatePolicy::Install;
    const std::string ours = "/etc/nginx/promwarden/tls/";
    SitePaths paths;
    for (const auto& each : policy.tls.certificates) {
        const bool own = each.server && each.name == policy.access.certificate;
        if (own && each.install == Install::nginx) paths.certificate_file = ours + each.name + ".conf";
        if (own && each.install == Install::files) {
            const auto pair = "/etc/prometheus/promwarden/tls/" + each.name + "/current/";
            paths.certificate = pair + "cert.pem";
            paths.key = pair + "key.pem";
        }
        if (each.server && each.install == Install::prometheus_web) paths.backend_authority = each.issuer == "local" ? ours + "authorities.pem" : "/etc/ssl/certs/ca-certificates.crt";
        if (!each.server && each.install == Install::nginx && policy.tls.require_client_certificate) paths.client_file = ours + each.name + ".conf";
    }
    return paths;
}

Result<std::string> render_site(const Policy& policy, std::uint16_t version, const SitePaths& paths) { return Writer(policy, version, paths).run(); }

}  // namespace promwarden::nginx
