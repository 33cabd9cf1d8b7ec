#include "regex.hpp"

namespace promwarden::nginx {

namespace {

constexpr std::uint32_t most_steps = 1'000'000, most_depth = 10'000;
constexpr std::uint32_t most_memory = 20'000;  // KiB

}  // namespace

Regex::Regex(pcre2_code_8* code) : code_(code), limits_(pcre2_match_context_create_8(nullptr)) {
    pcre2_set_match_limit_8(limits_.get(), most_steps);
    pcre2_set_depth_limit_8(limits_.get(), most_depth);
    pcre2_set_heap_limit_8(limits_.get(), most_memory);
    std::uint32_t count = 0, size = 0;
    PCRE2_SPTR8 table = nullptr;
    pcre2_pattern_info_8(code, PCRE2_INFO_NAMECOUNT, &count);
    pcre2_pattern_info_8(code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    pcre2_pattern_info_8(code, PCRE2_INFO_NAMETABLE, &table);
    for (std::uint32_t i = 0; i < count; ++i, table += size) {
        const auto number = static_cast<std::size_t>(table[0] << 8 | table[1]);
        names_.emplace_back(reinterpret_cast<const char*>(table + 2), number);  // NOLINT: the library's own text type
    }
}

Result<std::shared_ptr<const Regex>> Regex::compile(std::string_view pattern, bool caseless) {
    int error = 0;
    std::size_t offset = 0;
    const auto* text = reinterpret_cast<PCRE2_SPTR8>(pattern.data());  // NOLINT: the library's own text type
    auto* code = pcre2_compile_8(text, pattern.size(), caseless ? PCRE2_CASELESS : 0, &error, &offset, nullptr);
    if (code == nullptr) return fail(Code::invalid, "compile", "a regular expression", "nginx would refuse it at character " + std::to_string(offset + 1));
    return std::make_shared<const Regex>(code);
}

Regex::Found Regex::match(std::string_view text, Groups& groups) const {
    const Handle<pcre2_match_data_8, pcre2_match_data_free_8> data(pcre2_match_data_create_from_pattern_8(code_.get(), nullptr));
    const auto* subject = reinterpret_cast<PCRE2_SPTR8>(text.data());  // NOLINT: the library's own text type
    const int count = pcre2_match_8(code_.get(), subject, text.size(), 0, 0, data.get(), limits_.get());
    if (count == PCRE2_ERROR_NOMATCH) return Found::no;
    if (count <= 0) return Found::too_hard;
    const auto* places = pcre2_get_ovector_pointer_8(data.get());
    groups.assign(static_cast<std::size_t>(count), {});
    for (std::size_t i = 0; i < groups.size(); ++i)
        if (places[2 * i] != PCRE2_UNSET && places[2 * i] <= places[2 * i + 1]) groups[i] = text.substr(places[2 * i], places[2 * i + 1] - places[2 * i]);
    return Found::yes;
}

std::shared_ptr<const Regex> regex_of(const Configuration& configuration, std::string_view pattern, bool caseless) {
    const auto key = (caseless ? "i" : "c") + std::string(pattern);
    const auto known = configuration.regexes.find(key);
    if (known != configuration.regexes.end()) return known->second;
    auto made = Regex::compile(pattern, caseless);
    return configuration.regexes[key] = made ? *std::move(made) : nullptr;
}

}  // namespace promwarden::nginx
