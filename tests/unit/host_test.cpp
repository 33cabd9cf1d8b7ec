#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include <netinet/in.h>  // before linux/netfilter.h, which otherwise brings the kernel's own version of it

#include <doctest/doctest.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "promwarden/host.hpp"
#include "temporary.hpp"

using namespace promwarden;
using namespace promwarden::host;

namespace {

/// A network namespace of this test's own, for the life of the value; loopback is up.
class Namespace {
public:
    Namespace() : before_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
        REQUIRE(::unshare(CLONE_NEWNET) == 0);
        run("link set lo up");
    }
    ~Namespace() { ::setns(*before_, CLONE_NEWNET); }
    Namespace(const Namespace&) = delete;
    Namespace& operator=(const Namespace&) = delete;

    /// Lines for ip(8).
    static void run(const std::string& lines) { REQUIRE(std::system(("ip -batch - <<'END'\n" + lines + "\nEND\n").c_str()) == 0); }

private:
    Fd before_;
};

bool root() {
    if (::geteuid() == 0) return true;
    MESSAGE("skipped: network namespaces need root");
    return false;
}

struct Child {
    pid_t pid;
    explicit Child(const std::function<void()>& prepare = [] {}) {
        int ready[2];
        REQUIRE(::pipe(ready) == 0);
        pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            prepare();
            [[maybe_unused]] const auto wrote = ::write(ready[1], "x", 1);
            for (;;) ::pause();
        }
        char byte = 0;
        CHECK(::read(ready[0], &byte, 1) == 1);
        ::close(ready[0]);
        ::close(ready[1]);
    }
    ~Child() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
};

sockaddr_storage name_of(const std::string& text, std::uint16_t port, socklen_t& length) {
    const auto address = parse_address(text).value();
    sockaddr_storage storage{};
    if (address.family == Family::ip4) {
        sockaddr_in name{AF_INET, htons(port), {}, {}};
        std::memcpy(&name.sin_addr, address.bytes.data(), 4);
        std::memcpy(&storage, &name, length = sizeof name);
    } else {
        sockaddr_in6 name{AF_INET6, htons(port), 0, {}, 0};
        std::memcpy(&name.sin6_addr, address.bytes.data(), 16);
        std::memcpy(&storage, &name, length = sizeof name);
    }
    return storage;
}

Fd socket_of(const std::string& address, int type) { return Fd{::socket(address.find(':') == std::string::npos ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0)}; }

Fd bound(const std::string& address, std::uint16_t port, int type = SOCK_STREAM, int v6only = -1) {
    Fd fd = socket_of(address, type);
    if (v6only >= 0) REQUIRE(::setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only) == 0);
    socklen_t length = 0;
    const auto name = name_of(address, port, length);
    REQUIRE(::bind(*fd, reinterpret_cast<const sockaddr*>(&name), length) == 0);
    if (type == SOCK_STREAM) REQUIRE(::listen(*fd, 8) == 0);
    return fd;
}

Fd connected(const std::string& address, std::uint16_t port, int type = SOCK_STREAM) {
    Fd fd = socket_of(address, type);
    socklen_t length = 0;
    const auto name = name_of(address, port, length);
    REQUIRE(::connect(*fd, reinterpret_cast<const sockaddr*>(&name), length) == 0);
    return fd;
}

Fd accepted(const Fd& listener) { return Fd{::accept4(*listener, nullptr, nullptr, SOCK_CLOEXEC)}; }

const Link* named(const std::vector<Link>& links, std::string_view name) {
    const auto found = std::ranges::find(links, name, &Link::name);
    return found == links.end() ? nullptr : &*found;
}

const Listener* on(const std::vector<Listener>& listeners, const char* endpoint) {
    const auto found = std::ranges::find(listeners, parse_endpoint(endpoint).value(), &Listener::endpoint);
    return found == listeners.end() ? nullptr : &*found;
}

/// Attaches a program that passes every packet, the way `ip link set dev NAME xdpgeneric` does; -1 takes it off.
int load_xdp() {
    const bpf_insn program[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, XDP_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    bpf_attr attribute{};
    attribute.prog_type = BPF_PROG_TYPE_XDP;
    attribute.insn_cnt = 2;
    attribute.insns = reinterpret_cast<std::uint64_t>(program);
    attribute.license = reinterpret_cast<std::uint64_t>("GPL");
    return static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attribute, sizeof attribute));
}

void attach_xdp(int link, int program) {
    std::array<char, 512> buffer{};
    auto* header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = RTM_SETLINK;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    auto* info = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg)));
    info->ifi_index = link;
    auto* nest = mnl_attr_nest_start(header, IFLA_XDP);
    mnl_attr_put_u32(header, IFLA_XDP_FD, static_cast<std::uint32_t>(program));
    mnl_attr_put_u32(header, IFLA_XDP_FLAGS, XDP_FLAGS_SKB_MODE);
    mnl_attr_nest_end(header, nest);
    const Handle<mnl_socket, mnl_socket_close> socket{mnl_socket_open(NETLINK_ROUTE)};
    REQUIRE(mnl_socket_sendto(socket.get(), header, header->nlmsg_len) > 0);
    const auto length = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    REQUIRE(length > 0);
    REQUIRE(mnl_cb_run(buffer.data(), static_cast<std::size_t>(length), 0, 0, nullptr, nullptr) >= 0);
}

