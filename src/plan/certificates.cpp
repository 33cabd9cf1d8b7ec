// What is due of the policy's certificates, as changes. Pure: the rule is the one by which they are then made.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "certificates.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden {

namespace {

constexpr std::string_view rotation_control = "tls.rotation", clients_control = "tls.client-auth";

std::string lines_of(const Certificate& leaf) { return fmt::format("- serial {}, expires {}\n", leaf.serial, format_time(leaf.not_after)); }

std::optional<Change> due_change(const Policy& policy, const CertificatePolicy& certificate, const ManagedCertificate& known,
                                 const CertificateFacts& facts, std::chrono::system_clock::time_point now) {
    if (rotation::next_run(certificate, known, policy, facts, now) > now) return std::nullopt;
    const auto names = fmt::format("{}", fmt::join(certificate.names, ", "));
    const auto place = known.certificate_file.empty() ? "certificate " + certificate.name : known.certificate_file;
    if (certificate.issuer == "watch")
        return Change{Change::Kind::unit, std::string(rotation_control), place,
                      "another tool renewed it: its service reads it, and is seen to serve it",
                      fmt::format("+ serial {}, expires {}\n", known.leaf->serial, format_time(known.leaf->not_after))};
    const auto renewal =
        tls::next_renewal(certificate, policy.tls.maintenance, known.leaf, known.record, facts.machine, now, facts.clock_synchronised);
    const bool rekey = renewal.action == tls::Action::rekey;
    const auto kind = rekey && certificate.install == CertificatePolicy::Install::prometheus_web ? Change::Kind::web : Change::Kind::file;
    const auto what = !known.leaf ? "issue it, with a key of its own" : rekey ? "renew it, with a new key" : "renew it";
    return Change{kind, std::string(rotation_control), place, fmt::format("{}: {}", what, renewal.reason),
                  (known.leaf ? lines_of(*known.leaf) : "") +
                      fmt::format("+ for {}, from {}, valid for {}\n", names, certificate.issuer, format_duration(certificate.lifetime))};
}

}  // namespace

void plan_certificates(const Policy& policy, const Facts& facts, Plan& plan) {
    if (!facts.certificates || policy.mode_of(std::string(rotation_control)) == Mode::off) return;
    for (const auto& certificate : policy.tls.certificates) {
        const auto known = std::ranges::find(facts.certificates->certificates, certificate.name, &ManagedCertificate::name);
        if (known == facts.certificates->certificates.end()) continue;
        if (auto change = due_change(policy, certificate, *known, *facts.certificates, facts.now))
            plan.changes.push_back(*std::move(change));
    }
    const auto& step = facts.certificates->rollover;
    if (!step.empty() && step != rotation::to_text(rotation::Step::overlap))  // there it waits for whoever gives the bundle to other hosts
        plan.changes.push_back({Change::Kind::file, std::string(rotation_control), "the local authority",
                                fmt::format("its change goes on, from step '{}'", step), ""});
    if (facts.certificates->probe_due)
        plan.changes.push_back({Change::Kind::file, std::string(rotation_control), "the probe's own certificate", "issue it", ""});
    if (!facts.certificates->removed || !policy.prometheus.restart_when_needed || !facts.servers) return;
    if (const auto* server = tls::may_resume(*facts.servers, *facts.certificates->removed))
        plan.changes.push_back({Change::Kind::unit, std::string(clients_control), server->name,
                                "restart it: it may resume sessions of clients whose authority was removed", ""});
}

}  // namespace promwarden
