// web.yml, edited: what changes, what must not, what is refused.

#include <doctest/doctest.h>

#include "promwarden/prometheus.hpp"

using namespace promwarden;

namespace {

const prometheus::WebTls pair{"/p/3/cert.pem", "/p/3/key.pem", "", "", false};

std::string edited(std::string_view text, const prometheus::WebTls& wanted = pair) {
    const auto result = prometheus::edit_web_tls("web.yml", text, wanted);
    return result ? *result : "REFUSED " + result.error().detail;
}

}  // namespace

TEST_CASE("the two lines change, everything else stays byte for byte") {
    CHECK(edited("# ours\n"
                 "basic_auth_users:   # people\n"
                 "    alice: $2b$12$abc\n"
                 "\n"
                 "tls_server_config:\n"
                 "    key_file:  'old.key'   # the key\n"
                 "    min_version: TLS13\n"
                 "    cert_file: \"old \\\" odd.pem\"\n"
                 "# end") == "# ours\n"
                            "basic_auth_users:   # people\n"
                            "    alice: $2b$12$abc\n"
                            "\n"
                            "tls_server_config:\n"
                            "    key_file:  /p/3/key.pem   # the key\n"
                            "    min_version: TLS13\n"
                            "    cert_file: /p/3/cert.pem\n"
                            "# end");
    CHECK(edited("tls_server_config:\r\n  cert_file: a\r\n  key_file: b\r\n") == "tls_server_config:\r\n  cert_file: /p/3/cert.pem\r\n  key_file: /p/3/key.pem\r\n");
    CHECK(edited("tls_server_config: {cert_file: a, key_file: b}\n") == "tls_server_config: {cert_file: /p/3/cert.pem, key_file: /p/3/key.pem}\n");
    CHECK(edited("tls_server_config:\n  cert_file: |\n    x\n\n  key_file: a\n   b\n") == "tls_server_config:\n  cert_file: /p/3/cert.pem\n\n  key_file: /p/3/key.pem\n");
    CHECK(edited("x_\xc3\xa4: {\xc3\xb6: 1}\ntls_server_config: {'cert_file': \xc3\xa4\xc3\xb6, key_file: b}\n") ==
          "x_\xc3\xa4: {\xc3\xb6: 1}\ntls_server_config: {'cert_file': /p/3/cert.pem, key_file: /p/3/key.pem}\n");
}

TEST_CASE("what is missing is put in") {
    CHECK(edited("") == "tls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("{}\n") == "tls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("# kept\n{}  # kept, too\n# kept\n") == "# kept\n  # kept, too\n# kept\ntls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("# only words") == "# only words\ntls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("tls_server_config:   # later\nbasic_auth_users:\n  a: b\n") ==
          "tls_server_config:   # later\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\nbasic_auth_users:\n  a: b\n");
    CHECK(edited("tls_server_config:") == "tls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("basic_auth_users: {a: b}") == "basic_auth_users: {a: b}\ntls_server_config:\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    CHECK(edited("tls_server_config:\n   # hm\n   min_version: TLS12\n") ==
          "tls_server_config:\n   # hm\n   cert_file: /p/3/cert.pem\n   key_file: /p/3/key.pem\n   min_version: TLS12\n");
    CHECK(edited("tls_server_config: {min_version: TLS12}\n") == "tls_server_config: {cert_file: /p/3/cert.pem, key_file: /p/3/key.pem, min_version: TLS12}\n");
    prometheus::WebTls all = pair;
    all.client_auth_type = "RequireAndVerifyClientCert";
    all.client_ca_file = "/p/authorities.pem";
    CHECK(edited("tls_server_config:\n  cert_file: a\n  key_file: b\n", all) ==
          "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: /p/authorities.pem\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n");
    prometheus::WebTls odd{"/p/it's: odd", "/p/k", "", "", false};
    CHECK(edited("", odd) == "tls_server_config:\n  cert_file: '/p/it''s: odd'\n  key_file: /p/k\n");
    CHECK(prometheus::read_web_tls("web.yml", edited("", odd))->cert_file == "/p/it's: odd");
}

TEST_CASE("what cannot be edited safely is refused") {
    const auto refused = [](std::string_view text) { return edited(text).starts_with("REFUSED"); };
    CHECK(refused("tls_server_config: &a {cert_file: x, key_file: y}\nother: *a\n"));
    CHECK(refused("tls_server_config:\n  cert_file: &f x\n  key_file: y\nother: *f\n"));
    CHECK(refused("tls_server_config:\n  cert: |\n    PEM\n  key: |\n    PEM\n"));
    CHECK(refused("tls_server_config:\n  cert_file: [x]\n  key_file: y\n"));
    CHECK(refused("tls_server_config: text\n"));
    CHECK(refused("- a\n"));
    CHECK(refused("a: b\n---\nc: d\n"));
    CHECK(refused("a: b\n...\n"));
    CHECK(refused("tls_server_config: {}\ntls_server_config: {}\n"));
    CHECK(refused("a: [\n"));
}

TEST_CASE("a merge key is kept, and what it brings is overridden") {
    CHECK(edited("x: &x {cert_file: a, key_file: b}\ntls_server_config:\n  <<: *x\n  min_version: TLS12\n") ==
          "x: &x {cert_file: a, key_file: b}\ntls_server_config:\n  <<: *x\n  cert_file: /p/3/cert.pem\n  key_file: /p/3/key.pem\n  min_version: TLS12\n");
}

TEST_CASE("what it says now") {
    const auto web = prometheus::read_web_tls("web.yml", "tls_server_config:\n  cert_file: a.pem\n  client_auth_type: RequireAndVerifyClientCert\n");
    REQUIRE(web);
    CHECK(web->cert_file == "a.pem");
    CHECK(web->key_file.empty());
    CHECK(web->client_auth_type == "RequireAndVerifyClientCert");
    CHECK_FALSE(prometheus::read_web_tls("web.yml", "a: [\n"));
}