FirewallPolicy guarding(std::uint16_t port) {
    FirewallPolicy policy;
    policy.services.push_back({"prometheus", {}, {{port, port}}, Protocol::tcp, {}, Deny::drop, {}, {}});
    return policy;
}

Rule rule(std::vector<Expression> expressions) { return {std::move(expressions), ""}; }
std::vector<Expression> port_is(std::uint16_t port, std::string foreign) {
    return {expr::Payload{expr::Payload::Base::transport, 2, 2},
            expr::Compare{expr::Compare::Op::eq, {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port & 0xff)}}, expr::Foreign{std::move(foreign)}};
}

firewall::ForeignChain chain(std::string family, std::optional<int> hook, int priority, std::vector<Rule> rules) {
    return {std::move(family), "t", "c", "", hook, priority, false, {}, std::move(rules)};
}

std::vector<Bypass> judge(std::vector<firewall::ForeignChain> chains, std::vector<std::string> flowtables = {}) {
    return judge_paths(guarding(9090), {}, {std::move(chains), std::move(flowtables), 0});
}

}  // namespace

// ---- interfaces -----------------------------------------------------------------------------------------------------

TEST_CASE("links: kind, master and parent, and an XDP program while it is there") {
    if (!root()) return;
    const Namespace here;
    here.run("link add v0 type veth peer name v1\nlink add br0 type bridge\nlink set v1 master br0\nlink add link v0 mv0 type macvlan\nlink set v0 up");
    const auto links = read_links().value();
    CHECK(std::ranges::is_sorted(links, {}, &Link::index));
    REQUIRE(named(links, "mv0"));
    CHECK(named(links, "lo")->kind.empty());
    CHECK(named(links, "br0")->kind == "bridge");
    CHECK(named(links, "v1")->kind == "veth");
    CHECK(named(links, "v1")->master == named(links, "br0")->index);
    CHECK(named(links, "v0")->master == 0);
    CHECK(named(links, "mv0")->kind == "macvlan");
    CHECK(named(links, "mv0")->parent == named(links, "v0")->index);

    const Fd program{load_xdp()};
    if (!program) {
        MESSAGE("skipped: this kernel does not let us load an XDP program");
        return;
    }
    attach_xdp(named(links, "v0")->index, *program);
    const auto with = read_links().value();
    CHECK(named(with, "v0")->xdp_program != 0);
    CHECK(named(with, "v1")->xdp_program == 0);
    CHECK(judge_paths({}, {with, {}, {}, {}}, {}).front().kind == Bypass::Kind::xdp);
    attach_xdp(named(links, "v0")->index, -1);
    CHECK(named(read_links().value(), "v0")->xdp_program == 0);
}

TEST_CASE("links: a parent in another namespace is not mistaken for the link with that number here") {
    if (!root()) return;
    const Namespace here;
    const Child other([] { ::unshare(CLONE_NEWNET); });
    here.run("link add v0 type veth peer name v1 netns " + std::to_string(other.pid));
    CHECK(named(read_links().value(), "v0")->parent == 0);
}

TEST_CASE("links: what lies beyond, by the routes of both families and every table") {
    if (!root()) return;
    const Namespace here;
    here.run("link add br0 type bridge\nlink add br1 type bridge\nlink add v0 type veth peer name v1\nlink add d0 type vxlan id 7 dstport 4789");
    here.run("link set br0 up\nlink set br1 up\nlink set v0 up\nlink set v1 up\nlink set d0 up\naddress add 192.0.2.1/24 dev br0\naddress add 198.51.100.1/24 dev br1");
    using Beyond = Link::Beyond;
    const auto beyond = [](std::string_view name) { return named(read_links().value(), name)->beyond; };
    const auto after = [&](const std::string& lines, std::string_view name) {
        here.run(lines);
        return beyond(name);
    };
    CHECK(beyond("br0") == Beyond::nothing);
    CHECK(after("route add 203.0.113.0/24 via 192.0.2.9", "br0") == Beyond::networks);
    CHECK(after("route add default via 192.0.2.9", "br0") == Beyond::everything);
    CHECK(after("route del default", "br0") == Beyond::networks);
    CHECK(after("route add default table 77 nexthop via 198.51.100.9 dev br1 nexthop via 192.0.2.9 dev br0", "br0") == Beyond::everything);
    CHECK(beyond("br1") == Beyond::everything);
    CHECK(after("route add ::/0 via fe80::9 dev v0", "v0") == Beyond::everything);
    CHECK(after("route add 2001:db8::/32 via fe80::9 dev v1", "v1") == Beyond::networks);
    CHECK(after("route change ::/0 via fe80::9 dev v0 proto ra", "v0") == Beyond::networks);  // anybody on the link could have said that
    CHECK(after("route flush table 77\nlink set br0 down", "br0") == Beyond::nothing);
    CHECK(after("route add default dev d0", "d0") == Beyond::nothing);  // no container is behind that: not told
}

