// Texts → Report: the decisions of `judge` in the catalogue's words, so that every renderer can print them.

#include <algorithm>

#include "promwarden/lint.hpp"

namespace promwarden {

Report lint(std::span<const InputFile> files, const LintOptions& options, std::chrono::system_clock::time_point now) {
    std::vector<prometheus::Document> documents;
    documents.reserve(files.size());
    for (const auto& file : files) documents.push_back(prometheus::read_document(file.path, file.text, options.as));
    Report report;
    report.time = now;
    if (options.policy != nullptr) {
        report.policy_path = options.policy->path;
        report.policy_sha256 = options.policy->sha256;
    }
    for (auto& [id, decision] : judge(documents, options)) {
        const auto* control = find_control(id);
        if (control == nullptr) continue;
        ControlReport row{.control = control, .decision = std::move(decision), .waiver = {}, .notice = {}};
        row.mode = options.policy == nullptr ? Mode::enforce : options.policy->mode_of(id);
        if (row.mode == Mode::off) row.decision = {Verdict::not_applicable, "the policy turns this control off", {}};
        report.controls.push_back(std::move(row));
    }
    return report;
}

}  // namespace promwarden
