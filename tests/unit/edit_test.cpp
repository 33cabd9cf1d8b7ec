// YAML, edited: what changes and what must not, by examples, on files as people write them, and on generated ones.

#include <algorithm>
#include <random>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "promwarden/edit.hpp"

using namespace promwarden;

namespace {

using Kind = yaml::Edit::Kind;

std::string edited(std::string_view text, const std::vector<yaml::Edit>& edits) {
    const auto result = yaml::edit("file", text, edits);
    return result ? *result : "REFUSED " + result.error().detail;
}
std::string set(std::string_view text, std::string path, std::string value) {
    return edited(text, {{Kind::set, std::move(path), std::move(value)}});
}
std::string replace(std::string_view text, std::string path, std::string name, std::string value) {
    return edited(text, {{Kind::replace, std::move(path), std::move(value), std::move(name)}});
}
std::string without(std::string_view text, std::string path) { return edited(text, {{Kind::remove, std::move(path)}}); }
std::string append(std::string_view text, std::string path, std::string value) {
    return edited(text, {{Kind::append, std::move(path), std::move(value)}});
}

constexpr std::string_view real = R"(# Our Prometheus. Ask monitoring@ before you touch it.
global:
    scrape_interval:     15s # By default, scrape targets every 15 seconds.
    external_labels: {'env': "prod", dc: "fra"}   # both matter

# Who shouts.
alerting:
    alertmanagers:
    - static_configs:
      - targets:
        - localhost:9093

rule_files:
# - "first_rules.yml"
- 'rules/*.yml'

x-tls: &tls
    ca_file: /etc/ssl/ca.pem
    insecure_skip_verify: true

scrape_configs:

-   job_name: "node"
    scheme: https
    tls_config:
        # for the lab only
        insecure_skip_verify: true    # remove me
        server_name: node
    basic_auth:
        "username": prom
        "password": 'hun#ter2'   # from the wiki
    metric_relabel_configs:
    - {action: labeldrop, regex: "password|token"}

-   job_name: other
    tls_config:
        insecure_skip_verify: true
    bearer_token: &pw s3cr3t
-   { job_name: flow, tls_config: { insecure_skip_verify: true, ca_file: x }, basic_auth: {username: u, password: p%w} }
-   job_name: shared
    tls_config: *tls
    static_configs: [{targets: ['a:1']}]
)";

/// The lines in which two texts differ, after what they begin and end with alike.
std::pair<std::string, std::string> change_of(std::string_view before, std::string_view after) {
    const auto lines = [](std::string_view text) {
        std::vector<std::string_view> all;
        while (!text.empty()) {
            const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
            all.push_back(text.substr(0, end));
            text.remove_prefix(end);
        }
        return all;
    };
    auto a = lines(before), b = lines(after);
    while (!a.empty() && !b.empty() && a.back() == b.back()) a.pop_back(), b.pop_back();
    std::ranges::reverse(a), std::ranges::reverse(b);
    while (!a.empty() && !b.empty() && a.back() == b.back()) a.pop_back(), b.pop_back();
    std::string one, other;
    for (const auto line : a) one.insert(0, line);
    for (const auto line : b) other.insert(0, line);
    return {one, other};
}

using Lines = std::pair<std::string, std::string>;

}  // namespace

TEST_CASE("a file as people write it") {
    CHECK(change_of(real, replace(real, "scrape_configs[0].basic_auth.password", "password_file", "/p/node")) ==
          Lines{"        \"password\": 'hun#ter2'   # from the wiki\n", "        \"password_file\": /p/node   # from the wiki\n"});
    CHECK(change_of(real, replace(real, "scrape_configs[1].bearer_token", "bearer_token_file", "/p/t")) ==
          Lines{"    bearer_token: &pw s3cr3t\n", "    bearer_token_file: &pw /p/t\n"});
    CHECK(
        change_of(real, replace(real, "scrape_configs[2].basic_auth.password", "password_file", "/p/f")).second ==
        "-   { job_name: flow, tls_config: { insecure_skip_verify: true, ca_file: x }, basic_auth: {username: u, password_file: /p/f} }\n");
    CHECK(change_of(real, without(real, "scrape_configs[0].tls_config.insecure_skip_verify")) ==
          Lines{"        insecure_skip_verify: true    # remove me\n", ""});
    CHECK(change_of(real, without(real, "scrape_configs[1].tls_config.insecure_skip_verify")) ==
          Lines{"    tls_config:\n        insecure_skip_verify: true\n", ""});
    CHECK(change_of(real, without(real, "scrape_configs[2].tls_config.insecure_skip_verify"))
              .second.starts_with("-   { job_name: flow, tls_config: { ca_file: x }, "));
    CHECK(change_of(real, set(real, "global.query_log_file", "/var/log/q.log")) == Lines{"", "    query_log_file: /var/log/q.log\n"});
    CHECK(change_of(real, append(real, "rule_files", "/p/rules.yml")) == Lines{"", "- /p/rules.yml\n"});
    CHECK(
        change_of(real, set(real, "scrape_configs[0].metric_relabel_configs[0].regex", "(?i).*(password|token).*")) ==
        Lines{"    - {action: labeldrop, regex: \"password|token\"}\n", "    - {action: labeldrop, regex: '(?i).*(password|token).*'}\n"});
    CHECK(change_of(real, set(real, "scrape_configs[0].authorization.credentials_file", "/p/c")) ==
          Lines{"", "    authorization:\n        credentials_file: /p/c\n"});
}

