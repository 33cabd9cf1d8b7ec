#include "reader.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace promwarden::policy {

namespace {

/// What a value of this row must be, in a person's words.
std::string must_be(const Key& row) {
    switch (row.type) {
        case Type::flag: return "true or false";
        case Type::number: return row.low == row.high ? fmt::format("{}", row.low) : fmt::format("a whole number from {} to {}", row.low, row.high);
        case Type::numbers: return fmt::format("an array of whole numbers from {} to {}", row.low, row.high);
        case Type::moment: return "a date, or a date-time with its offset from UTC, without quotes";
        case Type::word: return fmt::format("{}", fmt::join(choices_of(row), " or "));
        case Type::duration: return fmt::format("a duration from {} to {}", format_duration(std::chrono::seconds(row.low)), format_duration(std::chrono::seconds(row.high)));
        case Type::size: return "a size with its unit";
        case Type::rate: return fmt::format("a rate of 1 to {} per second, minute, hour or day", row.high);
        case Type::path: return "an absolute path without '..'";
        case Type::name: return "1 to 32 letters, digits, '_' and '-'";
        case Type::names: return "an array of names: 1 to 32 letters, digits, '_' and '-'";
        case Type::host: return "a host name or an address";
        case Type::hosts: return "an array of host names and addresses";
        case Type::url: return "an http:// or https:// URL";
        case Type::unit: return "the name of a systemd service";
        case Type::account: return "the name of a user";
        case Type::group: return "the name of a group";
        case Type::accounts: return "an array of names of users";
        case Type::mode: return "a string of three or four octal digits";
        case Type::role: return "the name of a role";
        case Type::control: return "the id of a control";
        case Type::endpoints: return "an array of ADDRESS:PORT or [ADDRESS]:PORT";
        case Type::ports: return R"(an array of ports from 1 to 65535: numbers, or "first-last")";
        case Type::members: return R"(an array of "user:NAME" and "group:NAME")";
        case Type::windows: return "an array of weekly spans of time, UTC";
        case Type::listens: return "an array of ports and ADDRESS:PORT";
        case Type::labels: return "an array of label names";
        case Type::sources: return R"(an array of networks, or "@" and the path of a list)";
        case Type::texts: return "an array of strings";
        default: return "a string";
    }
}

std::string_view unquoted(std::string_view fallback) {
    if (fallback.starts_with('"')) return fallback.substr(1, fallback.size() - 2);
    return fallback;
}

const Value nothing{};

}  // namespace

const Key& Reader::key_row(std::string_view key) const {
    static const Key unknown{"", Type::text, "", "", ""};
    const auto prefix = row_.empty() ? std::string{} : row_ + ".";
    const auto* row = find_key(prefix + std::string(key));
    if (row == nullptr) row = find_key(prefix + "*");
    return row == nullptr ? unknown : *row;
}

std::string Reader::path(std::string_view key) const { return row_.empty() ? key_text(key) : fmt::format("{}.{}", row_, key_text(key)); }

const Value* Reader::find(std::string_view key) const {
    const auto* entry = table_->find(key);
    return entry == nullptr ? nullptr : &entry->value;
}

Place Reader::at(std::string_view key) const {
    const auto* entry = table_->find(key);
    return entry == nullptr ? table_->at : entry->at;
}

void Reader::expected(Place at, const Key& row, std::string_view key, std::string_view reason) const {
    const auto message = fmt::format("'{}' must be {}", path(key), must_be(row));
    notes_->add(at, reason.empty() ? message : fmt::format("{}: {}", message, reason), row.type == Type::word || row.example.empty() ? "" : fmt::format("for example: {}", row.example));
}

Reader Reader::section(std::string_view key) const {
    const auto* found = find(key);
    return {found != nullptr && found->kind == Value::Kind::table ? *found : nothing, row_.empty() ? std::string(key) : fmt::format("{}.{}", row_, key), *notes_};
}

std::vector<Reader> Reader::blocks(std::string_view key) const {
    std::vector<Reader> readers;
    const auto* found = find(key);
    if (found == nullptr) return readers;
    for (const auto& item : found->items)
        if (item.kind == Value::Kind::table) readers.emplace_back(item, row_.empty() ? std::string(key) : fmt::format("{}.{}", row_, key), *notes_);
    return readers;
}

const Value* Reader::value(std::string_view key, Value::Kind kind) const {
    const auto& row = key_row(key);
    const auto* found = find(key);
    if (found == nullptr && row.required) {
        const auto table = row_.empty() ? std::string("the policy") : fmt::format("this {}", row_);
        notes_->add(table_->at, fmt::format("{} needs '{}'", table, key), fmt::format("for example: {} = {}", key, row.example));
    }
    if (found != nullptr && found->kind != kind) {
        expected(found->at, row, key);
        return nullptr;
    }
    return found;
}

