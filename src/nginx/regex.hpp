/// Internal to nginx: regular expressions as nginx has them.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

/// What an expression matched: group 0 is the whole; a group that took no part is "".
using Groups = std::vector<std::string>;

/// Work is bounded: an expression that needs more than a million steps for one text gives no answer.
class Regex {
public:
    static Result<std::shared_ptr<const Regex>> compile(std::string_view pattern, bool caseless);

    enum class Found : std::uint8_t { yes, no, too_hard };
    Found match(std::string_view text, Groups& groups) const;
    /// Named groups with their numbers.
    [[nodiscard]] const std::vector<std::pair<std::string, std::size_t>>& names() const { return names_; }

    explicit Regex(pcre2_code_8* code);

private:
    Handle<pcre2_code_8, pcre2_code_free_8> code_;
    Handle<pcre2_match_context_8, pcre2_match_context_free_8> limits_;
    std::vector<std::pair<std::string, std::size_t>> names_;
};

/// "~^/api", "~*admin": with a mark that says how to compare, as map and server_name have it. Compiled once per configuration; null where it is no expression.
std::shared_ptr<const Regex> regex_of(const Configuration& configuration, std::string_view pattern, bool caseless);

}  // namespace promwarden::nginx
