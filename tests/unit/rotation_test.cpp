// Rotation against files of its own: what is published, what is taken back, what an interrupted run leaves, the authority's change.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/prometheus.hpp"
#include "promwarden/rotation.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

using rotation::Time;
constexpr auto day = 24h;

template <class T>
T must(Result<T> result) {
    if (!result) FAIL(result.error().text());
    return *std::move(result);
}
template <class T>
std::string why(const Result<T>& result) {
    return result ? "it was done" : result.error().text();
}

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// A host of directories, with a Prometheus that shows whatever web.yml names.
struct Host {
    TemporaryDirectory directory;
    std::string path = directory.path;
    rotation::Places places;
    rotation::World world;
    Policy policy;
    Time now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    bool runs = true;          // Prometheus
    std::string shows;         // another fingerprint than that of the file
    unsigned reloads = 0;
    std::string reload_fails;  // why, from the next on

    Host() {
        for (const auto* name : {"/prometheus", "/prometheus/promwarden", "/nginx", "/state"}) fs::create_directory(path + name);
        ::mkdir((path + "/nginx/promwarden").c_str(), 0750);
        ::chmod((path + "/prometheus/promwarden").c_str(), 02750);
        places = {path + "/state", path + "/prometheus/promwarden", path + "/nginx/promwarden", path + "/prometheus/web.yml", path + "/prometheus/prometheus.yml", path + "/nginx/nginx.conf", path + "/probe"};
        world.now = [this] { return now; };
        world.machine = "machine";
        world.host = "host";
        world.served = [this](const Endpoint&, const std::string&) -> Result<std::string> {
            if (!runs) return fail(Code::failed, "connect", "", "connection refused");
            if (!shows.empty()) return shows;
            const auto text = text_of(places.web_config);
            const auto web = prometheus::read_web_tls(places.web_config, text);
            if (!web || web->cert_file.empty()) return fail(Code::failed, "handshake", "", "no TLS");
            return tls::Chain::parse(text_of(web->cert_file), "")->leaf().fingerprint;
        };
        world.reload_proxy = [this]() -> Result<> {
            ++reloads;
            if (!reload_fails.empty()) return fail(Code::invalid, "check", "nginx's configuration", std::exchange(reload_fails, ""));
            return {};
        };
        add("prometheus", CertificatePolicy::Install::prometheus_web);
    }

    CertificatePolicy& add(const std::string& name, CertificatePolicy::Install install, bool server = true) {
        CertificatePolicy certificate;
        certificate.name = name;
        certificate.names = {name + ".example.org", "10.0.0.5"};
        certificate.server = server;
        certificate.lifetime = 30 * day;
        certificate.rekey = 90 * day;
        certificate.install = install;
        policy.tls.certificates.push_back(certificate);
        return policy.tls.certificates.back();
    }
    rotation::Rotator open() { return must(rotation::Rotator::open(places, world, policy)); }
    Result<rotation::Outcome> rotate(bool rekey = false, bool force = false, std::size_t index = 0) { return open().rotate(policy.tls.certificates[index], rekey, force); }
    CertificateFacts look() { return must(rotation::observe(policy, places, world)); }
};

}  // namespace

