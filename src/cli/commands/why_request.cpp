// why-request — what the running proxy does with a request: which location serves it, which rules let it pass or refuse it, and what Prometheus receives.

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "local.hpp"
#include "output.hpp"
#include "promwarden/host.hpp"
#include "promwarden/site.hpp"

namespace promwarden::cli {

namespace {

/// Headers whose values are no secrets, whoever set them.
constexpr std::string_view harmless[] = {"host", "connection", "upgrade", "accept", "user-agent", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-user", "x-forwarded-prefix",
                                         "x-real-ip", "x-scheme", "x-original-uri", "x-remote-user", "remote-user", "x-webauth-user", "x-auth-request-user", "x-auth-request-redirect"};

std::string place_of(const nginx::Configuration& configuration, const nginx::Place& at) {
    const auto& files = configuration.tree.files;
    return fmt::format("{}:{}", files.empty() ? "" : files[std::min<std::size_t>(at.file, files.size() - 1)], at.line);
}

/// A header's value, unless it may be a secret: of the client, or written in the configuration.
std::string shown(const nginx::Header& header) {
    std::string name(header.name);
    for (auto& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    return std::ranges::find(harmless, name) != std::end(harmless) ? header.value : "(not shown)";
}

/// Of the servers that lead to Prometheus, or of all where none does.
struct Asked {
    const nginx::Server* server = nullptr;
    nginx::Answer answer;
};

std::string outcome(const nginx::Answer& answer) {
    using Kind = nginx::Answer::Kind;
    switch (answer.kind) {
        case Kind::status: return answer.redirect.empty() ? fmt::format("nginx answers {}", answer.status) : fmt::format("nginx answers {} and sends the client to {}", answer.status, answer.redirect);
        case Kind::passed: return answer.status == 0 ? fmt::format("{} answers", answer.passed->authority) : fmt::format("{} answers, shown as {}", answer.passed->authority, answer.status);
        case Kind::file: return "nginx serves a file, or 404";
        case Kind::closed: return "nginx closes the connection";
        default: return fmt::format("unknown: {}", answer.reason);
    }
}

std::string text_of(const nginx::Configuration& configuration, const Asked& asked) {
    const auto& answer = asked.answer;
    auto text = fmt::format("{}  server {}\n", place_of(configuration, asked.server->level->directive->at), asked.server->names.empty() ? "without a name" : asked.server->names.front());
    for (const auto& step : answer.steps) text += fmt::format("  {}{}\n", step.directive != nullptr ? place_of(configuration, step.directive->at) + "  " : "", step.text);
    text += fmt::format("  => {}\n", outcome(answer));
    if (!answer.passed) return text;
    text += fmt::format("     {} {}\n", answer.passed->method, answer.passed->target);
    for (const auto& header : answer.passed->headers) text += fmt::format("     {}: {}\n", header.name, shown(header));
    return text;
}

Json json_of(const nginx::Configuration& configuration, const Asked& asked) {
    constexpr std::string_view kinds[] = {"status", "passed", "file", "closed", "unknown"};
    const auto& answer = asked.answer;
    Json json{{"server", nginx::path_of(configuration, *asked.server->level)}, {"outcome", kinds[static_cast<std::size_t>(answer.kind)]}};
    if (answer.location != nullptr) json["location"] = nginx::path_of(configuration, *answer.location);
    if (answer.status != 0) json["status"] = answer.status;
    if (!answer.redirect.empty()) json["redirect"] = answer.redirect;
    if (!answer.reason.empty()) json["reason"] = answer.reason;
    json["uri"] = answer.uri;
    json["authenticated"] = answer.authenticated;
    json["steps"] = Json::array();
    for (const auto& step : answer.steps) {
        Json one{{"text", step.text}};
        if (step.directive != nullptr) one["at"] = place_of(configuration, step.directive->at);
        json["steps"].push_back(std::move(one));
    }
    if (!answer.passed) return json;
    json["upstream"] = {{"authority", answer.passed->authority}, {"method", answer.passed->method}, {"target", answer.passed->target}, {"headers", Json::object()}};
    for (const auto& header : answer.passed->headers) json["upstream"]["headers"][header.name] = shown(header);
    return json;
}

/// Whether a block below leads to Prometheus.
bool leads(const nginx::Configuration& configuration, const nginx::Level& level, const SiteOptions& options) {
    for (const auto* pass : level.own("proxy_pass")) {
        auto text = pass->word(0);
        const auto mark = text.find("://");
        if (mark == std::string_view::npos) continue;
        text.remove_prefix(mark + 3);
        if (leads_to_prometheus(configuration, text.substr(0, text.find_first_of("/?")), options)) return true;
    }
    return std::ranges::any_of(level.inside, [&](const auto& inside) { return leads(configuration, *inside, options); });
}

std::vector<Asked> ask(const nginx::Configuration& configuration, const nginx::Request& request, const Policy& policy) {
    SiteOptions options;
    for (const auto& endpoint : policy.prometheus.listen) options.backends.push_back(to_text(endpoint));
    std::vector<Asked> all;
    for (const auto& server : configuration.servers) {
        if (!leads(configuration, *server.level, options)) continue;
        auto one = request;
        one.server = server.level;
        one.tls = std::ranges::any_of(server.listens, &nginx::Listen::ssl);
        one.host = server.names.empty() ? "localhost" : server.names.front();
        for (const auto& listen : server.listens)
            if (listen.ssl == one.tls) one.listener = fmt::format("{}:{}", listen.address, listen.port);
        all.push_back({&server, nginx::evaluate(configuration, one)});
    }
    return all;
}

}  // namespace

Outcome why_request(const Options& options) {
    const auto space = options.argument.find(' ');
    if (space == std::string::npos || space == 0) return failure(Exit::usage, "ask for a method and a path: 'GET /api/v1/series'");
    const auto role = options.role.empty() ? std::string("none") : options.role;
    const Policy nothing;
    std::optional<Candidate> candidate;
    if (auto loaded = load_candidate(options.policy)) candidate = *std::move(loaded);
    else if (options.policy_given) candidate = TRY(load_policy(options.policy));
    const auto& policy = candidate ? candidate->policy : nothing;
    if (role != "none" && !policy.access.roles.empty() && !policy.access.roles.contains(role)) return failure(Exit::usage, fmt::format("--role {}: the policy has no such role", render::printable(role)));
    auto request = request_of_role(&policy, role);
    request.method = options.argument.substr(0, space);
    request.target = options.argument.substr(space + 1);
    const auto facts = TRY(host::read_proxy(policy));
    if (facts.servers.empty()) return failure(Exit::undetermined, "no nginx that root started runs here");
    std::string text;
    Json json = Json::array();
    bool reaches = false, known = true;
    for (const auto& server : facts.servers) {
        if (server.problem) return failure(server.problem->code == Code::denied ? Exit::denied : Exit::undetermined, render::printable(server.problem->text()));
        const auto configuration = nginx::compile(nginx::read(server));
        if (configuration->tree.problem) return failure(Exit::undetermined, fmt::format("{}: {}", place_of(*configuration, configuration->tree.problem->at), render::printable(configuration->tree.problem->message)));
        for (const auto& asked : ask(*configuration, request, policy)) {
            text += text_of(*configuration, asked);
            json.push_back(json_of(*configuration, asked));
            reaches = reaches || asked.answer.kind == nginx::Answer::Kind::passed;
            known = known && asked.answer.kind != nginx::Answer::Kind::unknown;
        }
    }
    if (json.empty()) return failure(Exit::undetermined, "no server of the running nginx leads to Prometheus");
    const Json whole{{"method", request.method}, {"target", request.target}, {"role", role}, {"answers", json}};
    TRY(write_result(options, options.format == render::Format::json ? json_text(whole) + "\n" : text));
    return !known ? Exit::undetermined : reaches ? Exit::holds : Exit::fails;
}

}  // namespace promwarden::cli
