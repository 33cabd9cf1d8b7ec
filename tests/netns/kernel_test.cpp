// The firewall room against a real kernel, in a network namespace of its own. Needs root.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <random>

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "promwarden/firewall.hpp"

using namespace promwarden;
using namespace promwarden::firewall;

namespace {

/// Runs a command of the shell in this namespace; what it printed.
std::string run(const std::string& command, int* status = nullptr) {
    std::string output;
    FILE* pipe = ::popen(("{ " + command + "\n} 2>&1").c_str(), "r");
    for (char buffer[4096]; const auto got = std::fread(buffer, 1, sizeof buffer, pipe);) output.append(buffer, got);
    const int code = ::pclose(pipe);
    if (status != nullptr) *status = code;
    return output;
}

SourceGroup group(std::string name, const std::vector<Cidr>& cidrs) {
    SourceGroup result;
    result.name = std::move(name);
    result.networks = make_networks(cidrs);
    return result;
}

Service service(std::string name, std::vector<PortRange> ports, std::vector<std::string> allow) {
    Service result;
    result.name = std::move(name);
    result.ports = std::move(ports);
    result.allow = std::move(allow);
    return result;
}

FirewallPolicy simple_policy() {
    FirewallPolicy policy;
    policy.sources = {group("office", {parse_cidr("10.0.0.0/8").value(), parse_cidr("192.168.1.0/24").value(), parse_cidr("fd00:12::/48").value()})};
    policy.services = {service("prometheus", {{9090, 9090}, {9093, 9094}}, {"office"})};
    policy.services[0].log = Rate{5, std::chrono::minutes(1)};
    policy.services[0].local_users = std::vector<Account>{{"root", 0}, {"www-data", 33}};
    policy.nflog_group = 7;
    return policy;
}

Ruleset simple() { return compile(simple_policy(), Surroundings{{"veth7"}, {}, 1234, true}); }

Live load(Kernel& kernel, const Ruleset& ruleset, Ownership ownership = Ownership::plain) {
    auto from = kernel.read(Elements::all);
    REQUIRE_MESSAGE(from, from.error().text());
    auto live = kernel.commit(*from, ruleset, ownership);
    REQUIRE_MESSAGE(live, live.error().text());
    return *std::move(live);
}

Live read_all(const Kernel& kernel) {
    auto live = kernel.read(Elements::all);
    REQUIRE_MESSAGE(live, live.error().text());
    return *std::move(live);
}

void remove(Kernel& kernel) { REQUIRE(kernel.remove(read_all(kernel))); }

/// Equal but for the order in which the kernel lists sets and chains.
void check_equal(const Ruleset& live, const Ruleset& wanted) {
    const auto text = to_text(difference(&live, &wanted));
    CHECK_MESSAGE(text.empty(), text);
    CHECK(live.sets.size() == wanted.sets.size());
    CHECK(live.chains.size() == wanted.chains.size());
}

std::vector<Cidr> random_cidrs(std::mt19937& random, std::size_t count, Family family) {
    std::vector<Cidr> cidrs;
    for (std::size_t i = 0; i < count; ++i) {
        Address address{family, {}};
        for (std::size_t b = 0; b < width_of(family); ++b) address.bytes[b] = static_cast<std::uint8_t>(random());
        const auto prefix = static_cast<std::uint8_t>(random() % (bits_of(family) + 1U));
        cidrs.push_back({address.masked(prefix), prefix});
    }
    return cidrs;
}

}  // namespace

TEST_CASE("what is loaded reads back as it was") {
    auto kernel = Kernel::open().value();
    const auto wanted = simple();
    const auto live = load(kernel, wanted);
    check_equal(*read_all(kernel).ruleset, wanted);
    CHECK(live.generation == kernel.generation().value().id);
    CHECK(kernel.commit(live, wanted, Ownership::plain)->generation == live.generation);  // nothing to do, nothing done
    remove(kernel);
    CHECK_FALSE(read_all(kernel).ruleset);
}

