// Refused requests in the audit log: a scanner of one level of JSON that keeps three words and no line.

#include <algorithm>
#include <charconv>

#include "promwarden/audit_log.hpp"

namespace promwarden::nginx {

namespace {

constexpr int unauthorized = 401, deepest = 64;
constexpr std::string_view probe_agent = "promwarden-probe", probe_user = "promwarden-probe-nobody";  // see src/probe/http.cpp

}  // namespace

void AuthFailures::Word::add(char c) {
    if (size < longest_word) text[size] = c;
    if (size <= longest_word) ++size;
}

void AuthFailures::feed(std::string_view bytes) {
    for (const auto c : bytes) {
        ++pending_;
        if (c == '\n')
            end_line();
        else if (!broken_)
            put(c);
    }
}

void AuthFailures::end_file() {
    if (pending_ > 0) end_line();
}

void AuthFailures::put(char c) {
    if (!in_string_) return put_outside(c);
    auto& word = is_key_ ? key_ : value_;
    if (escaped_)
        escaped_ = false;
    else if (c == '\\')
        escaped_ = true;
    else if (c == '"') {
        in_string_ = false;
        return;
    }
    word.add(c);
}

/// Between strings: marks, and words like true or 401.
void AuthFailures::put_outside(char c) {
    switch (c) {
        case ' ':
        case '\t':
        case '\r':
            return;
        case '{':
        case '[':
            broken_ = closed_ || (depth_ == 0 && c == '[') || ++depth_ > deepest;
            is_key_ = depth_ == 1;
            if (is_key_) key_.clear();
            return;
        case '}':
        case ']':
            if (depth_ == 1) end_value();
            broken_ = depth_ == 0;
            closed_ = --depth_ == 0;
            return;
        case ',':
            if (depth_ != 1) return;
            end_value();
            is_key_ = true;
            key_.clear();
            return;
        case ':':
            if (depth_ != 1) return;
            is_key_ = false;
            value_.clear();
            return;
        default:
            break;
    }
    if (depth_ == 0)
        broken_ = true;
    else if (c == '"')
        in_string_ = true;
    else if (depth_ == 1 && !is_key_)
        value_.add(c);
}

void AuthFailures::end_value() {
    if (is_key_) return;
    const auto text = value_.view();
    if (key_.is("status") && std::from_chars(text.data(), text.data() + text.size(), status_).ptr != text.data() + text.size()) status_ = 0;
    if (key_.is("user")) has_user_ = value_.size > 0, of_probe_ = of_probe_ || value_.is(probe_user);
    if (key_.is("agent")) of_probe_ = of_probe_ || (value_.is(probe_agent) && !has_user_);
}

void AuthFailures::end_line() {
    const bool complete = !broken_ && closed_ && !in_string_ && status_ > 0;
    if (!complete && pending_ > 1) ++counts_.unreadable;  // an empty line is nothing
    if (complete && status_ == unauthorized && !of_probe_) ++(has_user_ ? counts_.given : counts_.none);
    pending_ = 0;
    depth_ = 0;
    broken_ = in_string_ = escaped_ = is_key_ = closed_ = false;
    key_.clear();
    value_.clear();
    status_ = 0;
    has_user_ = of_probe_ = false;
}

}  // namespace promwarden::nginx
