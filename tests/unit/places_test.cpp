#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "promwarden/host.hpp"
#include "temporary.hpp"

using namespace promwarden;
namespace fs = std::filesystem;

namespace {

using Use = NamedFile::Use;

/// A directory that stands for "/", with its own /proc and /sys.
struct Root : TemporaryDirectory {
    Root() {
        write("etc/passwd", "root:x:0:0::/root:/bin/sh\nprometheus:x:105:108::/:/bin/false\n");
        write("etc/group", "root:x:0:\nprometheus:x:108:\n");
    }
    [[nodiscard]] host::Places places() const { return {path.string(), (path / "proc").string(), (path / "sys").string()}; }
};

Server server_with(std::vector<Flag> flags, const std::string& directory = "/") {
    Server server;
    server.kind = Server::Kind::unit;
    server.name = "prometheus.service";
    server.identity = {::geteuid(), ::getegid(), {}};
    server.directory = directory;
    server.configured->flags = std::move(flags);
    return server;
}

Flag flag(const std::string& name, const std::string& value) {
    Flag made;
    made.name = name;
    made.value = value;
    return made;
}

std::vector<NamedFile> files_of(const Root& root, const Server& server, const Policy& policy = {}) {
    const auto facts = host::read_files(policy, {&server, 1}, root.places());
    REQUIRE(facts.has_value());
    REQUIRE(facts->servers.size() == 1);
    return facts->servers[0].files;
}

const NamedFile& find(const std::vector<NamedFile>& files, const std::string& path) {
    const auto found = std::ranges::find(files, path, &NamedFile::path);
    CAPTURE(path);
    REQUIRE(found != files.end());
    return *found;
}

/// What the kernel calls the file system of the test's directory.
struct Ground {
    std::uint64_t mount;
    std::string device;
    explicit Ground(const Root& root) {
        struct statx raw {};
        REQUIRE(::statx(AT_FDCWD, root.path.c_str(), 0, STATX_BASIC_STATS | STATX_MNT_ID, &raw) == 0);
        mount = raw.stx_mnt_id;
        device = std::to_string(raw.stx_dev_major) + ":" + std::to_string(raw.stx_dev_minor);
    }
    /// A line of mountinfo for it that says it is something else.
    [[nodiscard]] std::string line(const std::string& type, const std::string& source, const std::string& options = "rw") const {
        return std::to_string(mount) + " 1 " + device + " / / rw,relatime - " + type + " " + source + " " + options + "\n";
    }
};

StoragePath storage_of(const Root& root) {
    auto server = server_with({flag("config.file", "/p.yml"), flag("storage.tsdb.path", "/data")});
    const auto facts = host::read_files({}, {&server, 1}, root.places());
    REQUIRE(facts.has_value());
    const auto storage = host::read_storage(*facts, root.places());
    REQUIRE(storage.paths.size() == 1);
    return storage.paths[0];
}

/// The stack: this ground is dm-0 (LUKS) on md0 of sda2 and sdb2.
void luks_on_raid(const Root& root, const Ground& ground, const std::string& uuid = "CRYPT-LUKS2-0123-data") {
    root.write("data/x", "");
    root.write("proc/self/mountinfo", ground.line("ext4", "/dev/mapper/data"));
    root.write("sys/devices/dm-0/dm/uuid", uuid + "\n");
    root.write("sys/devices/dm-0/dm/name", "data\n");
    root.link("sys/devices/dm-0/slaves/md0", "../../md0");
    root.link("sys/devices/md0/slaves/sda2", "../../sda/sda2");
    root.link("sys/devices/md0/slaves/sdb2", "../../sdb/sdb2");
    root.write("sys/devices/sda/sda2/partition", "2\n");
    root.write("sys/devices/sdb/sdb2/partition", "2\n");
    root.link("sys/dev/block/" + ground.device, "../../devices/dm-0");
    root.link("sys/class/block/dm-0", "../../devices/dm-0");
    root.link("sys/class/block/sda2", "../../devices/sda/sda2");
}

}  // namespace

// ---- which files ----------------------------------------------------------------------------------------------------

