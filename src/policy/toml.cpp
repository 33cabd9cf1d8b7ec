// The only file that sees toml++: its tree becomes ours, its exceptions become faults.

#include <algorithm>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "lexis.hpp"
#include "value.hpp"

namespace promwarden::policy {

namespace {

Place place(const toml::source_region& region, std::uint32_t file) { return {file, region.begin.line, region.begin.column}; }

std::chrono::system_clock::time_point point(const toml::date& date, const toml::time& time, int offset_minutes) {
    using namespace std::chrono;
    const auto day = sys_days{year{date.year} / month{date.month} / date.day};
    return day + hours{time.hour} + minutes{time.minute} + seconds{time.second} + duration_cast<microseconds>(nanoseconds{time.nanosecond}) -
           minutes{offset_minutes};
}

/// Nanoseconds since 1970 in 64 bits end in the year 2262.
bool representable(const toml::date& date) { return date.year >= 1970 && date.year <= 2200; }

Moment moment_of(const toml::date& date) {
    if (!representable(date)) return {true, false, false, false, {}};
    return {true, false, false, true, point(date, {}, 0)};
}

Moment moment_of(const toml::date_time& both) {
    const bool offset = both.offset.has_value();
    if (!representable(both.date)) return {true, true, offset, false, {}};
    return {true, true, offset, true, point(both.date, both.time, offset ? both.offset->minutes : 0)};
}

Value scalar(const toml::node& node) {
    Value value;
    if (const auto* text = node.as_string()) value.kind = Value::Kind::text, value.text = text->get();
    else if (const auto* number = node.as_integer()) value.kind = Value::Kind::number, value.number = number->get();
    else if (const auto* flag = node.as_boolean()) value.kind = Value::Kind::flag, value.number = flag->get() ? 1 : 0;
    else if (const auto* date = node.as_date()) value.kind = Value::Kind::moment, value.moment = moment_of(date->get());
    else if (node.is_time()) value.kind = Value::Kind::moment, value.moment = {false, true, false, true, {}};
    else if (const auto* both = node.as_date_time()) value.kind = Value::Kind::moment, value.moment = moment_of(both->get());
    else value.kind = Value::Kind::real;
    return value;
}

Value convert(const toml::node& node, std::uint32_t file) {
    Value value;
    if (const auto* table = node.as_table()) {
        for (const auto& [key, child] : *table) value.entries.push_back({std::string(key.str()), place(key.source(), file), convert(child, file)});
        std::ranges::stable_sort(value.entries, {}, &Entry::at);  // toml++ sorts by name
    } else if (const auto* array = node.as_array()) {
        value.kind = Value::Kind::array;
        for (const auto& child : *array) value.items.push_back(convert(child, file));
    } else {
        value = scalar(node);
    }
    value.at = place(node.source(), file);
    return value;
}

/// Where a key that toml++ refuses for being set twice was set first: the text before the refused line is a document of its own, and so is the line below its
/// header.
Fault repeated(std::string_view text, Fault fault) {
    const auto start = offset_of_line(text, fault.at.line);
    const auto before = text.substr(0, start);
    const auto line = text.substr(start, text.find('\n', start) - start);
    std::string_view header;
    for (std::size_t at = 0; at < before.size(); at = std::min(before.find('\n', at), before.size() - 1) + 1) {
        const auto first = before.find_first_not_of(" \t", at);
        if (first != std::string_view::npos && before[first] == '[') header = before.substr(at, before.find('\n', at) - at);
    }
    const bool own_header = line.find_first_not_of(" \t") != std::string_view::npos && line[line.find_first_not_of(" \t")] == '[';
    try {
        const auto first = convert(toml::parse(before), fault.at.file);
        const auto second = convert(toml::parse(own_header ? std::string(line) : fmt::format("{}\n{}", header, line)), fault.at.file);
        std::string path;
        const Value* old = &first;
        for (const Value* now = &second; now->kind == Value::Kind::table && now->entries.size() == 1;) {
            const auto& entry = now->entries.front();
            const auto* known = old->find(entry.key);
            if (known == nullptr) return fault;
            path += (path.empty() ? "" : ".") + key_text(entry.key);
            fault.also = known->at;
            fault.at.column = entry.at.column;
            now = &entry.value;
            old = &known->value;
            if (old->kind == Value::Kind::array && !old->items.empty() && old->items.back().kind == Value::Kind::table) old = &old->items.back();
            if (now->kind == Value::Kind::array && now->items.size() == 1) now = &now->items.front();
        }
        if (!path.empty()) fault.message = fmt::format("'{}' is set twice", path);
    } catch (const std::exception&) {
        // the line alone is no document (part of a longer value): the parser's own words must do
    }
    return fault;
}

Fault fault_of(const toml::parse_error& error, std::string_view text, std::uint32_t file) {
    std::string words(error.description());
    for (const std::string_view opening : {"Error while parsing ", "Encountered "})
        if (words.starts_with(opening)) words.erase(0, opening.size());
    Fault fault{place(error.source(), file), "not TOML: " + words, {}};
    if (words.find("cannot redefine") == std::string::npos) return fault;
    fault.message = "a key is set twice: " + words;
    return repeated(text, std::move(fault));
}

}  // namespace

std::expected<Value, Fault> read_toml(std::string_view text, std::uint32_t file) {
    if (const auto wrong = unreadable(text)) return std::unexpected(Fault{{file, wrong->line, wrong->column}, wrong->message, {}});
    try {
        return convert(toml::parse(text), file);
    } catch (const toml::parse_error& error) {
        return std::unexpected(fault_of(error, text, file));
    } catch (const std::exception& error) {
        return std::unexpected(Fault{{file, 0, 0}, fmt::format("not TOML: {}", error.what()), {}});
    }
}

}  // namespace promwarden::policy
