// The rule file. Pure but for reading what is there.

#include "rules.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fnmatch.h>
#include <unistd.h>

#include "promwarden/prometheus.hpp"
#include "promwarden/rules.hpp"

namespace promwarden {

namespace {

constexpr std::size_t largest_rule_file = 1 << 20;
constexpr std::string_view controls[] = {"alerts.query-rate", "alerts.auth-failures", "alerts.reload-failed"};

/// Whether the configuration that the unit names lists our file, by its name or a pattern.
bool is_listed(const Policy& policy, const Facts& facts) {
    if (!facts.files) return false;
    for (const auto& server : facts.files->servers) {
        if (server.server != policy.prometheus.unit) continue;
        for (const auto& file : server.files) {
            if (file.use != NamedFile::Use::configuration || file.text == nullptr) continue;
            const auto document = prometheus::read_document(file.path, *file.text, prometheus::FileKind::prometheus);
            const auto* list = document.root == nullptr ? nullptr : document.root->find("rule_files");
            const auto directory = file.path.substr(0, file.path.rfind('/') + 1);
            for (const auto* item : list == nullptr ? std::span<const yaml::Node* const>{} : list->items) {
                const auto pattern =
                    item->scalar().starts_with('/') ? std::string(item->scalar()) : directory + std::string(item->scalar());
                if (::fnmatch(pattern.c_str(), prometheus::rule_file.data(), FNM_PATHNAME) == 0) return true;
            }
        }
    }
    return false;
}

/// The control that a change is for: one that is enforced before one that only shows.
const ControlReport* asked_by(const Report& report, bool there) {
    const ControlReport* by = nullptr;
    for (const auto& one : report.controls) {
        if (std::ranges::find(controls, one.control->id) == std::end(controls) || one.mode == Mode::off || one.waived) continue;
        if (!there && one.decision.verdict != Verdict::fail) continue;  // rules of the user's own do it
        if (by == nullptr || (by->mode != Mode::enforce && one.mode == Mode::enforce)) by = &one;
    }
    return by;
}

}  // namespace

Result<RuleFile> read_rule_file() {
    RuleFile file;
    file.group = host_accounts().group("prometheus");
    const std::string path(prometheus::rule_file);
    auto there = read_trusted_file(path, largest_rule_file);
    if (there)
        file.text = std::move(there->text);
    else if (there.error().code != Code::missing)
        return std::unexpected(there.error());
    return file;
}

void plan_rules(const Policy& policy, const ApplyFacts& facts, const Report& report, Plan& plan) {
    if (!facts.rule_file || !*facts.rule_file || !(*facts.rule_file)->group) return;
    const auto& there = **facts.rule_file;
    const auto* by = asked_by(report, there.text.has_value());
    auto wanted = prometheus::render_rules(policy);
    if (by == nullptr || there.text == wanted) return;
    const bool listed = is_listed(policy, facts);
    Change change{Change::Kind::rules,   std::string(by->control->id),          std::string(prometheus::rule_file), "", "", {},
                  Judge::promtool_rules, listed ? Effect::reload : Effect::none};
    change.summary = listed ? "alerting rules; Prometheus reads them again"
                            : "alerting rules; they are heard of once rule_files of prometheus.yml lists them";
    change.deed = WriteFile{there.text ? std::optional(Contents{{*there.text, ""}}) : std::nullopt,
                            Contents{{std::move(wanted), ""}},
                            {0, *there.group, 0640, {}},
                            facts.own_directory ? std::nullopt : std::optional<mode_t>(02750)};
    change.diff = diff_of(change.subject, change.deed);
    plan.changes.push_back(std::move(change));
}

}  // namespace promwarden
