#include <doctest/doctest.h>

#include <fstream>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/audit_log.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace promwarden::nginx;

namespace {

using Counts = AuthFailures::Counts;

std::string line(int status, std::string_view user, std::string_view agent = "curl", std::string_view uri = "/") {
    return fmt::format(
        R"({{"time":"2026-11-28T10:00:00+00:00","remote_addr":"192.0.2.1","user":"{}","method":"GET","uri":"{}","status":{},"bytes":1,"seconds":0.001,"agent":"{}","tls":"TLSv1.3"}})"
        "\n",
        user, uri, status, agent);
}

Counts count(std::string_view text, std::size_t piece = std::string_view::npos) {
    AuthFailures failures;
    for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) failures.feed(text.substr(0, piece));
    return failures.counts();
}

void append(const std::string& path, std::string_view text) { std::ofstream(path, std::ios::app | std::ios::binary) << text; }

/// A follower with its counter, as the agent has them.
struct Followed {
    explicit Followed(std::string path, std::optional<LogPosition> from = {}, Counts before = {})
        : follower(std::move(path), std::move(from)), failures(before) {}

    LogFollower::Next read(std::size_t most = 1 << 20) {
        const auto next = follower.read(most, {[this](std::string_view bytes) { failures.feed(bytes); }, [this] { failures.end_file(); }});
        REQUIRE(next.has_value());
        return *next;
    }
    std::uint64_t given() {
        while (read() == LogFollower::Next::again) {
        }
        return failures.counts().given;
    }
    Followed restarted() const { return Followed(follower.path(), follower.position(failures.pending()), failures.counts()); }

    LogFollower follower;
    AuthFailures failures;
};

}  // namespace

TEST_CASE("refused requests, by whether a user was named") {
    CHECK(count(line(401, "alice") + line(200, "alice") + line(401, "") + line(403, "bob") + line(401, "bob")) == Counts{2, 1, 0});
    CHECK(count("") == Counts{});
    CHECK(count("\n\n") == Counts{});
    CHECK(count(line(401, "alice").substr(0, 40)) == Counts{});  // not finished yet
}

TEST_CASE("our own questions offer nothing that could be a guess") {
    CHECK(count(line(401, "", "promwarden-probe") + line(401, "promwarden-probe-nobody", "promwarden-probe") +
                line(401, "promwarden-probe-nobody", "curl")) == Counts{});
    CHECK(count(line(401, "alice", "promwarden-probe")) == Counts{1, 0, 0});  // who says to be the probe and guesses
    CHECK(count(line(401, "promwarden-probe-nobodyx") + line(401, "", "promwarden-probe/2")) == Counts{1, 1, 0});
}

TEST_CASE("what strangers write stands in strings, whatever it looks like") {
    CHECK(count(line(200, "a", R"(x\",\"status\":401,\"y\":\")")) == Counts{});
    CHECK(count(line(200, "a", R"(\u0022,\u0022status\u0022:401)")) == Counts{});
    CHECK(count(line(401, R"(\"status\":200)", R"(\\)")) == Counts{1, 0, 0});
    CHECK(count(line(401, "a", "}}{{[[", R"(/\\\\\"{\"status\":200})")) == Counts{1, 0, 0});
    CHECK(count(R"({"inner":{"status":401},"status":200,"list":["status",401]})"
                "\n") == Counts{});
    CHECK(count(R"({ "status" : 401 , "user" : "x" })"
                "\r\n") == Counts{1, 0, 0});
}

TEST_CASE("lines that are none") {
    for (const std::string_view text : {"127.0.0.1 - alice [28/Nov/2026] \"GET / HTTP/1.1\" 401 12", "{", "[401]", "{\"status\":401",
                                        "{\"status\":401}}", "{\"status\":401}{\"status\":401}", "\"status\":401", "{\"status\":\"4x1\"}",
                                        "{\"user\":\"a\"}", "{\"status\":401e1}", "{\"status\":99999999999999}"}) {
        CHECK_MESSAGE((count(std::string(text) + "\n") == Counts{0, 0, 1}), text);
        CHECK_MESSAGE((count(std::string(text) + "\n" + line(401, "b")) == Counts{1, 0, 1}), text);
    }
    CHECK(count(std::string(300, '{') + "\n" + line(401, "")) == Counts{0, 1, 1});
    CHECK(count(std::string("\0\xff\xfe\n", 4) + line(401, "")) == Counts{0, 1, 1});
}

