#include <doctest/doctest.h>

#include "promwarden/prometheus.hpp"
#include "promwarden/template.hpp"

using namespace promwarden;
using yaml::Node;

namespace {

const Node& only(const yaml::Tree& tree) {
    REQUIRE(tree.documents.size() == 1);
    return *tree.documents.front();
}

std::string repeat(std::string_view text, std::size_t times) {
    std::string result;
    for (std::size_t i = 0; i < times; ++i) result += text;
    return result;
}

yaml::Problem problem(std::string_view text) {
    const auto tree = yaml::read(text);
    REQUIRE_FALSE(tree.has_value());
    return tree.error();
}

}  // namespace

TEST_CASE("yaml: every key and value has its place, quotes and tag") {
    const auto tree = yaml::read("a:\n  - x\n  - \"y\"\nb: {c: !vault 1}\n").value();
    const auto& root = only(tree);
    REQUIRE(root.entries.size() == 2);
    CHECK(root.entries[0].at.line == 1);
    CHECK(root.entries[1].at.line == 4);
    const auto& items = root.find("a")->items;
    REQUIRE(items.size() == 2);
    CHECK(items[1]->at.line == 3);
    CHECK(items[1]->at.column == 5);
    CHECK(items[0]->plain);
    CHECK_FALSE(items[1]->plain);
    const auto* c = root.find("b")->entry("c");
    CHECK(c->at.column == 5);
    CHECK(c->value->text == "1");
    CHECK(c->value->tag == "!vault");
}

TEST_CASE("yaml: nothing, ~ and null are null; quoted they are text") {
    const auto tree = yaml::read("a:\nb: ~\nc: null\nd: 'null'\ne: ''\n").value();
    const auto& root = only(tree);
    CHECK(root.find("a")->null());
    CHECK(root.find("b")->null());
    CHECK(root.find("c")->null());
    CHECK_FALSE(root.find("d")->null());
    CHECK_FALSE(root.find("e")->null());
}

TEST_CASE("yaml: an alias is the same node, and merge keys give way to what is written") {
    const auto tree = yaml::read("base: &base {x: 1, y: 2}\none: {<<: *base, y: 3}\ntwo: {<<: [*base, {z: 4, x: 9}]}\nsame: *base\n").value();
    const auto& root = only(tree);
    CHECK(root.find("base") == root.find("same"));
    const auto& one = *root.find("one");
    CHECK(one.find("x")->text == "1");
    CHECK(one.entry("x")->merged);
    CHECK(one.entry("x")->at.line == 1);
    CHECK(one.find("y")->text == "3");
    CHECK(one.find("<<") == nullptr);
    const auto& two = *root.find("two");
    CHECK(two.find("x")->text == "1");
    CHECK(two.find("z")->text == "4");
}

TEST_CASE("yaml: repeated keys are marked, the first one is found") {
    for (const std::size_t filler : {0, 40}) {
        std::string text = "a: 1\n";
        for (std::size_t i = 0; i < filler; ++i) text += "k" + std::to_string(i) + ": 0\n";
        text += "a: 2\n";
        const auto tree = yaml::read(text).value();
        CHECK(only(tree).find("a")->text == "1");
        CHECK(only(tree).entries.back().repeated);
        CHECK_FALSE(only(tree).entries.front().repeated);
    }
}

TEST_CASE("yaml: an unquoted template is a scalar that nobody knows yet") {
    const auto tree = yaml::read("password: {{ vault_password }}\n").value();
    const auto* value = only(tree).find("password");
    CHECK(value->templated);
    CHECK(value->kind == Node::Kind::scalar);
    CHECK(value->scalar().empty());
}

TEST_CASE("yaml: several documents, and a text without any") {
    CHECK(yaml::read("a: 1\n---\nb: 2\n")->documents.size() == 2);
    CHECK(yaml::read("")->documents.empty());
    CHECK(yaml::read("# nothing\n")->documents.empty());
}