TEST_CASE("names resolve as Prometheus resolves them: from the file that names them, from the working directory for flags") {
    const Root root;
    root.write("srv/prom/conf/prometheus.yml",
               "global:\n  query_log_file: logs/q.log\nrule_files: ['rules/*.yml', /abs/r.yml]\nscrape_config_files: ['jobs/*.yml']\n"
               "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password_file: secrets/pw}\n  tls_config: {ca_file: ca.pem, cert_file: c.pem, key_file: /abs/k.pem}\n"
               "  file_sd_configs: [{files: ['sd/*.json']}]\n");
    root.write("srv/prom/conf/rules/a.yml", "groups: []\n");
    root.write("srv/prom/conf/rules/b.yml", "groups: []\n");
    root.write("srv/prom/conf/rules/ignored.txt", "x");
    root.write("srv/prom/conf/jobs/one.yml", "scrape_configs:\n- job_name: b\n  bearer_token_file: tok\n");
    root.write("srv/prom/conf/secrets/pw", "hunter2");
    root.write("srv/prom/web/web.yml", "tls_server_config: {cert_file: w.pem, key_file: ../k.pem}\n");
    const auto files = files_of(root, server_with({flag("config.file", "conf/prometheus.yml"), flag("web.config.file", "web/web.yml"), flag("storage.tsdb.path", "data")}, "/srv/prom"));
    CHECK(files[0].path == "/srv/prom/conf/prometheus.yml");
    CHECK(files[0].text != nullptr);
    CHECK(find(files, "/srv/prom/conf/rules/a.yml").text != nullptr);
    CHECK(find(files, "/srv/prom/conf/rules/b.yml").pattern == "rules/*.yml");
    CHECK(std::ranges::find(files, "/srv/prom/conf/rules/ignored.txt", &NamedFile::path) == files.end());
    CHECK(find(files, "/abs/r.yml").problem->code == Code::missing);
    CHECK(find(files, "/srv/prom/conf/jobs/one.yml").use == Use::scrape_configs);
    CHECK(find(files, "/srv/prom/conf/jobs/tok").named.file == "/srv/prom/conf/jobs/one.yml");  // relative to the file that names it
    const auto& password = find(files, "/srv/prom/conf/secrets/pw");
    CHECK(password.use == Use::secret);
    CHECK(password.text == nullptr);  // nobody needs to know
    CHECK(password.named.line == 7);
    CHECK(password.named.path == "scrape_configs[0].basic_auth.password_file");
    CHECK(find(files, "/srv/prom/conf/ca.pem").use == Use::authority);
    CHECK(find(files, "/abs/k.pem").use == Use::key);
    CHECK(find(files, "/srv/prom/conf/logs/q.log").use == Use::output);
    CHECK(find(files, "/srv/prom/web/w.pem").use == Use::certificate);
    CHECK(find(files, "/srv/prom/web/../k.pem").use == Use::key);
    CHECK(find(files, "/srv/prom/data").use == Use::storage);
}

TEST_CASE("what was walked through is told with owner and mode") {
    const Root root;
    root.write("etc/prometheus/prometheus.yml", "rule_files: [l.yml]\n");
    root.write("srv/rules/r.yml", "groups: []\n");
    fs::permissions(root.path / "srv/rules", fs::perms(0751));
    root.link("etc/prometheus/l.yml", "/srv/rules/r.yml");
    const auto files = files_of(root, server_with({flag("config.file", "/etc/prometheus/prometheus.yml")}));
    const auto& rules = find(files, "/etc/prometheus/l.yml");
    REQUIRE(rules.status() != nullptr);
    CHECK(rules.text != nullptr);
    std::vector<std::string> way;
    for (const auto& step : rules.steps) way.push_back(step.path);
    CHECK(way == std::vector<std::string>{"/", "/etc", "/etc/prometheus", "/etc/prometheus/l.yml", "/srv", "/srv/rules", "/srv/rules/r.yml"});
    CHECK(rules.steps[4].directory == 0);
    CHECK(rules.steps[5].status.mode == 0751);
    CHECK(rules.steps[6].status.owner == ::geteuid());
}

