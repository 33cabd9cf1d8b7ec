// collect() on real files, and the text in which an accepted policy is stored.

#include <filesystem>
#include <fstream>
#include <thread>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "promwarden/policy.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace std::chrono_literals;

namespace {

void write(const std::string& path, std::string_view text, mode_t mode = 0644) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
}

/// What collect says, with the directory's name taken out.
std::string errors(const TemporaryDirectory& directory, const std::string& name = "policy.toml") {
    const auto sources = collect(directory / name);
    std::string text;
    if (sources) return text;
    for (const auto& diagnostic : sources.error()) text += (text.empty() ? "" : "\n") + to_text(diagnostic, false);
    for (auto at = text.find(directory.path.string()); at != std::string::npos; at = text.find(directory.path.string())) text.replace(at, directory.path.string().size(), "DIR");
    return text;
}

const std::string names_list = "schema = 1\n[firewall.sources]\noffice = [\"10.0.0.0/8\", \"@list.txt\"]\n";

}  // namespace

TEST_CASE("the main file, drop-ins in order of name, and the lists they name") {
    const TemporaryDirectory directory;
    write(directory / "policy.toml", names_list);
    std::filesystem::create_directory(directory / "policy.d");
    write(directory / "policy.d/20-b.toml", "[firewall.sources]\nmore = \"@" + (directory / "list.txt") + "\"\n");
    write(directory / "policy.d/10-a.toml", "[firewall.sources]\nbeside = \"@own.txt\"\n");
    write(directory / "policy.d/README", "not read");
    write(directory / "policy.d/.hidden.toml", "not read");
    write(directory / "list.txt", "192.0.2.0/24\n");
    write(directory / "policy.d/own.txt", "198.51.100.0/24\n");
    const auto sources = collect(directory / "policy.toml");
    REQUIRE_MESSAGE(sources, errors(directory));
    std::vector<std::string> paths;
    for (const auto& file : sources->files) paths.push_back(file.path);
    CHECK(paths == std::vector{directory / "policy.toml", directory / "policy.d/10-a.toml", directory / "policy.d/20-b.toml", directory / "list.txt", directory / "policy.d/own.txt"});
    const auto policy = parse(*sources, RecordedAccounts{}).value();
    CHECK(policy.firewall.sources.size() == 3);
    CHECK(count(policy.firewall.sources.at(0).networks) == 2);
}

TEST_CASE("what cannot be read is one error each") {
    const TemporaryDirectory directory;
    CHECK(errors(directory) == "DIR/policy.toml: cannot be read: No such file or directory");
    write(directory / "policy.toml", names_list);
    CHECK(errors(directory) == "DIR/policy.toml:3:25: the list DIR/list.txt cannot be read: No such file or directory");
    std::filesystem::create_directory(directory / "directory");
    CHECK(errors(directory, "directory") == "DIR/directory: cannot be read: Is a directory");
    std::filesystem::create_symlink(directory / "loop", directory / "loop");
    CHECK(errors(directory, "loop") == "DIR/loop: cannot be read: Too many levels of symbolic links");
    ::mkfifo((directory / "fifo").c_str(), 0644);
    CHECK(errors(directory, "fifo") == "DIR/fifo: cannot be read: not a regular file");
    write(directory / "large", "");
    std::filesystem::resize_file(directory / "large", 100'000'000);
    CHECK(errors(directory, "large") == "DIR/large: cannot be read: 100000000 bytes, the limit is 4194304");
    std::filesystem::resize_file(directory / "large", 4'194'305);
    CHECK(errors(directory, "large") == "DIR/large: cannot be read: 4194305 bytes, the limit is 4194304");
    write(directory / "list.txt", "");
    std::filesystem::resize_file(directory / "list.txt", (64 << 20) + 1);
    CHECK(errors(directory) == "DIR/policy.toml:3:25: the list DIR/list.txt cannot be read: 67108865 bytes, the limit is 67108864");
    std::filesystem::remove(directory / "list.txt");
    std::filesystem::create_directory(directory / "list.txt");
    CHECK(errors(directory) == "DIR/policy.toml:3:25: the list DIR/list.txt cannot be read: Is a directory");
}

