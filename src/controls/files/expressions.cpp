// Rules that Prometheus refuses to load: what only alerts may say, names, and expressions that end too early. An expression is not parsed, only what is open in it
// is followed: that is what people get wrong when they edit one.

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "judge.hpp"

namespace promwarden::files {

namespace {

bool word_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':'; }

/// The end of the quoted text that begins here; npos where it never ends.
std::size_t end_of_quote(std::string_view text, std::size_t at) {
    const char quote = text[at];
    for (++at; at < text.size(); ++at) {
        if (text[at] == '\\' && quote != '`')
            ++at;
        else if (text[at] == quote)
            return at;
    }
    return std::string_view::npos;
}

/// The expression without comments and with every quoted text emptied; nullopt where one never ends.
std::optional<std::string> without_text(std::string_view expression) {
    std::string kept;
    for (std::size_t i = 0; i < expression.size(); ++i) {
        const char c = expression[i];
        if (c == '#') {
            i = std::min(expression.find('\n', i), expression.size());
        } else if (c == '"' || c == '\'' || c == '`') {
            i = end_of_quote(expression, i);
            if (i == std::string_view::npos) return std::nullopt;
            kept += "\"\"";
        } else {
            kept.push_back(c);
        }
    }
    kept.erase(std::find_if(kept.rbegin(), kept.rend(), [](unsigned char c) { return std::isspace(c) == 0; }).base(), kept.end());
    return kept;
}

/// Its last word or sign, where something has to follow.
std::string_view left_open(std::string_view text) {
    constexpr std::string_view words[] = {"and", "or", "unless", "by", "without", "on", "ignoring", "offset", "bool"};
    constexpr std::string_view signs[] = {"==", "!=", ">=", "<=", ">", "<", "+", "-", "*", "/", "%", "^", "=~", "!~", "=", ","};
    auto first = text.size();
    while (first > 0 && word_part(text[first - 1])) --first;
    const auto word = text.substr(first);
    if (const auto* found = std::ranges::find(words, word); !word.empty() && first > 0 && found != std::end(words)) return *found;
    const auto* sign = std::ranges::find_if(signs, [&](std::string_view each) { return text.ends_with(each); });
    return sign == std::end(signs) ? std::string_view{} : *sign;
}

/// Why Prometheus cannot read it; "" where nothing speaks against it.
std::string unreadable(std::string_view expression) {
    const auto text = without_text(expression);
    if (!text) return "a quoted text that never ends";
    std::string open;
    for (const char c : *text) {
        if (c == '(' || c == '[' || c == '{') open.push_back(c);
        if (c != ')' && c != ']' && c != '}') continue;
        const char begins = c == ')' ? '(' : c == ']' ? '[' : '{';
        if (open.empty() || open.back() != begins) return fmt::format("\"{}\" closes what was not opened", c);
        open.pop_back();
    }
    if (!open.empty()) return fmt::format("\"{}\" is never closed", open.back());
    if (const auto last = left_open(*text); !last.empty()) return fmt::format("nothing follows \"{}\" at its end", last);
    return {};
}

void alerts_only(const Walk& walk, const Node& rule, const Path& path) {
    for (const std::string_view key : {"for", "annotations", "keep_firing_for"}) {
        if (!given(rule, key)) continue;
        const auto* entry = rule.entry(key);
        const Path at = path / key;
        refuse(walk, walk.place(at, entry->at), fmt::format("a recording rule with {}", key),
               fmt::format("remove line {}", in_file(walk.document, entry->at).line));
    }
}

}  // namespace

void rule_demands(const Walk& walk, const Node& rule, const Path& path) {
    if (walk.document.repaired) return;
    if (given(rule, "record")) alerts_only(walk, rule, path);
    if (const auto* labels = rule.find("labels"); labels != nullptr)
        if (const auto* name = labels->entry("__name__"); name != nullptr) {
            const Path list = path / "labels", at = list / "__name__";
            refuse(walk, walk.place(at, name->at), "__name__ as a label of a rule",
                   fmt::format("remove line {}", in_file(walk.document, name->at).line));
        }
    const auto* expression = rule.entry("expr");
    if (expression == nullptr || written(*expression->value) != Written::literal) return;
    const auto problem = unreadable(expression->value->scalar());
    const Path at = path / "expr";
    if (!problem.empty())
        refuse(walk, walk.place(at, expression->at), "an expression that Prometheus cannot read: " + problem,
               fmt::format("line {}: complete it", in_file(walk.document, expression->at).line));
}

}  // namespace promwarden::files
