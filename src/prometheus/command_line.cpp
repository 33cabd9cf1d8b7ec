// kingpin's reading of arguments (version 2): first every argument is taken apart, then the values are set in order. An error of the first step hides those of the
// second, as it does in Prometheus.

#include <algorithm>
#include <deque>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "promwarden/flags.hpp"

namespace promwarden::prometheus {

namespace {

constexpr std::size_t most_arguments = 4096, most_files = 32, most_depth = 16, most_bytes = 1024 * 1024;

/// A flag's name, fit for a terminal. What stands there need not be one.
std::string name_shown(std::string_view name) {
    constexpr std::size_t most = 80;
    std::string text(name.substr(0, most));
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    return text;
}

/// Only the words that people put behind a switch are shown.
std::string unexpected(std::string_view word) {
    constexpr std::string_view harmless[] = {"true", "false", "True", "False", "yes", "no", "on", "off", "0", "1"};
    if (std::ranges::find(harmless, word) != std::end(harmless)) return fmt::format("unexpected {}", word);
    return "unexpected argument that belongs to no flag (not shown: it may be a secret)";
}

class Reader {
public:
    Reader(CommandLine& line, const Build& build, const ReadArguments& read) : line_(line), build_(build), read_(read) {}

    void run(std::span<const Argument> arguments) {
        for (const auto& argument : arguments) waiting_.push_back({argument.text, argument.file, 0});
        while (auto word = next()) take(*word);
        set_values();
        agent_mode();
        std::ranges::move(later_, std::back_inserter(line_.problems));
    }

private:
    struct Word {
        std::string text, file;
        std::size_t depth = 0;
        bool plain = false;  // behind "--": no flag, whatever it looks like
    };

    /// The next argument that is not an @file; those are replaced by what is in them.
    std::optional<Word> next() {
        while (!waiting_.empty()) {
            auto word = std::move(waiting_.front());
            waiting_.pop_front();
            if (++seen_ > most_arguments) {
                line_.unread.push_back(fmt::format("more than {} arguments", most_arguments));
                waiting_.clear();
                return std::nullopt;
            }
            word.plain = only_plain_;
            if (only_plain_) return word;
            if (word.text == "--") {
                only_plain_ = true;
                continue;
            }
            if (!word.text.starts_with('@')) return word;
            expand(word);
        }
        return std::nullopt;
    }

    void expand(const Word& at) {
        const auto path = at.text.substr(1);
        if (++files_ > most_files || at.depth >= most_depth) {
            line_.unread.push_back(fmt::format("{}: more than {} arguments files, or {} inside each other", name_shown(at.text), most_files, most_depth));
            return;
        }
        const auto text = read_(path);
        if (!text) {
            line_.unread.push_back(fmt::format("{}: {}", name_shown(at.text), text.error().text()));
            if (text.error().code == Code::missing) line_.problems.push_back(fmt::format("failed to open arguments file \"{0}\": open {0}: no such file or directory", name_shown(path)));
            return;
        }
        bytes_ += text->size();
        if (bytes_ > most_bytes) {
            line_.unread.push_back(fmt::format("{}: arguments files of more than {} bytes", name_shown(at.text), most_bytes));
            return;
        }
        std::vector<Word> words;
        for (std::string_view rest = *text; !rest.empty();) {
            auto one = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(rest.size(), one.size() + 1));
            if (one.ends_with('\r')) one.remove_suffix(1);
            if (!one.starts_with('#')) words.push_back({std::string(one), path, at.depth + 1});
        }
        waiting_.insert(waiting_.begin(), std::make_move_iterator(words.begin()), std::make_move_iterator(words.end()));
    }

    void take(const Word& word) {
        const std::string_view text = word.text;
        if (word.plain || !text.starts_with('-')) return problem(unexpected(text));
        if (text.starts_with("--")) return take_long(word);
        if (text.starts_with("-h")) {
            help();
            if (text.size() > 2) problem(fmt::format("unknown short flag '-{}'", name_shown(text.substr(2, 1))));
            return;
        }
        problem(fmt::format("unknown short flag '{}'", name_shown(text.substr(0, 2))));
    }

