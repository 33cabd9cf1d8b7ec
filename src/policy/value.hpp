// The text of a policy file as a tree with positions. The parser's own types stay in toml.cpp.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "promwarden/policy.hpp"

namespace promwarden::policy {

/// A position in one of the texts of a Sources: `file` is its index there. Line 0 is the file as a whole.
struct Place {
    std::uint32_t file = 0, line = 0, column = 0;
    auto operator<=>(const Place&) const = default;
};

/// A TOML date or time as written. `at` is in UTC, the start of the day for a date.
struct Moment {
    bool date = false, time = false, offset = false;
    bool representable = true;  // its year is one that `at` can hold
    std::chrono::system_clock::time_point at;
};

struct Entry;
struct Value {
    enum class Kind : std::uint8_t { text, number, real, flag, moment, array, table } kind = Kind::table;
    Place at;
    std::string text;
    std::int64_t number = 0;  // also 0 and 1 of a flag
    Moment moment;
    std::vector<Value> items;
    std::vector<Entry> entries;  // in the order of the file

    [[nodiscard]] const Entry* find(std::string_view key) const;
};
struct Entry {
    std::string key;
    Place at;
    Value value;
};

struct Fault {
    Place at;
    std::string message;
    std::optional<Place> also;
};

/// Never throws. Refuses what is not UTF-8 and what is nested so deeply that reading it would exhaust the stack.
std::expected<Value, Fault> read_toml(std::string_view text, std::uint32_t file);

/// A key as a step of a path: quoted where TOML needs it.
std::string key_text(std::string_view key);
/// A string as TOML.
std::string quoted(std::string_view text);

}  // namespace promwarden::policy
