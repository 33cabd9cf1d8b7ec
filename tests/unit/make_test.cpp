// Changes of files, done and taken back: what is done only where it is expected, what is never followed, and what a fault leaves behind. Needs root, as its owner does.

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/apply.hpp"
#include "temporary.hpp"

namespace {

using namespace promwarden;
namespace fs = std::filesystem;

constexpr uid_t somebody = 4711;

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string& path, const std::string& text, mode_t mode = 0644, uid_t owner = 0) {
    std::ofstream(path) << text;
    REQUIRE(::chown(path.c_str(), owner, owner) == 0);
    REQUIRE(::chmod(path.c_str(), mode) == 0);
}

FileAccess access(const std::string& path) {
    struct stat status {};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    return {status.st_uid, status.st_gid, status.st_mode & 07777, {}};
}

Change change(std::string subject, Deed deed, Effect effect = Effect::none, Judge judge = Judge::nobody) { return {Change::Kind::file, "test.control", std::move(subject), "a test", "", std::move(deed), judge, effect}; }

SetAccess to_mode(const std::string& path, mode_t mode) {
    auto after = access(path);
    after.mode = mode;
    return {access(path), after};
}

WriteFile writes(std::optional<std::string> before, std::optional<std::string> after) {
    const auto contents = [](const std::optional<std::string>& text) { return text ? std::optional(Contents{{*text, ""}}) : std::nullopt; };
    return {contents(before), contents(after), {0, 0, 0640, {}}, {}};
}

Code code_of(const Result<bool>& result) {
    REQUIRE(!result);
    return result.error().code;
}

const Ground here;

}  // namespace

TEST_CASE("access is changed where it is what was expected, and only there") {
    const TemporaryDirectory directory;
    const auto path = directory / "key";
    put(path, "k");
    const auto closing = change(path, to_mode(path, 0640));
    CHECK(perform(here, closing) == true);
    CHECK(access(path).mode == 0640);
    CHECK(perform(here, closing) == false);
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    CHECK(code_of(perform(here, closing)) == Code::stale);
    CHECK(access(path).mode == 0666);
    const Change back{closing.kind, closing.control, path, "", "", inverse(Deed(to_mode(path, 0600)))};
    CHECK(perform(here, back) == false);  // it is what an undo would make of it
}

TEST_CASE("owner and group are changed with the mode") {
    const TemporaryDirectory directory;
    const auto path = directory / "key";
    put(path, "k", 0664, somebody);
    CHECK(perform(here, change(path, SetAccess{access(path), {0, somebody, 0640, {}}})) == true);
    CHECK(access(path) == FileAccess{0, somebody, 0640, {}});
}

TEST_CASE("nothing that could be somebody else's doing is changed") {
    const TemporaryDirectory directory;
    const auto theirs = directory / "theirs", victim = directory / "victim";
    fs::create_directory(theirs);
    put(victim, "root's", 0644);
    const auto path = theirs + "/file";
    SUBCASE("a link to a file of root's") {
        fs::create_symlink(victim, path);
        REQUIRE(::chown(theirs.c_str(), somebody, somebody) == 0);
        CHECK(code_of(perform(here, change(path, SetAccess{access(victim), {0, 0, 0600, {}}}))) == Code::untrusted);
    }
    SUBCASE("a second name of a file of root's") {
        fs::create_hard_link(victim, path);
        REQUIRE(::chown(theirs.c_str(), somebody, somebody) == 0);
        CHECK(code_of(perform(here, change(path, to_mode(path, 0600)))) == Code::untrusted);
    }
    SUBCASE("a pipe, which would hang whoever opens it") {
        REQUIRE(::mkfifo(path.c_str(), 0644) == 0);
        CHECK(code_of(perform(here, change(path, to_mode(path, 0600)))) == Code::untrusted);
        CHECK(code_of(perform(here, change(path, writes("x", "y")))) == Code::invalid);
    }
    SUBCASE("a directory on the way that is a link") {
        fs::create_directory_symlink(directory.path, directory / "way");
        CHECK(code_of(perform(here, change(directory / "way/victim", to_mode(victim, 0600)))) == Code::untrusted);
    }
    SUBCASE("a new file in a directory of theirs") {
        REQUIRE(::chown(theirs.c_str(), somebody, somebody) == 0);
        CHECK(code_of(perform(here, change(path, writes(std::nullopt, "x")))) == Code::untrusted);
        CHECK_FALSE(fs::exists(path));
    }
    SUBCASE("their own file, to be given away") {
        put(path, "x", 0644, somebody);
        REQUIRE(::chown(theirs.c_str(), somebody, somebody) == 0);
        CHECK(code_of(perform(here, change(path, SetAccess{access(path), {0, 0, 0644, {}}}))) == Code::untrusted);
        CHECK(perform(here, change(path, to_mode(path, 0640))) == true);  // what they could do themselves
    }
    SUBCASE("in a directory that others can write") {
        REQUIRE(::chmod(theirs.c_str(), 0777) == 0);
        put(path, "x", 0644);
        CHECK(code_of(perform(here, change(path, to_mode(path, 0600)))) == Code::untrusted);
    }
    CHECK(access(victim) == FileAccess{0, 0, 0644, {}});
    CHECK(text_of(victim) == "root's");
}

