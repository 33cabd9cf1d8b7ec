// Servers, units, packages and containers as they are observed, from trees that the test makes: images, and /proc.

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/flags.hpp"
#include "promwarden/host.hpp"
#include "temporary.hpp"

using namespace promwarden;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;
constexpr auto unit_name = "promwarden-test-none.service";  // no machine has it
const std::string container_id(64, 'a');

/// A directory that stands for "/"; names begin with a slash.
struct Tree : TemporaryDirectory {
    [[nodiscard]] std::string path() const { return TemporaryDirectory::path.string(); }
    void write(std::string_view name, std::string_view text) const { TemporaryDirectory::write(name.substr(1), text); }
    void link(std::string_view name, const std::string& target) const { TemporaryDirectory::link(name.substr(1), target); }
};

Server image(const Tree& tree) { return host::read_server_below("prometheus.service", tree.path()); }

std::string value_of(const Result<CommandLine>& line, std::string_view name) {
    REQUIRE(line);
    return line->find(name) == nullptr ? "(not given)" : line->find(name)->value;
}

/// One process of a made-up /proc, in the namespaces of ours unless it is said otherwise.
struct Fake {
    pid_t pid = 0;
    std::string comm = "prometheus", exe = "/usr/bin/prometheus";
    Words words{"/usr/bin/prometheus"};
    uid_t uid = 0;
    std::string cgroup = "/system.slice/" + std::string(unit_name);
    std::string network = "net:[1]", mounts = "mnt:[1]", pids = "pid:[1]", users = "user:[1]";
};

void make(const Tree& proc, const std::string& name, const Fake& fake) {
    const auto at = "/" + name;
    std::string command;
    for (const auto& word : fake.words) command += word + '\0';
    const auto uid = std::to_string(fake.uid);
    proc.write(at + "/comm", fake.comm + "\n");
    proc.write(at + "/cmdline", command);
    proc.write(at + "/status", "Name:\t" + fake.comm + "\nUid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid + "\nGid:\t7\t7\t7\t7\nGroups:\t7 8 \nPPid:\t1\n");
    proc.write(at + "/cgroup", "0::" + fake.cgroup + "\n");
    proc.write(at + "/stat", std::to_string(fake.pid) + " (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5000 0 0\n");
    proc.link(at + "/exe", fake.exe);
    proc.link(at + "/cwd", "/var/lib");
    for (const auto& [kind, value] : {std::pair{"net", fake.network}, {"mnt", fake.mounts}, {"pid", fake.pids}, {"user", fake.users}}) proc.link(at + "/ns/" + kind, value);
    fs::create_directories(proc.path() + at + "/fd");
}

/// A machine with systemd's first process and these others.
std::vector<Server> servers(const Tree& proc, const std::vector<Fake>& fakes) {
    Fake first{.pid = 1, .comm = "systemd", .exe = "/usr/lib/systemd/systemd", .words = {"/sbin/init"}, .cgroup = "/init.scope"};
    make(proc, "self", first);
    make(proc, "1", first);
    proc.write("/stat", "cpu 1\nbtime 1700000000\n");
    for (const auto& fake : fakes) make(proc, std::to_string(fake.pid), fake);
    auto read = host::read_servers(unit_name, {}, proc.path());
    REQUIRE(read);
    return *std::move(read);
}

/// A program as Go's linker leaves it: an ELF file with build information.
std::string go_program(const std::string& information) {
    const std::string names = std::string(1, '\0') + ".go.buildinfo" + '\0' + ".shstrtab" + '\0';
    std::string data = "\xff Go buildinf:";
    data += {8, 2};
    data.resize(32);
    const auto add = [&](const std::string& text) {
        auto length = text.size();
        for (; length >= 0x80; length >>= 7) data += static_cast<char>(length | 0x80);
        data += static_cast<char>(length);
        data += text;
    };
    add("go1.22.1");
    add(information);
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 3;
    header.e_shstrndx = 2;
    header.e_shoff = sizeof header;
    Elf64_Shdr sections[3]{};
    const auto first = sizeof header + sizeof sections;
    sections[1] = {.sh_name = 1, .sh_type = SHT_PROGBITS, .sh_flags = 0, .sh_addr = 0, .sh_offset = first, .sh_size = data.size(), .sh_link = 0, .sh_info = 0, .sh_addralign = 0, .sh_entsize = 0};
    sections[2] = {.sh_name = 15, .sh_type = SHT_STRTAB, .sh_flags = 0, .sh_addr = 0, .sh_offset = first + data.size(), .sh_size = names.size(), .sh_link = 0, .sh_info = 0, .sh_addralign = 0, .sh_entsize = 0};
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + std::string(reinterpret_cast<const char*>(sections), sizeof sections) + data + names;
}

}  // namespace

