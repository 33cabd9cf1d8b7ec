/// Internal to nginx: how it compares and escapes texts.
#pragma once

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

std::string escape_path(std::string_view text);
std::string escape_argument(std::string_view text);
std::string lower(std::string_view text);
/// Whatever the case of ASCII letters.
bool same(std::string_view one, std::string_view other);

}  // namespace promwarden::nginx
