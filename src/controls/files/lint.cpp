// Texts → Report: the decisions of `judge` and of the proxy controls in the catalogue's words, so that every renderer can print them.

#include <algorithm>

#include "families.hpp"
#include "promwarden/deployment.hpp"
#include "promwarden/site.hpp"

namespace promwarden {

namespace {

using prometheus::FileKind;

/// What the files say together, control by control.
class Gathered {
public:
    void add(std::vector<FileDecision> decisions) {
        for (auto& [control, decision] : decisions) {
            const auto found = std::ranges::find(all_, control, &FileDecision::control);
            if (found == all_.end()) all_.push_back({control, std::move(decision)});
            else found->decision = merge_of(std::move(found->decision), std::move(decision));
        }
    }
    [[nodiscard]] Decision* of(std::string_view control) {
        const auto found = std::ranges::find(all_, control, &FileDecision::control);
        return found == all_.end() ? nullptr : &found->decision;
    }

private:
    std::vector<FileDecision> all_;
};

/// Of a file that is none of Prometheus' own; nullopt where it is not of that kind either.
std::optional<std::vector<FileDecision>> judge_other(const InputFile& file, FileKind kind, const LintOptions& options, std::chrono::system_clock::time_point now) {
    SiteOptions site;
    site.policy = options.policy;
    site.only = options.only;
    if (options.version) site.version = *options.version;
    switch (kind) {
        case FileKind::compose: return judge_compose(file.path, file.text, options);
        case FileKind::unit: return judge_unit(file.path, file.text, options);
        case FileKind::oauth2_proxy: return judge_identity(file.path, file.text, site, now);
        case FileKind::nginx: return judge_site(*nginx::compile(nginx::read(file.path, file.text)), site);
        default: break;
    }
    if (auto decisions = judge_compose(file.path, file.text, options)) return decisions;
    if (auto decisions = judge_unit(file.path, file.text, options)) return decisions;
    const auto other = other_kind(file.text);
    return other == FileKind::unknown ? std::nullopt : judge_other(file, other, options, now);
}

constexpr bool is_other(FileKind kind) { return kind == FileKind::nginx || kind == FileKind::oauth2_proxy || kind == FileKind::compose || kind == FileKind::unit; }

}  // namespace

Report lint(std::span<const InputFile> files, const LintOptions& options, std::chrono::system_clock::time_point now) {
    std::vector<prometheus::Document> documents;
    Gathered all;
    for (const auto& file : files) {
        std::optional<prometheus::Document> document;
        if (!options.as || !is_other(*options.as)) document = prometheus::read_document(file.path, file.text, options.as);
        std::optional<std::vector<FileDecision>> other;
        if (!document || document->kind == FileKind::unknown) other = judge_other(file, options.as.value_or(FileKind::unknown), options, now);
        if (other) all.add(*std::move(other));
        else documents.push_back(document ? *std::move(document) : prometheus::read_document(file.path, file.text));
    }
    all.add(judge(documents, options));
    Report report;
    report.time = now;
    if (options.policy != nullptr) {
        report.policy_path = options.policy->path;
        report.policy_sha256 = options.policy->sha256;
    }
    for (const auto& control : catalogue()) {
        auto* decision = all.of(control.id);
        if (decision == nullptr) continue;
        ControlReport row{.control = &control, .decision = std::move(*decision), .waiver = {}, .notice = {}};
        row.mode = options.policy == nullptr ? Mode::enforce : options.policy->mode_of(control.id);
        if (row.mode == Mode::off) row.decision = {Verdict::not_applicable, "the policy turns this control off", {}};
        report.controls.push_back(std::move(row));
    }
    return report;
}

}  // namespace promwarden