TEST_CASE("yaml: what is wrong is told with its place") {
    CHECK(problem("a: 1\n  b: 2\n").at.line == 2);
    CHECK(problem("a: [1, 2\nb: 3\n").at.line == 2);
    CHECK(problem("a: *nowhere\n").message == "an alias names an anchor that does not exist");
    CHECK(problem("a: &a [*a]\n").message == "an alias contains itself");
    CHECK(problem(std::string("a: \0b", 5)).at.line == 1);
    CHECK(problem("a: \xff\xfe\n").message.find("UTF-8") != std::string::npos);
}

TEST_CASE("yaml: depth, aliases and size are bounded") {
    CHECK(yaml::read(repeat("[", 199) + repeat("]", 199)).has_value());
    const auto deep = problem(repeat("[", 1000) + repeat("]", 1000));
    CHECK(deep.limit);
    CHECK(deep.message == "nested deeper than 200 levels");
    std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 10; ++i) {
        const auto before = "*a" + std::to_string(i - 1);
        laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
        for (int j = 1; j < 10; ++j) laughs += ", " + before;
        laughs += "]\n";
    }
    const auto many = problem(laughs);
    CHECK(many.limit);
    CHECK(many.message == "its aliases stand for too many values");
    std::string chain = "a0: &a0 []\n";
    for (int i = 1; i < 300; ++i) chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
    CHECK(problem(chain).message == "its aliases nest deeper than 200 levels");
    std::string merges = "m0: &m0 {k0: 0}\n";
    for (int i = 1; i < 3000; ++i) merges += "m" + std::to_string(i) + ": &m" + std::to_string(i) + " {<<: *m" + std::to_string(i - 1) + ", k" + std::to_string(i) + ": 0}\n";
    CHECK(problem(merges).limit);
    CHECK(problem(repeat(" ", (64 << 20) + 1)).message == "longer than 64 MiB");
}

TEST_CASE("kinds: told from the content") {
    using prometheus::FileKind;
    const std::pair<const char*, FileKind> cases[] = {
        {"global:\n  scrape_interval: 15s\n", FileKind::prometheus},
        {"global:\n", FileKind::prometheus},
        {"scrape_configs:\n  - job_name: a\n", FileKind::prometheus},
        {"- job_name: a\n", FileKind::scrape_configs},
        {"job_name: a\nstatic_configs: []\n", FileKind::scrape_configs},
        {"tls_server_config: {cert_file: a, key_file: b}\n", FileKind::web},
        {"basic_auth_users: {a: b}\n", FileKind::web},
        {"groups:\n  - name: a\n    rules: []\n", FileKind::rules},
        {"- alert: A\n  expr: up == 0\n", FileKind::rules},
        {"alert: A\nexpr: up == 0\n", FileKind::rules},
        {"basic_auth: {username: a}\ntls_config: {ca_file: b}\n", FileKind::http_client},
        {"- targets: ['a:1']\n  labels: {b: c}\n", FileKind::targets},
        {"global:\n  resolve_timeout: 5m\nroute: {receiver: a}\nreceivers: []\n", FileKind::unknown},
        {"positions: {filename: a}\nclients: []\nscrape_configs: []\n", FileKind::unknown},
        {"apiVersion: v1\nkind: ConfigMap\n", FileKind::unknown},
        {"services:\n  prometheus: {}\n", FileKind::unknown},
        {"rule_files: [a.yml]\ntests: []\n", FileKind::unknown},
        {"just text\n", FileKind::unknown},
        {"", FileKind::unknown},
    };
    for (const auto& [text, kind] : cases) {
        CAPTURE(text);
        CHECK(prometheus::to_text(prometheus::read_document("f", text).kind) == prometheus::to_text(kind));
    }
    CHECK(prometheus::read_document("f", "{}", FileKind::web).kind == FileKind::web);
    CHECK(prometheus::file_kind("web") == FileKind::web);
    CHECK_FALSE(prometheus::file_kind("unknown").has_value());
}

