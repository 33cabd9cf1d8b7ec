// systemd's unit files: systemd.syntax(7), systemd.exec(5), systemd.service(5).

#include <algorithm>
#include <array>

#include "promwarden/unit.hpp"

namespace promwarden::unit {

namespace {

constexpr std::size_t most_text = 1024 * 1024, most_assignments = 10'000, most_words = 10'000, most_expanded = 2 * 1024 * 1024;
constexpr std::string_view blank = " \t\r\n";

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(blank);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

std::string_view take_line(std::string_view& rest) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

bool is_comment(std::string_view line) { return line.starts_with('#') || line.starts_with(';'); }

/// One line with those that continue it. Comments between them are skipped.
std::string logical_line(std::string_view& rest, std::uint32_t& line) {
    std::string text(trimmed(take_line(rest)));
    ++line;
    while (text.ends_with('\\') && !is_comment(text)) {
        text.back() = ' ';
        if (rest.empty()) break;
        auto more = take_line(rest);
        ++line;
        while (is_comment(trimmed(more)) && !rest.empty()) {
            more = take_line(rest);
            ++line;
        }
        if (is_comment(trimmed(more))) break;
        const auto end = more.find_last_not_of(blank);
        text += end == std::string_view::npos ? std::string_view{} : more.substr(0, end + 1);
    }
    return text;
}

/// The character that an escape stands for, behind the backslash; `at` is moved behind it.
char escaped(std::string_view text, std::size_t& at) {
    constexpr std::string_view from = "abfnrtvs", to = "\a\b\f\n\r\t\v ";
    const char c = text[at++];
    if (const auto found = from.find(c); found != std::string_view::npos) return to[found];
    if (c == 'x' && at + 2 <= text.size()) {
        constexpr std::string_view digits = "0123456789abcdef";
        const auto high = digits.find(static_cast<char>(text[at] | 0x20)), low = digits.find(static_cast<char>(text[at + 1] | 0x20));
        if (high != std::string_view::npos && low != std::string_view::npos) {
            at += 2;
            return static_cast<char>(high * 16 + low);
        }
    }
    return c;
}

struct Splitter {
    std::string_view text;
    bool escapes = true;  // "\n" is a line end; else the backslash only keeps what follows as it is
    std::size_t at = 0;
    bool open_quote = false;

    std::optional<std::string> next() {
        at = std::min(text.find_first_not_of(blank, at), text.size());
        if (at == text.size()) return std::nullopt;
        std::string word;
        char quote = 0;
        while (at < text.size()) {
            const char c = text[at];
            if (quote == 0 && blank.contains(c)) break;
            ++at;
            if (quote == 0 && (c == '\'' || c == '"')) quote = c;
            else if (quote != 0 && c == quote) quote = 0;
            else if (c == '\\' && at < text.size()) word += escapes ? escaped(text, at) : text[at++];
            else word += c;
        }
        open_quote = open_quote || quote != 0;
        return word;
    }
};

std::vector<std::string> relaxed_words(std::string_view text) {
    std::vector<std::string> words;
    Splitter splitter{text, false};
    while (auto word = splitter.next())
        if (words.size() < most_words) words.push_back(*std::move(word));
    return words;
}

bool is_name(std::string_view name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    return !name.empty() && letter(name.front()) && std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// %-specifiers of the unit's own name; others stay as they are.
std::string with_specifiers(std::string_view text, const std::string& unit) {
    const auto stem = std::string_view(unit).substr(0, unit.rfind('.'));
    const auto at = stem.find('@');
    const auto prefix = stem.substr(0, at), instance = at == std::string_view::npos ? std::string_view{} : stem.substr(at + 1);
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%' || i + 1 == text.size()) {
            result += text[i];
            continue;
        }
        switch (text[++i]) {
            case '%': result += '%'; break;
            case 'n': result += unit; break;
            case 'N': result += stem; break;
            case 'p': case 'P': result += prefix; break;
            case 'i': case 'I': result += instance; break;
            default: result += {'%', text[i]};
        }
    }
    return result;
}

constexpr std::string_view listed_settings[] = {
    "SupplementaryGroups", "CapabilityBoundingSet", "AmbientCapabilities", "BindPaths", "BindReadOnlyPaths", "ReadWritePaths", "RestrictAddressFamilies", "SystemCallFilter", "SystemCallArchitectures",
};

/// Keys whose assignments add up; an empty one starts anew.
bool adds_up(std::string_view key) {
    return key == "ExecStart" || key == "Environment" || key == "EnvironmentFile" || std::ranges::find(listed_settings, key) != std::end(listed_settings);
}

void set(Unit& unit, const Assignment& assignment) {
    const auto value = with_specifiers(assignment.value, unit.name);
    const auto words = [&] { return split_words(value).value_or(std::vector<std::string>{}); };
    const auto& key = assignment.key;
    if (key == "User") unit.user = value;
    else if (key == "Group") unit.group = value;
    else if (key == "WorkingDirectory") unit.directory = value.starts_with('-') ? value.substr(1) : value;
    else if (key == "ExecStart") unit.exec_start = words();
    else if (key == "Environment") std::ranges::move(words(), std::back_inserter(unit.environment));
    else if (key == "EnvironmentFile") unit.environment_files.emplace_back(value.starts_with('-') ? value.substr(1) : value, value.starts_with('-'));
    else if (key == "SupplementaryGroups") std::ranges::move(words(), std::back_inserter(unit.supplementary_groups));
    auto& setting = unit.settings[key];
    if (adds_up(key) && !setting.empty()) setting += ' ' + value;
    else setting = value;
}

void reset(Unit& unit, std::string_view key) {
    if (key == "User") unit.user.clear();
    else if (key == "Group") unit.group.clear();
    else if (key == "WorkingDirectory") unit.directory.clear();
    else if (key == "ExecStart") unit.exec_start.clear();
    else if (key == "Environment") unit.environment.clear();
    else if (key == "EnvironmentFile") unit.environment_files.clear();
    else if (key == "SupplementaryGroups") unit.supplementary_groups.clear();
    unit.settings[std::string(key)].clear();
}

/// The program without the marks that systemd reads before it; says whether variables are left alone (":").
bool take_marks(std::string& program) {
    const auto end = std::min(program.find_first_not_of("@-:+!|"), program.size());
    const bool literal = std::string_view(program).substr(0, end).contains(':');
    program.erase(0, end);
    return literal;
}

}  // namespace

