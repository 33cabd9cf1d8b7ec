#include <algorithm>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "promwarden/probe.hpp"

using namespace promwarden;
using namespace promwarden::probe;
using live::Asker;
using live::End;

namespace {

promwarden::Endpoint at(std::string_view text) { return parse_endpoint(text).value(); }

Process process(pid_t pid, uid_t uid, std::string unit, std::string comm = "prometheus") {
    Process process;
    process.pid = pid;
    process.comm = std::move(comm);
    process.uid = uid;
    process.unit = std::move(unit);
    return process;
}

Listener listener(std::string_view endpoint, std::uint32_t inode, std::vector<Process> holders, uid_t uid = 102) {
    Listener listener;
    listener.endpoint = at(endpoint);
    listener.inode = inode;
    listener.uid = uid;
    listener.holders = std::move(holders);
    return listener;
}

const auto server = process(10, 102, "prometheus.service");

std::vector<Target> targets(const Policy& policy, const std::vector<Listener>& listeners, const std::set<pid_t>& vouched = {}) { return find_targets(policy, listeners, {}, vouched); }

Answer answered(int status, std::string body = "") {
    Answer answer;
    answer.end = End::answered;
    answer.status = status;
    answer.body = std::move(body);
    return answer;
}

Answer ended(End end, int alert = 0) {
    Answer answer;
    answer.end = end;
    answer.alert = alert;
    return answer;
}

/// Runs a survey against a made-up server, and counts.
template <class Reply>
std::vector<Request> run(Survey& survey, Reply reply) {
    std::vector<Request> asked;
    while (const auto* request = survey.next()) {
        asked.push_back(*request);
        REQUIRE(asked.size() < 1000);
        survey.take(reply(asked.back()));
    }
    return asked;
}

Target target(std::string_view endpoint) {
    Target target;
    target.asked = target.listener = at(endpoint);
    target.inodes = {7};
    return target;
}

Result<Answer> plain_server(const Request& request) {
    if (request.kind == Request::Kind::handshake) return ended(End::handshake);
    if (request.path == "/api/v1/status/flags") return answered(200, R"({"status":"success","data":{"web.enable-admin-api":"true","x":1}})");
    if (request.path == "/api/v1/status/runtimeinfo") return answered(200, R"({"status":"success","data":{"storageRetention":"15d","reloadConfigSuccess":false,"lastConfigTime":"2026-11-22T10:00:00Z"}})");
    if (request.path == "/api/v1/status/buildinfo") return answered(200, R"({"status":"success","data":{"version":"2.42.0"}})");
    return answered(200);
}

}  // namespace

// ---- messages -------------------------------------------------------------------------------------------------------

TEST_CASE("requests and answers come back as they were sent") {
    Request request;
    request.kind = Request::Kind::handshake;
    request.to = at("[::1]:9090");
    request.tls = true;
    request.server_name = "prometheus.example.org";
    request.prefix = "/prometheus";
    request.credential = Credential::own;
    request.identity = probe::Identity::foreign;
    request.lowest = live::TlsVersion::tls_1_1;
    request.authorities = "-----BEGIN CERTIFICATE-----\n";
    request.resume = true;
    CHECK(decode_request(encode(request)).value() == request);
    Answer answer = answered(200, std::string("\0\xff body\n", 9));
    answer.headers = {{"location", "/x"}};
    answer.version = live::TlsVersion::tls_1_3;
    answer.chain = {"der", std::string("\0\1\2\3", 4), std::string(5, '\0')};
    answer.resumed = false;
    CHECK(decode_answer(encode(answer)).value().value() == answer);
    const auto error = decode_answer(encode(fail(Code::denied, "ask", "x", "no"))).value();
    REQUIRE_FALSE(error);
    CHECK(error.error().code == Code::denied);
    CHECK(error.error().detail == "no");
}

