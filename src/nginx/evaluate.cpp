// A request through the phases: server rewrite, location, rewrite, access, try_files, content; and round again after a rewrite or an error page.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

constexpr int most_runs = 50;

/// The exact name, the longest "*.name", the longest "name.*", the first regular expression.
const Server* named_server(const std::vector<const Server*>& servers, const std::string& host, bool& unsure) {
    const Server *head = nullptr, *tail = nullptr;
    std::size_t head_length = 0, tail_length = 0;
    for (const auto* each : servers)
        for (const auto& name : each->names) {
            if (name == host || (name.starts_with('.') && host == name.substr(1))) return each;
            const auto suffix = name.starts_with("*.") ? name.substr(1) : name.starts_with('.') ? name : "";
            if (!suffix.empty() && host.size() > suffix.size() && host.ends_with(suffix) && suffix.size() > head_length) {
                head = each;
                head_length = suffix.size();
            }
            if (name.ends_with(".*") && host.starts_with(name.substr(0, name.size() - 1)) && host.size() >= name.size() && name.size() > tail_length) {
                tail = each;
                tail_length = name.size();
            }
            unsure = unsure || name.find('$') != std::string::npos;
        }
    if (head != nullptr || tail != nullptr) return head != nullptr ? head : tail;
    Groups groups;
    for (const auto* each : servers)
        for (const auto& [text, regex] : each->name_regexes)
            if (regex != nullptr && regex->match(host, groups) == Regex::Found::yes) return each;
    return nullptr;
}

bool listens_on(const Listen& listen, std::string_view address, std::uint16_t port, bool exactly) {
    if (listen.port != port) return false;
    if (listen.address == address) return true;
    return !exactly && (listen.address == "0.0.0.0" || listen.address == "::");
}

struct Chosen {
    const Level* server = nullptr;
    const Level* reader = nullptr;  // whose merge_slashes reads the target: without TLS nginx reads it before it looks at the name
};

/// The server that a listener and a host name lead to.
Chosen choose_server(const Configuration& configuration, const Request& request, const std::string& host, std::string& unknown) {
    if (request.server != nullptr) return {request.server, request.server};
    const auto colon = request.listener.rfind(':');
    std::string address = request.listener.substr(0, colon == std::string::npos ? 0 : colon);
    std::erase_if(address, [](char c) { return c == '[' || c == ']'; });
    std::uint16_t port = 80;
    if (colon != std::string::npos) std::from_chars(request.listener.data() + colon + 1, request.listener.data() + request.listener.size(), port);
    std::vector<const Server*> here;
    const Server* fallback = nullptr;
    for (const bool exactly : {true, false}) {
        for (const auto& server : configuration.servers)
            for (const auto& listen : server.listens) {
                if (!request.listener.empty() && !listens_on(listen, address, port, exactly)) continue;
                if (here.empty() || here.back() != &server) here.push_back(&server);
                if (fallback == nullptr || (listen.default_server && !request.listener.empty())) fallback = &server;
            }
        if (!here.empty()) break;
    }
    if (here.empty()) {
        unknown = "no server listens there";
        return {};
    }
    bool unsure = false;
    const auto* named = named_server(here, host, unsure);
    if (named == nullptr && unsure) unknown = "a server's name holds a variable";
    const auto* server = named != nullptr ? named->level : fallback->level;
    return {server, request.tls ? server : fallback->level};
}

std::string host_of(const Request& request, const std::optional<Target>& target) {
    auto host = lower(target && !target->host.empty() ? target->host : request.host);
    const auto colon = host.starts_with('[') ? host.find(':', host.find(']')) : host.find(':');
    host.resize(std::min(colon, host.size()));
    if (host.ends_with('.')) host.pop_back();
    return host;
}

bool merges(const Level& server) {
    const auto* merge = server.setting("merge_slashes");
    return merge == nullptr || merge->word(0) != "off";
}

}  // namespace

Outcome Visit::unknown(std::string reason) {
    if (shared_.unknown.empty()) shared_.unknown = reason.empty() ? "a condition that is not understood" : std::move(reason);
    return {};
}

// ---- the ways into the phases ---------------------------------------------------------------------------------------

Outcome Visit::main() {
    const auto& target = shared_.target;
    method_ = shared_.request.method;
    uri_ = target.path;
    args_ = target.args;
    quoted_ = target.quoted;
    plus_ = target.plus;
    valid_unparsed_ = target.raw.starts_with('/');
    return run();
}

Outcome Visit::refuse(int code) {
    method_ = shared_.request.method;
    return ending(status(code));
}