std::vector<Assignment> read_assignments(const std::string& file, std::string_view text) {
    std::vector<Assignment> assignments;
    text = text.substr(0, most_text);
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    std::string section;
    std::uint32_t line = 0;
    while (!text.empty() && assignments.size() < most_assignments) {
        const auto first = line + 1;
        const auto whole = logical_line(text, line);
        if (whole.empty() || is_comment(whole)) continue;
        if (whole.front() == '[' && whole.back() == ']') {
            section = whole.substr(1, whole.size() - 2);
            continue;
        }
        const auto equals = whole.find('=');
        if (equals == std::string::npos || section.empty()) continue;
        assignments.push_back({section, std::string(trimmed(std::string_view(whole).substr(0, equals))), std::string(trimmed(std::string_view(whole).substr(equals + 1))), file, first});
    }
    return assignments;
}

const Assignment* find(std::span<const Assignment> assignments, std::string_view section, std::string_view key) {
    const Assignment* last = nullptr;
    for (const auto& one : assignments)
        if (one.section == section && one.key == key) last = one.value.empty() ? nullptr : &one;
    return last;
}

Unit merge(const std::string& name, std::span<const Assignment> assignments) {
    Unit unit;
    unit.source = Unit::Source::files;
    unit.name = name;
    for (const auto& assignment : assignments) {
        if (unit.fragment.empty()) unit.fragment = assignment.file;
        else if (assignment.file != unit.fragment && std::ranges::find(unit.drop_ins, assignment.file) == unit.drop_ins.end()) unit.drop_ins.push_back(assignment.file);
        if (assignment.section != "Service") continue;
        if (assignment.value.empty()) reset(unit, assignment.key);
        else set(unit, assignment);
    }
    locate(unit, assignments);
    return unit;
}

void locate(Unit& unit, std::span<const Assignment> assignments) {
    for (const auto& assignment : assignments)
        if (assignment.section == "Service" && assignment.line != 0) unit.written[assignment.key] = {assignment.file, assignment.line};
}

std::optional<std::vector<std::string>> split_words(std::string_view text) {
    std::vector<std::string> words;
    Splitter splitter{text};
    while (auto word = splitter.next()) {
        if (words.size() == most_words) return std::nullopt;
        words.push_back(*std::move(word));
    }
    if (splitter.open_quote) return std::nullopt;
    return words;
}

