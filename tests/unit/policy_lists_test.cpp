#include <algorithm>
#include <random>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "promwarden/policy.hpp"

using namespace promwarden;

namespace {

constexpr const char* main_text = "schema = 1\n[firewall.sources]\nbig = \"@/l\"\nmixed = [\"@/l\", \"10.255.255.0/24\", \"fd00::/8\"]\n";

Sources with_list(std::string list) {
    Sources sources;
    sources.files.push_back({SourceFile::Kind::policy, "/p", {}, std::make_shared<const std::string>(main_text)});
    sources.files.push_back({SourceFile::Kind::list, "/l", {}, std::make_shared<const std::string>(std::move(list))});
    return sources;
}

const Networks& networks_of(const Policy& policy, std::size_t group) { return policy.firewall.sources.at(group).networks; }

std::string first_error(std::string list) {
    const auto read = parse(with_list(std::move(list)), RecordedAccounts{});
    return read ? "" : to_text(read.error().at(0), true);
}

/// A random line: often the same as another, of several classes, with what may surround a network.
std::string random_line(std::mt19937& random) {
    switch (random() % 8) {
        case 0: return "# comment\n";
        case 1: return "\n";
        case 2: return fmt::format("  2001:db8:{:x}::/48 # six\n", random() % 64);
        case 3: return fmt::format("2001:db8::{:x}\r\n", 1 + random() % 64);
        case 4: return fmt::format("10.{}.0.0/16\n", random() % 64);
        default: return fmt::format("192.0.2.{}\n", random() % 256);
    }
}

}  // namespace

TEST_CASE("what a list may look like") {
    const auto policy = parse(with_list("\xEF\xBB\xBF# offices\r\n10.0.0.0/8 # all of it\r\n\n\t192.0.2.1\n2001:db8::/32"), RecordedAccounts{}).value();
    CHECK(networks_of(policy, 0) ==
          make_networks(std::vector{parse_cidr("10.0.0.0/8").value(), parse_cidr("192.0.2.1").value(), parse_cidr("2001:db8::/32").value()}));
    CHECK(count(networks_of(policy, 1)) == 5);
    CHECK(networks_of(parse(with_list(""), RecordedAccounts{}).value(), 0).empty());
}

TEST_CASE("each wrong line has its place and its reason") {
    CHECK(first_error("10.0.0.0/8\n  10.0.0.1/8 # x\n") == "/l:2:3: '10.0.0.1/8': it has host bits set; the network is 10.0.0.0/8\n      10.0.0.1/8 # x\n      ^");
    CHECK(first_error("10.0.0.0/33") == "/l:1:1: '10.0.0.0/33': the prefix length must be 0 to 32\n    10.0.0.0/33\n    ^");
    CHECK(first_error("fe80::1%eth0").starts_with("/l:1:1: 'fe80::1%eth0': a zone identifier"));
    CHECK(first_error("::ffff:10.0.0.0/104").starts_with("/l:1:1: '::ffff:10.0.0.0/104': an IPv4-mapped"));
    CHECK(first_error("10.0.0.0/8 10.1.0.0/16").starts_with("/l:1:1: '10.0.0.0/8 10.1.0.0/16': the prefix length"));
    CHECK(first_error("10.\xff.0.0/8").starts_with("/l:1:1: not UTF-8: byte 0xff"));
    std::string many;
    for (int i = 0; i < 100; ++i) many += "x\n";
    const auto read = parse(with_list(many), RecordedAccounts{});
    REQUIRE_FALSE(read);
    CHECK(read.error().size() == 20);
    CHECK(read.error().back().where == Where{"/l", 20, 1});
}

TEST_CASE("a group of one list shares its classes, an untouched class stays the same object") {
    ParsedLists lists;
    const auto before = parse(with_list("10.0.0.0/8\n192.0.2.1\n"), RecordedAccounts{}, &lists).value();
    CHECK(networks_of(before, 0).at(0).networks == lists.at("/l").networks.at(0).networks);
    const auto after = parse(with_list("10.0.0.0/8\n192.0.2.2\n"), RecordedAccounts{}, &lists).value();
    CHECK(networks_of(after, 0).at(1).networks == networks_of(before, 0).at(1).networks);
    CHECK(networks_of(after, 0).at(0).networks != networks_of(before, 0).at(0).networks);
    CHECK(find(networks_of(after, 0), parse_address("192.0.2.2").value()));
    CHECK_FALSE(find(networks_of(after, 0), parse_address("192.0.2.1").value()));
}

TEST_CASE("a wrong list leaves what was parsed before, a list that nobody names is forgotten") {
    ParsedLists lists;
    REQUIRE(parse(with_list("10.0.0.0/8\n"), RecordedAccounts{}, &lists));
    CHECK_FALSE(parse(with_list("10.0.0.0/8\nx\n"), RecordedAccounts{}, &lists));
    CHECK(count(lists.at("/l").networks) == 1);
    CHECK(count(networks_of(parse(with_list("10.0.0.0/8\n11.0.0.0/8\n"), RecordedAccounts{}, &lists).value(), 0)) == 2);
    auto without = with_list("");
    without.files[0].text = std::make_shared<const std::string>("schema = 1\n");
    REQUIRE(parse(without, RecordedAccounts{}, &lists));
    CHECK(lists.empty());
}

TEST_CASE("parsing the changes gives what parsing everything gives, on random edits") {
    std::mt19937 random(11);
    for (int round = 0; round < 10; ++round) {
        std::vector<std::string> lines;
        for (auto n = random() % 300; n > 0; --n) lines.push_back(random_line(random));
        ParsedLists lists;
        for (int edit = 0; edit < 20; ++edit) {
            for (auto changes = random() % 3; changes > 0; --changes) {
                const auto at = lines.begin() + static_cast<std::ptrdiff_t>(random() % (lines.size() + 1));
                if (at != lines.end() && random() % 2 == 0) lines.erase(at);
                else lines.insert(at, random_line(random));
            }
            std::string text;
            for (const auto& line : lines) text += line;
            if (random() % 4 == 0 && !text.empty()) text.pop_back();  // the last line may have no end
            if (random() % 8 == 0) text.insert(0, "\xEF\xBB\xBF");
            const auto changed = parse(with_list(text), RecordedAccounts{}, &lists).value();
            const auto whole = parse(with_list(text), RecordedAccounts{}).value();
            REQUIRE(changed.firewall == whole.firewall);
            const auto written = std::ranges::count_if(lines, [](const auto& line) { return line.front() != '#' && line.front() != '\n'; });
            CHECK(lists.at("/l").repeats == (static_cast<std::size_t>(written) != count(networks_of(whole, 0))));
        }
    }
}

TEST_CASE("incremental edits in a large list") {
    std::string text;
    for (int i = 0; i < 5'000; ++i) text += fmt::format("10.{}.{}.{}\n", i / 65536, i / 256 % 256, i % 256);
    ParsedLists lists;
    REQUIRE(parse(with_list(text), RecordedAccounts{}, &lists));
    std::mt19937 random(3);
    for (int edit = 0; edit < 10; ++edit) {
        const auto at = random() % text.size();
        const auto line = at < 2 ? 0 : text.rfind('\n', at - 1) + 1;
        text.replace(line, text.find('\n', line) - line, fmt::format("10.200.{}.{}", edit, random() % 256));
        const auto changed = parse(with_list(text), RecordedAccounts{}, &lists).value();
        REQUIRE(changed.firewall == parse(with_list(text), RecordedAccounts{}).value().firewall);
        CHECK_FALSE(lists.at("/l").repeats);
    }
}
