/// http — the HTTP/1 that `curl --unix-socket` and a scraper need: one GET or HEAD per connection. Part of the room varlink. Pure, but for the resource that is read.
#pragma once

#include <span>

#include "promwarden/varlink.hpp"

namespace promwarden::varlink {

/// Where the head of a request ends (behind its empty line), if it has arrived whole.
std::optional<std::size_t> http_head_end(std::string_view bytes);

/// The whole response to a head. A page over `limit` bytes is answered as 500.
std::string http_response(std::string_view head, std::span<const Resource> resources, std::size_t limit);
/// A response without a resource: 400, 421, 431, 503.
std::string http_refusal(int status);

}  // namespace promwarden::varlink