namespace {

/// Behind a comment's line. A backslash at its end continues even a comment.
std::size_t behind_comment(std::string_view text, std::size_t at) {
    while (at < text.size() && text[at] != '\n') at += text[at] == '\\' && at + 1 < text.size() ? 2 : 1;
    return at;
}

/// The value that begins at `at`, which is moved to its end: quotes taken off, escapes done, blanks behind what is not quoted cut.
std::string environment_value(std::string_view text, std::size_t& at) {
    std::string value;
    std::size_t keep = 0;
    char quote = 0;
    for (; at < text.size() && (quote != 0 || text[at] != '\n'); ++at) {
        const char c = text[at];
        if (quote == 0 && (c == '\'' || c == '"') && keep == value.size()) {
            quote = c;
        } else if (quote != 0 && c == quote) {
            quote = 0;
            keep = value.size();
        } else if (c == '\\' && quote != '\'' && at + 1 < text.size()) {
            const char next = text[++at];
            if (next == '\n') continue;
            if (quote == '"' && !std::string_view("\"\\`$").contains(next)) value += '\\';
            value += next;
            keep = value.size();
        } else {
            value += c;
            if (quote != 0 || !blank.contains(c)) keep = value.size();
        }
    }
    value.resize(keep);
    return value;
}

}  // namespace

void read_environment(Environment& environment, const std::string& file, std::string_view text) {
    text = text.substr(0, most_text);
    for (std::size_t at = text.find_first_not_of(blank); at < text.size(); at = text.find_first_not_of(blank, at)) {
        if (is_comment(text.substr(at))) {
            at = behind_comment(text, at);
            continue;
        }
        const auto equals = text.find_first_of("=\n", at);
        if (equals == std::string_view::npos) return;
        if (text[equals] == '\n') {  // no assignment
            at = equals + 1;
            continue;
        }
        const auto name = trimmed(text.substr(at, equals - at));
        at = std::min(text.find_first_not_of(" \t\r", equals + 1), text.size());
        auto value = environment_value(text, at);
        if (is_name(name)) environment[std::string(name)] = {std::move(value), file};
    }
}

void add_environment(Environment& environment, std::span<const std::string> assignments, const std::string& file) {
    for (const auto& assignment : assignments) {
        const auto equals = assignment.find('=');
        if (equals != std::string::npos && is_name(std::string_view(assignment).substr(0, equals))) environment[assignment.substr(0, equals)] = {assignment.substr(equals + 1), file};
    }
}

namespace {

/// ${NAME} inside a word, and "$$" for "$". `file` becomes that of the last variable that said something.
std::string put_in(std::string_view word, const Environment& environment, std::string& file) {
    std::string result;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] != '$' || i + 1 == word.size()) {
            result += word[i];
            continue;
        }
        if (word[i + 1] == '$') {
            result += word[++i];
            continue;
        }
        const auto end = word[i + 1] == '{' ? word.find('}', i) : std::string_view::npos;
        const auto name = end == std::string_view::npos ? std::string_view{} : word.substr(i + 2, end - i - 2);
        if (!is_name(name)) {
            result += word[i];
            continue;
        }
        if (const auto found = environment.find(std::string(name)); found != environment.end()) {
            result += found->second.value;
            if (!found->second.value.empty()) file = found->second.file;
        }
        i = end;
        if (result.size() > most_expanded) break;
    }
    return result;
}

}  // namespace

std::vector<prometheus::Argument> command_line(std::span<const std::string> words, const Environment& environment, const std::string& file) {
    std::vector<prometheus::Argument> line;
    if (words.empty()) return line;
    auto program = words.front();
    const bool literal = take_marks(program);
    line.push_back({std::move(program), file});
    std::size_t bytes = 0;
    for (const auto& word : words.subspan(1)) {
        if (literal) {
            line.push_back({word, file});
            continue;
        }
        if (word.starts_with('$') && is_name(std::string_view(word).substr(1))) {
            const auto found = environment.find(word.substr(1));
            if (found == environment.end()) continue;
            for (auto& one : relaxed_words(found->second.value)) line.push_back({std::move(one), found->second.file});
        } else {
            auto from = file;
            auto text = put_in(word, environment, from);
            line.push_back({std::move(text), std::move(from)});
        }
        bytes += line.empty() ? 0 : line.back().text.size();
        if (line.size() > most_words || bytes > most_expanded) break;
    }
    return line;
}

namespace {

/// Inside double quotes: what would end them, or is no character of a line.
void add_escaped(std::string& text, char c) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') text += {'\\', c};
    else if (byte < 0x20 || byte == 0x7f) text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    else text += c;
}

}  // namespace

std::string quoted(std::string_view word) {
    const bool plain = !word.empty() && std::ranges::all_of(word, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || std::string_view("-_=./:,@+[]%$").contains(c); });
    std::string text;
    for (const char c : word) {
        if (c == '%' || c == '$') text += c;  // said twice, it stands for itself
        if (plain) text += c;
        else add_escaped(text, c);
    }
    return plain ? text : '"' + text + '"';
}

}  // namespace promwarden::unit