TEST_CASE("what others could write or replace is refused") {
    const TemporaryDirectory directory;
    write(directory / "policy.toml", "schema = 1\n", 0666);
    CHECK(errors(directory) == "DIR/policy.toml: is not trusted: 'policy.toml' is not safe: its mode 0666 lets others write it");
    write(directory / "policy.toml", names_list, 0644);
    write(directory / "list.txt", "", 0664);
    CHECK(errors(directory) == "DIR/policy.toml:3:25: the list DIR/list.txt is not trusted: 'list.txt' is not safe: its mode 0664 lets others write it");
    write(directory / "list.txt", "", 0644);
    CHECK(errors(directory).empty());
    std::filesystem::create_directory(directory / "policy.d");
    ::chmod((directory / "policy.d").c_str(), 0777);
    CHECK(errors(directory) == "DIR/policy.toml: the directory DIR/policy.d is not trusted: 'policy.d' is not safe: its mode 0777 lets others write it");
    ::chmod((directory / "policy.d").c_str(), 0755);
    write(directory / "policy.d/a.toml", "", 0622);
    CHECK(errors(directory) == "DIR/policy.d/a.toml: is not trusted: 'a.toml' is not safe: its mode 0622 lets others write it");
    std::filesystem::remove(directory / "policy.d/a.toml");
    write(directory / "signer", "#!/bin/sh\n", 0757);
    write(directory / "policy.toml", "schema = 1\n[[tls.issuer]]\nname = \"a\"\ncommand = [\"" + (directory / "signer") + "\"]\n");
    CHECK(errors(directory) == "DIR/policy.toml:4:12: the issuer's program is not trusted: 'signer' is not safe: its mode 0757 lets others write it");
    ::chmod((directory / "signer").c_str(), 0755);
    CHECK(errors(directory).empty());
}

TEST_CASE("a file of another user is refused by root, one of root's is good for anyone") {
    if (::geteuid() != 0) return;  // only root can give a file away
    const TemporaryDirectory directory;
    write(directory / "policy.toml", "schema = 1\n");
    const auto as_nobody = [&](const std::string& expected) {
        const auto child = ::fork();
        if (child == 0) {
            const bool dropped = ::setgid(65534) == 0 && ::setuid(65534) == 0;
            ::_exit(dropped && errors(directory) == expected ? 0 : 1);
        }
        int status = 1;
        ::waitpid(child, &status, 0);
        return status == 0;
    };
    CHECK(as_nobody(""));
    REQUIRE(::chown((directory / "policy.toml").c_str(), 65534, 65534) == 0);
    CHECK(errors(directory) == "DIR/policy.toml: is not trusted: 'policy.toml' is not safe: it belongs to uid 65534");
    CHECK(as_nobody(""));  // its own file: it is only itself that could be fooled
    REQUIRE(::chown((directory / "policy.toml").c_str(), 1, 1) == 0);
    CHECK(as_nobody("DIR/policy.toml: is not trusted: 'policy.toml' is not safe: it belongs to uid 1"));
    REQUIRE(::chown((directory / "policy.toml").c_str(), 0, 0) == 0);
    ::chmod((directory / "policy.toml").c_str(), 0600);
    CHECK(as_nobody("DIR/policy.toml: cannot be read: Permission denied"));
}

TEST_CASE("too many drop-ins, too many lists") {
    const TemporaryDirectory directory;
    std::string text = "schema = 1\n[firewall.sources]\nmany = [";
    for (int i = 0; i < 33; ++i) {
        write(directory / ("list" + std::to_string(i)), "");
        text += "\n\"@list" + std::to_string(i) + "\",";
    }
    write(directory / "policy.toml", text + "]\n");
    CHECK(errors(directory) == "DIR/policy.toml:36:1: more than 32 lists");
    write(directory / "policy.toml", "schema = 1\n");
    std::filesystem::create_directory(directory / "policy.d");
    for (int i = 0; i < 65; ++i) write(directory / ("policy.d/" + std::to_string(i) + ".toml"), "");
    CHECK(errors(directory) == "DIR/policy.toml: the directory DIR/policy.d has 65 files, at most 64 are read");
}