TEST_CASE("no server is known: the usual place, or what the policy names") {
    const Root root;
    CHECK(host::read_files({}, {}, root.places())->servers.empty());
    root.write("etc/prometheus/prometheus.yml", "scrape_configs: []\n");
    const auto facts = host::read_files({}, {}, root.places());
    REQUIRE(facts->servers.size() == 1);
    CHECK(facts->servers[0].identity == Identity{105, 108, {}});
    Policy policy;
    policy.prometheus.config = "/elsewhere.yml";
    CHECK(host::read_files(policy, {}, root.places())->servers[0].files[0].problem->code == Code::missing);
}

TEST_CASE("a stranger's and a container's names are not followed") {
    const Root root;
    root.write("etc/prometheus/prometheus.yml", "scrape_configs: []\n");
    root.write("etc/shadow", "root:secret:1:0:99999:7:::\n");
    auto stranger = server_with({flag("config.file", "/etc/shadow")});
    stranger.kind = Server::Kind::stranger;
    const auto facts = host::read_files({}, {&stranger, 1}, root.places());
    for (const auto& server : facts->servers)
        for (const auto& file : server.files) CHECK(file.path != "/etc/shadow");
}

TEST_CASE("rules of the policy and logrotate's blocks") {
    const Root root;
    root.write("etc/secrets/a", "");
    root.write("etc/secrets/b", "");
    root.write("etc/logrotate.conf", "weekly\ninclude /etc/logrotate.d\n");
    root.write("etc/logrotate.d/prometheus",
               "# comment {\n/var/log/prometheus/*.log \"/var/log/other log\" {\n  weekly\n  postrotate\n    systemctl kill -s HUP prometheus }\n  endscript\n}\n"
               "/var/log/a\n/var/log/b {\n  prerotate\n    kill 1\n  endscript\n  missingok\n}\n/var/log/c {\n copytruncate\n}\n");
    Policy policy;
    policy.files.resize(2);
    policy.files[0].path = "/etc/secrets/*";
    policy.files[1].path = "/etc/nowhere";
    const auto facts = host::read_files(policy, {}, root.places());
    REQUIRE(facts->ruled.size() == 3);
    CHECK(facts->ruled[1].file.path == "/etc/secrets/b");
    CHECK(facts->ruled[2].file.problem->code == Code::missing);
    REQUIRE(facts->rotations.size() == 3);
    CHECK(facts->rotations[0].patterns == std::vector<std::string>{"/var/log/prometheus/*.log", "/var/log/other log"});
    CHECK(facts->rotations[0].reopens);
    CHECK(facts->rotations[0].place.line == 2);
    CHECK(facts->rotations[1].patterns == std::vector<std::string>{"/var/log/a", "/var/log/b"});
    CHECK_FALSE(facts->rotations[1].reopens);
    CHECK(facts->rotations[2].reopens);
}

// ---- hostile roots --------------------------------------------------------------------------------------------------

TEST_CASE("links do not lead out of a root") {
    const Root root, outside;
    outside.write("secret.yml", "scrape_configs: [{job_name: stolen}]\n");
    root.write("etc/prometheus/prometheus.yml", "rule_files: [up.yml, abs.yml, dir/secret.yml, self.yml]\n");
    const auto up = std::string("../../../../../../../../..") + outside.path.string();
    root.link("etc/prometheus/up.yml", up + "/secret.yml");
    root.link("etc/prometheus/abs.yml", outside.path.string() + "/secret.yml");
    root.link("etc/prometheus/dir", outside.path.string());
    root.link("etc/prometheus/self.yml", "/");
    const auto files = files_of(root, server_with({flag("config.file", "/etc/prometheus/prometheus.yml")}));
    for (const std::string name : {"up.yml", "abs.yml", "dir/secret.yml"}) {
        const auto& file = find(files, "/etc/prometheus/" + name);
        REQUIRE(file.problem.has_value());
        CHECK(file.problem->code == Code::missing);
        CHECK(file.text == nullptr);
    }
    const auto& self = find(files, "/etc/prometheus/self.yml");
    CHECK(self.status()->type == FileStatus::Type::directory);
    CHECK(self.text == nullptr);
    CHECK(self.unread.has_value());
}

