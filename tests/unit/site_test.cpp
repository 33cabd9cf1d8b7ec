#include <doctest/doctest.h>

#include "promwarden/site.hpp"
#include "verdicts.hpp"

using namespace promwarden;

namespace {

struct Case {
    std::string_view what, text;
    Verdict verdict;
    std::string_view path = {};  // of the first finding
};

Policy with_roles() {
    Policy policy;
    policy.access.present = true;
    policy.access.roles = {{"admin", {"user:alice", "group:ops"}}, {"viewer", {"user:bob", "group:staff"}}};
    return policy;
}

Decision decide(std::string_view control, std::string_view text, const Policy* policy = nullptr) {
    const auto configuration = nginx::compile(nginx::read("site.conf", text));
    SiteOptions options;
    options.policy = policy;
    options.only = {std::string(control)};
    auto decisions = judge_site(*configuration, options);
    REQUIRE(decisions.size() == 1);
    return noted(control, decisions.front().decision);
}

void check(std::string_view control, std::initializer_list<Case> cases, const Policy* policy = nullptr) {
    for (const auto& each : cases) {
        CAPTURE(each.what);
        const auto decision = decide(control, each.text, policy);
        CAPTURE(decision.reason);
        CHECK(to_text(decision.verdict) == to_text(each.verdict));
        CHECK((decision.verdict == Verdict::fail) == !decision.findings.empty());
        CHECK_FALSE(decision.reason.empty());
        for (const auto& finding : decision.findings) {
            REQUIRE(finding.location);
            CHECK(finding.location->line > 0);
            CHECK_FALSE(finding.remedy.summary.empty());
            CHECK_FALSE(finding.location->path.empty());
        }
        if (!each.path.empty() && !decision.findings.empty()) CHECK(decision.findings.front().location->path == each.path);
    }
}

constexpr auto pass = Verdict::pass, failed = Verdict::fail, unknown = Verdict::unknown, none = Verdict::not_applicable;

#define BASIC "auth_basic Prometheus; auth_basic_user_file /etc/nginx/htpasswd; "
#define SERVER "server { listen 443 ssl; server_name p.example.org; "
#define AUTH "location = /auth { internal; proxy_pass http://127.0.0.1:4180/oauth2/auth; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; } "

}  // namespace

