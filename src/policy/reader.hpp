// Reads the keys of one table by the schema: a wrong value is reported where it stands and the fallback is returned, so that reading goes on and everything that
// is wrong is found at once.
#pragma once

#include "notes.hpp"
#include "schema.hpp"

namespace promwarden::policy {

class Reader {
public:
    /// `row` is the table's path in the schema ("" for the whole policy).
    Reader(const Value& table, std::string row, Notes& notes) : table_(&table), row_(std::move(row)), notes_(&notes) {}

    [[nodiscard]] const Value* find(std::string_view key) const;
    [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
    /// Of the key, or of the table where it is absent.
    [[nodiscard]] Place at(std::string_view key) const;
    [[nodiscard]] Place at() const { return table_->at; }
    [[nodiscard]] const std::vector<Entry>& entries() const { return table_->entries; }
    [[nodiscard]] Notes& notes() const { return *notes_; }

    [[nodiscard]] Reader section(std::string_view key) const;
    [[nodiscard]] std::vector<Reader> blocks(std::string_view key) const;

    [[nodiscard]] bool flag(std::string_view key) const;
    [[nodiscard]] std::int64_t number(std::string_view key) const;
    /// Of any type that is written as one string.
    [[nodiscard]] std::string text(std::string_view key) const;
    /// The enumerator at the word's place among the choices.
    template <class Enumeration>
    [[nodiscard]] Enumeration choice(std::string_view key) const {
        return static_cast<Enumeration>(choice_index(key));
    }
    [[nodiscard]] std::optional<std::chrono::seconds> duration(std::string_view key) const;
    /// A date means the first moment after that day.
    [[nodiscard]] std::optional<std::chrono::system_clock::time_point> moment(std::string_view key) const;

    /// The strings of an array that are of the key's type, with their places.
    struct Item {
        std::string text;
        Place at;
    };
    [[nodiscard]] std::vector<Item> items(std::string_view key) const;
    [[nodiscard]] std::vector<std::string> texts(std::string_view key) const;
    [[nodiscard]] std::vector<PortRange> ports(std::string_view key) const;
    [[nodiscard]] std::vector<std::uint16_t> port_numbers(std::string_view key) const;

private:
    [[nodiscard]] const Key& key_row(std::string_view key) const;
    [[nodiscard]] std::string path(std::string_view key) const;
    [[nodiscard]] std::size_t choice_index(std::string_view key) const;
    void expected(Place at, const Key& row, std::string_view key, std::string_view reason = {}) const;
    /// The key's value if it has this kind; a missing required key and another kind are reported.
    [[nodiscard]] const Value* value(std::string_view key, Value::Kind kind) const;

    const Value* table_;
    std::string row_;
    Notes* notes_;
};

/// "10GB" in bytes, units of 1024.
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string format_size(std::uint64_t bytes);
/// "5/minute".
std::optional<Rate> parse_rate(std::string_view text);
std::string format_rate(const Rate& rate);
/// "9090" or "9093-9094"; nullopt where it is neither, 0 and reversed ranges included.
std::optional<PortRange> parse_ports(std::string_view text);
std::optional<MaintenanceWindow> parse_window(std::string_view text);
std::optional<std::uint32_t> parse_mode(std::string_view text);

/// Whether a string may stand for this type, or for an element of it.
bool fits(Type type, std::string_view text);

}  // namespace promwarden::policy