TEST_CASE("loops, FIFOs, devices, huge and deep things are told, not opened") {
    const Root root;
    std::string deep = "/etc/prometheus";
    for (int i = 0; i < 300; ++i) deep += "/d";
    root.write("etc/prometheus/prometheus.yml", "rule_files: [a.yml, fifo.yml, huge.yml, '" + deep + "', '" + std::string(5000, 'x') + "', 'prometheus.yml/below']\n");
    root.link("etc/prometheus/a.yml", "b.yml");
    root.link("etc/prometheus/b.yml", "a.yml");
    REQUIRE(::mkfifo((root.path / "etc/prometheus/fifo.yml").c_str(), 0644) == 0);
    root.write("etc/prometheus/huge.yml", "");
    fs::resize_file(root.path / "etc/prometheus/huge.yml", std::uintmax_t{1} << 30);
    const auto files = files_of(root, server_with({flag("config.file", "/etc/prometheus/prometheus.yml")}));
    CHECK(find(files, "/etc/prometheus/a.yml").problem->number == ELOOP);
    const auto& fifo = find(files, "/etc/prometheus/fifo.yml");
    CHECK(fifo.status()->type == FileStatus::Type::other);
    CHECK(fifo.unread->detail == "not a regular file");
    CHECK(find(files, "/etc/prometheus/huge.yml").unread->code == Code::limit);
    CHECK(find(files, deep).problem->code == Code::missing);
    CHECK(find(files, "/etc/prometheus/" + std::string(5000, 'x')).problem->number == ENAMETOOLONG);
    CHECK(find(files, "/etc/prometheus/prometheus.yml/below").problem->number == ENOTDIR);
}

TEST_CASE("a name that somebody else wrote is followed no further than the service could go") {
    if (::geteuid() != 0) return;  // needs files of two owners
    const Root root;
    root.write("etc/prometheus/prometheus.yml", "rule_files: [/root/r.yml, /root/*.yml, /open/r.yml, /open/closed.yml]\n");
    root.write("root/r.yml", "groups: []\n");
    root.write("open/r.yml", "groups: []\n");
    root.write("open/closed.yml", "groups: []\n");
    fs::permissions(root.path / "root", fs::perms(0700));
    fs::permissions(root.path / "open/closed.yml", fs::perms(0600));
    auto server = server_with({flag("config.file", "/etc/prometheus/prometheus.yml")});
    server.identity = {105, 108, {}};
    CHECK(find(files_of(root, server), "/root/r.yml").text != nullptr);  // root wrote the name
    REQUIRE(::chown((root.path / "etc/prometheus/prometheus.yml").c_str(), 105, 108) == 0);
    const auto files = files_of(root, server);
    CHECK(find(files, "/root/r.yml").problem->number == EACCES);
    CHECK(find(files, "/root/r.yml").steps.size() == 2);  // "/" and "/root"
    CHECK(find(files, "/root/*.yml").problem->number == EACCES);
    CHECK(find(files, "/open/r.yml").text != nullptr);
    CHECK(find(files, "/open/closed.yml").text == nullptr);
    CHECK(find(files, "/open/closed.yml").unread->number == EACCES);
}

TEST_CASE("more files than anybody has: the rest is said to be left out") {
    const Root root;
    std::string text = "scrape_configs:\n";
    for (int i = 0; i < 2100; ++i) text += "- {job_name: j" + std::to_string(i) + ", bearer_token_file: t" + std::to_string(i) + "}\n";
    root.write("etc/prometheus/prometheus.yml", text);
    const auto facts = host::read_files({}, {}, root.places());
    CHECK(facts->servers[0].files.size() == 2000);
    CHECK(facts->servers[0].left_out.size() == 1);
    for (int i = 0; i < 1100; ++i) root.write("many/" + std::to_string(i) + ".yml", "");
    std::string wide = "rule_files:\n";
    for (int i = 0; i < 500; ++i) root.write("wide/" + std::to_string(i) + "/x", "");
    for (int i = 0; i < 6; ++i) wide += "- /wide/*/" + std::to_string(i) + "*.yml\n";
    root.write("etc/prometheus/prometheus.yml", wide);
    const auto bounded = host::read_files({}, {}, root.places())->servers[0].files;
    CHECK(bounded.size() < 5);
    CHECK(bounded.back().problem->detail == "more than 2000 directories");  // globs cost, and are bounded as a whole
    root.write("etc/prometheus/prometheus.yml", "rule_files: ['/many/*.yml']\n");
    CHECK(find(host::read_files({}, {}, root.places())->servers[0].files, "/many/*.yml").problem->code == Code::limit);
}