// ---- units and packages of an image ---------------------------------------------------------------------------------

TEST_CASE("an image: fragment, drop-ins by name and place, environment, package, account") {
    const Tree tree;
    tree.write("/usr/lib/systemd/system/prometheus.service", "[Service]\nUser=prometheus\nEnvironmentFile=/etc/default/prometheus\nExecStart=/usr/bin/prometheus $ARGS\n");
    tree.write("/etc/default/prometheus", "ARGS=\"--web.listen-address=:9090 --web.enable-admin-api\"\n");
    tree.write("/usr/lib/systemd/system/prometheus.service.d/10.conf", "[Service]\nProtectHome=yes\n");
    tree.write("/etc/systemd/system/prometheus.service.d/10.conf", "[Service]\nProtectHome=no\n");  // hides the one above
    tree.write("/etc/systemd/system/service.d/20.conf", "[Service]\nNoNewPrivileges=yes\n");
    tree.link("/etc/systemd/system/prometheus.service.d/30.conf", "/dev/null");
    tree.write("/usr/lib/systemd/system/prometheus.service.d/30.conf", "[Service]\nUser=root\n");
    tree.write("/etc/passwd", "root:x:0:0::/:/bin/sh\nprometheus:x:110:120::/:/bin/false\n");
    tree.write("/etc/group", "prometheus:x:120:\ndocker:x:130:someone,prometheus\n");
    tree.write("/etc/os-release", "NAME=x\nID=debian\nVERSION_ID=\"12\"\n");
    tree.write("/usr/bin/prometheus", "x");
    tree.write("/var/lib/dpkg/info/prometheus.list", "/.\n/usr/bin/prometheus\n");
    tree.write("/var/lib/dpkg/status", "Package: promtool\nStatus: install ok installed\nVersion: 9\n\nPackage: prometheus\nStatus: install ok installed\nVersion: 2.42.0+ds-5+b5\n\nPackage: z\n");
    const auto server = image(tree);
    REQUIRE(server.unit);
    CHECK(server.unit->source == Unit::Source::files);
    CHECK(server.unit->user == "prometheus");
    CHECK(server.unit->settings.at("ProtectHome") == "no");
    CHECK(server.unit->settings.at("NoNewPrivileges") == "yes");
    CHECK(server.unit->written.at("ProtectHome") == std::pair<std::string, std::uint32_t>{"/etc/systemd/system/prometheus.service.d/10.conf", 2});
    CHECK(value_of(server.configured, "web.enable-admin-api") == "true");
    CHECK(server.configured->find("web.listen-address")->file == "/etc/default/prometheus");
    CHECK(server.package == "prometheus 2.42.0+ds-5+b5");
    CHECK(server.version == "2.42.0");
    CHECK(server.distribution == "debian 12");
    CHECK(server.identity == Identity{110, 120, {130}});
    CHECK(server.group_names == Words{"docker"});
    CHECK(prometheus::build_of(server).debian == true);
}

