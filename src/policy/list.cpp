#include "list.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "lexis.hpp"

namespace promwarden::policy {

namespace {

constexpr std::size_t most_errors = 20;

/// Networks by family and prefix length while they are read, as packed bytes.
class Gathered {
public:
    void add(const Cidr& cidr) {
        auto& bytes = classes_[index(cidr.address.family, cidr.prefix)];
        const auto* first = cidr.address.bytes.data();
        bytes.insert(bytes.end(), first, first + width_of(cidr.address.family));
        ++lines_;
    }
    [[nodiscard]] std::size_t lines() const { return lines_; }
    [[nodiscard]] bool has(Family family, std::uint8_t prefix) const { return !classes_[index(family, prefix)].empty(); }
    [[nodiscard]] PackedKeys take(Family family, std::uint8_t prefix) { return {width_of(family), std::move(classes_[index(family, prefix)])}; }

    /// In the order of Networks: by family, long prefixes first.
    template <class Visit>
    static void each_class(Visit visit) {
        for (const auto family : {Family::ip4, Family::ip6})
            for (int prefix = bits_of(family); prefix >= 0; --prefix) visit(family, static_cast<std::uint8_t>(prefix));
    }

private:
    static std::size_t index(Family family, std::uint8_t prefix) { return family == Family::ip4 ? prefix : 33U + prefix; }
    std::array<std::vector<std::uint8_t>, 33 + 129> classes_;
    std::size_t lines_ = 0;
};

/// The line without comment and surrounding blanks.
std::string_view content(std::string_view line) {
    if (const void* hash = line.empty() ? nullptr : std::memchr(line.data(), '#', line.size()))
        line = line.substr(0, static_cast<std::size_t>(static_cast<const char*>(hash) - line.data()));
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
    while (!line.empty() && blank(line.back())) line.remove_suffix(1);
    while (!line.empty() && blank(line.front())) line.remove_prefix(1);
    return line;
}

/// Calls visit(line number from 1, line, content) for each line with something on it, until it returns false.
template <class Visit>
void each_line(std::string_view text, Visit visit) {
    std::uint32_t number = 1;
    for (std::size_t at = 0; at < text.size(); ++number) {
        const void* end = std::memchr(text.data() + at, '\n', text.size() - at);
        const auto length = end == nullptr ? text.size() - at : static_cast<std::size_t>(static_cast<const char*>(end) - text.data()) - at;
        const auto line = text.substr(at, length);
        at += length + 1;
        if (const auto inside = content(line); !inside.empty() && !visit(number, line, inside)) return;
    }
}

std::uint32_t column_of(std::string_view line, std::string_view inside) { return static_cast<std::uint32_t>(inside.data() - line.data()) + 1; }

std::string_view without_bom(std::string_view text) {
    constexpr std::string_view bom = "\xEF\xBB\xBF";
    return text.starts_with(bom) ? text.substr(bom.size()) : text;
}

/// Every network of these lines; nullopt at the first that is not one.
std::optional<Gathered> gather(std::string_view text) {
    std::optional<Gathered> gathered(std::in_place);
    each_line(text, [&](std::uint32_t, std::string_view, std::string_view inside) {
        const auto cidr = parse_cidr(inside);
        if (cidr) gathered->add(*cidr);
        else gathered.reset();
        return gathered.has_value();
    });
    return gathered;
}

void note_errors(std::string_view text, std::uint32_t file, Notes& notes) {
    std::size_t errors = 0;
    each_line(text, [&](std::uint32_t number, std::string_view line, std::string_view inside) {
        const auto cidr = parse_cidr(inside);
        if (cidr) return true;
        const auto column = column_of(line, inside);
        if (const auto wrong = unreadable(inside)) notes.add({file, number, column}, wrong->message);
        else notes.add({file, number, column}, fmt::format("'{}': {}", inside, cidr.error().detail));
        return ++errors < most_errors;
    });
}

struct Stretch {
    std::size_t start = 0, old_end = 0, new_end = 0;  // offsets of whole lines
};

std::size_t common_prefix(std::string_view left, std::string_view right) {
    constexpr std::size_t block = 4096;
    const auto most = std::min(left.size(), right.size());
    std::size_t at = 0;
    while (at + block <= most && std::memcmp(left.data() + at, right.data() + at, block) == 0) at += block;
    while (at < most && left[at] == right[at]) ++at;
    return at;
}

std::size_t common_suffix(std::string_view left, std::string_view right) {
    constexpr std::size_t block = 4096;
    const auto most = std::min(left.size(), right.size());
    const char* left_end = left.data() + left.size();
    const char* right_end = right.data() + right.size();
    std::size_t at = 0;
    while (at + block <= most && std::memcmp(left_end - at - block, right_end - at - block, block) == 0) at += block;
    while (at < most && left_end[-1 - static_cast<std::ptrdiff_t>(at)] == right_end[-1 - static_cast<std::ptrdiff_t>(at)]) ++at;
    return at;
}

/// The lines in which two texts differ.
Stretch difference_of(std::string_view before, std::string_view after) {
    const auto prefix = common_prefix(before, after);
    const auto start = before.substr(0, prefix).rfind('\n') + 1;  // npos + 1 is 0
    auto suffix = common_suffix(before.substr(start), after.substr(start));
    // The common end begins after a line's end, so that it is whole lines in both.
    const auto line_end = before.find('\n', before.size() - suffix);
    suffix = line_end == std::string_view::npos ? 0 : before.size() - line_end - 1;
    return {start, before.size() - suffix, after.size() - suffix};
}

Networks all_of(Gathered gathered) {
    Networks networks;
    Gathered::each_class([&](Family family, std::uint8_t prefix) {
        if (gathered.has(family, prefix)) networks.push_back({family, prefix, std::make_shared<PackedKeys>(gathered.take(family, prefix))});
    });
    return networks;
}

/// `networks` with some taken away and some added; classes that neither touches stay the same objects.
Networks changed(const Networks& networks, Gathered removed, Gathered added) {
    Networks result;
    auto known = networks.begin();
    Gathered::each_class([&](Family family, std::uint8_t prefix) {
        const bool had = known != networks.end() && known->family == family && known->prefix == prefix;
        const bool touched = removed.has(family, prefix) || added.has(family, prefix);
        if (had && !touched) result.push_back(*known);
        if (touched) {
            const PackedKeys none(width_of(family));
            auto keys = (had ? *known->networks : none).changed(removed.take(family, prefix), added.take(family, prefix));
            if (!keys.empty()) result.push_back({family, prefix, std::make_shared<PackedKeys>(std::move(keys))});
        }
        if (had) ++known;
    });
    return result;
}

bool read_all(std::string_view text, ParsedList& list) {
    auto gathered = gather(text);
    if (!gathered) return false;
    const auto lines = gathered->lines();
    list.networks = all_of(std::move(*gathered));
    list.repeats = lines != count(list.networks);
    return true;
}

bool read_changes(std::string_view before, std::string_view after, ParsedList& list) {
    const auto stretch = difference_of(before, after);
    auto removed = gather(before.substr(stretch.start, stretch.old_end - stretch.start));
    auto added = gather(after.substr(stretch.start, stretch.new_end - stretch.start));
    if (!removed || !added) return false;
    const auto expected = count(list.networks) - removed->lines() + added->lines();
    list.networks = changed(list.networks, std::move(*removed), std::move(*added));
    list.repeats = expected != count(list.networks);  // an added line that was there already; the union is right all the same
    return true;
}

}  // namespace

bool read_list(const SourceFile& source, std::uint32_t file, ParsedList& list, Notes& notes) {
    if (list.text == source.text) return true;
    const auto text = without_bom(*source.text);
    const bool known = list.text != nullptr && !list.repeats;  // of a network that is there twice, one line's end removes nothing
    const bool good = known ? read_changes(without_bom(*list.text), text, list) : read_all(text, list);
    if (good) list.text = source.text;
    else note_errors(text, file, notes);
    return good;
}

Networks unite(const Networks& left, const Networks& right) {
    Networks result;
    auto a = left.begin(), b = right.begin();
    const auto order = [](const NetworkClass& one) { return std::pair(one.family, -int{one.prefix}); };
    while (a != left.end() || b != right.end()) {
        if (b == right.end() || (a != left.end() && order(*a) < order(*b))) result.push_back(*a++);
        else if (a == left.end() || order(*b) < order(*a)) result.push_back(*b++);
        else {
            const auto& [large, small] = a->networks->size() < b->networks->size() ? std::tie(*b, *a) : std::tie(*a, *b);
            const PackedKeys none(width_of(a->family));
            result.push_back({a->family, a->prefix, std::make_shared<PackedKeys>(large.networks->changed(none, *small.networks))});
            ++a, ++b;
        }
    }
    return result;
}

std::optional<std::pair<std::uint32_t, std::uint32_t>> place_in_list(std::string_view text, const Cidr& cidr) {
    std::optional<std::pair<std::uint32_t, std::uint32_t>> found;
    each_line(without_bom(text), [&](std::uint32_t number, std::string_view line, std::string_view inside) {
        const auto parsed = parse_cidr(inside);
        if (parsed && *parsed == cidr) found.emplace(number, column_of(line, inside));
        return !found;
    });
    return found;
}

}  // namespace promwarden::policy