TEST_CASE("a file system that can hang its reader is named, not entered") {
    // Everything here is on one file system; the one that is mounted in it is /proc, which the fake mountinfo calls something else.
    struct statx raw {};
    REQUIRE(::statx(AT_FDCWD, "/proc", 0, STATX_BASIC_STATS | STATX_MNT_ID, &raw) == 0);
    const Root fake;
    fake.write("self/mountinfo", std::to_string(raw.stx_mnt_id) + " 1 0:21 / /proc rw - fuse.sshfs me@there:/ rw\n");
    Policy policy;
    policy.prometheus.config = "/proc/self/status";
    const auto facts = host::read_files(policy, {}, {"", fake.path.string(), "/sys"});
    const auto& file = facts->servers[0].files[0];
    REQUIRE(file.problem.has_value());
    CHECK(file.problem->code == Code::untrusted);
    CHECK(file.text == nullptr);
    CHECK(file.steps.back().path == "/proc");
}

TEST_CASE("where our own mounts hide something, the process that sees the host's is looked through") {
    if (::geteuid() != 0) return;
    const Root root;
    root.write("etc/prometheus/prometheus.yml", "scrape_configs: []\n");
    const auto directory = (root.path / "etc/prometheus").string();
    int ready[2], done[2];
    REQUIRE(::pipe(ready) == 0);
    REQUIRE(::pipe(done) == 0);
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // another view of the same place
        ::close(done[1]);
        char ok = ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 && ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "mode=0751") == 0 ? 1 : 0;
        std::ofstream(directory + "/prometheus.yml") << "rule_files: []\n";
        char end = 0;
        (void)!::write(ready[1], &ok, 1);
        (void)!::read(done[0], &end, 1);
        ::_exit(0);
    }
    char ok = 0;
    REQUIRE(::read(ready[0], &ok, 1) == 1);
    REQUIRE(ok == 1);
    Policy policy;
    policy.prometheus.config = directory + "/prometheus.yml";
    host::Places places;
    CHECK(*host::read_files(policy, {}, places)->servers[0].files[0].text == "scrape_configs: []\n");
    places.seen_from = child;
    const auto facts = host::read_files(policy, {}, places);
    const auto& file = facts->servers[0].files[0];
    REQUIRE(file.text != nullptr);
    CHECK(*file.text == "rule_files: []\n");
    CHECK(file.steps.at(file.steps.size() - 2).status.mode == 0751);
    CHECK(file.path == policy.prometheus.config);
    for (const auto fd : {ready[0], ready[1], done[0], done[1]}) ::close(fd);
    ::waitpid(child, nullptr, 0);
}

// ---- the kernel agrees ----------------------------------------------------------------------------------------------

namespace {

struct Answer {
    bool read, write;
    bool operator==(const Answer&) const = default;
};

/// What the kernel says to a process of that identity.
Answer ask_kernel(const Identity& who, const fs::path& path) {
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (::setgroups(who.groups.size(), who.groups.data()) != 0 || ::setresgid(who.gid, who.gid, who.gid) != 0 || ::setresuid(who.uid, who.uid, who.uid) != 0) ::_exit(9);
        ::_exit((::access(path.c_str(), R_OK) == 0 ? 1 : 0) + (::access(path.c_str(), W_OK) == 0 ? 2 : 0));
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) < 4);
    return {(WEXITSTATUS(status) & 1) != 0, (WEXITSTATUS(status) & 2) != 0};
}

