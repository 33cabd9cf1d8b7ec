/// What holds for whatever `promwarden lint` says about any text at all: a reason for every verdict, and a place and a remedy for every finding.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "promwarden/lint.hpp"

inline int lint_as(promwarden::prometheus::FileKind kind, const std::uint8_t* data, std::size_t size) {
    using namespace promwarden;
    const InputFile file{"fuzz", std::string(reinterpret_cast<const char*>(data), size)};
    static const Policy policy;
    for (const auto* given : {static_cast<const Policy*>(nullptr), &policy}) {
        LintOptions options;
        options.as = kind;
        options.policy = given;
        for (const auto& row : lint(std::span(&file, 1), options, std::chrono::system_clock::time_point{}).controls) {
            if (row.decision.reason.empty() || (row.decision.verdict == Verdict::fail) == row.decision.findings.empty()) std::abort();
            for (const auto& finding : row.decision.findings)
                if (!finding.location || finding.location->line == 0 || finding.remedy.summary.empty()) std::abort();
        }
    }
    return 0;
}
