// Any bytes as a policy: either a policy, whose own picture of itself is a policy, too, or at most twenty diagnostics.

#include <cstdlib>

#include "promwarden/policy.hpp"

using namespace promwarden;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

Sources one_file(std::string text) {
    Sources sources;
    sources.files.push_back({SourceFile::Kind::policy, "/etc/promwarden/policy.toml", {}, std::make_shared<const std::string>(std::move(text))});
    return sources;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const RecordedAccounts accounts = [] {
        RecordedAccounts known;
        known.users = {{"root", 0}, {"prometheus", 110}, {"www-data", 33}};
        known.groups = {{"prometheus", 115}};
        return known;
    }();
    const auto sources = one_file({data, data + size});
    const auto policy = parse(sources, accounts);
    if (!policy) {
        require(!policy.error().empty() && policy.error().size() <= 20);
        for (const auto& diagnostic : policy.error()) require(!to_text(diagnostic, true).empty());
        return 0;
    }
    const auto shown = show(*policy);
    const auto again = parse(one_file(shown), accounts);
    require(again && again->firewall == policy->firewall && show(*again) == shown);
    return 0;
}
