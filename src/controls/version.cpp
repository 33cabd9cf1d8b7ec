// Family version: holes that are known, by upstream's number where nobody else maintains the program, by the distribution's archive where it is a package.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "servers.hpp"

namespace promwarden {

namespace {

struct Number {
    int major = 0, minor = 0, patch = 0;
    auto operator<=>(const Number&) const = default;
};

std::optional<Number> number_of(std::string_view text) {
    Number number;
    const auto* at = text.data();
    const auto* end = text.data() + text.size();
    for (auto* part : {&number.major, &number.minor, &number.patch}) {
        const auto [next, error] = std::from_chars(at, end, *part);
        if (error != std::errc{}) return part == &number.patch ? std::optional(number) : std::nullopt;
        at = next;
        if (at == end || *at != '.') {
            if (part == &number.major) return std::nullopt;
            if (part == &number.minor) return number;
            break;
        }
        ++at;
    }
    return number;
}

/// A hole that upstream has repaired. `also` is the release of a maintained older branch (same major and minor) that has the repair, too.
struct Hole {
    std::string_view name, what;
    Number since, fixed;
    std::optional<Number> also = std::nullopt;
};
// From Prometheus' changelog and advisories.
constexpr Hole holes[] = {
    {"CVE-2021-29622", "an open redirect", {2, 23, 0}, {2, 27, 1}},
    {"CVE-2022-46146", "the password of web.yml can be passed by", {2, 24, 0}, {2, 40, 4}, Number{2, 37, 4}},
    {"CVE-2026-40179", "stored cross-site scripting in the web interface", {2, 0, 0}, {3, 11, 2}, Number{3, 5, 2}},
    {"CVE-2026-42151", "client secrets of Azure AD are shown on the configuration page", {2, 45, 0}, {3, 11, 3}},
    {"CVE-2026-42154", "one request to the remote-read endpoint takes all memory", {2, 0, 0}, {3, 11, 3}, Number{3, 5, 3}},
    {"GHSA-39j6-789q-qxvh", "secrets of STACKIT discovery are shown", {3, 6, 0}, {3, 12, 0}},
    {"credentials on redirect", "credentials are sent on to the host that a redirect names (repaired in 3.13.0)", {2, 0, 0}, {3, 13, 0}},
};

bool open(const Hole& hole, const Number& version) {
    if (version < hole.since || version >= hole.fixed) return false;
    return !(hole.also && version.major == hole.also->major && version.minor == hole.also->minor && version.patch >= hole.also->patch);
}

void judge_upstream(const Server& server, const Number& version, Gathered& gathered) {
    for (const auto& hole : holes) {
        if (!open(hole, version)) continue;
        gathered.findings.push_back({server.name, fmt::format("{}.{}.{} or newer", hole.fixed.major, hole.fixed.minor, hole.fixed.patch), fmt::format("{} has {}: {}", server.version, hole.name, hole.what), std::nullopt,
                                     server.process ? Evidence::process : Evidence::config,
                                     {false, fmt::format("install Prometheus {}.{}.{} or newer; {}", hole.fixed.major, hole.fixed.minor, hole.fixed.patch, then_restart(server))}});
    }
}

void judge_package(const Server& server, Gathered& gathered) {
    const auto space = server.package.find(' ');
    const auto name = server.package.substr(0, space);
    if (!server.update.empty()) {
        gathered.findings.push_back({server.name, fmt::format("{} {}, which the security archive has", name, server.update), fmt::format("{} is installed, and the security archive has {}", server.package, server.update), std::nullopt,
                                     Evidence::config, {false, fmt::format("apt install {}; {}", name, then_restart(server))}});
        return;
    }
    const auto version = number_of(server.version);
    const auto newer = !version ? 0 : std::ranges::count_if(holes, [&](const Hole& hole) { return open(hole, *version); });
    auto note = fmt::format("{}{}: no newer one is known from its security archive", server.package, server.distribution.empty() ? "" : " of " + server.distribution);
    if (newer > 0) note += fmt::format(" (by its number alone it would have {} known hole{}; distributions repair without raising it)", newer, newer == 1 ? "" : "s");
    gathered.notes.push_back(std::move(note));
}

/// By upstream's number a package that its distribution repaired would look open, and one that it did not repair would not.
std::string packaged_elsewhere(const Server& server) {
    constexpr std::pair<std::string_view, std::string_view> questions[] = {{"rpm", "dnf updateinfo list --security, for the package that rpm -qf {} names"}, {"apk", "apk version, for the package that apk info --who-owns {} names"}, {"pacman", "arch-audit, for the package that pacman -Qo {} names"}};
    const auto found = std::ranges::find(questions, std::string_view(server.unread_packages), &std::pair<std::string_view, std::string_view>::first);
    std::string question(found == std::end(questions) ? std::string_view("its package manager") : found->second);
    if (const auto at = question.find("{}"); at != std::string::npos) question.replace(at, 2, server.executable);
    return fmt::format("{}: {} ({}) may be of a package of {}, whose database is not read here; ask {}", server.name, server.executable, server.version.empty() ? "version unknown" : server.version, server.unread_packages, question);
}

}  // namespace

Decision decide_vulnerable(const Policy& policy, const Facts& facts) {
    if (!facts.servers) return unknown(facts.servers.error());
    Gathered gathered;
    for (const auto* server : judged_servers(facts)) {
        gathered.judged = true;
        const auto version = number_of(server->version);
        if (!server->package.empty()) judge_package(*server, gathered);
        else if (!server->unread_packages.empty()) gathered.undecided.push_back(packaged_elsewhere(*server));
        else if (version) judge_upstream(*server, *version, gathered);
        else gathered.undecided.push_back(fmt::format("{}: the version of {} could not be told", server->name, server->executable.empty() ? "its program" : server->executable));
    }
    return std::move(gathered).decide("no hole is known in what is installed", no_server(policy));
}

}  // namespace promwarden