Outcome Visit::subrequest(std::string_view target) {
    const auto question = target.find('?');
    uri_ = target.substr(0, question);
    args_ = question == std::string_view::npos ? "" : target.substr(question + 1);
    internal_ = true;
    method_ = "GET";
    return run();
}

Outcome Visit::run() { return phases(true); }

Outcome Visit::phases(bool find) {
    if (++shared_.runs > most_runs) return unknown("too many redirects inside of nginx");
    if (find) {
        level_ = &server_;
        valid_location_ = true;
        if (auto ended = rewrite(server_)) return ending(*std::move(ended));
    }
    for (bool first = true;; first = false) {
        if (find || !first)
            if (auto ended = find_location()) return ending(*std::move(ended));
        uri_changed_ = false;
        const auto& location = *level_;
        if (&location != &server_)
            if (auto ended = rewrite(location)) return ending(*std::move(ended));
        if (!uri_changed_) break;
        if (--changes_ == 0) return ending(status(500));
    }
    if (auto ended = access()) return ending(*std::move(ended));
    if (auto ended = try_files()) return *std::move(ended);
    return content();
}

Outcome Visit::internal_redirect(std::string uri, std::string args) {
    if (--changes_ == 0) return status(500);
    uri_ = std::move(uri);
    args_ = std::move(args);
    valid_unparsed_ = false;
    internal_ = true;
    step(nullptr, fmt::format("inside of nginx the request goes on as {}", uri_));
    return phases(true);
}

Outcome Visit::named_location(const std::string& name) {
    if (--changes_ == 0) return status(500);
    for (const auto& each : server_.inside) {
        if (each->kind != Level::Kind::location || each->match != Level::Match::named || each->name != name) continue;
        internal_ = true;
        uri_changed_ = false;
        level_ = each.get();
        step(level_->directive, fmt::format("the request goes on in location {}", name));
        apply_limit_except();
        return phases(false);
    }
    return status(500);
}

// ---- endings --------------------------------------------------------------------------------------------------------

/// nginx looks for an error page where it would answer 300 or more itself, and where it is told to intercept what an upstream answers. Of a request itself nobody
/// knows what that is; of a question about it, whoever asks us does.
Outcome Visit::ending(Outcome outcome) {
    if (paged_ || stuck()) return outcome;
    int code = outcome.kind == Answer::Kind::status && !outcome.sent ? outcome.status : 0;
    const auto* intercepts = level_->setting("proxy_intercept_errors");
    if (subrequest_ && outcome.kind == Answer::Kind::passed && intercepts != nullptr && intercepts->word(0) == "on" && shared_.request.decide) code = shared_.request.decide(*outcome.passed).value_or(0);
    if (code < 300) return outcome;
    for (const auto* page : level_->nearest("error_page"))
        for (std::size_t i = 0; i + 1 < page->words.size(); ++i) {
            if (page->word(i) != std::to_string(code)) continue;
            const auto* recursive = level_->setting("recursive_error_pages");
            paged_ = recursive == nullptr || recursive->word(0) != "on";
            return error_page(*page, code);
        }
    return outcome;
}

Outcome Visit::error_page(const Directive& page, int code) {
    int imposed = code;
    for (std::size_t i = 0; i + 1 < page.words.size(); ++i) {
        const auto word = page.word(i);
        if (!word.starts_with('=')) continue;
        imposed = 0;
        std::from_chars(word.data() + 1, word.data() + word.size(), imposed);
    }
    const auto place = expand(page.words.back().text);
    if (!place) return unknown("");
    step(&page, fmt::format("error_page {}: {}", code, *place));
    Outcome outcome;
    if (place->starts_with('/') || place->starts_with('@')) {
        if (method_ != "HEAD" && place->starts_with('/')) method_ = "GET";
        const auto question = place->find('?');
        outcome = place->starts_with('@') ? named_location(*place)
                                          : internal_redirect(place->substr(0, question), question == std::string::npos ? "" : place->substr(question + 1));
        const bool own = outcome.kind == Answer::Kind::status && !outcome.sent;
        if (imposed != 0 && !own) outcome.status = imposed;
        return outcome;
    }
    const bool moves = imposed == 301 || imposed == 302 || imposed == 303 || imposed == 307 || imposed == 308;
    outcome = status(moves ? imposed : 302);
    outcome.redirect = *place;
    return outcome;
}

// ---- files and content ----------------------------------------------------------------------------------------------