TEST_CASE("link monitor: a route that tells what lies beyond is a change, others are not") {
    if (!root()) return;
    const Namespace here;
    here.run("link add br0 type bridge\nlink add d0 type vxlan id 7 dstport 4789\nlink set br0 up\nlink set d0 up\naddress add 192.0.2.1/24 dev br0\naddress add 198.51.100.1/24 dev d0");
    auto monitor = LinkMonitor::open().value();
    const auto notices = [&](const std::string& lines) {
        here.run(lines);
        const bool first = monitor.changed().value();
        return first && !monitor.changed().value();
    };
    CHECK_FALSE(notices("route add 203.0.113.0/24 via 198.51.100.9"));
    CHECK_FALSE(notices("route add default via 198.51.100.9 metric 9"));
    CHECK_FALSE(notices("route add 10.0.0.0/8 dev br0"));
    CHECK(notices("route add default via 192.0.2.9"));
    CHECK(notices("route del default via 192.0.2.9"));
    here.run("route add default via 192.0.2.9");
    CHECK(monitor.changed().value());
    CHECK(notices("link set br0 down"));  // takes its routes along without a word about them
}

TEST_CASE("link monitor: says what matters, once") {
    if (!root()) return;
    const Namespace here;
    here.run("link add v0 type veth peer name v1\nlink add br0 type bridge");
    auto monitor = LinkMonitor::open().value();
    CHECK_FALSE(monitor.changed().value());
    here.run("link set v0 mtu 1400\nlink set v0 up\naddress add 192.0.2.1/24 dev v0");
    CHECK_FALSE(monitor.changed().value());
    const auto notices = [&](const std::string& lines) {
        here.run(lines);
        const bool first = monitor.changed().value();
        return first && !monitor.changed().value();
    };
    CHECK(notices("link set v0 master br0"));
    CHECK(notices("link set v1 name v9"));
    CHECK(notices("link add link v9 mv0 type macvlan"));
    CHECK(notices("link del mv0"));
    REQUIRE(std::system("tc qdisc add dev v9 clsact") == 0);
    CHECK_FALSE(monitor.changed().value());
    REQUIRE(std::system("tc filter add dev v9 ingress protocol ip u32 match ip dport 9090 0xffff flowid 1:1") == 0);
    CHECK(monitor.changed().value());
}

