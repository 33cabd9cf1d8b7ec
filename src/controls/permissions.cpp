// Owners and modes: the configuration, secrets, keys, and the database.

#include <algorithm>

#include <fmt/format.h>

#include "named_files.hpp"

namespace promwarden {

namespace {

using Use = NamedFile::Use;

bool is_configuration(Use use) { return use <= Use::web || use == Use::unit || use == Use::served; }
static_assert(Use::configuration < Use::scrape_configs && Use::targets < Use::web && Use::web < Use::secret);

/// What to do about a file that was not reached; true where it was.
bool reached(Findings& findings, const NamedFile& file, const FileContext& context, bool missing_is_failure, std::string_view consequence) {
    switch (reach_of(file, context.server.identity)) {
        case Reach::reached: return true;
        case Reach::missing:
            if (missing_is_failure && !file.may_be_missing)
                findings.fail(file_finding(file, "a file that " + context.service() + " can read", fmt::format("missing{}", consequence), fmt::format("install -m 0640 -o root -g {} /dev/stdin {}", context.facts.accounts.group_name(context.server.identity.gid), file.path)));
            return false;
        case Reach::barred: judge_readable(findings, file, context); return false;
        case Reach::unknown: findings.unknown(file.problem->text()); return false;
    }
    return false;
}

/// A [[file]] rule belongs to the control of what the configuration uses the file for; else to that of secrets, where it keeps others from reading a file.
bool rule_is_about(const FileFacts& facts, const Policy& policy, const RuledFile& ruled, bool (*wanted)(Use), Use otherwise_file, Use otherwise_directory) {
    if (const auto use = use_of(facts, ruled.file.path)) return wanted(*use);
    const auto* status = ruled.file.status();
    const auto& rule = policy.files[ruled.rule];
    const bool closed_file = status != nullptr && status->type != FileStatus::Type::directory && rule.mode && (*rule.mode & 4U) == 0;
    return wanted(closed_file ? otherwise_file : otherwise_directory);
}

void judge_all_rules(Findings& findings, const Policy& policy, const Facts& facts, bool (*wanted)(Use)) {
    if (!facts.files) return;
    judge_rules(findings, policy, *facts.files,
                [&](const RuledFile& ruled) { return rule_is_about(*facts.files, policy, ruled, wanted, Use::secret, Use::configuration); });
}

void judge_secret(Findings& findings, const NamedFile& file, const FileContext& context) {
    if (!reached(findings, file, context, true, ": what needs it fails at every request")) return;
    findings.touch();
    judge_readable(findings, file, context);
    judge_readers(findings, file, context);
    judge_writers(findings, file, context, false);
}

}  // namespace

Decision decide_secret_files(const Policy& policy, const Facts& facts, const FileVerdicts& files) {
    Findings findings;
    const bool hashes = files.of("access.password-hashes").verdict != Verdict::not_applicable;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (file.use == Use::secret) judge_secret(findings, file, context);
        // Hashes can be tried offline by whoever reads them.
        if (file.use == Use::web && hashes && file.text != nullptr && file.text->contains("basic_auth_users")) {
            findings.touch();
            judge_readers(findings, file, context);
        }
    });
    judge_all_rules(findings, policy, facts, [](Use use) { return use == Use::secret; });
    return std::move(findings).decision("secret files are closed to others, and the service can read them", "the configuration names no secret file");
}

Decision decide_config_permissions(const Policy& policy, const Facts& facts) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (!is_configuration(file.use)) return;
        const auto reach = reach_of(file, context.server.identity);
        if (reach == Reach::unknown) return findings.unknown(file.problem->text());
        if (reach == Reach::missing && file.may_be_missing && file.steps.empty()) return;
        findings.touch();
        if (reach != Reach::barred) judge_writers(findings, file, context, true);
    });
    judge_all_rules(findings, policy, facts, is_configuration);
    return std::move(findings).decision("only root can change the configuration", "no Prometheus configuration was found");
}

Decision tls_file_permissions(const Policy& policy, const Facts& facts) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (file.use != Use::key && file.use != Use::certificate && file.use != Use::authority) return;
        if (!reached(findings, file, context, false, {})) return;
        findings.touch();
        judge_readable(findings, file, context);
        if (file.use == Use::key) judge_readers(findings, file, context);
        judge_writers(findings, file, context, false);
    });
    judge_all_rules(findings, policy, facts, [](Use use) { return use == Use::key || use == Use::certificate || use == Use::authority; });
    return std::move(findings).decision("certificates and keys are closed, and the service can read them", "the configuration names no certificate");
}

Decision decide_data_permissions(const Policy& policy, const Facts& facts) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        if (file.use != Use::storage) return;
        const auto reach = reach_of(file, context.server.identity);
        if (reach == Reach::unknown) return findings.unknown(file.problem->text());
        if (reach != Reach::reached) return;
        findings.touch();
        judge_readers(findings, file, context);
        judge_writers(findings, file, context, false);
    });
    judge_all_rules(findings, policy, facts, [](Use use) { return use == Use::storage; });
    auto decision = std::move(findings).decision("the database is closed to others", "there is no database directory yet");
    for (auto& finding : decision.findings)
        if (finding.observed.ends_with("can read it")) finding.remedy.summary += "; UMask=0027 in the unit keeps new files closed, too";
    return decision;
}

// ---- would it start? ------------------------------------------------------------------------------------------------

Decision startable_files(const Policy& policy, const Facts& facts) {
    Findings findings;
    each_file(findings, policy, facts, [&](const NamedFile& file, const FileContext& context) {
        const bool needed = file.use == Use::configuration || file.use == Use::web || file.use == Use::authority || file.use == Use::certificate || file.use == Use::key;
        const bool mandatory = needed || file.use == Use::rules || file.use == Use::scrape_configs;
        if (!mandatory) return;
        findings.touch();
        if (reach_of(file, context.server.identity) == Reach::missing && needed)
            findings.fail(file_finding(file, "a file that is there", "missing: Prometheus refuses to start without it", fmt::format("put {} there, or take its name out of the configuration", file.path)));
        // Modes of certificates are tls.files'.
        if ((is_configuration(file.use)) && file.status() != nullptr) judge_readable(findings, file, context);
    });
    return std::move(findings).decision("the files that Prometheus reads at its start are there", "no Prometheus configuration was found");
}

Decision decide_startable(const Policy& policy, const Facts& facts, const FileVerdicts& files) { return merge_of(files.of("config.startable"), startable_files(policy, facts)); }

}  // namespace promwarden
