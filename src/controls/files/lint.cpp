// Texts → Report: the decisions of `judge` and of the proxy controls in the catalogue's words, so that every renderer can print them.

#include <algorithm>

#include "families.hpp"
#include "promwarden/deployment.hpp"
#include "promwarden/site.hpp"
#include "promwarden/template.hpp"

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

/// nginx' configuration with what a template will fill in as a variable of nginx: both are known later, and the reader knows how to say so.
std::string nginx_text(std::string_view text) {
    if (!prometheus::has_template_marks(text)) return std::string(text);
    const auto clean = prometheus::without_templates(text).text;
    constexpr auto mark = prometheus::filled_later;
    std::string result;
    for (std::string_view rest = clean; !rest.empty();) {
        const auto at = rest.find(mark);
        result += rest.substr(0, at);
        if (at == std::string_view::npos) break;
        rest.remove_prefix(at);
        std::size_t length = 0;
        for (; rest.starts_with(mark); rest.remove_prefix(mark.size())) ++length;
        result += "${" + std::string(length > 3 ? length - 3 : 1, 'x') + "}";  // as long as it was: columns stay
    }
    return result;
}

/// Of a file that is none of Prometheus' own; nullopt where it is not of that kind either.
std::optional<std::vector<FileDecision>> judge_other(const InputFile& file, FileKind kind, std::span<const InputFile> beside, const LintOptions& options, std::chrono::system_clock::time_point now) {
    SiteOptions site;
    site.policy = options.policy;
    site.only = options.only;
    if (options.version) site.version = *options.version;
    switch (kind) {
        case FileKind::compose: return judge_compose(file, beside, options);
        case FileKind::unit: return judge_unit(file, options);
        case FileKind::oauth2_proxy: return judge_identity(file.path, file.text, site, now);
        case FileKind::nginx: return judge_site(*nginx::compile(nginx::read(file.path, nginx_text(file.text))), site);
        default: break;
    }
    if (auto decisions = judge_compose(file, beside, options)) return decisions;
    if (auto decisions = judge_unit(file, options)) return decisions;
    const auto other = other_kind(nginx_text(file.text));
    return other == FileKind::unknown ? std::nullopt : judge_other(file, other, beside, options, now);
}

constexpr bool is_other(FileKind kind) { return kind == FileKind::nginx || kind == FileKind::oauth2_proxy || kind == FileKind::compose || kind == FileKind::unit; }

}  // namespace

Report lint(std::span<const InputFile> files, const LintOptions& options, std::chrono::system_clock::time_point now) { return lint(files, {}, options, now); }

Report lint(std::span<const InputFile> files, std::span<const InputFile> beside, const LintOptions& options, std::chrono::system_clock::time_point now) {
    std::vector<prometheus::Document> documents;
    Gathered all;
    for (const auto& file : files) {
        std::optional<prometheus::Document> document;
        if (!options.as || !is_other(*options.as)) document = prometheus::read_document(file.path, file.text, options.as);
        std::optional<std::vector<FileDecision>> other;
        if (!document || document->kind == FileKind::unknown) other = judge_other(file, options.as.value_or(FileKind::unknown), beside, options, now);
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
