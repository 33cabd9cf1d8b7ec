// What a policy and the links of a host mean for the table: the pure part of the room firewall. tests/netns has the kernel's word on it.

#include <algorithm>

#include <doctest/doctest.h>

#include "promwarden/firewall.hpp"

using namespace promwarden;
using namespace promwarden::firewall;

namespace {

Link link(int index, std::string name, std::string kind, int master = 0) { return {index, std::move(name), std::move(kind), master, 0, 0}; }

using Names = std::vector<std::string>;

/// A change of the generation after `live`'s.
Change next_of(const Live& live) {
    Change change;
    change.generation.id = live.generation + 1;
    change.ours = true;
    return change;
}

Live live_with(std::vector<std::uint8_t> sources) {
    Live live;
    live.generation = 7;
    live.ruleset.emplace();
    live.ruleset->sets.push_back({Set::Type::ip4, "guard_office_ip4_32", 16, 0, std::make_shared<PackedKeys>(4, std::move(sources))});
    return live;
}

}  // namespace

TEST_CASE("a bridge of containers has no port but theirs") {
    const std::vector<Link> links{link(1, "lo", ""), link(2, "eth0", ""), link(3, "docker0", "bridge"), link(4, "veth1", "veth", 3), link(5, "tap0", "tun", 3),
                                  link(6, "br0", "bridge"), link(7, "eth1", "", 6), link(8, "veth2", "veth", 6)};
    const auto found = surroundings(links);
    CHECK(found.watched);
    CHECK(found.container_bridges == Names{"docker0"});
    CHECK(found.container_interfaces == Names{"docker0"});
}

TEST_CASE("what a lone veth leads to is judged, what comes from it is not trusted: it may be the uplink of a host that is a container") {
    const std::vector<Link> links{link(1, "lo", ""), link(2, "host0", "veth"), link(3, "shim", "macvlan")};
    const auto found = surroundings(links);
    CHECK(found.container_bridges.empty());
    CHECK(found.container_interfaces == Names{"host0", "shim"});
}

TEST_CASE("a default route leads out, whatever its link is; behind a gateway are others, but perhaps containers, too") {
    using enum Link::Beyond;
    auto links = std::vector{link(1, "lo", ""), link(2, "up0", "veth", 3), link(3, "br0", "bridge"), link(4, "docker0", "bridge"), link(5, "host0", "veth")};
    CHECK(surroundings(links).container_bridges == Names{"br0", "docker0"});
    links[2].beyond = links[4].beyond = everything;
    links[3].beyond = networks;
    CHECK(surroundings(links).container_bridges.empty());
    CHECK(surroundings(links).container_interfaces == Names{"docker0"});
}

TEST_CASE("siblings are only let in from container bridges") {
    FirewallPolicy policy;
    policy.sibling_containers = true;
    policy.services.emplace_back();
    policy.services.back().name = "prometheus";
    policy.services.back().ports = {{9090, 9090}};
    const std::vector<Link> links{link(1, "host0", "veth"), link(2, "docker0", "bridge")};
    const auto ruleset = compile(policy, surroundings(links));
    for (const auto* chain : {"guard_pre", "guard_in"}) {
        const auto& rules = ruleset.chain(chain)->rules;
        CHECK(std::ranges::any_of(rules, [](const Rule& rule) { return to_text(rule).contains("iifname @guard_bridges accept"); }));
        CHECK(std::ranges::none_of(rules, [](const Rule& rule) { return to_text(rule).contains("iifname @guard_containers accept"); }));
    }
}

TEST_CASE("elements that came and went are followed; what cannot be followed says so") {
    auto live = live_with({10, 0, 0, 1, 10, 0, 0, 2});
    auto change = next_of(live);
    change.announcements.push_back({Announcement::Kind::element, true, "guard_office_ip4_32", {}});
    change.added_elements.emplace("guard_office_ip4_32", PackedKeys(4, std::vector<std::uint8_t>{203, 0, 113, 5}));
    change.removed_elements.emplace("guard_office_ip4_32", PackedKeys(4, std::vector<std::uint8_t>{10, 0, 0, 1}));
    REQUIRE(follow(live, change));
    CHECK(live.generation == 8);
    CHECK(*live.ruleset->sets[0].elements == PackedKeys(4, std::vector<std::uint8_t>{10, 0, 0, 2, 203, 0, 113, 5}));

    SUBCASE("a generation was missed") {
        change = next_of(live);
        change.generation.id += 1;
    }
    SUBCASE("a chain was added") {
        change = next_of(live);
        change.announcements.push_back({Announcement::Kind::chain, true, "extra", {}});
    }
    SUBCASE("more than is remembered") {
        change = next_of(live);
        change.incomplete = true;
    }
    SUBCASE("elements that were never read") {
        live.ruleset->sets[0].elements.reset();
        const auto before = change;
        change = next_of(live);
        change.added_elements = before.added_elements;
    }
    CHECK_FALSE(follow(live, change));
}