TEST_CASE("a text replaces the one that was expected, and keeps its owner and mode") {
    const TemporaryDirectory directory;
    const auto path = directory / "web.yml";
    put(path, "old\n", 0604, somebody);
    CHECK(code_of(perform(here, change(path, writes("other\n", "new\n")))) == Code::stale);
    CHECK(code_of(perform(here, change(path, writes(std::nullopt, "new\n")))) == Code::stale);
    CHECK(perform(here, change(path, writes("old\n", "new\n"))) == true);
    CHECK(text_of(path) == "new\n");
    CHECK(access(path) == FileAccess{somebody, somebody, 0604, {}});
    CHECK(perform(here, change(path, writes("old\n", "new\n"))) == false);
    CHECK(perform(here, change(path, writes("new\n", std::nullopt))) == true);
    CHECK_FALSE(fs::exists(path));
    CHECK(perform(here, change(path, writes("new\n", std::nullopt))) == false);
    put(directory / "target", "t");
    fs::create_symlink("target", path);
    CHECK(code_of(perform(here, change(path, writes("t", "x")))) == Code::invalid);
    CHECK(text_of(directory / "target") == "t");
}

TEST_CASE("a new file is made with its directory, and both go again") {
    const TemporaryDirectory directory;
    const auto path = directory / "unit.d/guard.conf";
    auto deed = writes(std::nullopt, "text");
    deed.directory = 0755;
    const auto making = change(path, deed);
    CHECK(perform(here, making) == true);
    CHECK(access(path).mode == 0640);
    CHECK(access(directory / "unit.d").mode == 0755);
    CHECK(perform(here, change(path, inverse(deed))) == true);
    CHECK_FALSE(fs::exists(directory / "unit.d"));
}

TEST_CASE("who judges a file sees it before it has its name") {
    const TemporaryDirectory directory;
    const auto path = directory / "prometheus.yml";
    put(path, "old");
    Ground judged;
    judged.judge = [&](Judge judge, const std::string& temporary, const std::string& name) -> Result<> {
        CHECK(judge == Judge::promtool_config);
        CHECK(name == path);
        CHECK(text_of(temporary) == "new");
        CHECK(text_of(path) == "old");
        return fail(Code::invalid, "check", name, "no");
    };
    CHECK(code_of(perform(judged, change(path, writes("old", "new"), Effect::none, Judge::promtool_config))) == Code::invalid);
    CHECK(text_of(path) == "old");
    CHECK(std::distance(fs::directory_iterator(directory.path), {}) == 1);
}

TEST_CASE("a piece of another file is not copied into what is remembered") {
    const TemporaryDirectory directory;
    const auto secret = directory / "secret", path = directory / "prometheus.yml";
    put(secret, "hunter2", 0640);
    put(path, "password: hunter2\n");
    const WriteFile deed{Contents{{"password: ", ""}, {"", secret}, {"\n", ""}}, Contents{{"password_file: secret\n", ""}}, {}, {}};
    CHECK(diff_of(path, deed).find("hunter2") == std::string::npos);
    CHECK(json_text(to_json(Deed(deed))).find("hunter2") == std::string::npos);
    CHECK(perform(here, change(path, deed)) == true);
    CHECK(text_of(path) == "password_file: secret\n");
    CHECK(perform(here, change(path, inverse(deed))) == true);
    CHECK(text_of(path) == "password: hunter2\n");
}

