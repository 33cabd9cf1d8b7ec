// This host, as rotation needs it: its clock, its programs, its issuers.

#include <cstdlib>

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "parts.hpp"
#include "promwarden/program.hpp"

namespace promwarden::rotation {

namespace {

using namespace std::chrono_literals;
using program::Program;

constexpr auto issuer_time = 5min;
constexpr std::string_view promtool = "/usr/bin/promtool";
constexpr std::string_view issuer_account = "promwarden-issuer";

void close_bus(sd_bus* bus) { ::sd_bus_flush_close_unref(bus); }

/// By the kernel's word; where a sandbox keeps us from asking it, by that of whoever may.
bool synchronised(bool may_wait) {
    timex state{};
    if (::adjtimex(&state) >= 0) return (state.status & STA_UNSYNC) == 0;
    if (!may_wait) return true;
    sd_bus* opened = nullptr;
    if (::sd_bus_open_system(&opened) < 0) return true;
    const Handle<sd_bus, close_bus> bus(opened);
    ::sd_bus_set_method_call_timeout(bus.get(), 2'000'000);
    int value = 1;
    const int asked = ::sd_bus_get_property_trivial(bus.get(), "org.freedesktop.timedate1", "/org/freedesktop/timedate1", "org.freedesktop.timedate1", "NTPSynchronized", nullptr, 'b', &value);
    return asked < 0 || value != 0;
}

bool installed(std::string_view program) { return ::access(std::string(program).c_str(), X_OK) == 0; }

Result<> check_web_config(const std::string& path) {
    Program check;
    check.words = {std::string(promtool), "check", "web-config", path};
    check.user = "prometheus";  // who must be able to read what it names
    const auto ended = TRY(program::run_somewhere(check, "promwarden-check"));
    if (ended.status != 0) return fail(Code::invalid, "check", path, program::said(ended));
    return {};
}

Result<std::string> run_issuer(const TlsPolicy::Issuer& issuer, const std::string& request) {
    Program command;
    command.words = issuer.command;
    command.input = request;
    command.time = issuer_time;
    command.keeps = issuer.name;
    command.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "PROMWARDEN_ISSUER=" + issuer.name};
    if (!program::manager_runs()) {
        command.user = ::getpwnam(std::string(issuer_account).c_str()) != nullptr ? issuer_account : "nobody";
        const auto* account = ::getpwnam(command.user.c_str());
        command.directory = "/var/lib/promwarden-issuer/" + issuer.name;
        TRY(make_directory("/var/lib/promwarden-issuer", 0755));
        TRY(make_directory(command.directory, 0700));
        if (account != nullptr && ::geteuid() == 0 && ::lchown(command.directory.c_str(), account->pw_uid, account->pw_gid) != 0) return fail_errno("set owner of", command.directory);
        command.environment.push_back("STATE_DIRECTORY=" + command.directory);
        command.environment.push_back("HOME=" + command.directory);
    }
    const auto ended = TRY(program::run_somewhere(command, "promwarden-issuer-" + issuer.name));
    if (ended.status != 0) return fail(Code::failed, "run issuer", issuer.name, fmt::format("it ended with status {}: {}", ended.status, program::said(ended)));
    return ended.output;
}

}  // namespace

Result<> restart_unit(const std::string& unit) { return program::restart_unit(unit); }

Places places_of(const Policy& policy, std::string state) {
    Places places;
    places.state = std::move(state);
    if (!policy.prometheus.web_config.empty()) places.web_config = policy.prometheus.web_config;
    if (!policy.prometheus.config.empty()) places.prometheus_config = policy.prometheus.config;
    return places;
}

World host_world(bool may_wait) {
    World world;
    world.now = [] { return std::chrono::system_clock::now(); };
    if (const auto id = read_file("/etc/machine-id", 256)) world.machine = id->text;
    utsname name{};
    world.host = ::uname(&name) == 0 ? name.nodename : "localhost";
    world.synchronised = synchronised(may_wait);
    if (installed(promtool)) world.check_web_config = check_web_config;
    world.sign = run_issuer;
    return world;
}

Result<Signed> parse_signed(std::string_view text, const std::string& issuer) {
    constexpr std::string_view wish = "renewal-window:";
    std::optional<std::pair<Time, Time>> window;
    if (text.starts_with(wish)) {
        const auto line = text.substr(wish.size(), text.find('\n') - wish.size());
        text.remove_prefix(std::min(text.size(), wish.size() + line.size() + 1));
        const auto from = line.find_first_not_of(' ');
        const auto gap = from == std::string_view::npos ? from : line.find(' ', from);
        if (gap == std::string_view::npos) return fail(Code::invalid, "read the answer of issuer", issuer, "its renewal-window is not two times");
        window = {TRY(parse_time(line.substr(from, gap - from))), TRY(parse_time(line.substr(gap + 1)))};
        if (window->second <= window->first) window.reset();  // one that ends before it begins is to be ignored, RFC 9773
    }
    return Signed{TRY(tls::Chain::parse(text, "from issuer " + issuer)), window};
}

}  // namespace promwarden::rotation