    void take_long(const Word& word) {
        const auto text = std::string_view(word.text).substr(2);
        const auto equals = text.find('=');
        const auto given = text.substr(0, equals);
        const auto* rule = find_flag(given, build_);
        bool inverted = rule != nullptr && given.starts_with("no-");
        if (rule == nullptr && given.starts_with("no-")) {
            rule = find_flag(given.substr(3), build_);
            inverted = true;
        }
        const bool newer = build_.version && *build_.version > newest_version;
        if (rule == nullptr && newer) return assume(word, given, equals);
        if (rule == nullptr || (inverted && rule->type != FlagType::boolean)) return unknown(word, given, equals);
        if (rule->type == FlagType::boolean) {
            const auto value = equals == std::string_view::npos ? std::string_view{} : text.substr(equals + 1);
            if (equals != std::string_view::npos) problem(unexpected(value));
            if (rule->name == "help" || rule->name == "version") help();
            return add(*rule, inverted != (value == "false") ? "false" : "true", word);  // it does not start with "=false", but that is what was meant
        }
        if (equals != std::string_view::npos) return add(*rule, text.substr(equals + 1), word);
        const auto value = next();
        if (value && (value->plain || !value->text.starts_with('-'))) return add(*rule, value->text, word);
        problem(fmt::format("expected argument for flag '--{}'", name_shown(given)));
        if (value) waiting_.push_front(*value);
    }

    /// A flag that no version in the table has, of a server that is newer than the table.
    void assume(const Word& word, std::string_view name, std::size_t equals) {
        const auto value = equals == std::string_view::npos ? std::string_view("true") : std::string_view(word.text).substr(equals + 3);
        line_.flags.push_back({std::string(name), std::string(value), word.file, word.text});
    }

    void unknown(const Word& word, std::string_view name, std::size_t equals) {
        problem(fmt::format("unknown long flag '--{}'", name_shown(name)));
        if (equals != std::string_view::npos || waiting_.empty()) return;
        const auto& following = waiting_.front().text;  // most likely its value
        if (!word.plain && !following.starts_with('-') && !following.starts_with('@')) waiting_.pop_front();
    }

    void add(const FlagRule& rule, std::string_view value, const Word& word) { line_.flags.push_back({std::string(rule.name), std::string(value), word.file, word.text}); }

    void set_values() {
        std::set<std::string_view> set;
        for (const auto& flag : line_.flags) {
            const auto* rule = find_flag(flag.name, build_);
            if (rule == nullptr) continue;
            const bool repeatable = rule->repeatable != 0 && (!build_.version || rule->repeatable <= *build_.version);
            if (!set.insert(rule->name).second && !repeatable) later_.push_back(fmt::format("flag '{}' cannot be repeated", rule->name));
            if (auto wrong = value_problem(*rule, flag.value)) later_.push_back(*std::move(wrong));
        }
    }

    void agent_mode() {
        const auto* agent = line_.find("agent");
        const bool is_agent = has_feature(line_, "agent") || (agent != nullptr && agent->value == "true");
        std::vector<std::string> wrong;
        for (const auto& flag : line_.flags)
            if (const auto* rule = find_flag(flag.name, build_); rule != nullptr && rule->use == (is_agent ? FlagRule::Use::server : FlagRule::Use::agent))
                wrong.push_back(fmt::format("\"--{}\"", rule->name));
        if (!wrong.empty()) later_.push_back(fmt::format("The following flag(s) can {} be used in agent mode: [{}]", is_agent ? "not" : "only", fmt::join(wrong, " ")));
    }

    void help() { problem("it would only print its help or version, and end"); }
    void problem(std::string text) { line_.problems.push_back(std::move(text)); }

    CommandLine& line_;
    const Build& build_;
    const ReadArguments& read_;
    std::deque<Word> waiting_;
    std::vector<std::string> later_;
    std::size_t seen_ = 0, files_ = 0, bytes_ = 0;
    bool only_plain_ = false;
};

}  // namespace

CommandLine read_command_line(std::string program, std::span<const Argument> arguments, const Build& build, const ReadArguments& read) {
    CommandLine line;
    line.words.push_back(std::move(program));
    for (const auto& argument : arguments) line.words.push_back(argument.text);
    Reader(line, build, read).run(arguments);
    return line;
}

}  // namespace promwarden::prometheus