TEST_CASE("site: access.authentication") {
    check("access.authentication",
          {{"a password for everything", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"nothing asks", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/].proxy_pass"},
           {"the password is for another location", SERVER "location /admin { " BASIC "} location / { proxy_pass http://127.0.0.1:9090; } }", failed},
           {"an identity service", SERVER AUTH "location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", pass},
           {"static files by suffix", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } location ~ \\.js$ { auth_basic off; proxy_pass http://127.0.0.1:9090; } location ^~ /graph { auth_basic off; proxy_pass http://127.0.0.1:9090; } }", failed,
            "http.server[0].location[^~ /graph].proxy_pass"},
           {"under a prefix", SERVER "location /prometheus/ { proxy_pass http://prometheus:9090/; } }", failed, "http.server[0].location[/prometheus/].proxy_pass"},
           {"client certificates", SERVER "ssl_verify_client on; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"optional client certificates that are looked at", SERVER "ssl_verify_client optional; if ($ssl_client_verify != SUCCESS) { return 403; } location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"a limited method only", SERVER "location / { limit_except GET { " BASIC "} proxy_pass http://127.0.0.1:9090; } }", failed},
           {"auth_basic without a file asks nobody", SERVER "auth_basic x; location / { proxy_pass http://127.0.0.1:9090; } }", failed},
           {"only to loopback", "server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"only a redirect", "server { listen 80; return 301 https://$host$request_uri; }", none},
           {"a fragment", "location / { proxy_pass http://127.0.0.1:9090; }", unknown},
           {"a fragment that switches it off", "location / { auth_basic off; proxy_pass http://127.0.0.1:9090; }", failed, "location[/].proxy_pass"},
           {"an include that may ask", SERVER "include snippets/authelia.conf; location / { proxy_pass http://127.0.0.1:9090; } }", unknown},
           {"an include that does not", SERVER "include snippets/ssl.conf; location / { include proxy_params; proxy_pass http://127.0.0.1:9090; } }", failed},
           {"something else asks", SERVER "location / { access_by_lua_block { x() } proxy_pass http://127.0.0.1:9090; } }", unknown},
           {"another service on the port", "server { listen 443 ssl; server_name cockpit.example.org; location / { proxy_pass http://127.0.0.1:9090; } }", none},
           {"another service with its websockets", SERVER "location / { proxy_set_header Upgrade $http_upgrade; proxy_pass https://127.0.0.1:9090; } }", none},
           {"an exporter's page", SERVER "location /metrics { proxy_pass http://prometheus-node-exporter:9100/metrics; } }", none},
           {"alertmanager", SERVER "location /alertmanager { proxy_pass http://alertmanager:9093; } }", none},
           {"not nginx", "worker_processes 1;", none},
           {"broken", SERVER "location / {", unknown}});
}

TEST_CASE("site: proxy.no-bypass") {
    check("proxy.no-bypass",
          {{"all asked", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"satisfy any", SERVER BASIC "satisfy any; allow 127.0.0.1; deny all; location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].satisfy"},
           {"satisfy any, nobody allowed by address", SERVER BASIC "satisfy any; deny all; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"satisfy all", SERVER BASIC "satisfy all; allow 10.0.0.0/8; deny all; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"off below", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } location /api/ { auth_basic off; proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/api/].auth_basic"},
           {"off, but an identity service instead", SERVER BASIC AUTH "location / { auth_basic off; auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", pass},
           {"off for the sign-in page", SERVER AUTH "auth_request /auth; location / { proxy_pass http://127.0.0.1:9090; } location /oauth2/ { auth_request off; proxy_pass http://127.0.0.1:4180; } }", pass},
           {"a variable realm", SERVER "auth_basic $realm; auth_basic_user_file x; location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].auth_basic"},
           {"no file", SERVER "auth_basic x; location / { proxy_pass http://127.0.0.1:9090; } }", failed},
           {"nothing asks anywhere", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
}

TEST_CASE("site: proxy.literal-upstream") {
    check("proxy.literal-upstream",
          {{"an address", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"IPv6", SERVER "location / { proxy_pass http://[::1]:9090; } }", pass},
           {"localhost", SERVER "location / { proxy_pass http://localhost:9090; } }", failed, "http.server[0].location[/].proxy_pass"},
           {"the guide's fragment", "location / {\nauth_basic \"Prometheus\";\nauth_basic_user_file /etc/nginx/.htpasswd;\nproxy_pass http://localhost:9090;\n}\n", failed, "location[/].proxy_pass"},
           {"localhost behind a name", "upstream prometheus { server localhost:9090; } " SERVER "location / { proxy_pass http://prometheus; } }", failed, "http.upstream[prometheus].server"},
           {"an address behind a name", "upstream prometheus { server 127.0.0.1:9090; } " SERVER "location / { proxy_pass http://prometheus; } }", pass},
           {"through a variable", SERVER "location / { set $up http://localhost:9090; proxy_pass $up; } }", failed},
           {"a container", SERVER "location / { proxy_pass http://prometheus:9090; } }", unknown}});
}

TEST_CASE("site: proxy.auth-request") {
    check("proxy.auth-request",
          {{"wired", SERVER AUTH "location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", pass},
           {"the guide's fragment", "location / {\nauth_request /oauth2/auth;\nproxy_pass http://localhost:9090;\n}\n", failed, "location[/].auth_request"},
           {"to Prometheus", SERVER "location / { auth_request /oauth2/auth; proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/].auth_request"},
           {"everybody is let in", SERVER "location = /auth { return 204; } location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", failed},
           {"nothing there", SERVER "location = /auth { deny all; return 404; } location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", failed},
           {"the body is announced", SERVER "location = /auth { proxy_pass http://127.0.0.1:4180; } location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[= /auth].proxy_pass"},
           {"none", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
}

TEST_CASE("site: proxy.canonical-uri") {
    check("proxy.canonical-uri",
          {{"locations", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } location /api/v1/series { deny all; } }", pass},
           {"a rule on the raw target", SERVER BASIC "if ($request_uri ~ ^/api/v1/series) { return 403; } location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].if"},
           {"through a map", "map $request_uri $no { default 0; ~^/federate 1; } " SERVER BASIC "if ($no) { return 403; } location / { proxy_pass http://127.0.0.1:9090/; } }", failed, "http.server[0].if"},
           {"ambiguous targets refused", "map $request_uri $bad { default 0; \"~[%\\\\\\\\;]|//|/\\.\" 1; } " SERVER BASIC "if ($bad) { return 400; } if ($request_uri ~ ^/api/v1/series) { return 403; } location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"a name without its case", "map $remote_user $no { default 1; admin 0; } " SERVER BASIC "location / { if ($no) { return 403; } proxy_pass http://127.0.0.1:9090; } }", failed, "http.map[$no]"},
           {"an exact name", "map $remote_user $no { default 1; \"~^admin$\" 0; } " SERVER BASIC "location / { if ($no) { return 403; } proxy_pass http://127.0.0.1:9090; } }", pass},
           {"no rules", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
}

TEST_CASE("site: proxy.credential-stripping") {
    check("proxy.credential-stripping",
          {{"emptied", SERVER BASIC "proxy_set_header Authorization \"\"; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"sent on", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/].proxy_pass"},
           {"emptied above, and then no longer inherited", SERVER BASIC "proxy_set_header Authorization \"\"; location / { proxy_set_header Host $host; proxy_pass http://127.0.0.1:9090; } }", failed},
           {"replaced by the backend's own", SERVER BASIC "location / { proxy_set_header Authorization \"Basic eDp5\"; proxy_pass http://127.0.0.1:9090; } }", pass},
           {"the session", SERVER AUTH "location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", failed},
           {"the session emptied", SERVER AUTH "location / { auth_request /auth; proxy_set_header Cookie \"\"; proxy_pass http://127.0.0.1:9090; } }", pass},
           {"an include that may do it", SERVER BASIC "location / { include snippets/proxy.conf; proxy_pass http://127.0.0.1:9090; } }", unknown},
           {"no credentials", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
}

TEST_CASE("site: proxy.tls-only and tls.server") {
    for (const std::string_view control : {"proxy.tls-only", "tls.server"})
        check(control, {{"TLS", SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                        {"plain", "server { listen 80; " BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].listen"},
                        {"by default", "server { " BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", failed},
                        {"loopback", "server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                        {"redirected", "server { listen 80; listen 443 ssl; if ($scheme = http) { return 301 https://$host$request_uri; } location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                        {"another server redirects", "server { listen 80; server_name p; return 301 https://$host$request_uri; } " SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                        {"the old switch", "server { listen 443; ssl on; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                        {"a fragment", "location / { proxy_pass http://127.0.0.1:9090; }", unknown}});
    check("proxy.tls-only", {{"both", "server { listen 80; listen 443 ssl; " BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].listen"}});
    check("tls.server", {{"both", "server { listen 80; listen 443 ssl; " BASIC "location / { proxy_pass http://127.0.0.1:9090; } }", pass}});
}

TEST_CASE("site: tls.protocol and tls.other-clients") {
    check("tls.protocol", {{"new", SERVER "ssl_protocols TLSv1.2 TLSv1.3; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                           {"old", SERVER "ssl_protocols TLSv1 TLSv1.2; location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].ssl_protocols"},
                           {"inherited", "http { ssl_protocols TLSv1.1; " SERVER "location / { proxy_pass http://127.0.0.1:9090; } } }", failed, "http.ssl_protocols"},
                           {"weak ciphers", SERVER "ssl_ciphers HIGH:RC4-SHA; location / { proxy_pass http://127.0.0.1:9090; } }", failed},
                           {"excluded ones", SERVER "ssl_ciphers HIGH:!aNULL:!MD5:!RC4; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
                           {"nothing said", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
    check("tls.other-clients", {{"verified", SERVER "location / { proxy_ssl_verify on; proxy_pass https://prometheus:9090; } }", pass},
                                {"switched off", SERVER "proxy_ssl_verify off; location / { proxy_pass https://prometheus:9090; } }", failed, "http.server[0].proxy_ssl_verify"},
                                {"on this host", SERVER "location / { proxy_pass https://127.0.0.1:9090; } }", pass},
                                {"left out", SERVER "location / { proxy_pass https://prometheus:9090; } }", none},
                                {"no TLS", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", none}});
    const auto policy = with_roles();
    check("tls.other-clients", {{"left out, with a policy", SERVER "location / { proxy_pass https://prometheus:9090; } }", failed}}, &policy);
}

TEST_CASE("site: audit.proxy-log") {
    check("audit.proxy-log",
          {{"the default", SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"combined", SERVER "access_log /var/log/nginx/p.log combined; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"off", SERVER "location / { access_log off; proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/].access_log"},
           {"off somewhere else", SERVER "location /favicon.ico { access_log off; } location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"with a condition", SERVER "access_log /x combined if=$loggable; location / { proxy_pass http://127.0.0.1:9090; } }", failed},
           {"the guide's format", "log_format combined '$remote_addr - $remote_user'; " SERVER "location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.log_format"},
           {"inside a server", SERVER "log_format own '$remote_user $status'; location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].log_format"},
           {"without a user", "log_format own '$remote_addr $status'; " SERVER "access_log /x own; location / { proxy_pass http://127.0.0.1:9090; } }", failed},
           {"the identity's user", "log_format own escape=json '$auth_user $status'; " SERVER "access_log /x own; location / { proxy_pass http://127.0.0.1:9090; } }", pass},
           {"a format from elsewhere", SERVER "access_log /x main; location / { proxy_pass http://127.0.0.1:9090; } }", unknown},
           {"a format from nowhere", "http { " SERVER "access_log /x main; location / { proxy_pass http://127.0.0.1:9090; } } }", failed}});
}

TEST_CASE("site: roles") {
    const auto policy = with_roles();
    constexpr std::string_view split = "map $remote_user $not_admin { default 1; \"~^alice$\" 0; } " SERVER BASIC
        "location = /api/v1/query { proxy_pass http://127.0.0.1:9090; } location ^~ /debug/ { deny all; } location = /-/reload { deny all; } location = /-/quit { deny all; } location = /api/v1/write { deny all; } "
        "location ^~ /api/v1/otlp/ { deny all; } location / { if ($not_admin) { return 403; } proxy_pass http://127.0.0.1:9090; } }";
    constexpr std::string_view one = SERVER BASIC "location / { proxy_pass http://127.0.0.1:9090; } }";
    for (const std::string_view control : {"access.roles", "access.endpoint-coverage", "api.federation", "api.profiling"}) {
        check(control, {{"split", split, pass}, {"everybody is an administrator", one, failed, "http.server[0].location[/].proxy_pass"}, {"nothing leads there", "server { listen 80; }", none}}, &policy);
        check(control, {{"no policy", one, none}});
    }
    check("access.roles", {{"a rule for /admin", SERVER BASIC "location /admin { deny all; } location / { proxy_pass http://127.0.0.1:9090; } }", failed, "http.server[0].location[/admin]"}});
    check("access.roles", {{"groups", SERVER "location = /a { proxy_pass http://127.0.0.1:4180/oauth2/auth?allowed_groups=ops; } location / { auth_request /a; proxy_pass http://127.0.0.1:9090; } location = /-/reload { deny all; } "
                                             "location = /-/quit { deny all; } location = /api/v1/write { deny all; } location ^~ /debug/ { deny all; } location ^~ /api/v1/otlp/ { deny all; } }", pass},
                           {"every session", SERVER AUTH "location / { auth_request /auth; proxy_pass http://127.0.0.1:9090; } }", failed},
                           {"a service that is not known", SERVER "location = /a { proxy_pass http://authelia:9091/api/verify; } location / { auth_request /a; proxy_pass http://127.0.0.1:9090; } }", unknown}}, &policy);
    const auto configuration = nginx::compile(nginx::read("site.conf", split));
    SiteOptions options{&policy, {}, 315, {"access.endpoint-coverage"}};
    CHECK(judge_site(*configuration, options).front().decision.verdict == Verdict::unknown);
}

namespace {

Decision identity(std::string_view control, std::string_view text, const Policy* policy = nullptr, std::chrono::system_clock::time_point now = {}) {
    SiteOptions options;
    options.policy = policy;
    options.only = {std::string(control)};
    auto decisions = judge_identity("oauth2-proxy.cfg", text, options, now);
    REQUIRE(decisions.size() == 1);
    return noted(control, decisions.front().decision);
}

Facts with_proxy(std::string text, PasswordFile passwords = {}) {
    Facts facts;
    ProxyServer server;
    server.master = 1;
    server.configuration = "/etc/nginx/nginx.conf";
    server.prefix = "/etc/nginx";
    server.texts = {{server.configuration, std::make_shared<const std::string>(std::move(text))}};
    passwords.path = "/etc/nginx/htpasswd";
    server.passwords = {std::move(passwords)};
    facts.proxy = ProxyFacts{{std::move(server)}, {}};
    return facts;
}

}  // namespace

TEST_CASE("site: access.identity-provider") {
    constexpr std::string_view sound = "provider = \"oidc\"\noidc_issuer_url = \"https://id.example.org\"\nemail_domains = [\n  \"example.org\" # ours\n]\ncookie_secure = true\ncookie_secret_file = '/etc/x'\n";
    CHECK(identity("access.identity-provider", sound).verdict == Verdict::pass);
    constexpr std::pair<std::string_view, std::uint32_t> bad[] = {
        {"skip_auth_routes = [\"GET=^/metrics\"]", 8}, {"skip_auth_preflight = true", 8}, {"trusted_ips = [\"10.0.0.0/8\"]", 8}, {"cookie_secure = false", 8},       {"cookie_httponly = false", 8},
        {"cookie_samesite = \"none\"", 8},            {"ssl_insecure_skip_verify = true", 8}, {"email_domains = \"*\"", 8},        {"oidc_issuer_url = \"http://id\"", 8}, {"pass_access_token = true", 8},
        {"cookie_secret = \"0123456789abcdef\"", 8},   {"insecure_oidc_allow_unverified_email = true", 8}};
    for (const auto& [line, number] : bad) {
        CAPTURE(line);
        const auto decision = identity("access.identity-provider", std::string(sound) + std::string(line) + "\n");
        CHECK(decision.verdict == Verdict::fail);
        REQUIRE(decision.findings.size() == 1);
        CHECK(decision.findings.front().location->line == number);
        CHECK(decision.findings.front().observed.find("0123456789") == std::string::npos);
    }
    for (const std::string_view line : {"skip_auth_preflight = false", "email_domains = [\"*\"]\nallowed_groups = [\"ops\"]", "cookie_secret = \"${SECRET}\"", "trusted_ips = []", "http_address = \"0.0.0.0:4180\""}) {
        CAPTURE(line);
        CHECK(identity("access.identity-provider", std::string(sound) + std::string(line) + "\n").verdict == Verdict::pass);
    }
    const auto flags = identity("access.identity-provider", "--provider=oidc\n--email-domain=*\n--cookie-secure=false\n");
    CHECK(flags.findings.size() == 2);
    CHECK(identity("access.identity-provider", "OAUTH2_PROXY_EMAIL_DOMAINS=*\n").findings.size() == 1);
    CHECK(identity("access.identity-provider", "a: b\n").verdict == Verdict::unknown);
}

TEST_CASE("site: access.mfa is a claim, or a word with a date") {
    using namespace std::chrono_literals;
    const std::chrono::system_clock::time_point now = std::chrono::sys_days(std::chrono::year(2026) / 11 / 1);
    constexpr std::string_view claimed = "email_domains = [\"x\"]\nacr_values = \"phr\"\n", silent = "email_domains = [\"x\"]\n";
    Policy policy;
    CHECK(identity("access.mfa", silent, &policy, now).verdict == Verdict::not_applicable);
    policy.access.identity_provider = AccessPolicy::IdentityProvider{"oauth2-proxy", "x", true, "acr", {}};
    CHECK(identity("access.mfa", claimed, &policy, now).verdict == Verdict::pass);
    CHECK(identity("access.mfa", silent, &policy, now).verdict == Verdict::fail);
    policy.access.identity_provider->mfa_attested_until = now + 24h;
    const auto attested = identity("access.mfa", silent, &policy, now);
    CHECK(attested.verdict == Verdict::pass);
    CHECK(attested.reason == "attested by the policy until 2026-11-01; not verified on this host");
    CHECK(identity("access.mfa", silent, &policy, now + 24h).verdict == Verdict::fail);
}

TEST_CASE("site: what runs on a host, and proxy.htpasswd") {
    constexpr std::string_view site = "http { server { listen 443 ssl; auth_basic x; auth_basic_user_file htpasswd; location / { proxy_pass http://127.0.0.1:9090; } } }";
    const Policy policy;
    const auto* control = find_control("proxy.htpasswd");
    REQUIRE(control != nullptr);
    const auto decide_with = [&](std::string_view text, mode_t mode = 0640, uid_t owner = 0) {
        PasswordFile file;
        file.mode = mode;
        file.owner = owner;
        file.lines = nginx::read_passwords(text);
        return noted(control->id, control->decide(policy, with_proxy(std::string(site), std::move(file))));
    };
    CHECK(decide_with("alice:$6$salt$hash\nbob:$apr1$x$y\n").verdict == Verdict::pass);
    for (const std::string_view text : {"a:{PLAIN}x\n", "a:{SHA}x\n", "a:{SSHA}x\n", "a:$1$x$y\n", "a:abcdefghijklm\n", "a:$2y$12$abc\n", "a:$6$x$y\na:$6$x$y\n", "", "# nobody\n"}) {
        CAPTURE(text);
        CHECK(decide_with(text).verdict == Verdict::fail);
    }
    CHECK(decide_with("a:$2y$05$abc\n").verdict == Verdict::pass);
    CHECK(decide_with("a:$6$x$y\n", 0644).verdict == Verdict::fail);
    CHECK(decide_with("a:$6$x$y\n", 0640, 33).verdict == Verdict::fail);
    CHECK(noted(control->id, control->decide(policy, with_proxy("http { }"))).verdict == Verdict::not_applicable);
    Facts broken;
    broken.proxy = fail(Code::denied, "open", "/proc");
    CHECK(noted(control->id, control->decide(policy, broken)).verdict == Verdict::unknown);
    CHECK(proxy_part("access.authentication", policy, with_proxy(std::string(site))).verdict == Verdict::pass);
    CHECK(proxy_part("proxy.credential-stripping", policy, with_proxy(std::string(site))).verdict == Verdict::fail);
    CHECK(proxy_part("proxy.tls-only", policy, Facts{}).verdict == Verdict::not_applicable);
}

TEST_CASE("site: the generated site passes what it is judged by") {
    auto policy = with_roles();
    for (const std::string_view auth : {"basic", "auth-request"}) {
        CAPTURE(auth);
        policy.access.auth = auth;
        policy.access.server_name = "prometheus.example.org";
        policy.access.listen = {"443"};
        policy.access.auth_url = "http://127.0.0.1:4180";
        const auto text = nginx::render_site(policy, 300);
        REQUIRE(text);
        const auto configuration = nginx::compile(nginx::read("site.conf", *text));
        SiteOptions options;
        options.policy = &policy;
        for (const auto& [control, decision] : judge_site(*configuration, options)) {
            CAPTURE(control);
            CAPTURE(decision.reason);
            CHECK(decision.verdict != Verdict::fail);
            CHECK(decision.verdict != Verdict::unknown);
        }
    }
    policy.access.roles["admin"] = {"user:alice"};
    CHECK_FALSE(nginx::render_site(policy));  // with an identity service, groups say who is an administrator
    policy.access.auth = "basic";
    for (const std::string_view path : {"/a;b{", "/-/reload", "/debug/pprof/heap", "/a/../b"}) {
        policy.access.endpoints = {{std::string(path), "viewer"}};
        CHECK_FALSE(nginx::render_site(policy));
    }
    CHECK_FALSE(nginx::render_site(Policy()));
}

TEST_CASE("site: lint tells the kinds apart") {
    const auto kind = [](std::string_view text) { return prometheus::to_text(other_kind(text)); };
    CHECK(kind("# a site\nserver {\n listen 80;\n}\n") == "nginx");
    CHECK(kind("location / {\nproxy_pass http://localhost:9090;\n}\n") == "nginx");
    CHECK(kind("cookie_secure = true\nemail_domains = [\"*\"]\n") == "oauth2-proxy");
    CHECK(kind("apiVersion: v1\ndata:\n  nginx.conf: |\n    server { listen 80; }\n") == "unknown");
    CHECK(kind("") == "unknown");
    CHECK(kind("hello world") == "unknown");
    const InputFile files[] = {{"site.conf", SERVER "location / { proxy_pass http://localhost:9090; } }"}, {"prometheus.yml", "scrape_configs: []\n"}};
    const auto report = lint(files, {}, {});
    const auto verdict = [&](std::string_view id) {
        for (const auto& row : report.controls)
            if (row.control->id == id) return row.decision.verdict;
        return Verdict::unknown;
    };
    CHECK(verdict("proxy.literal-upstream") == Verdict::fail);
    CHECK(verdict("access.authentication") == Verdict::fail);
    CHECK(verdict("secrets.inline") == Verdict::pass);
}
