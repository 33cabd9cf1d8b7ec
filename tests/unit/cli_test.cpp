#include <doctest/doctest.h>

#include "command.hpp"
#include "foreign.hpp"
#include "passage.hpp"
#include "question.hpp"

using namespace promwarden;
using namespace promwarden::cli;

namespace {

using Kind = expr::Verdict::Kind;

firewall::ForeignChain base(std::vector<Rule> rules, bool drops = false, int hook = 1, int priority = 0) {
    return {"ip", "filter", "INPUT", "filter", hook, priority, drops, {}, std::move(rules)};
}
firewall::ForeignChain side(std::string name, std::vector<Rule> rules) { return {"ip", "filter", std::move(name), "", {}, 0, false, {}, std::move(rules)}; }

Rule rule(std::vector<Expression> match, Expression end) {
    match.push_back(std::move(end));
    return {std::move(match), ""};
}
expr::Verdict verdict(Kind kind, std::string chain = {}) { return {kind, std::move(chain)}; }

std::vector<Expression> port(std::uint16_t number) {
    return {expr::Meta{expr::Meta::Key::l4proto}, expr::Compare{expr::Compare::Op::eq, {6}}, expr::Payload{expr::Payload::Base::transport, 2, 2},
            expr::Compare{expr::Compare::Op::eq, {static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)}}};
}
std::vector<Expression> source(std::uint8_t first) {
    return {expr::Payload{expr::Payload::Base::network, 12, 1}, expr::Compare{expr::Compare::Op::eq, {first}}};
}
std::vector<Expression> on_loopback() {
    std::vector<std::uint8_t> name(16);
    name[0] = 'l', name[1] = 'o';
    return {expr::Meta{expr::Meta::Key::iifname}, expr::Compare{expr::Compare::Op::eq, name}};
}
std::vector<Expression> unknown() { return {expr::Foreign{"ct"}, expr::Compare{expr::Compare::Op::neq, {0, 0, 0, 0}}}; }

firewall::Packet packet(std::string_view from = "203.0.113.5") { return {*parse_address(from), {}, 9090, Protocol::tcp, from.starts_with("127."), {}}; }

/// "drops", "may" or "" for the first chain that is named.
std::string fate(std::vector<firewall::ForeignChain> chains, const firewall::Packet& sent = packet()) {
    const auto drops = foreign_drops({std::move(chains), {}, 0}, sent);
    return drops.empty() ? "" : drops.front().certain ? "drops" : "may";
}

}  // namespace

TEST_CASE("the question of why") {
    const auto asks = [](std::string_view text, std::string_view address, std::optional<std::uint16_t> port) {
        const auto question = parse_question(text);
        REQUIRE_MESSAGE(question, text);
        CHECK(to_text(question->source) == address);
        CHECK(question->port == port);
    };
    asks("203.0.113.5", "203.0.113.5", {});
    asks("203.0.113.5:9090", "203.0.113.5", 9090);
    asks("::1", "::1", {});
    asks("[::1]", "::1", {});
    asks("[2001:db8::1]:65535", "2001:db8::1", 65535);
    asks("::ffff:192.0.2.1", "192.0.2.1", {});
    for (const auto* text : {"", ":9090", "203.0.113.5:", "203.0.113.5:0", "203.0.113.5:65536", "203.0.113.5:90x", "203.0.113.5:-1", "203.0.113.5: 1", "[::1", "[::1]9090",
                             "[::1]:", "[10.0.0.1]:1", "10.0.0.0/8", "host", "fe80::1%eth0"})
        CHECK_MESSAGE(!parse_question(text), text);
}

TEST_CASE("exit status: errors") {
    const auto error = [](Code code) { return Error{code, 0, "do", "it", ""}; };
    CHECK(exit_of(error(Code::denied)) == Exit::denied);
    CHECK(exit_of(error(Code::failed)) == Exit::undetermined);
    CHECK(exit_of_apply(error(Code::conflict)) == Exit::usage);
    CHECK(exit_of_apply(error(Code::denied)) == Exit::denied);
    CHECK(exit_of_apply(error(Code::failed)) == Exit::undone);
    CHECK(exit_of_call("Apply", error(Code::failed), "io.promwarden.Failed") == Exit::undone);
    CHECK(exit_of_call("Plan", error(Code::failed), "io.promwarden.Failed") == Exit::undetermined);
    for (const auto* name : {"PolicyInvalid", "Refused", "NoPolicy", "NothingPending"})
        CHECK(exit_of_call("Apply", error(Code::failed), std::string("io.promwarden.") + name) == Exit::usage);
    CHECK(exit_of_call("Apply", error(Code::denied), "org.varlink.service.PermissionDenied") == Exit::denied);
    CHECK(exit_of_call("Apply", error(Code::limit), "") == Exit::undetermined);
}

TEST_CASE("exit status: a plan by the severity of what asks for it") {
    Plan plan;
    CHECK(exit_of(plan, Severity::low) == Exit::holds);
    plan.changes.push_back({Change::Kind::firewall, "access.local-users", "table", "", ""});
    const auto severity = find_control("access.local-users")->severity;
    CHECK(exit_of(plan, severity) == Exit::fails);
    REQUIRE(severity != Severity::critical);
    CHECK(exit_of(plan, Severity::critical) == Exit::holds);
    plan.changes.front().control = "unheard.of";
    CHECK(exit_of(plan, Severity::critical) == Exit::fails);
}

