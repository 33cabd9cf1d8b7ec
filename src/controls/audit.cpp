// Family audit, as far as files go: the query log.

#include <algorithm>

#include <fmt/format.h>
#include <fnmatch.h>

#include "named_files.hpp"
#include "servers.hpp"

namespace promwarden {

namespace {

bool is_query_log(const NamedFile& file) { return file.use == NamedFile::Use::output && file.named.path == "global.query_log_file"; }

/// Groups whose members read logs by convention.
bool log_readers(const Somebody& somebody, const NamedFile& file, const FileContext& context) {
    const auto group = file.status()->group;
    if (somebody.kind == Somebody::Kind::group) return somebody.id == group;
    const auto who = somebody.kind == Somebody::Kind::user ? context.facts.accounts.identity_of(static_cast<uid_t>(somebody.id)) : std::nullopt;
    return who && who->uid != file.status()->owner && (who->gid == group || std::ranges::find(who->groups, group) != who->groups.end());
}

void judge_log_readers(Findings& findings, const NamedFile& file, const FileContext& context) {
    auto who = outsiders(can_read, file, context);
    std::erase_if(who, [&](const Somebody& each) { return log_readers(each, file, context); });
    if (who.empty()) return;
    findings.fail(file_finding(file, "closed to others", fmt::format("{:04o}: {} can read it", file.status()->mode, to_text(who, context.facts.accounts)),
                               fmt::format("chmod 0640 {}; UMask=0027 in the unit keeps the next one closed", file.path)));
}

void judge_rotation(Findings& findings, const NamedFile& file, const FileContext& context) {
    const auto names_it = [&](const LogRotation& block) { return std::ranges::any_of(block.patterns, [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), file.path.c_str(), FNM_PATHNAME) == 0; }); };
    const auto block = std::ranges::find_if(context.facts.rotations, names_it);
    if (block == context.facts.rotations.end())
        return findings.fail(file_finding(file, "rotation by logrotate", "nothing rotates it: it grows without end",
                                          fmt::format("/etc/logrotate.d/prometheus: {} {{ weekly rotate 8 missingok notifempty compress delaycompress create 0640 {} {} postrotate systemctl kill -s HUP {} endscript }}",
                                                      file.path, context.service(), context.facts.accounts.group_name(context.server.identity.gid), context.server.server)));
    if (block->reopens) return;
    auto finding = file_finding(file, "a rotation that makes Prometheus open the new file", "it is rotated, but Prometheus goes on writing to the old file",
                                fmt::format("{} line {}: add `postrotate systemctl kill -s HUP {} endscript`", block->place.file, block->place.line, context.server.server));
    finding.location = Location{block->place.file, block->place.line, block->place.column, {}};
    findings.fail(std::move(finding));
}

/// The service has to write what it is told to write.
void judge_writable(Findings& findings, const NamedFile& file, const FileContext& context) {
    const auto reach = reach_of(file, context.server.identity);
    if (reach == Reach::unknown) return findings.unknown(file.problem->text());
    findings.touch();
    const auto& who = context.server.identity;
    if (reach == Reach::reached ? can_write(who, file) : reach == Reach::missing && can_create(who, file)) return;
    const auto directory = file.path.substr(0, file.path.rfind('/'));
    findings.fail(file_finding(file, context.service() + " can write it", fmt::format("{} cannot write it: nothing is recorded, and Prometheus refuses its configuration", context.service()),
                               fmt::format("install -d -m 0750 -o {} -g {} {}", context.service(), context.facts.accounts.group_name(who.gid), directory)));
}

/// Taken for a query log by some guides, the debug log holds no query.
void judge_log_level(const Facts& facts, Findings& findings) {
    if (!facts.servers) return;
    Gathered ignored;  // what could not be seen of other flags is for their own controls to say
    for (const auto* server : judged_servers(facts))
        for (const auto& witness : witnesses(*server, "log.level", ignored))
            if (witness.value == "debug")
                findings.fail({server->name, "--log.level=info; queries are recorded by global.query_log_file", fmt::format("it logs at level debug{}{}: that records no query", witness.when.empty() ? "" : " ", witness.when),
                               witness.flag == nullptr ? std::nullopt : location_of(*witness.flag), witness.evidence, {false, fmt::format("take --log.level=debug out; {}", then_restart(*server))}});
}

}  // namespace

Decision decide_query_log(const Policy& policy, const Facts& facts, const FileVerdicts& files) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (is_query_log(file)) judge_writable(findings, file, context);
    });
    judge_log_level(facts, findings);
    return merge_of(files.of("audit.query-log"), std::move(findings).decision("the service can write it", "no query log is configured"));
}

Decision decide_query_log_file(const Policy& policy, const Facts& facts) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (!is_query_log(file)) return;
        const auto reach = reach_of(file, context.server.identity);
        if (reach == Reach::unknown) return findings.unknown(file.problem->text());
        const auto* status = file.status();
        if (status != nullptr && status->type == FileStatus::Type::other) return findings.touch();  // standard output, which the journal keeps
        if (status != nullptr) {
            judge_log_readers(findings, file, context);
            judge_writers(findings, file, context, false);
        }
        if (reach == Reach::barred) return;
        findings.touch();
        judge_rotation(findings, file, context);
    });
    if (facts.files)
        judge_rules(findings, policy, *facts.files, [&](const RuledFile& ruled) { return use_of(*facts.files, ruled.file.path) == NamedFile::Use::output; });
    return std::move(findings).decision("the query log is closed and rotated", "no query log is configured");
}

}  // namespace promwarden
