// Keys, certificates, chains, verification, the renewal rule and the store.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/server.hpp"
#include "promwarden/tls.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

using tls::Time;
const Time now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
constexpr auto day = 24h;

template <class T>
T must(Result<T> result) {
    if (!result) FAIL(result.error().text());
    return *std::move(result);
}
void must(Result<> result) {
    if (!result) FAIL(result.error().text());
}
template <class T>
std::string why(const Result<T>& result) {
    return result ? "it was accepted" : result.error().text();
}

struct Authority {
    tls::Key root_key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256)), issuing_key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    tls::Chain root = must(tls::make_root(root_key, "root 1", {now - 1h, now + 3650 * day}));
    tls::Chain issuing;
    explicit Authority(const tls::Constraints& constraints = {})
        : issuing(must(tls::make_issuing(issuing_key, "issuing 1", root, root_key, constraints, {now - 1h, now + 1095 * day}))) {}
    [[nodiscard]] tls::Chain leaf(const tls::Key& key, const tls::Subject& subject, std::chrono::seconds life = 30 * day) const {
        return must(must(tls::make_leaf(key, subject, issuing, issuing_key, {now - 300s, now - 300s + life})).followed_by(issuing));
    }
};

tls::Expectation expect(const Authority& authority, const tls::Chain& chain, tls::Use use, std::vector<std::string> names) {
    return {use, std::move(names), &authority.root, tls::moments_of(chain.leaf(), now)};
}

mode_t mode_of(const std::string& path) {
    struct stat status {};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

CertificatePolicy policy_for(std::vector<std::string> names, std::string issuer = "local") {
    CertificatePolicy policy;
    policy.name = "prometheus";
    policy.names = std::move(names);
    policy.issuer = std::move(issuer);
    policy.lifetime = 30 * day;
    policy.rekey = 90 * day;
    return policy;
}

}  // namespace

TEST_CASE("a leaf of the local authority holds up to strict verification, with every kind of key") {
    const Authority authority(tls::Constraints{{"prom.example.org", "10.0.0.5", "2001:db8::5"}, {"example.org"}});
    const tls::Subject subject{tls::Use::server, {"prom.example.org", "10.0.0.5", "2001:db8::5"}, {}};
    for (const auto kind : {tls::Key::Kind::ecdsa_p256, tls::Key::Kind::ed25519, tls::Key::Kind::rsa_3072}) {
        const auto key = must(tls::Key::generate(kind));
        const auto chain = authority.leaf(key, subject);
        CAPTURE(key.kind());
        CHECK(why(tls::verify(chain, expect(authority, chain, tls::Use::server, subject.names))) == "it was accepted");
        CHECK(chain.leaf().key == key.kind());
        CHECK(chain.leaf().public_key == key.public_key());
        CHECK(chain.leaf().subject.empty());
        CHECK(chain.leaf().server);
        CHECK_FALSE(chain.leaf().client);
        CHECK(chain.leaf().serial.size() == 40);
        CHECK(chain.leaf().names.size() == 3);
        CHECK(is_for(chain.leaf(), "2001:DB8:0::5"));
        CHECK_FALSE(is_for(chain.leaf(), "other.example.org"));
    }
}

TEST_CASE("verification refuses a wrong name, a wrong use, a violated constraint and a wrong time") {
    const Authority authority(tls::Constraints{{"example.org"}, {"example.org"}}), other;
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto chain = authority.leaf(key, {tls::Use::server, {"a.example.org"}, {}});
    const auto verdict = [&](const tls::Chain& what, tls::Use use, std::vector<std::string> names) { return why(tls::verify(what, expect(authority, what, use, std::move(names)))); };
    CHECK(verdict(chain, tls::Use::server, {"a.example.org"}) == "it was accepted");
    CHECK(verdict(chain, tls::Use::server, {"b.example.org"}).find("it is not for 'b.example.org'") != std::string::npos);
    CHECK(verdict(chain, tls::Use::client, {}).find("unsuitable certificate purpose") != std::string::npos);
    const auto outside = authority.leaf(key, {tls::Use::server, {"a.example.com"}, {}});
    CHECK(verdict(outside, tls::Use::server, {}).find("permitted subtree violation") != std::string::npos);
    // No address is permitted, so none may be: what no subtree mentions would be unlimited.
    const auto address = authority.leaf(key, {tls::Use::server, {"a.example.org", "10.0.0.5"}, {}});
    CHECK(verdict(address, tls::Use::server, {}).find("excluded subtree violation") != std::string::npos);
    const auto uri = authority.leaf(key, {tls::Use::client, {"a.example.org"}, {"spiffe://example.com/x"}});
    CHECK(verdict(uri, tls::Use::client, {}).find("permitted subtree violation") != std::string::npos);
    CHECK(why(tls::verify(chain, expect(other, chain, tls::Use::server, {}))).find("unable to get") != std::string::npos);
    auto late = expect(authority, chain, tls::Use::server, {});
    late.moments = {now + 31 * day};
    CHECK(why(tls::verify(chain, late)).find("expired") != std::string::npos);
}

