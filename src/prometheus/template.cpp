// Marks that a template engine replaces before anybody reads the file: Jinja, Go, ERB and EJS, Terraform. What is left is the text that every rendering has in common.

#include <algorithm>
#include <cstdint>
#include <utility>

#include "promwarden/template.hpp"

namespace promwarden::prometheus {

namespace {

enum class Mark : std::uint8_t { value, opens, closes, other };

constexpr std::size_t longest_mark = 4096;

struct Form {
    std::string_view begin, end;
    bool prints;  // what is inside becomes text, unless it is a statement
};
constexpr Form forms[] = {{"{{", "}}", true},  {"{%", "%}", false}, {"{#", "#}", false},
                          {"<%=", "%>", true}, {"<%", "%>", false}, {"%{", "}", false}};

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view around = " \t\r\n-+~=_";
    const auto first = std::min(text.find_first_not_of(around), text.size());
    return text.substr(first, text.find_last_not_of(" \t\r\n-+~") + 1 - first);
}

bool begins(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) {
        return text.starts_with(word) &&
               (text.size() == word.size() || !((text[word.size()] >= 'a' && text[word.size()] <= 'z') || text[word.size()] == '_'));
    });
}

Mark meaning(const Form& form, std::string_view inside) {
    const auto text = trimmed(inside);
    if (form.begin == "{#" || text.starts_with("/*") || text.starts_with('#')) return Mark::other;
    if (text.starts_with("end") || (form.begin == "<%" && text.starts_with('}') && !text.ends_with('{'))) return Mark::closes;
    if (begins(text, {"else", "elif", "elseif", "elsif"}) || (text.starts_with('}') && text.ends_with('{'))) return Mark::other;
    if (begins(text, {"if", "for", "range", "with", "unless", "block", "macro", "define", "filter", "call"})) return Mark::opens;
    if (form.begin == "<%" && (text.ends_with('{') || text.ends_with('|') || text.ends_with(" do"))) return Mark::opens;
    if (text.starts_with('$') && text.find(":=") != std::string_view::npos) return Mark::other;
    return form.prints ? Mark::value : Mark::other;
}

/// Takes the text apart line by line; `depth_` counts the loops and conditions around the present place.
class Cleaner {
public:
    Untemplated run(std::string_view text) {
        while (!text.empty()) {
            const auto* form = std::ranges::find_if(forms, [&](const Form& each) { return text.starts_with(each.begin); });
            const auto end =
                form == std::end(forms) ? std::string_view::npos : text.substr(0, longest_mark).find(form->end, form->begin.size());
            if (end == std::string_view::npos) {
                put(text.front());
                text.remove_prefix(1);
                continue;
            }
            take(*form, text.substr(0, end + form->end.size()));
            text.remove_prefix(end + form->end.size());
        }
        end_line();
        return std::move(result_);
    }

private:
    void put(char c) {
        line_ += c;
        if (c == '\n')
            end_line();
        else if (c != ' ' && c != '\t' && c != '\r')
            bare_ = false;
    }

    void take(const Form& form, std::string_view mark) {
        const auto what = meaning(form, mark.substr(form.begin.size(), mark.size() - form.begin.size() - form.end.size()));
        if (what == Mark::opens) ++depth_;
        inside_ = inside_ || (depth_ > 0 && bare_);  // what stands before the mark is not inside
        if (what == Mark::closes && depth_ > 0) --depth_;
        for (const char c : mark) {
            if (c == '\n') {
                marked_ = true;
                put(c);
            } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {  // one for each character, so that columns stay
                line_ += what == Mark::value ? filled_later : " ";
            }
        }
        marked_ = true;
    }

    /// A line of nothing but marks becomes a comment: to YAML, and in the middle of a continued line of a unit.
    void end_line() {
        if (marked_ && bare_) line_ = line_.ends_with('\n') ? "#\n" : "#";
        result_.text += line_;
        result_.conditional.push_back(inside_);
        line_.clear();
        bare_ = true;
        marked_ = false;
        inside_ = depth_ > 0;
    }

    Untemplated result_;
    std::string line_;
    int depth_ = 0;
    bool bare_ = true, marked_ = false, inside_ = false;
};

}  // namespace

Untemplated without_templates(std::string_view text) { return Cleaner().run(text); }

bool has_template_marks(std::string_view text) {
    return text.find("{{") != std::string_view::npos || text.find("{%") != std::string_view::npos ||
           text.find("<%") != std::string_view::npos || text.find("%{") != std::string_view::npos;
}

bool is_template_name(std::string_view path) {
    constexpr std::string_view ends[] = {".j2",     ".jinja", ".jinja2", ".tpl", ".tmpl", ".template", ".tftpl",
                                         ".gotmpl", ".erb",   ".ejs",    ".epp", ".in",   ".envsubst", ".mustache"};
    const auto name = path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
    return std::ranges::any_of(
        ends, [&](std::string_view end) { return name.ends_with(end) || name.find(std::string(end) + ".") != std::string_view::npos; });
}

}  // namespace promwarden::prometheus
