#include <doctest/doctest.h>

#include "promwarden/nginx.hpp"

using namespace promwarden;
using nginx::Answer;
using Credentials = nginx::Request::Credentials;

namespace {

class Memory final : public nginx::Files {
public:
    std::map<std::string, std::string> files;
    Result<std::string> read(const std::string& path) override {
        const auto found = files.find(path);
        if (found == files.end()) return fail(Code::missing, "open", path, "No such file or directory");
        return found->second;
    }
    Result<std::vector<std::string>> match(const std::string& pattern) override {
        std::vector<std::string> paths;
        const auto star = pattern.find('*');
        for (const auto& [path, text] : files)
            if (path.starts_with(pattern.substr(0, star)) && path.ends_with(pattern.substr(star + 1))) paths.push_back(path);
        return paths;
    }
};

std::string word(std::string_view text) {
    const auto tree = nginx::read("t", "x " + std::string(text) + ";");
    return tree.problem ? "problem: " + tree.problem->message : tree.directives.at(0).words.at(0).text;
}

std::string problem(std::string_view text) {
    const auto tree = nginx::read("t", text);
    REQUIRE(tree.problem);
    return std::to_string(tree.problem->at.line) + ":" + std::to_string(tree.problem->at.column) + " " + tree.problem->message;
}

Answer ask(std::string_view text, std::string target, Credentials credentials = Credentials::none, std::string user = {}) {
    static std::unique_ptr<const nginx::Configuration> kept;
    kept = nginx::compile(nginx::read("t", text));
    nginx::Request request;
    request.target = std::move(target);
    request.host = "h";
    request.credentials = credentials;
    request.user = std::move(user);
    return nginx::evaluate(*kept, request);
}

std::string path_of(std::string_view target, bool merge = true) {
    const auto read = nginx::parse_target(target, merge);
    return read ? read->path + (read->args.empty() ? "" : " ? " + read->args) : "400";
}

}  // namespace