TEST_CASE("what would change something else is refused, and says what") {
    CHECK(without(real, "scrape_configs[3].tls_config.insecure_skip_verify") ==
          "REFUSED scrape_configs[3].tls_config.insecure_skip_verify cannot be changed alone: x-tls would change with it, by an alias or a "
          "merge key");
    CHECK(set("a: &x 1\nb: *x\n", "a", "2") == "REFUSED a cannot be changed alone: b would change with it, by an alias or a merge key");
    CHECK(set("a: &x 1\nb: *x\n", "b", "2").starts_with("REFUSED"));
    CHECK(set("a: &m {k: 1}\nb: {<<: *m, j: 2}\n", "a.k", "2") ==
          "REFUSED a.k cannot be changed alone: b.k would change with it, by an alias or a merge key");
    CHECK(set("a: &m {k: 1}\nb: {<<: *m, j: 2}\n", "b.k", "2") == "a: &m {k: 1}\nb: {<<: *m, k: '2', j: 2}\n");
    CHECK(set("a: &m {k: 1}\nb:\n  <<: *m\n", "b.k", "2").starts_with("REFUSED line 3: all that is in it comes from elsewhere"));
    CHECK(set("a: &x 1\n", "a", "2") == "a: &x '2'\n");
}

TEST_CASE("where a form is not understood, nothing is changed") {
    for (const auto text : {"? a\n: 1\n? b\n: 2\n", "a: !!str 1\nb: 2\n", "- a\n", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n",
                            "a: {{ x }}\nb: 2\n", "a: [\n", "a: 1\n...\n"}) {
        const auto result = set(text, "a.c", "x");
        INFO(text);
        CHECK(result.starts_with("REFUSED"));
    }
    CHECK(set("a: !!str 1\n", "a", "x").starts_with("REFUSED"));
    CHECK(set("a: 1\n", "a", "x\ny").starts_with("REFUSED"));
    CHECK(without("a: 1\n", "a").starts_with("REFUSED"));
    CHECK(without("a: 1\n", "b").starts_with("REFUSED there is no b"));
    CHECK(without("- a: 1\n  # about b\n  b: 2\n", "a").starts_with("REFUSED"));
    CHECK(without("x:\n- a: 1\n  # about b\n  b: 2\n", "x[0].a").starts_with("REFUSED line 2: a comment would go with it"));
    CHECK(replace("a: 1\nb: 2\n", "a", "b", "x").starts_with("REFUSED line 1: b is there already"));
    CHECK(set("a: [1]\n", "a[3].b", "x").starts_with("REFUSED there is no a[3].b"));
    CHECK(append("a: 1\n", "a", "x").starts_with("REFUSED"));
}

TEST_CASE("line ends, the missing last one, characters of several bytes") {
    CHECK(set("a:\r\n  b: 1\r\n", "a.c", "x") == "a:\r\n  c: x\r\n  b: 1\r\n");
    CHECK(without("a:\r\n  b: 1\r\n  c: 2", "a.c") == "a:\r\n  b: 1");
    CHECK(append("a:\n- 1", "a", "x") == "a:\n- 1\n- x");
    CHECK(set("# ä\nö: {ü: 'ß', c: 1}\n", "ö.c", "x") == "# ä\nö: {ü: 'ß', c: x}\n");
    CHECK(set("\xEF\xBB\xBF"
              "a: 1\nb: 2\n",
              "a", "x") ==
          "\xEF\xBB\xBF"
          "a: x\nb: 2\n");
    CHECK(set("# one\xC2\x85"
              "a: 1\n",
              "a", "x") ==
          "# one\xC2\x85"
          "a: x\n");
}