TEST_CASE("the group in the name of a set") {
    CHECK(group_of_set("guard_office_ip4_24") == "office");
    CHECK(group_of_set("guard_branch_offices_ip6_48") == "branch_offices");
    CHECK(group_of_set("guard_containers").empty());
    CHECK(group_of_set("other").empty());
}

TEST_CASE("another table: what is certain") {
    CHECK(fate({}) == "");
    CHECK(fate({base({})}) == "");
    CHECK(fate({base({}, true)}) == "drops");
    CHECK(fate({base({rule(port(9090), verdict(Kind::drop))})}) == "drops");
    CHECK(fate({base({rule(port(9091), verdict(Kind::drop))})}) == "");
    CHECK(fate({base({rule(port(9090), verdict(Kind::accept))}, true)}) == "");
    CHECK(fate({base({rule(source(203), expr::Reject{true})})}) == "drops");
    CHECK(fate({base({rule(source(10), expr::Reject{true})})}) == "");
    CHECK(fate({base({rule({expr::Foreign{"counter"}}, verdict(Kind::drop))})}) == "drops");
    CHECK(fate({base({rule({}, expr::Foreign{"xt REJECT"})})}) == "drops");
}

TEST_CASE("another table: what is not understood may match") {
    CHECK(fate({base({rule(unknown(), verdict(Kind::drop))})}) == "may");
    CHECK(fate({base({rule(unknown(), verdict(Kind::accept))}, true)}) == "may");
    CHECK(fate({base({rule({expr::Meta{expr::Meta::Key::iifname}}, expr::Foreign{"lookup"})})}) == "may");
    auto both = unknown();
    for (auto& each : port(9091)) both.push_back(each);
    CHECK(fate({base({rule(both, verdict(Kind::drop))})}) == "");  // whatever the first says, the port is another
}

TEST_CASE("another table: the loopback is told from other interfaces") {
    const std::vector<Rule> rules{rule(on_loopback(), verdict(Kind::accept))};
    CHECK(fate({base(rules, true)}) == "drops");
    CHECK(fate({base(rules, true)}, packet("127.0.0.1")) == "");
    auto any_l = on_loopback();
    std::get<expr::Compare>(any_l[1]).value = {'l', 'o'};  // "lo*"
    CHECK(fate({base({rule(any_l, verdict(Kind::accept))}, true)}) == "may");
}

TEST_CASE("another table: jumps, returns and their ends") {
    const auto to_side = [](Kind kind) { return rule({}, verdict(kind, "side")); };
    CHECK(fate({base({to_side(Kind::jump)}), side("side", {rule(port(9090), verdict(Kind::drop))})}) == "drops");
    CHECK(fate({base({to_side(Kind::jump), rule({}, verdict(Kind::accept))}, true), side("side", {rule(port(9090), verdict(Kind::return_to)), rule({}, verdict(Kind::drop))})}) == "");
    CHECK(fate({base({to_side(Kind::go_to), rule({}, verdict(Kind::accept))}, true), side("side", {})}) == "drops");  // back to the policy, not to the next rule
    CHECK(fate({base({to_side(Kind::jump), rule({}, verdict(Kind::accept))}, true), side("side", {rule(unknown(), verdict(Kind::drop))})}) == "may");
    CHECK(fate({base({to_side(Kind::jump)}), side("side", {to_side(Kind::jump)})}) == "may");  // a loop, which no kernel would take
    CHECK(fate({base({rule({}, verdict(Kind::jump, "missing"))})}) == "may");
}

TEST_CASE("another table: in the order of the packet's way, to the first certain drop") {
    auto early = base({rule(port(9090), verdict(Kind::drop))}, false, 0, -300);
    auto middle = base({rule(unknown(), verdict(Kind::drop))}, false, 0, -400);
    const auto drops = foreign_drops({{base({}, true), early, middle}, {}, 0}, packet());
    REQUIRE(drops.size() == 2);
    CHECK(drops[0] == ForeignDrop{"table ip filter chain INPUT (prerouting, priority -400)", false, true});
    CHECK(drops[1] == ForeignDrop{"table ip filter chain INPUT (prerouting, priority -300)", true, true});
    const auto late = foreign_drops({{base({}, true)}, {}, 0}, packet());
    REQUIRE(late.size() == 1);
    CHECK(!late[0].before);
    CHECK(foreign_drops({{base({}, true, 2)}, {}, 0}, packet()).empty());          // forward is not its way
    CHECK(foreign_drops({{base({}, true)}, {}, 0}, packet("2001:db8::1")).empty());  // nor is the table of another family
}

TEST_CASE("the answer as text: what another table drops does not pass") {
    Passages all{*parse_address("203.0.113.5"), false, "/p/policy.toml", true, true, false, 2, {}};
    Passage passage;
    passage.service = "prometheus";
    passage.ports = {9090, 9091};
    CHECK(passage.passes());
    passage.foreign.push_back({"table ip filter chain INPUT (input, priority 0)", false, false});
    CHECK(passage.passes());
    passage.foreign.back().certain = true;
    CHECK(!passage.passes());
    all.ports.push_back(passage);
    CHECK(!all.pass());
    const auto shown = text(all, false);
    CHECK(shown.contains("it differs in 2 places"));
    CHECK(shown.contains("203.0.113.5 to port 9090-9091/tcp (service prometheus): dropped by another table"));
    CHECK(shown.contains("chain INPUT (input, priority 0) drops it\n"));
    all.table = false;
    CHECK(text(all, false).contains("There is no table inet promwarden"));
}
