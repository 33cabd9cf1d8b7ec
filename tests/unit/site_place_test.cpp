// The site in front of Prometheus, as a plan has it: from where nginx would read it and what is there to what makes it so.

#include <doctest/doctest.h>

#include "promwarden/apply.hpp"

using namespace promwarden;

namespace {

const std::string file = "/etc/nginx/sites-available/promwarden", link_name = "/etc/nginx/sites-enabled/promwarden";

Policy with_site() {
    Policy policy;
    policy.access.present = true;
    policy.access.roles = {{"admin", {"user:alice"}}, {"viewer", {"user:bob"}}};
    return policy;
}

SitePlace debian() {
    SitePlace place;
    place.file = file;
    place.link = link_name;
    place.rotated = true;
    return place;
}

ApplyFacts facts_of(std::optional<SitePlace> place) {
    ApplyFacts facts;
    facts.firewall = fail(Code::denied, "look", "");
    facts.site = std::move(place);
    return facts;
}

const WriteFile& writing(const Change& change) { return std::get<WriteFile>(change.deed); }

/// As an apply leaves it.
SitePlace installed() {
    auto place = debian();
    place.text = writing(Engine::plan(with_site(), facts_of(place)).changes.at(0)).after->at(0).text;
    place.target = file;
    return place;
}

}  // namespace

TEST_CASE("a site is written, then made active; both are nginx's to take up") {
    const auto changes = Engine::plan(with_site(), facts_of(debian())).changes;
    REQUIRE(changes.size() == 2);
    CHECK(changes[0].subject == file);
    CHECK(changes[0].control == "access.roles");
    CHECK(changes[0].judge == Judge::nginx);
    CHECK(changes[0].diff.contains("+    ssl_certificate"));
    CHECK_FALSE(writing(changes[0]).before);
    CHECK(writing(changes[0]).access == FileAccess{0, 0, 0644, {}});
    CHECK(changes[1].subject == link_name);
    CHECK(std::get<PointLink>(changes[1].deed) == PointLink{std::nullopt, file});
    for (const auto& change : changes) CHECK((change.kind == Change::Kind::site && change.effect == Effect::proxy));
}

TEST_CASE("what is so already is left alone") {
    CHECK(Engine::plan(with_site(), facts_of(installed())).empty());
    CHECK(Engine::plan(Policy{}, facts_of(debian())).empty());         // it describes no site
    CHECK(Engine::plan(with_site(), facts_of(std::nullopt)).empty());  // there is no nginx
}

TEST_CASE("where its name makes it active there is no link") {
    SitePlace place;
    place.file = "/etc/nginx/conf.d/promwarden.conf";
    place.rotated = true;
    const auto changes = Engine::plan(with_site(), facts_of(place)).changes;
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].subject == place.file);
}

TEST_CASE("only what differs") {
    auto place = installed();
    SUBCASE("the link leads elsewhere") {
        place.target = "/tmp/other";
        const auto changes = Engine::plan(with_site(), facts_of(place)).changes;
        REQUIRE(changes.size() == 1);
        CHECK(std::get<PointLink>(changes[0].deed) == PointLink{"/tmp/other", file});
    }
    SUBCASE("somebody edited the text: an undo knows what was there") {
        place.text = "server {}\n";
        const auto changes = Engine::plan(with_site(), facts_of(place)).changes;
        REQUIRE(changes.size() == 1);
        CHECK(writing(changes[0]).before == Contents{{"server {}\n", ""}});
    }
    SUBCASE("the policy says something else") {
        auto policy = with_site();
        policy.access.endpoints["/api/v1/series"] = "viewer";
        CHECK(Engine::plan(policy, facts_of(place)).changes.at(0).diff.contains("/api/v1/series"));
    }
    SUBCASE("a Prometheus with other endpoints") {
        auto facts = facts_of(place);
        Server server;
        server.version = "3.5.0";
        facts.servers = std::vector{server};
        CHECK(Engine::plan(with_site(), facts).changes.at(0).diff.contains("+    location = /query {"));
    }
}

TEST_CASE("what it cannot be is said, and nothing is done") {
    auto place = debian();
    auto policy = with_site();
    std::string why;
    SUBCASE("no certificate yet") {
        place.missing = {"/etc/nginx/promwarden/tls/proxy.conf"};
        why = "waits for its certificate";
    }
    SUBCASE("nginx.conf has no place for it") {
        place.problem = "nginx.conf includes neither";
        why = "includes neither";
    }
    SUBCASE("the policy describes none that could be") {
        policy.access.endpoints["/-/quit"] = "viewer";
        why = "nobody reaches /-/quit";
    }
    const auto plan = Engine::plan(policy, facts_of(place));
    REQUIRE(plan.changes.size() == 1);
    CHECK(plan.changes[0].summary.contains(why));
    CHECK(plan.changes[0].diff.empty());
    CHECK(Engine::work_of(policy, plan).empty());
}

TEST_CASE("a policy that describes none any more takes it away, the link first") {
    auto place = installed();
    place.rotation = "ours";
    const auto changes = Engine::plan(Policy{}, facts_of(place)).changes;
    REQUIRE(changes.size() == 3);
    CHECK(std::get<PointLink>(changes[0].deed) == PointLink{file, std::nullopt});
    CHECK(changes[1].subject == file);
    CHECK_FALSE(writing(changes[1]).after);
    CHECK(changes[2].subject == "/etc/logrotate.d/promwarden-nginx");
    place.target = "/somebody/elses";
    CHECK(Engine::plan(Policy{}, facts_of(place)).changes.size() == 2);
}

TEST_CASE("it is somebody's to enforce, to audit, to ask for alone") {
    auto policy = with_site();
    CHECK(Engine::work_of(policy, Engine::plan(policy, facts_of(debian()))).size() == 2);
    const std::string only[] = {"proxy.tls-only"}, other[] = {"secrets.inline"};
    CHECK(Engine::plan(policy, facts_of(debian()), only).changes.at(0).control == "proxy.tls-only");
    CHECK(Engine::plan(policy, facts_of(debian()), other).empty());
    policy.controls["access.roles"] = Mode::audit;
    CHECK(Engine::work_of(policy, Engine::plan(policy, facts_of(debian()))).empty());
    policy.controls.clear();
    policy.mode = Mode::audit;
    CHECK(Engine::work_of(policy, Engine::plan(policy, facts_of(debian()))).empty());
}

TEST_CASE("its log is closed, and somebody rotates it") {
    auto place = installed();
    SUBCASE("others can read it") {
        const AccessChange closing{{33, 4, 0644, {}}, {33, 4, 0640, {}}};
        place.log = closing;
        const auto changes = Engine::plan(with_site(), facts_of(place)).changes;
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].subject == "/var/log/nginx/promwarden_access.log");
        CHECK(std::get<SetAccess>(changes[0].deed) == closing);
    }
    SUBCASE("nobody rotates it") {
        place.rotated = false;
        const auto changes = Engine::plan(with_site(), facts_of(place)).changes;
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].effect == Effect::none);
        place.rotation = writing(changes[0]).after->at(0).text;
        CHECK(place.rotation->contains("/var/log/nginx/promwarden_access.log {"));
        CHECK(Engine::plan(with_site(), facts_of(place)).empty());
    }
}