TEST_CASE("nft can read what we load, and load what it read") {
    auto kernel = Kernel::open().value();
    const auto wanted = simple();
    load(kernel, wanted);
    const auto listing = run("nft list table inet promwarden");
    CHECK(listing.find("10.0.0.0") != std::string::npos);
    CHECK(listing.find("\"veth7\"") != std::string::npos);
    int status = 0;
    const auto problem = run("nft list table inet promwarden > /tmp/promwarden-listing.$$ && nft delete table inet promwarden && nft -f /tmp/promwarden-listing.$$; r=$?; rm -f /tmp/promwarden-listing.$$; exit $r", &status);
    CHECK_MESSAGE(status == 0, problem);
    check_equal(*read_all(kernel).ruleset, wanted);
    remove(kernel);
}

TEST_CASE("any ruleset becomes any other by its difference") {
    auto kernel = Kernel::open().value();
    std::mt19937 random(11);
    std::optional<Ruleset> previous;
    for (int round = 0; round < 60; ++round) {
        FirewallPolicy policy;
        policy.sibling_containers = random() % 4 == 0;
        policy.nflog_group = static_cast<std::uint16_t>(random() % 3);
        const auto groups = 1 + random() % 3;
        for (std::size_t g = 0; g < groups; ++g) {
            auto cidrs = random_cidrs(random, random() % 300, Family::ip4);
            std::ranges::copy(random_cidrs(random, random() % 100, Family::ip6), std::back_inserter(cidrs));
            policy.sources.push_back(group("group" + std::to_string(g), cidrs));
        }
        for (std::size_t s = 0, n = 1 + random() % 3; s < n; ++s) {
            std::vector<std::string> allow;
            for (std::size_t g = 0; g < groups; ++g)
                if (random() % 2 == 0) allow.push_back("group" + std::to_string(g));
            auto one = service("service" + std::to_string(s), {{static_cast<std::uint16_t>(9000 + 10 * s), static_cast<std::uint16_t>(9000 + 10 * s + random() % 3)}}, allow);
            if (random() % 2 == 0) one.local_users = std::vector<Account>{{"a", static_cast<std::uint32_t>(random() % 5)}, {"b", 77}};
            if (random() % 2 == 0) one.log = Rate{static_cast<std::uint32_t>(1 + random() % 9), std::chrono::minutes(1)};
            one.deny = random() % 2 == 0 ? Deny::drop : Deny::reject;
            one.protocol = random() % 3 == 0 ? Protocol::udp : Protocol::tcp;
            policy.services.push_back(std::move(one));
        }
        const Surroundings around{{"veth" + std::to_string(random() % 4)}, {"br" + std::to_string(random() % 4)}, std::nullopt, random() % 2 == 0};
        const auto wanted = compile(policy, around, previous ? &*previous : nullptr);
        load(kernel, wanted);
        const auto live = read_all(kernel);
        check_equal(*live.ruleset, wanted);
        // Membership in the live sets is membership in the policy.
        for (int i = 0; i < 50; ++i) {
            Address source = random_cidrs(random, 1, random() % 2 == 0 ? Family::ip4 : Family::ip6)[0].address;
            const auto& one = policy.services[random() % policy.services.size()];
            bool trusted = false;
            for (const auto& g : policy.sources)
                trusted |= std::ranges::find(one.allow, g.name) != one.allow.end() && find(g.networks, source).has_value();
            const auto result = trace(*live.ruleset, Packet{source, std::nullopt, one.ports[0].first, one.protocol, false, std::nullopt});
            CHECK(result.passes == trusted);
        }
        previous = wanted;
    }
    remove(kernel);
}

TEST_CASE("a transaction for a generation that is gone changes nothing") {
    auto kernel = Kernel::open().value();
    const auto live = load(kernel, simple());
    run("nft add rule inet promwarden guard_pre tcp dport 9 accept");
    auto policy = simple_policy();
    policy.services[0].deny = Deny::reject;
    const auto refused = kernel.commit(live, compile(policy, Surroundings{{"veth7"}, {}, 1234, true}), Ownership::plain);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Code::stale);
    CHECK(run("nft list table inet promwarden").find("reject with tcp reset") != std::string::npos);  // guard_refuse has one; guard_deny has none
    check_equal(*load(kernel, simple()).ruleset, simple());
    remove(kernel);
}