TEST_CASE("the first certificate: a pair, then web.yml") {
    Host host;
    std::ofstream(host.places.web_config) << "# ours\nbasic_auth_users:\n  alice: x  # her\n";
    host.runs = false;
    const auto outcome = must(host.rotate());
    CHECK(outcome.action == tls::Action::rekey);
    CHECK(outcome.served == false);
    const auto base = host.places.prometheus + "/tls/prometheus/1/";
    CHECK(text_of(host.places.web_config) ==
          "# ours\nbasic_auth_users:\n  alice: x  # her\ntls_server_config:\n  cert_file: " + base + "cert.pem\n  key_file: " + base + "key.pem\n");
    const auto facts = host.look();
    REQUIRE(facts.certificates.size() == 1);
    CHECK(facts.certificates[0].problems.empty());
    CHECK(facts.certificates[0].leaf == outcome.after);
    CHECK(facts.certificates[0].record.key_made == host.now);
    CHECK(text_of(host.places.prometheus + "/tls/authorities.pem").starts_with("-----BEGIN CERTIFICATE-----"));
    struct stat status {};
    REQUIRE(::stat((base + "key.pem").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0640);
    CHECK_FALSE(fs::exists(host.places.state + "/tls/intents/prometheus.json"));
}

TEST_CASE("a renewal keeps the key and does not touch web.yml; a rekey makes a pair and renames it") {
    Host host;
    must(host.rotate());
    const auto web = text_of(host.places.web_config);
    const auto first = *host.look().certificates[0].leaf;
    const auto renewed = must(host.rotate());
    CHECK(renewed.action == tls::Action::renew);
    CHECK(renewed.served == true);
    CHECK(renewed.after->public_key == first.public_key);
    CHECK(renewed.after->serial != first.serial);
    CHECK(text_of(host.places.web_config) == web);
    const auto rekeyed = must(host.rotate(true));
    CHECK(rekeyed.action == tls::Action::rekey);
    CHECK(rekeyed.after->public_key != first.public_key);
    CHECK(text_of(host.places.web_config).find("/tls/prometheus/2/key.pem") != std::string::npos);
    CHECK(host.look().certificates[0].problems.empty());
    // The old pair stays for whoever is in the middle of reading it, and no longer.
    CHECK(fs::exists(host.places.prometheus + "/tls/prometheus/1"));
    host.now += 1h;
    must(host.rotate());
    CHECK_FALSE(fs::exists(host.places.prometheus + "/tls/prometheus/1"));
    // What another configuration names stays.
    std::ofstream(host.places.prometheus_config) << "cert_file: promwarden/tls/prometheus/2/cert.pem\n";
    must(host.rotate(true));
    host.now += 1h;
    must(host.rotate());
    CHECK(fs::exists(host.places.prometheus + "/tls/prometheus/2"));
    CHECK(host.policy.tls.certificates[0].key == tls::Key::Kind::ecdsa_p256);
    host.policy.tls.certificates[0].key = tls::Key::Kind::ed25519;
    CHECK(must(host.rotate()).after->key == "ed25519");
}

TEST_CASE("what is not served goes back, and the next try waits") {
    Host host;
    must(host.rotate());
    const auto first = *host.look().certificates[0].leaf;
    const auto web = text_of(host.places.web_config);
    host.shows = first.fingerprint;
    host.now += 1h;
    for (const bool rekey : {false, true}) {
        CHECK(why(host.rotate(rekey)).find("it still shows another certificate (the one before is back)") != std::string::npos);
        CHECK(host.look().certificates[0].leaf == first);
        CHECK(text_of(host.places.web_config) == web);
    }
    const auto record = host.look().certificates[0].record;
    CHECK(record.attempts == 2);
    CHECK(record.next_try == host.now + 2min);
    CHECK(record.last_error.find("still shows") != std::string::npos);
    host.shows.clear();
    must(host.rotate());
    CHECK(host.look().certificates[0].record.attempts == 0);
}

TEST_CASE("nothing is tried before its time") {
    Host host;
    CHECK(host.open().rotate_due().size() == 1);
    CHECK(host.open().rotate_due().empty());
    host.now += 25 * day;
    host.runs = false;
    auto outcomes = host.open().rotate_due();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].action == tls::Action::renew);
    host.runs = true;
    host.now += 25 * day;
    host.shows = "another";
    outcomes = host.open().rotate_due();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].action == tls::Action::none);
    CHECK(host.open().rotate_due().empty());  // backoff
    CHECK(rotation::next_run(host.policy, host.look(), host.now) == host.now + 1min);
    host.world.synchronised = false;
    host.now += 5min;
    CHECK(host.open().rotate_due().empty());
    host.world.synchronised = true;
    host.now += 70 * day;
    host.shows.clear();
    outcomes = host.open().rotate_due();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].action == tls::Action::rekey);  // its key is older than 90 days
}

