#include <doctest/doctest.h>

#include "promwarden/ruleset.hpp"

using namespace promwarden;
using namespace promwarden::expr;

TEST_CASE("a rule in nft's words") {
    const Rule lookup{{Meta{Meta::Key::nfproto}, Compare{Compare::Op::eq, {2}}, Payload{Payload::Base::network, 12, 4}, Mask{{255, 255, 255, 0}},
                       Lookup{"guard_office_ip4_24"}, Verdict{Verdict::Kind::go_to, "guard_allow_prometheus"}},
                      ""};
    CHECK(to_text(lookup) == "meta nfproto ipv4 ip saddr & /24 @guard_office_ip4_24 goto guard_allow_prometheus");
    const Rule port{{Meta{Meta::Key::l4proto}, Compare{Compare::Op::eq, {6}}, Payload{Payload::Base::transport, 2, 2}, Compare{Compare::Op::eq, {0x23, 0x82}},
                     Verdict{Verdict::Kind::go_to, "guard_service_prometheus"}},
                    ""};
    CHECK(to_text(port) == "meta l4proto tcp th dport 9090 goto guard_service_prometheus");
}

TEST_CASE("sets are equal by what they hold, not by the size they were declared with") {
    const auto keys = [](std::uint8_t last) { return std::make_shared<PackedKeys>(4, std::vector<std::uint8_t>{10, 0, 0, last}); };
    const Set one{Set::Type::ip4, "guard_a", 16, 0, keys(1)}, bigger{Set::Type::ip4, "guard_a", 64, 0, keys(1)}, other{Set::Type::ip4, "guard_a", 16, 0, keys(2)};
    CHECK(one == bigger);
    CHECK_FALSE(one == other);
}
