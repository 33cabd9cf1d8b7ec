// Who can do what to the files that a server's configuration names, in findings.

#include "named_files.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

namespace promwarden {

namespace {

constexpr std::size_t most_findings = 200;

std::string group_of(const FileContext& context) { return context.facts.accounts.group_name(context.server.identity.gid); }

bool in_group(const Identity& who, gid_t group) { return who.gid == group || std::ranges::find(who.groups, group) != who.groups.end(); }

/// Whether somebody reads a file as a member of the service's own group, or of the one through which the service reads it: whoever is in it was put there.
bool shares_group(const Somebody& somebody, const NamedFile& file, const FileContext& context) {
    const auto& service = context.server.identity;
    const auto group = file.status()->group;
    const auto shared = [&](const auto& belongs) { return belongs(service.gid) || (in_group(service, group) && belongs(group)); };
    if (somebody.kind == Somebody::Kind::group) return shared([&](gid_t each) { return each == somebody.id; });
    const auto who = somebody.kind == Somebody::Kind::user ? context.facts.accounts.identity_of(static_cast<uid_t>(somebody.id)) : std::nullopt;
    return who && who->uid != file.status()->owner && shared([&](gid_t each) { return in_group(*who, each); });
}

std::string mode_text(const FileStatus& status, const AccountTable& accounts) {
    return fmt::format("{:04o} {}:{}{}", status.mode, accounts.user_name(status.owner), accounts.group_name(status.group), status.acl.empty() ? "" : " with an access list");
}

/// The number that a name of the policy has where the files are: an image has accounts of its own.
std::uint32_t user_id(const Account& account, const AccountTable& accounts) {
    const auto local = accounts.identity_of(account.name);
    return local ? local->uid : account.id;
}

std::uint32_t group_id(const Account& account, const AccountTable& accounts) {
    const auto local = std::ranges::find_if(accounts.groups, [&](const auto& group) { return group.second == account.name; });
    return local == accounts.groups.end() ? account.id : local->first;
}

bool below(std::string_view path, std::string_view directory) { return path == directory || (path.starts_with(directory) && path.substr(directory.size()).starts_with('/')); }

/// Where a remedy may give rights and owners, not only take them (and where the policy's [[file]] rules say so).
bool may_grant(const std::string& path) { return below(path, "/etc/prometheus") || below(path, "/etc/nginx/promwarden") || below(path, "/etc/promwarden"); }

bool is_directory(const FileStatus& status) { return status.type == FileStatus::Type::directory; }

/// Whether nobody but root could put something else there, or what it takes is taken from what belongs to whoever could.
bool may_change(const NamedFile& file, const FileAccess& after) {
    if (!file.trusted || file.steps.empty()) return false;
    const auto& status = file.steps.back().status;
    const auto before = access_of(status);
    const bool only_takes = (after.mode & ~before.mode) == 0 && after.owner == before.owner && after.group == before.group;
    for (auto at = file.steps.back().directory; at >= 0; at = file.steps[static_cast<std::size_t>(at)].directory) {
        const auto& directory = file.steps[static_cast<std::size_t>(at)].status;
        if ((directory.mode & 022U) != 0 && (directory.mode & 01000U) == 0) return false;
        if (directory.owner != 0 && !(only_takes && directory.owner == status.owner)) return false;
    }
    return true;
}

/// What an apply does about a file, where it may. `granted`: a rule of the policy says what it is to be. What its service could read, it must read afterwards.
Remedy access_remedy(const NamedFile& file, const FileAccess& after, std::string commands, const Identity& service, bool granted = false) {
    const auto& status = file.steps.back().status;
    const auto before = access_of(status);
    const auto& path = file.steps.back().path;
    auto changed = file;
    auto& left = changed.steps.back().status;
    left.owner = after.owner, left.group = after.group, left.mode = after.mode, left.acl = after.acl;
    const bool gives = (after.mode & ~before.mode) != 0 || after.owner != before.owner || after.group != before.group;
    const bool automatic = before != after && may_change(file, after) && (!gives || granted || may_grant(path)) && (can_read(service, changed) || !can_read(service, file)) &&
                           (status.type == FileStatus::Type::regular || is_directory(status));
    return {automatic, std::move(commands), automatic ? std::optional(AccessChange{before, after}) : std::nullopt};
}

/// The bits to take from everyone and from the group, as chmod takes them.
std::string remove_write(const std::vector<Somebody>& who, const std::string& path) {
    const bool everyone = std::ranges::any_of(who, [](const Somebody& each) { return each.kind == Somebody::Kind::everyone; });
    return fmt::format("chmod {} {}", everyone ? "g-w,o-w" : "g-w", path);
}

/// For the last step of that walk.
Remedy close_writers(const NamedFile& file, const std::vector<Somebody>& who, const FileContext& context) {
    const auto& [path, status, directory] = file.steps.back();
    const bool owner = std::ranges::any_of(who, [&](const Somebody& each) { return each.kind == Somebody::Kind::user && each.id == status.owner; });
    const auto list = status.acl.empty() ? std::string() : fmt::format("setfacl -b {} && ", path);
    auto after = without_list(access_of(status));
    after.mode &= ~mode_t{022};
    if (owner) after.owner = 0;
    return access_remedy(file, after, list + (owner ? fmt::format("chown root {} && chmod g-w,o-w {}", path, path) : remove_write(who, path)), context.server.identity);
}

/// The walk up to and including the entry of that index.
NamedFile shortened(const NamedFile& file, std::size_t last) {
    NamedFile part;
    part.path = file.steps[last].path;
    part.trusted = file.trusted;
    part.steps.assign(file.steps.begin(), file.steps.begin() + static_cast<std::ptrdiff_t>(last) + 1);
    return part;
}

}  // namespace

void Findings::fail(Finding finding) {
    touched_ = true;
    const auto same = [&](const Finding& other) { return other.subject == finding.subject && other.remedy.summary == finding.remedy.summary; };
    if (std::ranges::any_of(findings_, same)) return;
    if (findings_.size() >= most_findings) ++more_;
    else findings_.push_back(std::move(finding));
}

void Findings::unknown(std::string why) {
    touched_ = true;
    if (unknown_.size() < 20 && std::ranges::find(unknown_, why) == unknown_.end()) unknown_.push_back(std::move(why));
}

Decision Findings::decision(std::string holds, std::string nothing) && {
    if (!findings_.empty()) {
        const auto& first = findings_.front();
        auto reason = fmt::format("{}: {}", first.subject, first.observed);
        if (const auto others = findings_.size() + more_ - 1; others > 0) reason += fmt::format(" (and {} more)", others);
        if (!unknown_.empty()) reason += fmt::format("; not decided: {}", unknown_.front());
        return {Verdict::fail, std::move(reason), std::move(findings_)};
    }
    if (!unknown_.empty()) return {Verdict::unknown, unknown_.front(), {}};
    if (!touched_) return not_applicable(std::move(nothing));
    return {Verdict::pass, std::move(holds), {}};
}

const FileRule* FileContext::rule(const NamedFile& file) const {
    const auto found = std::ranges::find_if(facts.ruled, [&](const RuledFile& ruled) { return ruled.file.path == file.path; });
    return found == facts.ruled.end() || found->rule >= policy.files.size() ? nullptr : &policy.files[found->rule];
}

Finding file_finding(const NamedFile& file, std::string expected, std::string observed, std::string remedy) { return file_finding(file, std::move(expected), std::move(observed), Remedy{false, std::move(remedy), {}}); }

Finding file_finding(const NamedFile& file, std::string expected, std::string observed, Remedy remedy) {
    std::optional<Location> location;
    if (!file.named.file.empty()) location = Location{file.named.file, file.named.line, file.named.column, file.named.path};
    return {file.path, std::move(expected), std::move(observed), std::move(location), Evidence::kernel, std::move(remedy)};
}

Reach reach_of(const NamedFile& file, const Identity& service) {
    const auto bars = [&](const Step& step) { return step.status.type == FileStatus::Type::directory && !may(service, step.status, Right::search); };
    if (!file.problem) return Reach::reached;
    if (file.problem->code == Code::missing) return Reach::missing;
    if (file.problem->code == Code::denied && std::ranges::any_of(file.steps, bars)) return Reach::barred;
    return Reach::unknown;
}

std::vector<Somebody> outsiders(Ability ability, const NamedFile& file, const FileContext& context, bool service_too) {
    auto who = who_can(ability, file, context.facts.accounts);
    const auto* rule = context.rule(file);
    std::erase_if(who, [&](const Somebody& each) {
        if (each.kind == Somebody::Kind::user && each.id == context.server.identity.uid && !service_too) return true;
        if (rule == nullptr) return false;
        if (rule->owner && each.kind == Somebody::Kind::user && each.id == user_id(*rule->owner, context.facts.accounts)) return true;
        if (!rule->group || file.status() == nullptr) return false;
        const auto group = group_id(*rule->group, context.facts.accounts);
        if (file.status()->group != group) return false;
        if (each.kind == Somebody::Kind::group) return each.id == group;
        const auto identity = each.kind == Somebody::Kind::user ? context.facts.accounts.identity_of(static_cast<uid_t>(each.id)) : std::nullopt;
        return identity && in_group(*identity, group);
    });
    return who;
}

void judge_writers(Findings& findings, const NamedFile& file, const FileContext& context, bool service_too) {
    const auto& accounts = context.facts.accounts;
    if (const auto who = outsiders(can_write, file, context, service_too); !who.empty())
        findings.fail(file_finding(file, "only root can write it", fmt::format("{}: {} can write it", mode_text(*file.status(), accounts), to_text(who, accounts)), close_writers(file, who, context)));
    // Each directory once, with those who can put something in the place of what it leads to.
    std::vector<Somebody> before;
    const auto judge_directory = [&](std::vector<Somebody> who, std::size_t index, const std::string& entry) {
        const auto& directory = file.steps[index];
        std::erase_if(who, [&](const Somebody& each) { return std::ranges::find(before, each) != before.end(); });
        if (who.empty()) return;
        before.insert(before.end(), who.begin(), who.end());
        auto finding = file_finding(file, "only root can change what the names in it stand for",
                                    fmt::format("{}: {} can put another file in the place of {}", mode_text(directory.status, accounts), to_text(who, accounts), entry),
                                    close_writers(shortened(file, index), who, context));
        if (!may_grant(directory.path)) finding.remedy = {false, std::move(finding.remedy.summary), {}};  // others may use it
        finding.subject = directory.path;
        findings.fail(std::move(finding));
    };
    for (std::size_t i = 0; i < file.steps.size(); ++i)
        if (const auto in = file.steps[i].directory; in >= 0) judge_directory(outsiders(can_replace, shortened(file, i), context, service_too), static_cast<std::size_t>(in), file.steps[i].path);
    if (!file.steps.empty()) judge_directory(outsiders(can_create, file, context, service_too), file.steps.size() - 1, file.path);
}

void judge_readers(Findings& findings, const NamedFile& file, const FileContext& context) {
    auto who = outsiders(can_read, file, context);
    std::erase_if(who, [&](const Somebody& each) { return shares_group(each, file, context); });
    if (who.empty()) return;
    const auto& status = *file.status();
    const auto& accounts = context.facts.accounts;
    const bool directory = status.type == FileStatus::Type::directory;
    const bool owner = std::ranges::any_of(who, [&](const Somebody& each) { return each.kind == Somebody::Kind::user && each.id == status.owner; });
    // The service must still read it afterwards.
    const bool by_group = context.server.identity.uid != status.owner && !in_group(context.server.identity, status.group);
    const auto remedy = owner || by_group ? fmt::format("chown root:{} {} && chmod {} {}", group_of(context), file.path, directory ? "0750" : "0640", file.path)
                                          : fmt::format("chmod {} {}", directory ? "0750" : "0640", file.path);
    auto after = without_list(access_of(status));
    after.mode = (after.mode & ~mode_t{0777}) | (directory ? 0750U : 0640U);
    if (!(owner || by_group)) after.mode &= status.mode;
    else after.owner = 0, after.group = context.server.identity.gid;
    findings.fail(file_finding(file, fmt::format("only root and {} can read it", context.service()), fmt::format("{}: {} can read it", mode_text(status, accounts), to_text(who, accounts)),
                               access_remedy(file, after, status.acl.empty() ? remedy : fmt::format("setfacl -b {} && {}", file.path, remedy), context.server.identity)));
}

void judge_readable(Findings& findings, const NamedFile& file, const FileContext& context) {
    if (can_read(context.server.identity, file)) return;
    const auto& accounts = context.facts.accounts;
    const auto closed = std::ranges::find_if(file.steps, [&](const Step& step) { return step.status.type == FileStatus::Type::directory && !may(context.server.identity, step.status, Right::search); });
    const bool in_directory = closed != file.steps.end() && &*closed != &file.steps.back();
    const auto& step = in_directory ? *closed : file.steps.back();
    auto after = access_of(step.status);
    after.group = context.server.identity.gid;
    after.mode |= in_directory ? 010U : 040U;
    findings.fail(file_finding(file, fmt::format("{} can read it", context.service()),
                               fmt::format("{}{}: {} cannot read it", in_directory ? step.path + " is " : "", mode_text(step.status, accounts), context.service()),
                               access_remedy(in_directory ? shortened(file, static_cast<std::size_t>(closed - file.steps.begin())) : file, after,
                                             fmt::format("chgrp {} {} && chmod {} {}", group_of(context), step.path, in_directory ? "g+x" : "g+r", step.path), context.server.identity)));
}

namespace {

/// Who has to go on reading a file: the server whose configuration names it; root, who always can, where none does.
Identity service_of(const FileFacts& facts, const std::string& path) {
    for (const auto& server : facts.servers)
        if (std::ranges::find(server.files, path, &NamedFile::path) != server.files.end()) return server.identity;
    return {};
}

}  // namespace

void judge_rules(Findings& findings, const Policy& policy, const FileFacts& facts, const std::function<bool(const RuledFile&)>& ours) {
    for (const auto& ruled : facts.ruled) {
        if (ruled.rule >= policy.files.size() || !ours(ruled)) continue;
        const auto& rule = policy.files[ruled.rule];
        if (rule.group_name && !rule.group) continue;  // the group does not exist here: the rule is about another host
        const auto* status = ruled.file.status();
        if (status == nullptr) {
            if (ruled.file.problem && ruled.file.problem->code != Code::missing) findings.unknown(ruled.file.problem->text());
            continue;
        }
        findings.touch();
        const auto& path = ruled.file.path;
        std::vector<std::string> wrong, remedies;
        auto after = access_of(*status);
        if (rule.owner && status->owner != user_id(*rule.owner, facts.accounts)) {
            wrong.push_back(fmt::format("owner {}", facts.accounts.user_name(status->owner)));
            remedies.push_back(fmt::format("chown {} {}", rule.owner->name, path));
            after.owner = user_id(*rule.owner, facts.accounts);
        }
        if (rule.group && status->group != group_id(*rule.group, facts.accounts)) {
            wrong.push_back(fmt::format("group {}", facts.accounts.group_name(status->group)));
            remedies.push_back(fmt::format("chgrp {} {}", *rule.group_name, path));
            after.group = group_id(*rule.group, facts.accounts);
        }
        if (rule.mode && (status->mode & ~*rule.mode) != 0) {
            wrong.push_back(fmt::format("mode {:04o}", status->mode));
            remedies.push_back(fmt::format("chmod {:04o} {}", status->mode & *rule.mode, path));
            after.mode &= *rule.mode;
        }
        if (wrong.empty()) continue;
        std::vector<std::string> wanted;
        if (rule.owner) wanted.push_back("owner " + rule.owner->name);
        if (rule.group_name) wanted.push_back("group " + *rule.group_name);
        if (rule.mode) wanted.push_back(fmt::format("mode {:04o} at most", *rule.mode));
        findings.fail(file_finding(ruled.file, fmt::format("{}", fmt::join(wanted, ", ")), fmt::format("{}", fmt::join(wrong, ", ")), access_remedy(ruled.file, after, fmt::format("{}", fmt::join(remedies, " && ")), service_of(facts, path), true)));
    }
}

std::optional<NamedFile::Use> use_of(const FileFacts& facts, const std::string& path) {
    for (const auto& server : facts.servers)
        for (const auto& file : server.files)
            if (file.path == path) return file.use;
    return std::nullopt;
}

bool each_file(Findings& findings, const Policy& policy, const Facts& facts, const std::function<void(const NamedFile&, const FileContext&)>& judge) {
    if (!facts.files) {
        findings.unknown(facts.files.error().text());
        return false;
    }
    for (const auto& server : facts.files->servers) {
        if (server.problem) findings.unknown(server.problem->text());
        for (const auto& gap : server.left_out) findings.unknown(gap);
        const FileContext context{policy, *facts.files, server};
        for (const auto& file : server.files) judge(file, context);
    }
    return true;
}

}  // namespace promwarden