TEST_CASE("templates: what every rendering has in common, in its lines and columns") {
    const auto marks = [](std::size_t count) {
        std::string text;
        while (count-- > 0) text += prometheus::filled_later;
        return text;
    };
    const auto clean = prometheus::without_templates("{# about #}\na: {{ x }}:1\n{% for h in hosts %}\n- b\n{% endfor %}\nc\n{{- range .X }}\nd: '{{ é }}'\n{{- end }}\n%{ for x in y ~}\n<% if a %>e<%= f %>\n");
    CHECK(clean.text == "#\na: " + marks(7) + ":1\n#\n- b\n#\nc\n#\nd: '" + marks(7) + "'\n#\n#\n          e" + marks(8) + "\n");
    CHECK(clean.conditional == std::vector<bool>{false, false, true, true, true, false, true, true, true, true, true, true});
    CHECK(prometheus::without_templates("a {{ b").text == "a {{ b");
    for (const auto* name : {"prometheus.yml.j2", "d/prometheus.tmpl", "prometheus.yml.tpl", "prometheus.tpl.yml"}) CHECK(prometheus::is_template_name(name));
    for (const auto* name : {"prometheus.yml", "d.tpl/prometheus.yml", "interior.yml"}) CHECK_FALSE(prometheus::is_template_name(name));
}

TEST_CASE("templates: a text that is YAML only without its marks is read") {
    const auto document = prometheus::read_document("f", "scrape_configs:\n{% for h in hosts %}\n  - job_name: {{ h }}\n    scheme: {{ s }}x\n{% endfor %}\n");
    CHECK(document.kind == prometheus::FileKind::prometheus);
    CHECK_FALSE(document.problem.has_value());
    CHECK(document.root->find("scrape_configs")->items.front()->entry("scheme")->at.line == 4);
    const auto broken = prometheus::read_document("f", "scrape_configs:\n  - job_name: {{ h }}\n {{ y }}: [\n");
    CHECK(broken.problem.has_value());
}

TEST_CASE("kinds: what a file looks like that is none of ours") {
    CHECK(prometheus::read_document("f", "").note == prometheus::empty_file);
    CHECK(prometheus::read_document("f", "# a\n---\n").note == prometheus::empty_file);
    CHECK(prometheus::read_document("f", "ALERT Down\n  IF up == 0\n  LABELS { a = \"b\" }\n").note == "a rule file of Prometheus 1");
    CHECK(prometheus::read_document("f", "# Words\n\n```yaml\nscrape_configs: []\n```\n").kind == prometheus::FileKind::unknown);
    CHECK(prometheus::read_document("f", "metrics: {configs: []}\n").note == "a Grafana Agent configuration");
    const auto latin = prometheus::read_document("f", "global:\n  # caf\xe9\n  scrape_interval: 15s\n");
    REQUIRE(latin.problem.has_value());
    CHECK(latin.problem->at.line == 2);
    CHECK(latin.problem->at.column > 1);
}

TEST_CASE("kinds: a list that lost its indentation is still read, columns are those of the file") {
    const auto document = prometheus::read_document("f", "- alert: A\nexpr: up == 0\nfor: 5m\n");
    REQUIRE(document.problem.has_value());
    REQUIRE(document.repaired);
    const auto& item = *document.root->items.front();
    CHECK(item.find("expr")->text == "up == 0");
    CHECK(prometheus::in_file(document, item.entry("expr")->at).column == 1);
    CHECK(prometheus::in_file(document, item.entry("expr")->at).line == 2);
}

TEST_CASE("regular expressions are anchored, and a wrong one is no answer") {
    const std::string_view names[] = {"password", "db_password", "Password"};
    CHECK(prometheus::matches("password|secret", names).value() == std::vector{true, false, false});
    CHECK(prometheus::matches("(?i).*password.*", names).value() == std::vector{true, true, true});
    CHECK_FALSE(prometheus::matches("(", names).has_value());
}

TEST_CASE("schema: every secret with a twin names a key that exists") {
    using namespace prometheus;
    for (std::size_t i = 1; i < static_cast<std::size_t>(Shape::count_); ++i) {
        const auto shape = static_cast<Shape>(i);
        CAPTURE(to_text(shape));
        CHECK_FALSE(to_text(shape).empty());
        for (const auto name : key_names(shape)) {
            const auto* key = find_key(shape, name);
            REQUIRE(key != nullptr);
            if (key->twin.empty() || key->twin.find('.') != std::string_view::npos) continue;
            CAPTURE(name);
            CHECK(find_key(shape, key->twin) != nullptr);
        }
    }
}