TEST_CASE("what is missing is made") {
    CHECK(set("", "a.b.c", "x") == "a:\n  b:\n    c: x\n");
    CHECK(set("a: {}\n", "a.b.c", "x") == "a: {b: {c: x}}\n");
    CHECK(set("a: ~\n", "a.b", "x") == "a: {b: x}\n");
    CHECK(set("a:   # later\nb: 1\n", "a.b", "x") == "a:   # later\n  b: x\nb: 1\n");
    CHECK(append("a: 1\n", "r", "x") == "a: 1\nr:\n  - x\n");
    CHECK(append("r:\na: 1\n", "r", "x") == "r:\n  - x\na: 1\n");
    CHECK(append("r: []\n", "r", "x") == "r: [x]\n");
    CHECK(append("r: [a, b ]\n", "r", "x y") == "r: [a, b, 'x y' ]\n");
    CHECK(append("r:\n  - a\n  - |\n    b\n\nc: 1\n", "r", "x") == "r:\n  - a\n  - |\n    b\n  - x\n\nc: 1\n");
}

TEST_CASE("where the characters of a secret stand") {
    const auto range_in = [](std::string_view text) -> std::string {
        const auto tree = yaml::read(text);
        REQUIRE(tree);
        const auto range = yaml::characters_of(text, *tree->documents.front()->find("k"));
        return range ? std::string(text.substr(range->at, range->length)) : "none";
    };
    CHECK(range_in("# ä\nk: hunter2 # c\n") == "hunter2");
    CHECK(range_in("k: 'hun#ter2'\n") == "hun#ter2");
    CHECK(range_in("k: \"a b\"\n") == "a b");
    CHECK(range_in("k: 'it''s'\n") == "none");
    CHECK(range_in("k: \"a\\tb\"\n") == "none");
    CHECK(range_in("k: |\n  a\n") == "none");
    CHECK(range_in("k: a\n  b\n") == "none");
}

// ---- generated documents --------------------------------------------------------------------------------------------

namespace {

/// Writes a document of nested mappings and lists in many styles, and remembers where its scalars are.
class Writer {
public:
    explicit Writer(unsigned seed) : random_(seed), end_(chance(5) ? "\r\n" : "\n") {}

    std::string document() {
        mapping("", "", 0);
        if (chance(4)) text_.erase(text_.size() - end_.size());
        return text_;
    }
    std::vector<std::string> scalars, mappings, lists;

    bool chance(unsigned one_in) { return random_() % one_in == 0; }
    std::string pick(const std::vector<std::string>& from) { return from[random_() % from.size()]; }

private:
    std::string below(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }
    std::string scalar() {
        return pick({"1", "plain", "'sin''gle'", "\"dou\\\"ble\"", "a b c", "'# no comment'", "http://x:1/y", "\"\"", "true", "ä€"});
    }
    std::string key(std::size_t number) { return fmt::format("{}{}", pick({"k", "long_key", "x-y"}), number); }
    std::string quoted(const std::string& key) { return chance(4) ? "\"" + key + "\"" : chance(5) ? "'" + key + "'" : key; }
    void comments(const std::string& indentation) {
        while (chance(4)) text_ += (chance(3) ? std::string() : indentation + pick({"# a: comment", "#- not an item", "# 'quote"})) + end_;
    }
    std::string trailing() { return chance(4) ? pick({" # why", "   # x: y", " #"}) : ""; }

    std::string flow(const std::string& path, int depth) {
        std::string text = chance(2) ? "{ " : "{";
        mappings.push_back(path);
        const auto count = 1 + random_() % 3;
        for (std::size_t i = 0; i < count; ++i) {
            const auto name = key(i), at = below(path, name);
            text += fmt::format("{}{}: ", i == 0 ? "" : ", ", quoted(name));
            if (depth < 2 && chance(4))
                text += flow(at, depth + 1);
            else
                text += pick({"1", "v", "'s, t'", "\"d\""}), scalars.push_back(at);
        }
        return text + (chance(2) ? " }" : "}");
    }

    /// The value of a key whose line is open.
    void value(const std::string& path, const std::string& indentation, int depth) {
        const auto kind = random_() % (depth < 4 ? 9 : 4);
        if (kind < 4) {
            text_ += " " + scalar() + trailing() + end_;
            scalars.push_back(path);
        } else if (kind == 4) {
            text_ += " " + flow(path, 0) + trailing() + end_;
        } else if (kind == 5) {
            text_ += " |" + end_ + indentation + "   block # text" + end_ + indentation + "   more" + end_;
            scalars.push_back(path);
        } else if (kind == 6) {
            text_ += trailing() + end_;
            list(path, indentation + pick({"", "  ", "    "}), depth + 1);
        } else {
            text_ += trailing() + end_;
            mapping(path, indentation + pick({" ", "  ", "    "}), depth + 1);
        }
    }

