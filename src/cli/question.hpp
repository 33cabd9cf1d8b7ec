// What `why` is asked: an address, and perhaps a port. Pure.
#pragma once

#include "promwarden/address.hpp"

namespace promwarden::cli {

struct Question {
    Address source;
    std::optional<std::uint16_t> port;  // none: every guarded port
    bool operator==(const Question&) const = default;
};

/// "203.0.113.5", "203.0.113.5:9090", "::1", "[::1]", "[::1]:9090". An IPv4-mapped IPv6 address becomes the IPv4 one: so its packets arrive.
Result<Question> parse_question(std::string_view text);

}  // namespace promwarden::cli