TEST_CASE("an image: no unit, a masked one, an environment file that is missing, a link that would lead out") {
    const Tree tree;
    CHECK(image(tree).configured.error().code == Code::missing);
    tree.write("/lib/systemd/system/prometheus.service", "[Service]\nExecStart=/usr/bin/prometheus $ARGS\nEnvironmentFile=/etc/default/gone\nEnvironmentFile=-/etc/default/too\n");
    CHECK(image(tree).configured->problems == Words{"EnvironmentFile=/etc/default/gone does not exist: the unit does not start"});
    tree.link("/etc/default/gone", "/../../../../etc/hostname");
    tree.write("/etc/hostname", "ARGS=--web.enable-lifecycle\n");
    CHECK(value_of(image(tree).configured, "web.enable-lifecycle") == "true");  // the image's own /etc/hostname
    tree.link("/etc/systemd/system/prometheus.service", "/dev/null");
    CHECK(image(tree).configured.error().detail.find("masked") != std::string::npos);
}

TEST_CASE("what a security archive has that is newer, in dpkg's order") {
    const std::pair<std::string, bool> versions[] = {{"2.42.0+ds-5+deb12u1", false}, {"2.42.0+ds-5+deb12u2", true}, {"2.42.0+ds-5+deb12u1~bpo1", false}, {"2.42.0+ds-5+deb12u10", true},
                                                     {"1:2.0-1", true}, {"2.9.0-1", false}, {"2.42.0+ds-5", false}, {"2.100.0-1", true}};
    for (const auto& [version, newer] : versions) {
        CAPTURE(version);
        const Tree tree;
        tree.write("/lib/systemd/system/prometheus.service", "[Service]\nExecStart=/usr/bin/prometheus\n");
        tree.write("/var/lib/dpkg/info/prometheus.list", "/usr/bin/prometheus\n");
        tree.write("/var/lib/dpkg/status", "Package: prometheus\nStatus: install ok installed\nVersion: 2.42.0+ds-5+deb12u1\n");
        tree.write("/var/lib/apt/lists/security.example.org_dists_bookworm-security_main_binary-amd64_Packages", "Package: a\nVersion: 99\n\nPackage: prometheus\nVersion: " + version + "\n");
        tree.write("/var/lib/apt/lists/archive.example.org_dists_sid_main_binary-amd64_Packages", "Package: prometheus\nVersion: 99\n");
        CHECK(image(tree).update == (newer ? version : ""));
    }
}

TEST_CASE("a package that is not called like its program, and one that was removed") {
    const Tree tree;
    tree.write("/lib/systemd/system/prometheus.service", "[Service]\nExecStart=/usr/bin/prometheus\n");
    tree.write("/var/lib/dpkg/info/monitoring:amd64.list", "/usr/bin/prometheus\n");
    tree.write("/var/lib/dpkg/status", "Package: monitoring\nStatus: install ok installed\nVersion: 3\n");
    CHECK(image(tree).package == "monitoring 3");
    tree.write("/var/lib/dpkg/status", "Package: monitoring\nStatus: deinstall ok config-files\nVersion: 3\n");
    CHECK(image(tree).package.empty());
}

TEST_CASE("a package manager whose database is not read is named, and only where it could have put the program") {
    const Tree tree;
    const auto manager_of = [&](const std::string& program) {
        tree.write("/lib/systemd/system/prometheus.service", "[Service]\nExecStart=" + program + "\n");
        return image(tree).unread_packages;
    };
    CHECK(manager_of("/usr/bin/prometheus").empty());
    tree.write("/var/lib/rpm/rpmdb.sqlite", "SQLite format 3");
    CHECK(manager_of("/usr/bin/prometheus") == "rpm");
    CHECK(manager_of("/usr/local/bin/prometheus").empty());
    CHECK(manager_of("/srv/prometheus").empty());
    tree.write("/var/lib/dpkg/info/prometheus.list", "/usr/bin/prometheus\n");
    tree.write("/var/lib/dpkg/status", "Package: prometheus\nStatus: install ok installed\nVersion: 2.42.0+ds-5\n");
    CHECK(manager_of("/usr/bin/prometheus").empty());  // dpkg's, beside an rpm that somebody installed, too
}

