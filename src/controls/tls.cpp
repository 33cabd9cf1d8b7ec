// Family tls, as far as certificates of the policy go: whether what is published may be used, whether what is due was done.

#include <algorithm>

#include <fmt/format.h>

#include "families.hpp"
#include "promwarden/tls.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;
using Time = std::chrono::system_clock::time_point;

constexpr auto patience = 1h;  // after the moment at which something should have happened

struct Named {
    const CertificatePolicy* policy;
    const ManagedCertificate* known;
};

Result<std::vector<Named>> named(const Policy& policy, const Facts& facts) {
    if (!facts.certificates) return std::unexpected(facts.certificates.error());
    std::vector<Named> all;
    for (const auto& certificate : policy.tls.certificates) {
        const auto& list = facts.certificates->certificates;
        const auto found = std::ranges::find(list, certificate.name, &ManagedCertificate::name);
        if (found == list.end()) return fail(Code::missing, "observe", "certificate " + certificate.name, "nothing is known of it");
        all.push_back({&certificate, &*found});
    }
    return all;
}

std::string subject_of(const Named& one) { return one.known->certificate_file.empty() ? "certificate " + one.known->name : one.known->certificate_file; }

/// A renewal is only automatic where it is ours.
Remedy remedy_for(const Named& one) {
    if (one.policy->issuer == "watch") return {false, "have the tool that renews it run, and look at its log"};
    return {true, fmt::format("promwarden cert rotate {}", one.known->name)};
}

std::optional<Finding> overdue(const Named& one, const Policy& policy, const Facts& facts) {
    const auto& [certificate, known] = one;
    Finding finding{subject_of(one), "", "", {}, Evidence::config, remedy_for(one)};
    if (certificate->issuer == "watch") {
        if (!known->leaf) return std::nullopt;
        const auto life = known->leaf->not_after - known->leaf->not_before;
        if (facts.now < known->leaf->not_after - life / 20) return std::nullopt;
        finding.expected = "renewed by another tool in time";
        finding.observed = fmt::format("it expires at {}", format_time(known->leaf->not_after));
        return finding;
    }
    const auto& clock = facts.certificates->clock_synchronised;
    const auto plan = tls::next_renewal(*certificate, policy.tls.maintenance, known->leaf, known->record, facts.certificates->machine, facts.now, clock);
    if (known->record.attempts > 0) {
        finding.expected = "renewed";
        finding.observed = fmt::format("{} attempt{} failed, the last because: {}", known->record.attempts, known->record.attempts == 1 ? "" : "s", known->record.last_error);
        return finding;
    }
    if (facts.now < plan.due) return std::nullopt;
    finding.expected = fmt::format("renewed at {}", format_time(plan.due));
    if (plan.action == tls::Action::none) {
        finding.observed = plan.reason;
        finding.remedy = {false, "have the clock synchronised"};
        return finding;
    }
    if (known->leaf && tls::next_in_windows(policy.tls.maintenance, plan.due) + patience > facts.now) return std::nullopt;  // its window is still to come
    finding.observed = known->leaf ? fmt::format("it expires at {}", format_time(known->leaf->not_after)) : "there is none yet";
    return finding;
}

std::optional<Finding> unserved(const Named& one) {
    const auto& [certificate, known] = one;
    if (!known->served || !known->leaf) return std::nullopt;
    if (known->served->fingerprint == known->leaf->fingerprint) return std::nullopt;
    Finding finding{known->served->where, fmt::format("shows the certificate with serial number {}", known->leaf->serial), "", {}, Evidence::live, {}};
    finding.observed = known->served->fingerprint.empty() ? known->served->reason : "shows another one";
    finding.remedy = {false, certificate->install == CertificatePolicy::Install::prometheus_web ? "start Prometheus with --web.config.file, or restart it" : "reload the service"};
    return finding;
}

}  // namespace

Decision decide_tls_files(const Policy& policy, const Facts& facts) {
    if (policy.tls.certificates.empty()) return not_applicable("the policy names no certificate");
    const auto all = named(policy, facts);
    if (!all) return unknown(all.error());
    Decision decision;
    for (const auto& one : *all) {
        if (!one.known->leaf && one.known->problems.empty())
            decision.findings.push_back({subject_of(one), "a certificate and its key", "there is none yet", {}, Evidence::config, remedy_for(one)});
        for (const auto& problem : one.known->problems)
            decision.findings.push_back({subject_of(one), "a key that fits, a chain that holds, every name, current", problem, {}, Evidence::config, remedy_for(one)});
    }
    if (decision.findings.empty()) {
        decision.reason = fmt::format("{} certificate{}: keys fit, chains hold, names and times are right", all->size(), all->size() == 1 ? "" : "s");
    } else {
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    }
    return decision;
}

Decision decide_tls_rotation(const Policy& policy, const Facts& facts) {
    if (policy.tls.certificates.empty()) return not_applicable("the policy names no certificate");
    const auto all = named(policy, facts);
    if (!all) return unknown(all.error());
    Decision decision;
    std::size_t seen = 0;
    for (const auto& one : *all) {
        if (auto finding = overdue(one, policy, facts)) decision.findings.push_back(*std::move(finding));
        if (auto finding = unserved(one)) decision.findings.push_back(*std::move(finding));
        if (one.known->served) ++seen;
    }
    if (decision.findings.empty()) {
        decision.reason = fmt::format("nothing is overdue; {} of {} seen served", seen, all->size());
    } else {
        decision.verdict = Verdict::fail;
        decision.reason = fmt::format("{}: {}", decision.findings.front().subject, decision.findings.front().observed);
    }
    if (!facts.certificates->rollover.empty()) decision.reason += fmt::format("; a change of the local authority is under way ({})", facts.certificates->rollover);
    return decision;
}

Decision decide_resumed_clients(const Policy& policy, const Facts& facts) {
    const auto nothing = not_applicable("");  // the other parts say what there is
    if (!policy.tls.require_client_certificate || !facts.certificates || !facts.certificates->removed) return nothing;
    if (!facts.servers) return unknown(facts.servers.error());
    const auto* server = tls::may_resume(*facts.servers, *facts.certificates->removed);
    if (server == nullptr) return nothing;
    const auto built = server->go.empty() ? std::string("nobody knows which Go built it") : fmt::format("Go {} built it", server->go);
    Decision decision{Verdict::fail, fmt::format("{} may go on with sessions of clients that are believed no more", server->name), {}};
    decision.findings.push_back({server->name, fmt::format("started after {}, when an authority of clients was removed", format_time(*facts.certificates->removed)),
                                 fmt::format("it runs since before; {}, and it may resume sessions of clients of that authority", built), {}, Evidence::process,
                                 {policy.prometheus.restart_when_needed, fmt::format("systemctl restart {}", policy.prometheus.unit)}});
    return decision;
}

}  // namespace promwarden