TEST_CASE("link monitor: an overflow is a change, and the next look starts from what is there now") {
    if (!root()) return;
    const Namespace here;
    here.run("link add v0 type veth peer name v1");
    auto monitor = LinkMonitor::open().value();
    const int small = 1;
    REQUIRE(::setsockopt(monitor.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    std::string lines;
    for (int i = 0; i < 20; ++i) lines += "link set v0 mtu " + std::to_string(1300 + i) + "\n";  // nothing of interest by itself
    here.run(lines);
    CHECK(monitor.changed().value());
    CHECK_FALSE(monitor.changed().value());
    here.run("link set v0 name v8");
    CHECK(monitor.changed().value());
}

// ---- sockets --------------------------------------------------------------------------------------------------------

TEST_CASE("listeners: both families, v6only, mapped addresses, UDP that takes from anybody") {
    if (!root()) return;
    const Namespace here;
    const auto a = bound("127.0.0.1", 9090), b = bound("::", 9091, SOCK_STREAM, 0), c = bound("::1", 9092, SOCK_STREAM, 1), d = bound("::ffff:127.0.0.1", 9093);
    const auto e = bound("0.0.0.0", 9094, SOCK_DGRAM), f = connected("127.0.0.1", 9094, SOCK_DGRAM);
    const auto listeners = read_listeners().value();
    CHECK(listeners.size() == 5);
    REQUIRE(on(listeners, "127.0.0.1:9090"));
    CHECK(on(listeners, "127.0.0.1:9090")->uid == 0);
    CHECK(on(listeners, "127.0.0.1:9090")->inode != 0);
    REQUIRE(on(listeners, "[::]:9091"));
    CHECK_FALSE(on(listeners, "[::]:9091")->v6only);
    REQUIRE(on(listeners, "[::1]:9092"));
    CHECK(on(listeners, "[::1]:9092")->v6only);
    CHECK(on(listeners, "127.0.0.1:9093"));
    REQUIRE(on(listeners, "0.0.0.0:9094"));
    CHECK(on(listeners, "0.0.0.0:9094")->protocol == Protocol::udp);
}

TEST_CASE("connections: those to the ports asked for, as the kernel filters them") {
    if (!root()) return;
    const Namespace here;
    std::vector<Fd> listeners, open;
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{9089, 9090, 9091, 9095, 9100}) {
        listeners.push_back(bound("::", port, SOCK_STREAM, 0));
        open.push_back(connected("127.0.0.1", port));
        open.push_back(accepted(listeners.back()));
    }
    const auto six = connected("::1", 9090), six_here = accepted(listeners[1]);
    const auto ports_of = [](std::vector<PortRange> ranges) {
        std::multiset<std::uint16_t> ports;
        const auto all1 = read_connections(ranges).value();
        for (const auto& connection : all1) ports.insert(connection.local.port);
        return ports;
    };
    CHECK(ports_of({{9090, 9090}}) == std::multiset<std::uint16_t>{9090, 9090});
    CHECK(ports_of({{9089, 9091}}) == std::multiset<std::uint16_t>{9089, 9090, 9090, 9091});
    CHECK(ports_of({{9091, 9091}, {9094, 9096}, {9100, 9100}}) == std::multiset<std::uint16_t>{9091, 9095, 9100});
    CHECK(ports_of({{1, 1}, {65535, 65535}}).empty());
    CHECK(ports_of({}).empty());
    CHECK(ports_of({{0, 65535}}).size() == 12);  // both ends of each

    auto mapped = 0;
    const auto all2 = read_connections(std::vector<PortRange>{{9090, 9090}}).value();
    for (const auto& connection : all2)
        if (connection.local == parse_endpoint("127.0.0.1:9090").value() && connection.remote.address == parse_address("127.0.0.1").value()) ++mapped;
    CHECK(mapped == 1);
    CHECK(read_connections(std::vector<PortRange>(4000)).error().code == Code::limit);
}

// ---- processes ------------------------------------------------------------------------------------------------------

TEST_CASE("processes: a child as it is, its ancestors, and nobody") {
    pid_t gone = 0;
    {
        const Child child([] {
            ::prctl(PR_SET_NAME, "a\n\033[1mb");
            if (::geteuid() == 0) CHECK(::setresuid(0, 65534, 0) == 0);
        });
        const auto process = read_process(child.pid).value();
        CHECK(process.pid == child.pid);
        CHECK(process.comm == "a??[1mb");
        CHECK(process.exe == std::filesystem::read_symlink("/proc/self/exe").string());
        CHECK(process.uid == (::geteuid() == 0 ? 65534 : ::geteuid()));
        const auto chain = ancestors(child.pid);
        REQUIRE(chain.size() >= 3);
        CHECK(chain[0] == child.pid);
        CHECK(chain[1] == ::getpid());
        CHECK(chain[2] == ::getppid());
        gone = child.pid;
    }
    CHECK(read_process(gone).error().code == Code::missing);
    CHECK(ancestors(gone).empty());
}

TEST_CASE("processes: the unit is the one that systemd's manager of the host made") {
    const TemporaryDirectory proc;
    const auto unit = [&](const std::string& cgroup, const std::string& first = "0::/init.scope\n") {
        proc.write("1/cgroup", first);
        proc.write("77/cgroup", cgroup);
        proc.write("77/status", "Name:\tx\nPPid:\t1\nUid:\t7\t8\t9\t10\n");
        proc.write("77/comm", "x\n");
        return read_process(77, proc.path.string()).value().unit;
    };
    CHECK(unit("0::/system.slice/prometheus.service\n") == "prometheus.service");
    CHECK(unit("0::/system.slice/system-prometheus.slice/prometheus@a.service\n") == "prometheus@a.service");
    CHECK(unit("4:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/\n") == "a.service");
    CHECK(unit("1:name=systemd:/\n0::/system.slice/b.service\n") == "b.service");
    CHECK(unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/prometheus.service\n") == "user@1000.service");
    CHECK(unit("0::/machine.slice/machine-x.scope/payload/system.slice/prometheus.service\n") == "machine-x.scope");
    CHECK(unit("0::/system.slice/docker-1f.scope\n") == "docker-1f.scope");
    CHECK(unit("0::/nested/system.slice/c.service\n", "0::/nested/init.scope\n") == "c.service");
    CHECK(unit("0::/other/system.slice/c.service\n", "0::/nested/init.scope\n").empty());
    CHECK(unit("0::/kubepods/besteffort/pod1/prometheus.service\n").empty());
    CHECK(unit("0::/\n").empty());
    CHECK(unit("").empty());
    CHECK(unit("0::/../../system.slice/d.service\n").empty());
    CHECK(read_process(77, proc.path.string()).value().uid == 8);
}

TEST_CASE("holders and connections: by descriptor, whoever accepted") {
    if (!root()) return;
    const Namespace here;
    const auto listener = bound("127.0.0.1", 9090), elsewhere = bound("127.0.0.1", 9091);
    std::optional<Fd> client = connected("127.0.0.1", 9090);
    const auto server = accepted(listener);
    const Child child;  // has them all as well
    auto listeners = read_listeners().value();
    find_holders(listeners, std::vector<PortRange>{{9090, 9090}});
    std::set<pid_t> pids;
    for (const auto& process : on(listeners, "127.0.0.1:9090")->holders) pids.insert(process.pid);
    CHECK(pids == std::set<pid_t>{::getpid(), child.pid});
    CHECK(on(listeners, "127.0.0.1:9091")->holders.empty());
    CHECK(holders_of({}).empty());

    CHECK(connections_of(ancestors(child.pid)).value().size() == 2);
    CHECK(connections_of(std::vector<pid_t>{::getppid()}).value().empty());
    const auto ours = connections_of(std::vector<pid_t>{child.pid}).value();
    CHECK(std::ranges::any_of(ours, [](const Connection& c) { return c.local == parse_endpoint("127.0.0.1:9090").value(); }));
    CHECK(connections_of(std::vector<pid_t>{0x3ffffff}).value().empty());
}

TEST_CASE("connections: descriptors that we may not see are an error, not an empty list") {
    if (!root()) return;
    const Child child([] { ::prctl(PR_SET_DUMPABLE, 0); });
    const auto status = [&] {
        const pid_t asker = ::fork();
        if (asker == 0) {
            if (::setresuid(65534, 65534, 65534) != 0) ::_exit(9);
            const auto answer = connections_of(std::vector<pid_t>{child.pid});
            ::_exit(!answer && answer.error().code == Code::denied ? 0 : 1);
        }
        int code = 0;
        ::waitpid(asker, &code, 0);
        return code;
    }();
    CHECK(status == 0);
}

TEST_CASE("port holders: who is Prometheus, who is a container's, who is a stranger") {
    const TemporaryDirectory root;
    root.write("usr/lib/systemd/system/cockpit.socket", "[Socket]\nListenStream=9090\n");
    root.write("usr/lib/systemd/system/other.socket", "[Socket]\nListenStream=127.0.0.1:19090\n");
    root.write("etc/systemd/system/moved.socket.d/port.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:9099\n");
    std::filesystem::create_directories(root.path / "proc/self/ns");
    std::filesystem::create_directories(root.path / "proc/50/ns");
    std::filesystem::create_symlink("pid:[1]", root.path / "proc/self/ns/pid");
    std::filesystem::create_symlink("pid:[2]", root.path / "proc/50/ns/pid");
    const auto holders = [&](std::vector<Process> processes, const char* endpoint = "[::]:9090") {
        Listener listener;
        listener.endpoint = parse_endpoint(endpoint).value();
        listener.holders = std::move(processes);
        return port_holders(std::vector{listener}, std::vector<PortRange>{{9090, 9099}}, "prometheus.service", root.path.string(), (root.path / "proc").string());
    };
    const auto process = [](pid_t pid, std::string comm, std::string exe, std::string unit) { return Process{pid, std::move(comm), std::move(exe), 0, {}, std::move(unit)}; };
    using enum PortHolder::Kind;
    const struct {
        Process process;
        PortHolder::Kind kind;
        const char* text;
    } cases[] = {
        {process(9, "prometheus", "/usr/bin/prometheus", "prometheus.service"), prometheus, "[::]:9090: prometheus (pid 9, prometheus.service)"},
        {process(9, "prometheus", "/usr/bin/prometheus (deleted)", ""), prometheus, "(pid 9)"},
        {process(9, "prometheus", "/usr/bin/prometheus", "session-3.scope"), stranger, "session-3.scope), not the one of prometheus.service"},
        {process(9, "prometheus", "/tmp/evil", "prometheus.service"), stranger, "(pid 9, prometheus.service), which runs /tmp/evil"},
        {process(9, "prometheus", "/bin/prometheus", "docker-1f.scope"), container, "in a container"},
        {process(50, "prometheus", "/bin/prometheus", ""), container, "in a container"},
        {process(9, "docker-proxy", "/usr/bin/docker-proxy", "docker.service"), container, "publishes a container's port"},
        {process(9, "cockpit-ws", "/usr/lib/cockpit-ws", "cockpit.service"), stranger, "cockpit-ws (pid 9, cockpit.service)"},
        {process(1, "systemd", "/usr/lib/systemd/systemd", "init.scope"), stranger, "[::]:9090: systemd (pid 1), for cockpit.socket"},
    };
    for (const auto& each : cases) {
        const auto found = holders({each.process});
        REQUIRE(found.size() == 1);
        CHECK_MESSAGE(found[0].kind == each.kind, found[0].text);
        CHECK_MESSAGE(found[0].text.ends_with(each.text), found[0].text);
        CHECK(found[0].stranger() == (each.kind == stranger));
    }
    CHECK(holders({process(1, "systemd", "", "")}, "127.0.0.1:9099")[0].text == "127.0.0.1:9099: systemd (pid 1), for moved.socket");
    CHECK(holders({process(1, "systemd", "", "")}, "127.0.0.1:9098")[0].text == "127.0.0.1:9098: systemd (pid 1), for a socket unit");
    CHECK(holders({process(1, "systemd", "", ""), process(9, "prometheus", "/usr/bin/prometheus", "prometheus.service")})[0].kind == prometheus);
    CHECK(holders({process(9, "docker-proxy", "/usr/bin/docker-proxy", ""), process(10, "nc", "/bin/nc", "")})[0].kind == stranger);
    CHECK(holders({})[0].kind == unseen);
    CHECK(holders({})[0].stranger());
    CHECK(holders({}, "127.0.0.1:9100").empty());
}

// ---- ways around the filter -----------------------------------------------------------------------------------------

TEST_CASE("packet paths: tc filters with what they do, macvlan children elsewhere, route_localnet") {
    if (!root()) return;
    const Namespace here;
    const Child other([] { ::unshare(CLONE_NEWNET); });
    here.run("link add v0 type veth peer name v1\nlink add v2 type veth peer name v3\nlink set v0 up\nlink set v1 up\nlink add link v0 mv0 type macvlan\nlink set mv0 up\n"
             "link add link v0 mv1 address 02:00:00:00:00:77 type macvlan");
    const auto filters_at = [&](const std::string& tc) {
        REQUIRE(std::system(("tc -batch - <<'END'\n" + tc + "\nEND\n").c_str()) == 0);
        return read_packet_paths(read_links().value()).value().filters;
    };
    CHECK(filters_at("qdisc add dev v0 clsact\nqdisc add dev v3 clsact\nqdisc add dev v2 ingress").empty());
    const auto filters = filters_at("filter add dev v0 ingress protocol ip u32 match ip dport 9090 0xffff action mirred egress redirect dev v1\n"
                                    "filter add dev v3 egress protocol ip u32 match ip dport 9 0xffff action mirred ingress mirror dev v1\n"
                                    "filter add dev v2 ingress protocol ip u32 match ip dport 9 0xffff flowid 1:1");
    CHECK(std::ranges::find(filters, TrafficFilter{"v0", true, "u32", {"mirred egress redirect"}}) != filters.end());
    CHECK(std::ranges::find(filters, TrafficFilter{"v3", false, "u32", {"mirred ingress mirror"}}) != filters.end());
    CHECK(std::ranges::find(filters, TrafficFilter{"v2", true, "u32", {}}) != filters.end());
    CHECK(filters.size() == 3);

    CHECK(read_packet_paths(read_links().value()).value().addresses.empty());  // the child is here and known
    here.run("link set mv1 netns " + std::to_string(other.pid));
    REQUIRE(std::system(("nsenter -n -t " + std::to_string(other.pid) + " ip link set mv1 up").c_str()) == 0);
    std::ofstream("/proc/sys/net/ipv4/conf/v1/route_localnet") << "1";
    const auto paths = read_packet_paths(read_links().value()).value();
    CHECK(paths.addresses == std::vector<ForeignAddress>{{"02:00:00:00:00:77", {"v0"}}});
    CHECK(paths.route_localnet == std::vector<std::string>{"v1"});

    const auto found = find_bypasses({}, read_links().value(), {}).value();
    std::multiset<std::pair<Bypass::Kind, bool>> seen;
    for (const auto& bypass : found) seen.insert({bypass.kind, bypass.covered});
    using enum Bypass::Kind;
    CHECK(seen == std::multiset<std::pair<Bypass::Kind, bool>>{{tc, false}, {tc, false}, {tc, true}, {macvlan, true}, {macvlan, false}, {route_localnet, true}});
    CHECK(std::ranges::is_partitioned(found, [](const Bypass& bypass) { return !bypass.covered; }));
}

TEST_CASE("packet paths: what the kernel does not tell") {
    if (!root()) return;
    const Namespace here;
    const Child other([] { ::unshare(CLONE_NEWNET); });
    const auto elsewhere = " netns " + std::to_string(other.pid);
    const auto inside = [&](const std::string& words) { return std::system(("nsenter -n -t " + std::to_string(other.pid) + " ip " + words).c_str()) == 0; };
    const auto paths = [] { return read_packet_paths(read_links().value()).value(); };
    here.run("link add v0 type veth peer name v1\nlink add v2 type veth peer name v3\nlink set v0 up\nlink set v1 up\nlink set v2 up\nlink set v3 up");

    here.run("link add link v0 mv0 address 02:00:00:00:00:77 type macvlan\nlink set mv0" + elsewhere);
    CHECK(paths().addresses.empty());  // a child that is down
    REQUIRE(inside("link set mv0 up"));
    CHECK(paths().addresses == std::vector<ForeignAddress>{{"02:00:00:00:00:77", {"v0"}}});
    REQUIRE(inside("link del mv0"));
    here.run("link add link v0 mv0 type macvlan mode passthru\nlink set mv0" + elsewhere);
    REQUIRE(inside("link set mv0 up"));
    CHECK(paths().addresses.empty());
    REQUIRE(inside("link del mv0"));
    if (std::system("ip link add link v0 iv0 type ipvlan 2>/dev/null") == 0) {
        here.run("link set iv0" + elsewhere);
        REQUIRE(inside("link set iv0 up"));
        CHECK(paths().addresses.empty());
    } else {
        MESSAGE("skipped: this kernel has no ipvlan");
    }

    // The two sides of a clsact share what classifies.
    REQUIRE(std::system("tc qdisc add dev v2 clsact") == 0);
    for (const auto* side : {"ingress", "egress"})
        REQUIRE(std::system((std::string("tc filter add dev v2 ") + side + " protocol ip u32 match ip dport 9 0xffff flowid 1:1").c_str()) == 0);
    const auto filters = paths().filters;
    CHECK(std::ranges::count(filters, TrafficFilter{"v2", true, "u32", {}}) == 2);
    CHECK(std::ranges::count(filters, TrafficFilter{"v2", false, "u32", {}}) == 2);
}

TEST_CASE("packet paths: a directory that cannot be read is an error") {
    if (!root()) return;
    const TemporaryDirectory empty;
    CHECK(read_packet_paths({}, empty.path.string()).error().code == Code::missing);
}

TEST_CASE("bypasses: what lies below netfilter") {
    PacketPaths paths;
    paths.links = {{1, "eth0", "", 0, 0, 0}, {2, "eth1", "", 0, 0, 42}, {3, "mt", "macvtap", 0, 1, 0}, {4, "mv", "macvlan", 0, 1, 0}, {5, "veth", "veth", 0, 0, 0}};
    paths.filters = {{"eth0", true, "bpf", {}}, {"eth0", true, "u32", {"gact"}}, {"eth0", true, "u32", {"gact"}}, {"eth0", false, "u32", {"pedit", "gact"}}, {"eth0", true, "new", {"unknown action"}}};
    const auto found = judge_paths(guarding(9090), paths, {});
    const auto observed = [&](bool covered) {
        std::vector<std::string> lines;
        for (const auto& bypass : found)
            if (bypass.covered == covered) lines.push_back(bypass.subject + ": " + bypass.observed);
        return lines;
    };
    CHECK(observed(false) == std::vector<std::string>{
                                 "eth1: XDP program 42, which sees packets before any filter",
                                 "mt: macvtap on eth0: its packets go to a program (a virtual machine), not through the guard",
                                 "eth0: tc 1 bpf filter on ingress: its program decides",
                                 "eth0: tc 1 u32 filter on egress: pedit, gact",
                                 "eth0: tc 1 new filter on ingress: unknown action",
                             });
    CHECK(observed(true) == std::vector<std::string>{
                                "mv: macvlan on eth0, in this namespace: its packets pass the guard",
                                "eth0: tc 2 u32 filters on ingress: gact; it cannot lead a packet past the guard",
                            });
}

TEST_CASE("bypasses: rules of others, by deed and port") {
    constexpr int pre = NF_INET_PRE_ROUTING, in = NF_INET_LOCAL_IN, fwd = NF_INET_FORWARD, out = NF_INET_LOCAL_OUT, post = NF_INET_POST_ROUTING;
    enum class Expected { nothing, covered, open };
    using enum Expected;
    using enum Bypass::Kind;
    const struct {
        int hook, priority;
        std::vector<Expression> expressions;
        Expected expected;
        Bypass::Kind kind = redirect;
    } cases[] = {
        {pre, -100, port_is(8081, "redir to :9090"), covered, redirect},
        {pre, -100, port_is(9090, "redir to :8081"), covered, redirect},
        {pre, -100, port_is(8081, "redir to :9000-9100"), covered, redirect},
        {pre, -100, port_is(8081, "redir to :8082"), nothing},
        {pre, -100, port_is(8081, "redir"), covered, redirect},
        {pre, -100, {expr::Foreign{"xt REDIRECT"}}, covered, redirect},
        {out, -100, port_is(8081, "redir to :9090"), nothing},
        {pre, -100, port_is(8080, "nat dnat to 172.17.0.2:9090"), covered, redirect},
        {pre, -100, port_is(9090, "nat dnat"), covered, redirect},
        {pre, -100, port_is(8080, "nat dnat to 172.17.0.2:80"), nothing},
        {pre, -100, port_is(8080, "nat dnat"), nothing},
        {pre, -100, {expr::Foreign{"xt DNAT"}}, nothing},
        {post, 100, {expr::Foreign{"nat snat"}}, nothing},
        {post, 100, {expr::Foreign{"masq"}}, nothing},
        {pre, -150, port_is(8083, "tproxy to :9090"), covered, transparent_proxy},
        {pre, -150, port_is(8083, "tproxy to 127.0.0.1:15001"), nothing},
        {pre, -150, {expr::Foreign{"tproxy"}}, covered, transparent_proxy},
        {pre, -240, port_is(8081, "payload write th dport"), covered, rewrite},
        {in, 0, port_is(8081, "payload write th dport"), covered, rewrite},
        {in, 10, port_is(8081, "payload write th dport"), open, rewrite},
        {fwd, -20, port_is(8081, "payload write th dport"), covered, rewrite},
        {fwd, 0, port_is(8081, "payload write th dport"), open, rewrite},
        {post, 0, port_is(8081, "payload write @th,16,16"), open, rewrite},
        {out, 0, port_is(8081, "payload write th dport"), nothing},
        {pre, -260, {expr::Foreign{"payload write ip saddr"}}, open, rewrite},
        {pre, -260, port_is(9090, "payload write"), open, rewrite},
        {pre, -260, port_is(53, "payload write ip saddr"), nothing},
        {post, 0, {expr::Foreign{"payload write ip dscp"}}, nothing},
        {pre, 0, {expr::Foreign{"meta set mark"}}, nothing},
        {in, 0, port_is(9090, "counter"), nothing},
    };
    for (const auto& each : cases) {
        const auto found = judge({chain("ip", each.hook, each.priority, {rule(each.expressions)})});
        CAPTURE(to_text(rule(each.expressions)));
        CAPTURE(each.hook);
        REQUIRE(found.size() == (each.expected == nothing ? 0 : 1));
        if (found.empty()) continue;
        CHECK(found[0].covered == (each.expected == covered));
        CHECK(found[0].kind == each.kind);
        CHECK(found[0].subject == "table ip t chain c");
    }
}

TEST_CASE("bypasses: rules that do the same are one finding; a chain without a hook runs where its table does") {
    std::vector<Rule> rules;
    for (std::uint16_t port = 8081; port <= 8085; ++port) rules.push_back(rule(port_is(port, "redir to :9090")));
    auto jumped_to = chain("ip", {}, 0, rules);
    CHECK(judge({jumped_to}).empty());
    auto base = chain("ip", NF_INET_PRE_ROUTING, -100, {});
    base.name = "PREROUTING";
    const auto found = judge({base, jumped_to});
    REQUIRE(found.size() == 1);
    CHECK(found[0].observed.starts_with("'th dport 8081 "));
    CHECK(found[0].observed.find(" and 2 more: redirected on this host") != std::string::npos);
    base.table = "other";
    CHECK(judge({base, jumped_to}).empty());
}

TEST_CASE("bypasses: a range of ports is seen as one") {
    const auto between = [](std::uint8_t first, std::uint8_t last) {
        return rule({expr::Payload{expr::Payload::Base::transport, 2, 2}, expr::Compare{expr::Compare::Op::gte, {0x23, first}}, expr::Compare{expr::Compare::Op::lte, {0x23, last}},
                     expr::Foreign{"payload write ip saddr"}});
    };
    CHECK(judge({chain("ip", NF_INET_PRE_ROUTING, 0, {between(0x80, 0x90)})}).size() == 1);  // 9088-9104 holds 9090
    CHECK(judge({chain("ip", NF_INET_PRE_ROUTING, 0, {between(0x90, 0xa0)})}).empty());
}

TEST_CASE("bypasses: netdev chains and flowtables") {
    constexpr int ingress = 0;
    const auto kinds = [](const std::vector<Bypass>& found) {
        std::vector<std::pair<Bypass::Kind, bool>> result;
        for (const auto& bypass : found) result.emplace_back(bypass.kind, bypass.covered);
        return result;
    };
    using enum Bypass::Kind;
    using Kinds = std::vector<std::pair<Bypass::Kind, bool>>;
    const auto drops = rule({expr::Verdict{expr::Verdict::Kind::drop, ""}});
    CHECK(kinds(judge({chain("netdev", ingress, 0, {drops})})) == Kinds{{netdev_chain, true}});
    for (const auto* name : {"fwd", "dup", "payload write ip saddr", "payload write"})
        CHECK(kinds(judge({chain("netdev", ingress, 0, {drops, rule({expr::Foreign{name}})})})) == Kinds{{netdev_chain, false}});
    CHECK(kinds(judge({chain("netdev", {}, 0, {rule({expr::Foreign{"fwd"}})})})) == Kinds{{netdev_chain, false}});
    CHECK(judge({chain("netdev", {}, 0, {drops})}).empty());
    CHECK(kinds(judge({chain("inet", 5, 0, {rule({expr::Foreign{"fwd"}})})})) == Kinds{{netdev_chain, false}});

    CHECK(kinds(judge({}, {"inet filter f"})) == Kinds{{flowtable, true}});
    CHECK(kinds(judge({chain("inet", NF_INET_FORWARD, 0, {rule({expr::Foreign{"flow_offload"}})})}, {"inet filter f"})) == Kinds{{flowtable, false}});
}
