#include "splice.hpp"

#include <algorithm>

#include "promwarden/diff.hpp"

namespace promwarden {

namespace {

/// Without what both sides begin and end with; a secret stays whole.
Difference trimmed(std::string_view before, std::string_view after, Difference one, std::span<const MovedSecret> moved) {
    const auto old_part = before.substr(one.before_at, one.before_length), new_part = after.substr(one.after_at, one.after_length);
    const auto least = std::min(old_part.size(), new_part.size());
    auto front = static_cast<std::size_t>(std::ranges::mismatch(old_part, new_part).in1 - old_part.begin());
    std::size_t back = 0;
    while (back < least && old_part[old_part.size() - 1 - back] == new_part[new_part.size() - 1 - back]) ++back;
    for (const auto& secret : moved) {
        if (secret.range.at < one.before_at || secret.range.at >= one.before_at + one.before_length) continue;
        front = std::min(front, secret.range.at - one.before_at);
        back = std::min(back, one.before_at + one.before_length - secret.range.at - secret.range.length);
    }
    back = std::min(back, least - std::min(front, least));
    return {one.before_at + front, one.before_length - front - back, one.after_at + front, one.after_length - front - back};
}

}  // namespace

EditFile edit_of(std::string_view before, std::string_view after, std::span<const MovedSecret> moved) {
    EditFile edit{{}, sha256(before), sha256(after)};
    for (const auto& difference : differences(before, after)) {
        const auto part = trimmed(before, after, difference, moved);
        EditFile::Splice splice{part.before_at, part.after_at, {}, {}};
        auto at = part.before_at;
        for (const auto& secret : moved) {  // in the order of the text
            if (secret.range.at < at || secret.range.at + secret.range.length > part.before_at + part.before_length) continue;
            splice.before.push_back({std::string(before.substr(at, secret.range.at - at)), ""});
            splice.before.push_back({"", secret.file});
            at = secret.range.at + secret.range.length;
        }
        splice.before.push_back({std::string(before.substr(at, part.before_at + part.before_length - at)), ""});
        splice.after.push_back({std::string(after.substr(part.after_at, part.after_length)), ""});
        edit.splices.push_back(std::move(splice));
    }
    return edit;
}

}  // namespace promwarden