TEST_CASE("an interrupted run is finished, or counts as failed") {
    Host host;
    must(host.rotate());
    const auto leaf = *host.look().certificates[0].leaf;
    const auto intent = host.places.state + "/tls/intents/prometheus.json";
    const auto write = [&](const std::string& after) { std::ofstream(intent) << json_text({{"name", "prometheus"}, {"action", "renew"}, {"generation", 1}, {"before", ""}, {"after", after}}); };
    write(leaf.fingerprint);
    {
        const auto rotator = host.open();
        REQUIRE(rotator.recovered().size() == 1);
        CHECK(rotator.recovered()[0].served == true);
        CHECK_FALSE(fs::exists(intent));
    }
    write("something else");
    CHECK(host.open().recovered().empty());
    CHECK(host.look().certificates[0].record.attempts == 1);
    CHECK_FALSE(fs::exists(intent));
    std::ofstream(intent) << "{half";
    CHECK(host.open().recovered().empty());
    CHECK_FALSE(fs::exists(intent));
}

TEST_CASE("a web.yml that is a link, or that somebody else could write, is left alone") {
    Host host;
    std::ofstream(host.path + "/prometheus/real.yml") << "# x\n";
    fs::create_symlink("real.yml", host.places.web_config);
    CHECK(why(host.rotate()).find("it is a symbolic link") != std::string::npos);
    CHECK(text_of(host.path + "/prometheus/real.yml") == "# x\n");
    fs::remove(host.places.web_config);
    std::ofstream(host.places.web_config) << "# x\n";
    ::chmod(host.places.web_config.c_str(), 0666);
    CHECK(why(host.rotate()).find("lets others write it") != std::string::npos);
}