TEST_CASE("a rehearsal is checked by the kernel and leaves no trace") {
    auto kernel = Kernel::open().value();
    const auto before = read_all(kernel);
    CHECK(kernel.rehearse(before, simple(), Ownership::plain));
    CHECK_FALSE(read_all(kernel).ruleset);
    CHECK(kernel.generation().value().id == before.generation);
    auto wrong = simple();
    wrong.chains.back().rules.push_back({{expr::Verdict{expr::Verdict::Kind::jump, "guard_nowhere"}}, ""});
    const auto refused = kernel.rehearse(before, wrong, Ownership::plain);
    REQUIRE_FALSE(refused);
    CHECK_MESSAGE(refused.error().text().find("guard_nowhere") != std::string::npos, refused.error().text());
}

TEST_CASE("counters survive a change") {
    auto kernel = Kernel::open().value();
    const auto first = load(kernel, simple());
    // One packet to a refused port from a user who is not listed.
    run("setpriv --reuid=65534 --clear-groups bash -c 'exec 3<>/dev/tcp/127.0.0.1/9090'");
    const auto value = [&] {
        const auto counters = kernel.counters().value();
        for (const auto& counter : counters)
            if (counter.name == "guard_prometheus_denied") return counter.packets;
        return std::uint64_t{0};
    };
    const auto before = value();
    CHECK(before > 0);
    auto policy = simple_policy();
    policy.sources[0] = group("office", {parse_cidr("172.16.0.0/12").value()});
    load(kernel, compile(policy, Surroundings{}));
    CHECK(value() == before);
    remove(kernel);
}

TEST_CASE("large sets: more elements than one attribute can hold, each arrives, and no other") {
    auto kernel = Kernel::open().value();
    std::mt19937 random(3);
    std::vector<Cidr> cidrs;
    for (int i = 0; i < 20000; ++i) {
        Address address{i % 4 == 0 ? Family::ip6 : Family::ip4, {}};
        for (auto& byte : address.bytes) byte = static_cast<std::uint8_t>(random());
        if (address.family == Family::ip4) std::fill(address.bytes.begin() + 4, address.bytes.end(), std::uint8_t{0});
        cidrs.push_back({address, bits_of(address.family)});
    }
    FirewallPolicy policy;
    policy.sources = {group("many", cidrs)};
    policy.services = {service("prometheus", {{9090, 9090}}, {"many"})};
    const auto wanted = compile(policy, Surroundings{});
    load(kernel, wanted);
    const auto live = read_all(kernel);
    check_equal(*live.ruleset, wanted);
    CHECK(live.ruleset->set("guard_many_ip4_32")->elements->size() == wanted.set("guard_many_ip4_32")->elements->size());
    // Growth within the declared size keeps the set; growth beyond it replaces the set in the same transaction.
    for (const auto extra : {100, 60000}) {
        for (int i = 0; i < extra; ++i) cidrs.push_back({Address{Family::ip4, {11, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}}, 32});
        policy.sources = {group("many", cidrs)};
        const auto grown = compile(policy, Surroundings{}, &wanted);
        CHECK((grown.set("guard_many_ip4_32")->size == wanted.set("guard_many_ip4_32")->size) == (extra == 100));
        load(kernel, grown);
        check_equal(*read_all(kernel).ruleset, grown);
    }
    remove(kernel);
}

TEST_CASE("a full set is an error that says so") {
    auto kernel = Kernel::open().value();
    auto wanted = simple();
    for (auto& set : wanted.sets)
        if (set.name == "guard_office_ip4_8") {
            set.size = 1;
            set.elements = std::make_shared<PackedKeys>(4, std::vector<std::uint8_t>{10, 0, 0, 0, 11, 0, 0, 0});
        }
    const auto refused = kernel.commit(read_all(kernel), wanted, Ownership::plain);
    REQUIRE_FALSE(refused);
    CHECK_MESSAGE(refused.error().text().find("full") != std::string::npos, refused.error().text());
    CHECK_FALSE(read_all(kernel).ruleset);
}