// ---- processes ------------------------------------------------------------------------------------------------------

TEST_CASE("the subject is the process in the unit's control group; others are told by what the kernel says of them") {
    const Tree proc;
    const auto found = servers(proc, {{.pid = 50, .words = {"/usr/bin/prometheus", "--web.enable-lifecycle"}},
                                      {.pid = 60, .uid = 65534, .cgroup = "/docker-" + container_id + ".scope", .network = "net:[2]", .mounts = "mnt:[2]", .pids = "pid:[2]"},
                                      {.pid = 70, .comm = "sleep", .exe = "/usr/bin/sleep", .words = {"prometheus", "--config.file=/etc/shadow"}, .uid = 1000, .cgroup = "/user.slice/user-1000.slice/session-1.scope"},
                                      {.pid = 80, .uid = 1000, .cgroup = "/user.slice/user-1000.slice/user@1000.service/app.slice/" + std::string(unit_name)},
                                      {.pid = 90, .uid = 1000, .cgroup = "/user.slice/x.scope", .network = "net:[3]", .mounts = "mnt:[3]", .pids = "pid:[3]", .users = "user:[3]"},
                                      {.pid = 95, .comm = "nginx", .exe = "/usr/sbin/nginx", .words = {"nginx"}, .cgroup = "/system.slice/nginx.service"}});
    REQUIRE(found.size() == 5);
    CHECK(found[0].kind == Server::Kind::unit);
    CHECK(found[0].process->pid == 50);
    CHECK(found[0].identity == Identity{0, 7, {7, 8}});
    CHECK(value_of(found[0].running, "web.enable-lifecycle") == "true");
    CHECK(found[0].started == std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000 + 5000 / ::sysconf(_SC_CLK_TCK))));
    CHECK(found[1].kind == Server::Kind::container);
    CHECK(found[1].name == "container " + container_id.substr(0, 12));
    CHECK(found[1].own_network);
    CHECK(found[1].root == proc.path() + "/60/root");
    for (const auto i : {2, 3, 4}) {  // a name in argv, a user's own unit, namespaces that any user can make
        CHECK(found[static_cast<std::size_t>(i)].kind == Server::Kind::stranger);
        CHECK(found[static_cast<std::size_t>(i)].root.empty());
        CHECK(found[static_cast<std::size_t>(i)].directory.empty());
    }
}

TEST_CASE("the unit's server is there when it does not run, and its program may have been replaced") {
    const Tree idle, proc;
    const auto down = servers(idle, {});
    REQUIRE(down.size() == 1);
    CHECK_FALSE(down[0].process);
    const auto replaced = servers(proc, {{.pid = 50, .exe = "/usr/bin/prometheus (deleted)"}});
    CHECK(replaced[0].replaced);
    CHECK(replaced[0].executable == "/usr/bin/prometheus");
    CHECK(replaced[0].package.empty());
}

TEST_CASE("an @file is read as the process could, and not through a link") {
    const Tree proc, files;
    files.write("/args", "--web.enable-admin-api\n");
    files.link("/link", "args");
    files.write("/secret", "--web.enable-lifecycle\n");
    fs::permissions(files.path() + "/secret", fs::perms(0600));
    const std::string at = "@" + files.path();
    make(proc, "50", {.pid = 50, .words = {"prometheus", at + "/args", at + "/link", at + "/secret", at + "/gone"}, .uid = 4242});
    proc.link("/50/root", "/");
    Fake first{.pid = 1, .comm = "systemd", .words = {"/sbin/init"}, .cgroup = "/init.scope"};
    make(proc, "1", first);
    make(proc, "self", first);
    const auto found = host::read_servers(unit_name, {}, proc.path());
    REQUIRE(found);
    const auto& line = found->front().running;
    CHECK(value_of(line, "web.enable-admin-api") == "true");
    CHECK(value_of(line, "web.enable-lifecycle") == "(not given)");
    CHECK(line->unread.size() == 3);
}

