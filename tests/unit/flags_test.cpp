// Command lines as kingpin and systemd read them; the real prometheus is asked where it can be.

#include <array>
#include <cstdio>
#include <map>

#include <doctest/doctest.h>

#include "promwarden/unit.hpp"

using namespace promwarden;
using namespace promwarden::prometheus;

namespace {

using Files = std::map<std::string, std::string>;

CommandLine read(std::vector<std::string> words, std::optional<Version> version = 242, const Files& files = {}) {
    std::vector<Argument> arguments;
    for (auto& word : words) arguments.push_back({std::move(word), {}});
    return read_command_line("prometheus", arguments, {version, std::nullopt}, [&](const std::string& path) -> Result<std::string> {
        const auto found = files.find(path);
        if (found == files.end()) return fail_errno("open", path, ENOENT);
        return found->second;
    });
}

std::string first_problem(const CommandLine& line) { return line.problems.empty() ? "" : line.problems.front(); }
std::string value_of(const CommandLine& line, std::string_view name) { return line.find(name) == nullptr ? "(not given)" : line.find(name)->value; }

/// What the installed Prometheus says of a command line: the error behind its introduction, "" where it got as far as its configuration file.
std::string real_error(const std::vector<std::string>& words) {
    std::string command = "prometheus --config.file=/nonexistent";
    for (const auto& word : words) command += " '" + word + "'";
    FILE* pipe = ::popen((command + " 2>&1 </dev/null").c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::string text;
    std::array<char, 4096> block{};
    for (std::size_t got = 0; (got = std::fread(block.data(), 1, block.size(), pipe)) > 0;) text.append(block.data(), got);
    ::pclose(pipe);
    const auto line = text.substr(0, text.find('\n'));
    for (const std::string introduction : {"Error parsing commandline arguments: ", "Error parsing command line arguments: "})
        if (line.starts_with(introduction)) return line.substr(introduction.size());
    REQUIRE_MESSAGE(text.find("Error loading config") != std::string::npos, text);
    return "";
}

}  // namespace

TEST_CASE("every form of a flag") {
    const auto line = read({"--config.file=/a.yml", "--log.level", "warn", "--web.enable-lifecycle", "--no-web.enable-admin-api", "--enable-feature=agent,x", "--enable-feature", "y"});
    CHECK(line.problems.empty());
    CHECK(value_of(line, "config.file") == "/a.yml");
    CHECK(value_of(line, "log.level") == "warn");
    CHECK(value_of(line, "web.enable-lifecycle") == "true");
    CHECK(value_of(line, "web.enable-admin-api") == "false");
    CHECK(has_feature(line, "agent"));
    CHECK(has_feature(line, "y"));
    CHECK_FALSE(has_feature(line, "age"));
    CHECK(line.words.size() == 9);
}

TEST_CASE("@files: nested, with comments, in the place where they stand") {
    const Files files{{"a", "# a comment\n@b\n--log.level\nwarn\n"}, {"b", "--web.enable-admin-api\r\n"}};
    const auto line = read({"--web.enable-lifecycle", "@a"}, 242, files);
    CHECK(line.problems.empty());
    REQUIRE(line.flags.size() == 3);
    CHECK(line.flags[1] == Flag{"web.enable-admin-api", "true", "b", "--web.enable-admin-api"});
    CHECK(line.flags[2].file == "a");
    CHECK(read({"--log.level", "@level"}, 242, {{"level", "warn\n"}}).problems.empty());
    CHECK(value_of(read({"--", "@a"}, 242, files), "log.level") == "(not given)");
}

TEST_CASE("@files that cannot be read, or have no end, are said to be unread") {
    const auto missing = read({"@gone", "--web.enable-admin-api"});
    CHECK(first_problem(missing) == "failed to open arguments file \"gone\": open gone: no such file or directory");
    CHECK(missing.unread.size() == 1);
    CHECK(value_of(missing, "web.enable-admin-api") == "true");
    const auto endless = read({"@a"}, 242, {{"a", "--web.enable-lifecycle\n@a\n"}});
    CHECK(endless.unread.size() == 1);
    CHECK(endless.flags.size() < 40);
    std::string many;
    for (int i = 0; i < 5000; ++i) many += "--web.enable-lifecycle\n";
    CHECK(read({"@many"}, 242, {{"many", many}}).unread.size() == 1);
    CHECK(read({"@big"}, 242, {{"big", std::string(2 * 1024 * 1024, 'x')}}).unread.size() == 1);
}

TEST_CASE("the first error is Prometheus' own") {
    struct Case {
        std::vector<std::string> words;
        std::string problem;
    };
    const std::vector<Case> cases{
        {{"--web.tls-cert=a", "--web.tls-key=b"}, "unknown long flag '--web.tls-cert'"},
        {{"--web.tls-client-auth=RequireAndVerifyClientCert"}, "unknown long flag '--web.tls-client-auth'"},
        {{"--web.enable-admin-api=false"}, "unexpected false"},
        {{"--web.enable-lifecycle=true"}, "unexpected true"},
        {{"--no-web.enable-admin-api=false"}, "unexpected false"},
        {{"--no-log.level=info"}, "unknown long flag '--no-log.level'"},
        {{"--no-web.enable-admin-api", "--no-web.enable-lifecycle"}, ""},
        {{"--web.enable-admin-api", "--no-web.enable-admin-api"}, "flag 'web.enable-admin-api' cannot be repeated"},
        {{"--web.listen-address=a:1", "--web.listen-address=b:2"}, "flag 'web.listen-address' cannot be repeated"},
        {{"--web.listen-address=a:1", "--web.listen-address=b:2", "--bogus"}, "unknown long flag '--bogus'"},
        {{"--log.level"}, "expected argument for flag '--log.level'"},
        {{"--log.level", "--web.enable-lifecycle"}, "expected argument for flag '--log.level'"},
        {{"--log.level=loud"}, "unrecognized log level \"loud\""},
        {{"--log.format=x"}, "unrecognized log format \"x\""},
        {{"--storage.tsdb.retention.size=10G"}, "units: unknown unit G in 10G"},
        {{"--storage.tsdb.retention.size=10"}, "units: unknown unit  in 10"},
        {{"--storage.tsdb.retention.size=10GB", "--storage.tsdb.retention.time=15d"}, ""},
        {{"--storage.tsdb.retention.time=15"}, "not a valid duration string: \"15\""},
        {{"--storage.tsdb.retention.time=1d12h"}, ""},
        {{"--storage.tsdb.retention.time=12h1d"}, "not a valid duration string: \"12h1d\""},
        {{"--storage.tsdb.retention=15d"}, ""},
        {{"--query.max-samples=5e7"}, ""},
        {{"--query.max-samples=abc"}, "strconv.ParseFloat: parsing \"abc\": invalid syntax"},
        {{"-web.listen-address=:9090"}, "unknown short flag '-w'"},
        {{"-"}, "unknown short flag '-'"},
        {{"--enable-feature=a", "--enable-feature=b"}, ""},
        {{"--", "false"}, "unexpected false"},
        {{"--storage.tsdb.use-lockfile"}, ""},
    };
    for (const auto& one : cases) {
        CAPTURE(one.words);
        CHECK(first_problem(read(one.words)) == one.problem);
        CHECK(real_error(one.words) == one.problem);
    }
}

TEST_CASE("a switch with a value does not start, and counts as what was meant") {
    CHECK(value_of(read({"--web.enable-admin-api=false"}), "web.enable-admin-api") == "false");
    CHECK(value_of(read({"--no-web.enable-admin-api=false"}), "web.enable-admin-api") == "true");
    CHECK(value_of(read({"--web.enable-admin-api=true"}), "web.enable-admin-api") == "true");
}

TEST_CASE("versions differ") {
    CHECK(first_problem(read({"--web.listen-address=a:1", "--web.listen-address=b:2"}, 255)).empty());
    CHECK(first_problem(read({"--web.enable-otlp-receiver"}, 242)) == "unknown long flag '--web.enable-otlp-receiver'");
    CHECK(first_problem(read({"--web.enable-otlp-receiver"}, 300)).empty());
    CHECK(first_problem(read({"--storage.tsdb.retention=15d"}, 300)) == "unknown long flag '--storage.tsdb.retention'");
    CHECK(first_problem(read({"--rules.max-concurrent-evals=2"}, 253)).empty());
    CHECK(first_problem(read({"--web.enable-otlp-receiver", "--storage.tsdb.retention=15d"}, std::nullopt)).empty());
    const auto later = read({"--brand.new=1"}, 320);  // the table may not know it
    CHECK(later.problems.empty());
    CHECK(value_of(later, "brand.new") == "1");
    std::vector<Argument> lockfile{{"--storage.tsdb.no-lockfile", {}}};
    const auto none = [](const std::string& path) -> Result<std::string> { return fail_errno("open", path, ENOENT); };
    CHECK(read_command_line("prometheus", lockfile, {242, true}, none).problems.size() == 1);
    CHECK(read_command_line("prometheus", lockfile, {242, false}, none).problems.empty());
}

TEST_CASE("agent mode") {
    CHECK(first_problem(read({"--enable-feature=agent", "--storage.tsdb.retention.time=15d"})) == "The following flag(s) can not be used in agent mode: [\"--storage.tsdb.retention.time\"]");
    CHECK(first_problem(read({"--storage.agent.path=x"})) == "The following flag(s) can only be used in agent mode: [\"--storage.agent.path\"]");
    CHECK(first_problem(read({"--agent", "--storage.agent.path=x"}, 300)).empty());
}

TEST_CASE("what belongs to no flag is not shown: it may be a secret") {
    const auto line = read({"hunter2", "@secrets", "--web.enable-admin-api"}, 242, {{"secrets", "root:$6$hash\n"}});
    CHECK(line.problems.size() == 2);
    for (const auto& problem : line.problems) {
        CHECK(problem.find("hunter2") == std::string::npos);
        CHECK(problem.find("hash") == std::string::npos);
    }
    CHECK(value_of(line, "web.enable-admin-api") == "true");
    CHECK(first_problem(read({"--pass\x1bword=hunter2"})) == "unknown long flag '--pass?word'");
}

TEST_CASE("versions, durations, sizes") {
    CHECK(version_of("2.42.0+ds") == 242);
    CHECK(version_of("v3.1.0") == 301);
    CHECK_FALSE(version_of("devel"));
    CHECK(parse_flag_duration("15d") == std::chrono::hours(360));
    CHECK(parse_flag_duration("1h30m") == std::chrono::minutes(90));
    CHECK(parse_flag_duration("0") == std::chrono::milliseconds(0));
    for (const auto* bad : {"", "15", "d", "1x", "1h1h", "99999999999y"}) CHECK_FALSE(parse_flag_duration(bad));
    CHECK(parse_flag_size("512MB") == 512ULL * 1024 * 1024);
    CHECK(parse_flag_size("1.5KB") == 1536);
    for (const auto* bad : {"", "10G", "10", "GB", "-1B", "1e3B"}) CHECK_FALSE(parse_flag_size(bad));
}

// ---- units ----------------------------------------------------------------------------------------------------------

namespace {

std::vector<std::string> texts(const std::vector<Argument>& arguments) {
    std::vector<std::string> all;
    for (const auto& one : arguments) all.push_back(one.text);
    return all;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("unit files: continuation, comments, sections, places") {
    const auto assignments = unit::read_assignments("/x.service", "[Unit]\nDescription=a\n# c\n[Service]\nExecStart=/bin/p \\\n  --a \\\n# between\n  --b\nUser = prometheus \n;c\nnonsense\n");
    REQUIRE(assignments.size() == 3);
    CHECK(assignments[1].key == "ExecStart");
    CHECK(assignments[1].value == "/bin/p    --a    --b");
    CHECK(assignments[1].line == 5);
    CHECK(assignments[2].value == "prometheus");
    CHECK(assignments[2].line == 9);
}

TEST_CASE("drop-ins: the last wins, an empty assignment starts anew, lists add up") {
    auto assignments = unit::read_assignments("/lib/p.service", "[Service]\nUser=a\nExecStart=/bin/p $ARGS\nEnvironment=A=1 \"B=2 3\"\nEnvironmentFile=-/etc/default/p\nProtectSystem=full\nCapabilityBoundingSet=\n");
    const auto more = unit::read_assignments("/etc/p.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/opt/p --x\nEnvironment=C=4\nUser=b\n");
    assignments.insert(assignments.end(), more.begin(), more.end());
    const auto merged = unit::merge("p.service", assignments);
    CHECK(merged.fragment == "/lib/p.service");
    CHECK(merged.drop_ins == Words{"/etc/p.service.d/x.conf"});
    CHECK(merged.user == "b");
    CHECK(merged.exec_start == Words{"/opt/p", "--x"});
    CHECK(merged.environment == Words{"A=1", "B=2 3", "C=4"});
    REQUIRE(merged.environment_files.size() == 1);
    CHECK(merged.environment_files[0] == std::pair<std::string, bool>{"/etc/default/p", true});
    CHECK(merged.settings.at("ProtectSystem") == "full");
    CHECK(merged.settings.contains("CapabilityBoundingSet"));
    CHECK(unit::find(assignments, "Service", "ExecStart")->file == "/etc/p.service.d/x.conf");
}

TEST_CASE("specifiers of a template's instance") {
    const auto merged = unit::merge("prometheus@eu.service", unit::read_assignments("/p@.service", "[Service]\nUser=p-%i\nExecStart=/bin/p --x=%n %%h\n"));
    CHECK(merged.user == "p-eu");
    CHECK(merged.exec_start == Words{"/bin/p", "--x=prometheus@eu.service", "%h"});
}

TEST_CASE("words and quotes") {
    CHECK(unit::split_words("a 'b c' \"d \\\"e\" f\\ g \\x41") == Words{"a", "b c", "d \"e", "f g", "A"});
    CHECK(unit::split_words("") == Words{});
    CHECK(unit::split_words("--x='a b'c") == Words{"--x=a bc"});
    CHECK_FALSE(unit::split_words("a 'b"));
}

TEST_CASE("environment files") {
    unit::Environment environment;
    unit::read_environment(environment, "/etc/default/p", "# c\nARGS=\"--a --b\"\nB = x y  \nC='l $i'\nD=\"a\\\"b\"\n; c\nE=one\\\n two\nF=\n0bad=1\nnothing\nG=\"two\nlines\"\n");
    CHECK(environment.at("ARGS").value == "--a --b");
    CHECK(environment.at("ARGS").file == "/etc/default/p");
    CHECK(environment.at("B").value == "x y");
    CHECK(environment.at("C").value == "l $i");
    CHECK(environment.at("D").value == "a\"b");
    CHECK(environment.at("E").value == "one two");
    CHECK(environment.at("F").value.empty());
    CHECK(environment.at("G").value == "two\nlines");
    CHECK_FALSE(environment.contains("0bad"));
}

TEST_CASE("variables: $NAME alone is split, ${NAME} is put in, the file wins over Environment=") {
    unit::Environment environment;
    unit::add_environment(environment, Words{"ARGS=--from-unit", "X=1"}, "/p.service");
    unit::read_environment(environment, "/etc/default/p", "ARGS='--a --b=\"c d\"'\n");
    const auto line = unit::command_line(Words{"-@/bin/p", "$ARGS", "${ARGS}", "--x=${X}", "a$X", "$$X", "$NONE", "--n=${NONE}"}, environment, "/p.service");
    CHECK(texts(line) == Words{"/bin/p", "--a", "--b=c d", "--a --b=\"c d\"", "--x=1", "a$X", "$X", "--n="});
    CHECK(line[1].file == "/etc/default/p");
    CHECK(line[4].file == "/p.service");
    CHECK(texts(unit::command_line(Words{":/bin/p", "$ARGS"}, environment, "")) == Words{"/bin/p", "$ARGS"});
}