TEST_CASE("an edit remembers nothing but what it changes, and takes a secret out and back") {
    const TemporaryDirectory directory;
    const auto secret = directory / "promwarden/secret", path = directory / "prometheus.yml";
    const std::string before = "a: other-secret\npassword: 'hunter2' # why\nskip: true\nz: 1\n", after = "a: other-secret\npassword_file: s # why\nz: 1\n";
    put(path, before, 0640, somebody);
    REQUIRE(before.substr(27, 7) == "hunter2");
    WriteFile own{std::nullopt, Contents{{"", path, Piece::Part{27, 7}}}, {0, somebody, 0640, {}}, 02750};
    EditFile edit{{{24, 24, {{": '", ""}, {"", secret}, {"'", ""}}, {{"_file: s", ""}}}, {42, 39, {{"skip: true\n", ""}}, {{"", ""}}}}, sha256(before), sha256(after)};
    const auto moving = change(secret, own), editing = change(path, edit);
    for (const auto& one : {moving, editing}) {
        const auto written = json_text(to_json(one.deed));
        CHECK_FALSE(written.contains("hunter2"));
        CHECK_FALSE(written.contains("other-secret"));
        CHECK(read_deed(*parse_json(written)) == one.deed);
    }
    CHECK(diff_of(path, edit) == "- : '<hidden>'\n+ _file: s\n- skip: true\n");
    put(directory / ".prometheus.yml.promwarden-0123", before);  // of a run that was killed
    CHECK(perform(here, moving) == true);
    CHECK(perform(here, editing) == true);
    CHECK_FALSE(fs::exists(directory / ".prometheus.yml.promwarden-0123"));
    CHECK(text_of(secret) == "hunter2");
    CHECK(access(secret) == FileAccess{0, somebody, 0640, {}});
    CHECK(text_of(path) == after);
    CHECK(access(path) == FileAccess{somebody, somebody, 0640, {}});
    CHECK(perform(here, editing) == false);
    SUBCASE("back") {
        CHECK(perform(here, change(path, inverse(edit))) == true);
        CHECK(perform(here, change(secret, inverse(own))) == true);
        CHECK(text_of(path) == before);
        CHECK_FALSE(fs::exists(directory / "promwarden"));
    }
    SUBCASE("not over what somebody else wrote") {
        put(path, after + "# mine\n");
        CHECK(code_of(perform(here, change(path, inverse(edit)))) == Code::stale);
        CHECK(code_of(perform(here, change(secret, inverse(own)))) == Code::stale);
        CHECK(text_of(secret) == "hunter2");
    }
    SUBCASE("not with another secret") {
        put(secret, "rotated");
        CHECK(code_of(perform(here, change(path, inverse(edit)))) == Code::stale);
        CHECK(text_of(path) == after);
    }
}

TEST_CASE("links are made, moved and removed") {
    const TemporaryDirectory directory;
    const auto path = directory / "site";
    CHECK(perform(here, change(path, PointLink{std::nullopt, "one"})) == true);
    CHECK(fs::read_symlink(path) == "one");
    CHECK(code_of(perform(here, change(path, PointLink{"other", "two"}))) == Code::stale);
    CHECK(perform(here, change(path, PointLink{"one", "two"})) == true);
    CHECK(fs::read_symlink(path) == "two");
    CHECK(perform(here, change(path, PointLink{"two", std::nullopt})) == true);
    CHECK_FALSE(fs::exists(fs::symlink_status(path)));
}

TEST_CASE("deeds survive being written down") {
    auto deed = writes("a", std::nullopt);
    deed.directory = 02750;
    const Deed all[] = {{}, SetAccess{{1, 2, 0640, {{AclEntry::Tag::user, 7, 4}, {AclEntry::Tag::mask, 0, 4}}}, {0, 0, 0600, {}}}, deed, WriteFile{Contents{{"", "/x"}, {"b", ""}}, Contents{}, {}, {}}, PointLink{"a", std::nullopt}};
    for (const auto& one : all) CHECK(read_deed(to_json(one)) == one);
    CHECK_FALSE(read_deed(*parse_json(R"({"deed":"access","before":{}})")));
    CHECK_FALSE(read_deed(*parse_json(R"({"deed":"write","before":[1],"after":null})")));
    CHECK_FALSE(read_deed(*parse_json("[]")));
}

namespace {

/// Three files to be changed, the last with a service that has to take it up.
struct Work {
    TemporaryDirectory directory;
    std::string first = directory / "first", second = directory / "second", third = directory / "third";
    State state = *State::open(directory / "state");
    std::vector<Change> changes;
    std::vector<std::pair<Effect, std::size_t>> taken;
    Services services;

    Work() {
        put(first, "1", 0666);
        put(second, "2");
        changes = {change(first, to_mode(first, 0644)), change(second, writes("2", "two"), Effect::reload), change(third, writes(std::nullopt, "three"), Effect::reload)};
        services.take_up = [this](Effect effect, std::span<const Change> row) -> Result<> {
            taken.emplace_back(effect, row.size());
            return {};
        };
    }
    [[nodiscard]] bool untouched() const { return access(first).mode == 0666 && text_of(second) == "2" && !fs::exists(third); }
    [[nodiscard]] bool made() const { return access(first).mode == 0644 && text_of(second) == "two" && text_of(third) == "three"; }
};

}  // namespace