bool Reader::flag(std::string_view key) const {
    const auto* found = value(key, Value::Kind::flag);
    return found != nullptr ? found->number != 0 : key_row(key).fallback == "true";
}

std::int64_t Reader::number(std::string_view key) const {
    const auto& row = key_row(key);
    std::int64_t fallback = 0;
    std::from_chars(row.fallback.data(), row.fallback.data() + row.fallback.size(), fallback);
    const auto* found = value(key, Value::Kind::number);
    if (found == nullptr) return fallback;
    if (found->number >= row.low && found->number <= row.high) return found->number;
    expected(found->at, row, key);
    return fallback;
}

std::string Reader::text(std::string_view key) const {
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::text);
    if (found == nullptr) return std::string(unquoted(row.fallback));
    const bool in_range = row.type != Type::rate || (parse_rate(found->text) && parse_rate(found->text)->count <= row.high);
    if (fits(row.type, found->text) && in_range) return found->text;
    expected(found->at, row, key);
    return std::string(unquoted(row.fallback));
}

std::size_t Reader::choice_index(std::string_view key) const {
    const auto& row = key_row(key);
    const auto choices = choices_of(row);
    const auto index = [&](std::string_view word) { return static_cast<std::size_t>(std::ranges::find(choices, word) - choices.begin()); };
    const auto fallback = index(unquoted(row.fallback)) % choices.size();
    const auto* found = value(key, Value::Kind::text);
    if (found == nullptr) return fallback;
    if (index(found->text) < choices.size()) return index(found->text);
    const auto near = nearest(found->text, choices);
    notes_->add(found->at, fmt::format("'{}' must be {}", path(key), must_be(row)), near ? fmt::format("did you mean '{}'?", *near) : "");
    return fallback;
}

std::optional<std::chrono::seconds> Reader::duration(std::string_view key) const {
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::text);
    if (found != nullptr) {
        const auto parsed = parse_duration(found->text);
        if (parsed && parsed->count() >= row.low && parsed->count() <= row.high) return *parsed;
        expected(found->at, row, key, parsed ? "" : parsed.error().detail);
    }
    if (row.fallback.empty()) return std::nullopt;
    return parse_duration(unquoted(row.fallback)).value_or(std::chrono::seconds{0});
}

std::optional<std::chrono::system_clock::time_point> Reader::moment(std::string_view key) const {
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::moment);
    if (found == nullptr) return std::nullopt;
    const auto& moment = found->moment;
    if (!moment.representable) {
        expected(found->at, row, key, "its year must be 1970 to 2200");
        return std::nullopt;
    }
    if (moment.date && !moment.time) return moment.at + std::chrono::days(1);
    if (moment.date && moment.offset) return moment.at;
    expected(found->at, row, key, moment.date ? "it has no offset" : "it has no date");
    return std::nullopt;
}

std::vector<Reader::Item> Reader::items(std::string_view key) const {
    std::vector<Item> items;
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::array);
    if (found == nullptr) return items;
    for (const auto& item : found->items) {
        if (item.kind == Value::Kind::text && fits(row.type, item.text)) items.push_back({item.text, item.at});
        else expected(item.at, row, key);
    }
    if (row.required && found->items.empty()) expected(found->at, row, key, "it is empty");
    return items;
}

std::vector<std::string> Reader::texts(std::string_view key) const {
    std::vector<std::string> texts;
    for (auto& item : items(key)) texts.push_back(std::move(item.text));
    return texts;
}

std::vector<PortRange> Reader::ports(std::string_view key) const {
    std::vector<PortRange> ranges;
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::array);
    if (found == nullptr) return ranges;
    for (const auto& item : found->items) {
        const auto text = item.kind == Value::Kind::number ? fmt::format("{}", item.number) : item.kind == Value::Kind::text ? item.text : "";
        if (const auto range = parse_ports(text)) ranges.push_back(*range);
        else expected(item.at, row, key);
    }
    if (row.required && found->items.empty()) expected(found->at, row, key, "it is empty");
    return ranges;
}

std::vector<std::uint16_t> Reader::port_numbers(std::string_view key) const {
    std::vector<std::uint16_t> numbers;
    const auto& row = key_row(key);
    const auto* found = value(key, Value::Kind::array);
    if (found == nullptr) return numbers;
    for (const auto& item : found->items) {
        if (item.kind == Value::Kind::number && item.number >= row.low && item.number <= row.high) numbers.push_back(static_cast<std::uint16_t>(item.number));
        else expected(item.at, row, key);
    }
    return numbers;
}

}  // namespace promwarden::policy