/// An access list as the kernel takes it: owner, a user, the group, another group, mask, others.
std::string acl_bytes(std::mt19937& random, uid_t user, gid_t group) {
    const auto rights = [&] { return static_cast<char>(random() % 8); };
    const auto entry = [](char tag, char right, std::uint32_t id) {
        return std::string{tag, 0, right, 0, static_cast<char>(id), static_cast<char>(id >> 8), static_cast<char>(id >> 16), static_cast<char>(id >> 24)};
    };
    constexpr std::uint32_t none = 0xffffffff;
    return std::string{2, 0, 0, 0} + entry(1, rights(), none) + entry(2, rights(), user) + entry(4, rights(), none) + entry(8, rights(), group) + entry(0x10, rights(), none) + entry(0x20, rights(), none);
}

}  // namespace

TEST_CASE("what is computed is what the kernel answers: owners, groups, modes and access lists at random") {
    if (::geteuid() != 0) return;  // only root can be somebody else
    std::mt19937 random(20231);
    const Root root;
    root.write("a/b/f", "");
    const uid_t users[] = {0, 1000, 1001};
    const gid_t groups[] = {0, 2000, 2001, 2002};
    int readable = 0, writable = 0;
    for (int round = 0; round < 400; ++round) {
        for (const auto* name : {"a", "a/b", "a/b/f"}) {
            const auto path = root.path / name;
            REQUIRE(::chown(path.c_str(), users[random() % 3], groups[random() % 4]) == 0);
            const bool directory = std::string_view(name) != "a/b/f";
            REQUIRE(::chmod(path.c_str(), directory && random() % 3 != 0 ? 0711 : random() % 01000) == 0);
            if (random() % 2 == 0) {
                const auto bytes = acl_bytes(random, users[random() % 3], groups[random() % 4]);
                REQUIRE(::setxattr(path.c_str(), "system.posix_acl_access", bytes.data(), bytes.size(), 0) == 0);
            } else {
                ::removexattr(path.c_str(), "system.posix_acl_access");
            }
        }
        Policy policy;
        policy.files.resize(1);
        policy.files[0].path = "/a/b/f";
        const auto facts = host::read_files(policy, {}, root.places());
        const auto& file = facts->ruled.at(0).file;
        REQUIRE(file.status() != nullptr);
        const Identity who{users[1 + random() % 2], groups[1 + random() % 3], random() % 2 == 0 ? std::vector<gid_t>{groups[1 + random() % 3]} : std::vector<gid_t>{}};
        const Answer computed{can_read(who, file), reaches(who, file) && may(who, *file.status(), Right::write)};
        CAPTURE(round);
        const auto answer = ask_kernel(who, root.path / "a/b/f");
        CHECK(computed.read == answer.read);
        CHECK(computed.write == answer.write);
        readable += answer.read ? 1 : 0;
        writable += answer.write ? 1 : 0;
    }
    CHECK(readable > 50);
    CHECK(writable > 50);
}

// ---- storage --------------------------------------------------------------------------------------------------------

TEST_CASE("LUKS on RAID: sealed on every leaf") {
    const Root root;
    const Ground ground(root);
    luks_on_raid(root, ground);
    const auto found = storage_of(root);
    CHECK_FALSE(found.problem.has_value());
    CHECK(found.file_system == "ext4");
    REQUIRE(found.leaves.size() == 2);
    CHECK(found.leaves[0].device == "sda2");
    CHECK(found.leaves[0].sealed_by == "dm-0 (CRYPT-LUKS2)");
    CHECK(found.leaves[1].sealed_by == "dm-0 (CRYPT-LUKS2)");
}

TEST_CASE("verity and plain LVM are no encryption; one sealed leg of two is not enough") {
    for (const std::string uuid : {"CRYPT-VERITY-0123-data", "LVM-abc", "CRYPT-INTEGRITY-0123-x"}) {
        const Root root;
        luks_on_raid(root, Ground(root), uuid);
        const auto found = storage_of(root);
        CHECK(found.leaves.size() == 2);
        CHECK(found.leaves[0].sealed_by.empty());
    }
    const Root root;
    luks_on_raid(root, Ground(root), "LVM-abc");
    root.write("sys/devices/md0/../dm-1/dm/uuid", "CRYPT-LUKS1-9-x\n");
    fs::remove(root.path / "sys/devices/md0/slaves/sda2");
    root.link("sys/devices/md0/slaves/dm-1", "../../dm-1");
    root.link("sys/devices/dm-1/slaves/sda2", "../../sda/sda2");
    const auto found = storage_of(root);
    REQUIRE(found.leaves.size() == 2);
    CHECK(found.leaves[0].sealed_by == "dm-1 (CRYPT-LUKS1)");
    CHECK(found.leaves[1].sealed_by.empty());
}