    void mapping(const std::string& path, const std::string& indentation, int depth, bool begun = false) {
        if (!path.empty()) mappings.push_back(path);
        const auto count = 1 + random_() % 4;
        for (std::size_t i = 0; i < count; ++i) {
            if (!begun || i > 0) {
                comments(indentation);
                text_ += indentation;
            }
            const auto name = key(i);
            text_ += quoted(name) + ":";
            value(below(path, name), indentation, depth);
        }
    }

    void list(const std::string& path, const std::string& indentation, int depth) {
        lists.push_back(path);
        const auto count = 1 + random_() % 3;
        for (std::size_t i = 0; i < count; ++i) {
            comments(indentation);
            const auto at = fmt::format("{}[{}]", path, i);
            const auto gap = pick({" ", "   "});
            text_ += indentation + "-" + gap;
            if (chance(2))
                mapping(at, indentation + " " + gap, depth, true);
            else
                text_ += scalar() + trailing() + end_, scalars.push_back(at);
        }
    }

    std::mt19937 random_;
    std::string end_, text_;
};

const yaml::Node* at(const yaml::Node* node, std::string_view path) {
    while (!path.empty()) {
        if (path.starts_with('.')) path.remove_prefix(1);
        if (path.starts_with('[')) {
            node = node->items[static_cast<std::size_t>(path[1] - '0')];
            path.remove_prefix(3);
        } else {
            const auto end = std::min(path.find_first_of(".["), path.size());
            node = node->find(path.substr(0, end));
            path.remove_prefix(end);
        }
        if (node == nullptr) return nullptr;
    }
    return node;
}

/// How many lines of one text are not in the other, in order.
std::size_t lines_in(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count(text, '\n')) + (!text.empty() && !text.ends_with('\n') ? 1 : 0);
}

}  // namespace

TEST_CASE("generated documents: one value changes, and says what was meant") {
    std::size_t refused = 0, done = 0;
    for (unsigned seed = 1; seed <= 1500; ++seed) {
        Writer writer(seed);
        const auto text = writer.document();
        const auto tree = yaml::read(text);
        INFO(seed, "\n", text);
        REQUIRE(tree);
        const auto value = writer.pick({"/etc/prometheus/x", "(?i).*(a|b).*", "it's: odd # so", "TLS12", "yes"});
        const auto path = writer.pick(writer.scalars);
        const auto scalar = edited(text, {{Kind::set, path, value}});
        INFO(path, "\n", scalar);
        const auto after = yaml::read(scalar);
        REQUIRE(after);  // every scalar can be set
        CHECK(at(after->documents.front(), path)->text == value);
        const bool block = at(tree->documents.front(), path)->text.find("# text") != std::string_view::npos;
        const auto [gone, come] = change_of(text, scalar);
        CHECK(lines_in(gone) <= (block ? 3 : 1));
        CHECK(lines_in(come) <= 1);

        std::vector<yaml::Edit> others{{Kind::remove, path}};
        if (!path.ends_with(']'))
            others.push_back({Kind::replace, path, value, "other_name"});
        else
            others.clear();
        if (!writer.mappings.empty()) others.push_back({Kind::set, writer.pick(writer.mappings) + ".new_key.deeper", value});
        if (!writer.lists.empty()) others.push_back({Kind::append, writer.pick(writer.lists), value});
        for (const auto& edit : others) {
            const auto result = edited(text, {edit});
            if (result.starts_with("REFUSED")) {
                ++refused;
                continue;
            }
            ++done;
            INFO(static_cast<int>(edit.kind), " ", edit.path, "\n", result);
            const auto read = yaml::read(result);
            REQUIRE(read);
            const auto [lost, new_ones] = change_of(text, result);
            const auto* now = at(read->documents.front(), edit.path);
            if (edit.kind == Kind::set) CHECK(now->text == value);
            if (edit.kind == Kind::append) CHECK(now->items.back()->text == value);
            if (edit.kind == Kind::remove || edit.kind == Kind::replace) CHECK(now == nullptr);
            if (edit.kind != Kind::remove) CHECK(lines_in(new_ones) <= (text.ends_with('\n') ? 2 : 3));  // the last line has an end now
            if (edit.kind == Kind::set || edit.kind == Kind::append) CHECK(lines_in(lost) <= 1);
        }
    }
    MESSAGE(done, " other edits were made, ", refused, " refused");
    CHECK(refused < done / 8);
}
