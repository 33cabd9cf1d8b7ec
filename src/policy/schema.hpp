// Every key of a policy, once: what may be written, what holds when nothing is, and what it is for.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "value.hpp"

namespace promwarden::policy {

/// What a key's value is. The plural ones are arrays of what their name says.
enum class Type : std::uint8_t {
    section,    // a table
    blocks,     // an array of tables
    flag, number, moment,
    text, word, duration, size, rate, path, name, host, url, unit, account, group, mode, role, control,  // strings
    texts, numbers, names, hosts, endpoints, ports, accounts, members, windows, listens, labels, sources,
};

struct Key {
    std::string_view path;      // "firewall.service.deny"; a step "*" is a name of the user's own
    Type type;
    std::string_view fallback;  // as TOML; "" where there is none
    std::string_view example;   // as TOML: what an error recommends, and what `show` prints as a comment for a key that is not set
    std::string_view help;
    std::string_view choices = {};     // of a word: "drop|reject", in the order of the enumeration that it becomes
    std::int64_t low = 0, high = 0;    // of a number; of a duration in seconds
    bool required = false;
};

/// In the order in which `show` prints them.
std::span<const Key> schema();

/// The row of a key, named steps matched by "*".
const Key* find_key(std::string_view path);

/// The words of a row, in the order of the enumeration.
std::vector<std::string_view> choices_of(const Key& row);

/// Reports what no row knows, and tables where there should be none (and the other way round).
class Notes;
void check_keys(const Value& tree, Notes& notes);

}  // namespace promwarden::policy