TEST_CASE("every kind of drift is noticed, named, and undone by the difference") {
    auto kernel = Kernel::open().value();
    auto monitor = Monitor::open().value();
    const auto wanted = simple();
    struct Drift {
        const char* command;
        const char* what;
    };
    const Drift drifts[] = {
        {"nft flush ruleset", "table promwarden deleted"},
        {"nft delete table inet promwarden", "table promwarden deleted"},
        {"nft insert rule inet promwarden guard_pre tcp dport 9090 accept", "rule of chain guard_pre added"},
        {"nft add rule inet promwarden guard_pre tcp dport 9090 accept", "rule of chain guard_pre added"},
        {"nft 'insert rule inet promwarden guard_in accept; insert rule inet promwarden guard_in drop; add rule inet promwarden guard_in index 1 counter'", "rule of chain guard_in added"},
        {"nft flush chain inet promwarden guard_judge_prometheus", "rule of chain guard_judge_prometheus deleted"},
        {"nft add element inet promwarden guard_office_ip4_24 { 203.0.113.0 }", "element of set guard_office_ip4_24 added"},
        {"nft delete element inet promwarden guard_office_ip4_8 { 10.0.0.0 }", "element of set guard_office_ip4_8 deleted"},
        {"nft add chain inet promwarden extra", "chain extra added"},
        {"nft add set inet promwarden more '{ type ipv4_addr; }'", "set more added"},
        {"nft add table inet promwarden '{ flags dormant; }'", "table promwarden added"},
    };
    int times_followed = 0;
    for (const auto& drift : drifts) {
        CAPTURE(std::string(drift.command));
        load(kernel, wanted);
        auto followed = read_all(kernel);
        while (true) {
            const auto drained = monitor.next();
            if (drained && !*drained) break;
        }
        int status = 0;
        const auto output = run(drift.command, &status);
        REQUIRE_MESSAGE(status == 0, output);
        std::vector<std::string> what;
        std::string comm;
        for (;;) {
            const auto change = monitor.next();
            REQUIRE(change);
            if (!*change) break;
            CHECK((*change)->ours);
            CHECK((*change)->port_id != kernel.port_id());
            if (follow(followed, **change)) {  // without asking the kernel, and the same
                const auto asked = read_all(kernel);
                CHECK(followed.generation == asked.generation);
                CHECK(followed.rule_handles == asked.rule_handles);
                check_equal(*followed.ruleset, *asked.ruleset);
                ++times_followed;
            }
            comm = (*change)->generation.comm;
            std::ranges::copy(describe(**change), std::back_inserter(what));
        }
        CHECK(comm == "nft");
        bool named = false;
        for (const auto& one : what) named |= one.starts_with(drift.what);
        CHECK(named);
        const auto live = read_all(kernel);
        CHECK((!live.ruleset || !difference(&*live.ruleset, &wanted).empty()));
        load(kernel, wanted);
        check_equal(*read_all(kernel).ruleset, wanted);
    }
    CHECK(times_followed == 5);  // tables, chains and sets are read again, and so are rules that name a neighbour announced after them
    remove(kernel);
}

TEST_CASE("a prepared batch restores a deleted table, with its counters, and leaves one that is there alone") {
    auto kernel = Kernel::open().value();
    const auto wanted = simple();
    load(kernel, wanted);
    const std::vector<CounterValue> counters{{"guard_prometheus_denied", 41, 4100}};
    const auto prepared = kernel.prepare(wanted, Ownership::plain, counters);
    run("nft flush ruleset");
    REQUIRE(kernel.send(prepared));
    const auto live = read_all(kernel);
    check_equal(*live.ruleset, wanted);
    CHECK(std::ranges::find(live.counters, counters[0]) != live.counters.end());
    const auto again = kernel.send(prepared);
    REQUIRE_FALSE(again);
    CHECK(again.error().code == Code::conflict);
    remove(kernel);
}