TEST_CASE("what a worker that is no longer ours sends is refused") {
    const auto whole = nlohmann::ordered_json::parse(encode(answered(200, "body")));
    CHECK(decode_answer(whole.dump()));
    for (const auto* text : {"", "[]", "{}", "{\"answer\":[]}", "{\"answer\":{},\"error\":{}}", "{\"error\":{\"code\":0}}"}) CHECK_FALSE(decode_answer(text));
    const auto with = [&](const char* key, const nlohmann::ordered_json& value) {
        auto changed = whole;
        changed["answer"][key] = value;
        return decode_answer(changed.dump()).has_value();
    };
    CHECK_FALSE(with("status", 1000));
    CHECK_FALSE(with("status", -1));
    CHECK_FALSE(with("end", 8));
    CHECK_FALSE(with("body", "*"));
    CHECK_FALSE(with("body", "===="));
    CHECK_FALSE(with("detail", std::string(600, 'x')));
    CHECK_FALSE(with("chain", std::vector<std::string>(17, "AAAA")));
    CHECK_FALSE(with("chain", {1}));
    CHECK_FALSE(with("version", 4));
    CHECK_FALSE(with("more", 1));
    CHECK_FALSE(with("headers", {{"x", std::string(5000, 'x')}}));
    CHECK_FALSE(decode_answer(std::string(longest_answer + 1, ' ')));
}

TEST_CASE("a request outside of the list is refused on either side") {
    Request request;
    request.to = at("127.0.0.1:9090");
    CHECK(decode_request(encode(request)));
    for (const auto& [method, path] : {std::pair{"POST", "/-/quit"}, {"POST", "/api/v1/admin/tsdb/snapshot"}, {"GET", "/debug/pprof/profile"}, {"GET", "/-/healthy?x"}}) {
        request.method = method;
        request.path = path;
        CHECK(decode_request(encode(request)).error().code == Code::denied);
    }
}

TEST_CASE("nothing on the list does anything") {
    for (const auto& question : questions()) {
        CAPTURE(question.path);
        const std::set<std::string_view> harmless{"/api/v1/admin/tsdb/delete_series", "/api/v1/write", "/api/v1/otlp/v1/metrics", "/api/v1/read"};
        CHECK((question.method == "GET" || question.method == "HEAD" || question.method == "OPTIONS" || (question.method == "POST" && harmless.contains(question.path))));
        CHECK_FALSE(question.path.contains("/profile"));
        CHECK_FALSE(question.path.contains("/trace"));
        CHECK((!question.kept || question.path.starts_with("/api/v1/status/")));
        CHECK_FALSE((question.kept && question.path.ends_with("/config")));  // that one may hold secrets
    }
}

// ---- whom to ask ----------------------------------------------------------------------------------------------------

TEST_CASE("a wildcard is asked at loopback, in each family that it takes") {
    auto any6 = listener("[::]:9090", 1, {server});
    any6.v6only = false;
    auto found = targets({}, {any6});
    REQUIRE(found.size() == 2);
    CHECK(found[0].asked == at("127.0.0.1:9090"));
    CHECK(found[1].asked == at("[::1]:9090"));
    CHECK(found[0].listener == at("[::]:9090"));
    CHECK(found[0].holder.empty());
    any6.v6only = true;
    CHECK(targets({}, {any6}).size() == 1);
    found = targets({}, {listener("10.0.0.1:9090", 1, {server})});
    REQUIRE(found.size() == 1);
    CHECK(found[0].asked == at("10.0.0.1:9090"));
    CHECK(targets({}, {listener("[fe80::1]:9090", 1, {server})}).empty());
}

TEST_CASE("the socket that takes the connection decides, not another on the same port") {
    const auto thief = process(66, 1000, "user@1000.service", "nc");
    const auto found = targets({}, {listener("0.0.0.0:9090", 1, {server}), listener("127.0.0.1:9090", 2, {thief}, 1000)});
    REQUIRE(found.size() == 1);
    CHECK(found[0].inodes == std::set<std::uint32_t>{2});
    CHECK(found[0].holder == "nc (pid 66, uid 1000, of user@1000.service)");
}

TEST_CASE("every socket that shares a port has to be the unit's") {
    const auto other = process(11, 102, "", "prometheus");
    CHECK_FALSE(targets({}, {listener("127.0.0.1:9090", 1, {server}), listener("127.0.0.1:9090", 2, {other})})[0].holder.empty());
    CHECK_FALSE(targets({}, {listener("127.0.0.1:9090", 1, {server, other})})[0].holder.empty());
}

