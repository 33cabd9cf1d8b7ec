/// lint — the controls that files alone can decide, over Prometheus' own files wherever they lie.
///
/// Part of the room controls: (files, policy) → Report. What a file says is judged; what it merely leaves out is not, unless a policy demands it. What a template, a
/// variable or service discovery will fill in later is `unknown`, never guessed. Pure; no finding ever quotes a value that may be a secret.
#pragma once

#include "promwarden/controls.hpp"
#include "promwarden/prometheus.hpp"

namespace promwarden {

struct LintOptions {
    const Policy* policy = nullptr;
    std::optional<prometheus::Version> version;  // judge keys by this version instead of by all from 2.42 on
    std::optional<prometheus::FileKind> as;      // instead of the kind that the content suggests
    std::vector<std::string> only;               // control ids; empty: all
    std::string main_file;                       // not empty: the documents are one server's whole configuration, which begins with this one. What they leave out is left out
    std::vector<std::uint16_t> own_ports = {9090};  // where that server listens
};

struct InputFile {
    std::string path;
    std::string text;
};

struct FileDecision {
    std::string_view control;
    Decision decision;
};

/// One decision for every control that files can decide, in the catalogue's order. At most 1,000 findings a control; the reason counts the rest.
std::vector<FileDecision> judge(std::span<const prometheus::Document> documents, const LintOptions& options = {});

/// What the texts in the facts say, server by server, each by its own version. Where the files could not be observed, every decision is unknown.
class FileVerdicts {
public:
    /// Nothing was judged: every decision is not-applicable.
    FileVerdicts() = default;
    FileVerdicts(const Policy& policy, const Facts& facts);

    [[nodiscard]] const Decision& of(std::string_view control) const;

private:
    std::vector<FileDecision> decisions_;
};

/// Reads and judges. Controls of mode "off" are not-applicable; waivers are not considered (they name hosts, not files).
Report lint(std::span<const InputFile> files, const LintOptions& options, std::chrono::system_clock::time_point now);

}  // namespace promwarden
