// Text → Tree: nginx's own reading of its configuration, character by character (ngx_conf_file.c), with the place of every word.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

constexpr std::size_t longest_word = 4095;
constexpr std::size_t most_bytes_a_file = 8 << 20, most_bytes = 32 << 20, most_files = 2'000, most_directives = 400'000;
constexpr int deepest_include = 20, deepest_block = 60;

constexpr bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
constexpr bool is_pattern(std::string_view path) { return path.find_first_of("*?[") != std::string_view::npos; }

/// A character for a message: control characters by number.
std::string shown(char c) { return c >= ' ' && c < 0x7f ? fmt::format("\"{}\"", c) : fmt::format("\"\\x{:02x}\"", static_cast<unsigned char>(c)); }

/// What a word's text means: the escapes that nginx knows.
std::string unescape(std::string_view raw) {
    std::string text;
    text.reserve(raw.size());
    for (std::size_t i = 0; i < raw.size(); ++i) {
        if (raw[i] == '\\' && i + 1 < raw.size()) {
            switch (raw[i + 1]) {
                case '"': case '\'': case '\\': text += raw[++i]; continue;
                case 't': text += '\t'; ++i; continue;
                case 'r': text += '\r'; ++i; continue;
                case 'n': text += '\n'; ++i; continue;
                default: break;
            }
        }
        text += raw[i];
    }
    return text;
}

/// Cuts one file into words.
class Lexer {
public:
    enum class Token : std::uint8_t { end, directive, block, close };

    Lexer(std::string_view text, std::uint32_t file) : text_(text), file_(file) {}

    /// The words up to the next ';', '{' or '}'.
    std::expected<Token, Problem> next(std::vector<Word>& words) {
        words.clear();
        for (;;) {
            if (!skip_space()) {
                if (words.empty()) return Token::end;
                return std::unexpected(problem(R"(unexpected end of file, expecting ";" or "}")"));
            }
            const auto c = text_[at_];
            if (c == ';' || c == '{') {
                if (words.empty()) return std::unexpected(problem(fmt::format("unexpected {}", shown(c))));
                advance();
                return c == ';' ? Token::directive : Token::block;
            }
            if (c == '}') {
                if (!words.empty()) return std::unexpected(problem(R"(unexpected "}")"));
                advance();
                return Token::close;
            }
            if (auto word = c == '"' || c == '\'' ? quoted() : plain(); word) words.push_back(*std::move(word));
            else return std::unexpected(std::move(word).error());
        }
    }

    [[nodiscard]] Place here() const { return {file_, line_, static_cast<std::uint32_t>(at_ - line_start_ + 1)}; }
    [[nodiscard]] Problem problem(std::string message) const { return {here(), std::move(message)}; }

    /// Past the end of a Lua block whose "{" was read: strings, long brackets and comments of Lua hide braces.
    std::expected<void, Problem> skip_code() {
        const auto start = here();
        for (int depth = 1; at_ < text_.size();) {
            const auto c = text_[at_];
            if (c == '"' || c == '\'') {
                skip_lua_string(c);
            } else if (text_.substr(at_, 2) == "--" && !long_bracket(at_ + 2)) {
                while (at_ < text_.size() && text_[at_] != '\n') advance();
            } else if (const auto level = long_bracket(text_.substr(at_, 2) == "--" ? at_ + 2 : at_)) {
                skip_past(fmt::format("]{}]", std::string(*level, '=')));
            } else {
                depth += c == '{' ? 1 : c == '}' ? -1 : 0;
                advance();
                if (depth == 0) return {};
            }
        }
        return std::unexpected(Problem{start, "a block of code without its end"});
    }

private:
    void advance() {
        if (text_[at_++] != '\n') return;
        ++line_;
        line_start_ = at_;
    }

    /// False at the end of the file.
    bool skip_space() {
        while (at_ < text_.size()) {
            if (text_[at_] == '#') {
                while (at_ < text_.size() && text_[at_] != '\n') advance();
            } else if (is_space(text_[at_])) {
                advance();
            } else {
                return true;
            }
        }
        return false;
    }

    std::expected<Word, Problem> finish(Place at, std::size_t start, std::size_t end, bool quoted) const {
        if (end - start > longest_word) return std::unexpected(Problem{at, fmt::format("too long parameter, at most {} bytes", longest_word)});
        return Word{unescape(text_.substr(start, end - start)), at, quoted};
    }

    std::expected<Word, Problem> quoted() {
        const auto at = here();
        const auto quote = text_[at_];
        advance();
        const auto start = at_;
        for (; at_ < text_.size() && text_[at_] != quote; advance())
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) advance();
        if (at_ >= text_.size()) return std::unexpected(Problem{at, fmt::format("unexpected end of file: a quote without its end, {}", shown(quote))});
        auto word = finish(at, start, at_, true);
        advance();
        if (at_ >= text_.size()) return std::unexpected(problem(R"(unexpected end of file, expecting ";" or "}")"));
        const auto c = text_[at_];
        if (!is_space(c) && c != ';' && c != '{' && c != ')') return std::unexpected(problem(fmt::format("unexpected {}", shown(c))));
        return word;
    }

    std::expected<Word, Problem> plain() {
        const auto at = here();
        const auto start = at_;
        for (bool variable = false; at_ < text_.size(); advance()) {
            const auto c = text_[at_];
            if (c == '{' && variable) continue;  // "${name}"
            if (c == '\\' && at_ + 1 < text_.size()) {
                advance();
                variable = false;
                continue;
            }
            if (is_space(c) || c == ';' || c == '{') break;
            variable = c == '$';
        }
        if (at_ >= text_.size()) return std::unexpected(problem(R"(unexpected end of file, expecting ";" or "}")"));
        return finish(at, start, at_, false);
    }

    void skip_lua_string(char quote) {
        for (advance(); at_ < text_.size() && text_[at_] != quote; advance())
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) advance();
        if (at_ < text_.size()) advance();
    }

    /// The level of a long bracket that opens here: 0 for "[[", 2 for "[==[".
    [[nodiscard]] std::optional<std::size_t> long_bracket(std::size_t at) const {
        if (at >= text_.size() || text_[at] != '[') return std::nullopt;
        const auto end = text_.find_first_not_of('=', at + 1);
        if (end == std::string_view::npos || text_[end] != '[') return std::nullopt;
        return end - at - 1;
    }

    void skip_past(std::string_view mark) {
        const auto end = text_.find(mark, at_);
        const auto stop = end == std::string_view::npos ? text_.size() : end + mark.size();
        while (at_ < stop) advance();
    }

    std::string_view text_;
    std::uint32_t file_;
    std::size_t at_ = 0, line_start_ = 0;
    std::uint32_t line_ = 1;
};

