// Deeds as values: what takes one back, how it looks, and how it is written down.

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "promwarden/diff.hpp"
#include "promwarden/plan.hpp"

namespace promwarden {

namespace {

template <class... Functions>
struct Overloaded : Functions... {
    using Functions::operator()...;
};

std::unexpected<Error> unreadable(std::string detail) { return fail(Code::invalid, "read change", "", std::move(detail)); }

// ---- to JSON --------------------------------------------------------------------------------------------------------

Json to_json(const FileAccess& access) {
    Json acl = Json::array();
    for (const auto& entry : access.acl) acl.push_back({static_cast<int>(entry.tag), entry.id, entry.rights});
    return {{"owner", access.owner}, {"group", access.group}, {"mode", access.mode}, {"acl", std::move(acl)}};
}

Json to_json(const Piece& piece) {
    if (piece.from.empty()) return piece.text;
    Json json{{"from", piece.from}};
    if (piece.part) json["part"] = {piece.part->at, piece.part->length};
    return json;
}

Json to_json(const std::optional<Contents>& contents) {
    if (!contents) return nullptr;
    Json pieces = Json::array();
    for (const auto& piece : *contents) pieces.push_back(to_json(piece));
    return pieces;
}

Json to_json(const EditFile& edit) {
    Json splices = Json::array();
    for (const auto& splice : edit.splices)
        splices.push_back({{"before_at", splice.before_at}, {"after_at", splice.after_at}, {"before", to_json(std::optional(splice.before))}, {"after", to_json(std::optional(splice.after))}});
    return {{"deed", "edit"}, {"splices", std::move(splices)}, {"before", edit.before}, {"after", edit.after}};
}

Json to_json(const std::optional<std::string>& text) { return text ? Json(*text) : Json(nullptr); }

// ---- from JSON: what we wrote ourselves, but a disk may have kept half of it ----------------------------------------

Result<std::uint32_t> number_at(const Json& json, const char* key) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number_unsigned()) return unreadable(fmt::format("\"{}\" is no number", key));
    return json[key].get<std::uint32_t>();
}

Result<FileAccess> read_access(const Json& json, const char* key) {
    if (!json.contains(key)) return unreadable(fmt::format("\"{}\" is missing", key));
    const auto& from = json[key];
    FileAccess access{TRY(number_at(from, "owner")), TRY(number_at(from, "group")), TRY(number_at(from, "mode")), {}};
    if (!from.contains("acl") || !from["acl"].is_array()) return unreadable("\"acl\" is no list");
    for (const auto& entry : from["acl"]) {
        if (!entry.is_array() || entry.size() != 3 || !std::ranges::all_of(entry, [](const Json& one) { return one.is_number_unsigned() || one.is_number_integer(); }) || entry[0] > 5)
            return unreadable("an entry of an access list is none");
        access.acl.push_back({static_cast<AclEntry::Tag>(entry[0].get<int>()), entry[1].get<std::uint32_t>(), static_cast<std::uint8_t>(entry[2].get<int>() & 7)});
    }
    return access;
}

Result<std::optional<Contents>> read_contents(const Json& json, const char* key) {
    if (!json.contains(key)) return unreadable(fmt::format("\"{}\" is missing", key));
    const auto& from = json[key];
    if (from.is_null()) return std::nullopt;
    if (!from.is_array()) return unreadable(fmt::format("\"{}\" is no list", key));
    Contents contents;
    for (const auto& piece : from) {
        const bool named = piece.is_object() && piece.contains("from") && piece["from"].is_string();
        if (!named && !piece.is_string()) return unreadable("a piece of a text is none");
        contents.push_back(named ? Piece{"", piece["from"].get<std::string>()} : Piece{piece.get<std::string>(), ""});
        if (!named || !piece.contains("part")) continue;
        const auto& part = piece["part"];
        if (!part.is_array() || part.size() != 2 || !part[0].is_number_unsigned() || !part[1].is_number_unsigned()) return unreadable("a part of a file is none");
        contents.back().part = {part[0].get<std::size_t>(), part[1].get<std::size_t>()};
    }
    return contents;
}

Result<std::optional<std::string>> read_target(const Json& json, const char* key) {
    if (!json.contains(key) || !(json[key].is_null() || json[key].is_string())) return unreadable(fmt::format("\"{}\" is no text", key));
    if (json[key].is_null()) return std::nullopt;
    return json[key].get<std::string>();
}

Result<EditFile> read_edit(const Json& json) {
    const auto text = [&](const char* key) { return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : ""; };
    EditFile edit{{}, text("before"), text("after")};
    if (edit.before.empty() || edit.after.empty() || !json.contains("splices") || !json["splices"].is_array()) return unreadable("an edit is none");
    for (const auto& one : json["splices"]) {
        auto before = TRY(read_contents(one, "before")), after = TRY(read_contents(one, "after"));
        if (!before || !after) return unreadable("a splice is none");
        edit.splices.push_back({TRY(number_at(one, "before_at")), TRY(number_at(one, "after_at")), *std::move(before), *std::move(after)});
    }
    return edit;
}

