// Policy and Facts become a Report: which controls run, in which mode, and which failures a waiver covers.

#include <algorithm>

#include <fmt/format.h>

#include "families.hpp"

namespace promwarden {

namespace {

using namespace std::chrono_literals;
using Time = std::chrono::system_clock::time_point;

constexpr auto announced_before_expiry = 14 * 24h;

bool holds(const Waiver& waiver, Time now) { return now < waiver.expires; }
bool covers(const Waiver& waiver, const Finding& finding) { return waiver.subject.empty() || waiver.subject == finding.subject; }

/// "3 days", "1 hour", "less than an hour".
std::string rough(std::chrono::system_clock::duration span) {
    const auto say = [](std::int64_t count, std::string_view unit) { return fmt::format("{} {}{}", count, unit, count == 1 ? "" : "s"); };
    if (span >= 24h) return say(std::chrono::floor<std::chrono::days>(span).count(), "day");
    if (span >= 1h) return say(std::chrono::floor<std::chrono::hours>(span).count(), "hour");
    return "less than an hour";
}

/// The waivers of one control, weighed against its findings.
class WaiverScale {
public:
    WaiverScale(const std::vector<Waiver>& waivers, std::string_view control, const std::vector<Finding>& findings, Time now)
        : findings_(findings), now_(now) {
        for (const auto& waiver : waivers) {
            if (waiver.control != control) continue;
            if (!waiver.subject.empty() && std::ranges::none_of(findings, [&](const Finding& finding) { return covers(waiver, finding); }))
                continue;
            (holds(waiver, now) ? holding_ : expired_).push_back(&waiver);
        }
        std::ranges::sort(holding_, {}, &Waiver::expires);
        std::ranges::sort(expired_, std::ranges::greater{}, &Waiver::expires);
    }

    void weigh(ControlReport& report) const {
        const auto covered = std::ranges::count_if(findings_, [&](const Finding& finding) { return is_covered(finding); });
        if (const auto* waiver = carrier(covered == std::ssize(findings_))) {
            report.waived = true;
            report.waiver = *waiver;
            const auto left = waiver->expires - now_;
            if (left <= announced_before_expiry) report.notice = fmt::format("the waiver expires in {}", rough(left));
        } else if (!expired_.empty()) {
            report.waiver = *expired_.front();
            const auto ago = now_ - expired_.front()->expires;
            report.notice = ago < 1h ? "the waiver has just expired" : fmt::format("the waiver expired {} ago", rough(ago));
        } else if (covered > 0) {
            report.notice = fmt::format("{} of {} findings are waived, which does not waive the control", covered, findings_.size());
        }
    }

private:
    /// The waiver on whose expiry the control fails: the last to expire of those for the control as a whole, else the first of those that cover it together.
    [[nodiscard]] const Waiver* carrier(bool all_covered) const {
        const auto whole =
            std::ranges::find_if(holding_.rbegin(), holding_.rend(), [](const Waiver* waiver) { return waiver->subject.empty(); });
        if (whole != holding_.rend()) return *whole;
        return all_covered && !holding_.empty() ? holding_.front() : nullptr;
    }
    [[nodiscard]] bool is_covered(const Finding& finding) const {
        return std::ranges::any_of(holding_, [&](const Waiver* waiver) { return covers(*waiver, finding); });
    }