TEST_CASE("web.yml that the check refuses is not published, and its mode survives") {
    Host host;
    std::ofstream(host.places.web_config) << "# x\n";
    ::chmod(host.places.web_config.c_str(), 0604);
    host.world.check_web_config = [&](const std::string& path) -> Result<> {
        CHECK(text_of(path).find("cert_file") != std::string::npos);
        return fail(Code::invalid, "check", path, "no");
    };
    CHECK(why(host.rotate()).find("no") != std::string::npos);
    CHECK(text_of(host.places.web_config) == "# x\n");
    host.world.check_web_config = {};
    host.now += 1h;
    must(host.rotate());
    struct stat status {};
    REQUIRE(::stat(host.places.web_config.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0604);
    CHECK_FALSE(fs::exists(host.places.web_config + ".promwarden"));
}

TEST_CASE("clients are asked for certificates where the policy says so, by a bundle that is theirs or ours") {
    Host host;
    host.policy.tls.require_client_certificate = true;
    must(host.rotate());
    auto web = must(prometheus::read_web_tls("", text_of(host.places.web_config)));
    CHECK(web.client_auth_type == "RequireAndVerifyClientCert");
    CHECK(web.client_ca_file == host.places.prometheus + "/tls/authorities.pem");
    std::ofstream(host.places.web_config) << "tls_server_config:\n  client_ca_file: /theirs\n";
    must(host.rotate());
    web = must(prometheus::read_web_tls("", text_of(host.places.web_config)));
    CHECK(web.client_ca_file == "/theirs");
}

TEST_CASE("nginx: one file names both halves, and it is read again; plain files: one link") {
    Host host;
    host.policy.tls.certificates.clear();
    host.add("proxy", CertificatePolicy::Install::nginx);
    host.add("scrape", CertificatePolicy::Install::files, false);
    must(host.rotate());
    const auto conf = text_of(host.places.nginx + "/tls/proxy.conf");
    CHECK(conf.find("ssl_certificate " + host.places.nginx + "/tls/proxy/1/cert.pem;\n") != std::string::npos);
    CHECK(conf.find("ssl_certificate_key " + host.places.nginx + "/tls/proxy/1/key.pem;\n") != std::string::npos);
    CHECK(host.reloads == 1);
    host.reload_fails = "emerg";
    CHECK(why(host.rotate(true)).find("the one before is back") != std::string::npos);
    CHECK(text_of(host.places.nginx + "/tls/proxy.conf") == conf);
    CHECK(host.reloads == 3);
    must(host.rotate(false, false, 1));
    const auto current = host.places.prometheus + "/tls/scrape/current";
    CHECK(fs::read_symlink(current) == "1");
    must(host.rotate(true, false, 1));
    CHECK(fs::read_symlink(current) == "2");
    const auto client = host.look().certificates[1];
    CHECK(client.problems.empty());
    CHECK(client.leaf->client);
    CHECK_FALSE(client.leaf->server);
}

TEST_CASE("an issuer's command: the request goes out, the chain comes back, and is not believed") {
    Host host;
    host.policy.tls.issuers = {{"acme", {"/bin/acme"}}};
    host.policy.tls.certificates[0].issuer = "acme";
    const auto ca_key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto ca = must(tls::make_root(ca_key, "their root", {host.now - 1h, host.now + 365 * day}));
    const auto issuing_key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto issuing = must(tls::make_issuing(issuing_key, "their issuer", ca, ca_key, {}, {host.now - 1h, host.now + 365 * day}));
    const auto other = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto chain = must(must(tls::make_leaf(other, {tls::Use::server, {"prometheus.example.org", "10.0.0.5"}, {}}, issuing, issuing_key, {host.now - 1h, host.now + 90 * day})).followed_by(issuing));
    std::string answer = chain.pem();
    host.world.sign = [&](const TlsPolicy::Issuer& issuer, const std::string& request) -> Result<std::string> {
        CHECK(issuer.name == "acme");
        CHECK(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        if (answer.empty()) return fail(Code::failed, "run issuer", "acme", "rate limited");
        return answer;
    };
    CHECK(why(host.rotate()).find("is for another key") != std::string::npos);
    answer = "<html>";
    CHECK(why(host.rotate()).find("something in it that is no certificate") != std::string::npos);
    answer.clear();
    CHECK(why(host.rotate()).find("rate limited") != std::string::npos);
    CHECK(host.look().certificates[0].record.attempts == 3);
    CHECK_FALSE(host.look().certificates[0].leaf);
}

TEST_CASE("what an issuer says") {
    Host host;
    const auto key = must(tls::Key::generate(tls::Key::Kind::ecdsa_p256));
    const auto pem = must(tls::make_root(key, "x", {host.now, host.now + day})).pem();
    const auto with = must(rotation::parse_signed("renewal-window: 2026-12-01T00:00:00Z 2026-12-02T00:00:00Z\n" + pem, "acme"));
    REQUIRE(with.window);
    CHECK(with.window->second - with.window->first == day);
    CHECK_FALSE(must(rotation::parse_signed("renewal-window: 2026-12-02T00:00:00Z 2026-12-01T00:00:00Z\n" + pem, "acme")).window);
    CHECK_FALSE(must(rotation::parse_signed(pem, "acme")).window);
    CHECK_FALSE(rotation::parse_signed("renewal-window: tomorrow\n" + pem, "acme"));
    CHECK_FALSE(rotation::parse_signed("renewal-window: ", "acme"));
}

TEST_CASE("the authority changes: both are believed before the new one signs, and the old one only until nobody shows its certificates") {
    Host host;
    host.add("scrape", CertificatePolicy::Install::files, false);
    must(host.rotate());
    must(host.rotate(false, false, 1));
    const auto bundle = host.places.prometheus + "/tls/authorities.pem";
    const auto roots = [&] { return must(tls::Chain::parse(text_of(bundle), "")).certificates(); };
    const auto before = host.look();
    REQUIRE(roots().size() == 1);
    const auto old = roots()[0];
    CHECK(must(host.open().roll_over(true)) == rotation::Step::overlap);
    REQUIRE(roots().size() == 2);
    CHECK(roots()[0] == old);
    CHECK(host.look().certificates[0].leaf == before.certificates[0].leaf);
    CHECK(host.look().rollover == "overlap");
    host.shows = before.certificates[0].leaf->fingerprint;  // somebody keeps it from being served
    host.now += 1h;
    CHECK_FALSE(host.open().roll_over(false));
    CHECK(roots().size() == 2);
    CHECK(host.look().rollover == "reissue");
    host.shows.clear();
    CHECK(must(host.open().roll_over(false)) == rotation::Step::none);
    REQUIRE(roots().size() == 1);
    CHECK(roots()[0] != old);
    const auto after = host.look();
    CHECK(after.rollover.empty());
    for (const auto& certificate : after.certificates) CHECK(certificate.problems.empty());
    for (const auto index : {0u, 1u}) {
        CHECK(after.certificates[index].leaf->issuer != before.certificates[index].leaf->issuer);
        CHECK(after.certificates[index].leaf->public_key == before.certificates[index].leaf->public_key);
    }
    CHECK(text_of(host.places.state + "/tls/authority/retired/root-1.pem").starts_with("-----BEGIN CERTIFICATE-----"));
    CHECK_FALSE(fs::exists(host.places.state + "/tls/authority/roots/1"));
    must(host.rotate());
}

TEST_CASE("a policy with another name gets an issuing authority that may sign it, under the same root") {
    Host host;
    must(host.rotate());
    const auto bundle = text_of(host.places.prometheus + "/tls/authorities.pem");
    const auto issuer = host.look().certificates[0].leaf->issuer;
    host.policy.tls.certificates[0].names.emplace_back("other.example.net");
    CHECK(host.look().certificates[0].problems == std::vector<std::string>{"it is not for 'other.example.net'"});
    CHECK(host.open().rotate_due().size() == 1);
    CHECK(host.look().certificates[0].problems.empty());
    CHECK(host.look().certificates[0].leaf->issuer != issuer);
    CHECK(text_of(host.places.prometheus + "/tls/authorities.pem") == bundle);
}

TEST_CASE("the probe has a certificate of its own, where it has a place for one") {
    Host host;
    fs::create_directory(host.places.probe);
    (void)host.open().rotate_due();
    const auto pem = text_of(host.places.probe + "/client.pem");
    CHECK(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    CHECK(pem.ends_with("-----END PRIVATE KEY-----\n"));
    host.now += 1h;
    (void)host.open().rotate_due();
    CHECK(text_of(host.places.probe + "/client.pem") == pem);
    host.now += 25 * day;
    (void)host.open().rotate_due();
    CHECK(text_of(host.places.probe + "/client.pem") != pem);
}

TEST_CASE("a certificate that another tool renews is judged, never written, and its service made to read it") {
    Host host;
    must(host.rotate());
    const auto web = text_of(host.places.web_config);
    host.policy.tls.certificates[0].issuer = "watch";
    CHECK(host.look().certificates[0].problems.empty());
    CHECK(host.look().certificates[0].leaf);
    const auto due = [&] { return rotation::next_run(host.policy, host.look(), host.now) <= host.now; };
    CHECK(due());
    auto outcomes = host.open().rotate_due();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].note == "another tool renews it");
    CHECK(outcomes[0].served == true);
    CHECK_FALSE(due());
    CHECK(host.open().rotate_due().empty());
    CHECK_FALSE(host.rotate());
    CHECK(text_of(host.places.web_config) == web);
    // It renews: by the same pair under another name, as far as we can tell.
    host.policy.tls.certificates[0].issuer = "local";
    must(host.rotate());
    host.policy.tls.certificates[0].issuer = "watch";
    const auto renewed = *host.look().certificates[0].leaf;
    SUBCASE("and it is served") {
        outcomes = host.open().rotate_due();
        REQUIRE(outcomes.size() == 1);
        CHECK(outcomes[0].action == tls::Action::renew);
        CHECK(outcomes[0].note == "another tool renewed it");
        CHECK(host.look().certificates[0].record.seen == renewed.fingerprint);
    }
    SUBCASE("and the service does not show it: tried again later, not at once") {
        host.shows = "another";
        outcomes = host.open().rotate_due();
        REQUIRE(outcomes.size() == 1);
        CHECK(outcomes[0].action == tls::Action::none);
        CHECK(host.look().certificates[0].record.attempts == 1);
        CHECK(host.open().rotate_due().empty());
        host.shows.clear();
        host.now += 2min;
        CHECK(host.open().rotate_due().size() == 1);
        CHECK(host.look().certificates[0].record.attempts == 0);
    }
    SUBCASE("and what is there must not be served: said once, and left alone") {
        host.policy.tls.certificates[0].names.emplace_back("elsewhere.example.org");
        CHECK_FALSE(due());
        outcomes = host.open().rotate_due();
        REQUIRE(outcomes.size() == 1);
        CHECK(outcomes[0].note == "what another tool put there is left alone: it is not for 'elsewhere.example.org'");
        CHECK(host.open().rotate_due().empty());
        CHECK(host.look().certificates[0].record.attempts == 1);
        host.policy.tls.certificates[0].names.pop_back();
        CHECK(host.open().rotate_due().size() == 1);
        CHECK(host.look().certificates[0].record.attempts == 0);
    }
    host.now += 40 * day;
    REQUIRE(host.look().certificates[0].problems.size() == 1);
    CHECK(host.look().certificates[0].problems[0].starts_with("it expired at"));
}

TEST_CASE("nginx's configuration says where another tool keeps what it serves, and where that is shown") {
    Host host;
    must(host.rotate());
    const auto ours = host.places.prometheus + "/tls/prometheus/1";
    host.policy.tls.certificates.clear();
    auto& proxy = host.add("prometheus", CertificatePolicy::Install::nginx);
    proxy.issuer = "watch";
    const auto write = [&](const std::string& servers) { std::ofstream(host.places.nginx_config) << "events {}\nhttp {\ninclude conf.d/*.conf;\n" << servers << "}\n"; };
    const auto server = [&](const std::string& name, const std::string& pair) {
        return "server { listen 8443 ssl; listen [::1]:9443 ssl; listen 80; server_name " + name + "; ssl_certificate " + pair + "/cert.pem; ssl_certificate_key " + pair + "/key.pem; }\n";
    };
    write(server("other.example.org", "/nowhere") + server("prometheus.example.org", ours));
    const auto known = host.look().certificates[0];
    CHECK(known.certificate_file == ours + "/cert.pem");
    CHECK(known.problems.empty());
    CHECK(known.endpoints == std::vector{*parse_endpoint("127.0.0.1:8443"), *parse_endpoint("[::1]:9443")});
    CHECK(host.open().rotate_due().size() == 1);
    CHECK(host.reloads == 1);
    write(server("_", ours));  // the only one, whatever it is called
    CHECK(host.look().certificates[0].certificate_file == ours + "/cert.pem");
    write(server("a", ours) + server("b", "/nowhere"));
    CHECK(host.look().certificates[0].certificate_file.empty());
    write("server {");
    CHECK(host.look().certificates[0].problems.size() == 1);
}

TEST_CASE("clients of an authority that was removed: Prometheus forgets their sessions, or it is remembered that it may not have") {
    Host host;
    host.policy.tls.require_client_certificate = true;
    must(host.rotate());
    using Sessions = rotation::World::Sessions;
    auto answer = Sessions::kept;
    unsigned asked = 0;
    host.world.forget_sessions = [&](Time removed) -> Result<Sessions> {
        CHECK(removed == host.now);
        ++asked;
        return answer;
    };
    {
        auto rotator = host.open();
        CHECK(must(rotator.roll_over(false)) == rotation::Step::none);
        REQUIRE(rotator.notes().size() == 1);
        CHECK(rotator.notes()[0].find("until it is restarted") != std::string::npos);
    }
    CHECK(asked == 1);
    CHECK(host.look().removed == host.now);
    (void)host.open().rotate_due();  // goes on asking
    CHECK(asked == 2);
    answer = Sessions::ended;
    {
        auto rotator = host.open();
        (void)rotator.rotate_due();
        REQUIRE(rotator.notes().size() == 1);
        CHECK(rotator.notes()[0].find("was restarted") != std::string::npos);
    }
    CHECK_FALSE(host.look().removed);
    (void)host.open().rotate_due();
    CHECK(asked == 3);
    host.policy.tls.require_client_certificate = false;  // no clients, no sessions
    CHECK(must(host.open().roll_over(false)) == rotation::Step::none);
    CHECK_FALSE(host.look().removed);
}