TEST_CASE("whose socket it is") {
    const auto holder = [](std::vector<Process> holders, uid_t uid = 102, std::set<pid_t> vouched = {}) { return targets({}, {listener("127.0.0.1:9090", 1, std::move(holders), uid)}, vouched)[0].holder; };
    CHECK(holder({server}) == "");
    CHECK(holder({process(10, 102, "other.service")}) != "");
    CHECK(holder({server}, 1000) != "");  // made by another user and handed over
    CHECK(holder({}) == "a process that cannot be seen from here, of uid 102");
    CHECK(holder({process(10, 102, "")}) != "");
    CHECK(holder({process(10, 102, "")}, 102, {10}) == "");
    CHECK(holder({process(10, 102, "other.service")}, 102, {10}) != "");
}

TEST_CASE("ports are the policy's") {
    Policy policy;
    CHECK(target_ports(policy, {}) == std::vector<PortRange>{{9090, 9090}});
    Service service;
    service.name = "prometheus";
    service.ports = {{9095, 9096}};
    policy.firewall.services = {service};
    CHECK(target_ports(policy, {}) == std::vector<PortRange>{{9095, 9095}, {9096, 9096}});
    policy.prometheus.listen = {at("127.0.0.1:9191")};
    policy.access.present = true;
    policy.access.listen = {"443", "127.0.0.1:8443", "[::]:9443"};
    policy.access.server_name = "prometheus.example.org";
    CHECK(target_ports(policy, {}) == std::vector<PortRange>{{443, 443}, {8443, 8443}, {9191, 9191}, {9443, 9443}});
    const auto found = targets(policy, {listener("0.0.0.0:443", 1, {process(5, 0, "nginx.service", "nginx"), process(6, 33, "nginx.service", "nginx")}, 0), listener("127.0.0.1:9090", 2, {server})});
    REQUIRE(found.size() == 1);
    CHECK(found[0].proxy);
    CHECK(found[0].holder.empty());
    CHECK(found[0].server_name == "prometheus.example.org");
}

// ---- the inquiry ----------------------------------------------------------------------------------------------------

TEST_CASE("an open server is asked everything on the list once, and tells its state") {
    const std::vector all{target("127.0.0.1:9090")};
    Survey survey(all, false);
    const auto asked = run(survey, plain_server);
    for (const auto& question : questions())
        CHECK(std::ranges::count_if(asked, [&](const Request& one) {
                  return one.kind == Request::Kind::http && one.method == question.method && one.path == question.path && one.credential == Credential::none;
              }) == 1);
    CHECK(std::ranges::none_of(asked, [](const Request& one) { return one.credential == Credential::own || one.tls; }));
    const auto facts = survey.finish(all, {});
    REQUIRE(facts.status);
    CHECK(facts.status->flags == std::map<std::string, std::string>{{"web.enable-admin-api", "true"}});
    CHECK(facts.status->version == "2.42.0");
    CHECK(facts.status->reloaded == false);
    CHECK(facts.status->loaded == parse_time("2026-11-22T10:00:00Z").value());
    CHECK(facts.endpoints[0].plain == true);
    CHECK(facts.endpoints[0].tls == false);
    CHECK(facts.endpoints[0].handshakes.empty());
}

TEST_CASE("nobody is asked where somebody else holds the socket") {
    auto held = target("127.0.0.1:9090");
    held.holder = "nc (pid 1)";
    Survey survey({held}, true);
    CHECK(survey.next() == nullptr);
    CHECK(survey.finish(std::vector{held}, {}).endpoints[0].holder == "nc (pid 1)");
}

TEST_CASE("a socket that changed hands meanwhile proves nothing") {
    const std::vector all{target("127.0.0.1:9090")};
    Survey survey(all, false);
    run(survey, plain_server);
    auto after = all;
    after[0].inodes = {8};
    auto facts = survey.finish(after, {});
    CHECK_FALSE(facts.status);
    CHECK(facts.endpoints[0].answers.empty());
    CHECK(facts.endpoints[0].holder.contains("replaced"));
    after[0].holder = "nc (pid 66)";
    CHECK(survey.finish(after, {}).endpoints[0].holder == "nc (pid 66)");
    CHECK(survey.finish({}, {}).endpoints[0].holder.contains("nobody any more"));
}

