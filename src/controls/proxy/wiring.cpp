// How the proxy is wired: its backend's address, the subrequests that decide, what it sends on, what it records.

#include <algorithm>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::proxy {

namespace {

std::string_view host_in(std::string_view authority) {
    if (authority.starts_with("unix:")) return authority;
    if (authority.starts_with('[')) return authority.substr(1, authority.find(']') == std::string_view::npos ? 0 : authority.find(']') - 1);
    return authority.substr(0, authority.find(':'));
}

bool same(std::string_view one, std::string_view other) {
    return std::ranges::equal(one, other, [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

bool on(const Level& level, std::string_view name) {
    const auto* set = level.setting(name);
    return set != nullptr && set->word(0) != "off";
}

/// An include of unknown contents that could set headers.
bool may_set_headers(const Level& level) {
    for (const auto* at = &level; at != nullptr; at = at->parent)
        for (const auto* include : at->own("include"))
            if (include->missing && !include->word(0).ends_with("proxy_params") && !include->word(0).ends_with("mime.types")) return true;
    return false;
}

}  // namespace

void Judge::upstreams() {
    const auto judge = [&](std::string_view address, const Way& way, const Level& level, const Directive* at) {
        const auto host = host_in(address);
        if (same(host, "localhost"))
            fail(Id::literal_upstream, level, at, "127.0.0.1, or the address that Prometheus listens on", "localhost is two addresses: nginx alternates between them, and any local user may listen on the one that Prometheus leaves free",
                 "write 127.0.0.1 instead of localhost");
        else if (parse_address(host) || host.starts_with("unix:")) touch(Id::literal_upstream);
        else undecided(Id::literal_upstream, *way.level, at, fmt::format("what address {} has is not in the file", host));
    };
    for (const auto& way : ways_) {
        const auto upstream = configuration_.upstreams.find(way.authority);
        if (upstream == configuration_.upstreams.end()) {
            judge(way.authority, way, *way.level, way.pass);
            continue;
        }
        for (const auto& each : upstream->second.directive->block)
            if (each.name == "server") judge(each.word(0), way, *configuration_.http.front(), &each);
    }
}

// ---- auth_request ---------------------------------------------------------------------------------------------------

void Judge::auth_requests() {
    for (const auto& way : ways_) {
        const auto* asked = way.level->setting("auth_request");
        if (asked == nullptr || asked->word(0) == "off") continue;
        if (asked->word(0).find('$') != std::string_view::npos) {
            undecided(Id::auth_request, *way.level, asked, "a variable says who decides");
            continue;
        }
        touch(Id::auth_request);
        bool asked_somebody = false;
        auto request = stranger();
        request.decide = [&](const nginx::Passed& passed) -> std::optional<int> {
            asked_somebody = true;
            if (prometheus(passed.authority))
                fail(Id::auth_request, *way.level, asked, "a subrequest to the service that decides", fmt::format("no location serves {}: the subrequest goes to Prometheus, which answers 404, and every request ends with 500", asked->word(0)),
                     fmt::format("add 'location = {} {{ internal; proxy_pass http://127.0.0.1:4180/oauth2/auth; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }}'", asked->word(0)));
            return 401;
        };
        const auto paths = targets(way);
        auto answer = Answer();
        for (const auto& path : paths) {
            answer = ask(way, path, request);
            if (answer.location == way.level || (answer.passed && answer.passed->directive == way.pass) || asked_somebody) break;
        }
        const bool passes = answer.kind == Answer::Kind::passed && reached(answer);
        if (!asked_somebody && passes && answer.authenticated)
            fail(Id::auth_request, *way.level, asked, "a subrequest to the service that decides", fmt::format("nginx itself answers {} with a status that lets everybody in", asked->word(0)), "let an identity service decide");
        else if (!asked_somebody && answer.kind == Answer::Kind::status && answer.status == 500 && !open_around(*way.level))
            fail(Id::auth_request, *way.level, asked, "a subrequest to the service that decides", fmt::format("nothing that decides answers {}: every request ends with 500", asked->word(0)), "add the location that it names");
        for (const auto& inside : way.server->level->inside) {
            if (inside->kind != Level::Kind::location || inside->name != asked->word(0) || inside->own("proxy_pass").empty()) continue;
            const auto* body = inside->setting("proxy_pass_request_body");
            const bool emptied = std::ranges::any_of(inside->nearest("proxy_set_header"), [](const Directive* header) { return same(header->word(0), "Content-Length"); });
            if ((body == nullptr || body->word(0) != "off") && !emptied && !may_set_headers(*inside))
                fail(Id::auth_request, *inside, inside->own("proxy_pass").front(), "a subrequest without a body", "the subrequest announces the body of the request and does not send it: a POST waits until it times out",
                     "add 'proxy_pass_request_body off;' and 'proxy_set_header Content-Length \"\";'");
        }
    }
}

// ---- what is sent on ------------------------------------------------------------------------------------------------

void Judge::credentials() {
    for (const auto& way : ways_) {
        const bool basic = on(*way.level, "auth_basic"), session = on(*way.level, "auth_request");
        if (!basic && !session) continue;
        touch(Id::credential_stripping);
        auto request = nobody_in_particular();
        constexpr std::string_view mark = "promwarden-credential";
        request.headers = {{basic ? "Authorization" : "Cookie", std::string(mark)}};
        request.decide = [](const nginx::Passed&) { return std::optional(202); };
        for (const auto& target : targets(way)) {
            const auto answer = ask(way, target, request);
            if (!answer.passed || answer.passed->directive != way.pass) continue;
            const auto& header = request.headers.front().name;
            const bool sent = std::ranges::any_of(answer.passed->headers, [&](const nginx::Header& each) { return each.value.find(mark) != std::string::npos; });
            if (!sent) break;
            if (may_set_headers(*way.level) || (open_around(*way.level) && way.level->nearest("proxy_set_header").empty() && way.level->own("auth_basic").empty() && way.level->own("auth_request").empty())) {
                undecided(Id::credential_stripping, *way.level, way.pass, "whether the files around it empty the header is not known");
            } else {
                fail(Id::credential_stripping, *way.level, way.pass, fmt::format("no {} header for Prometheus", header),
                     basic ? "the user's password is sent on to Prometheus in the Authorization header" : "the user's session is sent on to Prometheus in the Cookie header",
                     fmt::format("add 'proxy_set_header {} \"\";' (and repeat here the others that would then no longer be inherited)", header));
            }
            break;
        }
    }
}

// ---- what is recorded -----------------------------------------------------------------------------------------------

void Judge::logs() {
    for (const auto& [name, format] : configuration_.log_formats)
        if (name == "combined")
            fail(Id::proxy_log, *configuration_.http.front(), format, "another name, or no log_format at all", "combined is predefined: with this line nginx does not start", "remove this log_format, or give it a name of its own");
    for (const auto& way : ways_) {
        touch(Id::proxy_log);
        for (const auto* at = way.level; at != nullptr; at = at->parent)
            if (at->kind != Level::Kind::http)
                for (const auto* format : at->own("log_format"))
                    fail(Id::proxy_log, *at, format, "log_format inside http", "log_format is not allowed here: nginx does not start", "move it to the http block");
        for (const auto* log : way.level->nearest("access_log")) {
            if (log->word(0) == "off") {
                fail(Id::proxy_log, *way.level, log, "a log of every request", "access_log off: who asked for what is not recorded", "remove this line");
                continue;
            }
            if (std::ranges::any_of(log->words, [](const nginx::Word& word) { return word.text.starts_with("if="); }))
                fail(Id::proxy_log, *way.level, log, "a log of every request", "a condition keeps requests out of the log", "remove the condition");
            const auto name = log->words.size() > 1 && log->word(1).find('=') == std::string_view::npos ? log->word(1) : std::string_view("combined");
            const auto format = configuration_.log_formats.find(name);
            if (format == configuration_.log_formats.end()) {
                if (name == "combined") continue;
                if (configuration_.extent == nginx::Extent::whole && configuration_.tree.complete)
                    fail(Id::proxy_log, *way.level, log, "a format that exists", fmt::format("the log format {} is not defined: nginx does not start", name), "define it in the http block, or use combined");
                else undecided(Id::proxy_log, *way.level, log, fmt::format("the log format {} is defined elsewhere", name));
                continue;
            }
            std::string text;
            for (std::size_t i = 1; i < format->second->words.size(); ++i) text += format->second->word(i);
            const auto names = nginx::variables_in(text);
            const bool user = std::ranges::any_of(names, [](const std::string& each) { return each.find("user") != std::string::npos && each != "http_user_agent"; });
            if (!user && name != "combined")
                fail(Id::proxy_log, *configuration_.http.front(), format->second, "a format with the user", "the log does not say who asked", "add $remote_user (or the variable that auth_request_set fills)");
            else if (std::ranges::find(names, "status") == names.end() && name != "combined")
                fail(Id::proxy_log, *configuration_.http.front(), format->second, "a format with the status", "the log does not say what was refused", "add $status");
        }
    }
}

}  // namespace promwarden::proxy