TEST_CASE("the version that Go's linker wrote, by flags or by module") {
    const std::pair<std::string, std::string> cases[] = {
        {"path\tx\nbuild\t-ldflags=\"-X github.com/prometheus/common/version.Version=2.53.1 -X y=z\"\n", "2.53.1"},
        {"mod\tgithub.com/prometheus/prometheus\tv0.301.2\t\n", "3.1.2"},
        {"mod\tgithub.com/prometheus/prometheus\tv0.314.0\t\n", "3.14.0"},
        {"mod\tgithub.com/prometheus/prometheus\tv0.53.0\t\n", "2.53.0"},
        {"mod\tgithub.com/prometheus/prometheus\t(devel)\t\n", ""},
        {"build\t-ldflags=\"-X github.com/prometheus/common/version.Version=$(rm)\"\n", ""},
    };
    for (const auto& [information, version] : cases) {
        CAPTURE(information);
        const Tree proc, files;
        files.write("/prometheus", go_program(std::string(200, '#') + "\n" + information));
        CHECK(servers(proc, {{.pid = 50, .exe = files.path() + "/prometheus"}})[0].version == version);
    }
    const Tree proc, files;
    files.write("/prometheus", go_program("x").substr(0, 100));  // cut off
    CHECK(servers(proc, {{.pid = 50, .exe = files.path() + "/prometheus"}})[0].version.empty());
}

// ---- containers -----------------------------------------------------------------------------------------------------

TEST_CASE("Docker's files: what is published where, environment, mounts; what is broken is said") {
    const Tree tree;
    const std::string at = "/data/docker/containers/" + container_id;
    tree.write("/etc/docker/daemon.json", R"({"data-root": "/data/docker"})");
    tree.write(at + "/config.v2.json", R"({"ID":")" + container_id + R"(","Name":"/prom","State":{"Running":true,"Pid":77},"Args":["--x"],"Config":{"Image":"prom/prometheus:v2.53.1","Env":["A=1"]},
        "NetworkSettings":{"Ports":{"9090/tcp":[{"HostIp":"0.0.0.0","HostPort":"32768"},{"HostIp":"::","HostPort":"32768"}],"9091/udp":null}}})");
    tree.write(at + "/hostconfig.json", R"({"NetworkMode":"bridge","Privileged":false,"Binds":["/var/run/docker.sock:/var/run/docker.sock:ro"],"PortBindings":{"9090/tcp":[{"HostIp":"","HostPort":""}]}})");
    tree.write("/data/docker/containers/broken/config.v2.json", "{");
    const auto facts = host::read_containers({}, tree.path());
    REQUIRE(facts.containers.size() == 1);
    const auto& container = facts.containers.front();
    CHECK(container.name == "prom");
    CHECK(container.image == "prom/prometheus:v2.53.1");
    CHECK(container.pid == 77);
    CHECK(container.mounts == Words{"/var/run/docker.sock"});
    REQUIRE(facts.publications.size() == 2);
    CHECK(to_text(facts.publications[0].host) == "0.0.0.0:32768");
    CHECK(to_text(facts.publications[1].host) == "[::]:32768");
    CHECK(facts.publications[0].container_port == 9090);
    CHECK(facts.unread.size() == 2);
    tree.write(at + "/hostconfig.json", R"({"NetworkMode":"host","PortBindings":{"9090/tcp":[{"HostIp":"","HostPort":"9090"}]}})");
    CHECK(host::read_containers({}, tree.path()).publications.empty());  // the host's network: nothing is published
}

