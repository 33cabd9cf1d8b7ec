/// controls — the catalogue as data, and the pure functions that decide each control.
///
/// evaluate: (Policy, Facts) → Report. No clock, no I/O, no logging. To add a control: one row in src/controls/catalogue.cpp, one function in the file of its
/// family, one table of cases in tests/unit/.
#pragma once

#include <span>

#include "promwarden/access.hpp"
#include "promwarden/policy.hpp"

namespace promwarden {

enum class Severity : std::uint8_t { critical, high, medium, low };
enum class Verdict : std::uint8_t { pass, fail, unknown, not_applicable };
enum class Evidence : std::uint8_t { config, process, kernel, live };

std::string_view to_text(Severity severity);
std::string_view to_text(Verdict verdict);
std::string_view to_text(Evidence evidence);
std::string_view to_text(Mode mode);

struct Location {
    std::string file;
    std::uint32_t line = 0, column = 0;
    std::string path;  // scrape_configs[0].basic_auth.password
};

/// What would put a finding right. Where `access` is there, an apply does it by itself, to the finding's subject.
struct Remedy {
    bool automatic = false;
    std::string summary;
    std::optional<AccessChange> access = {};
};

struct Finding {
    std::string subject, expected, observed;
    std::optional<Location> location;
    Evidence evidence = Evidence::kernel;
    Remedy remedy;
    std::string about{};  // what two sides of one control may both see, so that they report it once: "web.enable-admin-api". Never shown
};

/// What a control's function says. `reason` is one sentence for a person.
struct Decision {
    Verdict verdict = Verdict::pass;
    std::string reason;
    std::vector<Finding> findings;
};

/// The parts of Facts that a control looks at: an observation for one control makes only these.
enum class Part : std::uint16_t {
    filter = 1,       // our table, the interfaces
    bypasses = 2,     // ways around it
    servers = 4,      // Prometheus: sockets, processes, units
    files = 8,        // what its configuration says and names
    storage = 16,     // devices below paths
    containers = 32,  // of engines on this host
    proxy = 64,       // the reverse proxy's configuration
    certificates = 128,
    live = 256,       // what endpoints answered
};
constexpr Part operator|(Part a, Part b) { return static_cast<Part>(static_cast<std::uint16_t>(a) | static_cast<std::uint16_t>(b)); }
constexpr bool includes(Part all, Part one) { return (static_cast<std::uint16_t>(all) & static_cast<std::uint16_t>(one)) != 0; }

class FileVerdicts;

/// A control's function. Those of the second form also look at what the configuration's texts say, which is judged once for all controls of an evaluation.
class Decide {
public:
    using OverFacts = Decision (*)(const Policy&, const Facts&);
    using OverFiles = Decision (*)(const Policy&, const Facts&, const FileVerdicts&);
    constexpr Decide(std::nullptr_t) {}                                // NOLINT(google-explicit-constructor): a row of the catalogue names the function itself
    constexpr Decide(OverFacts function) : over_facts_(function) {}    // NOLINT(google-explicit-constructor)
    constexpr Decide(OverFiles function) : over_files_(function) {}    // NOLINT(google-explicit-constructor)

    constexpr bool operator==(std::nullptr_t) const { return over_facts_ == nullptr && over_files_ == nullptr; }
    [[nodiscard]] constexpr bool reads_files() const { return over_files_ != nullptr; }
    Decision operator()(const Policy& policy, const Facts& facts, const FileVerdicts& files) const;
    /// By itself: judges the texts for this one control.
    Decision operator()(const Policy& policy, const Facts& facts) const;

private:
    OverFacts over_facts_ = nullptr;
    OverFiles over_files_ = nullptr;
};

struct Control {
    std::string_view id;
    std::string_view title;
    Severity severity;
    std::string_view enforced_by;  // "ruleset", "unit drop-in", "report" …
    std::string_view rationale;
    std::string_view verified_by;
    std::string_view references;
    Part needs;
    Decide decide;  // null: this version does not decide it yet, and no report mentions it
};

/// Every control, in the order in which reports show them.
std::span<const Control> catalogue();
const Control* find_control(std::string_view id);
/// What deciding these controls needs (empty: all).
Part needs_of(std::span<const std::string> only);

struct ControlReport {
    const Control* control = nullptr;
    Mode mode = Mode::enforce;
    Decision decision;
    std::optional<Waiver> waiver;  // the one that waives the failure, or one that did until it expired
    bool waived = false;           // the verdict is fail and every finding is covered by a waiver that holds
    std::string notice;            // about the waiver, for a person: "the waiver expires in 3 days"
};

struct Report {
    std::string host;
    std::chrono::system_clock::time_point time;
    std::string policy_path, policy_sha256;
    std::vector<ControlReport> controls;

    [[nodiscard]] std::size_t count(Verdict verdict) const;  // waived failures aside
    [[nodiscard]] std::size_t waived() const;
};

/// Decides the controls of `only` (empty: all that have a function), in the order of the catalogue. Names in `only` are find_control's.
Report evaluate(const Policy& policy, const Facts& facts, std::span<const std::string> only = {});

/// The ruleset that this host should have: what the policy enforces, with what the facts say about its interfaces. The error is that of the fact that is missing.
Result<Ruleset> desired_ruleset(const Policy& policy, const Facts& facts);

/// What a program's exit status says of a report: 1 where a control of at least this severity fails and is not waived, else 3 where something is unknown or nothing
/// was applicable, else 0.
int exit_status(const Report& report, Severity fail_on = Severity::low);

Json to_json(const Report& report);  // schema promwarden.report/1
Json to_json(const Control& control);
/// A report from to_json's text, as the agent sends it. Refused: a control or a word that this version does not know. Notices come back as part of the reasons.
Result<Report> read_report(const Json& json);

}  // namespace promwarden