TEST_CASE("a leaf never outlives its issuer, and serial numbers differ") {
    const Authority authority;
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto chain = authority.leaf(key, {tls::Use::client, {"a.example.org"}, {}}, 20'000 * day);
    CHECK(chain.leaf().not_after == authority.issuing.leaf().not_after);
    std::set<std::string> serials;
    for (int i = 0; i < 200; ++i) serials.insert(authority.leaf(key, {tls::Use::client, {"a.example.org"}, {}}).leaf().serial);
    CHECK(serials.size() == 200);
}

TEST_CASE("a name is a name: commas and colons do not make two of it") {
    const Authority authority;
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto chain = authority.leaf(key, {tls::Use::server, {"a,DNS:evil.example.org"}, {}});
    REQUIRE(chain.leaf().names.size() == 1);
    CHECK_FALSE(is_for(chain.leaf(), "evil.example.org"));
}

TEST_CASE("the request names what the policy names, and its key stays out of it") {
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto request = must(tls::make_request(key, {tls::Use::server, {"a.example.org"}, {}}));
    CHECK(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    CHECK(request.find("PRIVATE") == std::string::npos);
}

TEST_CASE("identity of clients, constraints of a policy") {
    auto client = policy_for({"10.0.0.5", "prom.example.org"});
    client.server = false;
    client.name = "scrape";
    CHECK(tls::subject_of(client).uris == std::vector<std::string>{"spiffe://example.org/prometheus/prom.example.org/scrape"});
    TlsPolicy policy;
    policy.certificates = {client, policy_for({"b.example.net"}, "acme")};
    const auto constraints = tls::constraints_of(policy);
    CHECK(constraints.names == std::vector<std::string>{"10.0.0.5", "probe.promwarden.internal", "prom.example.org"});
    CHECK(constraints.domains == std::vector<std::string>{"example.org", "promwarden.internal"});
    policy.name_constraints = false;
    CHECK(tls::constraints_of(policy).names.empty());
}

TEST_CASE("chains that are not what they should be are refused, with the reason") {
    const Authority authority;
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto leaf = must(tls::make_leaf(key, {tls::Use::server, {"a.example.org"}, {}}, authority.issuing, authority.issuing_key, {now, now + day})).pem();
    const auto issuing = authority.issuing.pem();
    const auto refused = [](const std::string& pem) { return why(tls::Chain::parse(pem, "FILE")); };
    CHECK(refused(leaf + issuing) == "it was accepted");
    std::string windows = leaf;
    for (std::size_t at = 0; (at = windows.find('\n', at)) != std::string::npos; at += 2) windows.insert(at, "\r");
    CHECK(refused(windows + issuing) == "it was accepted");
    CHECK(refused("") == "read certificates FILE: there is no certificate in it");
    CHECK(refused("\n\n") == "read certificates FILE: there is no certificate in it");
    CHECK(refused(leaf + leaf) == "read certificates FILE: a certificate is in it twice");
    CHECK(refused(leaf + "junk") == "read certificates FILE: there is something in it that is no certificate");
    const auto secret = must(key.pem());
    const auto mixed = refused(leaf + std::string(tls::view(secret)));
    CHECK(mixed == "read certificates FILE: there is a private key in it");
    CHECK(refused(leaf.substr(0, leaf.size() / 2)) == "read certificates FILE: its last certificate is cut off");
    CHECK(refused(leaf.substr(0, leaf.size() / 2) + issuing).find("is cut off") != std::string::npos);
    std::string damaged = leaf;
    damaged[leaf.size() / 2] = '!';
    CHECK(refused(damaged).starts_with("read certificates FILE: "));
    CHECK(refused(damaged) != "it was accepted");
    for (std::size_t size = 0; size < leaf.size() - 1; size += 7) CHECK(refused(leaf.substr(0, size)) != "it was accepted");
}

TEST_CASE("keys: PKCS#8 out, both forms in, no pass phrase, no second key, no value in an error") {
    const auto key = must(tls::Key::generate(tls::Key::Kind::ed25519));
    const auto pem = must(key.pem());
    CHECK(tls::view(pem).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    CHECK(must(tls::Key::parse(tls::view(pem), "FILE")).public_key() == key.public_key());
    CHECK(why(tls::Key::parse(std::string(tls::view(pem)) + std::string(tls::view(pem)), "FILE")) == "read key FILE: there is more than one key in it");
    const auto half = std::string(tls::view(pem)).substr(0, 60);
    const auto said = why(tls::Key::parse(half, "FILE"));
    CHECK(said.starts_with("read key FILE: "));
    CHECK(said.find(half.substr(30, 20)) == std::string::npos);
    CHECK(why(tls::Key::parse("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n", "FILE")) == "read key FILE: it is protected by a pass phrase");
    CHECK(why(tls::Key::parse("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n", "FILE")) ==
          "read key FILE: it is protected by a pass phrase");
}

// ---- when -----------------------------------------------------------------------------------------------------------

namespace {

Certificate leaf_of(std::chrono::seconds age, std::chrono::seconds life, std::vector<std::string> names = {"prom.example.org"}) {
    Certificate leaf;
    leaf.serial = "0123456789abcdef";
    leaf.not_before = now - age;
    leaf.not_after = now - age + life;
    for (auto& name : names) leaf.names.push_back({AlternativeName::Kind::dns, std::move(name)});
    leaf.server = true;
    return leaf;
}

MaintenanceWindow window_on(int weekday, std::chrono::minutes from, std::chrono::minutes until) { return {static_cast<std::uint8_t>(1u << weekday), from, until, "test"}; }

}  // namespace

TEST_CASE("the renewal rule") {
    const auto policy = policy_for({"prom.example.org"});
    RenewalRecord record;
    record.key_made = now - 10 * day;
    const auto rule = [&](const std::optional<Certificate>& leaf, std::vector<MaintenanceWindow> windows = {}, bool synchronised = true) {
        return tls::next_renewal(policy, windows, leaf, record, "machine", now, synchronised);
    };
    SUBCASE("a third of its life before the end, less a jitter of at most a twentieth that is always the same") {
        const auto leaf = leaf_of(0s, 30 * day);
        const auto first = rule(leaf);
        CHECK(first.due <= leaf.not_after - 10 * day);
        CHECK(first.due > leaf.not_after - 10 * day - 36h);
        CHECK(first.due == rule(leaf).due);
        CHECK(first.when == first.due);
        CHECK(first.action == tls::Action::renew);
        CHECK(tls::next_renewal(policy, {}, leaf, record, "another machine", now, true).due != first.due);
    }
    SUBCASE("half of a short life") {
        const auto leaf = leaf_of(0s, 4 * day);
        CHECK(rule(leaf).due <= leaf.not_after - 2 * day);
        CHECK(rule(leaf).due > leaf.not_after - 2 * day - 5h);
    }
    SUBCASE("due, so now; with a window, then; never later than the emergency") {
        const auto leaf = leaf_of(25 * day, 30 * day);
        CHECK(rule(leaf).when == now);
        const auto today = std::chrono::floor<std::chrono::days>(now);
        const int tomorrow = static_cast<int>(std::chrono::weekday(std::chrono::sys_days(today + std::chrono::days(1))).iso_encoding()) - 1;
        CHECK(rule(leaf, {window_on(tomorrow, 2h, 4h)}).when == Time(std::chrono::sys_days(today + std::chrono::days(1)) + 2h));
        const auto dying = leaf_of(29 * day + 18h, 30 * day);
        CHECK(rule(dying, {window_on(tomorrow, 2h, 4h)}).emergency);
        CHECK(rule(dying, {window_on(tomorrow, 2h, 4h)}).when == now);
    }
    SUBCASE("the key is kept until its time is over") {
        record.key_made = now - 89 * day;
        CHECK(rule(leaf_of(25 * day, 30 * day)).action == tls::Action::renew);
        record.key_made = now - 91 * day;
        CHECK(rule(leaf_of(25 * day, 30 * day)).action == tls::Action::rekey);
    }
    SUBCASE("backoff is obeyed, in an emergency too") {
        record.next_try = now + 90s;
        CHECK(rule(leaf_of(25 * day, 30 * day)).when == now + 90s);
        CHECK(rule(leaf_of(29 * day + 18h, 30 * day)).when == now + 90s);
        CHECK(rule(std::nullopt).when == now + 90s);
    }
    SUBCASE("the issuer's wish wins, until it is nearly too late") {
        record.window = tls::choose_window(now + 1 * day, now + 2 * day, "seed");
        REQUIRE(record.window);
        CHECK(record.window->selected >= now + 1 * day);
        CHECK(record.window->selected < now + 2 * day);
        CHECK(rule(leaf_of(25 * day, 30 * day)).due == record.window->selected);
        CHECK(rule(leaf_of(29 * day, 30 * day)).due < now);
        CHECK_FALSE(tls::choose_window(now, now, "seed"));
    }
    SUBCASE("a clock that cannot be believed warns, and nothing is replaced") {
        const auto said = rule(leaf_of(31 * day, 30 * day), {}, false);
        CHECK(said.action == tls::Action::none);
        CHECK(said.reason.find("clock") != std::string::npos);
        CHECK(rule(leaf_of(0s, 30 * day), {}, false).action == tls::Action::renew);  // later
    }
    SUBCASE("a policy with another name is due at once; watched ones never") {
        CHECK(rule(leaf_of(0s, 30 * day, {"old.example.org"})).when == now);
        const auto watched = tls::next_renewal(policy_for({"prom.example.org"}, "watch"), {}, leaf_of(31 * day, 30 * day), record, "machine", now, true);
        CHECK(watched.action == tls::Action::none);
    }
}

TEST_CASE("which Go asks again who a client is when it resumes a session") {
    for (const auto* version : {"1.19.8", "1.20", "1.24.13", "1.24.20", "1.25.7", "1.26.0", "1.26", "2.0"}) CHECK_MESSAGE(tls::verifies_resumed(version), version);
    for (const auto* version : {"1.21.0", "1.23.12", "1.24.12", "1.25.0", "1.25.6", "1.25rc1", "", "devel", "1..7"}) CHECK_MESSAGE(!tls::verifies_resumed(version), version);
    Server server;
    server.kind = Server::Kind::unit;
    CHECK(tls::may_resume({&server, 1}, now) == nullptr);  // it does not run
    server.process = Process{};
    CHECK(tls::may_resume({&server, 1}, now) == &server);  // nothing is known of it
    server.started = now + 1s;
    CHECK(tls::may_resume({&server, 1}, now) == nullptr);
    server.started = now - 1s;
    server.go = "1.24.4";
    CHECK(tls::may_resume({&server, 1}, now) == &server);
    server.go = "1.19.8";
    CHECK(tls::may_resume({&server, 1}, now) == nullptr);
    CHECK(tls::may_resume({}, now) == nullptr);
}

TEST_CASE("windows") {
    const std::chrono::sys_days sunday{std::chrono::year(2026) / 11 / 22};
    const auto sundays = window_on(6, 2h, 4h);
    CHECK(tls::next_in_windows({&sundays, 1}, sunday) == Time(sunday + 2h));
    CHECK(tls::next_in_windows({&sundays, 1}, sunday + 3h) == Time(sunday + 3h));
    CHECK(tls::next_in_windows({&sundays, 1}, sunday + 4h) == Time(sunday + 7 * day + 2h));
    const auto night = window_on(6, 23h, 1h);  // over midnight
    CHECK(tls::next_in_windows({&night, 1}, sunday + 24h + 30min) == Time(sunday + 24h + 30min));
    CHECK(tls::next_in_windows({&night, 1}, sunday + 26h) == Time(sunday + 7 * day + 23h));
}

TEST_CASE("failures wait longer and longer, but not longer than the certificate lives") {
    RenewalRecord record;
    std::vector<std::int64_t> waits;
    for (int i = 0; i < 12; ++i) {
        record = tls::after_failure(record, "no", std::nullopt, now);
        waits.push_back(std::chrono::duration_cast<std::chrono::minutes>(record.next_try - now).count());
    }
    CHECK(waits == std::vector<std::int64_t>{1, 2, 5, 10, 30, 60, 120, 240, 360, 360, 360, 360});
    CHECK(tls::after_failure(record, "no", leaf_of(30 * day - 1h, 30 * day), now).next_try == now + 6min);
    CHECK(tls::after_failure(record, "no", leaf_of(30 * day - 1min, 30 * day), now).next_try == now + 1min);
    record.window = RenewalRecord::Window{now, now + 1h, now + 5min};
    record.rotated = now;
    CHECK(must(tls::read_record(json_text(tls::to_json(record)))) == record);
    CHECK_FALSE(tls::read_record("{}"));
}

TEST_CASE("never from a good certificate to a worse one") {
    const auto policy = policy_for({"prom.example.org"});
    const auto good = leaf_of(0s, 30 * day);
    CHECK_FALSE(tls::worse(good, leaf_of(0s, 31 * day), policy, now, false));
    CHECK(tls::worse(good, leaf_of(31 * day, 30 * day), policy, now, true));
    CHECK(tls::worse(good, leaf_of(-1h, 30 * day), policy, now, true));
    CHECK(tls::worse(good, leaf_of(0s, 30 * day, {"other.example.org"}), policy, now, true));
    CHECK(tls::worse(good, leaf_of(0s, 10 * day), policy, now, false));
    CHECK_FALSE(tls::worse(good, leaf_of(0s, 10 * day), policy, now, true));
    CHECK_FALSE(tls::worse(leaf_of(31 * day, 30 * day), leaf_of(0s, 10 * day), policy, now, false));
}

// ---- the store ------------------------------------------------------------------------------------------------------

TEST_CASE("generations") {
    const TemporaryDirectory directory;
    const auto path = directory / "tls/prometheus";
    auto store = must(tls::Store::open(path, 0750, 0640));
    CHECK(must(store.generations()).empty());
    CHECK(must(store.add("KEY 1", "CERT 1")) == 1);
    CHECK(must(store.add("KEY 2", "CERT 2")) == 2);
    CHECK(mode_of(path + "/2/key.pem") == 0640);
    CHECK(mode_of(path + "/2/cert.pem") == 0644);
    CHECK(mode_of(path + "/2") == 0750);
    CHECK(tls::view(must(store.key(1))) == "KEY 1");
    must(store.replace_certificate(2, "CERT 2b"));
    CHECK(must(store.certificate(2)) == "CERT 2b");
    CHECK(must(store.certificate(2, "previous.pem")) == "CERT 2");
    must(store.replace_certificate(2, "CERT 2c"));
    CHECK(must(store.certificate(2, "previous.pem")) == "CERT 2b");
    must(store.remove(1));
    CHECK(must(store.generations()) == std::vector<unsigned>{2});
    CHECK(must(store.add("KEY 3", "CERT 3")) == 3);
    // What an interrupted run left is gone at the next start; what is complete stays.
    fs::create_directory(path + "/.tmp-0000000000000001");
    std::ofstream(path + "/.tmp-0000000000000001/key.pem") << "half";
    std::ofstream(path + "/3/.tmp-0000000000000002") << "half";
    store = must(tls::Store::open(path, 0750, 0640));
    CHECK(must(store.generations()) == std::vector<unsigned>{2, 3});
    CHECK_FALSE(fs::exists(path + "/.tmp-0000000000000001"));
    CHECK_FALSE(fs::exists(path + "/3/.tmp-0000000000000002"));
    // A directory in which somebody else could write is none of ours.
    ::chmod(directory.path.c_str(), 0777);
    CHECK_FALSE(tls::Store::open(path, 0750, 0640));
}

TEST_CASE("the group comes from the directory" * doctest::skip(::geteuid() != 0)) {
    const TemporaryDirectory directory;
    const auto base = directory / "promwarden";
    ::mkdir(base.c_str(), 0700);
    REQUIRE(::chown(base.c_str(), 0, 12345) == 0);
    ::chmod(base.c_str(), 02750);
    const mode_t before = ::umask(0077);
    const auto store = must(tls::Store::open(base + "/prometheus", 0750, 0640));
    must(store.add("KEY", "CERT"));
    must(store.replace_certificate(1, "CERT 2"));
    must(tls::publish_through(base, directory / "web.yml", "x", 0640));
    ::umask(before);
    for (const auto& [file, mode] : {std::pair{base + "/prometheus", 02750}, {base + "/prometheus/1", 0750}, {base + "/prometheus/1/key.pem", 0640}, {directory / "web.yml", 0640}}) {
        struct stat status {};
        REQUIRE(::stat(file.c_str(), &status) == 0);
        CAPTURE(file);
        CHECK(status.st_gid == 12345);
        CHECK((status.st_mode & 07777) == static_cast<mode_t>(mode));
    }
}

TEST_CASE("links change by one rename") {
    const TemporaryDirectory directory;
    must(tls::publish_link(directory / "current", "1"));
    must(tls::publish_link(directory / "current", "2"));
    CHECK(fs::read_symlink(directory / "current") == "2");
    CHECK(std::distance(fs::directory_iterator(directory.path), {}) == 1);
}
