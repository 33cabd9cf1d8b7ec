// A policy's texts as one: a line that says what follows and how long it is, then the bytes. JSON would have to look at every byte of a list.
//
//     promwarden.sources/1
//     policy 27 310 64769 1051 310 1763805600000000000 1763805600000000000     path length, text length, stamp: device inode size modified changed
//     /etc/promwarden/policy.toml
//     <text>
//     user 4 0                                                                 name length, number
//     root
//     sha256 <of everything before this line>

#include <array>
#include <charconv>

#include <fmt/format.h>

#include "promwarden/policy.hpp"

namespace promwarden {

namespace {

constexpr std::string_view opening = "promwarden.sources/1\n";
constexpr std::string_view closing = "sha256 ";
constexpr std::size_t closing_length = closing.size() + 64 + 1;

Error damaged(std::string reason) { return {Code::invalid, 0, "read stored policy", "", std::move(reason)}; }

/// Takes lines and counted bytes off a text; every step says whether there was enough.
class Unpacker {
public:
    explicit Unpacker(std::string_view text) : rest_(text) {}

    [[nodiscard]] bool done() const { return rest_.empty(); }
    Result<std::string_view> line() {
        const auto end = rest_.find('\n');
        if (end == std::string_view::npos) return std::unexpected(damaged("a line has no end"));
        const auto line = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return line;
    }
    /// `length` bytes and the end of line after them.
    Result<std::string_view> bytes(std::int64_t length) {
        if (length < 0 || static_cast<std::uint64_t>(length) >= rest_.size() || rest_[static_cast<std::size_t>(length)] != '\n')
            return std::unexpected(damaged("a length is wrong"));
        const auto bytes = rest_.substr(0, static_cast<std::size_t>(length));
        rest_.remove_prefix(bytes.size() + 1);
        return bytes;
    }

private:
    std::string_view rest_;
};

template <std::size_t Count>
Result<std::array<std::int64_t, Count>> numbers(std::string_view text) {
    std::array<std::int64_t, Count> values{};
    for (auto& value : values) {
        if (!text.starts_with(' ')) return std::unexpected(damaged("a number is missing"));
        text.remove_prefix(1);
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc{}) return std::unexpected(damaged("a number is wrong"));
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
    if (!text.empty()) return std::unexpected(damaged("there is more than its numbers on a line"));
    return values;
}

Result<SourceFile> unpack_file(SourceFile::Kind kind, std::string_view header, Unpacker& from) {
    const auto [path_length, text_length, device, inode, size, modified, changed] = TRY(numbers<7>(header));
    SourceFile file{kind, {}, {static_cast<dev_t>(device), static_cast<ino_t>(inode), size, modified, changed}, nullptr};
    file.path = TRY(from.bytes(path_length));
    file.text = std::make_shared<const std::string>(TRY(from.bytes(text_length)));
    return file;
}

template <class Id>
Result<> unpack_account(std::string_view header, Unpacker& from, std::map<std::string, Id>& accounts) {
    const auto [length, id] = TRY(numbers<2>(header));
    if (id < 0 || id > UINT32_MAX) return std::unexpected(damaged("an account's number is out of range"));
    accounts[std::string(TRY(from.bytes(length)))] = static_cast<Id>(id);
    return {};
}

}  // namespace

std::string pack(const Sources& sources, const RecordedAccounts& accounts) {
    std::string text(opening);
    std::size_t total = 4096;
    for (const auto& file : sources.files) total += file.path.size() + file.text->size() + 256;
    text.reserve(total);
    for (const auto& file : sources.files) {
        const auto& stamp = file.stamp;
        text += fmt::format("{} {} {} {} {} {} {} {}\n{}\n", file.kind == SourceFile::Kind::policy ? "policy" : "list", file.path.size(), file.text->size(),
                            static_cast<std::int64_t>(stamp.device), static_cast<std::int64_t>(stamp.inode), stamp.size, stamp.modified, stamp.changed, file.path);
        text += *file.text;
        text += '\n';
    }
    for (const auto& [name, id] : accounts.users) text += fmt::format("user {} {}\n{}\n", name.size(), id, name);
    for (const auto& [name, id] : accounts.groups) text += fmt::format("group {} {}\n{}\n", name.size(), id, name);
    const auto digest = sha256(text);
    return text.append(closing).append(digest).append("\n");
}

Result<std::pair<Sources, RecordedAccounts>> unpack(std::string_view text) {
    if (!text.starts_with(opening)) return std::unexpected(damaged("not in a format that this version knows"));
    if (text.size() < opening.size() + closing_length) return std::unexpected(damaged("it is cut short"));
    const auto body = text.substr(0, text.size() - closing_length);
    if (text.substr(body.size()) != fmt::format("{}{}\n", closing, sha256(body))) return std::unexpected(damaged("its checksum is wrong"));
    std::pair<Sources, RecordedAccounts> result;
    auto& [sources, accounts] = result;
    Unpacker from(body.substr(opening.size()));
    while (!from.done()) {
        const auto line = TRY(from.line());
        const auto word = line.substr(0, line.find(' '));
        const auto rest = line.substr(word.size());
        if (word == "policy") sources.files.push_back(TRY(unpack_file(SourceFile::Kind::policy, rest, from)));
        else if (word == "list") sources.files.push_back(TRY(unpack_file(SourceFile::Kind::list, rest, from)));
        else if (word == "user") TRY(unpack_account(rest, from, accounts.users));
        else if (word == "group") TRY(unpack_account(rest, from, accounts.groups));
        else return std::unexpected(damaged("a line is unknown"));
    }
    return result;
}

}  // namespace promwarden
