// Certificates that another tool renews: judged before the service is made to read them, and seen served afterwards. Their files are never written.

#include <fmt/format.h>

#include "parts.hpp"

namespace promwarden::rotation {

bool renewed_by_another(const ManagedCertificate& known) { return known.leaf && known.record.seen != known.leaf->fingerprint; }

/// Nullopt where nothing is new, or what is wrong with it was said before. A tool that writes one file after the other may be met in between: then nothing is counted
/// against it, and the next look finds the pair complete.
std::optional<Outcome> Rotator::follow(const CertificatePolicy& policy) {
    auto known = published(policy_, places_, world_, policy, std::nullopt);
    auto& record = known.record;
    if (!known.leaf || record.next_try > world_.now()) return std::nullopt;
    if (!renewed_by_another(known)) {
        if (record.attempts == 0 || !known.problems.empty()) return std::nullopt;
        record.attempts = 0;  // what was wrong was taken back
        record.last_error.clear();
        (void)write_record(places_, policy.name, record);
        return std::nullopt;
    }
    Outcome outcome{policy.name, tls::Action::none, {}, known.leaf, {}, {}};
    if (!known.problems.empty()) {
        outcome.note = fmt::format("what another tool put there is left alone: {}", known.problems.front());
        if (record.last_error == outcome.note) return std::nullopt;
        record.attempts = 1;
        record.last_error = outcome.note;
    } else if (const auto sight =
                   settle(world_, known.endpoints, policy, known.leaf->fingerprint, answers(world_, known.endpoints, policy));
               !sight) {
        outcome.note = sight.error().text();
        record = tls::after_failure(record, outcome.note, known.leaf, world_.now());
    } else {
        outcome.action = tls::Action::renew;
        outcome.served = sight->served;
        outcome.note = record.seen.empty() ? "another tool renews it" : "another tool renewed it";
        record.attempts = 0;
        record.last_error.clear();
        record.next_try = {};
        record.seen = known.leaf->fingerprint;
        record.last_attempt = record.rotated = world_.now();
    }
    if (const auto written = write_record(places_, policy.name, record); !written) outcome.note += "; " + written.error().text();
    return outcome;
}

}  // namespace promwarden::rotation
