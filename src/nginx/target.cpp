// Request targets as nginx reads them (ngx_http_parse.c), and texts with variables (ngx_http_script.c).

#include <algorithm>

#include "text.hpp"

namespace promwarden::nginx {

namespace {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_name(char c) { return is_letter(c) || is_digit(c) || c == '_'; }

constexpr int hex(char c) {
    if (is_digit(c)) return c - '0';
    const auto low = static_cast<char>(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/// Splits off "scheme://host" of an absolute-form target. False: 400.
bool take_origin(std::string_view& text, Target& target) {
    if (text.starts_with('/')) return true;
    const auto colon = text.find(':');
    if (colon == std::string_view::npos || colon == 0 || !is_letter(text[0])) return false;
    for (const auto c : text.substr(0, colon))
        if (!is_letter(c) && !is_digit(c) && c != '+' && c != '-' && c != '.') return false;
    if (text.substr(colon, 3) != "://") return false;
    text.remove_prefix(colon + 3);
    const auto end = std::min(text.find_first_of("/?#"), text.size());
    const auto host = text.substr(0, end);
    if (host.empty() || (end < text.size() && text[end] == '#')) return false;
    const bool literal = host.starts_with('[');
    const auto name = literal ? host.substr(0, host.find(']') == std::string_view::npos ? 0 : host.find(']') + 1) : host.substr(0, host.find(':'));
    if (name.empty()) return false;
    const auto good = [literal](char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '-' || (literal && std::string_view("[]:_~!$&'()*+,;=").contains(c)); };
    if (!std::ranges::all_of(name, good)) return false;
    const auto port = host.substr(name.size());
    if (!port.empty() && (port[0] != ':' || !std::ranges::all_of(port.substr(1), is_digit))) return false;
    target.host = host;
    text.remove_prefix(end);
    return true;
}

/// The state machine of ngx_http_parse_complex_uri: a decoded character is looked at again, so %2f and %2e work like / and . do.
class Path {
public:
    Path(std::string_view text, bool merge) : text_(text), merge_(merge) {}

    /// False: 400. `rest` is what follows the "?", if there was one.
    bool parse(std::string& path, std::string_view& rest, bool& quoted, bool& plus) {
        for (std::size_t i = 0; i < text_.size(); ++i) {
            auto c = text_[i];
            bool literal = false;  // a decoded %, # or ?: only a character
            if (c == '%') {
                quoted = true;
                const int high = i + 1 < text_.size() ? hex(text_[i + 1]) : -1, low = i + 2 < text_.size() ? hex(text_[i + 2]) : -1;
                if (high < 0 || low < 0) return false;
                c = static_cast<char>(high * 16 + low);
                if (c == '\0') return false;
                literal = c == '%' || c == '#' || c == '?';
                i += 2;
            }
            if (c == '+') plus = true;
            if (literal) {
                path_ += c;
                state_ = State::usual;
                continue;
            }
            if (c == '?' || c == '#') {
                if (!end_of_segment()) return false;
                if (c == '?') rest = text_.substr(i + 1);
                path = std::move(path_);
                return true;
            }
            if (!step(c)) return false;
        }
        if (!end_of_segment()) return false;
        path = std::move(path_);
        return true;
    }

private:
    enum class State : std::uint8_t { usual, slash, dot, dot_dot } state_ = State::usual;

    bool step(char c) {
        if (c == '/') {
            if (state_ == State::slash && merge_) return true;
            if (state_ == State::dot) path_.pop_back();
            else if (state_ == State::dot_dot && !up()) return false;
            else if (state_ == State::usual || state_ == State::slash) path_ += c;
            state_ = State::slash;
            return true;
        }
        path_ += c;
        if (c == '.' && state_ == State::slash) state_ = State::dot;
        else if (c == '.' && state_ == State::dot) state_ = State::dot_dot;
        else state_ = State::usual;
        return true;
    }

    /// "/a/b/.." becomes "/a/": over the two dots and the slash before them, back to the slash before that.
    bool up() {
        if (path_.size() < 4) return false;
        const auto slash = path_.rfind('/', path_.size() - 4);
        if (slash == std::string::npos) return false;
        path_.resize(slash + 1);
        return true;
    }

    bool end_of_segment() {
        if (state_ == State::dot) path_.pop_back();
        return state_ != State::dot_dot || up();
    }

    std::string_view text_;
    bool merge_;
    std::string path_;
};

std::string escaped(std::string_view text, const std::array<std::uint32_t, 3>& table) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string result;
    for (const auto c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool escape = byte < 0x20 || byte >= 0x7f || (table[byte / 32 - 1] >> (byte % 32) & 1U) != 0;
        if (!escape) {
            result += c;
            continue;
        }
        result += '%';
        result += digits[byte >> 4];
        result += digits[byte & 15];
    }
    return result;
}

}  // namespace

std::optional<Target> parse_target(std::string_view text, bool merge_slashes) {
    Target target;
    if (text.empty() || std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; })) return std::nullopt;
    if (!take_origin(text, target)) return std::nullopt;
    target.raw = text;
    std::string with_path;
    if (!text.starts_with('/')) {  // "http://host?query"
        with_path = "/" + std::string(text);
        text = with_path;
        if (target.raw.empty()) target.raw = "/";
    }
    std::string_view rest;
    if (!Path(text, merge_slashes).parse(target.path, rest, target.quoted, target.plus)) return std::nullopt;
    target.args = rest.substr(0, rest.find('#'));
    return target;
}

std::vector<Part> parts_of(std::string_view text) {
    std::vector<Part> parts;
    const auto literal = [&](std::string_view piece) {
        if (parts.empty() || parts.back().variable) parts.push_back({});
        parts.back().text += piece;
    };
    while (!text.empty()) {
        const auto dollar = text.find('$');
        if (dollar != 0) literal(text.substr(0, dollar));
        if (dollar == std::string_view::npos) break;
        text.remove_prefix(dollar + 1);
        const bool braces = text.starts_with('{');
        const bool group = !text.empty() && text[0] >= '1' && text[0] <= '9';
        if (braces) text.remove_prefix(1);
        std::size_t end = group ? 1 : 0;
        while (!group && end < text.size() && is_name(text[end])) ++end;
        parts.push_back({std::string(text.substr(0, end)), true});
        text.remove_prefix(end);
        if (braces && text.starts_with('}')) text.remove_prefix(1);
    }
    return parts;
}

std::vector<std::string> variables_in(std::string_view text) {
    std::vector<std::string> names;
    for (auto& part : parts_of(text))
        if (part.variable) names.push_back(std::move(part.text));
    return names;
}

// The tables of ngx_escape_uri (1.21.1 and later): a bit for each character from space on that is written as %XX.
std::string escape_path(std::string_view text) { return escaped(text, {0xd000002d, 0x50000000, 0xb8000001}); }
std::string escape_argument(std::string_view text) { return escaped(text, {0xd800086d, 0x50000000, 0xb8000001}); }

std::string lower(std::string_view text) {
    std::string result(text);
    for (auto& c : result)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
    return result;
}

bool same(std::string_view one, std::string_view other) { return one.size() == other.size() && lower(one) == lower(other); }

}  // namespace promwarden::nginx