TEST_CASE("changes are made in order, and a service takes up those in a row at once") {
    Work work;
    CHECK(do_work(work.state, "policy", work.changes, work.services));
    CHECK(work.made());
    CHECK(work.taken == std::vector<std::pair<Effect, std::size_t>>{{Effect::reload, 2}});
    const auto journal = Journal::unfinished(work.state);
    REQUIRE(journal);
    REQUIRE(*journal);
    CHECK((*journal)->changes().size() == 3);
    CHECK((*journal)->keep(work.state));
    CHECK(undo_changes(work.state, work.services, false));
    CHECK(work.untouched());
    CHECK(changes_to_undo(work.state, false)->empty());
}

TEST_CASE("what cannot be taken up is taken back, all of it") {
    Work work;
    work.services.take_up = [&, calls = 0](Effect, std::span<const Change>) mutable -> Result<> { return calls++ == 0 ? fail(Code::failed, "reload", "the service", "it refused") : Result<>{}; };
    const auto done = do_work(work.state, "policy", work.changes, work.services);
    REQUIRE_FALSE(done);
    CHECK(done.error().text() == "reload the service: it refused (what was there before is there again)");
    CHECK(work.untouched());
    CHECK_FALSE(*Journal::unfinished(work.state));
}

TEST_CASE("a run that ended anywhere is taken back by the next, or kept where its policy was accepted") {
    Work work;
    for (std::size_t killed_after = 0; killed_after <= work.changes.size(); ++killed_after) {
        CAPTURE(killed_after);
        {
            auto journal = Journal::begin(work.state, "policy");
            REQUIRE(journal);
            for (std::size_t i = 0; i < killed_after; ++i) {
                REQUIRE(journal->intend(work.changes[i]));
                if (i + 1 < killed_after) REQUIRE(perform(here, work.changes[i]));  // the last was intended, not made
            }
        }
        CHECK(Journal::begin(work.state, "policy").error().code == Code::conflict);
        CHECK(recover_changes(work.state, work.services) == true);
        CHECK(work.untouched());
        CHECK(recover_changes(work.state, work.services) == false);
    }
}

TEST_CASE("an undo goes through what repairs wrote, and past what somebody else did before them") {
    Work work;
    REQUIRE(do_work(work.state, "policy", work.changes, work.services));
    REQUIRE((*Journal::unfinished(work.state))->keep(work.state));
    const auto repair = [&](const std::string& path, std::optional<std::string> before, std::optional<std::string> after) {
        const std::vector changes{change(path, writes(std::move(before), std::move(after)), Effect::reload)};
        REQUIRE(do_work(work.state, "policy", changes, work.services));
        REQUIRE((*Journal::unfinished(work.state))->keep_repair(work.state));
    };
    put(work.second, "somebody's");
    repair(work.second, "somebody's", "two");
    CHECK(changes_to_undo(work.state, false)->size() == 3);  // an undo knew of that text
    fs::remove(work.third);
    repair(work.third, std::nullopt, "newer");
    repair(work.second, "two", std::nullopt);
    const auto fourth = work.directory / "fourth";
    repair(fourth, std::nullopt, "only a repair's");
    CHECK(changes_to_undo(work.state, false)->size() == 6);
    CHECK(undo_changes(work.state, work.services, false));
    CHECK(work.untouched());
    CHECK_FALSE(fs::exists(fourth));
}

TEST_CASE("what somebody else changed since is left alone, and named") {
    Work work;
    REQUIRE(do_work(work.state, "policy", work.changes, work.services));
    REQUIRE((*Journal::unfinished(work.state))->keep(work.state));
    put(work.second, "somebody's");
    const auto undone = undo_changes(work.state, work.services, true);
    REQUIRE_FALSE(undone);
    CHECK(undone.error().subject == work.second);
    CHECK(text_of(work.second) == "somebody's");
    CHECK(access(work.first).mode == 0666);
    CHECK_FALSE(fs::exists(work.third));
}

TEST_CASE("a journal that lost its last line is read as far as it was durable") {
    Work work;
    REQUIRE(do_work(work.state, "policy", work.changes, work.services));
    const auto path = work.state.directory() + "/journal/open";
    fs::resize_file(path, fs::file_size(path) - 5);
    const auto journal = Journal::unfinished(work.state);
    REQUIRE(journal);
    CHECK((*journal)->changes().size() == 2);
}
