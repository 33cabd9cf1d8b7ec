// The drop-in for the server's start, as a plan has it.

#include <doctest/doctest.h>

#include "promwarden/apply.hpp"

using namespace promwarden;

namespace {

const std::string directory = "/etc/systemd/system";
const std::string usual_path = directory + "/prometheus.service.d/promwarden-guard.conf";

Policy guarding(std::string unit = "prometheus.service") {
    Policy policy;
    policy.prometheus.unit = std::move(unit);
    Service service;
    service.name = "prometheus";
    service.ports = {{9090, 9090}};
    policy.firewall.services.push_back(service);
    return policy;
}

/// Nothing but the units: the filter could not be looked at.
Facts with(std::optional<std::map<std::string, std::string>> present) {
    Facts facts;
    facts.firewall = fail(Code::denied, "look", "");
    if (present) facts.start_guards = StartGuards{directory, *std::move(present)};
    return facts;
}

std::string wanted_text() {
    const auto plan = Engine::plan(guarding(), with({{}}));
    std::string text;
    for (std::size_t at = 0; at < plan.changes.at(0).diff.size();) {
        const auto end = plan.changes.at(0).diff.find('\n', at);
        text += plan.changes.at(0).diff.substr(at + 2, end - at - 1);
        at = end + 1;
    }
    return text;
}

}  // namespace

TEST_CASE("a missing drop-in is written, with a check that runs as root") {
    const auto plan = Engine::plan(guarding(), with({{}}));
    REQUIRE(plan.changes.size() == 1);
    CHECK(plan.changes[0].kind == Change::Kind::unit);
    CHECK(plan.changes[0].subject == usual_path);
    CHECK(plan.changes[0].control == "network.packet-filter");
    CHECK(plan.changes[0].diff.find("+ ExecStartPre=+/") != std::string::npos);
    CHECK(plan.changes[0].diff.find(" --check\n") != std::string::npos);
    CHECK(plan.changes[0].diff.find("Requires") == std::string::npos);
}

TEST_CASE("one that is there is left alone, an edited one is written again") {
    CHECK(Engine::plan(guarding(), with({{{usual_path, wanted_text()}}})).empty());
    const auto plan = Engine::plan(guarding(), with({{{usual_path, "[Service]\n"}}}));
    REQUIRE(plan.changes.size() == 1);
    CHECK(plan.changes[0].diff.starts_with("- [Service]\n+ "));
}

TEST_CASE("another unit's drop-in goes, the named one's comes") {
    const auto plan = Engine::plan(guarding("prom@main.service"), with({{{usual_path, wanted_text()}}}));
    REQUIRE(plan.changes.size() == 2);
    CHECK(plan.changes[0].subject == usual_path);
    CHECK(plan.changes[0].diff.find("\n+") == std::string::npos);
    CHECK(plan.changes[1].subject == directory + "/prom@main.service.d/promwarden-guard.conf");
}

TEST_CASE("a policy that guards nothing, or only looks, wants none") {
    auto looking = guarding();
    looking.mode = Mode::audit;
    for (const auto& policy : {Policy{}, looking}) {
        CHECK(Engine::plan(policy, with({{}})).empty());
        const auto plan = Engine::plan(policy, with({{{usual_path, wanted_text()}}}));
        REQUIRE(plan.changes.size() == 1);
        CHECK(plan.changes[0].diff.starts_with("- "));
    }
}

TEST_CASE("where no service manager runs there is nothing to write") { CHECK(Engine::plan(guarding(), with(std::nullopt)).empty()); }
