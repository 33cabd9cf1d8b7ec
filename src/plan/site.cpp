#include "site.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/controls.hpp"
#include "promwarden/flags.hpp"
#include "promwarden/host.hpp"
#include "promwarden/nginx.hpp"
#include "promwarden/program.hpp"
#include "proxy.hpp"

namespace promwarden {

namespace {

constexpr std::string_view log_control = "audit.proxy-log";
constexpr std::string_view available = "/etc/nginx/sites-available/", enabled = "/etc/nginx/sites-enabled/";  // Debian's
constexpr const char* single_file = "/etc/nginx/conf.d/promwarden.conf";                                      // everybody else's
constexpr const char* site_name = "promwarden";
constexpr const char* rotation_file = "/etc/logrotate.d/promwarden-nginx";
constexpr std::size_t largest = 8 << 20;
constexpr mode_t for_others = 07;

bool enforced_by_site(std::string_view control) {
    const auto* known = find_control(control);
    return known != nullptr && known->enforced_by.contains("site");
}

std::string log_file() { return nginx::SitePaths().log; }
/// Who reads logs: by the distribution's convention, else nginx itself.
std::string log_group() { return ::getgrnam("adm") != nullptr ? "adm" : nginx::worker_group(); }

// ---- looking --------------------------------------------------------------------------------------------------------

Result<std::optional<std::string>> text_of(const std::string& path) {
    auto file = read_trusted_file(path, largest);
    if (file) return std::move(file->text);
    if (file.error().code == Code::missing) return std::nullopt;
    return std::unexpected(file.error());
}

/// What nginx.conf includes decides, not which directories there are.
void find_place(SitePlace& place) {
    const auto server = host::read_proxy_files(nginx_configuration);
    const auto reads = [&](const std::string& path) { return nginx::text_with(server, path, path).has_value(); };
    const auto link = fmt::format("{}{}", enabled, site_name);
    if (::access(std::string(available).c_str(), F_OK) == 0 && reads(link)) {
        place.file = fmt::format("{}{}", available, site_name);
        place.link = link;
    } else {
        place.file = single_file;
        if (!reads(place.file))
            place.problem = fmt::format("{} includes neither {}* nor what stands in /etc/nginx/conf.d", nginx_configuration, enabled);
    }
}

void look_at_link(SitePlace& place) {
    std::string target(4096, '\0');
    const auto length = ::readlink(place.link.c_str(), target.data(), target.size());
    if (length >= 0)
        place.target = target.substr(0, static_cast<std::size_t>(length));
    else if (errno != ENOENT)
        place.problem = fmt::format("{} is somebody else's: it is no link", place.link);
}

/// What the site names and nginx reads when it starts.
std::vector<std::string> missing_files(const Policy& policy) {
    const auto paths = nginx::site_paths(policy);
    auto named = paths.certificate_file.empty() ? std::vector{paths.certificate, paths.key} : std::vector{paths.certificate_file};
    named.push_back(paths.backend_authority);
    named.push_back(paths.client_file);
    std::erase_if(named, [](const std::string& path) { return path.empty() || ::access(path.c_str(), F_OK) == 0; });
    return named;
}

/// What takes from others the right to read the log.
std::optional<AccessChange> closing_of_log() {
    struct stat status{};
    if (::lstat(log_file().c_str(), &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & for_others) == 0) return std::nullopt;
    const FileAccess now{status.st_uid, status.st_gid, status.st_mode & 07777, {}};
    auto closed = now;
    closed.mode &= ~for_others;
    return AccessChange{now, closed};
}

// ---- planning -------------------------------------------------------------------------------------------------------

/// What nobody can tell counts as the oldest: endpoints that it does not know are the administrators'.
prometheus::Version version_of(const Facts& facts) {
    const auto version = facts.servers && !facts.servers->empty() ? prometheus::version_of(facts.servers->front().version) : std::nullopt;
    return version.value_or(prometheus::oldest_version);
}

std::optional<Contents> contents_of(const std::optional<std::string>& text) {
    return text ? std::optional(Contents{{*text, ""}}) : std::nullopt;
}

void add(Plan& plan, Change change) {
    change.diff = diff_of(change.subject, change.deed);
    plan.changes.push_back(std::move(change));
}

void plan_log(const SitePlace& place, Plan& plan) {
    const auto log = log_file();
    if (place.log)
        add(plan, {Change::Kind::file, std::string(log_control), log, "others can read who asked for what", "", SetAccess(*place.log)});
    if (place.rotated) return;
    auto text = fmt::format(
        "# Written by promwarden: nothing else rotates this log.\n"
        "{} {{\n"
        "    daily\n    rotate 14\n    missingok\n    notifempty\n    compress\n    delaycompress\n"
        "    create 0640 {} {}\n"
        "    postrotate\n        [ ! -s /run/nginx.pid ] || kill -s USR1 \"$(cat /run/nginx.pid)\"\n    endscript\n"
        "}}\n",
        log, nginx::worker_group(), log_group());
    if (place.rotation == text) return;
    add(plan, {Change::Kind::file, std::string(log_control), rotation_file, "nothing rotates the proxy's audit log", "",
               WriteFile{contents_of(place.rotation), Contents{{std::move(text), ""}}, {0, 0, 0644, {}}}});
}

void plan_removal(const SitePlace& place, Plan& plan) {
    constexpr std::string_view why = "the policy describes no site any more";
    const std::string control(site_control);
    if (place.target == place.file)
        add(plan, {Change::Kind::site, control, place.link, std::string(why), "", PointLink{place.target, std::nullopt}, Judge::nobody,
                   Effect::proxy});
    if (place.text)
        add(plan, {Change::Kind::site, control, place.file, std::string(why), "",
                   WriteFile{contents_of(place.text), std::nullopt, {0, 0, 0644, {}}}, Judge::nobody, Effect::proxy});
    if (place.rotation)
        add(plan, {Change::Kind::file, std::string(log_control), rotation_file, std::string(why), "",
                   WriteFile{contents_of(place.rotation), std::nullopt, {0, 0, 0644, {}}}});
}

/// Why there can be no site now; "": there can.
std::string obstacle(const SitePlace& place, const Result<std::string>& text) {
    if (!text) return text.error().text();
    if (!place.problem.empty()) return place.problem;
    return place.missing.empty() ? ""
                                 : fmt::format("it waits for its certificate: {} {} not there yet", fmt::join(place.missing, ", "),
                                               place.missing.size() == 1 ? "is" : "are");
}

// ---- taking up ------------------------------------------------------------------------------------------------------

/// Whether a change puts something there, and does not only take it away.
bool puts_something(const Change& change) {
    const auto* link = std::get_if<PointLink>(&change.deed);
    const auto* file = std::get_if<WriteFile>(&change.deed);
    return (link != nullptr && link->after) || (file != nullptr && file->after);
}

/// By somebody who may: the agent's sandbox gives no owners. Only where nobody else could put another file there meanwhile; else it stays root's, which nginx opens, too.
void give_to(const std::string& path, const std::string& owner) {
    if (!trusted_stamp(path)) return;
    program::Program give;
    give.words = {"/usr/bin/chown", "--no-dereference", owner, path};
    give.privileged = true;
    give.writable = {path.substr(0, path.rfind('/'))};
    (void)program::run_somewhere(give, "promwarden-chown");
}

/// True where there was none.
Result<bool> make_audit_log(const std::string& root) {
    const auto path = log_file();
    const Fd fd{::open((root + path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!fd) return errno == EEXIST ? Result<bool>(false) : fail_errno("create", path);
    if (::fchmod(*fd, 0640) != 0) return fail_errno("set mode of", path);
    const auto* owner = ::getpwnam(nginx::worker_group());  // its user is called like it
    const auto* group = ::getgrnam(log_group().c_str());
    if (owner == nullptr || group == nullptr || ::fchown(*fd, owner->pw_uid, group->gr_gid) == 0) return true;
    give_to(path, fmt::format("{}:{}", nginx::worker_group(), log_group()));
    return true;
}

/// Where nothing was written since.
void remove_audit_log(const std::string& root) {
    struct stat status{};
    const auto path = root + log_file();
    if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0) ::unlink(path.c_str());
}

}  // namespace

bool asks_for_site(const Policy& policy, std::span<const std::string> only) {
    return policy.access.present && policy.access.proxy == "nginx" && (only.empty() || std::ranges::any_of(only, enforced_by_site));
}

bool has_left_site(const Policy& policy, const State& state) {
    if (policy.access.present) return false;
    const auto made = changes_to_undo(state, true);
    return made && std::ranges::find(*made, Change::Kind::site, &Change::kind) != made->end();
}

std::string active_name(const std::string& file) {
    return file.starts_with(available) ? fmt::format("{}{}", enabled, file.substr(available.size())) : file;
}

Result<std::optional<SitePlace>> read_site(const Policy& policy, const Facts& facts) {
    if (::access(nginx_program, X_OK) != 0 || ::access(nginx_configuration, F_OK) != 0) return std::nullopt;
    SitePlace place;
    find_place(place);
    place.text = TRY(text_of(place.file));
    if (!place.link.empty()) look_at_link(place);
    place.missing = missing_files(policy);
    place.log = closing_of_log();
    place.rotation = TRY(text_of(rotation_file));
    const auto log = log_file();
    place.rotated = facts.files && std::ranges::any_of(facts.files->rotations, [&](const LogRotation& block) {
                        return block.place.file != rotation_file && std::ranges::any_of(block.patterns, [&](const std::string& pattern) {
                                   return ::fnmatch(pattern.c_str(), log.c_str(), FNM_PATHNAME) == 0;
                               });
                    });
    return place;
}

void plan_site(const Policy& policy, const ApplyFacts& facts, std::span<const std::string> only, Plan& plan) {
    if (facts.site && *facts.site && !policy.access.present) return plan_removal(**facts.site, plan);
    if (!asks_for_site(policy, only) || (facts.site && !*facts.site)) return;
    const auto named = std::ranges::find_if(only, enforced_by_site);
    const auto control = named == only.end() ? std::string(site_control) : *named;
    if (!facts.site) return plan.changes.push_back({Change::Kind::site, control, nginx_configuration, facts.site.error().text(), ""});
    const auto& place = **facts.site;
    auto text = nginx::render_site(policy, version_of(facts), nginx::site_paths(policy));
    if (const auto why = obstacle(place, text); !why.empty())
        return plan.changes.push_back({Change::Kind::site, control, place.file, why, ""});
    plan_log(place, plan);
    if (place.text != *text)
        add(plan, {Change::Kind::site, control, place.file, "the site in front of Prometheus, as the policy describes it", "",
                   WriteFile{contents_of(place.text), Contents{{*std::move(text), ""}}, {0, 0, 0644, {}}}, Judge::nginx, Effect::proxy});
    if (!place.link.empty() && place.target != place.file)
        add(plan, {Change::Kind::site, control, place.link, "what makes the site active", "", PointLink{place.target, place.file},
                   Judge::nobody, Effect::proxy});
}

Result<> take_up_site(const std::string& root, std::span<const Change> changes) {
    const bool made = std::ranges::any_of(changes, puts_something) && TRY(make_audit_log(root));
    auto reloaded = reload_proxy();
    if (!reloaded && made) remove_audit_log(root);
    return reloaded;
}

}  // namespace promwarden
