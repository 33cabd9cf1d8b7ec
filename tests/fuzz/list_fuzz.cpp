// Two texts of one list, cut at the first NUL: reading the second by its difference from the first gives what reading it whole gives.

#include <cstdlib>

#include "promwarden/policy.hpp"

using namespace promwarden;

namespace {

Sources with_list(std::string_view list) {
    Sources sources;
    sources.files.push_back({SourceFile::Kind::policy, "/p", {}, std::make_shared<const std::string>("schema = 1\nfirewall.sources.a = \"@/l\"\n")});
    sources.files.push_back({SourceFile::Kind::list, "/l", {}, std::make_shared<const std::string>(list)});
    return sources;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string all(data, data + size);
    const auto cut = std::min(all.find('\0'), all.size());
    const auto before = with_list(std::string_view(all).substr(0, cut)), after = with_list(std::string_view(all).substr(std::min(cut + 1, all.size())));
    ParsedLists lists;
    (void)parse(before, RecordedAccounts{}, &lists);
    const auto changed = parse(after, RecordedAccounts{}, &lists);
    const auto whole = parse(after, RecordedAccounts{});
    if (changed.has_value() != whole.has_value() || (whole && !(changed->firewall == whole->firewall))) std::abort();
    return 0;
}