TEST_CASE("an unchanged file is not read again, a changed one is") {
    const TemporaryDirectory directory;
    write(directory / "policy.toml", names_list);
    write(directory / "list.txt", "192.0.2.0/24\n");
    const auto hasty = collect(directory / "policy.toml").value();
    CHECK(collect(directory / "policy.toml", &hasty).value().files[1].text != hasty.files[1].text);  // within a tick of the clock times prove nothing
    std::this_thread::sleep_for(40ms);
    const auto first = collect(directory / "policy.toml").value();
    auto second = collect(directory / "policy.toml", &first).value();
    CHECK(second.files[0].text == first.files[0].text);
    CHECK(second.files[1].text == first.files[1].text);
    CHECK(second.same_text(first));
    write(directory / "list.txt", "192.0.3.0/24\n");
    second = collect(directory / "policy.toml", &first).value();
    CHECK(second.files[0].text == first.files[0].text);
    CHECK(*second.files[1].text == "192.0.3.0/24\n");
    CHECK_FALSE(second.same_text(first));
    ::chmod((directory / "list.txt").c_str(), 0666);  // trust is judged anew each time
    CHECK_FALSE(collect(directory / "policy.toml", &second));
}

TEST_CASE("accounts: the host's, and those recorded from it") {
    CHECK(host_accounts().user("root") == 0U);
    CHECK(host_accounts().group("root") == 0U);
    CHECK_FALSE(host_accounts().user("no-such-user-here"));
    CHECK_FALSE(host_accounts().group("no-such-group-here"));
    const RecordingAccounts recording(host_accounts());
    CHECK(recording.user("root") == 0U);
    CHECK_FALSE(recording.user("no-such-user-here"));
    CHECK(recording.group("root") == 0U);
    CHECK(recording.recorded().users == std::map<std::string, uid_t>{{"root", 0}});
    CHECK(recording.recorded().user("root") == 0U);
    CHECK_FALSE(recording.recorded().user("daemon"));
}

TEST_CASE("a stored policy reads back as it was, or not at all") {
    Sources sources;
    sources.files.push_back({SourceFile::Kind::policy, "/p", {1, 2, 3, -4, 5}, std::make_shared<const std::string>("schema = 1\nsha256 x\n")});
    sources.files.push_back({SourceFile::Kind::list, "/path with\nnewline", {}, std::make_shared<const std::string>()});
    RecordedAccounts accounts;
    accounts.users = {{"root", 0}, {"nobody", 4294967294U}};
    accounts.groups = {{"prometheus", 115}};
    const auto packed = pack(sources, accounts);
    const auto unpacked = unpack(packed);
    REQUIRE(unpacked);
    CHECK(unpacked->first.same_text(sources));
    CHECK(unpacked->first.files[0].stamp == sources.files[0].stamp);
    CHECK(unpacked->second.users == accounts.users);
    CHECK(unpacked->second.groups == accounts.groups);
    for (std::size_t at = 0; at < packed.size(); ++at) {
        auto damaged = packed;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        CHECK_FALSE(unpack(damaged));
        CHECK_FALSE(unpack(std::string_view(packed).substr(0, at)));
    }
    CHECK_FALSE(unpack(packed + "\n"));
    CHECK_FALSE(unpack(""));
}

TEST_CASE("a stored policy with a right checksum and wrong contents is refused") {
    const auto sealed = [](std::string body) {
        body = "promwarden.sources/1\n" + body;
        const auto digest = sha256(body);
        return body + "sha256 " + digest + "\n";
    };
    CHECK(unpack(sealed("")));
    CHECK(unpack(sealed("user 4 0\nroot\n")));
    for (const auto* body : {"user 5 0\nroot\n", "user 3 0\nroot\n", "user -1 0\nroot\n", "user 4 -1\nroot\n", "user 4 4294967296\nroot\n", "user 4\nroot\n", "user 4 0 0\nroot\n",
                             "user 4 x\nroot\n", "user", "policy 1 1\n", "other 1 1\n", "\n", "user 99999999999999999999 0\nroot\n"})
        CHECK_MESSAGE(!unpack(sealed(body)), body);
}