    const std::vector<Finding>& findings_;
    Time now_;
    std::vector<const Waiver*> holding_, expired_;  // the first to expire first; the last expired first
};

ControlReport report_of(const Control& control, const Policy& policy, const Facts& facts, const FileVerdicts& files) {
    ControlReport report{&control, policy.mode_of(control.id), {}, {}, false, {}};
    constexpr auto on_disk = Part::servers | Part::files | Part::proxy | Part::certificates | Part::containers;
    if (report.mode == Mode::off) report.decision = not_applicable("switched off by the policy");
    else if (!facts.root.empty() && !includes(on_disk, control.needs)) report.decision = not_applicable("a mounted image has no kernel, processes or answers of its own");
    else report.decision = control.decide(policy, facts, files);
    if (report.decision.verdict == Verdict::fail)
        WaiverScale(policy.waivers, control.id, report.decision.findings, facts.now).weigh(report);
    return report;
}

}  // namespace

Decision Decide::operator()(const Policy& policy, const Facts& facts, const FileVerdicts& files) const {
    return over_files_ != nullptr ? over_files_(policy, facts, files) : over_facts_(policy, facts);
}

Decision Decide::operator()(const Policy& policy, const Facts& facts) const {
    if (over_files_ == nullptr) return over_facts_(policy, facts);
    return over_files_(policy, facts, FileVerdicts(policy, facts));
}

namespace {

/// Two sides saw the same: one finding, in the words of the later part, which knows where it is written, and with the evidence that weighs more.
void join(Finding& known, Finding other) {
    std::swap(known, other);
    if (other.evidence != known.evidence && !known.observed.contains(other.observed)) known.observed += "; " + other.observed;
    known.evidence = std::max(known.evidence, other.evidence);
}

/// Whether two findings are about the same place of a file; those that name none are.
bool same_place(const Finding& one, const Finding& other) {
    if (!one.location || !other.location) return one.location.has_value() == other.location.has_value();
    return one.location->file == other.location->file && one.location->line == other.location->line && one.location->path == other.location->path;
}

/// Findings of one more part: what it repeats of itself is dropped, what another part saw, too, is joined.
void add_findings(std::vector<Finding>& whole, std::vector<Finding> part) {
    const auto before = whole.size();
    for (auto& finding : part) {
        const auto others = std::span(whole).first(before), own = std::span(whole).subspan(before);
        const auto same = std::ranges::find_if(others, [&](const Finding& one) { return !finding.about.empty() && one.about == finding.about; });
        if (same != others.end()) join(*same, std::move(finding));
        else if (std::ranges::none_of(own, [&](const Finding& one) { return one.subject == finding.subject && one.observed == finding.observed && one.expected == finding.expected && same_place(one, finding); }))
            whole.push_back(std::move(finding));
    }
}

}  // namespace

Decision merge(std::span<Decision> parts) {
    const auto rank = [](Verdict verdict) { return verdict == Verdict::fail ? 3 : verdict == Verdict::unknown ? 2 : verdict == Verdict::pass ? 1 : 0; };
    Decision whole{Verdict::not_applicable, {}, {}};
    for (const auto& part : parts)
        if (rank(part.verdict) > rank(whole.verdict)) whole.verdict = part.verdict;
    // The sentences of the worst first; an undecided part is worth a word beside a failure, a passed one is not.
    for (const auto verdict : {whole.verdict, Verdict::unknown}) {
        if (verdict != whole.verdict && whole.verdict != Verdict::fail) break;
        for (const auto& part : parts)
            if (part.verdict == verdict && !part.reason.empty() && !whole.reason.contains(part.reason))
                whole.reason += (whole.reason.empty() ? "" : verdict == whole.verdict ? "; " : "; not decided: ") + part.reason;
    }
    for (auto& part : parts) add_findings(whole.findings, std::move(part.findings));
    return whole;
}

Decision unknown(const Error& error) { return {Verdict::unknown, error.text(), {}}; }
Decision not_applicable(std::string reason) { return {Verdict::not_applicable, std::move(reason), {}}; }

bool is_any(const Address& address) { return address == Address{address.family, {}}; }

std::size_t Report::count(Verdict verdict) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(controls, [&](const ControlReport& report) { return !report.waived && report.decision.verdict == verdict; }));
}

std::size_t Report::waived() const { return static_cast<std::size_t>(std::ranges::count_if(controls, &ControlReport::waived)); }

Report evaluate(const Policy& policy, const Facts& facts, std::span<const std::string> only) {
    Report report{facts.host, facts.now, policy.path, policy.sha256, {}};
    const auto chosen = [&](const Control& control) { return control.decide != nullptr && (only.empty() || std::ranges::find(only, control.id) != only.end()); };
    const bool judged = std::ranges::any_of(catalogue(), [&](const Control& control) { return chosen(control) && control.decide.reads_files() && policy.mode_of(control.id) != Mode::off; });
    const auto files = judged ? FileVerdicts(policy, facts) : FileVerdicts();
    for (const auto& control : catalogue())
        if (chosen(control)) report.controls.push_back(report_of(control, policy, facts, files));
    return report;
}

int exit_status(const Report& report, Severity fail_on) {
    const auto counts = [&](const ControlReport& one) {
        return one.decision.verdict == Verdict::fail && !one.waived && one.control->severity <= fail_on;
    };
    if (std::ranges::any_of(report.controls, counts)) return 1;
    const bool nothing_applied = report.count(Verdict::not_applicable) == report.controls.size();
    return report.count(Verdict::unknown) > 0 || nothing_applied ? 3 : 0;
}

}  // namespace promwarden