TEST_CASE("file systems that encrypt by themselves, stand on memory, or cannot be seen through") {
    struct {
        std::string type, sealed;
        bool problem;
    } const cases[] = {{"fuse.gocryptfs", "gocryptfs", false}, {"ecryptfs", "ecryptfs", false}, {"tmpfs", "memory", false}, {"nfs4", "", true}, {"zfs", "", true}, {"ext4", "", true}};
    for (const auto& each : cases) {
        const Root root;
        CAPTURE(each.type);
        root.write("data/x", "");
        root.write("proc/self/mountinfo", Ground(root).line(each.type, "source"));
        const auto found = storage_of(root);
        CHECK(found.sealed_by == each.sealed);
        CHECK(found.problem.has_value() == each.problem);  // ext4: its device is not in this /sys
    }
}

TEST_CASE("btrfs over two devices, an overlay over its upper directory, a loop over its file") {
    const Root root;
    const Ground ground(root);
    luks_on_raid(root, ground);
    root.write("proc/self/mountinfo", ground.line("overlay", "overlay", "rw,lowerdir=/l,upperdir=/upper,workdir=/w"));
    root.write("upper/x", "");
    CHECK(storage_of(root).problem.has_value());  // the upper directory is on the same overlay, and so on: it ends
    fs::remove_all(root.path / "sys");
    root.write("proc/self/mountinfo", ground.line("ext4", "/dev/loop0"));
    root.write("image", "");
    root.write("sys/devices/loop0/loop/backing_file", "/image\n");
    root.link("sys/dev/block/" + ground.device, "../../devices/loop0");
    CHECK(storage_of(root).problem->code == Code::limit);  // the image lies on the loop: it ends, too
}

TEST_CASE("the cipher that encrypts nothing, where somebody holds it") {
    const auto in_use = [](std::string_view crypto) {
        const Root root;
        luks_on_raid(root, Ground(root));
        root.write("proc/crypto", std::string(crypto));
        return host::read_storage({}, root.places()).null_cipher;
    };
    constexpr std::string_view other = "name         : ecb(aes)\ndriver       : ecb-aes-aesni\nrefcnt       : 3\n\n";
    CHECK_FALSE(in_use(""));
    CHECK_FALSE(in_use(std::string(other) + "name         : ecb(cipher_null)\ndriver       : ecb-cipher_null\nmodule       : kernel\npriority     : 100\nrefcnt       : 1\n\n" + std::string(other)));
    CHECK(in_use(std::string(other) + "name         : ecb(cipher_null)\ndriver       : ecb-cipher_null\nmodule       : kernel\npriority     : 100\nrefcnt       : 2\n"));
}

TEST_CASE("swap: plain, sealed, compressed memory") {
    const Root root;
    luks_on_raid(root, Ground(root));
    root.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n/dev/mapper/data partition 1 0 -3\n/dev/zram0 partition 1 0 5\n/swapfile file 1 0 -4\n/dev/gone partition 1 0 1\n");
    root.write("swapfile", "");
    auto server = server_with({flag("config.file", "/p.yml"), flag("storage.tsdb.path", "/data")});
    const auto facts = host::read_files({}, {&server, 1}, root.places());
    const auto swaps = host::read_storage(*facts, root.places()).swaps;
    REQUIRE(swaps.size() == 5);
    CHECK(swaps[0].leaves.at(0).sealed_by.empty());
    CHECK(swaps[1].leaves.at(0).sealed_by == "dm-0 (CRYPT-LUKS2)");
    CHECK(swaps[2].volatile_memory);
    CHECK(swaps[3].leaves.at(0).sealed_by == "dm-0 (CRYPT-LUKS2)");  // on the file system above
    CHECK(swaps[4].problem.has_value());
}
