#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/address.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

void write(const std::string& path, std::string_view text, mode_t mode = 0644) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
}

Cidr cidr(std::string_view text) { return parse_cidr(text).value(); }

}  // namespace

TEST_CASE("networks: what is accepted reads back as it was written") {
    for (const auto* text : {"10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "::/0", "fd00:12::/48", "2001:db8::1/128"}) CHECK(to_text(cidr(text)) == text);
    CHECK(to_text(cidr("192.0.2.7")) == "192.0.2.7/32");
}

TEST_CASE("networks: each wrong form is refused with its reason") {
    const std::pair<const char*, const char*> cases[] = {
        {"10.0.0.1/8", "host bits set; the network is 10.0.0.0/8"}, {"10.0.0.0/33", "0 to 32"},     {"fd00::/129", "0 to 128"},
        {"fe80::1%eth0/64", "zone identifier"},                     {"::ffff:10.0.0.0/104", "IPv4-mapped"}, {"10.0.0/8", "not an IPv4 or IPv6"},
        {"010.0.0.0/8", "not an IPv4"},                             {"10.0.0.0/08", "prefix length"}, {"10.0.0.0/", "prefix length"},
        {"", "not an IPv4"},                                        {"256.0.0.0/8", "not an IPv4"},  {"10.0.0.0/8 ", "prefix length"}};
    for (const auto& [text, reason] : cases) {
        const auto parsed = parse_cidr(text);
        REQUIRE_FALSE(parsed);
        CHECK_MESSAGE(parsed.error().text().find(reason) != std::string::npos, parsed.error().text());
    }
}

TEST_CASE("endpoints") {
    CHECK(to_text(parse_endpoint("[::1]:9090").value()) == "[::1]:9090");
    CHECK(to_text(parse_endpoint("127.0.0.1:9090").value()) == "127.0.0.1:9090");
    for (const auto* text : {"::1:9090", "[127.0.0.1]:9090", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "localhost:9090", ":9090"}) CHECK_FALSE(parse_endpoint(text));
}

TEST_CASE("find: the longest network wins, and families do not mix") {
    const std::vector<Cidr> all{cidr("10.0.0.0/8"), cidr("10.1.0.0/16"), cidr("10.1.2.3/32"), cidr("fd00::/8")};
    const auto networks = make_networks(all);
    CHECK(count(networks) == 4);
    CHECK(to_text(*find(networks, parse_address("10.1.2.3").value())) == "10.1.2.3/32");
    CHECK(to_text(*find(networks, parse_address("10.1.9.9").value())) == "10.1.0.0/16");
    CHECK(to_text(*find(networks, parse_address("fd00::1").value())) == "fd00::/8");
    CHECK_FALSE(find(networks, parse_address("11.0.0.1").value()));
}

TEST_CASE("packed keys: differences and changes agree with std::set on random input") {
    std::mt19937 random(7);
    for (int round = 0; round < 200; ++round) {
        const std::size_t width = round % 2 == 0 ? 4 : 16;
        const auto make = [&](std::size_t most) {
            std::vector<std::uint8_t> bytes;
            for (auto n = random() % most; n > 0; --n)
                for (std::size_t i = 0; i < width; ++i) bytes.push_back(i + 1 == width ? static_cast<std::uint8_t>(random()) : 1);
            return bytes;
        };
        const auto as_set = [&](const PackedKeys& keys) {
            std::set<std::vector<std::uint8_t>> result;
            for (std::size_t i = 0; i < keys.size(); ++i) result.emplace(keys[i].begin(), keys[i].end());
            return result;
        };
        const PackedKeys left(width, make(400)), removed(width, make(40)), added(width, make(40));
        auto expected = as_set(left);
        for (const auto& key : as_set(removed)) expected.erase(key);
        CHECK(as_set(left.minus(removed)) == expected);
        for (const auto& key : as_set(added)) expected.insert(key);
        const auto changed = left.changed(removed, added);
        CHECK(as_set(changed) == expected);
        CHECK(changed.size() == expected.size());
        CHECK(std::ranges::is_sorted(as_set(changed)));
        for (const auto& key : expected) CHECK(changed.contains(key));
    }
}

TEST_CASE("durations") {
    CHECK(parse_duration("1h30m").value() == 90min);
    CHECK(parse_duration("2w").value() == 14 * 24h);
    CHECK(format_duration(30 * 24h) == "30d");
    for (const auto* text : {"", "5", "m", "5x", "5m1h", "5m5m", "-5m", "99999999999999999999s", "1.5h", " 5m"}) CHECK_FALSE(parse_duration(text));
}

TEST_CASE("times read back as they were written") {
    const auto time = parse_time("2026-11-22T10:00:00.000123Z").value();
    CHECK(format_time(time, true) == "2026-11-22T10:00:00.000123Z");
    CHECK(format_time(time) == "2026-11-22T10:00:00Z");
    CHECK_FALSE(parse_time("2026-11-22 10:00"));
}

TEST_CASE("JSON from a peer") {
    CHECK(parse_json(R"({"a":[1,{"b":null}]})"));
    for (const auto* text : {R"({"a":1,"a":2})", "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "{} x", "", "\"\xff\"", "[18446744073709551615]"}) CHECK_FALSE(parse_json(text));
    CHECK(parse_json(R"({"a":1,"b":{"c":2,"d":3}})", 16, 2));
    CHECK_FALSE(parse_json(R"({"a":1,"b":{"c":2,"d":3,"e":4}})", 16, 2));
    CHECK(json_text(Json("\xff")) == "\"\xEF\xBF\xBD\"");
}

TEST_CASE("nearest word") {
    const std::vector<std::string_view> keys{"ownership", "open_ports", "sources"};
    CHECK(nearest("owership", keys) == "ownership");
    CHECK_FALSE(nearest("zebra", keys));
}

TEST_CASE("a trusted file") {
    const TemporaryDirectory directory;
    write(directory / "good", "text");
    CHECK(read_trusted_file(directory / "good", 100)->text == "text");
    CHECK(read_trusted_file(directory / "good", 3).error().code == Code::limit);

    SUBCASE("one that others may write") {
        write(directory / "loose", "text", 0666);
        CHECK(read_trusted_file(directory / "loose", 100).error().code == Code::untrusted);
    }
    SUBCASE("one below a directory that others may write") {
        std::filesystem::create_directory(directory / "open");
        ::chmod((directory / "open").c_str(), 0777);
        write(directory / "open/file", "text");
        CHECK(read_trusted_file(directory / "open/file", 100).error().code == Code::untrusted);
        std::filesystem::create_symlink(directory / "open/file", directory / "link");
        CHECK(read_trusted_file(directory / "link", 100).error().code == Code::untrusted);
    }
    SUBCASE("links are followed, a loop is an error") {
        std::filesystem::create_symlink("good", directory / "relative");
        CHECK(read_trusted_file(directory / "relative", 100)->text == "text");
        std::filesystem::create_symlink(directory / "loop", directory / "loop");
        CHECK(read_trusted_file(directory / "loop", 100).error().number == ELOOP);
    }
    SUBCASE("what is not a regular file is never opened") {
        ::mkfifo((directory / "fifo").c_str(), 0644);
        CHECK(read_trusted_file(directory / "fifo", 100).error().code == Code::invalid);
        CHECK(read_trusted_file(directory.path, 100).error().number == EISDIR);
        CHECK(read_file("/dev/zero", 100).error().code == Code::invalid);
    }
    SUBCASE("one of another user") {
        if (::geteuid() != 0) return;  // only root can give a file away
        REQUIRE(::chown((directory / "good").c_str(), 65534, 0) == 0);
        CHECK(read_trusted_file(directory / "good", 100).error().code == Code::untrusted);
    }
}

TEST_CASE("publishing replaces a file, and a failure leaves the old one") {
    const TemporaryDirectory directory;
    REQUIRE(publish_file(directory / "state", "one", 0640));
    REQUIRE(publish_file(directory / "state", "two", 0600));
    const auto file = read_file(directory / "state", 100).value();
    CHECK(file.text == "two");
    CHECK((file.mode & 07777) == 0600);
    CHECK_FALSE(publish_file(directory / "missing/state", "three", 0600));
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path), {}) == 1);
    CHECK(remove_file(directory / "state"));
    CHECK(remove_file(directory / "state"));
}