TEST_CASE("a server that keeps silent is not asked again") {
    Survey survey({target("127.0.0.1:9090")}, true);
    CHECK(run(survey, [](const Request&) { return ended(End::timeout); }).size() == 2);
    int asked = 0;
    Survey later({target("127.0.0.1:9090")}, true);
    run(later, [&](const Request& request) { return ++asked < 5 ? plain_server(request) : Result<Answer>(ended(End::timeout)); });
    CHECK(asked == 5);
}

TEST_CASE("TLS: every version, a foreign certificate, and the user where there is one") {
    const auto reply = [](const Request& request) {
        if (request.kind == Request::Kind::handshake) {
            auto answer = answered(401);
            answer.version = live::TlsVersion::tls_1_3;
            return Result<Answer>(answer);
        }
        return Result<Answer>(answered(request.tls ? 401 : 400));
    };
    Survey survey({target("127.0.0.1:9090")}, true);
    const auto asked = run(survey, reply);
    CHECK(std::ranges::count_if(asked, [](const Request& one) { return one.kind == Request::Kind::handshake && one.lowest == one.highest; }) == 6);
    CHECK(std::ranges::count(asked, probe::Identity::foreign, &Request::identity) == 2);
    CHECK(std::ranges::count(asked, probe::Identity::own, &Request::identity) == 0);
    CHECK(std::ranges::count(asked, Credential::own, &Request::credential) == 3);
    CHECK(std::ranges::count_if(asked, [](const Request& one) { return one.kind == Request::Kind::http && !one.tls; }) == 1);
    const auto facts = survey.finish(std::vector{target("127.0.0.1:9090")}, {});
    CHECK(facts.endpoints[0].plain == false);
    CHECK(facts.endpoints[0].tls == true);
}

TEST_CASE("client certificates: the own one is shown where one is demanded") {
    Survey survey({target("127.0.0.1:9090")}, false);
    const auto asked = run(survey, [](const Request& request) -> Result<Answer> {
        if (request.identity == probe::Identity::own && request.kind == Request::Kind::http) return plain_server(request);
        return ended(End::handshake, 42);
    });
    CHECK(std::ranges::count_if(asked, [](const Request& one) { return one.identity == probe::Identity::own && one.kind == Request::Kind::handshake; }) == 1);
    CHECK(survey.finish(std::vector{target("127.0.0.1:9090")}, {}).status);
}

TEST_CASE("without its password file the user is given up, and said so") {
    Survey survey({target("127.0.0.1:9090")}, true);
    const auto asked = run(survey, [](const Request& request) -> Result<Answer> {
        if (request.credential == Credential::own) return fail(Code::denied, "open", "/etc/promwarden/probe.password");
        return plain_server(request);
    });
    CHECK(std::ranges::count(asked, Credential::own, &Request::credential) == 1);
    CHECK(survey.finish(std::vector{target("127.0.0.1:9090")}, {}).credential_problem.contains("probe.password"));
}

TEST_CASE("what a proxy says of flags is not Prometheus' word") {
    auto proxy = target("127.0.0.1:443");
    proxy.proxy = true;
    Survey survey({proxy}, false);
    run(survey, plain_server);
    CHECK_FALSE(survey.finish(std::vector{proxy}, {}).status);
}

TEST_CASE("hostile states of a server are taken as text, within limits") {
    const std::vector all{target("127.0.0.1:9090")};
    for (const auto* body : {"", "[]", "{\"data\":[]}", "{\"data\":{\"data\":{\"data\":{\"data\":{\"data\":{\"data\":{\"data\":{\"data\":{}}}}}}}}}", "{\"data\":{\"a\":\"b\",\"a\":\"c\"}}", "\xff"}) {
        Survey survey(all, false);
        run(survey, [&](const Request& request) { return request.kind == Request::Kind::handshake ? Result<Answer>(ended(End::handshake)) : Result<Answer>(answered(200, body)); });
        CHECK_FALSE(survey.finish(all, {}).status);
    }
}
