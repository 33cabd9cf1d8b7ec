// The small notations inside strings: sizes, rates, ports, weekly windows, names.

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "reader.hpp"

namespace promwarden::policy {

namespace {

constexpr std::array<std::string_view, 7> size_units{"B", "KB", "MB", "GB", "TB", "PB", "EB"};
struct RateUnit {
    std::string_view name;
    std::int64_t seconds;
};
constexpr std::array<RateUnit, 4> rate_units{{{"second", 1}, {"minute", 60}, {"hour", 3600}, {"day", 86'400}}};
constexpr std::array<std::string_view, 7> weekdays{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

constexpr bool alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool only(std::string_view text, std::string_view besides) {
    return !text.empty() && std::ranges::all_of(text, [&](char c) { return alphanumeric(c) || besides.find(c) != std::string_view::npos; });
}

/// Takes a decimal number off the front.
template <class Number>
std::optional<Number> take_number(std::string_view& text) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || text.empty() || text.front() == '-') return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

std::optional<std::size_t> weekday(std::string_view text) {
    for (std::size_t day = 0; day < weekdays.size(); ++day)
        if (text == weekdays[day] || text == weekdays[day].substr(0, 3)) return day;
    return std::nullopt;
}

/// "Mon,Wed..Fri" as bits.
std::optional<std::uint8_t> parse_days(std::string_view text) {
    unsigned days = 0;
    while (true) {
        const auto comma = text.find(',');
        const auto part = text.substr(0, comma);
        const auto dots = part.find("..");
        const auto first = weekday(part.substr(0, dots));
        const auto last = dots == std::string_view::npos ? first : weekday(part.substr(dots + 2));
        if (!first || !last || *first > *last) return std::nullopt;
        for (auto day = *first; day <= *last; ++day) days |= 1U << day;
        if (comma == std::string_view::npos) return static_cast<std::uint8_t>(days);
        text.remove_prefix(comma + 1);
    }
}

std::optional<std::chrono::minutes> parse_clock(std::string_view text) {
    if (text.size() != 5 || text[2] != ':') return std::nullopt;
    auto hours_text = text.substr(0, 2), minutes_text = text.substr(3);
    const auto hours = take_number<int>(hours_text), minutes = take_number<int>(minutes_text);
    if (!hours || !minutes || !hours_text.empty() || !minutes_text.empty() || *minutes > 59 || *hours * 60 + *minutes > 24 * 60) return std::nullopt;
    return std::chrono::minutes(*hours * 60 + *minutes);
}

bool is_host(std::string_view text) {
    if (parse_address(text)) return true;
    if (text.starts_with("*.")) text.remove_prefix(2);
    return text.size() <= 253 && only(text, ".-_") && alphanumeric(text.front()) && !text.ends_with('.') && text.find("..") == std::string_view::npos;
}

bool is_url(std::string_view text) {
    for (const std::string_view scheme : {"http://", "https://"})
        if (text.starts_with(scheme)) return text.size() > scheme.size() && only(text.substr(scheme.size()), "-._~:/?#[]@!$&'()*+,;=%");
    return false;
}

bool is_port(std::string_view text) {
    const auto range = parse_ports(text);
    return range && range->first == range->last && text.find('-') == std::string_view::npos;
}

bool is_path(std::string_view text) {
    for (std::size_t at = text.find("/.."); at != std::string_view::npos; at = text.find("/..", at + 1))
        if (at + 3 == text.size() || text[at + 3] == '/') return false;
    return text.starts_with('/') && text.size() < 4096;
}

bool printable(std::string_view text) {
    return !text.empty() && std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
    const auto number = take_number<std::uint64_t>(text);
    const auto unit = std::ranges::find(size_units, text);
    if (!number || unit == size_units.end()) return std::nullopt;
    const auto shift = 10 * static_cast<unsigned>(unit - size_units.begin());
    if (*number == 0 || *number > (static_cast<std::uint64_t>(INT64_MAX) >> shift)) return std::nullopt;
    return *number << shift;
}

std::string format_size(std::uint64_t bytes) {
    std::size_t unit = 0;
    for (; bytes != 0 && bytes % 1024 == 0 && unit + 1 < size_units.size(); ++unit) bytes /= 1024;
    return fmt::format("{}{}", bytes, size_units[unit]);
}

std::optional<Rate> parse_rate(std::string_view text) {
    const auto count = take_number<std::uint32_t>(text);
    if (!count || *count == 0 || !text.starts_with('/')) return std::nullopt;
    const auto unit = std::ranges::find(rate_units, text.substr(1), &RateUnit::name);
    if (unit == rate_units.end()) return std::nullopt;
    return Rate{*count, std::chrono::seconds(unit->seconds)};
}

std::string format_rate(const Rate& rate) {
    const auto unit = std::ranges::find(rate_units, rate.unit.count(), &RateUnit::seconds);
    return fmt::format("{}/{}", rate.count, unit == rate_units.end() ? "minute" : unit->name);
}

std::optional<PortRange> parse_ports(std::string_view text) {
    const auto first = take_number<std::uint16_t>(text);
    auto last = first;
    if (text.starts_with('-')) {
        text.remove_prefix(1);
        last = take_number<std::uint16_t>(text);
    }
    if (!first || !last || !text.empty() || *first == 0 || *last < *first) return std::nullopt;
    return PortRange{*first, *last};
}

std::optional<MaintenanceWindow> parse_window(std::string_view text) {
    MaintenanceWindow window{0x7f, {}, {}, std::string(text)};
    if (const auto space = text.find(' '); space != std::string_view::npos) {
        const auto days = parse_days(text.substr(0, space));
        if (!days) return std::nullopt;
        window.days = *days;
        text.remove_prefix(space + 1);
    }
    const auto dash = text.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    const auto from = parse_clock(text.substr(0, dash)), until = parse_clock(text.substr(dash + 1));
    if (!from || !until || *from == *until || *from == std::chrono::hours(24)) return std::nullopt;
    window.from = *from;
    window.until = *until;
    return window;
}

std::optional<std::uint32_t> parse_mode(std::string_view text) {
    std::uint32_t mode = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    if (error != std::errc{} || end != text.data() + text.size() || text.size() < 3 || text.size() > 5 || mode > 07777) return std::nullopt;
    return mode;
}

bool fits(Type type, std::string_view text) {
    switch (type) {
        case Type::rate: return parse_rate(text).has_value();
        case Type::size: return parse_size(text).has_value();
        case Type::path: return printable(text) && is_path(text);
        case Type::name: case Type::names: return text.size() <= 32 && only(text, "-_");
        case Type::host: case Type::hosts: return is_host(text);
        case Type::url: return is_url(text);
        case Type::unit: return text.ends_with(".service") && text.size() > 8 && text.size() <= 255 && only(text, ":_.@-\\");
        case Type::account: case Type::accounts: case Type::group: return printable(text) && text.size() <= 256 && text.find_first_of(":/ ") == text.npos;
        case Type::mode: return parse_mode(text).has_value();
        case Type::role: return text.size() <= 64 && only(text, "-_");
        case Type::control: return printable(text);
        case Type::endpoints: return parse_endpoint(text).has_value();
        case Type::ports: return parse_ports(text).has_value();
        case Type::members: return (text.starts_with("user:") && printable(text.substr(5))) || (text.starts_with("group:") && printable(text.substr(6)));
        case Type::windows: return parse_window(text).has_value();
        case Type::listens: return is_port(text) || parse_endpoint(text).has_value();
        case Type::labels: return only(text, "_") && !(text.front() >= '0' && text.front() <= '9');
        default: return printable(text);
    }
}

}  // namespace promwarden::policy