/// What a person is shown of it: pieces of other files are secrets.
std::string shown(const std::optional<Contents>& contents) {
    std::string text;
    for (const auto& piece : contents.value_or(Contents{})) text += piece.from.empty() ? piece.text : "<hidden>";
    return text;
}

/// What is kept of an edit: not the lines around it.
std::string edit_lines(const EditFile& edit) {
    const auto lines = [](char sign, std::string_view text) {
        std::string all;
        for (std::size_t end = 0; !text.empty(); text.remove_prefix(std::min(end + 1, text.size()))) {
            end = std::min(text.find('\n'), text.size());
            all += fmt::format("{} {}\n", sign, text.substr(0, end));
        }
        return all;
    };
    std::string text;
    for (const auto& splice : edit.splices) text += lines('-', shown(splice.before)) + lines('+', shown(splice.after));
    return text;
}

std::string link_lines(const PointLink& link) {
    std::string text;
    if (link.before) text += fmt::format("- link to {}\n", *link.before);
    if (link.after) text += fmt::format("+ link to {}\n", *link.after);
    return text;
}

}  // namespace

Deed inverse(const Deed& deed) {
    return std::visit(Overloaded{
                          [](std::monostate) -> Deed { return {}; },
                          [](const SetAccess& set) -> Deed { return SetAccess{set.after, set.before}; },
                          [](WriteFile write) -> Deed {
                              std::swap(write.before, write.after);
                              return write;
                          },
                          [](const PointLink& link) -> Deed { return PointLink{link.after, link.before}; },
                          [](EditFile edit) -> Deed {
                              std::swap(edit.before, edit.after);
                              for (auto& splice : edit.splices) splice = {splice.after_at, splice.before_at, std::move(splice.after), std::move(splice.before)};
                              return edit;
                          },
                      },
                      deed);
}

Json to_json(const Deed& deed) {
    return std::visit(Overloaded{
                          [](std::monostate) -> Json { return {{"deed", "none"}}; },
                          [](const SetAccess& set) -> Json { return {{"deed", "access"}, {"before", to_json(set.before)}, {"after", to_json(set.after)}}; },
                          [](const WriteFile& write) -> Json {
                              return {{"deed", "write"}, {"before", to_json(write.before)}, {"after", to_json(write.after)}, {"access", to_json(write.access)}, {"directory", write.directory ? Json(*write.directory) : Json(nullptr)}};
                          },
                          [](const PointLink& link) -> Json { return {{"deed", "link"}, {"before", to_json(link.before)}, {"after", to_json(link.after)}}; },
                          [](const EditFile& edit) -> Json { return to_json(edit); },
                      },
                      deed);
}

Result<Deed> read_deed(const Json& json) {
    const auto kind = json.is_object() && json.contains("deed") && json["deed"].is_string() ? json["deed"].get<std::string>() : "";
    if (kind == "none") return Deed{};
    if (kind == "access") return Deed(SetAccess{TRY(read_access(json, "before")), TRY(read_access(json, "after"))});
    if (kind == "link") return Deed(PointLink{TRY(read_target(json, "before")), TRY(read_target(json, "after"))});
    if (kind == "edit") return Deed(TRY(read_edit(json)));
    if (kind != "write") return unreadable("it is of an unknown kind");
    WriteFile write{TRY(read_contents(json, "before")), TRY(read_contents(json, "after")), TRY(read_access(json, "access")), {}};
    if (json.contains("directory") && !json["directory"].is_null()) write.directory = TRY(number_at(json, "directory"));
    return Deed(std::move(write));
}

std::string_view to_text(Effect effect) {
    constexpr std::array<std::string_view, 5> texts{"none", "units", "reload", "restart", "proxy"};
    return texts[static_cast<std::size_t>(effect)];
}

std::string diff_of(const std::string& subject, const Deed& deed, std::span<const std::string> secrets) {
    const auto hides = [&](std::string_view line) {
        return line.contains("<hidden>") || std::ranges::any_of(secrets, [&](const std::string& secret) { return !secret.empty() && line.contains(secret); });
    };
    return std::visit(Overloaded{
                          [](std::monostate) { return std::string(); },
                          [](const SetAccess& set) { return fmt::format("- {}\n+ {}\n", to_text(set.before), to_text(set.after)); },
                          [&](const WriteFile& write) { return unified_diff(shown(write.before), shown(write.after), subject, hides); },
                          [](const PointLink& link) { return link_lines(link); },
                          [](const EditFile& edit) { return edit_lines(edit); },
                      },
                      deed);
}

}  // namespace promwarden