TEST_CASE("Docker with user namespaces keeps its containers below the ids that root is inside") {
    const Tree tree;
    for (const std::string place : {"/var/lib/docker/100000.100000/containers/", "/var/lib/docker/overlay2/containers/", "/var/lib/docker/1.x/containers/"}) {
        tree.write(place + container_id + "/config.v2.json", R"({"ID":")" + container_id + R"(","Name":"/prom","State":{"Running":true,"Pid":77},"Config":{"Image":"prom/prometheus"}})");
        tree.write(place + container_id + "/hostconfig.json", R"({"NetworkMode":"bridge","PortBindings":{"9090/tcp":[{"HostIp":"127.0.0.1","HostPort":"9090"}]}})");
    }
    const auto facts = host::read_containers({}, tree.path());
    REQUIRE(facts.containers.size() == 1);
    CHECK(facts.containers[0].source.starts_with("/var/lib/docker/100000.100000/containers/"));
    REQUIRE(facts.publications.size() == 1);
    CHECK(to_text(facts.publications[0].host) == "127.0.0.1:9090");
}

TEST_CASE("Podman's files") {
    const Tree tree;
    const std::string storage = "/var/lib/containers/storage/overlay-containers";
    tree.write(storage + "/containers.json", R"([{"id":"abc","names":["prom"],"image":"0123","metadata":"{\"image-name\":\"quay.io/prometheus/prometheus:v3.1.0\"}"},{"id":"../x"}])");
    tree.write(storage + "/abc/userdata/config.json", R"({"process":{"args":["prometheus","--x"],"env":["A=1"]},"mounts":[{"type":"bind","source":"/run/podman/podman.sock"}],"linux":{"namespaces":[{"type":"pid"}]}})");
    const auto facts = host::read_containers({}, tree.path());
    REQUIRE(facts.containers.size() == 1);
    CHECK(facts.containers[0].image == "quay.io/prometheus/prometheus:v3.1.0");
    CHECK(facts.containers[0].mounts == Words{"/run/podman/podman.sock"});
    CHECK(facts.containers[0].host_network);
    CHECK_FALSE(facts.containers[0].running);
    tree.write("/run/containers/storage/overlay-containers/abc/userdata/pidfile", "4711");
    const auto running = host::read_containers({}, tree.path());
    CHECK(running.containers.at(0).running);
    CHECK(running.containers.at(0).pid == 4711);
}

TEST_CASE("translating rules and proxies publish, too; only root's docker-proxy is one") {
    firewall::ForeignRules foreign;
    Rule rule;
    rule.expressions = {expr::Payload{expr::Payload::Base::network, 16, 4}, expr::Compare{expr::Compare::Op::eq, {127, 0, 0, 1}}, expr::Payload{expr::Payload::Base::transport, 2, 2},
                        expr::Compare{expr::Compare::Op::eq, {0x23, 0x82}}, expr::Foreign{"nat dnat to 172.17.0.2:9090"}};
    auto open = rule;
    open.expressions.erase(open.expressions.begin(), open.expressions.begin() + 2);
    open.expressions.back() = expr::Foreign{"xt DNAT to 172.17.0.2:9090"};
    foreign.chains.push_back({.family = "ip", .table = "nat", .name = "DOCKER", .type = "", .hook = {}, .devices = {}, .rules = {rule, open}});
    const Tree proc, tree;
    const Words words{"/usr/bin/docker-proxy", "-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", "9090", "-container-ip", "172.17.0.2", "-container-port", "9090"};
    make(proc, "1", {.pid = 1, .comm = "systemd", .cgroup = "/init.scope"});
    make(proc, "300", {.pid = 300, .comm = "docker-proxy", .exe = "/usr/bin/docker-proxy", .words = words, .cgroup = "/system.slice/docker.service"});
    make(proc, "301", {.pid = 301, .comm = "docker-proxy", .exe = "/home/x/docker-proxy", .words = words, .uid = 1000, .cgroup = "/user.slice/x.scope"});
    const auto rules = host::read_containers(foreign, tree.path()).publications;
    REQUIRE(rules.size() == 2);
    CHECK(to_text(rules[0].host) == "127.0.0.1:9090");
    CHECK(to_text(rules[1].host) == "0.0.0.0:9090");
    CHECK(rules[1].container_port == 9090);
    const auto all = host::read_containers({}, "", proc.path()).publications;
    const auto proxies = std::ranges::count(all, Publication::Seen::proxy, &Publication::seen);
    CHECK(proxies == 1);
}
