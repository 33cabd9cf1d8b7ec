// Which questions follow from which answers.

#include <algorithm>

#include <nlohmann/json.hpp>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

using live::Asker;
using live::End;
using live::TlsVersion;

constexpr std::chrono::milliseconds patience{2000};
constexpr std::string_view flags_path = "/api/v1/status/flags", build_path = "/api/v1/status/buildinfo", runtime_path = "/api/v1/status/runtimeinfo";
constexpr std::size_t most_flags = 512;

/// What says that the other side waits for TLS: both Go and nginx answer 400.
bool asks_for_tls(const Answer& answer) { return answer.end == End::answered && answer.status == 400; }

std::optional<Json> data_of(const Answer& answer) {
    if (answer.status != 200 || answer.truncated) return std::nullopt;
    auto json = parse_json(answer.body, 8, most_flags);
    if (!json || !json->is_object() || !json->contains("data") || !(*json)["data"].is_object()) return std::nullopt;
    return std::move((*json)["data"]);
}

std::string text_in(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>().substr(0, 256) : std::string();
}

}  // namespace

Survey::Survey(std::vector<Target> targets, bool has_user) : targets_(std::move(targets)) {
    facts_.has_user = has_user;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
        const auto& target = targets_[i];
        live::Endpoint endpoint;
        endpoint.asked = target.asked;
        endpoint.listener = target.listener;
        endpoint.proxy = target.proxy;
        endpoint.holder = target.holder;
        endpoint.hidden = target.hidden;
        facts_.endpoints.push_back(std::move(endpoint));
        if (!target.holder.empty()) continue;  // it would prove nothing, and the policy's password is not for strangers
        auto hello = to(i);
        hello.kind = Request::Kind::handshake;
        add(i, Purpose::speaks_tls, Asker::stranger, std::move(hello));
        add(i, Purpose::speaks_plain, Asker::stranger, to(i));
    }
}

const Request* Survey::next() const { return steps_.empty() ? nullptr : &steps_.front().request; }

Request Survey::to(std::size_t target) const {
    Request request;
    request.to = targets_[target].asked;
    request.server_name = targets_[target].server_name;
    request.timeout = patience;
    return request;
}

void Survey::add(std::size_t target, Purpose purpose, Asker asker, Request request) { steps_.push_back({target, purpose, asker, std::move(request)}); }

void Survey::take(const Result<Answer>& answer) {
    if (steps_.empty()) return;
    const auto step = std::move(steps_.front());
    steps_.pop_front();
    if (!answer) {
        if (step.request.credential == Credential::own || step.request.identity == Identity::own) return drop_user(step.target, answer.error());
        Answer none;
        none.detail = answer.error().text();
        return take(step, none);
    }
    take(step, *answer);
}

void Survey::take(const Step& step, const Answer& answer) {
    switch (step.purpose) {
        case Purpose::speaks_tls: take_tls(step.target, answer); break;
        case Purpose::speaks_plain: take_plain(step.target, answer); break;
        case Purpose::question: take_question(step, answer); break;
        case Purpose::handshake: take_handshake(step, answer); break;
    }
    if (answer.end == End::timeout && step.purpose != Purpose::speaks_tls) give_up(step.target);
}

// ---- first: what it speaks ------------------------------------------------------------------------------------------

void Survey::take_tls(std::size_t target, const Answer& answer) {
    auto& endpoint = facts_.endpoints[target];
    if (answer.version || answer.alert != 0) endpoint.tls = true;
    else if (answer.end == End::handshake || answer.end == End::garbage) endpoint.tls = false;
    constexpr int bad_certificate = 42, certificate_required = 116;
    if (answer.alert == bad_certificate || answer.alert == certificate_required || (answer.version && asks_for_tls(answer))) certified_.insert(target);  // nginx says it with 400
    endpoint.chain = answer.chain;
    endpoint.verified = answer.verified;
}

void Survey::take_plain(std::size_t target, const Answer& answer) {
    auto& endpoint = facts_.endpoints[target];
    if (answer.end == End::answered) endpoint.plain = !(endpoint.tls.value_or(false) && asks_for_tls(answer));
    else if (endpoint.tls.value_or(false) && answer.end != End::timeout) endpoint.plain = false;
    if (endpoint.plain.value_or(false) || !endpoint.tls.value_or(false)) take_question({target, Purpose::question, Asker::stranger, to(target)}, answer);
    if (endpoint.tls || endpoint.plain) go_deeper(target);
}

// ---- then: what it gives whom ---------------------------------------------------------------------------------------

void Survey::go_deeper(std::size_t target) {
    const auto& endpoint = facts_.endpoints[target];
    auto request = to(target);
    request.tls = endpoint.tls.value_or(false);
    for (const auto& question : questions()) {
        request.method = question.method;
        request.path = question.path;
        request.foreign_origin = question.method == "GET";
        if (request.tls || question.path != "/-/healthy" || question.method != "GET") add(target, Purpose::question, Asker::stranger, request);  // else asked already
    }
    request.method = "GET";
    request.path = build_path;
    request.foreign_origin = false;
    request.credential = Credential::wrong;
    add(target, Purpose::question, Asker::wrong_password, request);
    if (endpoint.tls.value_or(false)) ask_handshakes(target);
    if (facts_.has_user || certified_.contains(target)) ask_as_user(target);
}