class Reader {
public:
    Reader(Tree& tree, const std::string& prefix, Files* files) : tree_(tree), prefix_(prefix), files_(files) {}

    /// False after a problem.
    bool file(std::string path, std::string_view text, std::vector<Directive>& into, int depth, int includes) {
        bytes_ += text.size();
        if (text.size() > most_bytes_a_file || bytes_ > most_bytes || tree_.files.size() >= most_files) return limit({}, "too much configuration");
        const auto number = static_cast<std::uint32_t>(tree_.files.size());
        tree_.files.push_back(std::move(path));
        Lexer lexer(text, number);
        return block(lexer, into, depth, includes, false);
    }

private:
    bool stop(Problem problem) {
        if (!tree_.problem) tree_.problem = std::move(problem);
        return false;
    }
    bool limit(Place at, std::string message) { return stop({at, std::move(message), true}); }

    bool block(Lexer& lexer, std::vector<Directive>& into, int depth, int includes, bool braces) {
        std::vector<Word> words;
        for (;;) {
            const auto token = lexer.next(words);
            if (!token) return stop(token.error());
            if (*token == Lexer::Token::end) return !braces || stop(lexer.problem(R"(unexpected end of file, expecting "}")"));
            if (*token == Lexer::Token::close) return braces || stop(lexer.problem(R"(unexpected "}")"));
            if (!directive(lexer, *token, words, into, depth, includes)) return false;
        }
    }

    bool directive(Lexer& lexer, Lexer::Token token, std::vector<Word>& words, std::vector<Directive>& into, int depth, int includes) {
        if (++directives_ > most_directives) return limit(words.front().at, "too many directives");
        Directive made{std::move(words.front().text), words.front().at, {std::make_move_iterator(words.begin() + 1), std::make_move_iterator(words.end())}, {}};
        if (token == Lexer::Token::directive) {
            if (made.name == "include" && made.words.size() == 1) return include(std::move(made), into, depth, includes);
            into.push_back(std::move(made));
            return true;
        }
        made.has_block = true;
        if (made.name.ends_with("_by_lua_block")) {
            made.code = true;
            if (const auto skipped = lexer.skip_code(); !skipped) return stop(skipped.error());
            into.push_back(std::move(made));
            return true;
        }
        if (depth >= deepest_block) return limit(made.at, "blocks nested too deep");
        const auto good = block(lexer, made.block, depth + 1, includes, true);
        into.push_back(std::move(made));
        return good;
    }

    [[nodiscard]] std::string absolute(std::string_view path) const {
        return path.starts_with('/') || prefix_.empty() ? std::string(path) : fmt::format("{}{}{}", prefix_, prefix_.ends_with('/') ? "" : "/", path);
    }

    bool include(Directive directive, std::vector<Directive>& into, int depth, int includes) {
        const auto path = absolute(directive.word(0));
        if (files_ == nullptr) {
            directive.missing = true;
            tree_.complete = false;
            into.push_back(std::move(directive));
            return true;
        }
        if (includes >= deepest_include) return limit(directive.at, "files included too deep");
        std::vector<std::string> paths{path};
        if (is_pattern(path)) {
            auto matched = files_->match(path);
            if (!matched) return stop({directive.at, fmt::format("include {}: {}", path, matched.error().text())});
            paths = *std::move(matched);
        }
        for (const auto& each : paths) {
            const auto text = files_->read(each);
            if (!text) return stop({directive.at, text.error().text(), text.error().code == Code::limit});
            if (!file(each, *text, into, depth, includes + 1)) return false;
        }
        return true;
    }

    Tree& tree_;
    const std::string& prefix_;
    Files* files_;
    std::size_t bytes_ = 0, directives_ = 0;
};

}  // namespace

Tree read(std::string path, std::string_view text, const std::string& prefix, Files* files) {
    Tree tree;
    Reader(tree, prefix, files).file(std::move(path), text, tree.directives, 0, 0);
    return tree;
}

}  // namespace promwarden::nginx
