// Any text as a file of any kind: read, judged, and rendered, without a crash and without a finding that has no place.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "promwarden/lint.hpp"

using namespace promwarden;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    using prometheus::FileKind;
    constexpr FileKind kinds[] = {FileKind::unknown, FileKind::prometheus, FileKind::scrape_configs, FileKind::web, FileKind::rules, FileKind::http_client, FileKind::targets};
    const auto kind = kinds[data[0] % std::size(kinds)];
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto document = prometheus::read_document("fuzz", text, kind == FileKind::unknown ? std::nullopt : std::optional(kind));
    for (const auto& [control, decision] : judge(std::span(&document, 1))) {
        if (decision.reason.empty() || (decision.verdict == Verdict::fail) != !decision.findings.empty()) std::abort();
        for (const auto& finding : decision.findings)
            if (!finding.location || finding.remedy.summary.empty()) std::abort();
    }
    return 0;
}