TEST_CASE("an owned table: nobody else can touch it; it outlives its owner and is adopted again") {
    auto kernel = Kernel::open().value();
    const auto able = kernel.can_own();
    REQUIRE_MESSAGE(able, able.error().text());
    if (!*able) {
        MESSAGE("this kernel has no persistent owned tables (6.9 or newer does); nothing to test");
        return;
    }
    const auto wanted = simple();
    load(kernel, wanted);  // plain first: becoming owned is one transaction
    CHECK(load(kernel, wanted, Ownership::owned).owner == kernel.port_id());
    int status = 0;
    CHECK(run("nft add rule inet promwarden guard_pre accept", &status).find("Operation not permitted") != std::string::npos);
    run("nft flush ruleset", &status);
    CHECK(status == 0);
    check_equal(*read_all(kernel).ruleset, wanted);
    auto other = Kernel::open().value();
    const auto refused = other.commit(read_all(other), compile(simple_policy(), Surroundings{}), Ownership::owned);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Code::denied);
    kernel = std::move(other);  // the first owner is gone
    CHECK(read_all(kernel).owner == 0);
    check_equal(*read_all(kernel).ruleset, wanted);
    CHECK(load(kernel, compile(simple_policy(), Surroundings{{"veth7"}, {}, 1234, true}), Ownership::owned).owner == kernel.port_id());
    CHECK(load(kernel, wanted, Ownership::plain).table_flags == 0);
    remove(kernel);
}

TEST_CASE("a monitor that falls behind says so") {
    auto kernel = Kernel::open().value();
    auto monitor = Monitor::open().value();
    // More notifications than four megabytes hold.
    const auto output = run("{ echo 'table ip flood { set s { type ipv4_addr; flags interval; elements = {'\n"
                            "for i in $(seq 0 250); do for j in $(seq 0 250); do echo \"11.$i.$j.0/26,\"; done; done\necho '}; }'; echo '}'; } | nft -f -");
    REQUIRE_MESSAGE(output.empty(), output);
    bool overflowed = false;
    for (;;) {
        const auto change = monitor.next();
        if (!change) overflowed = change.error().code == Code::stale;
        if (!change) continue;
        if (!*change) break;
    }
    CHECK(overflowed);
    const auto foreign = read_foreign(kernel);
    REQUIRE(foreign);
    CHECK(foreign->largest_set > 50000);
    run("nft delete table ip flood");
}

TEST_CASE("foreign rules are read with what matters about them") {
    auto kernel = Kernel::open().value();
    const auto output = run("nft -f - <<'END'\n"
                            "table ip nat {\n chain PREROUTING {\n type nat hook prerouting priority -100\n tcp dport 8081 redirect to :9090\n }\n}\n"
                            "table inet other {\n chain input {\n type filter hook input priority 0; policy drop\n tcp dport 9090 accept\n }\n}\n"
                            "table ip raw {\n chain pre {\n type filter hook prerouting priority -240\n tcp dport 8082 tcp dport set 9090\n }\n}\nEND");
    REQUIRE_MESSAGE(output.empty(), output);
    const auto foreign = read_foreign(kernel);
    REQUIRE(foreign);
    REQUIRE(foreign->chains.size() == 3);
    std::string text;
    for (const auto& chain : foreign->chains)
        for (const auto& rule : chain.rules) text += chain.table + ": " + to_text(rule) + "\n";
    CHECK_MESSAGE(text.find("redir to :9090") != std::string::npos, text);
    CHECK_MESSAGE(text.find("payload write th dport") != std::string::npos, text);
    run("nft flush ruleset");
}

int main(int argc, char** argv) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
        std::puts("this test needs root: it makes a network namespace of its own");
        return 1;
    }
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
    ::ioctl(fd, SIOCSIFFLAGS, &request);
    ::close(fd);
    return doctest::Context(argc, argv).run();
}