Text Visit::file_path(const std::string& uri) {
    const auto* at = level_;
    while (at != nullptr && at->own("root").empty() && at->own("alias").empty()) at = at->parent;
    if (at == nullptr) return "/usr/share/nginx/html" + uri;  // where nothing says otherwise; nobody knows the prefix, so only its shape matters
    const auto alias = at->own("alias");
    const auto base = expand(alias.empty() ? at->own("root").back()->word(0) : alias.back()->word(0));
    if (!base) return std::nullopt;
    return alias.empty() ? *base + uri : *base + uri.substr(std::min(at->name.size(), uri.size()));
}

Visit::Ending Visit::try_files() {
    const auto own = level_->own("try_files");  // the one directive that is never inherited, not even by an "if"
    if (own.empty() || own.back()->words.size() < 2) return std::nullopt;
    const auto* tries = own.back();
    for (std::size_t i = 0; i + 1 < tries->words.size(); ++i) {
        const auto name = expand(tries->word(i));
        const auto path = name ? file_path(*name) : std::nullopt;
        if (!path) return unknown("");
        const bool directory = tries->word(i).ends_with('/');  // only then a directory will do
        const auto there = path->ends_with('/') && !directory ? std::optional(false) : shared_.request.exists ? shared_.request.exists(*path) : std::nullopt;
        if (!there) return unknown(fmt::format("try_files: whether {} exists is not known", *name));
        if (!*there) continue;
        step(tries, fmt::format("try_files: {} is there", *name));
        uri_ = *name;
        return std::nullopt;
    }
    const auto last = expand(tries->words.back().text);
    if (!last) return unknown("");
    step(tries, fmt::format("try_files: {}", *last));
    if (last->starts_with('=')) {
        int code = 0;
        std::from_chars(last->data() + 1, last->data() + last->size(), code);
        return ending(status(code));
    }
    if (last->starts_with('@')) return named_location(*last);
    const auto question = last->find('?');
    return internal_redirect(last->substr(0, question), question == std::string::npos ? "" : last->substr(question + 1));
}

Outcome Visit::static_content() {
    const bool reads = method_ == "GET" || method_ == "HEAD" || method_ == "POST";
    if (!reads) return ending(status(405));
    const auto path = file_path(uri_);
    const auto there = path && shared_.request.exists ? shared_.request.exists(*path) : std::nullopt;
    if (stuck()) return {};
    if (!there) return {Answer::Kind::file, 0, {}, {}, true};
    if (!*there) return ending(status(404));
    if (uri_.ends_with('/')) return ending(status(403));
    if (method_ == "POST") return ending(status(405));
    return {Answer::Kind::file, 200, {}, {}, true};
}

Outcome Visit::content() {
    if (const auto* directive = handler()) {
        auto outcome = pass(*directive);
        return outcome.kind == Answer::Kind::passed ? ending(std::move(outcome)) : outcome;
    }
    for (const auto& each : level_->directive->block) {
        if (each.name == "stub_status" || each.name == "empty_gif") return {Answer::Kind::status, 200, {}, {}, true};
        if (each.name.starts_with("content_by_lua") || each.name == "js_content" || each.name == "perl" || each.name == "vhost_traffic_status_display") return unknown(fmt::format("{} answers", each.name));
    }
    return static_content();
}

// ---- the question ---------------------------------------------------------------------------------------------------

Answer evaluate(const Configuration& configuration, const Request& request) {
    Answer answer;
    std::optional<Target> target = parse_target(request.target, true);
    std::string unknown;
    const auto host = host_of(request, target);
    const auto chosen = choose_server(configuration, request, host, unknown);
    answer.server = chosen.server;
    if (answer.server == nullptr || !unknown.empty()) {
        answer.reason = unknown;
        return answer;
    }
    target = parse_target(request.target, merges(*chosen.reader));
    const bool method = !request.method.empty() && std::ranges::all_of(request.method, [](char c) { return (c >= 'A' && c <= 'Z') || c == '_' || c == '-'; });
    const bool bad = !target || request.host.empty() || !method;
    const bool refused = request.method == "TRACE" || request.method == "CONNECT";
    Shared shared{configuration, request, target.value_or(Target()), {}, {}, {}, 0, 0};
    Visit visit(shared, *answer.server);
    auto outcome = bad || refused ? visit.refuse(bad ? 400 : 405) : visit.main();
    answer.steps = std::move(shared.steps);
    answer.location = &visit.level();
    answer.uri = visit.uri();
    answer.authenticated = visit.authenticated();
    if (!shared.unknown.empty() || outcome.kind == Answer::Kind::unknown) {
        answer.reason = shared.unknown;
        return answer;
    }
    answer.kind = outcome.kind;
    answer.status = outcome.status;
    answer.redirect = std::move(outcome.redirect);
    answer.passed = std::move(outcome.passed);
    return answer;
}

}  // namespace promwarden::nginx