TEST_CASE("nginx: quotes and escapes are nginx's own") {
    CHECK(word(R"("a b")") == "a b");
    CHECK(word(R"('a "b"')") == R"(a "b")");
    CHECK(word(R"("a\.b")") == R"(a\.b)");
    CHECK(word(R"("[\\;#]")") == R"([\;#])");
    CHECK(word(R"("[\\\\;#]")") == R"([\\;#])");
    CHECK(word(R"(a\ b)") == R"(a\ b)");
    CHECK(word(R"("\t\n\"")") == "\t\n\"");
    CHECK(word("${name}x") == "${name}x");
    CHECK(word("a#b") == "a#b");
    CHECK(word("\"\"") == "");
    CHECK(word(std::string(4095, 'a')).size() == 4095);
    CHECK(word(std::string(4096, 'a')).starts_with("problem: too long"));
}

TEST_CASE("nginx: every directive has its place, comments are none") {
    const auto tree = nginx::read("t", "# a comment { \nuser www; http {\n  server { # }\n    listen 80; } }\n");
    REQUIRE_FALSE(tree.problem);
    REQUIRE(tree.directives.size() == 2);
    CHECK(tree.directives[0].at == nginx::Place{0, 2, 1});
    const auto& listen = tree.directives[1].block.at(0).block.at(0);
    CHECK(listen.at == nginx::Place{0, 4, 5});
    CHECK(listen.words.at(0).at == nginx::Place{0, 4, 12});
}

TEST_CASE("nginx: what it would not read is a problem with a place") {
    CHECK(problem("a b") == "1:4 unexpected end of file, expecting \";\" or \"}\"");
    CHECK(problem("a {") == "1:4 unexpected end of file, expecting \"}\"");
    CHECK(problem("a;\n}") == "2:2 unexpected \"}\"");
    CHECK(problem("a \"b\"c;") == "1:6 unexpected \"c\"");
    CHECK(problem(";") == "1:1 unexpected \";\"");
    CHECK(problem("a \"b;").find("quote") != std::string::npos);
    std::string deep;
    for (int i = 0; i < 100; ++i) deep += "a {";
    CHECK(problem(deep).find("too deep") != std::string::npos);
}

TEST_CASE("nginx: blocks of Lua are skipped, whatever braces they hold") {
    const auto tree = nginx::read("t", "location / { content_by_lua_block { local s = \"}\" -- }\n --[[ } ]] x = [==[ } ]==] if a then b = {} end }\n return 200; }");
    REQUIRE_FALSE(tree.problem);
    REQUIRE(tree.directives.at(0).block.size() == 2);
    CHECK(tree.directives[0].block[0].code);
    CHECK(tree.directives[0].block[1].at.line == 3);
    CHECK(nginx::read("t", "a_by_lua_block { {").problem);
}

TEST_CASE("nginx: includes are spliced, and a missing one is a problem only where files are given") {
    Memory files;
    files.files = {{"/etc/nginx/conf.d/a.conf", "server { listen 80; }"}, {"/etc/nginx/conf.d/b.conf", "server { include inner; }"}, {"/etc/nginx/inner", "listen 81;"}};
    const auto tree = nginx::read("/etc/nginx/nginx.conf", "http { include conf.d/*.conf; }", "/etc/nginx", &files);
    REQUIRE_FALSE(tree.problem);
    REQUIRE(tree.directives[0].block.size() == 2);
    CHECK(tree.directives[0].block[1].block.at(0).at.file == 3);
    CHECK(tree.files[3] == "/etc/nginx/inner");
    CHECK(nginx::read("/etc/nginx/nginx.conf", "include none;", "/etc/nginx", &files).problem);
    CHECK_FALSE(nginx::read("/etc/nginx/nginx.conf", "include none*;", "/etc/nginx", &files).problem);
    const auto alone = nginx::read("x", "include none;");
    CHECK_FALSE(alone.problem);
    CHECK_FALSE(alone.complete);
    files.files["/etc/nginx/loop"] = "include loop;";
    const auto loop = nginx::read("/etc/nginx/nginx.conf", "include loop;", "/etc/nginx", &files);
    REQUIRE(loop.problem);
    CHECK(loop.problem->limit);
}

TEST_CASE("nginx: targets are decoded once, dot segments and slashes as nginx does") {
    CHECK(path_of("/a//b/../c?x=1#y") == "/a/c ? x=1");
    CHECK(path_of("/a//b", false) == "/a//b");
    CHECK(path_of("/%61%2fb") == "/a/b");
    CHECK(path_of("/a/%2e%2e/b") == "/b");
    CHECK(path_of("/a%3fb#c") == "/a?b");
    CHECK(path_of("/%2561") == "/%61");
    CHECK(path_of("/..") == "400");
    CHECK(path_of("/%") == "400");
    CHECK(path_of("/%00") == "400");
    CHECK(path_of("*") == "400");
    CHECK(path_of("/a b") == "400");
    CHECK(path_of("http://h:1/x") == "/x");
    CHECK(path_of("http://h?x") == "/ ? x");
}

TEST_CASE("nginx: how much of a configuration a text is") {
    const auto extent = [](std::string_view text) { return nginx::compile(nginx::read("t", text))->extent; };
    CHECK(extent("http { server { } }") == nginx::Extent::whole);
    CHECK(extent("upstream p { server 127.0.0.1:9090; } server { listen 80; }") == nginx::Extent::http);
    CHECK(extent("location /prometheus { proxy_pass http://127.0.0.1:9090; }") == nginx::Extent::server);
    CHECK(extent("auth_basic x; proxy_pass http://127.0.0.1:9090;") == nginx::Extent::location);
    CHECK(extent("worker_processes 4;") == nginx::Extent::none);
}

TEST_CASE("nginx: paths of findings") {
    const auto made = nginx::compile(nginx::read("t", "http { server { listen 80; } server { location /api/ { limit_except GET { deny all; } } location ~ ^/x { } } }"));
    const auto& server = *made->servers.at(1).level;
    CHECK(nginx::path_of(*made, *server.inside.at(0), "proxy_pass") == "http.server[1].location[/api/].proxy_pass");
    CHECK(nginx::path_of(*made, *server.inside.at(0)->inside.at(0)) == "http.server[1].location[/api/].limit_except");
    CHECK(nginx::path_of(*made, *server.inside.at(1)) == "http.server[1].location[~ ^/x]");
    CHECK(nginx::path_of(*made, server, "listen") == "http.server[1].listen");
    const auto part = nginx::compile(nginx::read("t", "location /p { proxy_pass http://a; }"));
    CHECK(nginx::path_of(*part, *part->servers.at(0).level->inside.at(0), "proxy_pass") == "location[/p].proxy_pass");
    const auto inner = nginx::compile(nginx::read("t", "proxy_pass http://a;"));
    CHECK(nginx::path_of(*inner, *inner->servers.at(0).level->inside.at(0), "proxy_pass") == "proxy_pass");
}

TEST_CASE("nginx: what cannot be known is unknown, never guessed") {
    const auto kind = [](std::string_view inside) { return ask("server { location / { " + std::string(inside) + " proxy_pass http://127.0.0.1:9090; } }", "/x").kind; };
    CHECK(kind("") == Answer::Kind::passed);
    CHECK(kind("if ($geoip_country_code = DE) { return 403; }") == Answer::Kind::unknown);
    CHECK(kind("access_by_lua_block { ngx.exit(403) }") == Answer::Kind::unknown);
    CHECK(kind("auth_request /auth;") == Answer::Kind::unknown);
    CHECK(kind("try_files $uri @x;") == Answer::Kind::unknown);
    CHECK(kind("allow {{ network }}; deny all;") != Answer::Kind::passed);
    CHECK(kind("if ($uri ~ \"(\") { return 403; }") == Answer::Kind::unknown);
    const auto hard = ask("server { location ~ ^/(a|aa)+$ { return 200; } }", "/" + std::string(100, 'a') + "!");
    CHECK(hard.kind == Answer::Kind::unknown);
    CHECK(hard.reason == "a regular expression takes too long");
}

TEST_CASE("nginx: a map compares without case, an expression with it") {
    constexpr std::string_view text = R"(map $remote_user $no { default 1; "~^admin$" 0; viewer 0; } server { auth_basic x; auth_basic_user_file y; location / { if ($no) { return 403; } proxy_pass http://p; } })";
    CHECK(ask(text, "/", Credentials::right, "admin").kind == Answer::Kind::passed);
    CHECK(ask(text, "/", Credentials::right, "Admin").status == 403);
    CHECK(ask(text, "/", Credentials::right, "VIEWER").kind == Answer::Kind::passed);
    CHECK(ask(text, "/").status == 403);  // the rewrite phase comes before the access phase
}

TEST_CASE("nginx: a circle of rewrites, maps and error pages ends") {
    CHECK(ask("server { location / { rewrite ^ /x last; } }", "/").status == 500);
    CHECK(ask("server { error_page 404 /x; recursive_error_pages on; location / { return 404; } }", "/").kind != Answer::Kind::passed);
    CHECK(ask("map $a $b { default $c; } map $x $c { default $b; } server { location / { if ($b) { return 403; } } }", "/").kind == Answer::Kind::unknown);
}

TEST_CASE("users: names, lines and roles") {
    for (const auto* name : {"a", "Alice", "b.o-b_1@example.org", "0", "a#b", "o'neil"}) CHECK_MESSAGE(nginx::is_user_name(name), name);
    for (const auto* name : {"", "a:b", "a b", "-a", "#a", "a\"b", "a\\b", "a\nb", "\x7f", "\xc3\xa9"}) CHECK_MESSAGE(!nginx::is_user_name(name), name);
    CHECK(!nginx::is_user_name(std::string(65, 'a')));

    CHECK(nginx::with_user("", "bob", "H") == "bob:H\n");
    CHECK(nginx::with_user("alice:A", "bob", "H") == "alice:A\nbob:H\n");
    CHECK(nginx::with_user("# x\nbob:1\nbobby:2\nbob:3:c\n", "bob", "H") == "# x\nbob:H\nbobby:2\n");
    CHECK(nginx::without_user("# x\nbob:1\nbobby:2\nbob:3\n", "bob") == "# x\nbobby:2\n");
    CHECK(!nginx::without_user("bobby:2\n", "bob"));

    AccessPolicy access;
    access.roles = {{"admin", {"user:alice", "group:bob"}}, {"night", {"user:alice", "user:nina"}}};
    CHECK(nginx::roles_of(access, "alice") == std::vector<std::string>{"admin", "night"});
    CHECK(nginx::roles_of(access, "bob") == std::vector<std::string>{"viewer"});
    CHECK(nginx::roles_of(access, "Alice") == std::vector<std::string>{"viewer"});
}

TEST_CASE("users: a password is hashed with a salt of its own") {
    const auto one = nginx::hash_password("secret"), two = nginx::hash_password("secret");
    REQUIRE((one && two));
    CHECK(one->starts_with("$6$"));
    CHECK(*one != *two);
    CHECK(nginx::read_passwords("a:" + *one + "\n").at(0).scheme == PasswordLine::Scheme::sha512);
    CHECK(!nginx::hash_password(""));
    CHECK(!nginx::hash_password(std::string(257, 'x')));
    CHECK(!nginx::hash_password(std::string("a\0b", 3)));
}

TEST_CASE("a file is tried in the place where it would be read") {
    ProxyServer server;
    server.configuration = "/etc/nginx/nginx.conf";
    server.prefix = "/etc/nginx";
    const auto add = [&](const char* path, const char* text) { server.texts.push_back({path, std::make_shared<const std::string>(text)}); };
    add("/etc/nginx/nginx.conf", "events {}\nhttp { include mime.types; include\n  \"sites-enabled/*\" ; # last\n}\n");
    add("/etc/nginx/mime.types", "types { }");
    add("/etc/nginx/sites-enabled/a", "server { listen 1; }");
    add("/etc/nginx/sites-enabled/z", "server { listen 2; }");
    server.matches["/etc/nginx/sites-enabled/*"] = {"/etc/nginx/sites-enabled/a", "/etc/nginx/sites-enabled/z"};
    SUBCASE("a new one, in the order of names, and no line is moved") {
        CHECK(nginx::text_with(server, "/etc/nginx/sites-enabled/p", "/new") ==
              "events {}\nhttp { include mime.types; include \"/etc/nginx/sites-enabled/a\"; include \"/new\"; include \"/etc/nginx/sites-enabled/z\"; # last\n}\n");
    }
    SUBCASE("instead of one that is there") {
        CHECK(nginx::text_with(server, "/etc/nginx/sites-enabled/a", "/a \"new\" one") ==
              "events {}\nhttp { include mime.types; include \"/a \\\"new\\\" one\"; include \"/etc/nginx/sites-enabled/z\"; # last\n}\n");
    }
    SUBCASE("in a file that is included itself") {
        server.texts[1] = {"/etc/nginx/mime.types", std::make_shared<const std::string>("include conf.d/*.conf;  # the rest")};
        CHECK(nginx::text_with(server, "/etc/nginx/conf.d/p.conf", "/new") == "events {}\nhttp { include \"/new\";  # the rest\n include\n  \"sites-enabled/*\" ; # last\n}\n");
    }
    SUBCASE("nowhere: a directory further down, a hidden name") {
        CHECK_FALSE(nginx::text_with(server, "/etc/nginx/sites-enabled/more/p", "/new"));
        CHECK_FALSE(nginx::text_with(server, "/etc/nginx/sites-enabled/.p", "/new"));
        CHECK_FALSE(nginx::text_with(server, "/etc/nginx/conf.d/p.conf", "/new"));
    }
    SUBCASE("files that include each other end somewhere") {
        server.texts[1] = {"/etc/nginx/mime.types", std::make_shared<const std::string>("include mime.types;")};
        CHECK(nginx::text_with(server, "/etc/nginx/sites-enabled/p", "/new"));
    }
}
