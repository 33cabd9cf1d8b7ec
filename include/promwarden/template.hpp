/// template — marks that a template engine replaces before anybody reads a file: Jinja, Go, ERB and EJS, Terraform. Part of the room prometheus.
///
/// A text without them says what every rendering has in common, so that it can be judged before it is rendered. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace promwarden::prometheus {

/// Stands for each character that a template will fill in (U+E000, which no configuration uses).
constexpr std::string_view filled_later = "\xEE\x80\x80";

/// As many lines as the text had, every character in its column, `filled_later` where a value will be. A line of nothing but marks is a comment.
struct Untemplated {
    std::string text;
    std::vector<bool> conditional;  // by line from 0: inside a loop or a condition
};
Untemplated without_templates(std::string_view text);

/// {{ }}, {% %}, <% %>, %{ }.
bool has_template_marks(std::string_view text);
/// "prometheus.yml.j2", "prometheus.tmpl.yml": somebody fills it in before Prometheus reads it.
bool is_template_name(std::string_view path);

/// The note of a Document on a text without a value in it.
constexpr std::string_view empty_file = "an empty file";

}  // namespace promwarden::prometheus