TEST_CASE("in pieces of any size, and lines of any length") {
    const auto text = line(401, "alice") + line(401, "", "promwarden-probe") +
                      line(401, std::string(5000, 'u'), "x", "/" + std::string(100000, 'a')) + "junk\n" + line(401, "");
    for (const std::size_t piece : {1, 2, 3, 7, 64, 4096}) CHECK(count(text, piece) == Counts{2, 1, 1});
    AuthFailures endless;
    for (int i = 0; i < 1000; ++i) endless.feed(std::string(1 << 16, 'x'));
    CHECK(endless.pending() == 1000 << 16);
    endless.feed("\n" + line(401, ""));
    CHECK(endless.counts() == Counts{0, 1, 1});
    CHECK(endless.pending() == 0);
}

TEST_CASE("a log that is there already is old; one that comes is new") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    Followed none(path);
    CHECK(none.given() == 0);
    append(path, line(401, "a"));
    CHECK(none.given() == 1);
    Followed old(path);
    CHECK(old.given() == 0);
    append(path, line(401, "a"));
    CHECK(old.given() == 1);
}

TEST_CASE("rotation: what is still written to the old file counts, too") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    append(path, "");
    Followed followed(path);
    CHECK(followed.given() == 0);
    append(path, line(401, "a"));
    CHECK(followed.given() == 1);
    CHECK(::rename(path.c_str(), (path + ".1").c_str()) == 0);
    append(path + ".1", line(401, "a"));
    CHECK(followed.read() == LogFollower::Next::later);
    append(path, line(401, "a") + line(401, "a"));
    append(path + ".1", line(401, "a"));
    CHECK(followed.read() == LogFollower::Next::later);
    CHECK(followed.failures.counts().given == 3);
    std::this_thread::sleep_for(std::chrono::milliseconds(2000));
    CHECK(followed.given() == 5);
    append(path, line(401, "a"));
    CHECK(followed.given() == 6);
}

TEST_CASE("truncation, also where it has grown past the old end since") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    append(path, "");
    Followed followed(path);
    CHECK(followed.given() == 0);
    append(path, line(401, "a", "first") + line(401, "a"));
    CHECK(followed.given() == 2);
    CHECK(::truncate(path.c_str(), 0) == 0);
    append(path, line(401, "a", "second"));
    CHECK(followed.given() == 3);
    CHECK(::truncate(path.c_str(), 0) == 0);
    append(path, line(401, "a", "third") + line(200, "a") + line(401, "a"));
    CHECK(followed.given() == 5);
    CHECK(::truncate(path.c_str(), 0) == 0);
    CHECK(followed.given() == 5);
}

TEST_CASE("a restart goes on where the last line ended") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    append(path, "");
    Followed first(path);
    CHECK(first.given() == 0);
    const auto half = line(401, "a");
    append(path, line(401, "a") + half.substr(0, 30));
    CHECK(first.given() == 1);
    CHECK(first.failures.pending() == 30);
    append(path, half.substr(30) + line(401, "a"));
    auto second = first.restarted();
    CHECK(second.given() == 3);

    SUBCASE("renamed meanwhile") {
        append(path, line(401, "a"));
        CHECK(::rename(path.c_str(), (path + ".1").c_str()) == 0);
        append(path, line(401, "a"));
        auto third = second.restarted();
        CHECK(third.read() == LogFollower::Next::later);
        std::this_thread::sleep_for(std::chrono::milliseconds(2000));
        CHECK(third.given() == 5);
    }
    SUBCASE("renamed and compressed meanwhile") {
        CHECK(::rename(path.c_str(), (directory / "elsewhere").c_str()) == 0);
        append(path, line(401, "a"));
        CHECK(second.restarted().given() == 4);
    }
    SUBCASE("truncated meanwhile") {
        CHECK(::truncate(path.c_str(), 0) == 0);
        append(path, line(401, "a", "another beginning"));
        CHECK(second.restarted().given() == 4);
    }
}

TEST_CASE("what is no log") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    LogFollower follower(path, {});
    CHECK(!follower.read(100, {[](std::string_view) {}, [] {}}));
}

TEST_CASE("no more at a time than was asked for") {
    const TemporaryDirectory directory;
    const auto path = directory / "log";
    append(path, "");
    Followed followed(path);
    CHECK(followed.read() == LogFollower::Next::wait);
    append(path, line(401, "a") + line(401, "a"));
    CHECK(followed.read(line(401, "a").size()) == LogFollower::Next::again);
    CHECK(followed.failures.counts().given == 1);
    CHECK(followed.given() == 2);
}
