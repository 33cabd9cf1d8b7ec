// The rewrite phase (ngx_http_rewrite_module): set, if, return, rewrite and break, before any access rule is looked at.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "visit.hpp"

namespace promwarden::nginx {

namespace {

/// Directives of other modules that run in or before the access phase and can decide anything.
constexpr std::string_view deciders[] = {"rewrite_by_lua", "rewrite_by_lua_file", "rewrite_by_lua_block", "set_by_lua", "set_by_lua_block", "set_by_lua_file", "server_rewrite_by_lua_block", "perl_set",
                                         "js_set", "auth_request_by_lua"};

std::string joined(const Directive& directive) {
    std::string text;
    for (const auto& word : directive.words) text += (text.empty() ? "" : " ") + word.text;
    return text;
}

}  // namespace

/// False where the answer cannot be known.
bool Visit::match(const Regex* regex, std::string_view text, bool& matched) {
    if (regex == nullptr) {
        unknown("a regular expression that nginx would refuse");
        return false;
    }
    Groups groups;
    const auto found = regex->match(text, groups);
    if (found == Regex::Found::too_hard) {
        unknown("a regular expression takes too long");
        return false;
    }
    matched = found == Regex::Found::yes;
    if (!matched) return true;
    for (const auto& [name, number] : regex->names()) shared_.values[lower(name)] = number < groups.size() ? groups[number] : "";
    groups_ = std::move(groups);
    return true;
}

Visit::Ending Visit::rewrite(const Level& level) {
    if (level.directive == nullptr || level.kind == Level::Kind::limit_except) return std::nullopt;
    bool stop = false;
    return rewrite(level.directive->block, level, stop);
}

Visit::Ending Visit::rewrite(const std::vector<Directive>& block, const Level& level, bool& stop) {
    for (const auto& each : block) {
        if (stop) return std::nullopt;
        if (std::ranges::find(deciders, each.name) != std::end(deciders)) return unknown(fmt::format("{} can decide anything", each.name));
        if (each.name == "break") {
            stop = true;
        } else if (each.name == "return") {
            return give_back(each);
        } else if (each.name == "rewrite") {
            if (auto ended = rewrite_rule(each, stop)) return ended;
        } else if (each.name == "set" && each.words.size() == 2) {
            const auto held = expand(each.word(1));
            if (!held) return unknown("");
            const auto name = lower(each.word(0).substr(std::min<std::size_t>(each.word(0).size(), 1)));
            if (name == "args") args_ = *held;
            else shared_.values[name] = *held;
        } else if (each.name == "if" && each.has_block) {
            const auto holds = condition(each);
            if (!holds) return unknown("");
            if (!*holds) continue;
            step(&each, fmt::format("if {} holds", joined(each)));
            for (const auto& inside : level.inside)
                if (inside->directive == &each) level_ = inside.get();
            if (auto ended = rewrite(each.block, level, stop)) return ended;
        }
    }
    return std::nullopt;
}

Visit::Ending Visit::give_back(const Directive& directive) {
    const auto first = directive.word(0);
    int code = 0;
    const auto [end, error] = std::from_chars(first.data(), first.data() + first.size(), code);
    const bool number = error == std::errc{} && end == first.data() + first.size();
    if (!number && directive.words.size() == 1) code = 302;  // "return https://…"
    else if (!number) return unknown("a return without a status");
    step(&directive, fmt::format("return {}", code));
    if (code == 444) return Outcome{Answer::Kind::closed, 0, {}, {}, true};
    auto outcome = status(code);
    const bool text = directive.words.size() > (number ? 1U : 0U);
    const bool moves = code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
    if (moves) {
        const auto place = expand(directive.word(number ? 1 : 0));
        if (!place) return unknown("");
        outcome.redirect = *place;
    } else {
        outcome.sent = text || code < 400;
    }
    return outcome;
}

Visit::Ending Visit::rewrite_rule(const Directive& directive, bool& stop) {
    const auto flag = directive.word(2);
    const auto regex = regex_of(shared_.configuration, directive.word(0), false);
    bool matched = false;
    if (!match(regex.get(), uri_, matched)) return unknown("");
    if (!matched) return std::nullopt;
    auto replacement = directive.word(1);
    const bool moves = flag == "redirect" || flag == "permanent" || replacement.starts_with("http://") || replacement.starts_with("https://") || replacement.starts_with("$scheme");
    const bool drop = replacement.ends_with('?');
    if (drop) replacement.remove_suffix(1);
    const auto question = replacement.find('?');
    auto path = expand(replacement.substr(0, question));
    in_rewrite_args_ = true;
    auto args = question == std::string_view::npos ? Text("") : expand(replacement.substr(question + 1));
    in_rewrite_args_ = false;
    if (!path || !args) return unknown("");
    const bool has_args = question != std::string_view::npos;
    std::string query = *args;
    if (!drop && !args_.empty()) query += (has_args ? "&" : "") + args_;
    step(&directive, fmt::format("rewrite to {}", *path));
    if (moves) {
        auto outcome = status(flag == "permanent" ? 301 : 302);
        outcome.redirect = *path + (query.empty() ? "" : "?" + query);
        return outcome;
    }
    internal_ = true;
    valid_unparsed_ = false;
    uri_ = *path;
    if (has_args || drop) args_ = query;
    if (uri_.empty()) return status(500);
    if (flag == "break") {
        valid_location_ = false;
        uri_changed_ = false;
    } else {
        uri_changed_ = true;
    }
    stop = flag == "break" || flag == "last";
    return std::nullopt;
}

/// The words between the parentheses of an if.
std::optional<bool> Visit::condition(const Directive& directive) {
    std::vector<Word> words = directive.words;
    if (!words.empty() && words.front().text.starts_with('(')) words.front().text.erase(0, 1);
    if (!words.empty() && words.back().text.ends_with(')')) words.back().text.pop_back();
    std::erase_if(words, [](const Word& word) { return word.text.empty() && !word.quoted; });
    if (words.empty()) return std::nullopt;
    const auto& first = words[0].text;
    if (first.starts_with('$')) {
        const auto left = value(first.substr(1));
        if (!left) return std::nullopt;
        if (words.size() == 1) return !left->empty() && *left != "0";
        if (words.size() != 3) return std::nullopt;
        const auto& operation = words[1].text;
        if (operation == "=" || operation == "!=") {
            const auto right = expand(words[2].text);
            if (!right) return std::nullopt;
            return (*left == *right) == (operation == "=");
        }
        const bool negated = operation.starts_with('!');
        const auto mark = std::string_view(operation).substr(negated ? 1 : 0);
        if (mark != "~" && mark != "~*") return std::nullopt;
        bool matched = false;
        if (!match(regex_of(shared_.configuration, words[2].text, mark == "~*").get(), *left, matched)) return std::nullopt;
        return matched != negated;
    }
    if ((first == "-f" || first == "!-f" || first == "-e" || first == "!-e" || first == "-d" || first == "!-d" || first == "-x" || first == "!-x") && words.size() == 2) {
        const auto path = expand(words[1].text);
        const auto there = path && shared_.request.exists ? shared_.request.exists(*path) : std::nullopt;
        if (there) return *there != first.starts_with('!');
        unknown("whether a file exists is not known");
    }
    return std::nullopt;
}

}  // namespace promwarden::nginx