/// Through the proxy everything, since there it matters who one is; at Prometheus itself what tells its state.
void Survey::ask_as_user(std::size_t target) {
    const auto& endpoint = facts_.endpoints[target];
    auto request = to(target);
    request.tls = endpoint.tls.value_or(false);
    if (facts_.has_user) request.credential = Credential::own;
    if (certified_.contains(target)) request.identity = Identity::own;
    for (const auto& question : questions()) {
        if (!endpoint.proxy && !question.kept) continue;
        request.method = question.method;
        request.path = question.path;
        add(target, Purpose::question, Asker::user, request);
    }
}

void Survey::ask_handshakes(std::size_t target) {
    auto request = to(target);
    request.kind = Request::Kind::handshake;
    for (const auto version : {TlsVersion::tls_1_0, TlsVersion::tls_1_1, TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
        request.lowest = request.highest = version;
        add(target, Purpose::handshake, Asker::stranger, request);
    }
    for (const auto version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
        request.lowest = request.highest = version;
        request.identity = Identity::foreign;
        add(target, Purpose::handshake, Asker::stranger, request);
    }
    if (!certified_.contains(target)) return;
    request.lowest = TlsVersion::tls_1_2;
    request.identity = Identity::own;
    add(target, Purpose::handshake, Asker::user, request);
}

void Survey::take_question(const Step& step, const Answer& answer) {
    live::Answer got;
    got.asker = step.asker;
    got.method = step.request.method;
    got.path = step.request.path;
    got.tls = step.request.tls;
    got.end = answer.end;
    got.status = answer.status;
    got.detail = answer.detail;
    if (const auto location = answer.headers.find("location"); location != answer.headers.end()) got.location = location->second;
    if (const auto origin = answer.headers.find("access-control-allow-origin"); origin != answer.headers.end()) got.allow_origin = origin->second;
    facts_.endpoints[step.target].answers.push_back(std::move(got));
    if (!targets_[step.target].proxy) read_status(step.request, answer);
}

void Survey::take_handshake(const Step& step, const Answer& answer) {
    live::Handshake shaken;
    shaken.certificate = step.request.identity == Identity::none      ? live::Handshake::Certificate::none
                         : step.request.identity == Identity::foreign ? live::Handshake::Certificate::foreign
                                                                      : live::Handshake::Certificate::own;
    shaken.version = step.request.highest;
    shaken.end = answer.end;
    shaken.status = answer.status;
    shaken.alert = answer.alert;
    shaken.cipher = answer.cipher;
    shaken.detail = answer.detail;
    facts_.endpoints[step.target].handshakes.push_back(std::move(shaken));
}

/// Only from Prometheus' own socket: a proxy may answer with anything.
void Survey::read_status(const Request& request, const Answer& answer) {
    const auto data = data_of(answer);
    if (!data) return;
    if (!facts_.status) facts_.status.emplace();
    auto& status = *facts_.status;
    if (request.path == flags_path) {
        for (const auto& [name, value] : data->items())
            if (value.is_string()) status.flags.insert_or_assign(name, value.get<std::string>());
    } else if (request.path == build_path) {
        status.version = text_in(*data, "version");
    } else if (request.path == runtime_path) {
        status.retention = text_in(*data, "storageRetention");
        if (const auto loaded = parse_time(text_in(*data, "lastConfigTime"))) status.loaded = *loaded;
        if (const auto reloaded = data->find("reloadConfigSuccess"); reloaded != data->end() && reloaded->is_boolean()) status.reloaded = reloaded->get<bool>();
    }
}

// ---- what goes wrong ------------------------------------------------------------------------------------------------

/// One that keeps silent would keep silent fifty times.
void Survey::give_up(std::size_t target) {
    std::erase_if(steps_, [&](const Step& step) { return step.target == target; });
}

/// Without its file the user cannot be tried.
void Survey::drop_user(std::size_t target, const Error& error) {
    facts_.credential_problem = error.text();
    std::erase_if(steps_, [&](const Step& step) { return step.target == target && step.asker == Asker::user; });
}

live::Facts Survey::finish(std::span<const Target> after, std::chrono::system_clock::time_point now) const {
    auto facts = facts_;
    facts.time = now;
    bool status_holds = true;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
        if (std::ranges::find(after, targets_[i]) != after.end()) continue;
        auto& endpoint = facts.endpoints[i];
        const auto later = std::ranges::find(after, targets_[i].asked, &Target::asked);
        live::Endpoint changed;
        changed.asked = endpoint.asked;
        changed.listener = endpoint.listener;
        changed.proxy = endpoint.proxy;
        changed.holder = later == after.end()        ? "nobody any more: it was closed while it was asked"
                         : !later->holder.empty()    ? later->holder
                                                     : "somebody else than before: the socket was replaced while it was asked";
        status_holds = status_holds && endpoint.proxy;
        endpoint = std::move(changed);
    }
    if (!status_holds) facts.status.reset();
    return facts;
}

}  // namespace promwarden::probe
